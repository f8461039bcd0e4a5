"""The stand-in from outside: what it saw, and how it is told to behave, from any process."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from tests.elevenlabs.rules import API_KEY

CONTROL_PATH = "/_control"
ROOT = Path(__file__).parents[2]


class Billed(BaseModel):
    """How often a text was billed."""

    model_config = ConfigDict(frozen=True)

    voice_id: str
    model_id: str
    text: str
    times: int


class Report(BaseModel):
    """What the stand-in saw so far.

    `most_in_flight` counts by concurrency group all that were there at once, the refused too; `over_limit` counts the
    refused. `calls` is by route group, `answers` by HTTP status, `faults` by name. `credits_billed` never falls;
    `credits_used` falls to 0 when the quota resets. `voices` are the made ones, name by id;
    `history_by_voice` counts what the history holds of a voice, also of a deleted one.
    """

    model_config = ConfigDict(frozen=True)

    billed: tuple[Billed, ...]
    credits_billed: int
    credits_used: int
    quota: int
    in_flight: Mapping[str, int]
    most_in_flight: Mapping[str, int]
    over_limit: Mapping[str, int]
    calls: Mapping[str, int]
    answers: Mapping[str, int]
    faults: Mapping[str, int]
    history_items: int
    history_by_voice: Mapping[str, int]
    voices: Mapping[str, str]
    voices_made: int
    voices_deleted: tuple[str, ...]
    rules: Mapping[str, Any]

    @property
    def billed_twice(self) -> tuple[Billed, ...]:
        """What was billed more than once."""
        return tuple(entry for entry in self.billed if entry.times > 1)

    def times_billed(self, text: str) -> int:
        """Return how often a text was billed, with any voice and model."""
        return sum(entry.times for entry in self.billed if entry.text == text)


class Control:
    """A stand-in at `url`, in this process or another."""

    def __init__(self, url: str, api_key: str = API_KEY) -> None:
        self.url = url
        self.api_key = api_key

    def report(self) -> Report:
        """Ask what it saw."""
        return self._call(None)

    def change(self, **changes: Any) -> Report:
        """Set rules by the names of `Rules`; also `verify_voice=ID` and `credits_used=N`.

        Raises:
            ValueError: there is no such rule, or the value does not fit.
        """
        return self._call(changes)

    def _call(self, changes: dict[str, Any] | None) -> Report:
        data = None if changes is None else json.dumps(changes).encode()
        request = urllib.request.Request(self.url + CONTROL_PATH, data, method="GET" if data is None else "POST")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return Report.model_validate_json(answer.read())
        except urllib.error.HTTPError as error:
            raise ValueError(json.loads(error.read())["error"]) from error


@contextmanager
def own_process(**rules: Any) -> Iterator[Control]:
    """Run a stand-in in a process of its own for as long as the block lasts, with the fields of `Rules`."""
    command = [sys.executable, "-m", "tests.elevenlabs", "--port", "0", "--rules", json.dumps(rules)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout
        try:
            started = json.loads(process.stdout.readline())
            yield Control(started["url"], started["api_key"])
        finally:
            process.terminate()
