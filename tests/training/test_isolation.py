"""The recipe is the same for the same seed, and training that was stopped goes on as if it had not been."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from avatar_pipeline.voice.isolation.manifest import WeightsManifest
from training.isolation.noise import KINDS, RATE, noise_bank, room
from training.isolation.publish import manifest_of
from training.isolation.recipe import Corpus, Mixer, load_corpus
from training.isolation.train import Plan, Trainer, loss_of, samples_of, spectrum_of


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    chance = np.random.default_rng(5)
    for kind in ("speech", "noise"):
        (folder / kind).mkdir()
        for number in range(3):
            time = np.arange(4 * RATE) / RATE
            voiced = np.sin(2 * np.pi * (110 + 40 * number) * time) * (np.sin(2 * np.pi * 3 * time) > 0)
            sound = voiced if kind == "speech" else chance.standard_normal(len(time))
            soundfile.write(folder / kind / f"{number}.wav", 0.2 * sound, RATE)
    return load_corpus(folder, 1, clips=1)


def test_every_kind_of_noise_is_finite_loud_and_its_own() -> None:
    bank = noise_bank(3, 1, 2.0)
    assert bank.keys() == KINDS.keys()
    clips = [clips[0].astype(np.float32) for clips in bank.values()]
    assert all(np.isfinite(clip).all() and 0.05 < np.sqrt(np.mean(clip**2)) < 0.2 for clip in clips)
    assert len({clip.tobytes() for clip in clips}) == len(clips)


def test_a_room_begins_with_the_sound_itself() -> None:
    response = room(np.random.default_rng(1))
    assert response[0] == 1.0 == np.abs(response).max()


def test_the_same_seed_and_step_are_the_same_batch(corpus: Corpus) -> None:
    one, again, other = Mixer(corpus, 1), Mixer(corpus, 1), Mixer(corpus, 2)
    assert torch.equal(one.batch(7, 4)[0], again.batch(7, 4)[0])
    assert not torch.equal(one.batch(7, 4)[0], one.batch(8, 4)[0])
    assert not torch.equal(one.batch(7, 4)[0], other.batch(7, 4)[0])


def test_batches_hold_speech_and_more_noise_than_their_clean_side(corpus: Corpus) -> None:
    noisy, clean = Mixer(corpus, 1, seconds=1.0).batch(0, 16)
    assert noisy.shape == clean.shape
    assert torch.isfinite(noisy).all()
    assert (clean.square().mean(1) > 0).all()
    assert ((noisy - clean).square().mean(1) > 0).all()


def test_the_spectrum_gives_the_samples_back() -> None:
    samples = torch.randn(2, 5120)
    assert torch.allclose(samples_of(spectrum_of(samples), 5120), samples, atol=1e-5)


def test_the_loss_is_least_for_the_clean_speech(corpus: Corpus) -> None:
    noisy, clean = Mixer(corpus, 1, seconds=1.0).batch(0, 4)
    target = spectrum_of(clean)
    kept, half = loss_of(spectrum_of(noisy), target, clean), loss_of(spectrum_of((noisy + clean) / 2), target, clean)
    assert loss_of(target, target, clean) < half < kept


def test_training_that_was_stopped_goes_on_as_if_it_had_not_been(corpus: Corpus, tmp_path: Path) -> None:
    def train(folder: str, steps: int) -> Trainer:
        plan = Plan(steps=steps, batch=2, warm_up=2, checkpoint_every=2)
        trainer = Trainer(plan, Mixer(corpus, 1, seconds=0.5), tmp_path / folder, seed=1)
        trainer.run(lambda _: None)
        return trainer

    whole = train("whole", 4)
    # The learning rate follows the plan, so the interrupted run has the same plan and is cut off by hand.
    cut = Trainer(Plan(steps=4, batch=2, warm_up=2, checkpoint_every=2), whole.mixer, tmp_path / "cut", seed=1)
    cut.stop_after = 2
    cut.run(lambda _: None)
    assert cut.step == 2
    resumed = train("cut", 4)
    assert resumed.step == 4
    for name, value in whole.average.items():
        assert torch.equal(value, resumed.average[name]), name
    assert (tmp_path / "cut" / "weights.safetensors").read_bytes() == (
        tmp_path / "whole" / "weights.safetensors"
    ).read_bytes()


def test_a_folder_without_speech_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="speech"):
        load_corpus(tmp_path, 1)


def test_what_is_published_says_how_it_was_made() -> None:
    recipe = {"command": "python -m training.isolation --steps 100", "seed": 1, "data": {"speech": "ab"}}
    log = [{"step": float(step), "loss": 1 / step, "seconds": 1.0} for step in range(50, 1050, 50)]
    manifest = WeightsManifest.model_validate_json(json.dumps(manifest_of(b"weights", recipe, log)))
    assert manifest.training is not None
    assert manifest.training.command == "python -m training.isolation --steps 100"
    assert [step for step, _ in manifest.training.loss] == [500, 1000]
    assert manifest.sha256 == hashlib.sha256(b"weights").hexdigest()
