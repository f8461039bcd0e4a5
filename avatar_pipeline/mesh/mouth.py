"""The mouth's inside: a pouch behind the lips, two rows of teeth and a tongue, and the paint they wear.

Everything is placed from the person's own lip line. The upper teeth belong to the skull, the lower teeth and the tongue
follow the jaw; no tooth ever comes through the lips or the cheeks.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from avatar_pipeline.mesh import topology
from avatar_pipeline.mesh.morphs import ARKIT
from avatar_pipeline.mesh.regions import shape_mask

Array = NDArray[np.float64]

_N = len(topology.MOUTH)
_TOOTH_COLUMNS = 15
_TONGUE_ROWS, _TONGUE_COLUMNS = 5, 7
_RINGS = 3
"""Rings of the pouch: a copy of the lip loop (it needs its own UVs), a middle and a back ring; then the cap."""
_LIP_THICKNESS = 0.13
"""Depth of the teeth behind the inner lip edge, over the mouth's width."""
_LOWER_LIP = (87, 14, 317)
"""Where the lower teeth go when the jaw moves: they stay as far below the lip's edge as at rest."""
_CLEARANCE = 1.5
"""Least distance in mm of a tooth behind the skin in front of it."""
_TONGUE_OUT = 16.0
"""Forward motion of the tip in mm for `tongueOut` at 1."""

CAVITY_UV = (0.005, 0.005, 0.155, 0.155)
UPPER_TEETH_UV = (0.845, 0.005, 0.995, 0.08)
LOWER_TEETH_UV = (0.845, 0.085, 0.995, 0.155)
TONGUE_UV = (0.005, 0.845, 0.155, 0.995)
"""(u0, v0, u1, v1) of the atlas corners that the face leaves free."""


@dataclass(frozen=True, slots=True)
class MouthInterior:
    """Vertices (N, 3) in mm, uv (N, 2), triangles (M, 3) that count from the first of them, and its named parts.

    The pouch comes first, its first 20 vertices being a copy of `topology.MOUTH`.
    """

    vertices: Array
    uv: Array
    triangles: NDArray[np.int32]
    pouch: slice
    upper_teeth: slice
    lower_teeth: slice
    tongue: slice


def build_mouth(face: Array) -> MouthInterior:
    """Build the mouth's inside for a face (468, 3) whose lips are sealed."""
    line = _LipLine.of(face)
    parts = [_pouch(face, line), _teeth(line, upper=True), _teeth(line, upper=False), _tongue(line)]
    starts = np.cumsum([0, *(len(part[0]) for part in parts)])
    slices = [slice(a, b) for a, b in pairwise(starts.tolist())]
    triangles = np.concatenate([part[2] + start for part, start in zip(parts, starts[:-1], strict=True)])
    return MouthInterior(
        np.concatenate([part[0] for part in parts]),
        np.concatenate([part[1] for part in parts]),
        triangles.astype(np.int32),
        *slices,
    )


@dataclass(frozen=True, slots=True)
class _LipLine:
    """Where the closed lips meet: a middle point, a width, and z = middle + bend·x² along it; y likewise."""

    middle: Array
    width: float
    bend_y: float
    bend_z: float

    @classmethod
    def of(cls, face: Array) -> _LipLine:
        loop = face[list(topology.MOUTH)]
        x = loop[:, 0] - loop[:, 0].mean()
        basis = np.stack([np.ones(_N), x**2], axis=1)
        (y0, bend_y), (z0, bend_z) = np.linalg.lstsq(basis, loop[:, 1:], rcond=None)[0].T
        return cls(np.array([loop[:, 0].mean(), y0, z0]), float(np.ptp(loop[:, 0])), float(bend_y), float(bend_z))

    def at(self, x: Array) -> Array:
        """Return points (N, 3) of the line at `x` from its middle."""
        points: Array = self.middle + np.stack([x, self.bend_y * x**2, self.bend_z * x**2], axis=1)
        return points


