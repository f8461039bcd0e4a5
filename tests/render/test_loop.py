import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar_pipeline.render.loop import plate_indices

lengths = st.integers(1, 60)
offsets = st.integers(0, 200)


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
