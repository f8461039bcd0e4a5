from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avatar_pipeline.errors import StoreCorrupt
from avatar_pipeline.mesh.io import read_mesh, write_mesh
from avatar_pipeline.mesh.types import AvatarMesh, MeshReport


def test_a_mesh_comes_back_as_it_was_written(tmp_path: Path, built: tuple[AvatarMesh, MeshReport]) -> None:
    mesh = built[0]
    write_mesh(tmp_path / "mesh.npz", mesh)
    again = read_mesh(tmp_path / "mesh.npz")
    assert again.morph_names == mesh.morph_names
    for name in ("vertices", "uv", "skin", "eyes", "mouth", "morphs", "texture"):
        before, after = getattr(mesh, name), getattr(again, name)
        assert before.dtype == after.dtype
        np.testing.assert_array_equal(before, after)


def test_the_same_mesh_gives_the_same_bytes(tmp_path: Path, built: tuple[AvatarMesh, MeshReport]) -> None:
    for name in ("a.npz", "b.npz"):
        write_mesh(tmp_path / name, built[0])
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_truncated_file_is_reported_as_corrupt(tmp_path: Path, built: tuple[AvatarMesh, MeshReport]) -> None:
    path = tmp_path / "mesh.npz"
    write_mesh(path, built[0])
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(StoreCorrupt, match=r"mesh\.npz"):
        read_mesh(path)


def test_a_damaged_member_is_reported_as_corrupt(tmp_path: Path, built: tuple[AvatarMesh, MeshReport]) -> None:
    path = tmp_path / "mesh.npz"
    write_mesh(path, built[0])
    data = bytearray(path.read_bytes())
    data[2000:2040] = bytes(40)
    path.write_bytes(data)
    with pytest.raises(StoreCorrupt):
        read_mesh(path)


def test_a_file_that_needs_pickle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mesh.npz"
    np.savez(path, vertices=np.array([object()], dtype=object))
    with pytest.raises(StoreCorrupt):
        read_mesh(path)


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(StoreCorrupt, match="nothing"):
        read_mesh(tmp_path / "nothing.npz")
