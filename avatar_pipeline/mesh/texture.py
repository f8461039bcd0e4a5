"""The person's skin: a few good frames of the video, unwrapped into the shared UV layout and blended by view angle.

Each texel belongs to one triangle for ever; a frame's colours come by looking up where that triangle's landmarks are in
the frame. Weights fall with the sixth power of the cosine to the camera, as in view-dependent texture mapping
(P. Debevec et al., SIGGRAPH 1996), sharpened so that a texel comes from one frame where frames differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatar_pipeline.errors import InvalidMedia
from avatar_pipeline.face.pose import HeadPoses
from avatar_pipeline.face.types import LandmarkTrack
from avatar_pipeline.mesh import topology
from avatar_pipeline.mesh.atlas import Atlas, atlas_triangles, interpolate, push_pull, rasterise
from avatar_pipeline.mesh.deform import extend, vertex_normals
from avatar_pipeline.mesh.regions import far_from
from avatar_pipeline.mesh.types import FACE_VERTICES
from avatar_pipeline.progress import Progress, silent

ATLAS_SIZE = 1024
_VIEW_POWER = 6
_SHARPEN = 3
_LEAST_COSINE = 0.3
"""A texel seen at a flatter angle than this (73°) does not count as covered."""
_SIDE_YAW = 6.0
"""Least turn in degrees, away from the reference frame, that makes a side frame worth blending."""
_MOST_YAW = 28.0
_UNSEEN_COSINE = (0.25, 0.5)
"""On the sides of the face, cosines to the camera below which a texel is filled in, and above which it is kept."""
_SHRINK_OVAL, _SHRINK_LIPS = 0.35, 0.4
"""How far the samples of the outline and of the inner lips are drawn to their neighbours on the skin, so that neither
background nor teeth bleed in."""
_LIDS = ((159, 145), (386, 374))
_EXPRESSIVE = [0, 13, 14, 17, 37, 267, 84, 314, 61, 291, 78, 308, 105, 107, 334, 336]
"""Lips and brows: where a face at rest shows it."""
_WATCHED = [*_EXPRESSIVE, *_LIDS[0], *_LIDS[1]]
_RIM_WIDTH = 45.0
_MIDDLE = (28.0, 42.0)
"""In mm: what is nearer to the middle line is never filled in, what is farther away may be."""


@dataclass(frozen=True, slots=True)
class SkinTexture:
    """`image` (S, S, 3) uint8 sRGB; `coverage` the share of skin texels seen well; `light` 1 for a well-lit face;
    `lips` (3,) the colour of the lips; `frames` the indices of the frames that were used."""

    image: NDArray[np.uint8]
    coverage: float
    light: float
    lips: NDArray[np.float64]
    frames: tuple[int, ...]


def choose_frames(track: LandmarkTrack, poses: HeadPoses, neutral: NDArray[np.float64]) -> tuple[int, ...]:
    """Choose at most five frames: the best frontal one first, then the best ones turned to either side of it.

    Good is frontal (or turned as wanted), sharp, with the eyes open and a face at rest, whose mouth is closed; on the
    side frames, which hardly show in the middle of the face, the mouth may move a little.
    """
    found = np.flatnonzero(track.found & np.isfinite(poses.scale))
    landmarks = track.landmarks[found][:, _WATCHED, :2].astype(np.float64) * [track.width, -track.height]
    scale = poses.scale[found]
    at_rest = HeadPoses(scale, poses.rotation[found], poses.translation[found]).project(neutral[_WATCHED])[..., :2]
    moved = np.linalg.norm(landmarks - at_rest, axis=-1)[:, : len(_EXPRESSIVE)] / scale[:, None]
    unrest = np.sqrt((moved**2).mean(axis=-1))
    shut = np.maximum(1 - _lid_gap(landmarks) / _lid_gap(at_rest), 0)
    blur = np.nan_to_num(track.blur[found].astype(np.float64))
    sharp = np.clip(blur / max(float(np.percentile(blur, 90)), 1e-9), 0.05, 1.0)
    usable = np.sqrt(sharp) * _bell(shut / 0.17)
    yaw, pitch = poses.angles[found, 0], poses.angles[found, 1]
    turned = np.degrees(np.arccos(np.clip(poses.rotation[found, 2, 2], -1, 1)))
    chosen = [int(np.argmax(usable * _bell(unrest / 2.5) * _bell(turned / 15.0)))]
    for wanted in (-_MOST_YAW, _MOST_YAW, -_MOST_YAW / 2, _MOST_YAW / 2):
        reached = np.clip((yaw - yaw[chosen[0]]) / wanted, 0, 1)
        level = _bell((pitch - pitch[chosen[0]]) / 15.0) * (np.abs(yaw) < 1.5 * abs(wanted))
        best = int(np.argmax(usable * _bell(unrest / 6.0) * _bell((reached - 1) / 0.5) * level))
        if all(abs(yaw[best] - yaw[other]) >= _SIDE_YAW for other in chosen):
            chosen.append(best)
    return tuple(int(found[k]) for k in chosen)


def _lid_gap(watched: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far (T,) both eyes are open, from the watched landmarks (T, 20, 2)."""
    upper, lower = (watched[:, [_WATCHED.index(lids[k]) for lids in _LIDS]] for k in (0, 1))
    gap: NDArray[np.float64] = np.linalg.norm(upper - lower, axis=-1).sum(axis=-1)
    return gap


