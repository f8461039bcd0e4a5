"""The classical estimator takes noise away and leaves the voice, its length and its place in time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avatar_pipeline.media.types import Audio
from avatar_pipeline.voice.isolation.dsp import DspIsolator
from tests.voice.conftest import load
from tests.voice.sounds import noise, si_sdr

isolate = DspIsolator().isolate


def test_noisy_speech_comes_nearer_to_the_clean_speech(speech: Audio) -> None:
    level = float(np.sqrt(np.mean(speech.samples**2)))
    noisy = speech.samples + noise(len(speech.samples), level / 2)
    cleaned = isolate(Audio(noisy, speech.rate)).samples
    assert si_sdr(cleaned, speech.samples) > si_sdr(noisy, speech.samples) + 3


def test_clean_speech_is_left_nearly_as_it_is(speech: Audio) -> None:
    assert si_sdr(isolate(speech).samples, speech.samples) > 15


def test_steady_noise_alone_is_turned_down_but_not_gated_to_silence() -> None:
    hiss = noise(16_000 * 4, 0.05)
    change = 20 * np.log10(isolate(Audio(hiss, 16_000)).samples[16_000:].std() / hiss[16_000:].std())
    assert -15.5 < change < -9


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("samples", [1, 999, 20_011])
def test_any_rate_and_length_keeps_its_length(rate: int, samples: int) -> None:
    isolated = isolate(Audio(noise(samples, 0.1), rate))
    assert (len(isolated.samples), isolated.rate, isolated.samples.dtype) == (samples, rate, np.float32)


def test_empty_and_digitally_silent_audio_stay_so() -> None:
    assert len(isolate(Audio(np.zeros(0, np.float32), 16_000)).samples) == 0
    assert not isolate(Audio(np.zeros(50_000, np.float32), 48_000)).samples.any()


def test_a_silent_beginning_does_not_blind_the_noise_tracker() -> None:
    hiss = noise(16_000 * 4, 0.05)
    hiss[: 16_000 * 2] = 0
    isolated = isolate(Audio(hiss, 16_000)).samples
    assert isolated[16_000 * 3 :].std() < 0.4 * hiss[16_000 * 3 :].std()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e38])
def test_a_sample_that_is_no_number_harms_only_its_neighbourhood(bad: float) -> None:
    samples = noise(40_000, 0.1)
    whole = DspIsolator().isolate(Audio(samples, 16_000)).samples
    samples[39_000] = bad
    found = DspIsolator().isolate(Audio(samples, 16_000)).samples
    assert np.isfinite(found).all()
    assert np.allclose(found[:30_000], whole[:30_000], atol=0.02)


def test_bytes_do_not_depend_on_threads(speech: Audio) -> None:
    import torch

    noisy = Audio(speech.samples[:110_000] + noise(110_000, 0.02), speech.rate)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 1):
            torch.set_num_threads(threads)
            results.append(isolate(noisy).samples.tobytes())
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert len(set(results)) == 1


def test_chunks_leave_no_seams() -> None:
    """A steady tone far above the noise passes through every chunk border unchanged."""
    seconds = np.arange(16_000 * 10) / 16_000
    tone = (0.3 * np.sin(2 * np.pi * 440 * seconds) * np.sin(2 * np.pi * 0.7 * seconds) ** 2).astype(np.float32)
    isolated = isolate(Audio(tone + noise(len(tone), 1e-4), 16_000)).samples
    assert np.abs(np.diff(isolated)).max() < 1.05 * np.abs(np.diff(tone)).max()


def test_progress_ends_at_the_end(speech: Audio) -> None:
    told: list[tuple[float, float]] = []
    DspIsolator().isolate(speech, lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1] == (speech.seconds, speech.seconds)


def test_real_noisy_pairs_improve(recordings: Path) -> None:
    gains = []
    for noisy_path in sorted((recordings / "pairs" / "noisy").glob("*.wav")):
        noisy, clean = load(noisy_path), load(recordings / "pairs" / "clean" / noisy_path.name).samples
        gains.append(si_sdr(isolate(noisy).samples, clean) - si_sdr(noisy.samples, clean))
    assert len(gains) == 6
    assert min(gains) > -0.5
    assert np.mean(gains) > 1.2
