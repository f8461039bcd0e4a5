"""Head pose: the similarity between a head in millimetres and its landmarks in pixels, and the neutral head itself.

Camera coordinates are weak perspective, in pixels: x to the right of the image, y up, z towards the camera, origin in
the image's upper left corner. Object coordinates are millimetres: x to the subject's left, y up, z out of the face. A
face that looks straight into the camera has the identity as its rotation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

IRIS_DISTANCE = 63.0
"""Mean distance of adult pupils in mm (N. A. Dodgson, "Variation and extrema of human interpupillary distance", 2004):
the one length that gives a head from a single camera its size."""

RIGID = np.array(
    [10, 109, 338, 67, 297, 103, 332, 54, 284, 151, 9, 8, 168, 6, 197, 195, 5, 33, 133, 362, 263, 127, 356, 234, 454]
)
"""Landmarks that expressions hardly move: forehead, bridge of the nose, corners of the eyes, temples and ears."""

_LEFT_RIGHT = np.array([(33, 263), (133, 362), (127, 356), (234, 454), (54, 284), (61, 291), (172, 397)])
"""(subject's right, subject's left) landmarks that mirror each other."""
_BROW_CHIN = (10, 152)
_IRISES = (468, 473)
_ANCHORS = np.unique(np.concatenate([RIGID, _LEFT_RIGHT.ravel(), _BROW_CHIN, _IRISES]))
_LIPS = (13, 14)
_EYELIDS = ((159, 145), (386, 374))
_EXPRESSIVE = np.array([13, 14, 78, 308, 61, 291, 17, 0, 152, 159, 145, 386, 374, 105, 334])
_ITERATIONS = 6
_NEUTRAL_SHARE = 0.15
_MOST_FRAMES = 1000
"""Frames that the neutral is made of at most, spread evenly: more do not change a median, but cost memory."""


@dataclass(frozen=True, slots=True)
class HeadPoses:
    """Where the head is in each of T frames: `camera = scale * rotation @ object + translation`.

    `scale` (T,) in pixels a millimetre, `rotation` (T, 3, 3), `translation` (T, 3) in pixels; NaN where there is no
    face.
    """

    scale: NDArray[np.float64]
    rotation: NDArray[np.float64]
    translation: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.scale)

    def project(self, points: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Map object points (V, 3) or (T, V, 3) in mm to camera points (T, V, 3) in pixels."""
        turned = np.asarray(points, np.float64) @ self.rotation.transpose(0, 2, 1)
        projected: NDArray[np.float64] = turned * self.scale[:, None, None] + self.translation[:, None]
        return projected

    def unproject(self, camera: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Map camera points (T, V, 3) in pixels to object points (T, V, 3) in mm."""
        centred = np.asarray(camera, np.float64) - self.translation[:, None]
        points: NDArray[np.float64] = centred / self.scale[:, None, None] @ self.rotation
        return points

    @property
    def angles(self) -> NDArray[np.float64]:
        """Yaw, pitch and roll (T, 3) in degrees, see `rotation_angles`."""
        return rotation_angles(self.rotation)


def to_camera(landmarks: NDArray[np.floating[Any]], width: int, height: int) -> NDArray[np.float64]:
    """Turn normalised landmarks (..., 3) into camera coordinates (..., 3) in pixels: (x·W, −y·H, −z·W)."""
    camera: NDArray[np.float64] = np.asarray(landmarks, np.float64) * np.array([width, -height, -width], np.float64)
    return camera


def rotation_angles(rotation: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return yaw, pitch and roll (..., 3) in degrees of rotations (..., 3, 3) from object to camera.

    The rotation is taken apart as Ry(yaw) Rx(−pitch) Rz(roll): yaw > 0 is a turn to the subject's left, pitch > 0 looks
    up, roll > 0 leans towards the subject's right shoulder.
    """
    R = np.asarray(rotation, np.float64)
    yaw = np.arctan2(R[..., 0, 2], R[..., 2, 2])
    pitch = np.arcsin(np.clip(R[..., 1, 2], -1.0, 1.0))
    roll = np.arctan2(R[..., 1, 0], R[..., 1, 1])
    angles: NDArray[np.float64] = np.degrees(np.stack([yaw, pitch, roll], axis=-1))
    return angles


def fit_poses(camera: NDArray[np.floating[Any]], neutral: NDArray[np.floating[Any]]) -> HeadPoses:
    """Fit the pose of each frame to the `RIGID` landmarks, in the least-squares sense.

    `camera` (T, 478, 3) in pixels, `neutral` (468 or more, 3) in mm. Frames that hold NaN get NaN poses. Closed form
    of S. Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 1991.
    """
    target = np.asarray(camera, np.float64)[:, RIGID]
    found = np.isfinite(target).all(axis=(1, 2))
    source = np.asarray(neutral, np.float64)[RIGID]
    origin = source.mean(axis=0)
    source = source - origin
    centre = target[found].mean(axis=1)
    covariance = np.einsum("tvi,vj->tij", target[found] - centre[:, None], source)
    U, S, Vt = np.linalg.svd(covariance)
    signs = np.ones_like(S)
    signs[:, 2] = np.where(np.linalg.det(U) * np.linalg.det(Vt) < 0, -1.0, 1.0)
    R = (U * signs[:, None, :]) @ Vt
    poses = HeadPoses(
        scale=np.full(len(target), np.nan),
        rotation=np.full((len(target), 3, 3), np.nan),
        translation=np.full((len(target), 3), np.nan),
    )
    scale = (S * signs).sum(axis=1) / (source**2).sum()
    poses.scale[found] = scale
    poses.rotation[found] = R
    poses.translation[found] = centre - scale[:, None] * (R @ origin)
    return poses


def robust_neutral(camera: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float64], HeadPoses]:
    """Find a person's neutral head and its pose in every frame.

    Generalised Procrustes analysis (J. C. Gower, "Generalized Procrustes analysis", Psychometrika 1975) with the
    median in place of the mean, so that blinks and speech do not pull; then the median of the 15 % of the frames that
    have the mouth closed, the eyes open, and are not turned away.

    Args:
        camera: (T, 478, 3) in pixels, T ≥ 1. Frames that hold NaN are passed over.

    Returns:
        The neutral (478, 3) in mm, facing along +z, scaled to an iris distance of 63 mm, origin in the centroid of the
        `RIGID` landmarks; and the poses of all T frames against it.

    Raises:
        ValueError: there is no frame with a face.
    """
    found = np.flatnonzero(np.isfinite(camera[:, RIGID]).all(axis=(1, 2)))
    if not len(found):
        raise ValueError("no frame holds a face")
    chosen = found[np.unique(np.linspace(0, len(found) - 1, min(len(found), _MOST_FRAMES)).round().astype(int))]
    heads = np.asarray(camera[chosen], np.float64)
    turn = np.abs(heads[:, 234, 2] - heads[:, 454, 2]) / np.linalg.norm(heads[:, 234] - heads[:, 454], axis=1)
    reference = _frontalise(heads[np.argmin(turn)])
    # Only these landmarks take part in finding the pose and the front; the others are worked out once, at the end.
    anchors = heads[:, _ANCHORS]
    for _ in range(_ITERATIONS):
        moved = np.zeros_like(reference)
        moved[_ANCHORS] = np.median(fit_poses(heads, reference).unproject(anchors), axis=0)
        reference = _frontalise(moved)
    reference = _frontalise(np.median(fit_poses(heads, reference).unproject(heads), axis=0))
    poses = fit_poses(heads, reference)
    shapes = poses.unproject(heads)
    neutral = _frontalise(np.median(shapes[_most_neutral(shapes, poses)], axis=0))
    return neutral, fit_poses(camera, neutral)


