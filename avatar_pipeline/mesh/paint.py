"""Paint the mouth's inside into the free corners of the atlas: palate, teeth with gums, tongue."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatar_pipeline.mesh.mouth import CAVITY_UV, LOWER_TEETH_UV, TONGUE_UV, UPPER_TEETH_UV

Array = NDArray[np.float64]

_THROAT = np.array([26.0, 8.0, 9.0])
_MUCOSA = np.array([120.0, 48.0, 48.0])
_TONGUE = np.array([176.0, 92.0, 90.0])
_ENAMEL = np.array([208.0, 196.0, 178.0])
_WARMTH = np.array([0.85, 1.08, 1.2])
"""Exponents of the shade by channel: between cheeks and lips the shadows are red."""
_GUM = np.array([150.0, 82.0, 80.0])
_UPPER_WIDTHS = (8.5, 6.6, 7.6, 7.0, 6.8)
_LOWER_WIDTHS = (5.3, 5.8, 6.8, 7.0, 7.1)
"""Widths of the teeth in mm from the middle outwards (R. C. Wheeler, "Dental Anatomy")."""


def paint_mouth(atlas: NDArray[np.uint8], *, light: float, lips: NDArray[np.floating[Any]]) -> None:
    """Paint into `atlas` (S, S, 3), in place.

    Args:
        atlas: the texture, sRGB.
        light: brightness of the person's picture, 1 for a well-lit face.
        lips: (3,) their lip colour, which the inside starts from at the lips.
    """
    for box, painter in (
        (CAVITY_UV, lambda u, v: _cavity(u, v, np.asarray(lips, np.float64), light)),
        (UPPER_TEETH_UV, lambda u, v: _teeth(u, v, _UPPER_WIDTHS) * light),
        (LOWER_TEETH_UV, lambda u, v: _teeth(u, 1 - v, _LOWER_WIDTHS) * light),
        (TONGUE_UV, lambda u, v: _tongue(u, v) * light),
    ):
        size = len(atlas)
        # two texels more on each side, so that filtering never reaches the face
        (u0, v0), (u1, v1) = (
            np.floor(np.array(box[:2]) * size).astype(int),
            np.ceil(np.array(box[2:]) * size).astype(int),
        )
        u0, v0, u1, v1 = max(u0 - 2, 0), max(v0 - 2, 0), min(u1 + 2, size), min(v1 + 2, size)
        x, y = np.meshgrid((np.arange(u0, u1) + 0.5) / size, (np.arange(v0, v1) + 0.5) / size)
        u = np.clip((x - box[0]) / (box[2] - box[0]), 0, 1)
        v = np.clip((y - box[1]) / (box[3] - box[1]), 0, 1)
        atlas[v0:v1, u0:u1] = np.clip(np.round(painter(u, v)), 0, 255).astype(np.uint8)


def _blend(a: Array, b: Array, t: Array) -> Array:
    """Return a·(1 − t) + b·t over the last axis of colours."""
    t = t[..., None]
    blend: Array = a * (1 - t) + b * t
    return blend


def _cavity(u: Array, v: Array, lips: Array, light: float) -> Array:
    """Lip colour at the rim, mucosa, then the dark of the throat."""
    radius = np.hypot(2 * u - 1, 2 * v - 1)
    inner = _blend(_THROAT * light, _MUCOSA * 0.55 * light, np.clip((radius - 0.2) / 0.5, 0, 1))
    rim: Array = np.clip((radius - 0.7) / 0.25, 0, 1)
    return _blend(inner, lips * 0.62, rim * rim)


def _teeth(u: Array, v: Array, widths: tuple[float, ...]) -> Array:
    """Teeth from the gum (v = 0) to the biting edge (v = 1), darker towards the molars."""
    edges = np.cumsum([0.0, *widths])
    place = np.abs(2 * u - 1) * edges[-1]
    index = np.clip(np.searchsorted(edges, place, side="right") - 1, 0, len(widths) - 1)
    within = (place - edges[index]) / np.array(widths)[index]
    bulge = np.clip(1 - (2 * within - 1) ** 2, 0, 1)
    shade = (0.80 + 0.20 * bulge**0.5) * (1 - 0.85 * (place / edges[-1]) ** 1.6)
    crown = _ENAMEL * shade[..., None] ** _WARMTH * (0.72 + 0.28 * v)[..., None]
    gum_line = 0.30 + 0.12 * (1 - bulge**0.5)
    picture = _blend(
        _GUM * (0.9 - 0.5 * (place / edges[-1]))[..., None], crown, np.clip((v - gum_line) / 0.05 + 0.5, 0, 1)
    )
    # rounded corners: between two teeth the dark shows near the biting edge
    notch = np.clip((v - (0.97 - 0.16 * (1 - bulge**0.35))) / 0.04, 0, 1)
    return _blend(picture, _THROAT, notch)


def _tongue(u: Array, v: Array) -> Array:
    """Darker to the back (v = 0), a furrow in the middle."""
    furrow = 1 - 0.18 * np.exp(-0.5 * ((u - 0.5) / 0.03) ** 2)
    shaded: Array = (
        _TONGUE * (furrow * (0.35 + 0.65 * np.clip(v * 1.6, 0, 1)) * (1 - 0.5 * (2 * u - 1) ** 4))[..., None]
    )
    return shaded
