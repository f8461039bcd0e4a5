"""What the command line shows: progress on standard error, results on standard output, errors in one line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from avatar_pipeline.errors import AvatarError, Interrupted
from avatar_pipeline.progress import listening

# No markup: a file's name may hold brackets.
out = Console(highlight=False, markup=False)
err = Console(stderr=True, highlight=False)
_wide = Console(highlight=False, markup=False, width=2000)


@contextmanager
def showing_progress(*, quiet: bool) -> Iterator[None]:
    """Show the progress of whatever runs in this block, one bar a stage; nothing where `quiet`.

    Raises:
        Interrupted: the user pressed Ctrl-C.
    """
    if quiet:
        with interruptible():
            yield
        return
    columns = (SpinnerColumn(), TextColumn("{task.description:<18}"), BarColumn(24), TimeElapsedColumn())
    bars = Progress(*columns, console=err, transient=not err.is_terminal)
    tasks: dict[str, TaskID] = {}

    def report(stage: str, done: float, total: float | None) -> None:
        if stage not in tasks:
            # Started only now, so that an error before any work is one line and nothing else.
            bars.start()
            tasks[stage] = bars.add_task(stage.replace("_", " "), total=total)
        bars.update(tasks[stage], completed=done, total=total)

    try:
        with listening(report), interruptible():
            yield
        for task in bars.tasks:
            bars.update(task.id, total=task.total or task.completed or 1, completed=task.total or task.completed or 1)
    finally:
        if tasks:
            bars.stop()


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn Ctrl-C into an error that says how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted from None


def print_table(table: Table) -> None:
    """Print a table: as wide as the terminal, or, where nobody looks, one row a line however long."""
    (out if out.is_terminal else _wide).print(table)


def printable(text: str, limit: int | None = None) -> str:
    """Return `text`, or its first `limit` characters, fit for a terminal whoever wrote it.

    What is not printable (control characters, which may command the terminal, and those that turn the direction of
    writing) becomes a dot.
    """
    shown = text if limit is None or len(text) <= limit else f"{text[: limit - 1]}…"
    return "".join(character if character.isprintable() else "·" for character in shown)


def span(length: timedelta | None) -> str:
    """Return a span of time for people; empty where there is none."""
    if length is None:
        return ""
    seconds = max(0.0, length.total_seconds())
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (seconds, "s")]
    first = next(index for index, (number, _) in enumerate(parts) if number)
    return " ".join(f"{number} {unit}" for number, unit in parts[first : first + 2] if number)


def say_json(document: Any) -> None:
    """Print one JSON document on standard output."""
    sys.stdout.write(json.dumps(document, indent=1, default=_plain) + "\n")


def _plain(value: object) -> str | float:
    if isinstance(value, timedelta):
        return round(value.total_seconds(), 3)
    return value.isoformat() if isinstance(value, datetime) else str(value)


def say_error(error: AvatarError, *, as_json: bool) -> None:
    """Print an error: one line for a person on standard error, or one JSON document on standard output."""
    if as_json:
        say_json({"error": error.as_dict()})
    else:
        # Not through rich: it would wrap the line.
        sys.stderr.write(f"error: {error.message} {error.remedy}\n".replace("\n", " ").rstrip() + "\n")
