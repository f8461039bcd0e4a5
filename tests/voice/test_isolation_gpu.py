"""Batches of chunks, as a GPU gets them: nearly the same masks, and what happens when its memory is used up."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avatar_pipeline.errors import EnvironmentProblem
from avatar_pipeline.media.types import Audio
from avatar_pipeline.voice.isolation import masks as module
from avatar_pipeline.voice.isolation.devices import choose_device
from avatar_pipeline.voice.isolation.masks import BatchedMasks, StatefulMasks, on_device
from avatar_pipeline.voice.isolation.neural import NeuralIsolator
from avatar_pipeline.voice.isolation.stream import NeuralStream
from tests.voice.sounds import noise, si_sdr

FRAMES = 600
SMALL = {"chunk": 200, "warm_up": 20}
CHUNKS = 3


@pytest.fixture(scope="module")
def isolator() -> NeuralIsolator:
    return NeuralIsolator(device="cpu")


class Card:
    """A device with memory for so many chunks; `run` is what it does with them."""

    def __init__(self, run: module.Run, room: int) -> None:
        self._run, self.room = run, room
        self.asked: list[int] = []

    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        self.asked.append(len(windows))
        if len(windows) > self.room:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return self._run(windows)


def isolated(masks: module.MaskMaker, samples: np.ndarray) -> np.ndarray:
    stream = NeuralStream(masks, 16_000)
    return np.concatenate([stream.push(samples), stream.finish()])


@pytest.fixture(scope="module")
def samples(speech: Audio) -> np.ndarray:
    voice = speech.samples[: FRAMES * 256]
    return voice + noise(len(voice), 0.01)


def test_chunks_with_a_run_up_are_nearly_what_the_carried_state_gives(
    isolator: NeuralIsolator, samples: np.ndarray
) -> None:
    run = on_device(isolator.network, "cpu")
    card = Card(run, room=16)
    batched = isolated(BatchedMasks(card, run), samples)
    assert card.asked == [2, 1]
    assert si_sdr(batched, isolated(StatefulMasks(isolator.network), samples)) > 35


def test_a_card_out_of_memory_gets_half_as_many_from_then_on(isolator: NeuralIsolator, samples: np.ndarray) -> None:
    run = on_device(isolator.network, "cpu")
    wide, narrow = Card(run, room=16), Card(run, room=1)
    masks = BatchedMasks(narrow, run, batch=4, **SMALL)
    found = isolated(masks, samples)
    assert narrow.asked == [CHUNKS, 2, *[1] * (CHUNKS + 1)]
    assert masks.batch == 1
    assert np.abs(found - isolated(BatchedMasks(wide, run, **SMALL), samples)).max() < 1e-5


def test_a_card_without_room_for_one_leaves_the_rest_to_the_cpu(
    isolator: NeuralIsolator, samples: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    run = on_device(isolator.network, "cpu")
    card, processor = Card(run, room=0), Card(run, room=1)
    found = isolated(BatchedMasks(card, processor, batch=2, **SMALL), samples)
    assert card.asked == [2, 1]
    assert processor.asked == [1] * (CHUNKS + 1)
    assert np.abs(found - isolated(BatchedMasks(run, run, **SMALL), samples)).max() < 1e-5
    assert "going on on the CPU" in caplog.text


def test_other_failures_of_a_card_are_not_swallowed(isolator: NeuralIsolator, samples: np.ndarray) -> None:
    def broken(_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("device-side assert")

    with pytest.raises(RuntimeError, match="device-side"):
        isolated(BatchedMasks(broken, broken), samples)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_card_that_is_wanted_and_not_there_is_said() -> None:
    assert choose_device("auto") == "cpu"
    with pytest.raises(EnvironmentProblem, match="AVATAR_ISOLATION_DEVICE"):
        choose_device("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_real_card_gives_nearly_the_same(isolator: NeuralIsolator, samples: np.ndarray) -> None:
    found = isolated(BatchedMasks(on_device(isolator.network, "cuda"), on_device(isolator.network, "cpu")), samples)
    assert si_sdr(found, isolated(StatefulMasks(isolator.network), samples)) > 35
