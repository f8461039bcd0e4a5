"""The fixed topology of every face: triangles, hole loops, the mirror map, the UV layout and a template.

All of it is shared by all avatars, so that textures, index buffers and morphs are interchangeable. The arrays come from
a small shipped file (made by `python -m training.blendshapes topology`) and are read on first use:

`TRIANGLES` (852, 3) int32: the skin, counter-clockwise seen from the front, a manifold over the 468 vertices with four
boundary loops. `EYE_TRIANGLES` (28, 3) int32: they close the two eyes. `MIRROR` (468,) int32: the vertex on the other
side of the face. `UV` (468, 2) float32: the atlas layout, u to the subject's left, v down, symmetric about u = ½, no
triangle flipped. `TEMPLATE` (468, 3) float32 mm: MediaPipe's canonical face, symmetric, nobody's; object coordinates as
in `AvatarMesh`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

TOPOLOGY_FILE = Path(__file__).parent / "data" / "topology.npz"

TRIANGLES: NDArray[np.int32]
EYE_TRIANGLES: NDArray[np.int32]
MIRROR: NDArray[np.int32]
UV: NDArray[np.float32]
TEMPLATE: NDArray[np.float32]

# fmt: off
OVAL = (
    10, 109, 67, 103, 54, 21, 162, 127, 234, 93, 132, 58, 172, 136, 150, 149, 176, 148,
    152, 377, 400, 378, 379, 365, 397, 288, 361, 323, 454, 356, 389, 251, 284, 332, 297, 338,
)
"""The outer boundary (36), from the top of the forehead down the subject's right side, and up the left."""
MOUTH = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
"""The inner lips (20), from the right corner along the upper lip to the left corner (308) and back along the lower."""
RIGHT_EYE = (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7)
"""The lids of the right eye (16), from the outer corner along the upper lid to the inner corner (133) and back."""
LEFT_EYE = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
"""The lids of the left eye (16), from the outer corner along the lower lid to the inner corner (362) and back."""
# fmt: on

LIP_PAIRS = tuple((MOUTH[k], MOUTH[-k]) for k in range(1, 10))
"""(upper, lower) inner-lip vertices that meet when the mouth is shut, right to left."""
RIGHT_LID_PAIRS = tuple((RIGHT_EYE[k], RIGHT_EYE[-k]) for k in range(1, 8))
"""(upper, lower) lid vertices of the right eye that meet in a blink, outer to inner."""
LEFT_LID_PAIRS = tuple((LEFT_EYE[-k], LEFT_EYE[k]) for k in range(1, 8))
"""(upper, lower) lid vertices of the left eye that meet in a blink, outer to inner."""

_ARRAYS = ("TRIANGLES", "EYE_TRIANGLES", "MIRROR", "UV", "TEMPLATE")


@cache
def _load() -> dict[str, NDArray[np.float32] | NDArray[np.int32]]:
    """Read the shipped file once; the arrays are read-only."""
    with np.load(TOPOLOGY_FILE, allow_pickle=False) as file:
        arrays = {name: file[name.lower()] for name in _ARRAYS}
    for array in arrays.values():
        array.flags.writeable = False
    return arrays


def __getattr__(name: str) -> NDArray[np.float32] | NDArray[np.int32]:
    if name in _ARRAYS:
        return _load()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache
def loop_triangles(loop: tuple[int, ...]) -> tuple[tuple[int, int, int], ...]:
    """Close a hole of even length by quads between its two sides, and a triangle at each of its two corners.

    `loop` follows the surrounding triangles' edges and starts at a corner; the result is oriented as they are.
    """
    n = len(loop)
    triangles = []
    for k in range(n // 2):
        a, b, c, d = loop[k], loop[k + 1], loop[n - k - 1], loop[-k % n]
        if a != d:
            triangles.append((a, d, c))
        if b != c:
            triangles.append((a, c, b))
    return tuple(triangles)


def signed_uv_area(uv: NDArray[np.float32], triangles: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return the area (F,) of triangles in the atlas: positive where they face as the skin does."""
    a, b, c = (uv[triangles[:, k]].astype(np.float64) for k in range(3))
    # v points down, which turns the sign of the usual cross product
    area: NDArray[np.float64] = -0.5 * (
        (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    )
    return area
