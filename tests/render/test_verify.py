from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar_pipeline.errors import QualityTooLow
from avatar_pipeline.render.verify import compare_gaps, least_side

COMMAND = np.abs(np.random.default_rng(3).normal(0, 1, 120).cumsum()) % 9


@settings(deadline=None)
@given(st.integers(-5, 5), st.floats(0.3, 2.0), st.floats(0.0, 3.0))
def test_lag_is_found_whatever_the_scale(lag, scale, offset):
    report = compare_gaps(COMMAND, scale * np.roll(COMMAND, lag) + offset)
    assert report.lag_frames == lag
    assert report.passed == (abs(lag) <= 1)


def test_lips_that_do_their_own_thing_do_not_pass():
    report = compare_gaps(COMMAND, np.random.default_rng(4).permutation(COMMAND))
    assert report.correlation is not None and report.correlation < 0.5
    assert not report.passed


def test_lips_that_do_not_move_at_all_do_not_pass():
    report = compare_gaps(COMMAND, np.full(len(COMMAND), 2.0))
    assert report.correlation == 0.0 and not report.passed


def test_a_silent_clip_is_judged_by_stillness():
    silent = np.zeros(100)
    still = compare_gaps(silent, silent + 0.5)
    restless = compare_gaps(silent, COMMAND[:100])
    assert still.judged_by == restless.judged_by == "stillness"
    assert still.correlation is None and still.passed and not restless.passed


def test_a_clip_under_a_second_is_not_given_a_correlation():
    report = compare_gaps(COMMAND[:20], COMMAND[:20])
    assert report.correlation is None and report.passed


def test_few_lost_frames_are_bridged_and_many_fail():
    measured = COMMAND.copy()
    measured[[5, 50, 51]] = np.nan
    assert compare_gaps(COMMAND, measured).passed
    measured[60:80] = np.nan
    report = compare_gaps(COMMAND, measured)
    assert report.found == 97 and not report.passed


def test_a_clip_without_a_face_is_an_error():
    with pytest.raises(QualityTooLow, match="no frame shows a face"):
        compare_gaps(COMMAND, np.full(len(COMMAND), np.nan), name="greeting.mp4")


@settings(deadline=None)
@given(st.integers(10, 60), st.integers(-2, 2))
def test_lag_is_found_at_any_rate_and_none_of_50_ms_or_more_passes(fps, lag):
    report = compare_gaps(COMMAND, np.roll(COMMAND, lag), fps=Fraction(fps))
    assert report.lag_frames == lag
    assert report.passed == (abs(lag) <= 1 and abs(lag) / fps <= 0.05)


@pytest.mark.parametrize(
    ("fps", "frames", "judged"), [(10, 18, False), (10, 19, True), (60, 59, False), (60, 60, True)]
)
def test_a_correlation_needs_a_second_and_enough_frames(fps, frames, judged):
    report = compare_gaps(COMMAND[:frames], COMMAND[:frames], fps=Fraction(fps))
    assert (report.correlation is not None) == judged


def test_the_least_side_is_where_the_face_has_96_pixels(plate):
    face = plate.landmarks[:, [10, 152], 1].astype(float)
    height = np.median(face[:, 0] - face[:, 1])
    side = least_side(plate)
    assert side % 2 == 0
    assert height * side / plate.width == pytest.approx(96, abs=1.5)
    assert abs(least_side(plate.scaled(144, 144)) - side) <= 2
