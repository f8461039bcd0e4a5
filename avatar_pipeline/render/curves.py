"""From mouth shapes over time to weights of a mesh's morph targets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.mesh.morphs import ARKIT, VISEME_MIX
from avatar_pipeline.mesh.types import AvatarMesh
from avatar_pipeline.voice.emphasis import CLOSED
from avatar_pipeline.voice.visemes import VISEMES

UPPER_LIP, LOWER_LIP = 13, 14
"""The middle of the inner upper and lower lip in MediaPipe's face mesh."""

LEAST_GAIN, MOST_GAIN = 0.0, 2.0

_SILENT = 1.0 - 1e-4


@dataclass(frozen=True, slots=True)
class SpeakingStyle:
    """How far a person moves the jaw and the lips in speech, each 0 to 2; 1 is as usual.

    The two axes of P. Edwards et al., "JALI: an animator-centric viseme model for expressive lip synchronization",
    SIGGRAPH 2016: little of both mumbles, much of both enunciates. Lips meet, and lip meets teeth, whatever the style.

    Raises:
        InvalidInput: a gain is out of its range.
    """

    jaw: float = 1.0
    lips: float = 1.0

    def __post_init__(self) -> None:
        for name, gain in (("jaw", self.jaw), ("lips", self.lips)):
            if not LEAST_GAIN <= gain <= MOST_GAIN:
                raise InvalidInput(
                    f"The speaking style's {name} is {gain:g}; it must be from {LEAST_GAIN:g} to {MOST_GAIN:g}.",
                    remedy="Choose a gain within these limits; 1 changes nothing.",
                )

    def gains(self) -> NDArray[np.float64]:
        """Return what each ARKit shape is multiplied by in each viseme (15, 52)."""
        shape = [
            self.jaw if name.startswith("jaw") else self.lips if name.startswith("mouth") else 1.0 for name in ARKIT
        ]
        gains = np.tile(np.array(shape), (len(VISEMES), 1))
        gains[[VISEMES.index(name) for name in CLOSED]] = 1.0
        return gains


AS_USUAL = SpeakingStyle()

_MIX = np.array([[VISEME_MIX[viseme].get(name, 0.0) for name in ARKIT] for viseme in VISEMES])


def arkit_curves(curves: NDArray[np.float32], style: SpeakingStyle = AS_USUAL) -> dict[str, NDArray[np.float64]]:
    """Blend viseme curves (T, 15) into curves (T,) of ARKit shapes, each 0 to 1, by name; shapes at rest are left out.

    Raises:
        InvalidInput: the curves have another shape.
    """
    blended = np.clip(_checked(curves).astype(np.float64) @ (_MIX * style.gains()), 0.0, 1.0)
    return {name: blended[:, index] for index, name in enumerate(ARKIT) if blended[:, index].any()}


def morph_weights(
    curves: NDArray[np.float32], mesh: AvatarMesh, *, smoothing: float = 0.0, style: SpeakingStyle = AS_USUAL
) -> NDArray[np.float32]:
    """Turn viseme curves (T, 15), in the order of `VISEMES`, into weights (T, K) over `mesh.morph_names`.

    The mesh's `viseme_*` targets get weight, and where `style` asks for more or less of the jaw or the lips, their
    ARKit shapes get the difference, which may be negative; eyes and brows stay those of the footage. `smoothing` is the
    sigma, in frames, of a zero-phase Gaussian; frames that are wholly 'sil' stay exactly at rest whatever it is.

    Raises:
        InvalidInput: the curves have another shape, or the mesh lacks a target.
    """
    wanted = [f"viseme_{name}" for name in VISEMES]
    change = _MIX * (style.gains() - 1.0)
    changed = [index for index in range(len(ARKIT)) if change[:, index].any()]
    _checked(curves)
    missing = [name for name in (*wanted, *(ARKIT[index] for index in changed)) if name not in mesh.morph_names]
    if missing:
        raise InvalidInput(
            f"The mesh lacks the morph targets {', '.join(missing)}.",
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
    weights[:, [mesh.morph_names.index(name) for name in wanted]] = values
    for index in changed:
        weights[:, mesh.morph_names.index(ARKIT[index])] += (values @ change[:, index]).astype(np.float32)
    return weights


def _checked(curves: NDArray[np.float32]) -> NDArray[np.float32]:
    if curves.ndim != 2 or curves.shape[1] != len(VISEMES):
        raise InvalidInput(
            f"Viseme curves have shape {curves.shape}; (frames, {len(VISEMES)}) is needed.",
            remedy="Make them with viseme_curves.",
        )
    return curves


def lip_gap(mesh: AvatarMesh, weights: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the inner-lip gap (T,) in mm that weights (T, K) command: 0 where the lips touch or overlap."""
    lips = [UPPER_LIP, LOWER_LIP]
    heights = mesh.vertices[lips, 1].astype(np.float64)
    moved = heights + np.asarray(weights, np.float64) @ mesh.morphs[:, lips, 1].astype(np.float64)
    gap: NDArray[np.float64] = np.maximum(moved[:, 0] - moved[:, 1], 0.0)
    return gap
