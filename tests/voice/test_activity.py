"""Speech is told from silence, noise, hum and rooms, and a refusal says what to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar_pipeline.errors import SpeechNotUsable
from avatar_pipeline.media.types import Audio
from avatar_pipeline.voice.activity import measure_speech, require_speech
from tests.voice.conftest import load

RATE = 16_000
SECONDS = np.arange(RATE * 4) / RATE
WHITE = np.random.default_rng(0).standard_normal(len(SECONDS))
HUM = sum(np.sin(2 * np.pi * 50 * k * SECONDS + k) / k for k in range(1, 12))


def coloured(exponent: float) -> np.ndarray:
    spectrum = np.fft.rfft(WHITE) / np.maximum(np.arange(len(WHITE) // 2 + 1), 1) ** exponent
    shaped = np.fft.irfft(spectrum)
    return shaped / np.abs(shaped).max() * 0.5


NOT_SPEECH = {
    "digital silence": np.zeros(RATE * 4),
    "white noise": WHITE * 0.1,
    "pink noise": coloured(0.5),
    "rumble": coloured(1.0),
    "a quiet room": WHITE * 10 ** (-70 / 20),
    "mains hum": HUM * 0.1,
    "mains hum in noise": HUM * 0.05 + WHITE * 0.05,
    "hum that comes and goes": HUM * 0.1 * ((SECONDS % 1) > 0.5) + WHITE * 1e-4,
    "noise that swells": WHITE * 0.1 * (0.55 + 0.45 * np.sin(2 * np.pi * 4 * SECONDS)),
    "a tone": 0.3 * np.sin(2 * np.pi * 200 * SECONDS),
    "clicks": 0.8 * (np.arange(len(SECONDS)) % 5_000 == 0),
}


@pytest.mark.parametrize("name", NOT_SPEECH)
def test_this_is_not_speech(name: str) -> None:
    report = measure_speech(Audio(NOT_SPEECH[name].astype(np.float32), RATE))
    assert report.speech_seconds == 0
    with pytest.raises(SpeechNotUsable):
        require_speech(report, "video.mp4")


@pytest.mark.parametrize("level_db", [0, -20, -40])
def test_speech_is_found_at_any_usable_level(speech: Audio, level_db: float) -> None:
    report = measure_speech(Audio(speech.samples * np.float32(10 ** (level_db / 20)), speech.rate))
    assert report.speech_ratio > 0.6
    assert report.enough_speech
    require_speech(report, "video.mp4")


def test_speech_is_found_in_noise_and_the_ratio_of_the_two_is_estimated(speech: Audio) -> None:
    level = np.sqrt(np.mean(speech.samples**2)) / 10 ** (15 / 20)
    noise = np.random.default_rng(1).standard_normal(len(speech.samples)) * level
    report = measure_speech(Audio((speech.samples + noise).astype(np.float32), speech.rate))
    assert report.enough_speech
    assert report.snr_db == pytest.approx(15, abs=3)


def test_only_the_spoken_part_counts(speech: Audio) -> None:
    alone = measure_speech(speech)
    padded = np.concatenate([np.zeros(speech.rate * 10, np.float32), speech.samples])
    report = measure_speech(Audio(padded, speech.rate))
    assert report.speech_seconds == pytest.approx(alone.speech_seconds, abs=0.3)
    assert report.level_dbfs == pytest.approx(alone.level_dbfs, abs=1)
    assert report.seconds == pytest.approx(alone.seconds + 10)


def test_clipping_is_measured(speech: Audio) -> None:
    assert measure_speech(speech).clipped_ratio == 0
    assert measure_speech(Audio(np.clip(speech.samples * 20, -1, 1), speech.rate)).clipped_ratio > 0.05


def test_too_little_speech_is_refused_with_the_seconds_and_a_way_on(speech: Audio) -> None:
    report = measure_speech(Audio(speech.samples[: speech.rate], speech.rate))
    with pytest.raises(SpeechNotUsable, match=r"clip\.mp4 holds only 0\.\d s of speech .* at least 2 s") as refusal:
        require_speech(report, "clip.mp4")
    assert "--voice local:en" in refusal.value.remedy


@settings(max_examples=25, deadline=None)
@given(samples=st.integers(0, 3_000), rate=st.sampled_from([8_000, 16_000, 44_100, 48_000]))
def test_any_short_audio_gives_a_finite_report(samples: int, rate: int) -> None:
    report = measure_speech(Audio((WHITE[:samples] * 0.1).astype(np.float32), rate))
    values = (report.speech_seconds, report.speech_ratio, report.level_dbfs, report.snr_db, report.clipped_ratio)
    assert np.isfinite(values).all()
    assert report.speech_seconds == 0


def test_every_real_recording_of_a_voice_is_speech(recordings: Path) -> None:
    for path in sorted((recordings / "librispeech").rglob("*.flac")):
        report = measure_speech(load(path))
        assert report.speech_ratio > 0.5, path.name
        assert report.enough_speech or report.seconds < 3, path.name


def test_real_rooms_and_dishes_are_not_speech(recordings: Path) -> None:
    for path in sorted((recordings.parent / "train" / "noise").glob("*.wav")):
        assert not measure_speech(load(path)).enough_speech, path.name
