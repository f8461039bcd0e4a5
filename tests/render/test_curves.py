from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.mesh.morphs import ARKIT, MORPH_NAMES, mix_visemes
from avatar_pipeline.render.curves import SpeakingStyle, arkit_curves, lip_gap, morph_weights
from avatar_pipeline.voice.visemes import VISEMES

SIL, AA = VISEMES.index("sil"), VISEMES.index("aa")


def curves_of(aa):
    curves = np.zeros((len(aa), len(VISEMES)), np.float32)
    curves[:, AA] = aa
    curves[:, SIL] = 1 - curves[:, AA]
    return curves


@settings(deadline=None)
@given(aa=st.lists(st.sampled_from([0.0, 0.3, 1.0]), min_size=1, max_size=40), smoothing=st.sampled_from([0.0, 1.5]))
def test_silence_is_exactly_at_rest(footage, aa, smoothing):
    weights = morph_weights(curves_of(aa), footage.mesh, smoothing=smoothing)
    assert (weights[np.array(aa) == 0.0] == 0.0).all()


def test_only_viseme_targets_get_weight(footage):
    weights = morph_weights(curves_of([0.0, 0.5, 1.0]), footage.mesh)
    moving = [name for name, on in zip(footage.mesh.morph_names, weights.any(axis=0), strict=True) if on]
    assert moving == ["viseme_aa"]
    assert weights.max(axis=1).tolist() == [0.0, 0.5, 1.0]


def test_the_commanded_gap_follows_the_lips(footage):
    gap = lip_gap(footage.mesh, morph_weights(curves_of([0.0, 0.5, 1.0]), footage.mesh))
    assert gap == pytest.approx([0.0, 7.0, 14.0], abs=0.1)


def test_lips_that_overlap_leave_no_gap(footage):
    weights = np.zeros((1, len(footage.mesh.morph_names)), np.float32)
    weights[0, footage.mesh.morph_names.index("jawOpen")] = -0.2
    assert lip_gap(footage.mesh, weights).tolist() == [0.0]


def test_curves_of_another_alphabet_are_refused(footage):
    with pytest.raises(InvalidInput, match=r"\(frames, 15\)"):
        morph_weights(np.zeros((4, 14), np.float32), footage.mesh)


@given(jaw=st.floats(0.0, 2.0), lips=st.floats(0.0, 2.0), frame=st.integers(0, 20))
def test_gains_move_jaw_and_lips_apart_and_leave_closures(jaw, lips, frame):
    rng = np.random.default_rng(frame)
    curves = rng.dirichlet(np.ones(len(VISEMES)), 4).astype(np.float32)
    style = SpeakingStyle(jaw=jaw, lips=lips)
    plain, styled = arkit_curves(curves), arkit_curves(curves, style)
    closed = curves.copy()
    closed[:, [k for k, name in enumerate(VISEMES) if name not in ("PP", "FF")]] = 0.0
    firm = arkit_curves(closed)
    assert arkit_curves(closed, style).keys() == firm.keys()
    for name, curve in plain.items():
        gain = jaw if name.startswith("jaw") else lips if name.startswith("mouth") else 1.0
        kept = firm.get(name, np.zeros(4))
        expected = np.clip(kept + gain * (curve - kept), 0.0, 1.0)
        np.testing.assert_allclose(styled.get(name, np.zeros(4)), expected, atol=1e-6)


def test_the_mesh_moves_as_the_arkit_curves_say():
    """A mesh of one vertex for each shape, whose viseme targets are the mix: both ways of driving it agree."""
    shapes = np.zeros((len(ARKIT), len(ARKIT), 3))
    shapes[np.arange(len(ARKIT)), np.arange(len(ARKIT)), 1] = 1.0
    mesh = SimpleNamespace(morph_names=MORPH_NAMES, morphs=np.concatenate([shapes, mix_visemes(shapes)]))
    curves = np.random.default_rng(1).dirichlet(np.ones(len(VISEMES)), 6).astype(np.float32)
    style = SpeakingStyle(jaw=1.4, lips=0.6)
    moved = np.tensordot(morph_weights(curves, mesh, style=style), mesh.morphs, axes=1)[:, :, 1]
    arkit = arkit_curves(curves, style)
    for k, name in enumerate(ARKIT):
        np.testing.assert_allclose(moved[:, k], arkit.get(name, np.zeros(6)), atol=1e-6)


def test_the_usual_style_is_no_style(footage):
    curves = curves_of([0.0, 0.5, 1.0])
    usual = morph_weights(curves, footage.mesh, style=SpeakingStyle(jaw=1.0, lips=1.0))
    np.testing.assert_array_equal(usual, morph_weights(curves, footage.mesh))


def test_more_jaw_opens_the_mouth_of_a_mesh_further(footage):
    open_mouth = curves_of([0.0, 0.5])
    usual, more = (
        lip_gap(footage.mesh, morph_weights(open_mouth, footage.mesh, style=SpeakingStyle(jaw=jaw)))
        for jaw in (1.0, 1.5)
    )
    assert more[0] == usual[0] == 0.0
    # The plain mesh's aa is all jaw; the gain adds half of the mix's 0.6.
    assert more[1] == pytest.approx(usual[1] + 0.5 * 0.6 * 0.5 * 14.0, abs=0.1)


def test_a_mesh_without_the_shapes_that_a_style_needs_is_refused(footage):
    with pytest.raises(InvalidInput, match="lacks the morph targets mouthFunnel"):
        morph_weights(curves_of([0.5]), footage.mesh, style=SpeakingStyle(lips=1.5))


@pytest.mark.parametrize("style", [{"jaw": -0.1}, {"lips": 2.1}, {"jaw": float("nan")}])
def test_a_gain_out_of_range_is_refused_by_name(style):
    with pytest.raises(InvalidInput, match=next(iter(style))):
        SpeakingStyle(**style)
