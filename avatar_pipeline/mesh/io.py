"""Read and write a mesh as one npz file: no pickle, the same mesh always the same bytes."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from avatar_pipeline.errors import StoreCorrupt
from avatar_pipeline.mesh.types import AvatarMesh
from avatar_pipeline.store.atomic import atomic_file

_ARRAYS = ("vertices", "uv", "skin", "eyes", "mouth", "morphs", "texture")


def write_mesh(path: Path, mesh: AvatarMesh) -> None:
    """Write a mesh by write-then-rename. NumPy stamps every member with 1980-01-01, so the bytes hold no time."""
    arrays = {name: getattr(mesh, name) for name in _ARRAYS}
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, morph_names=np.array(mesh.morph_names), **arrays)


def read_mesh(path: Path) -> AvatarMesh:
    """Read a mesh that `write_mesh` wrote.

    Raises:
        StoreCorrupt: the file is missing, damaged, or not a mesh.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in _ARRAYS}
            names = tuple(str(name) for name in file["morph_names"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise StoreCorrupt(f"{path.name} is not a readable mesh: {error}.", remedy="Build the mesh again.") from error
    return AvatarMesh(morph_names=names, **arrays)
