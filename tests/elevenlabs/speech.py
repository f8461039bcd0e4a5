"""What the stand-in says: eSpeak NG's speech, or beeps where speed counts, with the time of every character."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, replace
from math import gcd
from typing import TYPE_CHECKING, Any

import numpy as np

from avatar_pipeline.errors import EnvironmentProblem, InvalidInput, InvalidText
from avatar_pipeline.voice import espeak
from tests.elevenlabs.letters import Times, spread

if TYPE_CHECKING:
    from numpy.typing import NDArray

VOWELS = frozenset("aeiouyäöüáéíóúàèìòùâêîôûåæøœ")
CLOSURES = frozenset("pbmtdkg")
FORMANTS = {"a": (750, 1200), "e": (500, 1800), "i": (300, 2250), "o": (500, 900), "u": (320, 800)}


@dataclass(frozen=True, slots=True)
class Sound:
    """How a voice sounds: eSpeak NG's pitch (0..99), the pace (1 is natural), what varies it, and the language."""

    pitch: int = 50
    speed: float = 1.0
    seed: int | None = None
    language: str = "en"


@dataclass(frozen=True, slots=True)
class Said:
    """Mono samples and the times of the characters of the text, which end where the samples end."""

    samples: NDArray[np.int16]
    rate: int
    times: Times

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / self.rate


def sound_of(material: bytes) -> Sound:
    """Return the sound of a voice that was made from `material`: the same again for the same."""
    return Sound(pitch=25 + hashlib.sha256(material).digest()[0] % 50)


def say(text: str, sound: Sound, rate: int, *, beeps: bool, beep_seconds_per_character: float = 0.06) -> Said:
    """Speak a text at a sampling rate. The same call gives the same samples.

    Beeps stand in for eSpeak NG where it is not installed and where the text has nothing that it can speak.
    """
    if not beeps:
        try:
            return _resampled(text, sound, rate)
        except (EnvironmentProblem, InvalidText):
            pass
    return _beep(text, sound, rate, beep_seconds_per_character / sound.speed)


@functools.lru_cache(maxsize=1)
def _voices() -> tuple[espeak.EspeakVoice, ...]:
    return espeak.list_voices()


@functools.lru_cache(maxsize=512)
def _spoken(text: str, sound: Sound) -> Said:
    try:
        voice = espeak.resolve_voice(sound.language, _voices())
    except InvalidInput:
        voice = espeak.resolve_voice("en", _voices())
    variety = 50 if sound.seed is None else 40 + sound.seed % 21
    settings = espeak.Settings(voice.identifier, pitch=sound.pitch, range=variety)
    spoken = espeak.speak(text, espeak.at_speed(settings, sound.speed)[0])
    seconds = len(spoken.samples) / spoken.rate
    return Said(spoken.samples, spoken.rate, spread(text, spoken.words, spoken.phonemes, seconds))


@functools.lru_cache(maxsize=256)
def _resampled(text: str, sound: Sound, rate: int) -> Said:
    from scipy.signal import resample_poly

    said = _spoken(text, sound)
    if rate == said.rate:
        return said
    common = gcd(rate, said.rate)
    wave = resample_poly(said.samples.astype(np.float32), rate // common, said.rate // common)
    samples = np.clip(np.round(wave), -32768, 32767).astype(np.int16)
    return Said(samples, rate, said.times)


@functools.lru_cache(maxsize=4096)
def _sound_of_character(character: str, pitch: int, rate: int, length: int) -> NDArray[np.float32]:
    """One character: two formants on a voice, a hiss, a closure, or silence."""
    time = np.arange(length) / rate
    fade = np.minimum(1, np.minimum(time, time[::-1]) / 0.005)
    if not character.isalnum():
        return np.zeros(length, np.float32)
    if character in CLOSURES:
        fade = fade * (time > time[-1] * 0.6)
    tone = 80.0 + 2 * pitch
    low, high = FORMANTS.get(character, (400 + 23 * (ord(character) % 40), 1500 + 29 * (ord(character) % 40)))
    formants = [low, high] if character in VOWELS else [high]
    voiced = 1 + np.sign(np.sin(2 * np.pi * tone * time))
    wave: Any = sum(np.sin(2 * np.pi * formant * time) for formant in formants) * voiced * fade / 4
    loudness = 0.5 if character in VOWELS else 0.25
    return np.asarray(wave * loudness, np.float32)


def _beep(text: str, sound: Sound, rate: int, seconds_per_character: float) -> Said:
    length = max(1, round(seconds_per_character * rate))
    pitch = sound.pitch + (sound.seed or 0) % 10
    wave = [_sound_of_character(character, pitch, rate, length) for character in text.lower()[: len(text)]]
    samples = (np.concatenate(wave) * 32767).astype(np.int16) if wave else np.zeros(0, np.int16)
    edges = [index * length / rate for index in range(len(text) + 1)]
    return Said(samples, rate, Times(tuple(text), tuple(edges[:-1]), tuple(edges[1:])))


def paced(sound: Sound, speed: float, seed: int | None, language: str | None) -> Sound:
    """Return a voice's sound as one call wants it."""
    return replace(sound, speed=speed, seed=seed, language=language or sound.language)
