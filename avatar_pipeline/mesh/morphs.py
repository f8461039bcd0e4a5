"""Morph targets: the 52 ARKit shapes of one person, and the 15 Oculus visemes mixed from them.

Names and meaning follow Apple's ARFaceAnchor.BlendShapeLocation and the Oculus (Meta) viseme reference. 'Left' is the
subject's left. As in ARKit, `mouthClose` shuts the lips while the jaw is open by as much: it is not used alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatar_pipeline.face.pose import fit_poses, to_camera
from avatar_pipeline.face.types import LandmarkTrack
from avatar_pipeline.mesh import topology
from avatar_pipeline.mesh.deform import extend
from avatar_pipeline.mesh.prior import load_prior
from avatar_pipeline.mesh.regions import far_from, shape_mask
from avatar_pipeline.mesh.types import FACE_VERTICES
from avatar_pipeline.voice.visemes import VISEMES

# fmt: off
ARKIT = (
    "eyeBlinkLeft", "eyeLookDownLeft", "eyeLookInLeft", "eyeLookOutLeft", "eyeLookUpLeft", "eyeSquintLeft",
    "eyeWideLeft", "eyeBlinkRight", "eyeLookDownRight", "eyeLookInRight", "eyeLookOutRight", "eyeLookUpRight",
    "eyeSquintRight", "eyeWideRight", "jawForward", "jawLeft", "jawRight", "jawOpen", "mouthClose", "mouthFunnel",
    "mouthPucker", "mouthLeft", "mouthRight", "mouthSmileLeft", "mouthSmileRight", "mouthFrownLeft", "mouthFrownRight",
    "mouthDimpleLeft", "mouthDimpleRight", "mouthStretchLeft", "mouthStretchRight", "mouthRollLower", "mouthRollUpper",
    "mouthShrugLower", "mouthShrugUpper", "mouthPressLeft", "mouthPressRight", "mouthLowerDownLeft",
    "mouthLowerDownRight", "mouthUpperUpLeft", "mouthUpperUpRight", "browDownLeft", "browDownRight", "browInnerUp",
    "browOuterUpLeft", "browOuterUpRight", "cheekPuff", "cheekSquintLeft", "cheekSquintRight", "noseSneerLeft",
    "noseSneerRight", "tongueOut",
)
"""The 52 ARKit shapes, in Apple's order."""
# fmt: on
MORPH_NAMES = ARKIT + tuple(f"viseme_{name}" for name in VISEMES)
"""The order of `AvatarMesh.morphs`."""


def _mix(**weights: float) -> Mapping[str, float]:
    """Expand shapes named without a side to both sides."""
    mix: dict[str, float] = {}
    for name, weight in weights.items():
        for full in (name,) if name in ARKIT else (f"{name}Left", f"{name}Right"):
            mix[full] = weight
    return MappingProxyType(mix)


VISEME_MIX: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "sil": _mix(),
        "PP": _mix(mouthPress=0.4, mouthRollLower=0.25, mouthRollUpper=0.25),
        "FF": _mix(mouthRollLower=0.6, mouthUpperUp=0.5, jawOpen=0.04),
        "TH": _mix(jawOpen=0.16, mouthLowerDown=0.2, tongueOut=0.5),
        "DD": _mix(jawOpen=0.14, mouthUpperUp=0.15, mouthLowerDown=0.25, tongueOut=0.1),
        "kk": _mix(jawOpen=0.2, mouthStretch=0.15, mouthLowerDown=0.1),
        "CH": _mix(jawOpen=0.08, mouthFunnel=0.6, mouthPucker=0.25),
        "SS": _mix(jawOpen=0.05, mouthStretch=0.3, mouthSmile=0.1, mouthLowerDown=0.2, mouthUpperUp=0.1),
        "nn": _mix(jawOpen=0.12, mouthLowerDown=0.15, tongueOut=0.1),
        "RR": _mix(jawOpen=0.12, mouthFunnel=0.35, mouthPucker=0.25),
        "aa": _mix(jawOpen=0.6, mouthLowerDown=0.2),
        "E": _mix(jawOpen=0.32, mouthStretch=0.3, mouthSmile=0.15),
        "I": _mix(jawOpen=0.15, mouthSmile=0.35, mouthStretch=0.2, mouthLowerDown=0.15),
        "O": _mix(jawOpen=0.4, mouthFunnel=0.6, mouthPucker=0.5),
        "U": _mix(jawOpen=0.1, mouthFunnel=0.5, mouthPucker=0.9),
    }
)
"""Each viseme as weights of ARKit shapes. The morph `viseme_PP` is sealed besides: its lips meet exactly."""

