"""Music under speech is heard; speech, noise and the hum of a room are not music."""

from __future__ import annotations

import numpy as np
import pytest

from avatar_pipeline.media.types import Audio
from avatar_pipeline.voice.music import detect_music

RATE = 16_000


def tune(seconds: float, seed: int) -> np.ndarray:
    """Chords of three notes of two octaves, with harmonics, two a second."""
    chance = np.random.default_rng(seed)
    out = np.zeros(int(seconds * RATE))
    time = np.arange(RATE // 2) / RATE
    for start in range(0, len(out) - len(time), len(time)):
        for note in chance.choice(25, 3, replace=False):
            pitch = 220 * 2 ** (note / 12)
            chord = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 6))
            out[start : start + len(time)] += chord * np.exp(-2 * time)
    return out


def beside(speech: Audio, other: np.ndarray, snr_db: float) -> Audio:
    other = np.interp(np.arange(len(speech.samples)) / speech.rate, np.arange(len(other)) / RATE, other)
    gain = np.sqrt(np.mean(speech.samples**2) / np.mean(other**2) / 10 ** (snr_db / 10))
    return Audio((speech.samples + gain * other).astype(np.float32), speech.rate)


def test_speech_is_not_music(man: Audio, woman: Audio) -> None:
    assert not detect_music(man).present
    assert not detect_music(woman).present


@pytest.mark.parametrize("snr_db", [0, 5])
def test_music_under_speech_is_heard(man: Audio, snr_db: float) -> None:
    report = detect_music(beside(man, tune(man.seconds + 1, 1), snr_db))
    assert report.present
    assert report.times


def test_it_is_told_when(man: Audio, woman: Audio) -> None:
    with_music = beside(man, tune(man.seconds + 1, 2), 5)
    report = detect_music(Audio(np.concatenate([woman.samples, with_music.samples]), man.rate))
    assert report.present
    musical = sum(max(0.0, end - max(start, woman.seconds)) for start, end in report.times)
    plain = sum(max(0.0, min(end, woman.seconds) - start) for start, end in report.times)
    assert musical > 0.8 * man.seconds
    assert musical > plain


@pytest.mark.parametrize("kind", ["silence", "white noise", "hum"])
def test_noise_is_not_music(man: Audio, kind: str) -> None:
    time = np.arange(int((man.seconds + 1) * RATE)) / RATE
    sounds = {
        "silence": np.zeros(len(time)) + 1e-9,
        "white noise": np.random.default_rng(0).standard_normal(len(time)),
        "hum": sum(np.sin(2 * np.pi * 50 * k * time) / k for k in range(1, 12)),
    }
    assert not detect_music(beside(man, sounds[kind], 10)).present


def test_what_is_shorter_than_a_block_has_none() -> None:
    report = detect_music(Audio(tune(2.0, 3).astype(np.float32), RATE))
    assert not report.present
    assert report.share == 0