def _bell(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return exp(−x²): 1 where nothing is wrong, ⅓ where it is at the limit."""
    bell: NDArray[np.float64] = np.exp(-(x**2))
    return bell


def read_frames(track: LandmarkTrack, video: Path, frames: tuple[int, ...]) -> Iterator[NDArray[np.uint8]]:
    """Decode single frames of a track, in the given order, seeking to each.

    Raises:
        InvalidMedia: the video has no frame at the time that the track has one.
    """
    from avatar_pipeline.media.decode import decode_frames

    for k in frames:
        start = Fraction(int(track.pts[k])) * track.time_base
        decoded = decode_frames(video, start=start, stop=start + track.time_base, prefetch=1)
        frame = next(decoded, None)
        if frame is None:
            raise InvalidMedia(
                f"{video.name}: no frame at {float(start):.3f} s, where the landmark track has one.",
                remedy="Track the landmarks of this very file again.",
            )
        yield frame.image
        del decoded


def build_texture(
    track: LandmarkTrack,
    video: Path,
    poses: HeadPoses,
    neutral: NDArray[np.float64],
    *,
    size: int = ATLAS_SIZE,
    progress: Progress = silent,
) -> SkinTexture:
    """Unwrap the chosen frames into one skin texture of `size` by `size` texels.

    Raises:
        InvalidMedia: the video is not the one that was tracked.
    """
    atlas, frames = rasterise(size), choose_frames(track, poses, neutral)
    skin = atlas.triangle >= 0
    normals = vertex_normals(neutral[:FACE_VERTICES], topology.TRIANGLES)
    colour, weight = np.zeros((size, size, 3), np.float32), np.zeros((size, size), np.float32)
    seen = np.zeros((size, size), np.float32)
    reference: NDArray[np.float32] | None = None
    eyes = atlas.triangle >= len(topology.TRIANGLES)
    for done, (k, image) in enumerate(zip(frames, read_frames(track, video, frames), strict=True)):
        progress("texture", done, len(frames))
        sample = _unwrap(image, track.landmarks[k], atlas)
        cosine = interpolate(np.clip(normals @ poses.rotation[k][2], 0, 1)[:, None], atlas)[..., 0]
        if reference is None:
            reference = sample
        else:
            sample = sample * _gain(reference, sample, skin & (cosine > 0.6) & (seen > 0.6))
        w = np.maximum(cosine, 0.1) ** (_VIEW_POWER * _SHARPEN)
        if done:
            w = np.where(eyes, 0, w)
        colour += sample * w[..., None]
        weight += w
        seen = np.maximum(seen, cosine)
    progress("texture", len(frames), len(frames))
    blended = _fill_unseen(colour / np.maximum(weight, 1e-30)[..., None], seen, atlas)
    lips = np.median(blended[_lip_texels(atlas)], axis=0).astype(np.float64)
    light = float(np.clip(np.median(blended[skin] @ np.array([0.299, 0.587, 0.114])) / 150.0, 0.5, 1.08))
    image = np.clip(np.round(blended), 0, 255).astype(np.uint8)
    coverage = float((seen[skin & ~eyes] >= _LEAST_COSINE).mean())
    return SkinTexture(image, coverage, light, lips, frames)


def _unwrap(image: NDArray[np.uint8], landmarks: NDArray[np.float32], atlas: Atlas) -> NDArray[np.float32]:
    """Look up each texel's colour in a frame: (S, S, 3) float32. Large faces are scaled down to the atlas first."""
    import cv2

    height, width = image.shape[:2]
    points = landmarks[:FACE_VERTICES, :2].astype(np.float64) * [width, height]
    points += _away_from_edges() @ points
    low = np.maximum(np.floor(points.min(axis=0)).astype(int) - 8, 0)
    high = np.minimum(np.ceil(points.max(axis=0)).astype(int) + 8, [width, height])
    crop: Any = image[low[1] : high[1], low[0] : high[0]]
    points = points - low
    scale = min(1.0, 1.25 * len(atlas.triangle) / max(crop.shape[:2]))
    if scale < 1:
        new = (round(crop.shape[1] * scale), round(crop.shape[0] * scale))
        points *= np.array(new) / [crop.shape[1], crop.shape[0]]
        crop = cv2.resize(crop, new, interpolation=cv2.INTER_AREA)
    xy = interpolate(points - 0.5, atlas)
    sampled = cv2.remap(
        crop,
        np.ascontiguousarray(xy[..., 0]),
        np.ascontiguousarray(xy[..., 1]),
        cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(sampled, np.float32)


@cache
def _away_from_edges() -> NDArray[np.float64]:
    """Return the matrix (468, 468) of shifts that draw the samples of the oval and of the inner lips into the skin."""
    shift = np.zeros((FACE_VERTICES, FACE_VERTICES))
    triangles, face = topology.TRIANGLES, topology.TEMPLATE
    for loop, share in ((topology.OVAL, _SHRINK_OVAL), (topology.MOUTH, _SHRINK_LIPS)):
        for vertex in loop:
            touching = triangles[(triangles == vertex).any(axis=1)]
            inside = np.setdiff1d(touching, loop)
            nearest = inside[np.argsort(np.linalg.norm(face[inside] - face[vertex], axis=1), kind="stable")[:2]]
            shift[vertex, vertex] -= share
            shift[vertex, nearest] += share / len(nearest)
    return shift


@cache
def _sides() -> NDArray[np.float64]:
    """Return (468,) how much a vertex belongs to the sides and the rim of the face: 0 in its middle."""
    rim = extend(topology.OVAL, np.ones((len(topology.OVAL), 1)), far_from(topology.OVAL, _RIM_WIDTH))
    aside = (np.abs(topology.TEMPLATE[:, :1]) - _MIDDLE[0]) / (_MIDDLE[1] - _MIDDLE[0])
    return np.clip(np.maximum(2 * rim, aside), 0, 1)


def _fill_unseen(image: NDArray[np.float32], seen: NDArray[np.float32], atlas: Atlas) -> NDArray[np.float32]:
    """Replace the sides of the face that no chosen frame saw well, and all outside of it, by what lies beside.

    Only the sides: what is seen flat in the middle, such as under the nose, is right as it is.
    """
    sides = interpolate(_sides(), atlas)[..., 0]
    sure = np.clip((seen - _UNSEEN_COSINE[0]) / (_UNSEEN_COSINE[1] - _UNSEEN_COSINE[0]), 0, 1)
    keep = ((atlas.triangle >= 0) * (1 - sides * (1 - sure))).astype(np.float32)[..., None]
    beside = push_pull(image, keep[..., 0] * sure)
    filled: NDArray[np.float32] = beside + (image - beside) * keep
    return filled


def _gain(reference: NDArray[np.float32], sample: NDArray[np.float32], both: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the factors (3,) that bring a frame to the reference frame's exposure, where both see the skin well."""
    if both.sum() < 100:
        return np.ones(3, np.float32)
    ratio = np.median(reference[both], axis=0) / np.maximum(np.median(sample[both], axis=0), 1.0)
    gain: NDArray[np.float32] = np.clip(ratio, 0.6, 1.6).astype(np.float32)
    return gain


def _lip_texels(atlas: Atlas) -> NDArray[np.bool_]:
    """Return the texels of the triangles that touch the inner lips."""
    touching = np.flatnonzero(np.isin(atlas_triangles(), topology.MOUTH).any(axis=1))
    return np.isin(atlas.triangle, touching)