RIDGE = 3e-3
"""λ of the regression, in units of squared score: a shape that varies by less than its root is mostly the prior's."""
_CHUNK = 512
SEALED = ("PP",)
"""Visemes with the lips shut."""
_OPEN_MOUTH = (24.0, 36.0)
"""Least and largest lip gap of `jawOpen` at 1 in mm; adults open 40–55 mm at most, in speech far less."""
_UPPER_LID_SHARE = 0.85
"""Of a blink's way: the lower lid comes up a little."""
_UPPER_LIP, _LOWER_LIP = 13, 14
_FROM_PRIOR = ("eyeLook", "mouthClose", "tongueOut")
"""Scores of gaze say nothing about the skin, and `mouthClose` is defined by `jawOpen`."""


def seal_lips(face: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return displacements (468, 3) that bring the inner lips of a face (468, 3) together, halfway each."""
    upper, lower = (np.array(side) for side in zip(*topology.LIP_PAIRS, strict=True))
    middle = (face[upper] + face[lower]) / 2
    return _meet(face, topology.LIP_PAIRS, middle, reach=26.0)


def close_lids(face: NDArray[np.float64], pairs: tuple[tuple[int, int], ...]) -> NDArray[np.float64]:
    """Return displacements (468, 3) that put the upper lid of one eye onto its lower lid."""
    upper, lower = (np.array(side) for side in zip(*pairs, strict=True))
    meeting = _UPPER_LID_SHARE * face[lower] + (1 - _UPPER_LID_SHARE) * face[upper]
    return _meet(face, pairs, meeting, reach=14.0)


def _meet(
    face: NDArray[np.float64], pairs: tuple[tuple[int, int], ...], meeting: NDArray[np.float64], *, reach: float
) -> NDArray[np.float64]:
    """Move both vertices of each pair to their meeting point; the skin follows up to `reach` mm away."""
    upper, lower = zip(*pairs, strict=True)
    values = np.concatenate([meeting - face[list(upper)], meeting - face[list(lower)]])
    return extend((*upper, *lower), values, far_from((*upper, *lower), reach))


def person_scale(neutral: NDArray[np.float64]) -> float:
    """Return how much larger a face is than the template, from its height and width (both share the iris distance)."""

    def size(face: NDArray[np.floating[Any]]) -> float:
        return float(np.linalg.norm(face[10] - face[152]) * np.linalg.norm(face[234] - face[454]))

    return float(np.clip(np.sqrt(size(neutral) / size(topology.TEMPLATE)), 0.8, 1.25))


def arkit_shapes(track: LandmarkTrack, neutral: NDArray[np.float64], face: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a person's ARKit displacements (52, 468, 3) in mm.

    Where the track has scores, they are the maximum a posteriori of the ridge regression of the tracked motion on the
    scores, with the prior as its mean: M = (BᵀB/T + λI)⁻¹(BᵀR/T + λM₀), scores B and displacements R less their means;
    else the prior, scaled to the person. Eyes close and lips part as the shapes promise in either case.

    Args:
        track: the landmark track.
        neutral: (478, 3) the person's neutral in mm, as `robust_neutral` gives it.
        face: (468, 3) the mesh at rest, with sealed lips.
    """
    prior = load_prior()
    shapes = prior.deltas.astype(np.float64) * person_scale(neutral)
    if track.blendshapes is not None:
        fitted = _regress(track, track.blendshapes, neutral, shapes)
        for k, name in enumerate(ARKIT):
            if name in track.blendshape_names and not name.startswith(_FROM_PRIOR):
                shapes[k] = fitted[track.blendshape_names.index(name)] * shape_mask(name)[:, None]
    return _keep_promises(shapes, face)


def _regress(
    track: LandmarkTrack, scores: NDArray[np.float32], neutral: NDArray[np.float64], prior: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the MAP displacements (51, 468, 3), in the order of the track's scores."""
    count = len(track.blendshape_names)
    M0 = np.zeros((count, FACE_VERTICES * 3))
    for j, name in enumerate(track.blendshape_names):
        if name in ARKIT:
            M0[j] = prior[ARKIT.index(name)].ravel()
    frames = 0
    sum_b, sum_r = np.zeros(count), np.zeros(FACE_VERTICES * 3)
    gram, cross = np.zeros((count, count)), np.zeros((count, FACE_VERTICES * 3))
    for R, B in _displacements(track, scores, neutral):
        frames += len(B)
        sum_b += B.sum(axis=0)
        sum_r += R.sum(axis=0)
        gram += B.T @ B
        cross += B.T @ R
    gram = gram / frames - np.outer(sum_b, sum_b) / frames**2
    cross = cross / frames - np.outer(sum_b, sum_r) / frames**2
    solved = np.linalg.solve(gram + RIDGE * np.eye(count), cross + RIDGE * M0)
    return solved.reshape(count, FACE_VERTICES, 3)


def _displacements(
    track: LandmarkTrack, scores: NDArray[np.float32], neutral: NDArray[np.float64]
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Yield displacements from the neutral (N, 468·3) in mm, and scores (N, 51), a few hundred frames at a time."""
    rows = np.flatnonzero(track.found & np.isfinite(scores).all(axis=1))
    for start in range(0, len(rows), _CHUNK):
        chunk = rows[start : start + _CHUNK]
        camera = to_camera(track.landmarks[chunk], track.width, track.height)
        moved = fit_poses(camera, neutral).unproject(camera)[:, :FACE_VERTICES] - neutral[:FACE_VERTICES]
        yield moved.reshape(len(chunk), -1), scores[chunk].astype(np.float64)


def _keep_promises(shapes: NDArray[np.float64], face: NDArray[np.float64]) -> NDArray[np.float64]:
    """Make the shapes do exactly what their names say: blinks close the lids, `jawOpen` parts the lips."""
    shapes = shapes.copy()
    for side, pairs in (("Left", topology.LEFT_LID_PAIRS), ("Right", topology.RIGHT_LID_PAIRS)):
        blink = ARKIT.index(f"eyeBlink{side}")
        shapes[blink] += close_lids(face + shapes[blink], pairs)
    jaw = ARKIT.index("jawOpen")
    gap = float(np.linalg.norm(shapes[jaw, _UPPER_LIP] - shapes[jaw, _LOWER_LIP]))
    shapes[jaw] *= np.clip(gap, *_OPEN_MOUTH) / max(gap, 1e-6)
    close = ARKIT.index("mouthClose")
    shapes[close] = _close_open_jaw(face + shapes[jaw])
    return shapes


def _close_open_jaw(opened: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what brings the lips of an open jaw together: the lower lip goes most of the way."""
    upper, lower = (np.array(side) for side in zip(*topology.LIP_PAIRS, strict=True))
    return _meet(opened, topology.LIP_PAIRS, 0.7 * opened[upper] + 0.3 * opened[lower], reach=40.0)


def mix_visemes(shapes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mix displacements (52, N, 3) of the ARKit shapes into those of the visemes (15, N, 3)."""
    weights = np.array([[VISEME_MIX[viseme].get(name, 0.0) for name in ARKIT] for viseme in VISEMES])
    return np.tensordot(weights, shapes, axes=1)


def viseme_shapes(shapes: NDArray[np.float64], face: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mix the visemes (15, 468, 3) of a person; sealed ones bring the lips of `face` exactly together."""
    visemes = mix_visemes(shapes)
    for name in SEALED:
        visemes[VISEMES.index(name)] += seal_lips(face + visemes[VISEMES.index(name)])
    return visemes
