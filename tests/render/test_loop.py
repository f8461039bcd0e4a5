from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar_pipeline.render.loop import PLATE_FPS, plate_indices

lengths = st.integers(1, 60)
offsets = st.integers(0, 200)
rates = st.integers(10, 60).map(Fraction)


@settings(deadline=None)
@given(lengths, offsets)
def test_the_plate_plays_without_a_jump(length, offset):
    indices = plate_indices(0, 300, length, offset=offset)
    assert indices.min() >= 0 and indices.max() < length
    assert np.abs(np.diff(indices)).max() == min(1, length - 1)


@settings(deadline=None)
@given(lengths, offsets, st.integers(0, 100))
def test_a_segment_shows_the_same_whichever_frame_the_work_begins_with(length, offset, start):
    whole = plate_indices(0, 200, length, offset=offset)
    assert (plate_indices(start, 200, length, offset=offset) == whole[start:]).all()


@settings(deadline=None)
@given(st.integers(2, 60), offsets)
def test_a_segment_touches_one_contiguous_range(length, offset):
    indices = plate_indices(0, 50, length, offset=offset)
    assert set(range(indices.min(), indices.max() + 1)) == set(indices.tolist())


def test_turns_show_no_frame_twice():
    assert plate_indices(0, 9, 4).tolist() == [0, 1, 2, 3, 2, 1, 0, 1, 2]


@settings(deadline=None)
@given(rates, offsets)
def test_at_any_rate_a_frame_shows_what_the_plate_shows_nearest_to_its_time(fps, offset):
    count = 120
    indices = plate_indices(0, count, 10_000, offset=offset, fps=fps)
    late = (indices - offset) / PLATE_FPS - np.array([Fraction(n) / fps for n in range(count)])
    assert max(abs(seconds) for seconds in late) <= 1 / (2 * PLATE_FPS)


@settings(deadline=None)
@given(lengths, offsets, rates, st.integers(0, 100))
def test_at_any_rate_a_segment_shows_the_same_whichever_frame_the_work_begins_with(length, offset, fps, start):
    whole = plate_indices(0, 200, length, offset=offset, fps=fps)
    assert (plate_indices(start, 200, length, offset=offset, fps=fps) == whole[start:]).all()
    assert whole.min() >= 0 and whole.max() < length


@settings(deadline=None)
@given(lengths, offsets, rates)
def test_at_any_rate_the_plate_turns_at_its_ends_and_does_not_jump(length, offset, fps):
    indices = plate_indices(0, 200, length, offset=offset, fps=fps)
    assert np.abs(np.diff(indices)).max() <= -(-PLATE_FPS // fps)


def test_at_a_higher_rate_frames_are_shown_again_and_at_a_lower_one_left_out():
    assert plate_indices(0, 8, 100, fps=Fraction(30)).tolist() == [0, 1, 2, 3, 3, 4, 5, 6]
    assert plate_indices(0, 6, 100, fps=Fraction(10)).tolist() == [0, 3, 5, 8, 10, 13]