def _pouch(face: Array, line: _LipLine) -> tuple[Array, Array, Array]:
    loop = face[list(topology.MOUTH)]
    w = line.width
    side = np.array([0.0, *[1.0] * 9, 0.0, *[-1.0] * 9])
    arch = np.clip(1 - ((loop[:, 0] - line.middle[0]) / (0.52 * w)) ** 2, 0, 1)
    rings = [loop]
    for depth, rise, narrow in ((0.10, 0.05, 0.98), (0.50, 0.26, 0.85)):
        ring = (loop - line.middle) * [narrow, 1, 1] + line.middle
        rings.append(ring + np.stack([0 * side, side * arch * rise * w, np.full(_N, -depth * w)], axis=1))
    cap = line.middle + np.array([0, -0.05 * w, -0.62 * w])
    angle = np.arange(_N) * (2 * np.pi / _N)
    circle = np.stack([-np.cos(angle), -np.sin(angle)], axis=1)
    uv = np.concatenate([*(circle * radius for radius in (0.95, 0.7, 0.3)), np.zeros((1, 2))])
    triangles = []
    for ring_index in range(_RINGS - 1):
        for k in range(_N):
            a, b = ring_index * _N + k, ring_index * _N + (k + 1) % _N
            triangles += [(b, a, a + _N), (b, a + _N, b + _N)]
    back = (_RINGS - 1) * _N
    triangles += [(back + (k + 1) % _N, back + k, _RINGS * _N) for k in range(_N)]
    return np.concatenate([*rings, cap[None]]), _into(CAVITY_UV, (uv + 1) / 2), np.array(triangles)


def _into(box: tuple[float, float, float, float], unit: Array) -> Array:
    """Map the unit square into a box of the atlas."""
    low, high = np.array(box[:2]), np.array(box[2:])
    mapped: Array = low + unit * (high - low)
    return mapped


def _grid(rows: int, columns: int) -> list[tuple[int, int, int]]:
    """Return the triangles of a grid whose rows go down and whose columns go to the subject's left."""
    triangles = []
    for r in range(rows - 1):
        for c in range(columns - 1):
            a = r * columns + c
            triangles += [(a, a + columns, a + 1), (a + 1, a + columns, a + columns + 1)]
    return triangles


def _teeth(line: _LipLine, *, upper: bool) -> tuple[Array, Array, Array]:
    """Return one row of teeth: a bent strip from the gum to the biting edge, which overlaps the other row's."""
    w = line.width
    x = np.linspace(-0.44, 0.44, _TOOTH_COLUMNS) * w
    arc = line.at(x)
    arc[:, 1] = line.middle[1]
    depth = _LIP_THICKNESS * w + (0 if upper else 0.05 * w)
    gum, edge = (0.18 * w, -0.055 * w) if upper else (-0.24 * w, -0.02 * w)
    rows = [arc + np.array([0, y, -depth]) for y in ((gum, edge) if upper else (edge, gum))]
    box = UPPER_TEETH_UV if upper else LOWER_TEETH_UV
    across = np.linspace(0, 1, _TOOTH_COLUMNS)
    unit = np.concatenate([np.stack([across, np.full(_TOOTH_COLUMNS, v)], axis=1) for v in (0.0, 1.0)])
    return np.concatenate(rows), _into(box, unit), np.array(_grid(2, _TOOTH_COLUMNS))


def _tongue(line: _LipLine) -> tuple[Array, Array, Array]:
    """Return a tongue at rest behind the lower teeth: from its back over the tip to under it."""
    w = line.width
    across = np.linspace(-1, 1, _TONGUE_COLUMNS)
    tip = -(_LIP_THICKNESS + 0.10) * w
    profile = ((-0.02, -0.34, 0.26), (0.0, -0.20, 0.27), (-0.05, -0.05, 0.24), (-0.10, 0.0, 0.20), (-0.17, -0.03, 0.18))
    rows = []
    for y, back, half in profile:
        bend = back * w - 0.10 * w * across**2
        rows.append(line.middle + np.stack([across * half * w, y * w - 0.05 * w * across**2, tip + bend], axis=1))
    grid_u, grid_v = np.meshgrid((across + 1) / 2, np.linspace(0, 1, _TONGUE_ROWS))
    unit = np.stack([grid_u.ravel(), grid_v.ravel()], axis=1)
    return np.concatenate(rows), _into(TONGUE_UV, unit), np.array(_grid(_TONGUE_ROWS, _TONGUE_COLUMNS))


