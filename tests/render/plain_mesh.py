"""A mesh made without the mesh room: the tracked neutral, a jaw that opens, and a dark mouth."""

from __future__ import annotations

import numpy as np

from avatar_pipeline.face.pose import robust_neutral, to_camera
from avatar_pipeline.face.types import LandmarkTrack
from avatar_pipeline.mesh import topology
from avatar_pipeline.mesh.topology import LIP_PAIRS, MOUTH
from avatar_pipeline.mesh.types import FACE_VERTICES, AvatarMesh
from avatar_pipeline.voice.visemes import VISEMES

OPENING = 14.0
"""Millimetres that the middle of the lower lip drops for jawOpen = 1."""
_OPEN_VISEMES = {"aa": 1.0, "E": 0.5, "O": 0.7, "I": 0.3}


def plain_mesh(track: LandmarkTrack) -> AvatarMesh:
    neutral, _ = robust_neutral(to_camera(track.landmarks, track.width, track.height))
    face = _shut(neutral[:FACE_VERTICES])
    loop = list(MOUTH)
    back = face[loop] + [0.0, 0.0, -25.0]
    centre = back.mean(axis=0, keepdims=True)
    vertices = np.concatenate([face, back, centre])
    first, last = FACE_VERTICES, FACE_VERTICES + len(loop)
    mouth = []
    for i, vertex in enumerate(loop):
        j = (i + 1) % len(loop)
        mouth += [(loop[j], vertex, first + i), (loop[j], first + i, first + j), (first + j, first + i, last)]
    jaw = np.zeros((len(vertices), 3))
    jaw[:FACE_VERTICES, 1] = -OPENING * _dropping(face)
    jaw[first:last] = jaw[loop]
    names = ("jawOpen", *(f"viseme_{name}" for name in VISEMES))
    morphs = np.stack([jaw, *(jaw * _OPEN_VISEMES.get(name, 0.0) for name in VISEMES)])
    texture = np.full((64, 64, 3), (200, 150, 130), np.uint8)
    texture[:8, :8] = (60, 20, 20)
    uv = np.concatenate([topology.UV, np.full((len(vertices) - FACE_VERTICES, 2), 0.05)])
    return AvatarMesh(
        vertices=vertices.astype(np.float32),
        uv=uv.astype(np.float32),
        skin=topology.TRIANGLES,
        eyes=topology.EYE_TRIANGLES,
        mouth=np.array(mouth, np.int32),
        morph_names=names,
        morphs=morphs.astype(np.float32),
        texture=texture,
    )


def _shut(face: np.ndarray) -> np.ndarray:
    shut = face.copy()
    for upper, lower in LIP_PAIRS:
        shut[[upper, lower], 1] = (face[upper, 1] + face[lower, 1]) / 2
    return shut


def _dropping(face: np.ndarray) -> np.ndarray:
    """How far each vertex goes with the jaw: all of the lower lip's middle and the chin, nothing of the upper lip."""
    middle = (face[78] + face[308]) / 2
    half = abs(face[308, 0] - face[78, 0]) / 2
    across = np.clip(1 - ((face[:, 0] - middle[0]) / (half * 1.15)) ** 2, 0, 1)
    below = face[:, 1] < face[17, 1]
    drop = np.where(below, np.clip(1 - ((face[:, 0] - middle[0]) / (half * 3)) ** 2, 0, 1), 0.0)
    for vertex in (*(lower for _, lower in LIP_PAIRS), 17, 84, 181, 91, 314, 405, 321, 15, 16, 85, 86, 315, 316):
        drop[vertex] = across[vertex]
    return drop
