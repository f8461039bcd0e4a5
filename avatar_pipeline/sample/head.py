"""The portrait as a 2.5D head: the face mesh, hair and ears around it, eyes and mouth behind the holes, and morphs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avatar_pipeline.face.pose import HeadPoses, robust_neutral, to_camera
from avatar_pipeline.mesh.deform import extend
from avatar_pipeline.mesh.morphs import ARKIT, close_lids, person_scale, viseme_shapes
from avatar_pipeline.mesh.prior import load_prior
from avatar_pipeline.mesh.topology import (
    LEFT_EYE,
    LEFT_LID_PAIRS,
    LIP_PAIRS,
    MOUTH,
    OVAL,
    RIGHT_EYE,
    RIGHT_LID_PAIRS,
    TRIANGLES,
    loop_triangles,
)
from avatar_pipeline.mesh.types import FACE_VERTICES
from avatar_pipeline.sample.portrait import Portrait
from avatar_pipeline.voice.visemes import VISEMES

PIVOT = np.array([0.0, -55.0, -72.0])
"""Where the head turns, in mm from the centre of the rigid landmarks: the top of the neck, between the ears."""

_OUTER_LIPS = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
"""The border of the vermilion (20), vertex by vertex beside `topology.MOUTH`."""
_NOSE = (2, 97, 326, 98, 327, 129, 358, 64, 294, 4, 6, 195)
_UPPER_SHARE = 0.60
"""Part of the smile's lip gap that the upper lip closes: lips meet over the lower third of the upper incisors."""
_NEIGHBOURS = 6
_STEEPEST = 2.4
"""Greatest slope of the surface, depth over distance in the image."""


