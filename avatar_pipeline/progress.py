"""How long work tells what it has done, without knowing who listens (a terminal, a Dagster log, nobody).

And how it is told to stop: between two chunks, by whoever watches over the machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class Progress(Protocol):
    """Called at chunk boundaries: `done` of `total` units (`total` is None where it is not known)."""

    def __call__(self, stage: str, done: float, total: float | None) -> None:
        """Report that `stage` (a short noun, such as 'landmarks') is at `done` of `total`."""


def silent(stage: str, done: float, total: float | None) -> None:
    """Listen to nothing: the default."""


class Boundary(Protocol):
    """Called after each chunk that was saved: `done` of `total` chunks are. It may raise, to stop the work there."""

    def __call__(self, done: float, total: float) -> None:
        """Return if the work is to go on."""


def go_on(done: float, total: float) -> None:
    """Never stop: the default."""


_LISTENER: ContextVar[Progress] = ContextVar("progress listener", default=silent)


@contextmanager
def listening(progress: Progress) -> Iterator[None]:
    """Make `progress` the listener of everything that runs in this block, however deep below it."""
    token = _LISTENER.set(progress)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def listener() -> Progress:
    """Return the listener of the block we are in."""
    return _LISTENER.get()
