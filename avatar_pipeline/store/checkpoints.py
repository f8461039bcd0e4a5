"""Checkpoints: the finished chunks of unfinished work, each put in place at once, found again after a crash."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from avatar_pipeline.store.atomic import atomic_file
from avatar_pipeline.store.keys import file_sha256

HASH_SUFFIX = ".sha256"
_SAVED_AT_ONCE = 8


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


class BufferedCheckpoints:
    """Checkpoints that are kept here at first, and put into a store that is far away several at a time.

    Args:
        store: where they are safe.
        folder: where they wait, on this machine. What is there is found again, and saved with the rest.
        due: asked when a chunk was finished whether to save now all that wait.
        saved: told how many seconds a save took.
        stopwatch: seconds.
    """

    def __init__(
        self,
        store: Checkpoints,
        folder: Path,
        *,
        due: Callable[[], bool],
        saved: Callable[[float], None],
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._here = FolderCheckpoints(folder)
        self._due = due
        self._saved = saved
        self._stopwatch = stopwatch
        self._lock = threading.Lock()
        self._waiting: dict[str, Path] = {}
        self._safe: set[str] = set()

    def get(self, name: str) -> Path | None:
        """Return the finished chunk `name`, be it saved yet or not, or None."""
        path = self._here.get(name)
        if path is None:
            return self._store.get(name)
        with self._lock:
            if name not in self._safe:
                self._waiting[name] = path
        return path

    @contextmanager
    def put(self, name: str) -> Iterator[Path]:
        """Give a temporary path for chunk `name`; it is kept here when the block ends well, and saved when due."""
        with self._here.put(name) as path:
            yield path
        with self._lock:
            self._waiting[name] = self._here.folder / name
            self._safe.discard(name)
            if self._due():
                self._save()

    def flush(self) -> None:
        """Save all that wait."""
        with self._lock:
            self._save()

    def _save(self) -> None:
        if not self._waiting:
            return
        began = self._stopwatch()
        # One after the other, several would take several times as long, and nothing would be won by waiting.
        with ThreadPoolExecutor(_SAVED_AT_ONCE, thread_name_prefix="checkpoints") as pool:
            for _ in pool.map(self._save_one, self._waiting, self._waiting.values()):
                pass
        self._safe.update(self._waiting)
        self._waiting.clear()
        self._saved(self._stopwatch() - began)

    def _save_one(self, name: str, path: Path) -> None:
        with self._store.put(name) as target:
            shutil.copyfile(path, target)
