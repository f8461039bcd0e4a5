"""Content keys: the name of an artifact is the hash of all that it was made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

Json = str | int | float | bool | None | Sequence["Json"] | Mapping[str, "Json"]


def content_key(asset: str, *, code_version: str, inputs: Mapping[str, str], params: Mapping[str, Json]) -> str:
    """Return the key (24 hex digits) of what `asset` makes of `inputs` and `params` with `code_version`.

    `inputs` are keys or hashes of what is read. Equal arguments give equal keys on every machine and Python.
    """
    document = {"asset": asset, "code": code_version, "inputs": dict(inputs), "params": dict(params)}
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:24]


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, read in blocks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
