"""What is costly to make is made once, however a stream ends."""

from fractions import Fraction
from pathlib import Path

import numpy as np

from avatar_pipeline.media import colour
from avatar_pipeline.media.decode import decode_frames
from avatar_pipeline.media.encode import encode_segment, rgb_to_i420


def test_a_stream_that_is_closed_early_gives_its_reformatter_back(tmp_path: Path) -> None:
    """For HDR it holds a table that takes two seconds to make, and most looks at a video are at one frame."""
    picture = rgb_to_i420(np.full((128, 128, 3), 90, np.uint8))
    encode_segment(tmp_path / "v.mp4", iter([picture] * 30), width=128, height=128, fps=Fraction(25))
    colour._idle["rgb24"].clear()
    for prefetch in (0, 4):
        for _ in range(3):
            frames = decode_frames(tmp_path / "v.mp4", prefetch=prefetch)
            next(frames)
            frames.close()
        assert len(colour._idle["rgb24"]) == 1
