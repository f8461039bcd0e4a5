"""Loud syllables are larger, closures are as firm, and the recording's own level is no matter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from avatar_pipeline.media.types import Audio
from avatar_pipeline.voice.emphasis import LEAST, MOST, emphasise, intensity
from avatar_pipeline.voice.espeak import Settings, speak
from avatar_pipeline.voice.visemes import VISEMES, to_visemes, viseme_curves
from tests.voice.conftest import PASSAGE, say

RATE = 16_000
PP, FF, AA, SIL = (VISEMES.index(name) for name in ("PP", "FF", "aa", "sil"))
OPEN = [index for index in range(15) if index not in (PP, FF, SIL)]


def beeps(*levels: float) -> Audio:
    """Half a second of tone at each level."""
    tone = np.sin(2 * np.pi * 200 * np.arange(RATE // 2) / RATE)
    return Audio(np.concatenate([level * tone for level in levels]).astype(np.float32), RATE)


def test_loud_parts_go_further_than_soft_ones() -> None:
    scale = intensity(beeps(0.1, 0.5, 0.02), 38, 25)
    assert scale[6] == pytest.approx(1.0, abs=0.08)
    assert scale[18] == pytest.approx(MOST)
    assert LEAST <= scale[31] < 0.8


@given(st.floats(0.01, 1.0))
def test_the_level_of_the_recording_is_no_matter(level: float) -> None:
    one, two = beeps(0.1, 0.5, 0.05), beeps(0.1 * level, 0.5 * level, 0.05 * level)
    np.testing.assert_allclose(intensity(one, 30, 25), intensity(two, 30, 25), atol=1e-3)


def test_a_steady_or_silent_sound_changes_nothing() -> None:
    np.testing.assert_allclose(intensity(beeps(0.3, 0.3), 25, 25)[3:-3], 1.0, atol=0.02)
    assert intensity(Audio(np.zeros(RATE, np.float32), RATE), 25, 25).tolist() == [1.0] * 25
    assert intensity(Audio(np.zeros(0, np.float32), RATE), 3, 25).tolist() == [1.0] * 3
    assert intensity(beeps(0.3), 0, 25).shape == (0,)


@given(
    arrays.arrays(np.float64, (6, 15), elements=st.floats(0.0, 1.0)),
    arrays.arrays(np.float64, 6, elements=st.floats(LEAST, MOST)),
)
def test_closures_stay_and_the_rest_is_made_up_by_the_mouth_at_rest(raw: np.ndarray, scale: np.ndarray) -> None:
    raw[:, SIL] += 0.01
    curves = (raw / raw.sum(axis=1, keepdims=True)).astype(np.float32)
    scaled = emphasise(curves, scale)
    np.testing.assert_array_equal(scaled[:, [PP, FF]], curves[:, [PP, FF]])
    assert ((scaled >= 0) & (scaled <= 1)).all()
    assert (scaled.sum(axis=1) >= 1 - 1e-5).all() and (scaled.sum(axis=1) <= MOST + 1e-5).all()
    np.testing.assert_allclose(scaled[:, OPEN], np.minimum(curves[:, OPEN] * scale[:, None], 1.0), rtol=1e-5, atol=1e-6)


def test_lips_meet_at_every_closure_of_real_speech_and_stressed_vowels_are_larger() -> None:
    said = speak(PASSAGE, Settings("gmw/en-US"))
    audio = say(PASSAGE)
    visemes = to_visemes(said.phonemes, audio.seconds)
    curves = viseme_curves(visemes, audio.seconds, 25)
    scale = intensity(audio, len(curves), 25)
    scaled = emphasise(curves, scale)
    closures = [viseme for viseme in visemes if viseme.name == "PP"]
    assert len(closures) >= 8
    for viseme in closures:
        assert scaled[round((viseme.start + viseme.end) / 2 * 25), PP] == 1.0
    assert (scaled[curves[:, SIL] == 1.0, SIL] == 1.0).all()
    vowels = {"ˈ": [], "": []}  # type: dict[str, list[float]]
    for phoneme in said.phonemes:
        if set("aɑæʌɛɪəɔ") & set(phoneme.symbol):
            vowels["ˈ" if "ˈ" in phoneme.symbol else ""].append(scale[int((phoneme.start + phoneme.end) / 2 * 25)])
    assert np.mean(vowels["ˈ"]) > np.mean(vowels[""]) + 0.03
    assert 0.8 < np.median(scale[curves[:, SIL] < 0.5]) < 1.1
