"""Calls that cost nothing, tried again until they go through."""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random
from typing import TypeVar

from avatar_pipeline.voice.elevenlabs.backoff import Backoff
from avatar_pipeline.voice.elevenlabs.failures import Failure, Kind, ProviderFailure

T = TypeVar("T")
PASSING = frozenset({Kind.BUSY, Kind.UNCLEAR, Kind.CROWDED})
"""What a later try may get past. Of a call that bills nothing it does not matter whether it was done."""


class Patience:
    """A backoff with its dice and its sleep, both given from outside."""

    def __init__(
        self, backoff: Backoff, *, sleep: Callable[[float], None] = time.sleep, random: Random | None = None
    ) -> None:
        self.backoff = backoff
        self._sleep = sleep
        self._random = random or Random()  # noqa: S311 - it only spreads pauses

    def after(self, attempt: int, failure: Failure | None = None) -> float:
        """Return the pause in seconds after the attempt of that number."""
        return self.backoff.pause(attempt, self._random.random(), failure.retry_after if failure else None)

    def wait(self, attempt: int, failure: Failure | None = None) -> None:
        """Sleep for that long."""
        self._sleep(self.after(attempt, failure))

    def spent(self, attempt: int) -> bool:
        """Whether that was the last attempt."""
        return attempt >= self.backoff.attempts

    def read(self, call: Callable[[], T]) -> T:
        """Make a call that bills nothing and can be made twice.

        Raises:
            ProviderFailure: it failed in a way that lasts, or too often.
        """
        attempt = 0
        while True:
            try:
                return call()
            except ProviderFailure as error:
                attempt += 1
                if error.failure.kind not in PASSING or self.spent(attempt):
                    raise
                self.wait(attempt, error.failure)
