"""Synthetic heads for the mesh tests: the template with irises, tracks of it in motion, and a real face as a video."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avatar_pipeline.face.pose import HeadPoses, rotation_angles
from avatar_pipeline.face.types import LandmarkTrack
from avatar_pipeline.mesh import topology
from avatar_pipeline.mesh.build import rest_face

WIDTH, HEIGHT = 640, 720


def template_head(scale: NDArray[np.float64] | float = 1.0) -> NDArray[np.float64]:
    """The template with irises (478, 3), stretched by `scale`, then brought back to an iris distance of 63 mm."""
    face = topology.TEMPLATE.astype(np.float64) * scale
    irises = [
        np.repeat(face[list(loop)].mean(axis=0, keepdims=True), 5, axis=0)
        for loop in (topology.RIGHT_EYE, topology.LEFT_EYE)
    ]
    head = np.concatenate([face, *irises])
    return head * (63.0 / np.linalg.norm(head[468] - head[473]))


def rest(head: NDArray[np.float64]) -> NDArray[np.float64]:
    return rest_face(head)


def rotation(yaw: float, pitch: float = 0.0) -> NDArray[np.float64]:
    a, b = np.radians(yaw), np.radians(-pitch)
    about_y = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return about_y @ about_x


def track_of(
    heads: NDArray[np.float64],
    yaws: NDArray[np.float64],
    *,
    scores: NDArray[np.float64] | None = None,
    names: tuple[str, ...] = (),
    blur: NDArray[np.float64] | None = None,
) -> LandmarkTrack:
    """The track of heads (T, 478, 3) in mm turned by `yaws` (T,), 3 px a mm, in the middle of the picture."""
    T = len(heads)
    R = np.stack([rotation(yaw) for yaw in yaws])
    poses = HeadPoses(np.full(T, 3.0), R, np.tile([WIDTH / 2, -HEIGHT * 0.4, 0.0], (T, 1)))
    landmarks = poses.project(heads) / [WIDTH, -HEIGHT, -WIDTH]
    return LandmarkTrack(
        width=WIDTH,
        height=HEIGHT,
        time_base=Fraction(1, 25),
        pts=np.arange(T, dtype=np.int64),
        found=np.ones(T, bool),
        landmarks=landmarks.astype(np.float32),
        angles=rotation_angles(R).astype(np.float32),
        blur=(np.full(T, 100.0) if blur is None else blur).astype(np.float32),
        face_size=np.full(T, 0.5, np.float32),
        blendshapes=None if scores is None else scores.astype(np.float32),
        blendshape_names=names,
        detector="synthetic",
    )


def portrait_video(path: Path, *, seconds: int = 2, size: int = 320) -> Path:
    """A video of Eileen Collins' face (NASA, public domain), swaying and nodding a little, at 12 frames a second."""
    import cv2
    from skimage.data import astronaut

    from avatar_pipeline.media.encode import encode_segment, rgb_to_i420

    face = cv2.resize(np.ascontiguousarray(astronaut()[0:250, 100:350]), (size, size), interpolation=cv2.INTER_CUBIC)
    frames = []
    for t in range(12 * seconds):
        phase = 2 * np.pi * t / 24
        move = cv2.getRotationMatrix2D((size / 2, size / 2), 3 * np.sin(phase), 1.0 + 0.03 * np.cos(phase))
        move[:, 2] += (4 * np.sin(phase), 3 * np.cos(phase))
        frames.append(rgb_to_i420(cv2.warpAffine(face, move, (size, size), borderMode=cv2.BORDER_REFLECT)))
    encode_segment(path, frames, width=size, height=size, fps=Fraction(12))
    return path
