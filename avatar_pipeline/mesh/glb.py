"""Write a mesh as one binary glTF 2.0 file (Khronos, https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html).

The usual libraries fall short: trimesh exports no morph targets, and pygltflib is a bag of JSON classes around the same
bytes. What is needed is small: one mesh, one texture, morph targets as sparse accessors.
"""

from __future__ import annotations

import io
import json
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatar_pipeline.mesh.deform import vertex_normals
from avatar_pipeline.mesh.types import AvatarMesh

GENERATOR = "avatar_pipeline"
_MM = 1e-3
_LEAST_DISPLACEMENT = 2e-6
"""In metres: smaller displacements are left out of a sparse morph target."""
_SPARSE_SHARE = 0.75
"""Above this share of moved vertices a dense accessor is smaller."""
_JPEG_QUALITY = 90

_FLOAT, _UNSIGNED_SHORT = 5126, 5123
_ARRAY_BUFFER, _ELEMENT_ARRAY_BUFFER = 34962, 34963
_LINEAR, _LINEAR_MIPMAP_LINEAR, _CLAMP = 9729, 9987, 33071
_MAGIC, _JSON_CHUNK, _BIN_CHUNK = 0x46546C67, 0x4E4F534A, 0x004E4942


class _Buffer:
    """The binary chunk as it grows, with its buffer views and accessors."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def view(self, data: bytes, target: int | None = None) -> int:
        """Append bytes, aligned to four, as a buffer view; return its index."""
        self.data += b"\0" * (-len(self.data) % 4)
        view = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(data)}
        self.views.append(view if target is None else view | {"target": target})
        self.data += data
        return len(self.views) - 1

    def accessor(self, **fields: object) -> int:
        """Append an accessor; return its index."""
        self.accessors.append(fields)
        return len(self.accessors) - 1

    def vectors(self, values: NDArray[np.float32], *, bounds: bool = False) -> int:
        """Append (N, 2) or (N, 3) floats of vertices."""
        extent = {"min": values.min(axis=0).tolist(), "max": values.max(axis=0).tolist()} if bounds else {}
        return self.accessor(
            bufferView=self.view(values.tobytes(), _ARRAY_BUFFER),
            componentType=_FLOAT,
            count=len(values),
            type=f"VEC{values.shape[1]}",
            **extent,
        )

    def displacements(self, values: NDArray[np.float32]) -> int:
        """Append a morph target (N, 3): sparse where few vertices move, without data where none does."""
        moved = np.flatnonzero(np.abs(values).max(axis=1) > _LEAST_DISPLACEMENT)
        kept = np.zeros_like(values)
        kept[moved] = values[moved]
        if len(moved) > _SPARSE_SHARE * len(values):
            return self.vectors(kept, bounds=True)
        fields: dict[str, Any] = {
            "componentType": _FLOAT,
            "count": len(values),
            "type": "VEC3",
            "min": kept.min(axis=0).tolist(),
            "max": kept.max(axis=0).tolist(),
        }
        if len(moved):
            fields["sparse"] = {
                "count": len(moved),
                "indices": {
                    "bufferView": self.view(moved.astype(np.uint16).tobytes()),
                    "componentType": _UNSIGNED_SHORT,
                },
                "values": {"bufferView": self.view(kept[moved].tobytes())},
            }
        return self.accessor(**fields)


def glb_bytes(mesh: AvatarMesh) -> bytes:
    """Return the mesh as a GLB file: metres, y up, facing +z, one primitive, morph targets named in `extras`.

    The same mesh gives the same bytes. Normals are smooth; the texture is a JPEG inside the file.
    """
    buffer = _Buffer()
    primitive = {
        "attributes": {
            "POSITION": buffer.vectors((mesh.vertices * _MM).astype(np.float32), bounds=True),
            "NORMAL": buffer.vectors(vertex_normals(mesh.vertices.astype(np.float64), mesh.faces).astype(np.float32)),
            "TEXCOORD_0": buffer.vectors(mesh.uv.astype(np.float32)),
        },
        "indices": buffer.accessor(
            bufferView=buffer.view(mesh.faces.astype(np.uint16).tobytes(), _ELEMENT_ARRAY_BUFFER),
            componentType=_UNSIGNED_SHORT,
            count=mesh.faces.size,
            type="SCALAR",
        ),
        "material": 0,
        "targets": [{"POSITION": buffer.displacements((shape * _MM).astype(np.float32))} for shape in mesh.morphs],
    }
    image = buffer.view(_jpeg(mesh.texture))
    document = {
        "asset": {"version": "2.0", "generator": GENERATOR},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"name": "Head", "mesh": 0}],
        "meshes": [
            {
                "name": "Head",
                "primitives": [primitive],
                "weights": [0.0] * len(mesh.morph_names),
                "extras": {"targetNames": list(mesh.morph_names)},
            }
        ],
        "materials": [
            {
                "name": "Skin",
                "pbrMetallicRoughness": {
                    "baseColorTexture": {"index": 0},
                    "metallicFactor": 0.0,
                    "roughnessFactor": 0.75,
                },
            }
        ],
        "textures": [{"source": 0, "sampler": 0}],
        "samplers": [
            {"magFilter": _LINEAR, "minFilter": _LINEAR_MIPMAP_LINEAR, "wrapS": _CLAMP, "wrapT": _CLAMP},
        ],
        "images": [{"bufferView": image, "mimeType": "image/jpeg"}],
        "accessors": buffer.accessors,
        "bufferViews": buffer.views,
        "buffers": [{"byteLength": len(buffer.data)}],
    }
    return _container(document, bytes(buffer.data))


def _jpeg(texture: NDArray[np.uint8]) -> bytes:
    """Encode the texture as a baseline JPEG without metadata."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(texture).save(file, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return file.getvalue()


def _container(document: dict[str, Any], binary: bytes) -> bytes:
    """Join the JSON and the binary chunk, each padded to four bytes, behind the GLB header."""
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    length = 12 + 8 + len(text) + 8 + len(binary)
    return b"".join(
        (
            struct.pack("<III", _MAGIC, 2, length),
            struct.pack("<II", len(text), _JSON_CHUNK),
            text,
            struct.pack("<II", len(binary), _BIN_CHUNK),
            binary,
        )
    )
