"""When finished chunks are saved where another machine finds them: each at once, or several together.

What a chunk is depends on the inputs alone, or else the bytes of the result would depend on luck. So what can be chosen
is how many finished ones are saved in one go. That matters where a save takes a noticeable part of the time that a
chunk takes to make, as uploads to a bucket do beside a GPU: several at once take hardly longer than one.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from statistics import median

from avatar_pipeline.spot.intervals import checkpoint_interval

_REMEMBERED = 9
"""Saves whose median is the cost of one: a single slow one changes nothing."""
LONGEST_SECONDS = 300.0
"""The most work that is left unsaved, whatever the rates say."""


class Cadence:
    """Says when to save. Safe to share between threads, and between the artifacts that one worker makes.

    Args:
        interval_seconds: time from one save to the next, at least; 0 saves every chunk as soon as it is finished.
        stopwatch: seconds.
    """

    def __init__(self, interval_seconds: float = 0.0, *, stopwatch: Callable[[], float] = time.monotonic) -> None:
        self._interval = interval_seconds
        self._stopwatch = stopwatch
        self._lock = threading.Lock()
        self._since = stopwatch()
        self._mtbf: float | None = None
        self._longest = interval_seconds
        self._costs: deque[float] = deque(maxlen=_REMEMBERED)

    @classmethod
    def learning(
        cls,
        mtbf_seconds: float,
        *,
        longest_seconds: float = LONGEST_SECONDS,
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> Cadence:
        """Return a cadence that measures what a save costs, and follows Young and Daly (`intervals`).

        The first chunk is saved at once, to have a cost; from then on a machine that is killed without notice loses
        as much work, on average, as the saves take. `mtbf_seconds` is the time between such ends that is to be
        expected, and `longest_seconds` bounds the interval.
        """
        cadence = cls(stopwatch=stopwatch)
        cadence._mtbf, cadence._longest = mtbf_seconds, longest_seconds
        return cadence

    @property
    def every_chunk(self) -> bool:
        """Whether each chunk is saved at once, now and later."""
        return self._mtbf is None and self._interval == 0

    @property
    def interval_seconds(self) -> float:
        """Time from one save to the next, at least."""
        return self._interval

    def due(self) -> bool:
        """Say whether what is finished is to be saved now; asked when a chunk was finished."""
        with self._lock:
            return self._stopwatch() - self._since >= self._interval

    def saved(self, seconds: float) -> None:
        """Note that everything finished was saved just now, and how long that took."""
        with self._lock:
            self._since = self._stopwatch()
            if self._mtbf is not None:
                self._costs.append(seconds)
                self._interval = min(checkpoint_interval(median(self._costs), self._mtbf), self._longest)
