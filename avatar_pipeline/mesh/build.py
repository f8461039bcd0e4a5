"""Build a person's mesh from their landmark track and the video it came from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avatar_pipeline.errors import FaceNotUsable
from avatar_pipeline.face.pose import IRIS_DISTANCE, RIGID, HeadPoses, fit_poses, robust_neutral, to_camera
from avatar_pipeline.face.types import LandmarkTrack
from avatar_pipeline.mesh import topology
from avatar_pipeline.mesh.check import check_mesh
from avatar_pipeline.mesh.deform import untangle
from avatar_pipeline.mesh.morphs import ARKIT, MORPH_NAMES, arkit_shapes, mix_visemes, seal_lips, viseme_shapes
from avatar_pipeline.mesh.mouth import build_mouth, follow_lips, keep_teeth_behind, mouth_shapes
from avatar_pipeline.mesh.paint import paint_mouth
from avatar_pipeline.mesh.texture import build_texture
from avatar_pipeline.mesh.types import FACE_VERTICES, AvatarMesh, MeshReport
from avatar_pipeline.progress import Progress, silent

_NEUTRAL_FRAMES = 1000
"""Frames that the neutral is measured in at most, spread evenly, as in `robust_neutral`."""
_CHUNK = 512


def build_mesh(track: LandmarkTrack, video: Path, *, progress: Progress = silent) -> tuple[AvatarMesh, MeshReport]:
    """Make the person's head: neutral shape with sealed lips, morph targets, mouth and texture.

    Args:
        track: the landmark track of `video`; with blendshape scores the morphs are the person's own.
        video: the file that was tracked; only the few frames that make the texture are decoded.
        progress: told of the stages 'shape', 'morphs' and 'texture'.

    Raises:
        FaceNotUsable: the track holds no face.
        InvalidMedia: the video is not the one that was tracked, or damaged.
    """
    if not track.found.any():
        raise FaceNotUsable(f"{video.name}: no frame holds a face.", remedy="Record a video that shows your face.")
    progress("shape", 0, 1)
    neutral, poses, error = _measure(track)
    progress("shape", 1, 1)
    face = rest_face(neutral)
    arkit = arkit_shapes(track, neutral, face)
    shapes = np.concatenate([arkit, viseme_shapes(arkit, face)])
    progress("morphs", 1, 1)
    skin = build_texture(track, video, poses, neutral, progress=progress)
    paint_mouth(skin.image, light=skin.light, lips=skin.lips)
    mesh = assemble(face, shapes, skin.image)
    faults = check_mesh(mesh)
    report = MeshReport(
        vertices=len(mesh.vertices),
        triangles=len(mesh.faces),
        morph_targets=len(mesh.morph_names),
        degenerate_triangles=faults.degenerate_triangles,
        flipped_uv_triangles=faults.flipped_uv_triangles,
        flipped_normals=faults.flipped_normals,
        texture_coverage=skin.coverage,
        reprojection_error=error,
    )
    return mesh, report


def rest_face(neutral: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the face at rest (468, 3) of a measured neutral (478, 3): lips sealed, folds of noise smoothed away."""
    face = neutral[:FACE_VERTICES] + seal_lips(neutral[:FACE_VERTICES])
    return untangle(face, topology.MOUTH)


def assemble(face: NDArray[np.float64], shapes: NDArray[np.float64], texture: NDArray[np.uint8]) -> AvatarMesh:
    """Join the face (468, 3) and its displacements (67, 468, 3) with the mouth's inside."""
    mouth = build_mouth(face)
    arkit = mouth_shapes(mouth, shapes[: len(ARKIT)])
    inside = follow_lips(np.concatenate([arkit, mix_visemes(arkit)]), shapes)
    inside = keep_teeth_behind(mouth, inside, face, shapes)
    return AvatarMesh(
        vertices=np.concatenate([face, mouth.vertices]).astype(np.float32),
        uv=np.concatenate([topology.UV, mouth.uv]).astype(np.float32),
        skin=topology.TRIANGLES.astype(np.int32),
        eyes=topology.EYE_TRIANGLES.astype(np.int32),
        mouth=mouth.triangles + np.int32(FACE_VERTICES),
        morph_names=MORPH_NAMES,
        morphs=np.concatenate([shapes, inside], axis=1).astype(np.float32),
        texture=texture,
    )


def _measure(track: LandmarkTrack) -> tuple[NDArray[np.float64], HeadPoses, float]:
    """Return the neutral (478, 3), the poses of all frames, and how well the neutral's rigid points fit.

    That is the RMS distance of the posed points to the landmarks, over the inter-ocular distance. A few hundred frames
    at a time are in camera coordinates, however long the track.
    """
    found = np.flatnonzero(track.found)
    most = found[np.unique(np.linspace(0, len(found) - 1, min(len(found), _NEUTRAL_FRAMES)).round().astype(int))]
    neutral, _ = robust_neutral(to_camera(track.landmarks[most], track.width, track.height))
    parts, squares = [], 0.0
    for start in range(0, len(track), _CHUNK):
        camera = to_camera(track.landmarks[start : start + _CHUNK], track.width, track.height)
        poses = fit_poses(camera, neutral)
        distance = np.linalg.norm((poses.project(neutral[RIGID]) - camera[:, RIGID])[..., :2], axis=-1)
        squares += float(np.nansum((distance / (poses.scale[:, None] * IRIS_DISTANCE)) ** 2))
        parts.append(poses)
    poses = HeadPoses(
        scale=np.concatenate([part.scale for part in parts]),
        rotation=np.concatenate([part.rotation for part in parts]),
        translation=np.concatenate([part.translation for part in parts]),
    )
    return neutral, poses, float(np.sqrt(squares / (np.isfinite(poses.scale).sum() * len(RIGID))))
