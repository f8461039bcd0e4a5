"""Heads move a little, eyes blink and come back, and the same seed does the same."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar_pipeline.voice.motion import (
    BLINK_SECONDS,
    BLINKS,
    LOOKS,
    MOST_LOOK,
    MOST_TURN,
    NAMES,
    TURNS,
    blink_times,
    motion_curves,
    phrase_ends,
)
from avatar_pipeline.voice.types import Phoneme

FPS = [10, 24, 25, 30000 / 1001, 60]


def phrases(seconds: float) -> list[Phoneme]:
    """Phrases of two to four seconds with pauses between."""
    time, phonemes = 0.2, [Phoneme("", 0.0, 0.2)]
    for number in range(10**6):
        for index in range(10 + number % 9):
            phonemes += [
                Phoneme("ˈaɪ" if index % 3 == 0 else "ə", time, time + 0.12),
                Phoneme("t", time + 0.12, time + 0.2),
            ]
            time += 0.2
        phonemes.append(Phoneme("", time, time + 0.4))
        time += 0.4
        if time > seconds:
            return phonemes
    raise AssertionError


TALK = phrases(600.0)
SHORT_TALK = phrases(20.0)


@settings(max_examples=50)
@given(st.floats(0.0, 40.0), st.sampled_from(FPS), st.text(max_size=8))
def test_curves_are_within_limits_and_begin_and_end_at_rest(seconds: float, fps: float, seed: str) -> None:
    curves = motion_curves(SHORT_TALK, seconds, fps, seed)
    count = math.ceil(round(seconds * fps, 6))
    assert tuple(curves) == NAMES
    assert all(curve.shape == (count,) and np.isfinite(curve).all() for curve in curves.values())
    for name in BLINKS + LOOKS:
        assert (curves[name] >= 0).all() and (curves[name] <= (1.0 if name in BLINKS else MOST_LOOK)).all()
    for name in TURNS:
        assert (np.abs(curves[name]) <= MOST_TURN[name]).all()
    for name in LOOKS + TURNS:
        if count:
            assert curves[name][0] == curves[name][-1] == 0.0
        if count > 1:
            quickest = 60.0 if name in TURNS else 2 * MOST_LOOK * fps
            assert np.abs(np.diff(curves[name])).max() * fps <= quickest


@settings(max_examples=30)
@given(st.text(max_size=20))
def test_the_same_seed_moves_the_same_and_another_otherwise(seed: str) -> None:
    one, two, other = (motion_curves(SHORT_TALK, 20.0, 25, s) for s in (seed, seed, seed + "!"))
    assert all(np.array_equal(one[name], two[name]) for name in NAMES)
    assert not np.array_equal(one["headYaw"], other["headYaw"])
    assert not np.array_equal(one["eyeBlinkLeft"], other["eyeBlinkLeft"])


def test_people_blink_15_to_20_times_a_minute_and_rather_in_pauses() -> None:
    rates, near = [], []
    ends = np.array(phrase_ends(TALK))
    for seed in range(20):
        shut = np.array(blink_times(TALK, 600.0, np.random.default_rng(seed)))
        assert np.diff(shut).min() >= 0.8
        rates.append(len(shut) / 10)
        near += [(np.abs(time - 0.1 - ends).min() < 0.15) for time in shut]
    assert 15 <= np.mean(rates) <= 20
    by_chance = 0.3 * len(ends) / 600.0
    assert np.mean(near) > 2 * by_chance


@pytest.mark.parametrize("fps", FPS)
def test_every_blink_shuts_the_lids_for_a_frame_and_lasts_as_long_as_blinks_do(fps: float) -> None:
    seconds = 120.0
    blink = motion_curves(TALK, seconds, fps, "blink")["eyeBlinkLeft"]
    edges = np.flatnonzero(np.diff(np.concatenate([[False], blink > 0, [False]]).astype(int)))
    starts, ends = edges[::2], edges[1::2]
    assert len(starts) > 20
    for start, end in zip(starts, ends, strict=True):
        assert blink[start:end].max() == 1.0
        assert (end - start - 1) / fps <= BLINK_SECONDS[1]


def test_both_eyes_look_the_same_way_and_mostly_at_the_viewer() -> None:
    curves = motion_curves(TALK, 300.0, 25, "gaze")
    np.testing.assert_array_equal(curves["eyeLookOutLeft"], curves["eyeLookInRight"])
    np.testing.assert_array_equal(curves["eyeLookInLeft"], curves["eyeLookOutRight"])
    assert not (curves["eyeLookOutLeft"] * curves["eyeLookInLeft"]).any()
    away = sum(curves[name] for name in LOOKS) > 0
    assert 0.2 < away.mean() < 0.6


def test_heads_nod_on_stress_and_not_in_silence() -> None:
    talk, silence = (motion_curves(p, 60.0, 25, "nod")["headPitch"] for p in (TALK, [Phoneme("", 0.0, 60.0)]))
    assert talk.min() < silence.min() - 1.0
    assert (talk <= silence + 1e-9).all()
