"""Recordings of somebody speaking: a sound file or a video with sound, of which only the sound counts."""

from __future__ import annotations

from pathlib import Path

from avatar_pipeline.errors import InvalidMedia
from avatar_pipeline.media.audio import read_audio, read_wav
from avatar_pipeline.media.container import container_of, open_media, regular_file_size
from avatar_pipeline.media.streams import audio_stream, require_rate
from avatar_pipeline.media.types import Audio, MediaLimits

_WAV = (b"RIFF", b"RF64")


def read_recording(path: Path, limits: MediaLimits = MediaLimits()) -> Audio:  # noqa: B008 (frozen)
    """Return the sound of a WAV file, or of an M4A, MP4, MOV, WebM or Matroska file with or without a picture.

    Its size, length and rate are checked before it is decoded.

    Raises:
        InvalidMedia: it is none of these, is damaged, too large, too long, or holds no sound.
    """
    size = regular_file_size(path)
    if size > limits.max_bytes:
        raise InvalidMedia(
            f"{path.name}: {size / 1e6:.0f} MB is over the limit of {limits.max_bytes / 1e6:.0f} MB.",
            remedy="Export it shorter or at a lower bit rate.",
        )
    with path.open("rb") as file:
        is_wav = file.read(4) in _WAV
    _require_length(path, _wav_seconds(path) if is_wav else _container_seconds(path), limits)
    return read_wav(path) if is_wav else read_audio(path)


def _wav_seconds(path: Path) -> float:
    import soundfile

    try:
        info = soundfile.info(path)
    except soundfile.LibsndfileError as error:
        raise InvalidMedia(f"{path.name}: is not a readable WAV file.", remedy="Export the sound as WAV.") from error
    require_rate(path, int(info.samplerate))
    return float(info.duration)


def _container_seconds(path: Path) -> float:
    """Return when the last sound ends, from the packets and not from what the header promises."""
    container_of(path)
    end = 0.0
    with open_media(path) as container:
        stream = audio_stream(container, path)
        if stream is None:
            raise InvalidMedia(f"{path.name}: holds no sound.", remedy="Give a recording of the person speaking.")
        for packet in container.demux(stream):
            if packet.pts is not None:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
    return end


def _require_length(path: Path, seconds: float, limits: MediaLimits) -> None:
    if not seconds <= limits.max_seconds:
        raise InvalidMedia(
            f"{path.name}: {seconds:.1f} s is over the limit of {limits.max_seconds:g} s.",
            remedy="Cut it to the statement.",
        )
