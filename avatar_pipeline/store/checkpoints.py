"""Checkpoints: the finished chunks of unfinished work, each put in place at once, found again after a crash."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from avatar_pipeline.store.atomic import atomic_file
from avatar_pipeline.store.keys import file_sha256

HASH_SUFFIX = ".sha256"


class Checkpoints(Protocol):
    """Where one piece of work (one artifact key) keeps its finished chunks."""

    def get(self, name: str) -> Path | None:
        """Return a local file with the finished chunk `name`, or None if it was never finished, or is damaged."""

    def put(self, name: str) -> AbstractContextManager[Path]:
        """Give a temporary local path to write chunk `name` to.

        Leaving the block normally puts the file in place at once; leaving it by an exception leaves nothing.
        """


class FolderCheckpoints:
    """Checkpoints in a local folder, by write-then-rename, each with its hash beside it.

    A chunk that a power cut left empty or torn does not match its hash: it is dropped, and made again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, name: str) -> Path | None:
        """Return the finished chunk `name`, or None."""
        path, hashed = self.folder / name, self.folder / (name + HASH_SUFFIX)
        if not path.is_file():
            return None
        if hashed.is_file() and hashed.read_text() == file_sha256(path):
            return path
        path.unlink()
        return None

    @contextmanager
    def put(self, name: str) -> Iterator[Path]:
        """Give a temporary path for chunk `name`; it is renamed into place when the block ends well."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(self.folder / name) as path:
            yield path
            with atomic_file(self.folder / (name + HASH_SUFFIX)) as hashed:
                hashed.write_text(file_sha256(path))
