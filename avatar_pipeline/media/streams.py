"""Which streams of an open file count, and how its video is decoded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from avatar_pipeline.errors import InvalidMedia

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.stream import Stream
    from av.video.stream import VideoStream

VIDEO_CODECS = frozenset({"h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "prores"})
AUDIO_CODECS = frozenset(
    {"aac", "ac3", "alac", "amr_nb", "amr_wb", "eac3", "flac", "mp3", "opus", "vorbis"}
    | {"pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_f32le", "pcm_alaw", "pcm_mulaw"}
)
_DECODER_THREADS = 4
HIGHEST_RATE = 192_000
_EXPORT = "Export the recording as MP4 (H.264 and AAC)."


def codec_name(stream: Stream) -> str:
    """Return the codec's name, or '' where ffmpeg knows none (such a stream has no codec context)."""
    context = stream.codec_context
    return "" if context is None else str(context.codec.canonical_name)


def video_streams(container: InputContainer) -> list[VideoStream]:
    """Return the video streams that are no attached pictures (covers)."""
    from av.stream import Disposition

    return [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]


def audio_streams(container: InputContainer) -> list[AudioStream]:
    """Return the audio streams in a codec that ffmpeg knows (a phone's spatial sound beside its stereo may not be)."""
    return [s for s in container.streams.audio if codec_name(s)]


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """Return the first video stream.

    Raises:
        InvalidMedia: there is none, or its codec is not accepted.
    """
    streams = video_streams(container)
    if not streams:
        raise InvalidMedia(
            f"{path.name}: has no video stream.", remedy="Give a video, not a sound recording or a picture."
        )
    name = codec_name(streams[0])
    if name not in VIDEO_CODECS:
        raise InvalidMedia(
            f"{path.name}: its video codec ({name or 'unknown'}) is not one that is accepted.", remedy=_EXPORT
        )
    return streams[0]


def audio_stream(container: InputContainer, path: Path) -> AudioStream | None:
    """Return the first audio stream, or None where there is none.

    Raises:
        InvalidMedia: its codec is not accepted, or its sample rate is none, or too high.
    """
    streams = audio_streams(container)
    if not streams:
        return None
    if codec_name(streams[0]) not in AUDIO_CODECS:
        raise InvalidMedia(
            f"{path.name}: its audio codec ({codec_name(streams[0])}) is not one that is accepted.", remedy=_EXPORT
        )
    if not streams[0].rate:
        raise InvalidMedia(f"{path.name}: its audio has no sample rate.", remedy=_EXPORT)
    require_rate(path, streams[0].rate)
    return streams[0]


def require_rate(path: Path, rate: int) -> None:
    """Check a sample rate that a file names: a filter from it to another one is as long as the rate is high.

    Raises:
        InvalidMedia: it is higher than any that sound is recorded at.
    """
    if rate > HIGHEST_RATE:
        raise InvalidMedia(
            f"{path.name}: its sample rate of {rate} Hz is over the limit of {HIGHEST_RATE} Hz.", remedy=_EXPORT
        )


def configure_decoder(stream: VideoStream, threads: int | None = None) -> None:
    """Decode on `threads` threads (a few, if None), and report damage instead of painting over it."""
    stream.thread_type = "AUTO"
    stream.codec_context.thread_count = threads or min(_DECODER_THREADS, os.cpu_count() or 1)
    stream.codec_context.options = {"err_detect": "explode"}


def square_pixels(stream: VideoStream, width: int, height: int) -> tuple[int, int]:
    """Return the frame's size with its pixels made square, by stretching it along its width."""
    aspect = stream.sample_aspect_ratio
    if not aspect or aspect <= 0:
        return width, height
    return max(1, round(width * aspect)), height