def mouth_shapes(mouth: MouthInterior, shapes: Array) -> Array:
    """Return displacements (52, N, 3) of the mouth's inside for a person's ARKit shapes (52, 468, 3)."""
    moved = np.zeros((len(shapes), len(mouth.vertices), 3))
    jaw = np.zeros((len(shapes), 1, 3))
    for k, name in enumerate(ARKIT):
        if name.startswith("jaw"):
            jaw[k] = shapes[k, list(_LOWER_LIP)].mean(axis=0)
    lower = np.array([0.5, *[0.0] * 9, 0.5, *[1.0] * 9])[:, None]
    moved[:, 2 * _N : 3 * _N] = jaw * lower
    moved[:, 3 * _N] = jaw[:, 0] / 2
    moved[:, mouth.lower_teeth] = jaw
    moved[:, mouth.tongue] = jaw * 0.85
    reach = np.repeat([0.0, 0.35, 0.9, 1.0, 0.9], _TONGUE_COLUMNS)[:, None]
    moved[ARKIT.index("tongueOut"), mouth.tongue] = reach * [0.0, 0.08 * _TONGUE_OUT, _TONGUE_OUT]
    return follow_lips(moved, shapes)


def follow_lips(moved: Array, shapes: Array) -> Array:
    """Return `moved` (K, N, 3) with the pouch's first two rings moving as the lips do in `shapes` (K, 468, 3)."""
    followed = moved.copy()
    followed[:, :_N] = followed[:, _N : 2 * _N] = shapes[:, list(topology.MOUTH)]
    return followed


def keep_teeth_behind(mouth: MouthInterior, moved: Array, face: Array, shapes: Array) -> Array:
    """Push teeth back, shape by shape, where they would come through the skin.

    Args:
        mouth: the mouth's inside at rest.
        moved: (K, N, 3) its displacements.
        face: (468, 3) the face at rest.
        shapes: (K, 468, 3) its displacements.

    Returns:
        (K, N, 3) displacements with every tooth at least 1.5 mm behind the skin in front of it.
    """
    teeth = np.r_[mouth.upper_teeth, mouth.lower_teeth]
    triangles = topology.TRIANGLES[(shape_mask("jawOpen") > 0)[topology.TRIANGLES].any(axis=1)]
    kept = moved.copy()
    for k in range(len(shapes)):
        points = mouth.vertices[teeth] + moved[k, teeth]
        kept[k, teeth, 2] -= np.maximum(points[:, 2] + _CLEARANCE - _skin_depth(points, face + shapes[k], triangles), 0)
    return kept


def _skin_depth(points: Array, face: Array, triangles: NDArray[np.int32]) -> Array:
    """Return the least z (N,) of the skin in front of or behind each point, seen from the front; inf beside it."""
    a, b, c = (face[triangles[:, k]] for k in range(3))
    d = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    d = np.where(np.abs(d) < 1e-9, np.inf, d)
    px, py = points[:, :1] - a[:, 0], points[:, 1:2] - a[:, 1]
    v = (px * (c[:, 1] - a[:, 1]) - py * (c[:, 0] - a[:, 0])) / d
    w = (py * (b[:, 0] - a[:, 0]) - px * (b[:, 1] - a[:, 1])) / d
    z = a[:, 2] + v * (b[:, 2] - a[:, 2]) + w * (c[:, 2] - a[:, 2])
    inside = (v >= 0) & (w >= 0) & (v + w <= 1) & (d > 0) & np.isfinite(d)
    depth: Array = np.where(inside, z, np.inf).min(axis=1)
    return depth
