"""A structural check of the GLB, by the letter of the glTF 2.0 specification."""

from __future__ import annotations

import io
import json
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from avatar_pipeline.mesh.glb import glb_bytes
from avatar_pipeline.mesh.types import AvatarMesh, MeshReport

TYPES = {5126: np.dtype("<f4"), 5123: np.dtype("<u2")}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3}


class Glb:
    """A parsed GLB file; every access is checked against its bounds."""

    def __init__(self, data: bytes) -> None:
        magic, version, length = struct.unpack_from("<III", data)
        assert (magic, version, length) == (0x46546C67, 2, len(data))
        size, kind = struct.unpack_from("<II", data, 12)
        assert kind == 0x4E4F534A
        assert size % 4 == 0
        self.json: dict[str, Any] = json.loads(data[20 : 20 + size])
        binary, kind = struct.unpack_from("<II", data, 20 + size)
        assert kind == 0x004E4942
        assert binary % 4 == 0
        assert 28 + size + binary == length
        self.binary = data[28 + size :]
        assert 0 <= len(self.binary) - self.json["buffers"][0]["byteLength"] < 4

    def view(self, index: int) -> bytes:
        view = self.json["bufferViews"][index]
        start, size = view["byteOffset"], view["byteLength"]
        assert start % 4 == 0
        assert start + size <= self.json["buffers"][0]["byteLength"]
        return self.binary[start : start + size]

    def accessor(self, index: int) -> np.ndarray:
        accessor = self.json["accessors"][index]
        dtype, width, count = TYPES[accessor["componentType"]], WIDTHS[accessor["type"]], accessor["count"]
        values = np.zeros((count, width), dtype)
        if "bufferView" in accessor:
            data = self.view(accessor["bufferView"])
            assert len(data) == count * width * dtype.itemsize
            values = np.frombuffer(data, dtype).reshape(count, width).copy()
        if "sparse" in accessor:
            sparse = accessor["sparse"]
            indices = np.frombuffer(self.view(sparse["indices"]["bufferView"]), "<u2")
            assert len(indices) == sparse["count"] > 0
            assert (np.diff(indices.astype(int)) > 0).all()
            assert indices[-1] < count
            values[indices] = np.frombuffer(self.view(sparse["values"]["bufferView"]), dtype).reshape(-1, width)
        if "min" in accessor:
            np.testing.assert_array_equal(np.float32(accessor["min"]), values.min(axis=0))
            np.testing.assert_array_equal(np.float32(accessor["max"]), values.max(axis=0))
        return values


@pytest.fixture(scope="module")
def mesh(built: tuple[AvatarMesh, MeshReport]) -> AvatarMesh:
    return built[0]


@pytest.fixture(scope="module")
def glb(mesh: AvatarMesh) -> Glb:
    return Glb(glb_bytes(mesh))


def primitive(glb: Glb) -> dict[str, Any]:
    (only,) = glb.json["meshes"][0]["primitives"]
    return only  # type: ignore[no-any-return]


def test_the_geometry_is_the_meshs_in_metres(glb: Glb, mesh: AvatarMesh) -> None:
    attributes = primitive(glb)["attributes"]
    np.testing.assert_allclose(glb.accessor(attributes["POSITION"]), mesh.vertices * 1e-3, atol=1e-7)
    np.testing.assert_array_equal(glb.accessor(attributes["TEXCOORD_0"]), mesh.uv)
    np.testing.assert_array_equal(glb.accessor(primitive(glb)["indices"]).reshape(-1, 3), mesh.faces)
    np.testing.assert_allclose(np.linalg.norm(glb.accessor(attributes["NORMAL"]), axis=1), 1, atol=1e-5)


def test_positions_and_every_target_carry_true_bounds(glb: Glb) -> None:
    for index in (primitive(glb)["attributes"]["POSITION"], *(t["POSITION"] for t in primitive(glb)["targets"])):
        assert {"min", "max"} <= set(glb.json["accessors"][index])
        glb.accessor(index)


def test_targets_are_the_meshs_morphs_by_name_to_two_micrometres(glb: Glb, mesh: AvatarMesh) -> None:
    document = glb.json["meshes"][0]
    assert document["extras"]["targetNames"] == list(mesh.morph_names)
    assert document["weights"] == [0.0] * len(mesh.morph_names)
    assert len(primitive(glb)["targets"]) == len(mesh.morph_names)
    for target, morph in zip(primitive(glb)["targets"], mesh.morphs, strict=True):
        np.testing.assert_allclose(glb.accessor(target["POSITION"]), morph * 1e-3, atol=2.1e-6)


def test_the_texture_is_a_jpeg_of_the_meshs_texture(glb: Glb, mesh: AvatarMesh) -> None:
    (image,) = glb.json["images"]
    assert image["mimeType"] == "image/jpeg"
    picture = np.asarray(Image.open(io.BytesIO(glb.view(image["bufferView"]))))
    assert picture.shape == mesh.texture.shape
    assert np.abs(picture.astype(int) - mesh.texture).mean() < 3


def test_every_index_points_at_something(glb: Glb) -> None:
    assert glb.json["asset"] == {"version": "2.0", "generator": "avatar_pipeline"}
    assert glb.accessor(primitive(glb)["indices"]).max() < glb.json["accessors"][0]["count"]
    for accessor in range(len(glb.json["accessors"])):
        glb.accessor(accessor)
    used = json.dumps(glb.json["accessors"]).split('"bufferView": ')[1:]
    views = {int(text.split(",")[0].split("}")[0]) for text in used} | {glb.json["images"][0]["bufferView"]}
    assert views == set(range(len(glb.json["bufferViews"])))


def test_the_same_mesh_gives_the_same_bytes_and_a_small_file(mesh: AvatarMesh) -> None:
    data = glb_bytes(mesh)
    assert data == glb_bytes(mesh)
    assert len(data) < 800_000
