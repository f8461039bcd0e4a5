from __future__ import annotations

import numpy as np
import pytest

from avatar_pipeline.mesh import topology
from avatar_pipeline.mesh.build import assemble
from avatar_pipeline.mesh.morphs import MORPH_NAMES, arkit_shapes, viseme_shapes
from avatar_pipeline.mesh.mouth import build_mouth
from avatar_pipeline.mesh.types import FACE_VERTICES, AvatarMesh
from tests.mesh.heads import rest, rotation, template_head, track_of


@pytest.fixture(
    scope="module", params=[(1.0, 1.0, 1.0), (0.9, 1.1, 0.9), (1.1, 0.9, 1.1)], ids=["plain", "long", "wide"]
)
def mesh(request: pytest.FixtureRequest) -> AvatarMesh:
    head = template_head(np.array(request.param))
    face = rest(head)
    arkit = arkit_shapes(track_of(head[None], np.zeros(1)), head, face)
    shapes = np.concatenate([arkit, viseme_shapes(arkit, face)])
    return assemble(face, shapes, np.zeros((64, 64, 3), np.uint8))


def depth_in_front(points: np.ndarray, face: np.ndarray) -> np.ndarray:
    """The z of the nearest skin of each point's line of sight from the front, by brute force."""
    depth = np.full(len(points), np.inf)
    corners = face[topology.TRIANGLES]
    low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    near = ((corners[..., :2].max(axis=1) > low) & (corners[..., :2].min(axis=1) < high)).all(axis=1)
    for a, b, c in corners[near]:
        edges = np.array([b[:2] - a[:2], c[:2] - a[:2]]).T
        if np.linalg.det(edges) < 1e-6:
            continue
        v, w = np.linalg.solve(edges, (points[:, :2] - a[:2]).T)
        inside = (v >= 0) & (w >= 0) & (v + w <= 1)
        depth[inside] = np.minimum(depth[inside], a[2] + v[inside] * (b - a)[2] + w[inside] * (c - a)[2])
    return depth


@pytest.mark.parametrize("name", ["rest", *MORPH_NAMES])
def test_no_tooth_comes_through_the_skin(mesh: AvatarMesh, name: str) -> None:
    posed = mesh.vertices.astype(float) + (0 if name == "rest" else mesh.morph(name))
    mouth = build_mouth(mesh.vertices[:FACE_VERTICES].astype(float))
    teeth = FACE_VERTICES + np.r_[mouth.upper_teeth, mouth.lower_teeth]
    assert (posed[teeth, 2] < depth_in_front(posed[teeth], posed[:FACE_VERTICES]) - 1.0).all()


def test_the_upper_teeth_stay_and_the_lower_follow_the_jaw(mesh: AvatarMesh) -> None:
    mouth = build_mouth(mesh.vertices[:FACE_VERTICES].astype(float))
    moved = mesh.morph("jawOpen")[FACE_VERTICES:]
    assert np.abs(moved[mouth.upper_teeth, :2]).max() < 1e-6
    assert moved[mouth.lower_teeth, 1].max() < -15
    assert np.abs(mesh.morph("mouthSmileLeft")[FACE_VERTICES:][mouth.lower_teeth, 1]).max() < 1e-6


def test_the_pouch_hangs_on_the_lips_at_every_shape(mesh: AvatarMesh) -> None:
    rim = slice(FACE_VERTICES, FACE_VERTICES + len(topology.MOUTH))
    lips = list(topology.MOUTH)
    np.testing.assert_array_equal(mesh.vertices[rim], mesh.vertices[lips])
    np.testing.assert_array_equal(mesh.morphs[:, rim], mesh.morphs[:, lips])


@pytest.mark.parametrize("name", ["jawOpen", "viseme_aa", "viseme_O", "viseme_I"])
@pytest.mark.parametrize("yaw", [-20, 0, 20])
def test_nobody_looks_through_an_open_mouth(mesh: AvatarMesh, name: str, yaw: float) -> None:
    """Wherever the lips are apart, a triangle of the inside faces the viewer."""
    posed = (mesh.vertices + mesh.morph(name)) @ rotation(yaw).T
    upper, lower = (posed[[pair[k] for pair in topology.LIP_PAIRS[1:-1]]] for k in (0, 1))
    opening = np.concatenate([upper * (1 - t) + lower * t for t in (0.1, 0.5, 0.9)])[:, :2]
    a, b, c = (posed[mesh.mouth[:, k]] for k in range(3))
    facing = np.cross(b - a, c - a)[:, 2] > 0
    for point in opening:
        sides = [np.cross((q - p)[:, :2], point - p[:, :2]) for p, q in ((a, b), (b, c), (c, a))]
        assert (facing & (np.min(sides, axis=0) >= 0)).any()


def test_the_tongue_comes_out_between_the_teeth(mesh: AvatarMesh) -> None:
    mouth = build_mouth(mesh.vertices[:FACE_VERTICES].astype(float))
    tongue = mesh.morph("tongueOut")[FACE_VERTICES:][mouth.tongue]
    assert tongue[:, 2].max() > 10
    assert np.abs(mesh.morph("tongueOut")[:FACE_VERTICES]).max() == 0
