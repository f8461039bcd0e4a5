from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from avatar_pipeline.media.decode import decode_frames
from avatar_pipeline.media.encode import i420_to_rgb, rgb_to_i420

_KR_KB = {"bt709": (0.2126, 0.0722), "bt601": (0.299, 0.114)}


def _limited(rgb: tuple[int, int, int], matrix: str) -> NDArray[np.float64]:
    """Y'CbCr of an R'G'B' colour by the definition (ITU-R BT.709-6, 3.2 to 3.5; BT.601-7, 2.5)."""
    kr, kb = _KR_KB[matrix]
    r, g, b = (c / 255 for c in rgb)
    y = kr * r + (1 - kr - kb) * g + kb * b
    return np.array([16 + 219 * y, 128 + 224 * (b - y) / (2 - 2 * kb), 128 + 224 * (r - y) / (2 - 2 * kr)])


_byte = st.integers(0, 255)


@settings(max_examples=100, deadline=None)
@given(rgb=st.tuples(_byte, _byte, _byte))
def test_i420_is_bt709_limited_range_and_comes_back_within_two_steps(rgb: tuple[int, int, int]) -> None:
    image = np.full((16, 32, 3), rgb, np.uint8)
    i420 = rgb_to_i420(image)
    assert i420.shape == (24, 32)
    found = i420[8, 8], i420[17, 8], i420[21, 8]
    assert np.abs(np.array(found, float) - _limited(rgb, "bt709")).max() <= 1
    assert np.abs(i420_to_rgb(i420).astype(int) - image).max() <= 2


@pytest.mark.parametrize(("height", "width"), [(2, 2), (34, 38), (270, 482)])
def test_every_even_size_keeps_its_planes_in_place(height: int, width: int) -> None:
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2] = (255, 255, 255)
    back = i420_to_rgb(rgb_to_i420(image))
    assert back.shape == image.shape
    assert back[:, 0].min() > 250
    assert back[:, -1].max() < 5 or width == 2


def _write_flat(path: Path, values: NDArray[np.float64], width: int, matrix: int, colour_range: int) -> None:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"preset": "ultrafast", "qp": "0"})
        stream.width, stream.height, stream.pix_fmt = width, 144, "yuv420p"
        context = stream.codec_context
        context.colorspace, context.color_range = matrix, colour_range
        frame = av.VideoFrame(width, 144, "yuv420p")
        for plane, value in zip(frame.planes, values, strict=True):
            plane.update(bytes([round(value)]) * plane.buffer_size)
        frame.pts, frame.colorspace, frame.color_range = 0, matrix, colour_range
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("matrix", "tag", "width"), [("bt709", 1, 256), ("bt601", 6, 256), ("bt601", 2, 256), ("bt709", 2, 1280)]
)
def test_decoding_heeds_the_matrix_and_guesses_it_by_size_where_it_is_not_told(
    tmp_path: Path, matrix: str, tag: int, width: int
) -> None:
    rgb = (200, 60, 90)
    path = tmp_path / "flat.mp4"
    _write_flat(path, _limited(rgb, matrix), width, tag, 1)
    colour = next(decode_frames(path)).image[70, 100]
    assert np.abs(colour.astype(int) - rgb).max() <= 3
    i420 = next(decode_frames(path, pixel_format="yuv420p")).image
    chroma = i420[144:].reshape(2, 72, width // 2)
    found = np.array([i420[70, 100], chroma[0, 30, 50], chroma[1, 30, 50]], float)
    assert np.abs(found - _limited(rgb, "bt709")).max() <= 2


def test_full_range_video_becomes_limited_range(tmp_path: Path) -> None:
    path = tmp_path / "full.mp4"
    _write_flat(path, np.array([255.0, 128, 128]), 256, 1, 2)
    assert next(decode_frames(path)).image[70, 100].tolist() == [255, 255, 255]
    assert next(decode_frames(path, pixel_format="yuv420p")).image[70, 100] == 235


def _hlg(display: NDArray[np.float64]) -> NDArray[np.float64]:
    """HLG signal of display light with white at 203 of 1000 nits (ITU-R BT.2100-2 table 5, BT.2408)."""
    scene = np.clip(display, 0, 1) ** (1 / 1.2) * 0.265
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c)


def test_hdr_is_tone_mapped_to_the_colours_that_were_meant(tmp_path: Path) -> None:
    rgb = np.array([190, 120, 90]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
    r, g, b = _hlg(to_2020 @ linear)
    y = 0.2627 * r + 0.678 * g + 0.0593 * b
    values = [64 + 876 * y, 512 + 896 * (b - y) / 1.8814, 512 + 896 * (r - y) / 1.4746]
    path = tmp_path / "hlg.mov"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"preset": "ultrafast", "qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 256, 144, "yuv420p10le"
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 9, 9, 18, 1
        frame = av.VideoFrame(256, 144, "yuv420p10le")
        for plane, value in zip(frame.planes, values, strict=True):
            plane.update(np.full(plane.buffer_size // 2, round(value), "<u2").tobytes())
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range = 9, 9, 18, 1
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    image = next(decode_frames(path)).image
    assert np.ptp(image, axis=(0, 1)).max() <= 2
    assert np.abs(image[70, 100] / 255 - rgb).max() < 0.08
    from_i420 = i420_to_rgb(next(decode_frames(path, pixel_format="yuv420p")).image)
    assert np.abs(from_i420.astype(int) - image).max() <= 4
