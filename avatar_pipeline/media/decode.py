"""Frames of a video as a stream of upright arrays, decoded ahead in a thread, with exact times and flat memory."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from avatar_pipeline.errors import InvalidMedia
from avatar_pipeline.media import colour
from avatar_pipeline.media.background import in_background
from avatar_pipeline.media.container import open_media
from avatar_pipeline.media.orientation import UPRIGHT, Orientation, orientation_of
from avatar_pipeline.media.streams import configure_decoder, square_pixels, video_stream
from avatar_pipeline.media.types import Frame

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.reformatter import VideoReformatter
    from av.video.stream import VideoStream

_FIRST_STEP_BACK = Fraction(1)
_REPAIR = "Check that it plays to the end, then upload or export it again."


def decode_frames(
    path: Path,
    *,
    start: Fraction | None = None,
    stop: Fraction | None = None,
    pixel_format: str = "rgb24",
    prefetch: int = 8,
    exact_colour: bool = True,
    threads: int | None = None,
) -> Generator[Frame]:
    """Yield the frames with start <= time < stop, in order of time, upright and C-contiguous.

    Times are the file's own presentation times; a variable frame rate is kept as it is. Sides are even (an odd last
    row or column is dropped) and pixels square. `pixel_format` is 'rgb24' (image (H, W, 3)) or 'yuv420p' (image is
    I420 (H*3/2, W), BT.709 limited range). Decoding runs in a thread, at most `prefetch` frames ahead; closing the
    generator ends the thread. With `prefetch` 0 it runs in the caller's thread.

    Without `exact_colour` chroma pixels are repeated, not interpolated, which takes half the time, and does for looking
    at but not for making pictures. `threads` are the decoder's own (None: a few); one is the most economical where
    several videos, or parts of one, are decoded side by side.

    Raises:
        InvalidMedia: the file cannot be opened, a frame is damaged, frames change size, or times do not increase.
    """
    if pixel_format not in {"rgb24", "yuv420p"}:
        raise ValueError(f"pixel_format {pixel_format!r} is neither 'rgb24' nor 'yuv420p'")
    frames = _frames(path, start, stop, pixel_format, exact_colour, threads)
    yield from frames if prefetch == 0 else in_background(frames, depth=prefetch, name=f"decode {path.name}")


def _frames(
    path: Path,
    start: Fraction | None,
    stop: Fraction | None,
    pixel_format: str,
    exact_colour: bool,
    threads: int | None,
) -> Generator[Frame]:
    with open_media(path) as container, colour.borrowed_reformatter(pixel_format) as reformatter:
        stream = video_stream(container, path)
        configure_decoder(stream, threads)
        time_base = stream.time_base
        if time_base is None:
            raise InvalidMedia(f"{path.name}: its video has no time base.", remedy=_REPAIR)
        layout: _Layout | None = None
        last: int | None = None
        for decoded in _located(_from(container, stream, start), time_base, path):
            if decoded.pts is None:
                raise InvalidMedia(f"{path.name}: a frame has no time.", remedy=_REPAIR)
            time = decoded.pts * time_base
            if decoded.is_corrupt:
                raise InvalidMedia(f"{path.name}: the frame at {float(time):.3f} s is damaged.", remedy=_REPAIR)
            if last is not None and decoded.pts <= last:
                raise InvalidMedia(f"{path.name}: times do not increase at {float(time):.3f} s.", remedy=_REPAIR)
            last = decoded.pts
            if start is not None and time < start:
                continue
            if stop is not None and time >= stop:
                return
            layout = layout or _Layout(decoded, stream, path, reformatter, exact_colour)
            yield Frame(pts=decoded.pts, time_base=time_base, image=layout.image(decoded, pixel_format))


def _located(decoded: Iterator[VideoFrame], time_base: Fraction, path: Path) -> Iterator[VideoFrame]:
    """Pass frames on; say after which time the decoder failed."""
    import av

    last: Fraction | None = None
    try:
        for frame in decoded:
            last = None if frame.pts is None else frame.pts * time_base
            yield frame
    except av.error.FFmpegError as error:
        where = "at its beginning" if last is None else f"after {float(last):.3f} s"
        raise InvalidMedia(f"{path.name}: is damaged {where} ({error.strerror}).", remedy=_REPAIR) from error


def _from(container: InputContainer, stream: VideoStream, start: Fraction | None) -> Iterator[VideoFrame]:
    """Decode from a keyframe whose picture is shown at or before `start` (from the beginning if that is None)."""
    import av

    if start is None or start <= 0 or stream.time_base is None:
        yield from container.decode(stream)
        return
    step = _FIRST_STEP_BACK
    target = start
    while True:
        # Containers seek by decoding time, which runs ahead of presentation where frames are reordered: a keyframe
        # found for `start` may be shown after it.
        container.seek(int(target / stream.time_base), stream=stream)
        decoded = _after_keyframe(container, stream)
        try:
            first = next(decoded, None)
        except av.error.FFmpegError:
            # Not every keyframe is a place to start from; a file that is truly damaged fails again from its beginning.
            if target <= 0:
                raise
            first = None
        if target <= 0 or (first is not None and first.pts is not None and first.pts * stream.time_base <= start):
            break
        target = max(Fraction(0), target - step)
        step *= 2
    if first is not None:
        yield first
        yield from decoded


def _after_keyframe(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Decode after a seek, without the pictures of an open group that lean on the group before it."""
    keyframe: int | None = None
    for packet in container.demux(stream):
        if keyframe is None and packet.is_keyframe:
            keyframe = packet.pts
        elif keyframe is not None and packet.pts is not None and packet.pts < keyframe:
            continue
        yield from packet.decode()


class _Layout:
    """How the frames of one video become arrays: settled by the first frame, held to by all others."""

    def __init__(
        self, first: VideoFrame, stream: VideoStream, path: Path, reformatter: VideoReformatter, exact_colour: bool
    ) -> None:
        self.path = path
        self.exact_colour = exact_colour
        self.reformatter = reformatter
        self.coded = (first.width, first.height)
        self.width, self.height = square_pixels(stream, first.width, first.height)
        self.orientation = orientation_of(first, path)

    def image(self, frame: VideoFrame, pixel_format: str) -> NDArray[np.uint8]:
        if (frame.width, frame.height) != self.coded:
            raise InvalidMedia(
                f"{self.path.name}: frames change size from {self.coded[0]}x{self.coded[1]} to "
                f"{frame.width}x{frame.height} px.",
                remedy="Export the video at one size.",
            )
        converted = colour.convert(
            frame,
            pixel_format,
            width=self.width,
            height=self.height,
            reformatter=self.reformatter,
            exact=self.exact_colour,
        )
        if pixel_format == "rgb24":
            return _upright(colour.rgb_array(converted), self.orientation)
        planes = [colour.plane_array(plane) for plane in converted.planes]
        rows, columns = self.height // 2, self.width // 2
        y, u, v = planes[0][: rows * 2, : columns * 2], planes[1][:rows, :columns], planes[2][:rows, :columns]
        turned = (self.orientation.apply(plane) for plane in (y, u, v))
        return colour.pack_i420(*turned)


def _upright(image: NDArray[np.uint8], orientation: Orientation) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    if orientation == UPRIGHT and height % 2 == 0 and width % 2 == 0:
        return image
    return np.ascontiguousarray(orientation.apply(image[: height // 2 * 2, : width // 2 * 2]))
