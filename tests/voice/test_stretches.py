"""Which stretches are taken: clean ones, varied ones, never more than two minutes."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from avatar_pipeline.voice.stretches import MAX_FRAMES, MIN_FRAMES, Candidate, choose, cleanliness, novelty


def candidate(start: int, frames: int, snr_db: float = 30.0, **changes: float) -> Candidate:
    base = Candidate(start, start + frames, frames - 20, snr_db, snr_db - 5, 0.0, 0.0, -25.0, 5.0, 0.2, np.zeros(6))
    return replace(base, **changes)  # type: ignore[arg-type]


@st.composite
def recordings(draw: st.DrawFn) -> list[Candidate]:
    found, at = [], 0
    for _ in range(draw(st.integers(0, 60))):
        at += draw(st.integers(0, 200))
        frames = draw(st.integers(30, 4_000))
        found.append(
            candidate(
                at,
                frames,
                draw(st.floats(0, 60)),
                clipped=draw(st.sampled_from([0.0, 0.0, 0.01])),
                music=draw(st.sampled_from([0.0, 0.0, 1.0])),
                pitch=draw(st.floats(4.3, 6.0)),
            )
        )
        at += frames
    return found


@given(recordings())
def test_what_is_chosen_is_in_order_inside_the_recording_and_at_most_two_minutes(found: list[Candidate]) -> None:
    chosen = choose(found)
    assert bool(chosen) == bool(found)
    for (_, end, _, _), (begin, _, _, _) in pairwise(chosen):
        assert begin > end
    for start, stop, why, _ in chosen:
        assert stop > start
        assert why
        assert start in {c.start for c in found}
        assert stop in {c.stop for c in found}
    total = sum(stop - start for start, stop, _, _ in chosen)
    assert total <= MAX_FRAMES
    # Nothing that would have made up the first minute was left.
    left = [c for c in found if not any(start <= c.start and c.stop <= stop for start, stop, _, _ in chosen)]
    assert total >= MIN_FRAMES or all(total + c.frames > MAX_FRAMES for c in left)
    assert chosen == choose(found)


def test_beyond_a_minute_only_clean_stretches_are_taken() -> None:
    noisy = [candidate(i * 1_100, 1_000, 8.0) for i in range(9)]
    clean = [candidate(i * 1_100, 1_000, 30.0) for i in range(9, 14)]
    chosen = choose(noisy + clean)
    assert sum(stop - start for start, stop, _, _ in chosen) == 6_000
    assert {start for start, _, _, _ in chosen} > {c.start for c in clean}
    assert sum("needed for length" in why for _, _, why, _ in chosen) == 1


def test_clipped_and_musical_stretches_are_the_last_resort() -> None:
    good = [candidate(i * 1_100, 1_000) for i in range(6)]
    bad = [candidate(7_000, 1_000, clipped=0.01), candidate(8_100, 1_000, music=1.0)]
    assert [start for start, _, _, _ in choose(bad + good)] == [c.start for c in good]
    assert len(choose(bad)) == 2


def test_among_equally_clean_stretches_the_different_one_comes_first() -> None:
    alike = [candidate(i * 1_100, 1_000) for i in range(20)]
    lively = candidate(30_000, 1_000, pitch=5.5, pitch_spread=0.4)
    chosen = choose([*alike, lively])
    assert any(start == lively.start and "different" in why for start, _, why, _ in chosen)
    assert novelty(lively, alike[:1]) > novelty(alike[1], alike[:1]) == 0


def test_noise_clipping_music_and_an_unusual_level_cost_something() -> None:
    good = cleanliness(candidate(0, 1_000), -25.0)
    for worse in (candidate(0, 1_000, 20.0), candidate(0, 1_000, clipped=0.002), candidate(0, 1_000, music=0.5)):
        assert cleanliness(worse, -25.0) < good
    assert cleanliness(candidate(0, 1_000), -12.0) < good
    assert cleanliness(candidate(0, 1_000), -22.0) == good


def test_a_short_pause_between_two_that_are_taken_stays() -> None:
    chosen = choose([candidate(0, 1_000), candidate(1_020, 1_000), candidate(2_200, 1_000)])
    assert [(start, stop) for start, stop, _, _ in chosen] == [(0, 2_020), (2_200, 3_200)]
