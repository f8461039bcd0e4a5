"""How long work tells what it has done, without knowing who listens (a terminal, a Dagster log, nobody)."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called at chunk boundaries: `done` of `total` units (`total` is None where it is not known)."""

    def __call__(self, stage: str, done: float, total: float | None) -> None:
        """Report that `stage` (a short noun, such as 'landmarks') is at `done` of `total`."""


def silent(stage: str, done: float, total: float | None) -> None:
    """Listen to nothing: the default."""
