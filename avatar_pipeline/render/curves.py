"""From mouth shapes over time to weights of a mesh's morph targets."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.mesh.types import AvatarMesh
from avatar_pipeline.voice.visemes import VISEMES

UPPER_LIP, LOWER_LIP = 13, 14
"""The middle of the inner upper and lower lip in MediaPipe's face mesh."""

_SILENT = 1.0 - 1e-4


def morph_weights(curves: NDArray[np.float32], mesh: AvatarMesh, *, smoothing: float = 0.0) -> NDArray[np.float32]:
    """Turn viseme curves (T, 15), in the order of `VISEMES`, into weights (T, K) over `mesh.morph_names`.

    Only the mesh's `viseme_*` targets get weight: eyes and brows stay those of the footage. `smoothing` is the sigma,
    in frames, of a zero-phase Gaussian; frames that are wholly 'sil' stay exactly at rest whatever it is.

    Raises:
        InvalidInput: the curves have another shape, or the mesh lacks a viseme target.
    """
    if curves.ndim != 2 or curves.shape[1] != len(VISEMES):
        raise InvalidInput(
            f"Viseme curves have shape {curves.shape}; (frames, {len(VISEMES)}) is needed.",
            remedy="Make them with viseme_curves.",
        )
    missing = [name for name in VISEMES if f"viseme_{name}" not in mesh.morph_names]
    if missing:
        raise InvalidInput(
            f"The mesh lacks the morph targets of the visemes {', '.join(missing)}.",
            remedy="Build the mesh again with this version.",
        )
    silence = VISEMES.index("sil")
    values = np.clip(curves, 0.0, 1.0).astype(np.float64)
    at_rest = values[:, silence] >= _SILENT
    if smoothing > 0 and len(values):
        from scipy.ndimage import gaussian_filter1d

        values = gaussian_filter1d(values, smoothing, axis=0, mode="nearest")
    values[at_rest] = 0.0
    values[:, silence] = 0.0
    weights = np.zeros((len(values), len(mesh.morph_names)), np.float32)
    weights[:, [mesh.morph_names.index(f"viseme_{name}") for name in VISEMES]] = values
    return weights


def lip_gap(mesh: AvatarMesh, weights: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the inner-lip gap (T,) in mm that weights (T, K) command: 0 where the lips touch or overlap."""
    lips = [UPPER_LIP, LOWER_LIP]
    heights = mesh.vertices[lips, 1].astype(np.float64)
    moved = heights + np.asarray(weights, np.float64) @ mesh.morphs[:, lips, 1].astype(np.float64)
    gap: NDArray[np.float64] = np.maximum(moved[:, 0] - moved[:, 1], 0.0)
    return gap
