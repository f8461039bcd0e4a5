"""Checks of a finished mesh, each of which can fail."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avatar_pipeline.mesh.deform import flipped_triangles
from avatar_pipeline.mesh.topology import signed_uv_area
from avatar_pipeline.mesh.types import FACE_VERTICES, AvatarMesh

_LEAST_AREA = 1e-3
"""In mm²: a triangle of 0.04 mm. The smallest of the template's is a thousand times larger."""


@dataclass(frozen=True, slots=True)
class MeshFaults:
    """Numbers of faulty triangles at rest; see `check_mesh`."""

    degenerate_triangles: int
    flipped_uv_triangles: int
    flipped_normals: int


def check_mesh(mesh: AvatarMesh) -> MeshFaults:
    """Count the faulty triangles of a mesh at rest.

    Degenerate: of the skin and the eyes, and of the mouth's inside, with an area below 0.001 mm² or not a number.
    Flipped in UV: wound the wrong way in the atlas. Flipped normal: a skin triangle turned by more than 90° from where
    the same triangle of the template points. (Plain 'faces away from the viewer' would be wrong: under the nose and at
    the rim a sound face has such triangles, and so has the template.)
    """
    a, b, c = (mesh.vertices[mesh.faces[:, k]].astype(np.float64) for k in range(3))
    areas = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
    return MeshFaults(
        degenerate_triangles=int((~(areas >= _LEAST_AREA)).sum()),
        flipped_uv_triangles=int((~(signed_uv_area(mesh.uv, mesh.faces) > 0)).sum()),
        flipped_normals=int(flipped_triangles(mesh.vertices[:FACE_VERTICES]).sum()),
    )
