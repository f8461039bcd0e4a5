"""Soft masks over the face: which vertices a brow, an eye, a mouth or a cheek shape may move, and on which side."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from avatar_pipeline.mesh import topology

SIDE_BLEND = 6.0
"""Half-width in mm of the blend between the two sides of the face."""
_EYE_REACH = (22.0, 36.0)
"""Distances in mm from the middle of an eye at which eye shapes begin to fade, and are gone."""
_NOSE_BASE = 2
_EYE_CORNERS = (33, 133, 263, 362)


def _step(x: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """Rise smoothly from 0 at `low` to 1 at `high`."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    smooth: NDArray[np.float64] = t * t * (3 - 2 * t)
    return smooth


@cache
def region_masks() -> dict[str, NDArray[np.float64]]:
    """Return the masks (468,) in [0, 1]: 'brow', 'eye', 'mouth', 'cheek', 'nose'. Shared by all faces."""
    face = topology.TEMPLATE.astype(np.float64)
    y = face[:, 1]
    eye_line, nose = y[list(_EYE_CORNERS)].mean(), y[_NOSE_BASE]
    drop = eye_line - nose
    distance = np.min(
        [
            np.linalg.norm((face - face[list(loop)].mean(axis=0))[:, :2], axis=1)
            for loop in (topology.LEFT_EYE, topology.RIGHT_EYE)
        ],
        axis=0,
    )
    mouth = 1 - _step(y, nose - 0.05 * drop, nose + 0.6 * drop)
    return {
        "brow": _step(y, eye_line - 0.1 * drop, eye_line + 0.25 * drop),
        "eye": 1 - _step(distance, *_EYE_REACH),
        "mouth": mouth,
        "cheek": np.maximum(1 - _step(np.abs(y - (eye_line - 0.7 * drop)), 0.7 * drop, 1.3 * drop), mouth),
        "nose": 1 - _step(np.abs(y - (eye_line - 0.6 * drop)), 0.6 * drop, 1.2 * drop),
    }


@cache
def left_side() -> NDArray[np.float64]:
    """Return (468,) how much a vertex belongs to the subject's left side: 1, ½ in the middle, 0."""
    left: NDArray[np.float64] = 1 / (1 + np.exp(-topology.TEMPLATE[:, 0].astype(np.float64) / SIDE_BLEND))
    return left


def shape_mask(name: str) -> NDArray[np.float64]:
    """Return the mask (468,) of one ARKit shape: its region, and its side if it has one."""
    region = next(r for prefix, r in _REGION_OF if name.startswith(prefix))
    mask = region_masks()[region]
    if name in _WHOLE:
        return mask
    if name.endswith("Left"):
        return mask * left_side()
    if name.endswith("Right"):
        return mask * (1 - left_side())
    return mask


_WHOLE = ("jawLeft", "jawRight", "mouthLeft", "mouthRight")
"""Shapes named for a direction, not for a side."""
_REGION_OF = (
    ("brow", "brow"),
    ("eye", "eye"),
    ("cheek", "cheek"),
    ("nose", "nose"),
    ("jaw", "mouth"),
    ("mouth", "mouth"),
    ("tongue", "mouth"),
)


@cache
def far_from(vertices: tuple[int, ...], reach: float) -> tuple[int, ...]:
    """Return the vertices more than `reach` mm from all of `vertices` on the template."""
    face = topology.TEMPLATE.astype(np.float64)
    distance = np.linalg.norm(face[:, None] - face[list(vertices)][None], axis=2).min(axis=1)
    return tuple(np.flatnonzero(distance > reach).tolist())
