"""No isolator moves the voice by a single sample or changes its length, whatever the rate."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import resample_poly

from avatar_pipeline.media.types import Audio
from avatar_pipeline.voice.isolation.chunks import OverlappingSegments
from avatar_pipeline.voice.isolation.dsp import DspIsolator
from avatar_pipeline.voice.isolation.flow import through
from avatar_pipeline.voice.isolation.neural import NeuralIsolator
from avatar_pipeline.voice.isolation.resampling import Resampler
from avatar_pipeline.voice.isolation.types import VoiceIsolator
from tests.voice.programs import program_isolator
from tests.voice.sounds import lag, noise, si_sdr

RATES = [8_000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000, 96_000]


@pytest.fixture(scope="module", params=["dsp", "neural", "model"])
def isolator(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> VoiceIsolator:
    if request.param == "dsp":
        return DspIsolator()
    if request.param == "neural":
        return NeuralIsolator(device="cpu")
    return program_isolator(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("rate", RATES)
def test_nothing_is_delayed(isolator: VoiceIsolator, speech: Audio, rate: int) -> None:
    voice = speech.samples[: speech.rate * 2]
    samples = resample_poly(voice, rate // 25, speech.rate // 25).astype(np.float32)
    noisy = samples + noise(len(samples), 0.01)
    isolated = isolator.isolate(Audio(noisy, rate))
    assert (len(isolated.samples), isolated.rate, isolated.samples.dtype) == (len(noisy), rate, np.float32)
    assert lag(isolated.samples, samples) == 0


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("samples", [0, 1, 100, 999])
def test_tiny_recordings_keep_their_length(isolator: VoiceIsolator, samples: int, rate: int) -> None:
    isolated = isolator.isolate(Audio(noise(samples, 0.1), rate))
    assert (len(isolated.samples), isolated.rate) == (samples, rate)
    assert np.isfinite(isolated.samples).all()


@pytest.mark.parametrize("rate", [11_025, 16_000, 22_050, 44_100])
def test_to_another_rate_and_back_is_the_same_sound(rate: int, speech: Audio) -> None:
    samples = resample_poly(speech.samples[: speech.rate * 3], rate // 25, speech.rate // 25).astype(np.float32)
    nothing = OverlappingSegments(lambda segment: segment, segment=4800, step=1200)
    back = through(nothing, Audio(samples, rate), rate=48_000, block=5_000).samples
    assert len(back) == len(samples)
    assert si_sdr(back, samples) > 40
    assert lag(back, samples) == 0


@pytest.mark.parametrize(("source", "target"), [(44_100, 48_000), (48_000, 44_100), (11_025, 48_000), (16_000, 8_000)])
def test_resampling_in_blocks_is_resampling_at_once(source: int, target: int) -> None:
    samples = noise(source, 0.1)
    once = Resampler(source, target)
    whole = np.concatenate([once.push(samples), once.finish()])
    blocks = Resampler(source, target)
    parts = [blocks.push(samples[first : first + 1013]) for first in range(0, len(samples), 1013)]
    pieces = np.concatenate([*parts, blocks.finish()])
    assert len(whole) == -(-len(samples) * target // source)
    assert np.abs(whole - pieces).max() < 1e-6


@pytest.mark.parametrize(("segment", "step"), [(100, 50), (100, 75), (100, 100), (7, 3), (1, 1)])
@pytest.mark.parametrize("count", [0, 1, 99, 1234])
def test_overlapping_segments_add_up_to_what_they_were_cut_from(segment: int, step: int, count: int) -> None:
    samples = noise(count, 0.1)
    stream = OverlappingSegments(lambda part: part, segment=segment, step=step)
    parts = [stream.push(samples[first : first + 211]) for first in range(0, count, 211)]
    found = np.concatenate([*parts, stream.finish()])
    assert len(found) == count
    assert np.allclose(found, samples, atol=5e-7)
