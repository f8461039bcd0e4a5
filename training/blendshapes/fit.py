"""Regress blendshape displacements from tracked clips of several people."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from avatar_pipeline.face.pose import robust_neutral, to_camera
from avatar_pipeline.face.types import LandmarkTrack
from avatar_pipeline.mesh import topology
from avatar_pipeline.mesh.morphs import ARKIT, RIDGE
from avatar_pipeline.mesh.regions import shape_mask
from avatar_pipeline.mesh.types import FACE_VERTICES
from training.blendshapes.geometry import modelled_shapes

CLIPS = ("hdtf_wda_k", "lp_d13_phone_noaudio", "lp_d19_glasses", "lp_d3", "lp_s18_720p")
"""Adults only."""
BUNDLE_SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"
LEAST_STD = 0.06
"""A score that varies less than this over the pool says too little about its shape; the shape is modelled instead."""
QUANTUM = 1 / 500
"""In mm: an int16 then reaches ±65 mm."""


def track_clips(folder: Path, bundle: Path) -> list[LandmarkTrack]:
    """Track the training clips with the FaceLandmarker and its 51 scores."""
    from avatar_pipeline.face.mediapipe_tasks import FaceLandmarkerDetector
    from avatar_pipeline.face.tracking import track_video
    from avatar_pipeline.media.probe import probe
    from avatar_pipeline.store.checkpoints import FolderCheckpoints

    tracks = []
    for clip in CLIPS:
        path = folder / "video" / f"{clip}.mp4"
        with TemporaryDirectory() as scratch:
            detector = FaceLandmarkerDetector(bundle, BUNDLE_SHA256)
            tracks.append(track_video(path, probe(path), detector, FolderCheckpoints(Path(scratch))))
    return tracks


def displacements(track: LandmarkTrack) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a clip's displacements from its neutral (T, 468, 3) in mm and its scores (T, 51), both less their means.

    The means go because what a person's rest face scores is theirs, not the shape's.
    """
    if track.blendshapes is None:
        raise ValueError("the track has no blendshape scores")
    camera = to_camera(track.landmarks[track.found], track.width, track.height)
    neutral, poses = robust_neutral(camera)
    moved = (poses.unproject(camera) - neutral)[:, :FACE_VERTICES]
    scores = track.blendshapes[track.found].astype(np.float64)
    return moved - moved.mean(axis=0), scores - scores.mean(axis=0)


def mirrored(
    moved: NDArray[np.float64], scores: NDArray[np.float64], names: tuple[str, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Append the mirror image of a clip: twice the data, and nobody's asymmetry in the result."""
    swapped = [names.index(other_side(name)) for name in names]
    return (
        np.concatenate([moved, moved[:, topology.MIRROR] * [-1, 1, 1]]),
        np.concatenate([scores, scores[:, swapped]]),
    )


def other_side(name: str) -> str:
    """Return the name of the mirrored shape."""
    return name.replace("Left", "@").replace("Right", "Left").replace("@", "Right")


def ridge(
    moved: NDArray[np.float64], scores: NDArray[np.float64], mean: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return displacements per unit score (51, 468, 3) by ridge regression towards `mean` (zero where None)."""
    gram = scores.T @ scores / len(scores) + RIDGE * np.eye(scores.shape[1])
    cross = scores.T @ moved.reshape(len(moved), -1) / len(scores)
    if mean is not None:
        cross += RIDGE * mean.reshape(len(mean), -1)
    return np.linalg.solve(gram, cross).reshape(scores.shape[1], FACE_VERTICES, 3)


def build_prior(folder: Path, bundle: Path) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of the shipped prior, and print what it explains of a person it has not seen."""
    return prior_arrays(track_clips(folder, bundle))


def prior_arrays(tracks: list[LandmarkTrack]) -> dict[str, NDArray[np.generic]]:
    """Pool the tracks, regress, keep the shapes that were shown enough, and model the others."""
    names = tracks[0].blendshape_names
    pool = [mirrored(*displacements(track), names) for track in tracks]
    for k in range(len(pool)):
        _print_scores(k, [clip for j, clip in enumerate(pool) if j != k], pool[k])
    scores = np.concatenate([s for _, s in pool])
    deltas = ridge(np.concatenate([m for m, _ in pool]), scores)
    shown = {
        name: deltas[j] * shape_mask(name)[:, None]
        for j, name in enumerate(names)
        if scores[:, j].std() >= LEAST_STD and not name.startswith("eyeLook")
    }
    if "jawOpen" not in shown:
        raise ValueError("the clips show no open jaw, which the modelled shapes start from")
    shapes = modelled_shapes(shown["jawOpen"]) | shown
    symmetric = np.array([(shapes[n] + shapes[other_side(n)][topology.MIRROR] * [-1, 1, 1]) / 2 for n in ARKIT])
    for name, shape in zip(ARKIT, symmetric, strict=True):
        print(f"{name:20s} {'people' if name in shown else 'model':6s} {np.linalg.norm(shape, axis=1).max():5.1f} mm")
    return {
        "names": np.array(ARKIT),
        "measured": np.array([name in shown for name in ARKIT]),
        "quantum": np.float32(QUANTUM),
        "deltas": np.round(symmetric / QUANTUM).astype(np.int16),
    }


Clip = tuple[NDArray[np.float64], NDArray[np.float64]]


def _print_scores(number: int, others: list[Clip], mirrored_clip: Clip) -> None:
    """Print what is explained of a clip's second half by the others, by its own first half, and by both."""
    moved, scores = (half[: len(half) // 2] for half in mirrored_clip)
    h = len(moved) // 2
    pooled = ridge(np.concatenate([m for m, _ in others]), np.concatenate([s for _, s in others]))
    first = (moved[:h] - moved[:h].mean(axis=0), scores[:h] - scores[:h].mean(axis=0))
    fits = {"others": pooled, "own": ridge(*first), "own with others as prior": ridge(*first, pooled)}
    explained = ", ".join(f"{name} {_explained(moved[h:], scores[h:], fit):.2f}" for name, fit in fits.items())
    print(f"clip {number} ({len(moved)} frames), R² on lips and jaw in its second half: {explained}")


def _explained(moved: NDArray[np.float64], scores: NDArray[np.float64], deltas: NDArray[np.float64]) -> float:
    """Return the share of the lower face's motion that the displacements explain, whatever the rest position."""
    lower = shape_mask("jawOpen") > 0.99
    moved, scores = moved[:, lower] - moved[:, lower].mean(axis=0), scores - scores.mean(axis=0)
    residual = moved - np.einsum("tb,bvc->tvc", scores, deltas[:, lower])
    return float(1 - (residual**2).sum() / (moved**2).sum())
