from __future__ import annotations

import numpy as np
import pytest

from avatar_pipeline.mesh import topology
from avatar_pipeline.mesh.morphs import ARKIT
from avatar_pipeline.mesh.prior import PRIOR_FILE, load_prior
from training.blendshapes.fit import other_side


def test_the_prior_has_the_52_shapes_in_order_and_is_small() -> None:
    prior = load_prior()
    assert prior.names == ARKIT
    assert prior.deltas.shape == (52, 468, 3)
    assert np.isfinite(prior.deltas).all()
    assert PRIOR_FILE.stat().st_size < 250_000


def test_the_prior_is_exactly_symmetric_so_nobodys_asymmetry_is_in_it() -> None:
    prior = load_prior()
    for name in ARKIT:
        mirrored = prior.deltas[ARKIT.index(other_side(name))][topology.MIRROR] * [-1, 1, 1]
        if name in ("jawLeft", "jawRight", "mouthLeft", "mouthRight") or name.endswith(("Left", "Right")):
            np.testing.assert_allclose(prior.deltas[ARKIT.index(name)], mirrored, atol=0.003)
        else:
            np.testing.assert_allclose(prior.deltas[ARKIT.index(name)], mirrored, atol=0.003, err_msg=name)


@pytest.mark.parametrize("name", ["jawOpen", "mouthSmileLeft", "mouthPucker", "eyeBlinkLeft", "browInnerUp"])
def test_what_people_show_in_talking_was_measured(name: str) -> None:
    assert load_prior().measured[ARKIT.index(name)]


@pytest.mark.parametrize("name", [n for n in ARKIT if n != "tongueOut"])
def test_every_shape_moves_something_by_a_plausible_amount(name: str) -> None:
    largest = np.linalg.norm(load_prior().deltas[ARKIT.index(name)], axis=1).max()
    assert 0.3 < largest < 40


@pytest.mark.parametrize(
    ("name", "vertex", "axis", "sign"),
    [
        ("jawOpen", 152, 1, -1),
        ("jawForward", 152, 2, 1),
        ("jawLeft", 152, 0, 1),
        ("mouthSmileLeft", 291, 1, 1),
        ("mouthFrownLeft", 291, 1, -1),
        ("mouthStretchRight", 61, 0, -1),
        ("mouthPucker", 291, 0, -1),
        ("mouthUpperUpLeft", 270, 1, 1),
        ("mouthLowerDownRight", 181, 1, -1),
        ("browInnerUp", 107, 1, 1),
        ("browDownLeft", 336, 1, -1),
        ("eyeWideRight", 159, 1, 1),
        ("eyeBlinkLeft", 386, 1, -1),
        ("cheekPuff", 425, 2, 1),
        ("noseSneerRight", 129, 1, 1),
    ],
)
def test_shapes_move_the_way_their_names_say(name: str, vertex: int, axis: int, sign: int) -> None:
    assert load_prior().deltas[ARKIT.index(name), vertex, axis] * sign > 0.5


def test_one_sided_shapes_leave_the_other_side_alone() -> None:
    prior = load_prior()
    far_right = topology.TEMPLATE[:, 0] < -20
    for k, name in enumerate(ARKIT):
        if name.endswith("Left") and name not in ("jawLeft", "mouthLeft"):
            assert np.abs(prior.deltas[k][far_right]).max() < 0.5, name
