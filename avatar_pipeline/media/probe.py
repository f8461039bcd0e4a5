"""Is this file a video that we accept? Facts measured from its packets and its first frame, or one clear line."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from avatar_pipeline.errors import InvalidMedia
from avatar_pipeline.media.container import container_of, open_media, regular_file_size
from avatar_pipeline.media.orientation import orientation_of
from avatar_pipeline.media.streams import (
    audio_stream,
    audio_streams,
    codec_name,
    configure_decoder,
    square_pixels,
    video_stream,
    video_streams,
)
from avatar_pipeline.media.structure import declared_end
from avatar_pipeline.media.types import AudioInfo, MediaInfo, MediaLimits

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.stream import VideoStream

_COMPLETE = "Check that it plays to the end, then upload or export it again."
_OFF_THE_GRID = 0.25
"""How far a frame may be from its place at a constant rate, in frame intervals, before the rate counts as variable."""
_MISSING_SECONDS = 0.25
_LATEST_START = 5.0


def probe(path: Path, limits: MediaLimits = MediaLimits()) -> MediaInfo:  # noqa: B008 (frozen)
    """Check a video file against `limits` and say what it is.

    Opens local regular files only and nothing that they point to. Reads every packet, decodes the first frame:
    lengths and rates are measured, not believed. `seconds` is the end of the last frame on the file's own clock,
    `fps` the mean rate. Attached pictures (covers) are no video; data tracks, subtitles and audio in a codec that
    ffmpeg does not know (a phone's spatial sound beside its stereo track) are passed over.

    Raises:
        InvalidMedia: one line with the file's name, the limit, and what was found.
    """
    size = regular_file_size(path)
    if size > limits.max_bytes:
        raise InvalidMedia(
            f"{path.name}: {size / 1e6:.0f} MB is over the limit of {limits.max_bytes / 1e6:.0f} MB.",
            remedy="Export it shorter or at a lower bit rate.",
        )
    kind = container_of(path)
    end = declared_end(path, kind)
    if end > size:
        raise InvalidMedia(
            f"{path.name}: is cut short: it has {size} of the {end} bytes that it declares.", remedy=_COMPLETE
        )
    with open_media(path) as container:
        video, audio = _streams(container, path)
        _check_size(path, video.codec_context.width, video.codec_context.height, limits)
        _check_declared_length(path, video, limits)
        timeline = _read_packets(container, video, audio, path, limits)
        _check_complete(path, container, timeline)
        width, height, rotation = _first_frame(container, video, path)
        _check_size(path, width, height, limits)
        codec = codec_name(video)
        sound = _audio_info(audio, timeline) if audio else None
        fps, is_variable = _frame_rate(path, timeline, video)
    _check_rate(path, fps, limits)
    _check_length(path, timeline, limits)
    return MediaInfo(
        container=kind,
        codec=codec,
        width=width,
        height=height,
        rotation=rotation,
        fps=fps,
        seconds=timeline.video_end,
        variable_frame_rate=is_variable,
        size_bytes=size,
        audio=sound,
    )


@dataclass(slots=True)
class _Timeline:
    """What the packets say: presentation times of the frames in units of `time_base`, ends in seconds."""

    time_base: Fraction
    pts: list[int] = field(default_factory=list)
    packets: int = 0
    video_end: float = 0.0
    audio_end: float = 0.0

    @property
    def video_seconds(self) -> float:
        """Return how long the picture lasts, from the first frame to the end of the last."""
        return self.video_end - float(min(self.pts) * self.time_base)

    @property
    def times(self) -> NDArray[np.float64]:
        """Return the distinct presentation times (N,) in seconds, in order."""
        return np.unique(np.asarray(self.pts, np.int64)) * float(self.time_base)


def _streams(container: InputContainer, path: Path) -> tuple[VideoStream, AudioStream | None]:
    sounds = audio_streams(container)
    for kind, found in (("video", len(video_streams(container))), ("audio", len(sounds))):
        if found > 1:
            raise InvalidMedia(
                f"{path.name}: has {found} {kind} streams; the limit is one.",
                remedy=f"Export it with a single {kind} track.",
            )
    return video_stream(container, path), audio_stream(container, path)


def _check_size(path: Path, width: int, height: int, limits: MediaLimits) -> None:
    short, long = sorted((width, height))
    if short < limits.min_side:
        raise InvalidMedia(
            f"{path.name}: {width}x{height} px is too small; each side must have at least {limits.min_side} px.",
            remedy="Record at 640x480 px or more.",
        )
    if long > limits.max_long_side or short > limits.max_short_side:
        raise InvalidMedia(
            f"{path.name}: {width}x{height} px is over the limit of {limits.max_long_side}x{limits.max_short_side} px.",
            remedy="Record or export it at 3840x2160 px or less.",
        )


def _check_declared_length(path: Path, video: VideoStream, limits: MediaLimits) -> None:
    """Refuse by the header what is far too long, before reading it; the measured length is checked afterwards."""
    if video.duration and video.time_base and video.duration * video.time_base > limits.max_seconds + 1:
        _too_long(path, float(video.duration * video.time_base), limits)


def _too_long(path: Path, seconds: float, limits: MediaLimits) -> None:
    raise InvalidMedia(
        f"{path.name}: {seconds:.1f} s is over the limit of {limits.max_seconds:g} s.",
        remedy="Cut it to the part in which the person talks.",
    )


def _read_packets(
    container: InputContainer, video: VideoStream, audio: AudioStream | None, path: Path, limits: MediaLimits
) -> _Timeline:
    if video.time_base is None:
        raise InvalidMedia(f"{path.name}: its video has no time base.", remedy=_COMPLETE)
    timeline = _Timeline(video.time_base)
    most = int(limits.max_fps * (limits.max_seconds + 1)) + 1
    for packet in container.demux(*([video, audio] if audio else [video])):
        if packet.size == 0:
            continue
        if packet.is_corrupt:
            raise InvalidMedia(f"{path.name}: is cut short or damaged.", remedy=_COMPLETE)
        if packet.stream_index != video.index:
            timeline.audio_end = max(timeline.audio_end, _end(packet))
            continue
        timeline.packets += 1
        if packet.is_discard:
            continue
        if packet.pts is None:
            raise InvalidMedia(f"{path.name}: a frame has no time.", remedy=_COMPLETE)
        timeline.pts.append(packet.pts)
        timeline.video_end = max(timeline.video_end, _end(packet))
        if timeline.packets > most:
            raise InvalidMedia(
                f"{path.name}: has more than {most} frames, over {limits.max_seconds:g} s at {limits.max_fps:g} fps.",
                remedy="Cut it to the part in which the person talks.",
            )
    if not timeline.pts:
        raise InvalidMedia(f"{path.name}: holds no frame.", remedy=_COMPLETE)
    return timeline


def _end(packet: Packet[Stream]) -> float:
    """Return when a packet's picture or sound ends, in seconds."""
    start = packet.pts if packet.pts is not None else packet.dts
    return 0.0 if start is None else float((start + (packet.duration or 0)) * packet.time_base)


def _check_complete(path: Path, container: InputContainer, timeline: _Timeline) -> None:
    """Compare what was read with the length that the header promises."""
    declared = (container.duration or 0) / 1e6
    read = max(timeline.video_end, timeline.audio_end)
    if declared - read > _MISSING_SECONDS:
        raise InvalidMedia(
            f"{path.name}: is cut short: it declares {declared:.1f} s and holds {read:.1f} s.", remedy=_COMPLETE
        )


def _first_frame(container: InputContainer, video: VideoStream, path: Path) -> tuple[int, int, int]:
    """Decode the first frame; return width and height as displayed, even, and the rotation."""
    container.seek(0, stream=video)
    configure_decoder(video)
    frame = next(container.decode(video), None)
    if frame is None or frame.is_corrupt:
        raise InvalidMedia(f"{path.name}: its first frame cannot be decoded.", remedy=_COMPLETE)
    orientation = orientation_of(frame, path)
    width, height = (side // 2 * 2 for side in square_pixels(video, frame.width, frame.height))
    if orientation.swaps_sides:
        width, height = height, width
    return width, height, orientation.clockwise


def _audio_info(audio: AudioStream, timeline: _Timeline) -> AudioInfo:
    return AudioInfo(codec=codec_name(audio), rate=audio.rate, channels=audio.channels, seconds=timeline.audio_end)


def _frame_rate(path: Path, timeline: _Timeline, video: VideoStream) -> tuple[Fraction, bool]:
    """Return the mean frame rate, and whether frames leave the places that a constant rate would give them."""
    times = timeline.times
    if len(times) < 2:
        raise InvalidMedia(f"{path.name}: holds a single frame.", remedy="Give a video, not a picture.")
    span = times[-1] - times[0]
    mean = (len(times) - 1) / span
    rounding = 2 * float(timeline.time_base) / span
    named = (rate for rate in (video.average_rate, video.guessed_rate, video.base_rate) if rate)
    fps = next((rate for rate in named if abs(float(rate) - mean) / mean <= rounding), None)
    fps = fps or Fraction(mean).limit_denominator(1001)
    off_the_grid = (times - times[0]) * float(fps) - np.arange(len(times))
    return fps, bool(np.abs(off_the_grid - np.median(off_the_grid)).max() > _OFF_THE_GRID)


def _check_rate(path: Path, fps: Fraction, limits: MediaLimits) -> None:
    if not limits.min_fps <= fps <= limits.max_fps:
        raise InvalidMedia(
            f"{path.name}: {float(fps):.2f} frames per second is outside {limits.min_fps:g} to {limits.max_fps:g}.",
            remedy="Record or export it at 25 or 30 frames per second.",
        )


def _check_length(path: Path, timeline: _Timeline, limits: MediaLimits) -> None:
    if timeline.video_seconds > limits.max_seconds:
        _too_long(path, timeline.video_seconds, limits)
    if timeline.video_seconds < limits.min_seconds:
        raise InvalidMedia(
            f"{path.name}: {timeline.video_seconds:.2f} s is under the limit of {limits.min_seconds:g} s.",
            remedy="Record a longer video.",
        )
    if timeline.video_end - timeline.video_seconds > _LATEST_START:
        raise InvalidMedia(
            f"{path.name}: its picture starts at {timeline.video_end - timeline.video_seconds:.1f} s; "
            f"the limit is {_LATEST_START:g} s.",
            remedy="Export the video again from its start.",
        )
