"""What the sample sounds like: a stock voice in a room with a fan, at a known signal-to-noise ratio."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avatar_pipeline.media.types import Audio
from avatar_pipeline.voice.types import Viseme

TEXT = (
    "Hello, this is a sample video for my avatar. "
    "Please bring five big blue boxes of fresh apples to the farm by noon. "
    "Maybe we will have coffee before the meeting, if the weather stays fine."
)
"""What is said. A shorter sample says its first words."""
RATE = 48_000
LEAD = 0.4
"""Seconds of room noise alone before the first word, for noise estimators to hear."""
_TAIL = 0.25
_PEAK = 0.5
"""Peak of the clean speech: head room for the noise."""
_ACTIVE_DB = -40.0
"""Samples this far below the loudest 20 ms do not count as speech in the signal-to-noise ratio."""


@dataclass(frozen=True, slots=True)
class Take:
    """A recording: `clean` the speech alone, `noisy` with the room, both on the video's clock and of its length.

    `text` what of `TEXT` is said; `visemes` when the mouth takes which shape, on the same clock.
    """

    clean: Audio
    noisy: Audio
    text: str
    visemes: tuple[Viseme, ...]


def record(seconds: float, snr_db: float, seed: int) -> Take:
    """Speak as much of `TEXT` as fits into `seconds`, in noise `snr_db` below the speech's active level."""
    text, samples, visemes = _speak(seconds - LEAD - _TAIL)
    length = round(seconds * RATE)
    start = round(LEAD * RATE)
    clean = np.zeros(length, np.float32)
    clean[start : start + len(samples)] = samples[: length - start]
    noise = room_noise(length, seed)
    level = active_power(clean) / 10 ** (snr_db / 10)
    noisy = clean + noise * np.float32(np.sqrt(level / np.mean(noise.astype(np.float64) ** 2)))
    # one gain for both keeps the ratio and keeps the mix from clipping
    gain = np.float32(min(1.0, 0.89 / np.abs(noisy).max()))
    shifted = tuple(Viseme(v.name, v.start + LEAD, v.end + LEAD) for v in visemes)
    return Take(clean=Audio(clean * gain, RATE), noisy=Audio(noisy * gain, RATE), text=text, visemes=shifted)


def active_power(samples: NDArray[np.float32], rate: int = RATE) -> float:
    """Mean power of the 20 ms blocks within 40 dB of the loudest: the level of the speech without its pauses."""
    block = rate // 50
    blocks = samples[: len(samples) // block * block].astype(np.float64).reshape(-1, block)
    power = (blocks**2).mean(axis=1)
    return float(power[power > power.max() * 10 ** (_ACTIVE_DB / 10)].mean())


def room_noise(length: int, seed: int) -> NDArray[np.float32]:
    """A fan in a room: brown and pink noise with mains hum at 50 and 100 Hz, unit power."""
    rng = np.random.default_rng([seed, 2])
    spectrum = np.fft.rfft(rng.standard_normal(length))
    hertz = np.maximum(np.fft.rfftfreq(length, 1 / RATE), 20.0)
    spectrum *= 1.0 / np.sqrt(hertz) + 6.0 / hertz
    noise = np.fft.irfft(spectrum, length)
    noise /= noise.std()
    time = np.arange(length) / RATE
    for frequency, amplitude in ((50.0, 0.35), (100.0, 0.25)):
        noise += amplitude * np.sin(2 * np.pi * (frequency * time + rng.uniform()))
    return np.asarray(noise / noise.std(), np.float32)


def _speak(longest: float) -> tuple[str, NDArray[np.float32], tuple[Viseme, ...]]:
    """Speak the longest beginning of `TEXT`, in whole words, that lasts at most `longest` seconds."""
    from avatar_pipeline.media.audio import resample
    from avatar_pipeline.voice.local import LocalVoiceProvider
    from avatar_pipeline.voice.provider import say_one
    from avatar_pipeline.voice.visemes import to_visemes

    provider = LocalVoiceProvider()
    voice = provider.create_voice(None, None, language="en")
    words = TEXT.split()
    count = len(words)
    while True:
        text = " ".join(words[:count])
        speech = say_one(provider, voice, text)
        if speech.audio.seconds <= longest or count == 1:
            break
        fitting = sum(word.end <= longest - 0.2 for word in speech.words)
        count = max(1, min(count - 1, fitting))
    audio = resample(speech.audio, RATE)
    samples = audio.samples * np.float32(_PEAK / max(float(np.abs(audio.samples).max()), 1e-6))
    return text, samples, to_visemes(speech.phonemes, audio.seconds)
