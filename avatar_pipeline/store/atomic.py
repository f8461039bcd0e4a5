"""Write-then-rename: a file or a folder is either whole or not there."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Give a temporary path beside `target` (same suffix); rename it to `target` when the block ends well.

    Readers see the old file or the new one, never a part. The data is on disk before the name is.
    """
    temporary = target.with_name(f".{target.stem}.{secrets.token_hex(6)}.tmp{target.suffix}")
    try:
        yield temporary
        _fsync(temporary)
        temporary.replace(target)
        _fsync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(target: Path, *, scratch: Path) -> Iterator[Path]:
    """Give a temporary folder under `scratch` (same file system); rename it to `target` when the block ends well.

    If another process put `target` in place meanwhile, theirs stays and ours is dropped: keys are content hashes, so
    both hold the same.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    temporary = scratch / f"{target.name}.{secrets.token_hex(6)}.tmp"
    temporary.mkdir()
    try:
        yield temporary
        for path in sorted(temporary.rglob("*")):
            if path.is_file():
                _fsync(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.replace(target)
        except OSError:
            if not target.is_dir():
                raise
        _fsync(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
