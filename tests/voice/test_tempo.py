"""Slower speech: length, pitch, and where things are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar_pipeline.media.types import Audio
from avatar_pipeline.voice.pitch import track_pitch
from avatar_pipeline.voice.tempo import slow_down

RATE = 22_050


def test_at_its_own_speed_nothing_changes(speech: Audio) -> None:
    np.testing.assert_allclose(slow_down(speech, 1.0).samples, speech.samples, atol=1e-6)


@pytest.mark.parametrize("speed", [0.6, 0.8, 0.97])
def test_slower_speech_keeps_its_pitch_and_level(speech: Audio, speed: float) -> None:
    slow = slow_down(speech, speed)
    assert slow.samples.dtype == speech.samples.dtype
    assert track_pitch(slow).median_and_spread()[0] == pytest.approx(
        track_pitch(speech).median_and_spread()[0], rel=0.01
    )
    levels = [float(np.sqrt(np.mean(audio.samples**2))) for audio in (speech, slow)]
    assert levels[1] == pytest.approx(levels[0], rel=0.03)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 9_000), st.floats(0.5, 1.0))
def test_any_length_comes_out_exact(count: int, speed: float) -> None:
    tone = Audio(np.sin(np.arange(count) / 20).astype(np.float32), RATE)
    slow = slow_down(tone, speed)
    assert len(slow.samples) == round(count / speed)
    assert np.isfinite(slow.samples).all() and np.abs(slow.samples).max() < 1.1


@settings(deadline=None, max_examples=30)
@given(st.floats(0.5, 1.0), st.lists(st.floats(0.2, 1.8), min_size=1, max_size=4))
def test_sounds_stay_where_they_belong_and_silence_stays_silent(speed: float, places: list[float]) -> None:
    samples = np.zeros(2 * RATE, np.float32)
    for place in places:
        at = round(place * RATE)
        samples[at : at + 440] = np.sin(np.arange(440) / 10)
    slow = slow_down(Audio(samples, RATE), speed)
    times = np.flatnonzero(np.abs(slow.samples) > 1e-3) / RATE
    for time in times:
        assert any(place / speed - 0.030 < time < (place + 0.020) / speed + 0.030 for place in places)
    for place in places:
        assert np.abs(times - (place + 0.010) / speed).min() < 0.025
