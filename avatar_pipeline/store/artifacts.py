"""The artifact store: folders of files under content keys, on a disk or in a bucket.

Layout: `<root>/<collection>/<owner>/<asset>/<key>/{artifact.json, files...}`, and `current.json` beside the keys as a
pointer to the one in use. `artifact.json` is written last (or the whole folder renamed at once), so an artifact is
there entirely or not at all. It holds no timestamp: the same work gives the same bytes; times are in the ledger.
"""

from __future__ import annotations

import json
import math
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from upath import UPath

from avatar_pipeline.errors import InvalidId, NotFound, StoreCorrupt
from avatar_pipeline.ids import require_slug
from avatar_pipeline.store.atomic import atomic_file, atomic_folder
from avatar_pipeline.store.checkpoints import Checkpoints, FolderCheckpoints
from avatar_pipeline.store.keys import Json, content_key, file_sha256

MANIFEST = "artifact.json"
POINTER = "current.json"
CHECKPOINTS = "checkpoints"
_TEMPORARY = ".tmp"
_PUBLISHED = "published"
"""Where artifacts for a bucket lie, finished, while they are uploaded."""
DELETED = ".deleted"
_ABANDONED_AFTER = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of one asset of one owner: an avatar's landmarks, a batch's manifest."""

    collection: str
    owner: str
    asset: str

    def __post_init__(self) -> None:
        require_slug(self.collection, "collection")
        require_slug(self.owner, f"id in {self.collection}")
        require_slug(self.asset.replace("_", "-"), "asset")

    @classmethod
    def avatar(cls, avatar_id: str, asset: str) -> Slot:
        """Return the place of an avatar's asset."""
        return cls("avatars", avatar_id, asset)

    @classmethod
    def batch(cls, batch_id: str, asset: str) -> Slot:
        """Return the place of a clip batch's asset."""
        return cls("clip-batches", batch_id, asset)

    @property
    def parts(self) -> tuple[str, str, str]:
        """Path parts below the store's root."""
        return self.collection, self.owner, self.asset


@dataclass(frozen=True, slots=True)
class Artifact:
    """A finished artifact as its manifest describes it. `files` maps names to sizes in bytes and SHA-256."""

    slot: Slot
    key: str
    code_version: str
    inputs: Mapping[str, str]
    params: Mapping[str, Json]
    files: Mapping[str, tuple[int, str]]
    facts: Mapping[str, Any]
    uri: str

    @property
    def size_bytes(self) -> int:
        """Size of all its files."""
        return sum(size for size, _ in self.files.values())


