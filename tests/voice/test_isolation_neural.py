"""The network takes noise away and leaves the voice, its length and its place in time."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from avatar_pipeline.media.types import Audio
from avatar_pipeline.voice.isolation.level import TARGET, level_gain
from avatar_pipeline.voice.isolation.masks import StatefulMasks
from avatar_pipeline.voice.isolation.network import LOOK_AHEAD, LOOK_BACK, IsolationNetwork
from avatar_pipeline.voice.isolation.neural import NeuralIsolator
from avatar_pipeline.voice.isolation.stream import FLOOR, NeuralStream
from tests.voice.conftest import load
from tests.voice.sounds import babbling_brook, noise, si_sdr


@pytest.fixture(scope="module")
def isolator() -> NeuralIsolator:
    return NeuralIsolator(device="cpu")


@pytest.fixture(scope="module")
def mixture(speech: Audio) -> Audio:
    """The passage, and a brook at 3 dB below it."""
    level = float(np.sqrt(np.mean(speech.samples**2))) * 10 ** (-3 / 20)
    brook = babbling_brook(len(speech.samples), speech.rate, level)
    return Audio(speech.samples + brook, speech.rate)


def run(masks: StatefulMasks, samples: np.ndarray, rate: int, sizes: list[int], gain: float = 1.0) -> np.ndarray:
    stream, parts, at = NeuralStream(masks, rate, gain=gain), [], 0
    for size in sizes:
        parts.append(stream.push(samples[at : at + size]))
        at += size
    parts += [stream.push(samples[at:]), stream.finish()]
    return np.concatenate(parts)


def test_noise_goes_down_and_the_voice_stays(isolator: NeuralIsolator, speech: Audio, mixture: Audio) -> None:
    cleaned = isolator.isolate(mixture).samples
    assert si_sdr(cleaned, speech.samples) > si_sdr(mixture.samples, speech.samples) + 3
    quiet = np.abs(speech.samples) < 1e-4
    assert cleaned[quiet].std() < 0.5 * mixture.samples[quiet].std()
    loud = np.convolve(np.abs(speech.samples), np.ones(200) / 200, "same") > 0.05
    assert 0.7 < cleaned[loud].std() / speech.samples[loud].std() < 1.2


def test_clean_speech_is_left_nearly_as_it_is(isolator: NeuralIsolator, speech: Audio) -> None:
    assert si_sdr(isolator.isolate(speech).samples, speech.samples) > 12


def test_it_is_what_was_trained(isolator: NeuralIsolator) -> None:
    """The stream gives what torch's own centred STFT around the network gives, but for the floor of the mask."""
    samples = noise(256 * 300, 0.1)
    window = torch.hann_window(512).sqrt()
    with torch.inference_mode():
        spectrum = torch.stft(
            torch.from_numpy(samples), 512, 256, window=window, center=True, pad_mode="constant", return_complex=True
        ).T
        padded = torch.nn.functional.pad(spectrum, (0, 0, LOOK_BACK, LOOK_AHEAD))
        mask, _ = isolator.network(padded[None])
        floored = mask[0] * (mask[0].abs().clamp(min=FLOOR) / mask[0].abs().clamp(min=1e-4))
        expected = torch.istft((spectrum * floored).T, 512, 256, window=window, center=True, length=len(samples))
    found = run(StatefulMasks(isolator.network), samples, 16_000, [])
    assert np.abs(found - expected.numpy()).max() < 1e-5


@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000, 48_000])
def test_chunk_by_chunk_is_the_same_as_all_at_once(isolator: NeuralIsolator, rate: int) -> None:
    samples = noise(rate * 2 + 311, 0.1)
    whole = run(StatefulMasks(isolator.network), samples, rate, [])
    sizes = [1, 5, 0, 4000, 160, 7, 9001, *[480] * 20]
    chunked = run(StatefulMasks(isolator.network), samples, rate, sizes)
    assert len(whole) == len(samples)
    assert np.abs(whole - chunked).max() < 1e-5


def test_a_stream_is_never_later_than_its_overlap_and_look_ahead(isolator: NeuralIsolator) -> None:
    stream = NeuralStream(StatefulMasks(isolator.network), 16_000)
    given = 0
    for read in range(160, 16_000, 160):
        given += len(stream.push(noise(160, 0.1)))
        assert read - given <= (2 + LOOK_AHEAD) * 256