@dataclass(frozen=True, slots=True)
class Patch:
    """A piece of surface behind a hole of the face: vertices in mm (N, 3), uv (N, 2), triangles (F, 3)."""

    vertices: NDArray[np.float64]
    uv: NDArray[np.float32]
    triangles: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Head:
    """The head in object coordinates (mm), uv in units of the portrait, v down.

    `vertices` (V, 3): 0..467 the face, then what surrounds it; `triangles` (F, 3) with holes at eyes and mouth;
    `rest` (V, 3) what turns the portrait's smile into closed lips; `morphs` (K, V, 3) displacements named by
    `morph_names`; `eyes` and `teeth` sit still in the skull, the mouth's cavity fills the inner lips; `pose` is that
    of the photograph (one frame).
    """

    vertices: NDArray[np.float64]
    uv: NDArray[np.float32]
    triangles: NDArray[np.int32]
    rest: NDArray[np.float64]
    morph_names: tuple[str, ...]
    morphs: NDArray[np.float64]
    eyes: Patch
    teeth: Patch
    pose: HeadPoses

    def shape(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the vertices (V, 3) for morph weights (K,)."""
        shape: NDArray[np.float64] = self.vertices + self.rest + np.tensordot(weights, self.morphs, axes=1)
        return shape


def lip_gap(shape: NDArray[np.float64]) -> float:
    """Distance of the inner lips' middles, in mm."""
    return float(np.linalg.norm(shape[13] - shape[14]))


def build_head(portrait: Portrait) -> Head:
    """Raise the portrait to a surface in mm, with the visemes and blinks of an average face."""
    size = portrait.size
    neutral, pose = robust_neutral(to_camera(portrait.landmarks, size, size)[None])
    face = neutral[:FACE_VERTICES]
    ring, distance, nearest, share = _surroundings(portrait, face, pose)
    fall = np.exp(-((distance / 18.0) ** 2))[:, None]

    def spread(delta: NDArray[np.float64]) -> NDArray[np.float64]:
        around = (delta[np.asarray(OVAL)][nearest] * share[..., None]).sum(axis=1) * fall
        return np.concatenate([delta, around])

    vertices = _limit_slope(np.concatenate([face, ring]), pose)
    face = vertices[:FACE_VERTICES]
    pixels = pose.project(vertices)[0, :, :2] * [1, -1]
    pixels[:FACE_VERTICES] = portrait.landmarks[:FACE_VERTICES, :2] * size
    # the skin's edges must not carry a rim of the teeth and the eyes behind them
    pixels[list(MOUTH)] += 0.15 * (pixels[list(_OUTER_LIPS)] - pixels[list(MOUTH)])
    eyeballs = _eyes(face, pixels / size)
    for loop in (RIGHT_EYE, LEFT_EYE):
        pixels[list(loop)] += 0.10 * (pixels[list(loop)] - pixels[list(loop)].mean(axis=0))
    rest = _rest(face)
    names, morphs = _face_morphs(face + rest)
    return Head(
        vertices=vertices,
        uv=np.asarray(pixels / size, np.float32),
        triangles=np.concatenate([np.asarray(TRIANGLES), _stitch(pixels)]).astype(np.int32),
        rest=spread(rest),
        morph_names=names,
        morphs=np.stack([spread(morph) for morph in morphs]),
        eyes=eyeballs,
        teeth=_teeth(face, pose, size),
        pose=pose,
    )


def _surroundings(
    portrait: Portrait, face: NDArray[np.float64], pose: HeadPoses
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp], NDArray[np.float64]]:
    """Lay a grid over hair and ears and give it depth, from the oval's at the face to the skull's middle at the edge.

    Returns points (N, 3) in mm, their distance (N,) in mm to the oval, the nearest positions (N, 6) in `OVAL`, and
    the weights (N, 6) of those.
    """
    import cv2
    from scipy.spatial import cKDTree

    size = portrait.size
    step = size / 44
    y, x = np.mgrid[step / 2 : size : step, step / 2 : size : step]
    grid = np.stack([x.ravel(), y.ravel()], axis=-1)
    oval = portrait.landmarks[list(OVAL), :2] * size
    alpha = (portrait.head_alpha > 0.02).astype(np.uint8)
    reach = round(step * 1.5)
    near = cv2.dilate(alpha, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    at = grid.astype(int)
    contour = oval.astype(np.float32)
    outside = np.array([cv2.pointPolygonTest(contour, (float(px), float(py)), True) for px, py in grid])
    grid = grid[(near[at[:, 1], at[:, 0]] > 0) & (outside < -0.55 * step)]
    inwards = cv2.distanceTransform(alpha, cv2.DIST_L2, 5)
    at = grid.astype(int)
    pixel_distance, nearest = cKDTree(oval).query(grid, k=_NEIGHBOURS)
    share = 1 / (pixel_distance + 1e-3) ** 2
    share /= share.sum(axis=1, keepdims=True)
    oval_depth = pose.project(face)[0, list(OVAL), 2]
    depth = (oval_depth[nearest] * share).sum(axis=1)
    towards_edge = pixel_distance[:, 0] / (pixel_distance[:, 0] + inwards[at[:, 1], at[:, 0]] + 1e-3)
    middle = pose.project(PIVOT[None])[0, 0, 2]
    round_off = 1 - np.sqrt(np.clip(1 - towards_edge**2, 0, 1))
    depth += np.minimum(middle - depth, 0) * (0.5 * round_off + 0.5 * towards_edge**1.5)
    camera = np.stack([grid[:, 0], -grid[:, 1], depth], axis=-1)
    distance = pixel_distance[:, 0] / pose.scale[0]
    return pose.unproject(camera[None])[0], distance, nearest, share


def _limit_slope(vertices: NDArray[np.float64], pose: HeadPoses) -> NDArray[np.float64]:
    """Raise what falls away more steeply than the photograph can show: its few pixels would smear in a turn."""
    camera = pose.project(vertices)[0]
    flat = np.linalg.norm(camera[:, None, :2] - camera[None, :, :2], axis=-1)
    camera[:, 2] = (camera[None, :, 2] - _STEEPEST * flat).max(axis=1)
    raised: NDArray[np.float64] = pose.unproject(camera[None])[0]
    return raised


def _stitch(pixels: NDArray[np.float64]) -> NDArray[np.int32]:
    """Triangulate (F, 3) between the oval and the grid (Delaunay), oriented as the face's triangles."""
    import cv2
    from scipy.spatial import Delaunay

    index = np.concatenate([np.asarray(OVAL), np.arange(FACE_VERTICES, len(pixels))])
    points = pixels[index]
    triangles = Delaunay(points).simplices
    contour = pixels[list(OVAL)].astype(np.float32)
    centres = points[triangles].mean(axis=1)
    outside = np.array([cv2.pointPolygonTest(contour, (float(x), float(y)), False) < 0 for x, y in centres])
    triangles = triangles[outside]
    a, b, c = (points[triangles[:, k]] for k in range(3))
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    # y points down: the face's counter-clockwise triangles have negative area in the image
    triangles[area > 0] = triangles[area > 0][:, [0, 2, 1]]
    return np.asarray(index[triangles], np.int32)


def _face_morphs(face: NDArray[np.float64]) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Return names and displacements (K, 468, 3) of the visemes, the blinks and the brows for a face with shut lips."""
    shapes = load_prior().deltas.astype(np.float64) * person_scale(face)
    for name, pairs in (("eyeBlinkLeft", LEFT_LID_PAIRS), ("eyeBlinkRight", RIGHT_LID_PAIRS)):
        shapes[ARKIT.index(name)] += close_lids(face + shapes[ARKIT.index(name)], pairs)
    others = ("eyeBlinkLeft", "eyeBlinkRight", "browInnerUp")
    named = [shapes[ARKIT.index(name)] for name in others]
    return (*VISEMES, *others), np.concatenate([viseme_shapes(shapes, face), named])


def _rest(face: NDArray[np.float64]) -> NDArray[np.float64]:
    """Displacement (468, 3) from the portrait's open smile to lips that just meet, spread smoothly over the skin."""
    mouth = np.asarray(MOUTH)
    centre = face[[13, 14]].mean(axis=0)
    half = (face[308, 0] - face[78, 0]) / 2
    target = {int(i): face[i].copy() for i in mouth}
    for upper, lower in LIP_PAIRS:
        meet = face[upper] + _UPPER_SHARE * (face[lower] - face[upper])
        target[upper], target[lower] = meet.copy(), meet.copy()
    line = face[13, 1] + _UPPER_SHARE * (face[14, 1] - face[13, 1])
    inner = np.zeros((len(mouth), 3))
    for n, i in enumerate(mouth):
        point = target[int(i)]
        along = (point[0] - centre[0]) / half
        point[0] = centre[0] + (point[0] - centre[0]) * 0.82
        point[1] += 0.6 * (line - point[1])
        point[2] += 1.5 * (1 - along**2)
        inner[n] = point - face[i]
    follow = np.where(np.isin(np.arange(20), [0, 10]), 0.95, np.where(np.arange(20) < 10, 0.62, 0.80))
    moved = (*MOUTH, *_OUTER_LIPS)
    still = (*OVAL, *LEFT_EYE, *RIGHT_EYE, *_NOSE)
    return extend(moved, np.concatenate([inner, inner * follow[:, None]]), still)


def _eyes(face: NDArray[np.float64], uv: NDArray[np.float64]) -> Patch:
    """The eyeballs as the photograph shows them: what lies between the lids, a little behind them and larger."""
    vertices, coordinates, triangles = [], [], []
    for n, loop in enumerate((RIGHT_EYE, LEFT_EYE)):
        ids = np.asarray(loop)
        first = n * len(loop)
        vertices.append(face[ids] + (face[ids] - face[ids].mean(axis=0)) * 0.12 + [0, 0, -1.5])
        coordinates.append(uv[ids] + (uv[ids] - uv[ids].mean(axis=0)) * 0.12)
        triangles.append(np.asarray(loop_triangles(tuple(range(len(loop))))) + first)
    return Patch(
        vertices=np.concatenate(vertices),
        uv=np.concatenate(coordinates).astype(np.float32),
        triangles=np.concatenate(triangles).astype(np.int32),
    )


def _teeth(face: NDArray[np.float64], pose: HeadPoses, size: int) -> Patch:
    """A card through the smile's inner lips, a little behind them, that carries the photographed teeth."""
    across, up, rows = 9, 5, []
    left, right = face[78], face[308]
    for t in np.linspace(-0.10, 1.10, across):
        x = left + (right - left) * t
        rows += [x + np.array([0.0, h, 0.0]) for h in np.linspace(14.0, -18.0, up)]
    card = np.array(rows)
    pixels = pose.project(card)[0, :, :2] * [1, -1]
    curve = ((card[:, 0] - face[[78, 308], 0].mean()) / (right[0] - left[0]) * 2) ** 2
    # the photograph was taken along z: moving the card along the line of sight keeps its picture in place
    sight = pose.rotation[0].T @ np.array([0.0, 0.0, 1.0])
    front = face[[13, 14]].mean(axis=0)[2] - 4.0
    depth = front - 7.0 * curve
    card = card + ((depth - card[:, 2]) / sight[2])[:, None] * sight
    triangles = []
    for i in range(across - 1):
        for j in range(up - 1):
            a, b, c, d = i * up + j, i * up + j + 1, (i + 1) * up + j, (i + 1) * up + j + 1
            triangles += [(a, b, c), (c, b, d)]
    return Patch(vertices=card, uv=np.asarray(pixels / size, np.float32), triangles=np.asarray(triangles, np.int32))
