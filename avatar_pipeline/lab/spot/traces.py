"""Availability traces: read from files, brought to one tick length, cut into seeded random windows.

Two formats. JSON as in skypilot-org/spot-traces: `metadata.gap_seconds`, and `data`, the number of instances available
at each gap (1 = available; some public evaluators write the inverse). CSV as in uclasystem/bamboo: rows of
`seconds,instances` alive, each holding until the next. Files of other kinds in a folder are left alone.
"""

from __future__ import annotations

import csv
import json
from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from pathlib import Path
from random import Random
from typing import Any

from avatar_pipeline.errors import InvalidInput

SUFFIXES = (".json", ".csv")
MAX_TICKS = 5_000_000


@dataclass(frozen=True, slots=True)
class Trace:
    """Whether spot is available, tick by tick; `available[i]` holds from `i` to `i + 1` ticks."""

    name: str
    tick_seconds: int
    available: tuple[bool, ...]

    @property
    def share(self) -> float:
        """The share of ticks with spot."""
        return sum(self.available) / len(self.available)

    def windows(self, count: int, ticks: int, seed: int) -> list[tuple[bool, ...]]:
        """Return `count` windows of `ticks` ticks (or all of a shorter trace), at random starts that `seed` settles."""
        last = max(0, len(self.available) - ticks)
        starts = Random(f"{seed}/{self.name}")  # noqa: S311 - a simulation
        return [self.available[start : start + ticks] for start in (starts.randint(0, last) for _ in range(count))]


def read_traces(folder: Path, *, tick_seconds: int, nodes: int = 1) -> list[Trace]:
    """Return the traces in `folder`, by name. A tick has spot where `nodes` instances are available as it begins.

    Raises:
        InvalidInput: there is no such folder, no trace in it, or a file of a trace's kind that cannot be read as one.
    """
    if not folder.is_dir():
        raise InvalidInput(f"{folder}: there is no such folder.", remedy="Give a folder with traces (--traces).")
    files = sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES and file.is_file())
    if not files:
        raise InvalidInput(
            f"{folder}: there is no trace in it (*.json, *.csv).", remedy="Give a folder with traces (--traces)."
        )
    return [read_trace(file, tick_seconds=tick_seconds, nodes=nodes) for file in files]


def read_trace(file: Path, *, tick_seconds: int, nodes: int = 1) -> Trace:
    """Return the trace in `file`.

    Raises:
        InvalidInput: it is not a trace, or shorter than one tick.
    """
    try:
        text = file.read_text(encoding="utf-8")
        times, counts, end = _json(text) if file.suffix == ".json" else _csv(text)
    except (ValueError, TypeError, KeyError, IndexError, RecursionError, csv.Error) as error:
        raise InvalidInput(
            f"{file}: not a trace: {_told(error)}.",
            remedy="A trace is JSON with metadata.gap_seconds and data, or CSV rows of seconds,instances.",
        ) from error
    ticks = int((end - times[0]) // tick_seconds)
    if not 1 <= ticks <= MAX_TICKS:
        raise InvalidInput(
            f"{file}: {end - times[0]:g} s are {ticks} ticks of {tick_seconds} s; 1 to {MAX_TICKS} can be used.",
            remedy="Take the file out of the folder, or give another --tick-seconds.",
        )
    starts = (times[0] + tick * tick_seconds for tick in range(ticks))
    available = tuple(counts[bisect_right(times, start) - 1] >= nodes for start in starts)
    return Trace(file.stem, tick_seconds, available)


def _json(text: str) -> tuple[list[float], list[float], float]:
    document = json.loads(text)
    if not isinstance(document, dict):
        raise ValueError("the document is not an object")
    gap = _number(document["metadata"]["gap_seconds"], "metadata.gap_seconds")
    if gap <= 0:
        raise ValueError(f"metadata.gap_seconds is {gap:g}")
    data = document["data"]
    if not isinstance(data, list) or not data:
        raise ValueError("data is not a list of numbers")
    counts = [_number(value, f"data[{index}]") for index, value in enumerate(data)]
    return [index * gap for index in range(len(counts))], counts, len(counts) * gap


def _csv(text: str) -> tuple[list[float], list[float], float]:
    rows = [row for row in csv.reader(text.splitlines()) if row]
    if rows and not _is_number(rows[0][0]):
        del rows[0]  # a heading
    if len(rows) < 2:
        raise ValueError("fewer than two rows of numbers")
    times = [_number(row[0], f"row {index + 1}") for index, row in enumerate(rows)]
    counts = [_number(row[1], f"row {index + 1}") for index, row in enumerate(rows)]
    if any(later < earlier for earlier, later in pairwise(times)):
        raise ValueError("its times go backwards")
    return times, counts, times[-1]


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{name} is not a number")
    if not _is_number(value):
        raise ValueError(f"{name} is {str(value)[:40]!r}, not a number")
    return float(value)


def _is_number(value: float | str) -> bool:
    try:
        return isfinite(float(value))
    except (ValueError, OverflowError):
        return False


def _told(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"{error.args[0]} is missing"
    return str(error).splitlines()[0].rstrip(".")[:200] if str(error) else type(error).__name__
