from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar_pipeline.mesh import topology
from avatar_pipeline.mesh.deform import extend, flipped_triangles, untangle, vertex_normals

LIPS = tuple(vertex for pair in topology.LIP_PAIRS for vertex in pair)
displacement = st.floats(-10, 10, allow_nan=False, width=32)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(displacement, displacement, displacement), min_size=len(LIPS), max_size=len(LIPS)))
def test_an_extension_is_exact_where_it_is_given_and_nowhere_larger(values: list[tuple[float, float, float]]) -> None:
    given_values = np.array(values)
    field = extend(LIPS, given_values, topology.OVAL)
    np.testing.assert_array_equal(field[list(LIPS)], given_values)
    assert (field[list(topology.OVAL)] == 0).all()
    assert np.abs(field).max() <= np.abs(given_values).max() + 1e-9


def test_an_extension_fades_with_distance() -> None:
    field = extend(LIPS, np.ones((len(LIPS), 1)), topology.OVAL)[:, 0]
    assert 1 > field[17] > field[18] > field[200] > field[152] == 0


def test_normals_of_the_template_point_out_of_the_face() -> None:
    normals = vertex_normals(topology.TEMPLATE.astype(float), topology.TRIANGLES)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1)
    assert normals[1, 2] > 0.8
    assert normals[454, 0] > 0.5 > -0.5 > normals[234, 0]


def test_a_small_fold_is_smoothed_away_and_the_rest_stays() -> None:
    face = topology.TEMPLATE.astype(float)
    folded = face.copy()
    folded[76] = face[62] + 1.5 * (face[62] - face[76])
    assert flipped_triangles(folded).any()
    smoothed = untangle(folded, topology.MOUTH)
    assert not flipped_triangles(smoothed).any()
    moved = np.linalg.norm(smoothed - folded, axis=1) > 0
    assert moved.sum() < 25
    assert not moved[list(topology.MOUTH)].any()


def test_a_face_that_is_broken_stays_broken() -> None:
    broken = topology.TEMPLATE.astype(float) * [1, 1, -1]
    broken[:, 0] *= -1
    assert flipped_triangles(untangle(broken, topology.MOUTH)).any()
    assert flipped_triangles(np.full((468, 3), np.nan)).all()
