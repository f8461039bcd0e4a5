"""Checkpoints: the finished chunks of unfinished work, each put in place at once, found again after a crash."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol


class Checkpoints(Protocol):
    """Where one piece of work (one artifact key) keeps its finished chunks."""

    def get(self, name: str) -> Path | None:
        """Return a local file with the finished chunk `name`, or None if it was never finished."""

    def put(self, name: str) -> AbstractContextManager[Path]:
        """Give a temporary local path to write chunk `name` to.

        Leaving the block normally puts the file in place at once; leaving it by an exception leaves nothing.
        """


class FolderCheckpoints:
    """Checkpoints in a local folder, by write-then-rename."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, name: str) -> Path | None:
        """Return the finished chunk `name`, or None."""
        path = self.folder / name
        return path if path.is_file() else None

    @contextmanager
    def put(self, name: str) -> Iterator[Path]:
        """Give a temporary path for chunk `name`; it is renamed into place when the block ends well."""
        from avatar_pipeline.store.atomic import atomic_file

        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(self.folder / name) as path:
            yield path
