"""YIN finds the fundamental and does not find one where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar_pipeline.media.types import Audio
from avatar_pipeline.voice.pitch import track_pitch


def harmonics(f0: float, rate: int, seconds: float = 0.5, missing_fundamental: bool = False) -> Audio:
    time = np.arange(int(rate * seconds)) / rate
    first = 2 if missing_fundamental else 1
    return Audio(sum(np.sin(2 * np.pi * f0 * k * time) / k for k in range(first, 8)).astype(np.float32) / 4, rate)


@settings(max_examples=25, deadline=None)
@given(f0=st.floats(70, 400), rate=st.sampled_from([16_000, 22_050, 44_100, 48_000]))
def test_the_f0_of_a_harmonic_sound_is_found_within_half_a_percent(f0: float, rate: int) -> None:
    track = track_pitch(harmonics(f0, rate))
    assert track.voiced.mean() > 0.9
    assert track.median_and_spread()[0] == pytest.approx(f0, rel=0.005)


def test_a_missing_fundamental_is_heard() -> None:
    assert track_pitch(harmonics(150, 16_000, missing_fundamental=True)).median_and_spread()[0] == pytest.approx(
        150, rel=0.005
    )


def test_spread_is_the_deviation_of_the_logarithm() -> None:
    rate, seconds = 16_000, 6
    time = np.arange(rate * seconds) / rate
    log_f0 = np.log(150) + 0.2 * np.sqrt(2) * np.sin(2 * np.pi * 0.5 * time)
    phase = 2 * np.pi * np.cumsum(np.exp(log_f0)) / rate
    glide = Audio(sum(np.sin(k * phase) / k for k in range(1, 6)).astype(np.float32) / 4, rate)
    _, spread = track_pitch(glide).median_and_spread()
    assert spread == pytest.approx(0.2 * 1.48, rel=0.1)  # half of a sine lies within 0.707 of its peak


@pytest.mark.parametrize("samples", [0, 10, 800])
def test_audio_too_short_for_a_period_has_no_pitch(samples: int) -> None:
    track = track_pitch(Audio(np.ones(samples, np.float32), 16_000))
    assert track.median_and_spread() == (0.0, 0.0)


def test_noise_and_silence_have_no_pitch() -> None:
    noise = np.random.default_rng(0).standard_normal(32_000).astype(np.float32)
    assert not track_pitch(Audio(noise, 16_000)).voiced.any()
    assert not track_pitch(Audio(np.zeros(32_000, np.float32), 16_000)).voiced.any()
