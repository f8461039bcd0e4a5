"""The audio formats that the stand-in answers: raw PCM, WAV and MP3."""

from __future__ import annotations

import io
import re
import wave
from typing import TYPE_CHECKING

import numpy as np

from tests.elevenlabs.refusals import Invalid, Refusal

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEFAULT_FORMAT = "mp3_44100_128"
_KNOWN = re.compile(r"(pcm|wav|mp3)_(\d+)(?:_(\d+))?")
_RATES = {
    "pcm": (8_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000),
    "wav": (8_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000),
    "mp3": (22_050, 24_000, 44_100),
}
_CONTENT = {"pcm": "audio/pcm", "wav": "audio/wav", "mp3": "audio/mpeg"}


def rate_of(output_format: str, *, high_rate_allowed: bool) -> int:
    """Return the sampling rate of a format's name.

    Raises:
        Invalid: the stand-in does not have the format.
        Refusal: PCM and WAV of 44.1 kHz and more, which smaller plans do not have.
    """
    match = _KNOWN.fullmatch(output_format)
    if not match or int(match[2]) not in _RATES[match[1]]:
        what = f"The stand-in answers pcm_*, wav_* and mp3_* only, not {output_format!r}"
        raise Invalid((("query", "output_format"), what))
    rate = int(match[2])
    if match[1] != "mp3" and rate >= 44_100 and not high_rate_allowed:
        message = f"Output format '{output_format}' is not allowed for your plan. Please upgrade to Pro or higher."
        raise Refusal(403, "output_format_not_allowed", message)
    return rate


def content_type(output_format: str) -> str:
    """Return the MIME type of a format."""
    return _CONTENT[output_format.partition("_")[0]]


def encode(samples: NDArray[np.int16], rate: int, output_format: str) -> bytes:
    """Encode mono samples in a format that `rate_of` knows; `rate` is that format's."""
    if output_format.startswith("pcm_"):
        return samples.astype("<i2").tobytes()
    return _wav(samples, rate) if output_format.startswith("wav_") else _mp3(samples, rate, output_format)


def _wav(samples: NDArray[np.int16], rate: int) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(samples.astype("<i2").tobytes())
    return file.getvalue()


def _mp3(samples: NDArray[np.int16], rate: int, output_format: str) -> bytes:
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=rate, layout="mono")
        stream.bit_rate = int(output_format.rpartition("_")[2]) * 1000
        frame = av.AudioFrame.from_ndarray(samples[np.newaxis], format="s16p", layout="mono")
        frame.rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return file.getvalue()
