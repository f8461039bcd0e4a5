"""Loudness comes to the target whatever the level was, and the peak holds where the two exclude each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar_pipeline.media.types import Audio
from avatar_pipeline.voice.loudness import (
    MOST_LIMITING_DB,
    PEAK_DB,
    SILENT_LUFS,
    TARGET_LUFS,
    TOLERANCE_LU,
    integrated_loudness,
    normalise,
    true_peak_db,
)

RATE = 16_000


def make(kind: str, seconds: float, seed: int) -> np.ndarray:
    chance = np.random.default_rng(seed)
    count = int(seconds * RATE)
    time = np.arange(count) / RATE
    if kind == "noise":
        return 0.1 * chance.standard_normal(count)
    if kind == "tone":
        return 0.5 * np.sin(2 * np.pi * chance.uniform(80, 5_000) * time)
    if kind == "bursts":
        return 0.3 * chance.standard_normal(count) * (np.sin(2 * np.pi * 3 * time) > 0.6)
    if kind == "clicks":
        return 0.9 * (chance.random(count) < 4 / RATE)
    return np.zeros(count)


@settings(max_examples=60)
@given(
    kind=st.sampled_from(["noise", "tone", "bursts", "clicks", "silence"]),
    level_db=st.floats(-60, 20),
    seconds=st.floats(0.0, 3.0),
    seed=st.integers(0, 99),
)
def test_either_the_target_is_met_or_the_peak_is_what_kept_it(
    kind: str, level_db: float, seconds: float, seed: int
) -> None:
    audio = Audio((make(kind, seconds, seed) * 10 ** (level_db / 20)).astype(np.float32), RATE)
    done, reached = normalise(audio)
    assert len(done.samples) == len(audio.samples)
    assert done.rate == audio.rate
    assert np.isfinite(done.samples).all()
    assert true_peak_db(done) <= PEAK_DB
    assert reached.true_peak_db == true_peak_db(done)
    assert reached.lufs == integrated_loudness(done)
    assert reached.limited_db <= MOST_LIMITING_DB + 0.01
    if integrated_loudness(audio) <= SILENT_LUFS:
        assert reached.given_up is None
    elif reached.given_up is None:
        assert abs(reached.lufs - TARGET_LUFS) <= TOLERANCE_LU
    else:
        # Too quiet still, and either the limiter is at its end or the lift is the most that is done.
        assert reached.lufs < TARGET_LUFS
        assert reached.limited_db > MOST_LIMITING_DB - 0.1 or reached.gain_db == 60


@pytest.mark.parametrize("level_db", [-40, -20, 0])
def test_speech_meets_both_at_any_level(speech: Audio, level_db: float) -> None:
    done, reached = normalise(Audio(speech.samples * np.float32(10 ** (level_db / 20)), speech.rate))
    assert reached.given_up is None
    assert reached.lufs == pytest.approx(TARGET_LUFS, abs=0.3)
    assert true_peak_db(done) <= PEAK_DB


def test_the_peak_between_samples_counts() -> None:
    # A tone at a quarter of the rate, sampled 45 degrees off its crests: its samples reach 0.707 of its peak.
    tone = np.sin(2 * np.pi * np.arange(RATE) / 4 + np.pi / 4)
    assert np.abs(tone).max() == pytest.approx(0.707, abs=0.001)
    assert true_peak_db(Audio(tone.astype(np.float32), RATE)) == pytest.approx(0.0, abs=0.2)


def test_a_sine_at_full_scale_has_the_loudness_that_the_standard_gives_it() -> None:
    tone = np.sin(2 * np.pi * 997 * np.arange(48_000 * 2) / 48_000)
    assert integrated_loudness(Audio(tone.astype(np.float32), 48_000)) == pytest.approx(-3.01, abs=0.1)


def test_normalising_what_is_normal_changes_next_to_nothing(speech: Audio) -> None:
    once, _ = normalise(speech)
    twice, reached = normalise(once)
    assert abs(reached.gain_db) < 0.2
    assert np.abs(once.samples - twice.samples).max() < 0.01


def test_long_audio_is_measured_in_blocks_without_a_seam() -> None:
    chance = np.random.default_rng(3)
    noise = (0.1 * chance.standard_normal(300_000)).astype(np.float32)
    whole = max(true_peak_db(Audio(noise[: 262_144 + 400], RATE)), true_peak_db(Audio(noise[262_144 - 400 :], RATE)))
    assert true_peak_db(Audio(noise, RATE)) == pytest.approx(whole, abs=0.05)