def _frontalise(head: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn a head (478, 3) to face along +z, by its symmetric pairs; scale it to mm and centre it."""
    x = (head[_LEFT_RIGHT[:, 1]] - head[_LEFT_RIGHT[:, 0]]).mean(axis=0)
    x /= np.linalg.norm(x)
    y = head[_BROW_CHIN[0]] - head[_BROW_CHIN[1]]
    y -= x * (x @ y)
    y /= np.linalg.norm(y)
    turned = head @ np.stack([x, y, np.cross(x, y)]).T
    scaled = turned * (IRIS_DISTANCE / np.linalg.norm(turned[_IRISES[0]] - turned[_IRISES[1]]))
    centred: NDArray[np.float64] = scaled - scaled[RIGID].mean(axis=0)
    return centred


def _most_neutral(shapes: NDArray[np.float64], poses: HeadPoses) -> NDArray[np.intp]:
    """Return the indices of the frames whose mouth is closed, whose eyes are open as usual, and which look ahead."""

    def score(values: NDArray[np.float64]) -> NDArray[np.float64]:
        centred = values - np.median(values)
        scaled: NDArray[np.float64] = centred / (np.median(np.abs(centred)) + 1e-9)
        return scaled

    def gap(pair: tuple[int, int]) -> NDArray[np.float64]:
        distance: NDArray[np.float64] = np.linalg.norm(shapes[:, pair[0]] - shapes[:, pair[1]], axis=1)
        return distance

    eyes = gap(_EYELIDS[0]) + gap(_EYELIDS[1])
    expressive = shapes[:, _EXPRESSIVE]
    deviation = np.linalg.norm(expressive - np.median(expressive, axis=0), axis=2).mean(axis=1)
    turned = np.degrees(np.arccos(np.clip(poses.rotation[:, 2, 2], -1.0, 1.0)))
    penalty = score(gap(_LIPS)) + 0.5 * np.abs(score(eyes)) + 0.5 * score(deviation)
    penalty += 0.5 * np.maximum(score(turned), 0.0)
    penalty[eyes < np.percentile(eyes, 20)] += 5.0
    count = max(min(5, len(shapes)), int(_NEUTRAL_SHARE * len(shapes)))
    return np.argsort(penalty, kind="stable")[:count]
