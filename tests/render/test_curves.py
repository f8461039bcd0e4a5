import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.render.curves import lip_gap, morph_weights
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
