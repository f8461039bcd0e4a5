"""Colour between decoded frames, RGB and I420: matrices, ranges and chroma done right, in one place.

I420 arrays are uint8 (H*3/2, W): the luma plane, then the two quarter-size chroma planes, BT.709 limited range
(ITU-R BT.709-6, item 3). RGB arrays are uint8 (H, W, 3), full range.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from av import VideoFrame
    from av.video.plane import VideoPlane
    from av.video.reformatter import VideoReformatter

_UNSPECIFIED = 2
"""AVCOL_SPC_UNSPECIFIED and AVCOL_TRC_UNSPECIFIED (libavutil/pixfmt.h)."""
_HD_WIDTH, _HD_HEIGHT = 1280, 577
_HDR_TRANSFERS = frozenset({16, 18})
"""AVCOL_TRC_SMPTE2084 (PQ) and AVCOL_TRC_ARIB_STD_B67 (HLG)."""


def _interpolation(*, exact: bool = True) -> int:
    from av.video.reformatter import Interpolation

    if not exact:
        return int(Interpolation.BILINEAR | Interpolation.BITEXACT)
    # Without the two chroma flags swscale repeats chroma pixels, and without accurate rounding and bit-exactness the
    # result would depend on the processor.
    return int(
        Interpolation.BILINEAR
        | Interpolation.ACCURATE_RND
        | Interpolation.FULL_CHR_H_INP
        | Interpolation.FULL_CHR_H_INT
        | Interpolation.BITEXACT
    )


_idle: defaultdict[str, list[VideoReformatter]] = defaultdict(list)


@contextmanager
def borrowed_reformatter(pixel_format: str) -> Iterator[VideoReformatter]:
    """Lend a reformatter to `pixel_format` for as long as the block runs; one thread has it at a time.

    swscale's tone mapping table takes two seconds to make and stays in the reformatter, so that decoding an HDR video
    in many short ranges makes it once.
    """
    from av.video.reformatter import VideoReformatter

    try:
        reformatter = _idle[pixel_format].pop()
    except IndexError:
        reformatter = VideoReformatter()
    try:
        yield reformatter
    finally:
        # A stream that is closed early, as every look at one frame is, gives it back too.
        _idle[pixel_format].append(reformatter)


def plane_array(plane: VideoPlane) -> NDArray[np.uint8]:
    """Return a view (height, width) of one 8-bit plane, without the padding at the ends of its lines."""
    lines: NDArray[np.uint8] = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
    return lines[:, : plane.width]


def convert(
    frame: VideoFrame,
    pixel_format: str,
    *,
    width: int,
    height: int,
    reformatter: VideoReformatter,
    exact: bool = True,
) -> VideoFrame:
    """Return a decoded frame as 'rgb24' (full range) or 'yuv420p' (BT.709, limited), scaled to width x height.

    `reformatter` keeps swscale's tables from frame to frame: give the same one for all frames of a video.

    Frames that do not say their matrix are taken as players take them: BT.709 from 1280 px width or 577 px height
    up, BT.601 below. HDR (PQ, HLG) is tone mapped to BT.709 by swscale. Without `exact` chroma is repeated instead of
    interpolated, in half the time.
    """
    from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation

    source: int | None = None
    if frame.colorspace == _UNSPECIFIED:
        is_hd = frame.width >= _HD_WIDTH or frame.height >= _HD_HEIGHT
        source = int(Colorspace.ITU709 if is_hd else Colorspace.ITU601)
    is_hdr = frame.color_trc in _HDR_TRANSFERS
    is_rgb = pixel_format == "rgb24"
    return reformatter.reformat(
        frame,
        width=width,
        height=height,
        format=pixel_format,
        src_colorspace=source,
        dst_colorspace=None if is_rgb else int(Colorspace.ITU709),
        dst_color_range=int(ColorRange.JPEG if is_rgb else ColorRange.MPEG),
        dst_color_trc=int(ColorTrc.BT709) if is_hdr else None,
        dst_color_primaries=int(ColorPrimaries.BT709) if is_hdr else None,
        # swscale (ffmpeg 8.1) garbles tone-mapped frames when the flags for exact chroma are set.
        interpolation=int(Interpolation.BILINEAR) if is_hdr else _interpolation(exact=exact),
        threads=1,
    )


def rgb_to_i420(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert an RGB image (H, W, 3), H and W even, to I420 (H*3/2, W), BT.709 limited range."""
    import av
    from av.video.reformatter import ColorRange, Colorspace

    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24").reformat(
        format="yuv420p",
        dst_colorspace=int(Colorspace.ITU709),
        dst_color_range=int(ColorRange.MPEG),
        interpolation=_interpolation(),
        threads=1,
    )
    return pack_i420(*(plane_array(plane) for plane in frame.planes))


def i420_to_rgb(i420: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Convert I420 (H*3/2, W), BT.709 limited range, to an RGB image (H, W, 3)."""
    import av
    from av.video.reformatter import ColorRange, Colorspace

    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(i420), format="yuv420p").reformat(
        format="rgb24",
        src_colorspace=int(Colorspace.ITU709),
        src_color_range=int(ColorRange.MPEG),
        dst_color_range=int(ColorRange.JPEG),
        interpolation=_interpolation(),
        threads=1,
    )
    return rgb_array(frame)


def rgb_array(frame: VideoFrame) -> NDArray[np.uint8]:
    """Return a contiguous copy (H, W, 3) of an rgb24 frame."""
    plane = frame.planes[0]
    lines = np.frombuffer(memoryview(plane), np.uint8).reshape(frame.height, plane.line_size)
    return np.ascontiguousarray(lines[:, : frame.width * 3]).reshape(frame.height, frame.width, 3)


def pack_i420(y: NDArray[np.uint8], u: NDArray[np.uint8], v: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay the three planes of an even-sized 4:2:0 image into one array (H*3/2, W)."""
    height, width = y.shape
    packed = np.empty((height * 3 // 2, width), np.uint8)
    packed[:height] = y
    chroma = packed[height:].reshape(2, height // 2, width // 2)
    chroma[0] = u
    chroma[1] = v
    return packed
