from __future__ import annotations

import numpy as np
import pytest

from avatar_pipeline.mesh import topology
from avatar_pipeline.mesh.mouth import CAVITY_UV, LOWER_TEETH_UV, TONGUE_UV, UPPER_TEETH_UV

LOOPS = (topology.OVAL, topology.MOUTH, topology.LEFT_EYE, topology.RIGHT_EYE)


def directed_edges(triangles: np.ndarray) -> list[tuple[int, int]]:
    return [(int(t[i]), int(t[(i + 1) % 3])) for t in triangles for i in range(3)]


def test_the_skin_is_a_consistently_oriented_manifold_whose_boundary_is_the_four_loops() -> None:
    edges = directed_edges(topology.TRIANGLES)
    assert topology.TRIANGLES.shape == (852, 3)
    assert set(topology.TRIANGLES.ravel().tolist()) == set(range(468))
    assert len(edges) == len(set(edges)), "two triangles run along an edge in the same direction"
    boundary = {edge for edge in edges if edge[::-1] not in set(edges)}
    assert boundary == {(a, b) for loop in LOOPS for a, b in zip(loop, loop[1:] + loop[:1], strict=True)}


def test_the_triangles_are_those_of_the_installed_mediapipe() -> None:
    from training.blendshapes.layout import tesselation

    np.testing.assert_array_equal(topology.TRIANGLES, tesselation())


def test_the_eyes_are_closed_by_triangles_oriented_as_the_skin_is() -> None:
    edges = directed_edges(np.concatenate([topology.TRIANGLES, topology.EYE_TRIANGLES]))
    assert len(edges) == len(set(edges))
    boundary = {edge for edge in edges if edge[::-1] not in set(edges)}
    assert boundary == {(a, b) for loop in LOOPS[:2] for a, b in zip(loop, loop[1:] + loop[:1], strict=True)}


def test_mirroring_twice_is_no_change_and_mirrors_the_template_exactly() -> None:
    np.testing.assert_array_equal(topology.MIRROR[topology.MIRROR], np.arange(468))
    np.testing.assert_allclose(topology.TEMPLATE[topology.MIRROR] * [-1, 1, 1], topology.TEMPLATE, atol=1e-4)
    assert {int(topology.MIRROR[v]) for v in topology.LEFT_EYE} == set(topology.RIGHT_EYE)


def test_left_is_the_subjects_left() -> None:
    assert (
        topology.TEMPLATE[list(topology.LEFT_EYE), 0].min() > 0 > topology.TEMPLATE[list(topology.RIGHT_EYE), 0].max()
    )
    assert topology.UV[list(topology.LEFT_EYE), 0].min() > 0.5


def test_lid_and_lip_pairs_hold_the_upper_vertex_first() -> None:
    for pairs in (topology.LIP_PAIRS, topology.LEFT_LID_PAIRS, topology.RIGHT_LID_PAIRS):
        for upper, lower in pairs:
            assert topology.TEMPLATE[upper, 1] > topology.TEMPLATE[lower, 1]


def test_no_triangle_of_the_layout_is_flipped_and_none_is_smaller_than_a_few_texels() -> None:
    areas = topology.signed_uv_area(topology.UV, np.concatenate([topology.TRIANGLES, topology.EYE_TRIANGLES]))
    assert areas.min() * 1024**2 > 10


def test_the_layout_is_symmetric() -> None:
    np.testing.assert_allclose(topology.UV[topology.MIRROR] * [-1, 1] + [1, 0], topology.UV, atol=1e-6)


@pytest.mark.parametrize("box", [CAVITY_UV, UPPER_TEETH_UV, LOWER_TEETH_UV, TONGUE_UV])
def test_the_mouths_paint_lies_where_the_face_does_not(box: tuple[float, float, float, float]) -> None:
    margin = 4 / 1024
    u0, v0, u1, v1 = box
    oval = topology.UV[list(topology.OVAL)]
    corners = np.array([(u, v) for u in (u0 - margin, u1 + margin) for v in (v0 - margin, v1 + margin)])
    ahead = np.roll(oval, -1, axis=0)
    for corner in corners:
        cross = (ahead[:, 0] - oval[:, 0]) * (corner[1] - oval[:, 1]) - (ahead[:, 1] - oval[:, 1]) * (
            corner[0] - oval[:, 0]
        )
        assert not (cross <= 0).all(), f"{corner} is inside the face"


def test_shipped_arrays_cannot_be_changed_by_accident() -> None:
    with pytest.raises(ValueError, match="read-only"):
        topology.UV[0] = 0


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="NOSUCH"):
        topology.NOSUCH  # noqa: B018
