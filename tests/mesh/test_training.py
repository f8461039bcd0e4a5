"""The recipes behind the shipped data, on synthetic tracks."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from avatar_pipeline.mesh import topology
from avatar_pipeline.mesh.morphs import ARKIT
from avatar_pipeline.mesh.prior import load_prior
from tests.mesh.heads import template_head, track_of
from training.blendshapes.__main__ import main
from training.blendshapes.fit import displacements, mirrored, other_side, prior_arrays, ridge
from training.blendshapes.layout import build_topology

NAMES = tuple(name for name in ARKIT if name != "tongueOut")


def test_mirroring_a_mirrored_clip_gives_it_back() -> None:
    rng = np.random.default_rng(1)
    moved, scores = rng.normal(size=(4, 468, 3)), rng.uniform(size=(4, 51))
    twice_moved, twice_scores = mirrored(*(a[4:] for a in mirrored(moved, scores, NAMES)), NAMES)
    np.testing.assert_array_equal(twice_moved[4:], moved)
    np.testing.assert_array_equal(twice_scores[4:], scores)


def test_other_sides_are_arkit_names() -> None:
    assert {other_side(name) for name in ARKIT} == set(ARKIT)


def test_ridge_regression_finds_the_displacement_of_each_score() -> None:
    rng = np.random.default_rng(2)
    truth, scores = rng.normal(size=(51, 468, 3)), rng.normal(size=(4000, 51))
    found = ridge(np.einsum("tb,bvc->tvc", scores, truth), scores)
    np.testing.assert_allclose(found, truth, atol=0.05)


def test_a_shape_shown_often_is_measured_and_one_never_shown_is_modelled() -> None:
    rng, head = np.random.default_rng(3), template_head()
    shown = {"jawOpen": rng.uniform(0, 1, 200), "mouthSmileLeft": rng.uniform(0, 1, 200)}
    heads, scores = np.repeat(head[None], 200, axis=0), np.zeros((200, 51))
    for name, score in shown.items():
        heads[:, :468] += score[:, None, None] * load_prior().deltas[ARKIT.index(name)]
        scores[:, NAMES.index(name)] = score
    track = track_of(heads, rng.uniform(-8, 8, 200), scores=scores, names=NAMES)
    arrays = prior_arrays([track, track])
    measured = dict(zip(arrays["names"].tolist(), arrays["measured"].tolist(), strict=True))
    assert {name for name, was in measured.items() if was} == {"jawOpen", "mouthSmileLeft", "mouthSmileRight"}
    corner = arrays["deltas"][ARKIT.index("mouthSmileLeft"), 291] * arrays["quantum"]
    np.testing.assert_allclose(corner, load_prior().deltas[ARKIT.index("mouthSmileLeft"), 291], atol=0.9)


def test_a_track_without_scores_cannot_train() -> None:
    with pytest.raises(ValueError, match="no blendshape scores"):
        displacements(track_of(template_head()[None], np.zeros(1)))


@pytest.mark.parametrize("arguments", [[], ["everything"], ["prior", "topology"]])
def test_a_wrong_call_says_how_to_call(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.skipif("AVATAR_EVAL_DATA" not in os.environ, reason="AVATAR_EVAL_DATA names no folder")
def test_the_shipped_topology_is_what_the_recipe_makes() -> None:
    arrays = build_topology(Path(os.environ["AVATAR_EVAL_DATA"]) / "models" / "face_landmarker.task")
    np.testing.assert_array_equal(arrays["triangles"], topology.TRIANGLES)
    np.testing.assert_allclose(arrays["uv"], topology.UV, atol=1e-6)
    np.testing.assert_allclose(arrays["template"], topology.TEMPLATE, atol=1e-4)
