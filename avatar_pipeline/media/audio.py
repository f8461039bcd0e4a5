"""Audio in and out: the sound of a video as mono samples on the video's clock, and WAV files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from avatar_pipeline.errors import InvalidMedia, SpeechNotUsable
from avatar_pipeline.media.container import open_media, regular_file_size
from avatar_pipeline.media.streams import audio_stream, audio_streams
from avatar_pipeline.media.types import Audio

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame

_TOLERATED_SECONDS = 0.04
"""How far an audio frame's time may be from the end of the one before it until samples are dropped or silence is put
in: below the 45 ms at which viewers notice sound that leads the picture (ITU-R BT.1359-1)."""
_MAX_GAP_SECONDS = 600.0
_BLOCK = 48_000
_PCM16 = 32768.0


def read_audio(path: Path, *, rate: int | None = None) -> Audio:
    """Return the sound of a video as mono, resampled to `rate` Hz where given.

    Channels are averaged. Sample 0 is presentation time 0: a stream that starts later is preceded by silence, and
    samples before time 0 (encoder priming, edit lists) are dropped. Gaps in the stream are silence.

    Raises:
        SpeechNotUsable: the file has no audio stream.
        InvalidMedia: the file cannot be opened or its audio is damaged.
    """
    blocks, native = _on_the_clock(path)
    if rate is None or rate == native:
        return Audio(samples=_joined(blocks), rate=native)
    return Audio(samples=_joined(_resampled(blocks, native, rate)), rate=rate)


def resample(audio: Audio, rate: int) -> Audio:
    """Return `audio` at another rate; the length in seconds is kept to within a sample."""
    if rate == audio.rate:
        return audio
    blocks = (audio.samples[i : i + _BLOCK] for i in range(0, len(audio.samples), _BLOCK))
    return Audio(samples=_joined(_resampled(blocks, audio.rate, rate)), rate=rate)


def write_wav(path: Path, audio: Audio) -> None:
    """Write a WAV file, 16-bit PCM; samples outside [-1, 1] are clipped. The same audio gives the same bytes."""
    import soundfile

    pcm = np.clip(np.rint(audio.samples * _PCM16), -32768, 32767).astype(np.int16)
    soundfile.write(path, pcm, audio.rate, subtype="PCM_16", format="WAV")


def read_wav(path: Path) -> Audio:
    """Read a WAV file; several channels are averaged.

    Raises:
        InvalidMedia: it is no regular file, or no WAV file.
    """
    import soundfile

    regular_file_size(path)
    try:
        with soundfile.SoundFile(path) as file:
            if file.format not in {"WAV", "WAVEX", "RF64"}:
                raise InvalidMedia(f"{path.name}: is {file.format}, not WAV.", remedy="Export the sound as WAV.")
            samples = file.read(dtype="float32", always_2d=True)
            return Audio(samples=_bounded(samples).mean(axis=1, dtype=np.float32), rate=int(file.samplerate))
    except soundfile.LibsndfileError as error:
        raise InvalidMedia(f"{path.name}: is not a readable WAV file.", remedy="Export the sound as WAV.") from error


def _bounded(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return samples in [-1, 1]; what is not a number, as a file of floats may hold, is silence."""
    bounded: NDArray[np.float32] = np.clip(np.nan_to_num(samples, nan=0.0), -1.0, 1.0)
    return bounded


def _joined(blocks: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
    parts = list(blocks)
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def _on_the_clock(path: Path) -> tuple[Iterator[NDArray[np.float32]], int]:
    """Return blocks of mono samples, in order and without gaps from presentation time 0, and their rate."""
    with open_media(path) as container:
        stream = audio_stream(container, path)
        if stream is None:
            raise SpeechNotUsable(
                f"{path.name}: has no audio stream.",
                remedy="Record the video with sound, or choose a stock voice: --voice local:en",
            )
        native = stream.rate
    return _placed(path, native), native


def _placed(path: Path, rate: int) -> Iterator[NDArray[np.float32]]:
    position = 0
    tolerated = round(_TOLERATED_SECONDS * rate)
    for begin, samples in _mono_frames(path, rate):
        if begin - position > _MAX_GAP_SECONDS * rate:
            raise InvalidMedia(
                f"{path.name}: its audio jumps to {begin / rate:.0f} s.",
                remedy="Export the video again from its start.",
            )
        starts = position == 0
        if begin > position and (starts or begin - position > tolerated):
            yield np.zeros(begin - position, np.float32)
            position = begin
        surplus = position - begin if starts or position - begin > tolerated else 0
        if surplus < len(samples):
            yield samples[max(0, surplus) :]
            position += len(samples) - max(0, surplus)


def _mono_frames(path: Path, rate: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield the decoded frames as mono samples, each with the number of its first sample from time 0."""
    import av

    with open_media(path) as container:
        stream = audio_streams(container)[0]
        # To float only: swresample's own mix to mono adds 3 dB to what both channels share, and clips it.
        resampler = av.AudioResampler(format="fltp", rate=rate)
        layout: tuple[int, str] | None = None
        for frame in container.decode(stream):
            found = (frame.sample_rate, frame.layout.name)
            if layout not in (None, found):
                raise InvalidMedia(
                    f"{path.name}: its audio changes from {layout} to {found}.",
                    remedy="Export the video again with one audio format.",
                )
            layout = found
            if frame.pts is None or frame.time_base is None:
                raise InvalidMedia(f"{path.name}: an audio frame has no time.", remedy="Export the video again.")
            begin = round(frame.pts * frame.time_base * rate)
            end = begin + frame.samples
            if frame.time_base == Fraction(1, frame.sample_rate) and 0 < frame.duration < frame.samples:
                end = begin + frame.duration  # the last frame: what follows is the encoder's padding
            for planar in resampler.resample(frame):
                mono = planar.to_ndarray().mean(axis=0, dtype=np.float32)[: end - begin]
                yield begin, _bounded(mono)  # lossy codecs overshoot
                begin += len(mono)


def _samples(frame: AudioFrame) -> NDArray[np.float32]:
    return np.ascontiguousarray(frame.to_ndarray()[0], dtype=np.float32)


def _resampled(blocks: Iterable[NDArray[np.float32]], source: int, target: int) -> Iterator[NDArray[np.float32]]:
    import av

    resampler = av.AudioResampler(format="fltp", layout="mono", rate=target)
    for block in blocks:
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block)[None], format="fltp", layout="mono")
        frame.sample_rate = source
        yield from (_samples(out) for out in resampler.resample(frame))
    yield from (_samples(out) for out in resampler.resample(None))
