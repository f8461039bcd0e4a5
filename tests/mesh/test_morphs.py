from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar_pipeline.mesh import topology
from avatar_pipeline.mesh.morphs import (
    ARKIT,
    MORPH_NAMES,
    VISEME_MIX,
    VISEMES,
    arkit_shapes,
    person_scale,
    seal_lips,
    viseme_shapes,
)
from avatar_pipeline.mesh.prior import load_prior
from tests.mesh.heads import rest, template_head, track_of


def lip_gaps(face: np.ndarray) -> np.ndarray:
    return np.array([np.linalg.norm(face[upper] - face[lower]) for upper, lower in topology.LIP_PAIRS])


def person(head: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The face at rest and all its shapes, from the prior alone."""
    face = rest(head)
    shapes = arkit_shapes(track_of(head[None], np.zeros(1)), head, face)
    return face, dict(zip(MORPH_NAMES, [*shapes, *viseme_shapes(shapes, face)], strict=True))


@pytest.fixture(scope="module")
def template() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    return person(template_head())


def test_there_are_52_arkit_names_then_15_visemes() -> None:
    assert len(ARKIT) == len(set(ARKIT)) == 52
    assert MORPH_NAMES[52:] == tuple(f"viseme_{name}" for name in VISEMES)
    assert len(VISEMES) == 15
    assert set(VISEME_MIX) == set(VISEMES)


def test_visemes_mix_known_shapes_with_weights_between_0_and_1() -> None:
    for mix in VISEME_MIX.values():
        assert set(mix) <= set(ARKIT)
        assert all(0 < weight <= 1 for weight in mix.values())


stretch = st.tuples(*[st.floats(0.88, 1.12)] * 3)


@settings(max_examples=15, deadline=None)
@given(stretch)
def test_for_any_head_blinks_close_and_lips_meet_and_part_as_promised(scale: tuple[float, float, float]) -> None:
    face, shapes = person(template_head(np.array(scale)))
    assert lip_gaps(face).max() < 1e-9
    for side, pairs in (("Left", topology.LEFT_LID_PAIRS), ("Right", topology.RIGHT_LID_PAIRS)):
        blinking = face + shapes[f"eyeBlink{side}"]
        assert max(np.linalg.norm(blinking[u] - blinking[v]) for u, v in pairs) < 1e-6
    assert lip_gaps(face + shapes["viseme_PP"]).max() < 1e-6
    assert lip_gaps(face + shapes["jawOpen"] + shapes["mouthClose"]).max() < 1e-6
    opened = face + shapes["jawOpen"]
    assert 24 - 1e-6 <= np.linalg.norm(opened[13] - opened[14]) <= 36.1


def test_open_visemes_are_open_in_the_order_of_speech(template: tuple[np.ndarray, dict[str, np.ndarray]]) -> None:
    face, shapes = template
    gap = {name: lip_gaps(face + shapes[f"viseme_{name}"])[4] for name in VISEMES}
    assert gap["sil"] == gap["PP"] < 1e-6
    assert gap["aa"] > 14
    assert gap["aa"] > gap["O"] > gap["E"] > gap["I"] > gap["SS"] > 0.5
    assert 0.3 < gap["U"] < 8


def test_o_and_u_are_rounded_and_i_is_spread(template: tuple[np.ndarray, dict[str, np.ndarray]]) -> None:
    face, shapes = template

    def width(name: str) -> float:
        return float(np.ptp((face + shapes[f"viseme_{name}"])[[61, 291], 0]))

    assert width("U") < 0.85 * width("sil")
    assert width("O") < 0.9 * width("sil")
    assert width("I") > 1.05 * width("sil")
    assert shapes["viseme_U"][[0, 17], 2].min() > 1, "rounded lips come forward"


def test_a_blink_leaves_the_mouth_and_the_other_eye_alone(template: tuple[np.ndarray, dict[str, np.ndarray]]) -> None:
    _, shapes = template
    blink = shapes["eyeBlinkLeft"]
    assert np.abs(blink[list(topology.RIGHT_EYE)]).max() < 0.1
    assert np.abs(blink[list(topology.MOUTH)]).max() < 0.01


def test_without_scores_the_shapes_are_the_prior_at_the_persons_size() -> None:
    smile = load_prior().deltas[ARKIT.index("mouthSmileLeft")]
    small, large = template_head() * 0.9, template_head() * 1.1
    np.testing.assert_allclose(person(small)[1]["mouthSmileLeft"], person_scale(small) * smile, atol=1e-4)
    np.testing.assert_allclose(person(large)[1]["mouthSmileLeft"], person_scale(large) * smile, atol=1e-4)
    assert person_scale(large) / person_scale(small) == pytest.approx(1.1 / 0.9)


def test_with_scores_the_shapes_become_the_persons_own() -> None:
    """A person whose smile is twice as wide as the prior's, whose rest face scores 0.2, and who never puffs a cheek."""
    head, rng = template_head(), np.random.default_rng(5)
    names = tuple(name for name in ARKIT if name != "tongueOut")
    smile, puff = ARKIT.index("mouthSmileLeft"), ARKIT.index("cheekPuff")
    score = rng.uniform(0, 1, 300)
    heads = np.repeat(head[None], 300, axis=0)
    heads[:, :468] += score[:, None, None] * 2 * load_prior().deltas[smile]
    scores = np.zeros((300, 51))
    scores[:, names.index("mouthSmileLeft")] = score + 0.2
    track = track_of(heads, rng.uniform(-10, 10, 300), scores=scores, names=names)
    shapes = arkit_shapes(track, head, rest(head))
    corner = shapes[smile, 291] / load_prior().deltas[smile, 291]
    np.testing.assert_allclose(corner[:2], 2, rtol=0.1)
    np.testing.assert_allclose(shapes[puff], load_prior().deltas[puff], atol=0.05)


def test_frames_without_a_face_or_scores_are_passed_over() -> None:
    head = template_head()
    heads, scores = np.repeat(head[None], 20, axis=0), np.zeros((20, 51))
    names = tuple(name for name in ARKIT if name != "tongueOut")
    track = track_of(heads, np.zeros(20), scores=scores, names=names)
    track.landmarks[3:6] = np.nan
    track.found[3:6] = False
    assert track.blendshapes is not None
    track.blendshapes[3:7] = np.nan
    assert np.isfinite(arkit_shapes(track, head, rest(head))).all()


def test_sealing_moves_both_lips_halfway() -> None:
    face = topology.TEMPLATE.astype(float)
    move = seal_lips(face)
    np.testing.assert_allclose(move[13], -move[14], atol=1e-9)
    assert (move[list(topology.OVAL)] == 0).all()
