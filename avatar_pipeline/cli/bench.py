"""The command line's own workbench: the line that the environment describes, opened once a command."""

from __future__ import annotations

from contextlib import AbstractContextManager

from avatar_pipeline.progress import listener
from avatar_pipeline.settings import read_settings
from avatar_pipeline.stages import line


def open_line() -> AbstractContextManager[line.Line]:
    """Give the line that the environment describes; its progress goes to whoever listens when it is made."""
    return line.open_line(read_settings(), progress=_whoever_listens)


def _whoever_listens(stage: str, done: float, total: float | None) -> None:
    listener()(stage, done, total)