@dataclass(slots=True)
class Draft:
    """An artifact in the making: write files into `folder`, put what should be remembered into `facts`."""

    key: str
    folder: Path
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What an artifact is made from; its key follows from it."""

    slot: Slot
    code_version: str
    inputs: Mapping[str, str]
    params: Mapping[str, Json]

    @property
    def key(self) -> str:
        """The content key."""
        return content_key(self.slot.asset, code_version=self.code_version, inputs=self.inputs, params=self.params)


class ArtifactStore:
    """Artifacts under one root: a folder, or `s3://bucket/prefix` (with the `aws` extra).

    `scratch` is a local folder for temporary files and for copies of remote artifacts.
    """

    def __init__(self, root: str | Path, scratch: Path, **storage_options: Any) -> None:
        if str(root).startswith("s3://"):
            # A listing cache would hide what another worker has just finished.
            storage_options = {"use_listings_cache": False} | storage_options
        self.root: UPath = UPath(root, **storage_options)
        self.scratch = scratch
        self.is_local = isinstance(self.root, Path)

    def find(self, slot: Slot, key: str) -> Artifact | None:
        """Return the finished artifact, or None if there is none, or it is damaged: then it is to be made again."""
        folder = self._folder(slot, key)
        try:
            artifact = _parse(slot, key, (folder / MANIFEST).read_text(), str(folder))
        except (FileNotFoundError, StoreCorrupt):
            return None
        if self.is_local and any(
            not _has_size(Path(str(folder / name)), size) for name, (size, _) in artifact.files.items()
        ):
            return None
        return artifact

    def current(self, slot: Slot) -> Artifact | None:
        """Return the artifact that the slot's pointer names, or None if there is none, or it is damaged."""
        try:
            pointer = json.loads((self.root.joinpath(*slot.parts) / POINTER).read_text())
            return self.find(slot, str(pointer["key"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError, InvalidId):
            return None

    def require_current(self, slot: Slot) -> Artifact:
        """Return the slot's current artifact.

        Raises:
            NotFound: it was not made yet; the remedy names the asset to materialize first.
        """
        artifact = self.current(slot)
        if artifact is None:
            raise NotFound(
                f"{slot.owner} has no {slot.asset} yet.",
                remedy=f"Materialize {slot.asset} for {slot.owner} first.",
            )
        return artifact

    @contextmanager
    def create(self, recipe: Recipe) -> Iterator[Draft]:
        """Give a draft to fill; when the block ends well the artifact is published at once, else nothing is left."""
        key = recipe.key
        target = self._folder(recipe.slot, key)
        final = Path(str(target)) if self.is_local else self.scratch / _PUBLISHED / key
        with atomic_folder(final, scratch=self.drafts_of(recipe.slot.collection, recipe.slot.owner)) as folder:
            draft = Draft(key, folder)
            yield draft
            (folder / MANIFEST).write_text(_manifest(recipe, draft))
            if self.is_local and final.is_dir() and self.find(recipe.slot, key) is None:
                # Damaged: ours takes its place.
                _remove_tree(target)
        if not self.is_local:
            self._upload(final, target)
            shutil.rmtree(final)

    def point(self, artifact: Artifact) -> None:
        """Make `artifact` the current one of its slot."""
        text = json.dumps({"key": artifact.key}) + "\n"
        pointer = self.root.joinpath(*artifact.slot.parts) / POINTER
        if self.is_local:
            with atomic_file(Path(str(pointer))) as path:
                path.write_text(text)
        else:
            pointer.write_text(text)

    def local(self, artifact: Artifact, name: str) -> Path:
        """Return a local path with one file of an artifact, copied from a remote store where need be.

        Raises:
            StoreCorrupt: the file is missing, or a copied file does not match its hash.
        """
        if name not in artifact.files:
            raise StoreCorrupt(f"{artifact.uri} has no {name}.", remedy="Materialize the asset again.")
        remote = self._folder(artifact.slot, artifact.key) / name
        if self.is_local:
            path = Path(str(remote))
            if not path.is_file():
                raise StoreCorrupt(f"{path} is missing.", remedy="Materialize the asset again.")
            return path
        size, sha256 = artifact.files[name]
        copy = self.scratch.joinpath("copies", *artifact.slot.parts, artifact.key, name)
        if copy.is_file() and copy.stat().st_size == size:
            return copy
        copy.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(copy) as path:
            remote.fs.get_file(remote.path, str(path))
            if file_sha256(path) != sha256:
                raise StoreCorrupt(f"{remote} does not match its hash.", remedy="Materialize the asset again.")
        return copy

    def checkpoints(self, slot: Slot, key: str) -> Checkpoints:
        """Return the place for the finished chunks of one artifact in the making."""
        folder = self._checkpoint_folder(slot, key)
        if self.is_local:
            return FolderCheckpoints(Path(str(folder)))
        return RemoteCheckpoints(folder, self.scratch.joinpath(CHECKPOINTS, *slot.parts, key))

    def drop_checkpoints(self, slot: Slot, key: str) -> None:
        """Delete the chunks of work that is finished."""
        _remove_tree(self._checkpoint_folder(slot, key))
        shutil.rmtree(self.scratch.joinpath(CHECKPOINTS, *slot.parts, key), ignore_errors=True)

    def sweep(self, now: datetime) -> int:
        """Delete the drafts of killed processes: what nobody has touched for a day. Return how many there were."""
        limit = now.timestamp() - _ABANDONED_AFTER
        drafts = [*self._drafts.glob("*/*/*.tmp"), *(self.scratch / _PUBLISHED).glob("*")]
        abandoned = [path for path in drafts if _modified(path) < limit]
        for path in abandoned:
            shutil.rmtree(path, ignore_errors=True)
        return len(abandoned)

    def delete_owner(self, collection: str, owner: str) -> None:
        """Delete everything of one avatar or batch: artifacts, pointers, checkpoints, local copies."""
        slot = Slot(collection, owner, "any")
        for base in (self.root, self.root / CHECKPOINTS):
            _remove_tree(base / slot.collection / slot.owner)
            if self.is_local:
                for rubbish in Path(str(base / slot.collection)).glob(f".{slot.owner}.*{DELETED}"):
                    shutil.rmtree(rubbish, ignore_errors=True)
        for folder in self._on_this_machine(slot):
            shutil.rmtree(folder, ignore_errors=True)

    def has_owner(self, collection: str, owner: str) -> bool:
        """Return whether anything is left that `delete_owner` would delete, half-deleted folders too."""
        slot = Slot(collection, owner, "any")
        bases = (self.root, self.root / CHECKPOINTS)
        if any((base / slot.collection / slot.owner).exists() for base in bases):
            return True
        if self.is_local and any(
            any(Path(str(base / slot.collection)).glob(f".{slot.owner}.*{DELETED}")) for base in bases
        ):
            return True
        return any(folder.exists() for folder in self._on_this_machine(slot))

    def _on_this_machine(self, slot: Slot) -> list[Path]:
        kept = [self.scratch / name / slot.collection / slot.owner for name in ("copies", CHECKPOINTS)]
        return [self.drafts_of(slot.collection, slot.owner), *kept]

    def delete_slot(self, slot: Slot) -> None:
        """Delete every artifact of one slot, its pointer and the local copies."""
        folder = self.root.joinpath(*slot.parts)
        _remove_tree(folder)
        if self.is_local:
            for rubbish in Path(str(folder.parent)).glob(f".{slot.asset}.*{DELETED}"):
                shutil.rmtree(rubbish, ignore_errors=True)
        shutil.rmtree(self.scratch.joinpath("copies", *slot.parts), ignore_errors=True)

    def verify(self, artifact: Artifact) -> None:
        """Check every file of an artifact against its manifest.

        Raises:
            StoreCorrupt: a file is missing or differs.
        """
        for name, (_, sha256) in artifact.files.items():
            path = self.local(artifact, name)
            if not path.is_file() or file_sha256(path) != sha256:
                raise StoreCorrupt(f"{path} does not match its manifest.", remedy="Materialize the asset again.")

    @property
    def _drafts(self) -> Path:
        """Where artifacts in the making are: on the store's own file system, so that a rename puts them in place."""
        return (Path(str(self.root)) if self.is_local else self.scratch) / _TEMPORARY

    def drafts_of(self, collection: str, owner: str) -> Path:
        """Return where an owner's artifacts in the making are, on this machine."""
        return self._drafts / collection / owner

    def _folder(self, slot: Slot, key: str) -> UPath:
        require_slug(key, "key")
        folder: UPath = self.root.joinpath(*slot.parts, key)
        return folder

    def _checkpoint_folder(self, slot: Slot, key: str) -> UPath:
        require_slug(key, "key")
        folder: UPath = self.root.joinpath(CHECKPOINTS, *slot.parts, key)
        return folder

    def _upload(self, source: Path, target: UPath) -> None:
        """Copy a finished folder to the remote store, its manifest last."""
        names = sorted(path.name for path in source.iterdir() if path.name != MANIFEST)
        for name in [*names, MANIFEST]:
            remote = target / name
            remote.fs.put_file(str(source / name), remote.path)


class RemoteCheckpoints:
    """Checkpoints in a bucket: an upload is atomic there; a local copy saves reading back what this machine made."""

    def __init__(self, folder: UPath, scratch: Path) -> None:
        self._folder = folder
        self._scratch = scratch
        self._local = FolderCheckpoints(scratch)

    def get(self, name: str) -> Path | None:
        """Return a local copy of the finished chunk `name`, or None."""
        remote = self._folder / name
        copy = self._scratch / name
        if (local := self._local.get(name)) is not None:
            return local
        if not remote.exists():
            return None
        with self._local.put(name) as path:
            remote.fs.get_file(remote.path, str(path))
        return copy

    @contextmanager
    def put(self, name: str) -> Iterator[Path]:
        """Give a temporary path for chunk `name`; it is uploaded when the block ends well."""
        with self._local.put(name) as path:
            yield path
            remote = self._folder / name
            remote.fs.put_file(str(path), remote.path)


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False


def _modified(path: Path) -> float:
    """Return when a path was modified; the end of time if another process has just deleted it."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return math.inf


def _remove_tree(folder: UPath) -> None:
    if not folder.exists():
        return
    if isinstance(folder, Path):
        # Renamed first: a reader never sees a half-deleted artifact, and a crash leaves only rubbish with a dot.
        rubbish = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}{DELETED}")
        with suppress(FileNotFoundError):  # another process deletes it too, and was first
            folder.rename(rubbish)
            shutil.rmtree(rubbish)
    else:
        folder.fs.rm(folder.path, recursive=True)


def _manifest(recipe: Recipe, draft: Draft) -> str:
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        for path in sorted(draft.folder.iterdir())
        if path.name != MANIFEST
    }
    document = {
        "version": 1,
        "asset": recipe.slot.asset,
        "key": draft.key,
        "code_version": recipe.code_version,
        "inputs": dict(recipe.inputs),
        "params": dict(recipe.params),
        "files": files,
        "facts": draft.facts,
    }
    return json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n"


def _parse(slot: Slot, key: str, text: str, uri: str) -> Artifact:
    try:
        document = json.loads(text)
        return Artifact(
            slot=slot,
            key=key,
            code_version=document["code_version"],
            inputs=document["inputs"],
            params=document["params"],
            files={name: (entry["bytes"], entry["sha256"]) for name, entry in document["files"].items()},
            facts=document["facts"],
            uri=uri,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreCorrupt(f"{uri}/{MANIFEST} cannot be read.", remedy="Materialize the asset again.") from error
