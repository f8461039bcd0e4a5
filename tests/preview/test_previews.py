"""Previews: small enough for an event log, and showing what they say they show."""

import io
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from avatar_pipeline.errors import InvalidMedia
from avatar_pipeline.media.encode import encode_segment, rgb_to_i420
from avatar_pipeline.media.types import Audio
from avatar_pipeline.preview.images import MAX_BYTES, contact_sheet, draw_landmarks, frames_at, jpeg, spread
from avatar_pipeline.preview.sound import sound_picture


@pytest.fixture(scope="module")
def counting_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-one frames, each a little brighter than the one before."""
    path = tmp_path_factory.mktemp("video") / "count.mp4"
    frames = (rgb_to_i420(np.full((128, 128, 3), 20 + 10 * number, np.uint8)) for number in range(21))
    encode_segment(path, frames, width=128, height=128, fps=Fraction(25))
    return path


def test_the_frame_shown_at_a_time_is_the_last_one_that_began(counting_video: Path) -> None:
    times = [0.0, 0.039, 0.041, 0.4, 0.839]
    levels = [round((int(image.mean()) - 20) / 10) for image in frames_at(counting_video, times)]
    assert levels == [0, 0, 1, 10, 20]


def test_a_spread_over_a_short_clip_stays_within_it(counting_video: Path) -> None:
    assert len(frames_at(counting_video, spread(21 / 25, 12))) == 12


def test_a_time_after_the_end_is_told(counting_video: Path) -> None:
    with pytest.raises(InvalidMedia, match=r"count\.mp4 has no frame at 9\.00 s"):
        frames_at(counting_video, [9.0])


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 500), st.integers(1, 700), st.integers(1000, MAX_BYTES))
def test_a_jpeg_keeps_to_its_size_whatever_the_image(height: int, width: int, most: int) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (height, width, 3)).astype(np.uint8)
    data = jpeg(noise, max_bytes=most)
    assert len(data) <= most
    Image.open(io.BytesIO(data)).load()


def test_a_contact_sheet_has_every_picture_in_order() -> None:
    sheet = contact_sheet([np.full((40, 60, 3), value, np.uint8) for value in (10, 120, 240)], columns=2, cell=60)
    assert sheet.shape == (84, 124, 3)
    assert [int(sheet[y, x, 0]) for y, x in ((20, 30), (20, 94), (64, 30))] == [10, 120, 240]
    assert int(sheet[64, 94, 0]) == 255


def test_landmarks_are_drawn_where_they_are_and_the_image_is_not_touched() -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    drawn = draw_landmarks(image, np.array([[0.25, 0.5, 0.0]]))
    assert drawn[50, 50].any()
    assert not drawn[50, 150].any()
    assert not image.any()


def test_a_sound_picture_has_a_row_a_sound() -> None:
    tone = Audio(np.sin(np.arange(16000) / 5).astype(np.float32), 16000)
    one, two = sound_picture({"a": tone}), sound_picture({"a": tone, "b": tone})
    assert two.shape[0] > 1.5 * one.shape[0]
