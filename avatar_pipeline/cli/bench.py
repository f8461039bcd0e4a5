"""The command line's own workbench: the settings, the store and the ledger, opened once a command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from avatar_pipeline.ledger.ledger import Ledger
from avatar_pipeline.progress import listener
from avatar_pipeline.settings import read_settings
from avatar_pipeline.stages.line import Line
from avatar_pipeline.store.artifacts import ArtifactStore


@contextmanager
def open_line() -> Iterator[Line]:
    """Give the line that the environment describes."""
    settings = read_settings()
    ledger = Ledger(settings.ledger.get_secret_value())
    try:
        yield Line(
            store=ArtifactStore(settings.store_uri, settings.scratch),
            ledger=ledger,
            settings=settings,
            progress=_whoever_listens,
        )
    finally:
        ledger.close()


def _whoever_listens(stage: str, done: float, total: float | None) -> None:
    listener()(stage, done, total)
