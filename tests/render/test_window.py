from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar_pipeline.errors import FaceNotUsable
from avatar_pipeline.face.types import LandmarkTrack
from avatar_pipeline.mesh import topology
from avatar_pipeline.render.plate import plate_size, resample
from avatar_pipeline.render.window import Window, choose_window


def make_track(seconds, fps=10, found=None, yaw=None, blur=None):
    count = round(seconds * fps)
    flags = np.ones(count, bool) if found is None else np.asarray(found)
    face = np.concatenate([topology.TEMPLATE, topology.TEMPLATE[:10]]) / [300, -300, -300] + 0.5
    landmarks = np.repeat(face[None].astype(np.float32), count, axis=0)
    landmarks[~flags] = np.nan
    angles = np.zeros((count, 3), np.float32)
    angles[:, 0] = 0 if yaw is None else yaw
    angles[~flags] = np.nan
    sharpness = np.full(count, 100.0) if blur is None else np.asarray(blur)
    return LandmarkTrack(
        width=320,
        height=320,
        time_base=Fraction(1, fps),
        pts=np.arange(count, dtype=np.int64),
        found=flags,
        landmarks=landmarks,
        angles=angles,
        blur=np.where(flags, sharpness, np.nan).astype(np.float32),
        face_size=np.where(flags, 0.5, np.nan).astype(np.float32),
        blendshapes=None,
        blendshape_names=(),
        detector="made",
    )


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=20, max_size=400))
def test_every_frame_of_the_window_shows_the_face(found):
    track = make_track(len(found) / 10, found=found)
    try:
        window = choose_window(track)
    except FaceNotUsable:
        runs = "".join("x" if f else " " for f in found).split()
        assert max((len(run) for run in runs), default=0) <= 10
        return
    assert track.found[window.first : window.last + 1].all()
    assert track.seconds[window.last] - track.seconds[window.first] <= 20.0


def test_a_long_video_gives_twenty_seconds_at_most():
    window = choose_window(make_track(60))
    assert 17.5 <= (window.last - window.first) / 10 <= 20.0


def test_a_short_video_is_used_nearly_whole():
    window = choose_window(make_track(3))
    assert window.last - window.first >= 23


def test_a_stretch_that_looks_into_the_camera_wins():
    yaw = np.where(np.arange(600) < 300, 0.0, 20.0)
    assert choose_window(make_track(60, yaw=yaw)).last <= 300


def test_a_blurred_stretch_is_left_out():
    blur = np.full(300, 100.0)
    blur[100:110] = 5.0
    window = choose_window(make_track(30, blur=blur))
    assert window.first >= 110


def test_a_video_that_never_shows_the_face_for_a_second_is_refused():
    with pytest.raises(FaceNotUsable, match="1 s"):
        choose_window(make_track(5, found=[i % 5 > 0 for i in range(50)]))


@settings(deadline=None)
@given(st.lists(st.floats(0.008, 0.2), min_size=2, max_size=80))
def test_resampling_takes_the_nearest_frame_of_any_frame_rate(gaps):
    seconds = np.cumsum(gaps)
    sources = resample(seconds, Window(0, len(seconds) - 1))
    ticks = seconds[0] + np.arange(len(sources)) / 25
    nearest = np.abs(seconds[None] - ticks[:, None]).min(axis=1)
    np.testing.assert_allclose(np.abs(seconds[sources] - ticks), nearest, atol=1e-9)
    assert ticks[-1] <= seconds[-1] + 1e-6 < ticks[-1] + 0.04 + 2e-6


@settings(deadline=None)
@given(st.integers(128, 4096), st.integers(128, 4096))
def test_a_plate_is_even_and_never_larger_than_its_footage(width, height):
    size = plate_size(width, height)
    assert size[0] % 2 == size[1] % 2 == 0
    assert size[0] <= width and size[1] <= height and max(size) <= 1920
