from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from avatar_pipeline.media.audio import read_audio
from avatar_pipeline.media.decode import decode_frames
from avatar_pipeline.media.probe import probe

_DATA = os.environ.get("AVATAR_EVAL_DATA")

pytestmark = pytest.mark.skipif(not _DATA, reason="AVATAR_EVAL_DATA is not set: no real videos to measure")

_EXPECTED = {
    "hdtf_wda_k": ("mpeg4", 512, 512, 25, 200),
    "lp_d13_phone_noaudio": ("h264", 720, 1280, 30, 352),
    "lp_d19_glasses": ("h264", 480, 480, 30, 250),
    "lp_d3": ("h264", 512, 512, 30, 354),
    "lp_s18_720p": ("h264", 1280, 720, 30, 282),
}


def _video(name: str) -> Path:
    return Path(_DATA or "") / "video" / f"{name}.mp4"


@pytest.mark.parametrize("name", _EXPECTED)
def test_real_videos_are_probed_and_decoded_to_the_last_frame(name: str) -> None:
    codec, width, height, fps, frames = _EXPECTED[name]
    info = probe(_video(name))
    assert (info.codec, info.width, info.height, info.fps) == (codec, width, height, fps)
    assert not info.variable_frame_rate
    times = [frame.time for frame in decode_frames(_video(name), pixel_format="yuv420p")]
    assert len(times) == frames
    assert times[-1] < info.seconds <= times[-1] + Fraction(2, fps)


def test_real_speech_is_read_on_the_pictures_clock() -> None:
    audio = read_audio(_video("hdtf_wda_k"))
    assert (audio.rate, audio.seconds) == (16_000, 8.0)
    assert np.sqrt(np.mean(audio.samples**2)) > 0.05