def test_a_higher_rate_has_the_same_mask_below_8_khz(isolator: NeuralIsolator, mixture: Audio) -> None:
    from scipy.signal import resample_poly

    low = resample_poly(mixture.samples, 320, 441).astype(np.float32)
    high = resample_poly(low, 3, 1).astype(np.float32)
    from_low = isolator.isolate(Audio(low, 16_000)).samples
    from_high = resample_poly(isolator.isolate(Audio(high, 48_000)).samples, 1, 3)
    assert si_sdr(from_high, from_low) > 25


def test_what_lies_above_8_khz_follows_the_voice(isolator: NeuralIsolator, speech: Audio) -> None:
    """Hiss above 8 kHz goes down where nobody speaks."""
    from scipy.signal import butter, resample_poly, sosfilt

    voice = resample_poly(speech.samples, 320, 147).astype(np.float32)
    voice[48_000 * 3 : 48_000 * 6] = 0
    hiss = sosfilt(butter(8, 9_000, "high", fs=48_000, output="sos"), noise(len(voice), 0.02))
    wide = noise(len(voice), 0.004) + hiss.astype(np.float32)
    cleaned = isolator.isolate(Audio(voice + wide, 48_000)).samples
    pause = slice(48_000 * 4, 48_000 * 6)
    above = sosfilt(butter(8, 9_000, "high", fs=48_000, output="sos"), cleaned)
    assert above[pause].std() < 0.35 * hiss[pause].std()


def test_the_same_samples_give_the_same_bytes_whatever_the_threads(isolator: NeuralIsolator, mixture: Audio) -> None:
    before = torch.get_num_threads()
    short = Audio(mixture.samples[:60_000], mixture.rate)
    try:
        results = []
        for threads in (1, 2, 1):
            torch.set_num_threads(threads)
            results.append(isolator.isolate(short).samples.tobytes())
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert len(set(results)) == 1


def test_loudness_does_not_matter(isolator: NeuralIsolator, mixture: Audio) -> None:
    loud = isolator.isolate(mixture).samples
    quiet = isolator.isolate(Audio(mixture.samples * 0.03, mixture.rate)).samples
    assert si_sdr(quiet, loud) > 60
    assert np.isclose(quiet.std() / loud.std(), 0.03, rtol=1e-3)


def test_silence_stays_silence(isolator: NeuralIsolator) -> None:
    assert not isolator.isolate(Audio(np.zeros(50_000, np.float32), 48_000)).samples.any()
    assert level_gain(Audio(np.zeros(50_000, np.float32), 48_000)) == 1.0


def test_samples_that_are_no_numbers_harm_only_their_neighbourhood(isolator: NeuralIsolator, speech: Audio) -> None:
    broken = speech.samples.copy()
    broken[1000:1003] = np.nan, np.inf, -np.inf
    out = isolator.isolate(Audio(broken, 44_100)).samples
    assert np.isfinite(out).all()
    assert si_sdr(out[44_100:], isolator.isolate(Audio(speech.samples, 44_100)).samples[44_100:]) > 15


def test_the_level_is_that_of_the_louder_half() -> None:
    samples = noise(16_000, 0.2)
    samples[:8_000] = 0
    assert level_gain(Audio(samples, 16_000)) * 0.2 == pytest.approx(TARGET, rel=0.1)


def test_memory_does_not_grow_with_the_length(isolator: NeuralIsolator) -> None:
    """What Python and NumPy hold beyond the result is the same for more than twice the length."""
    isolator.isolate(Audio(noise(1000, 0.1), 48_000))
    beyond = []
    for seconds in (18, 45):
        audio = Audio(noise(44_100 * seconds, 0.1), 44_100)
        tracemalloc.start()
        isolator.isolate(audio)
        beyond.append(tracemalloc.get_traced_memory()[1] - audio.samples.nbytes)
        tracemalloc.stop()
    assert beyond[1] < 1.2 * beyond[0] + 100_000


def test_progress_ends_at_the_end(isolator: NeuralIsolator) -> None:
    told: list[tuple[float, float]] = []
    isolator.isolate(Audio(noise(200_000, 0.1), 16_000), lambda done, total: told.append((done, total)))
    assert len(told) == 2
    assert told[-1] == (12.5, 12.5)


def test_the_network_is_as_small_as_it_should_be() -> None:
    assert sum(weight.numel() for weight in IsolationNetwork().parameters()) < 200_000


def test_real_noisy_pairs_improve(isolator: NeuralIsolator, recordings: Path) -> None:
    gains = []
    for path in sorted((recordings / "pairs" / "noisy").glob("*.wav")):
        noisy, clean = load(path), load(recordings / "pairs" / "clean" / path.name).samples
        gains.append(si_sdr(isolator.isolate(noisy).samples, clean) - si_sdr(noisy.samples, clean))
    assert min(gains) > 0
    assert np.mean(gains) > 3
