"""What the command line shows: progress on standard error, results on standard output, errors in one line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from avatar_pipeline.errors import AvatarError, Interrupted
from avatar_pipeline.progress import listening

# No markup: a file's name may hold brackets.
out = Console(highlight=False, markup=False)
err = Console(stderr=True, highlight=False)


@contextmanager
def showing_progress(*, quiet: bool) -> Iterator[None]:
    """Show the progress of whatever runs in this block, one bar a stage; nothing where `quiet`.

    Raises:
        Interrupted: the user pressed Ctrl-C.
    """
    if quiet:
        with _interruptible():
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
        with listening(report), _interruptible():
            yield
        for task in bars.tasks:
            bars.update(task.id, total=task.total or task.completed or 1, completed=task.total or task.completed or 1)
    finally:
        if tasks:
            bars.stop()


@contextmanager
def _interruptible() -> Iterator[None]:
    """Turn Ctrl-C into an error that says how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted from None


def say_json(document: Any) -> None:
    """Print one JSON document on standard output."""
    sys.stdout.write(json.dumps(document, indent=1, default=_plain) + "\n")


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def say_error(error: AvatarError, *, as_json: bool) -> None:
    """Print an error: one line for a person on standard error, or one JSON document on standard output."""
    if as_json:
        say_json({"error": error.as_dict()})
    else:
        # Not through rich: it would wrap the line.
        sys.stderr.write(f"error: {error.message} {error.remedy}\n".replace("\n", " ").rstrip() + "\n")
