"""The atlas shared by all avatars: which texel shows which triangle, and how to fill what nothing is known of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatar_pipeline.mesh import topology


@dataclass(frozen=True, slots=True)
class Atlas:
    """Which triangle each texel shows: `triangle` (S, S) int32 (−1: none) and `barycentric` (S, S, 3) float32."""

    triangle: NDArray[np.int32]
    barycentric: NDArray[np.float32]


@cache
def atlas_triangles() -> NDArray[np.int32]:
    """Return the triangles of the atlas: the skin, then the eyes."""
    return np.concatenate([topology.TRIANGLES, topology.EYE_TRIANGLES])


@cache
def rasterise(size: int) -> Atlas:
    """Rasterise the UV layout once; texels just outside an edge belong to the triangle beside it."""
    triangle = np.full((size, size), -1, np.int32)
    barycentric = np.zeros((size, size, 3), np.float32)
    corners = topology.UV.astype(np.float64)[atlas_triangles()] * size - 0.5
    for k, (a, b, c) in enumerate(corners):
        low = np.maximum(np.floor(np.min([a, b, c], axis=0)).astype(int) - 1, 0)
        high = np.minimum(np.ceil(np.max([a, b, c], axis=0)).astype(int) + 2, size)
        x, y = np.meshgrid(np.arange(low[0], high[0]), np.arange(low[1], high[1]))
        area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        v = ((x - a[0]) * (c[1] - a[1]) - (y - a[1]) * (c[0] - a[0])) / area
        w = ((b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0])) / area
        weights = np.stack([1 - v - w, v, w], axis=-1)
        box = (slice(low[1], high[1]), slice(low[0], high[0]))
        inside = weights.min(axis=-1) >= 0
        take = inside | ((weights.min(axis=-1) >= -0.02) & (triangle[box] < 0))
        triangle[box][take] = k
        barycentric[box][take] = weights[take]
    return Atlas(triangle, barycentric)


def interpolate(values: NDArray[np.float64], atlas: Atlas) -> NDArray[np.float32]:
    """Interpolate vertex values (468, C) over the atlas (S, S, C)."""
    corners = atlas_triangles()[atlas.triangle]
    out = np.zeros((*atlas.triangle.shape, values.shape[1]), np.float32)
    for k in range(3):
        out += values.astype(np.float32)[corners[..., k]] * atlas.barycentric[..., k, None]
    return out


def push_pull(image: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return an image (H, W, 3) whose values of low `weight` (H, W) are filled from coarser and coarser averages.

    The push-pull pyramid of S. Gortler et al., "The Lumigraph", SIGGRAPH 1996.
    """
    import cv2

    if min(image.shape[:2]) <= 2:
        mean = (image * weight[..., None]).sum(axis=(0, 1)) / max(float(weight.sum()), 1e-6)
        return np.full(image.shape, mean, np.float32)
    half = (image.shape[1] // 2, image.shape[0] // 2)
    small_weight: Any = cv2.resize(weight, half, interpolation=cv2.INTER_AREA)
    small: Any = cv2.resize(image * weight[..., None], half, interpolation=cv2.INTER_AREA)
    small = small / np.maximum(small_weight, 1e-6)[..., None]
    coarse: Any = push_pull(small, np.minimum(small_weight * 4, 1))
    coarse = cv2.resize(coarse, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    filled: NDArray[np.float32] = image * weight[..., None] + coarse * (1 - weight[..., None])
    return filled
