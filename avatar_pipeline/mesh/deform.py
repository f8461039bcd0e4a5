"""Smooth deformation of the face mesh: a few vertices are told where to go, their surroundings follow."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatar_pipeline.mesh import topology
from avatar_pipeline.mesh.types import FACE_VERTICES

_UNTANGLE_ROUNDS = 40


@cache
def _laplacian() -> NDArray[np.float64]:
    """Return the mesh's graph Laplacian (468, 468), edges weighted by inverse length on the template."""
    L = np.zeros((FACE_VERTICES, FACE_VERTICES))
    t = topology.TRIANGLES
    for a, b in ((0, 1), (1, 2), (2, 0)):
        weight = 1.0 / np.linalg.norm(topology.TEMPLATE[t[:, a]] - topology.TEMPLATE[t[:, b]], axis=1)
        for i, j in ((t[:, a], t[:, b]), (t[:, b], t[:, a])):
            L[i, j] = -weight
    np.fill_diagonal(L, -L.sum(axis=1))
    return L


@cache
def _harmonic_fields(pinned: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the map (468, P) from values at pinned vertices to the harmonic field over all vertices."""
    L = _laplacian()
    free = np.setdiff1d(np.arange(FACE_VERTICES), pinned)
    field = np.zeros((FACE_VERTICES, len(pinned)))
    field[list(pinned)] = np.eye(len(pinned))
    field[free] = -np.linalg.solve(L[free][:, free], L[free][:, list(pinned)])
    return field


def extend(moved: tuple[int, ...], values: NDArray[np.float64], still: tuple[int, ...]) -> NDArray[np.float64]:
    """Extend displacements of a few vertices over the whole face.

    The field is harmonic on the mesh (M. Botsch and O. Sorkine, "On linear variational surface deformation methods",
    TVCG 2008): nowhere larger than what it is given.

    Args:
        moved: vertices with given displacements.
        values: (len(moved), C) their displacements.
        still: vertices that stay; those in `moved` are left out.

    Returns:
        (468, C) displacements: exactly `values` at `moved`, exactly 0 at `still`.
    """
    rest = tuple(sorted(set(still) - set(moved)))
    given = np.concatenate([values, np.zeros((len(rest), values.shape[1]))])
    field: NDArray[np.float64] = _harmonic_fields(tuple(moved) + rest) @ given
    field[list(moved)] = values
    field[list(rest)] = 0.0
    return field


def vertex_normals(vertices: NDArray[np.float64], triangles: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return area-weighted unit normals (V, 3)."""
    corners = vertices[triangles]
    face = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros(vertices.shape)
    for k in range(3):
        np.add.at(normals, triangles[:, k], face)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    unit: NDArray[np.float64] = normals / np.maximum(length, 1e-12)
    return unit


@cache
def _neighbour_means() -> NDArray[np.float64]:
    """Return the matrix (468, 468) that takes the plain mean over each vertex's neighbours."""
    adjacent = (_laplacian() < 0).astype(np.float64)
    means: NDArray[np.float64] = adjacent / adjacent.sum(axis=1, keepdims=True)
    return means


def flipped_triangles(face: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Tell for each skin triangle (852,) of a face (468, 3) whether it points more than 90° away from the template's.

    A triangle that is not a number counts as flipped.
    """
    t = topology.TRIANGLES

    def normals(points: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        a, b, c = (points[t[:, k]].astype(np.float64) for k in range(3))
        crossed: NDArray[np.float64] = np.cross(b - a, c - a)
        return crossed

    agree: NDArray[np.bool_] = (normals(face) * normals(topology.TEMPLATE)).sum(axis=1) > 0
    return ~agree


def untangle(face: NDArray[np.float64], fixed: tuple[int, ...]) -> NDArray[np.float64]:
    """Return a face (468, 3) whose folds of tracking noise are smoothed away, such as those in the corners of the lips.

    The vertices of flipped triangles are drawn to where the template has them relative to their neighbours, a little a
    round, until none is flipped or the rounds are used up: a face that is really broken stays so. `fixed` stay.
    """
    smoothed = face.copy()
    movable = np.ones(len(face), bool)
    movable[list(fixed)] = False
    template = topology.TEMPLATE.astype(np.float64)
    offset = template - _neighbour_means() @ template
    for _ in range(_UNTANGLE_ROUNDS):
        flipped = flipped_triangles(smoothed)
        if not flipped.any():
            break
        moved = np.unique(topology.TRIANGLES[flipped])
        moved = moved[movable[moved]]
        target = _neighbour_means()[moved] @ smoothed + offset[moved]
        smoothed[moved] += 0.3 * (target - smoothed[moved])
    return smoothed
