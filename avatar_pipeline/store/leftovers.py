"""What lies in the store, seen from outside: whose folders there are, when they changed, what killed processes left.

For whoever cleans up. Works on a folder and on a bucket; nothing is deleted here but half-deleted folders.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from upath import UPath

from avatar_pipeline.errors import InvalidId
from avatar_pipeline.ids import require_slug
from avatar_pipeline.store.artifacts import CHECKPOINTS, DELETED, ArtifactStore, Slot

_DEPTHS = 4
"""A folder is deleted as a whole owner, asset or key, below its collection, below the store or its checkpoints."""


def owners(store: ArtifactStore, collection: str) -> list[str]:
    """Return whose folders there are in a collection. What is not called like an owner is not ours, and left out."""
    base = store.root / collection
    if not base.exists():
        return []
    return sorted(path.name for path in base.iterdir() if _is_slug(path.name))


def last_change(store: ArtifactStore, collection: str, owner: str) -> datetime | None:
    """Return when anything of an owner changed last: artifacts, pointers, checkpoints, drafts on this machine.

    None if there is nothing.
    """
    bases = (
        store.root / collection / owner,
        store.root / CHECKPOINTS / collection / owner,
        UPath(store.drafts_of(collection, owner)),
    )
    return max((changed for base in bases for _, changed in _changes(base)), default=None)


def slot_change(store: ArtifactStore, slot: Slot) -> datetime | None:
    """Return when anything in a slot changed last; None if there is nothing."""
    return max((changed for _, changed in _changes(store.root.joinpath(*slot.parts))), default=None)


def checkpoints_left(store: ArtifactStore) -> dict[tuple[Slot, str], datetime]:
    """Return which artifacts, by slot and key, have chunks in the store or on this machine, and their last change.

    Chunks are there while work is under way, and after it was killed at a bad moment.
    """
    bases = [store.root / CHECKPOINTS]
    if not store.is_local:
        bases.append(UPath(store.scratch / CHECKPOINTS))
    found: dict[tuple[Slot, str], datetime] = {}
    for base in bases:
        for path, changed in _changes(base):
            place = _place(path)
            if place is not None:
                found[place] = max(changed, found.get(place, changed))
    return found


def drop_half_deleted(store: ArtifactStore, before: datetime) -> int:
    """Delete the rest of folders whose deletion was broken off before `before`; return how many there were."""
    if not store.is_local:
        return 0
    limit = before.timestamp()
    root = Path(str(store.root))
    found = [path for depth in range(1, _DEPTHS + 1) for path in root.glob("*/" * depth + f".*{DELETED}")]
    # Deleting begins with a rename, which changes the ctime and not the mtime.
    old = []
    for path in found:
        with suppress(FileNotFoundError):
            if max(path.stat().st_ctime, path.stat().st_mtime) < limit:
                shutil.rmtree(path, ignore_errors=True)
                old.append(path)
    return len(old)


def _changes(base: UPath) -> Iterator[tuple[PurePosixPath, datetime]]:
    """Yield everything below `base`, as its path below it and when it changed."""
    if isinstance(base, Path):
        for folder, _, names in os.walk(base):
            for path in (Path(folder), *(Path(folder, name) for name in names)):
                try:
                    changed = path.stat().st_mtime
                except FileNotFoundError:
                    continue
                yield PurePosixPath(path.relative_to(base)), datetime.fromtimestamp(changed, UTC)
        return
    for name, info in base.fs.find(base.path, detail=True).items():
        yield PurePosixPath(name).relative_to(base.path), info["LastModified"]


def _place(path: PurePosixPath) -> tuple[Slot, str] | None:
    if len(path.parts) < _DEPTHS:
        return None
    collection, owner, asset, key = path.parts[:_DEPTHS]
    try:
        return Slot(collection, owner, asset), require_slug(key)
    except InvalidId:
        return None


def _is_slug(name: str) -> bool:
    try:
        require_slug(name)
    except InvalidId:
        return False
    return True
