"""Train the speaker space: `AVATAR_EVAL_DATA=<folder> python -m training.speakers`. About six minutes on one core."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve, firwin2

from avatar_pipeline.media.types import Audio
from avatar_pipeline.voice.pitch import RATE
from avatar_pipeline.voice.speaker_space import FILE, Mixture, SpeakerSpace, describe, gather
from avatar_pipeline.voice.speakers import VoicePrint, voice_print
from training.isolation.noise import room

COPIES = 5
GAUSSIANS = 32
PIECE_FRAMES = 200
PRINCIPAL = 200
AXES = 60
SHRINKAGE = 0.1
EM_PASSES = 12
SEED = 0


@dataclass(frozen=True)
class Example:
    """One recording of a speaker, as it was made (copy 0) or through another microphone, room and noise."""

    speaker: str
    copy: int
    heard: VoicePrint


def recorded_elsewhere(samples: NDArray[np.float64], chance: np.random.Generator) -> NDArray[np.float32]:
    """Return speech as through another room, microphone and noise (12 to 40 dB below it)."""
    if chance.random() < 0.4:
        samples = fftconvolve(samples, room(chance, 0.5))[: len(samples)]
    knots = np.array([0, 150, 400, 1000, 2500, 5000, 8000.0])
    gain = np.cumsum(chance.normal(0, 3, len(knots)))
    gain = np.clip(gain - gain.mean(), -12, 12)
    if chance.random() < 0.2:
        gain[-2:] -= chance.uniform(0, 30), 40
    samples = fftconvolve(samples, firwin2(257, knots / 8000, 10 ** (gain / 20)), "same")
    snr = chance.uniform(12, 40)
    hertz = np.maximum(np.fft.rfftfreq(len(samples), 1 / RATE), 30)
    spectrum = np.fft.rfft(chance.standard_normal(len(samples))) / hertz ** chance.uniform(0, 1)
    noise = np.fft.irfft(spectrum, len(samples))
    samples = samples / np.sqrt(np.mean(samples**2)) + noise / np.std(noise) * 10 ** (-snr / 20)
    return (0.05 * samples).astype(np.float32)


def examples(files: list[Path]) -> Iterator[Example]:
    """Yield each recording with its copies; the same files, the same examples."""
    import soundfile

    for number, path in enumerate(files):
        samples, rate = soundfile.read(path)
        if rate != RATE:
            raise ValueError(f"{path} is at {rate} Hz, not {RATE}.")
        for copy in range(COPIES):
            chance = np.random.default_rng([SEED, number, copy])
            heard = samples.astype(np.float32) if copy == 0 else recorded_elsewhere(samples, chance)
            yield Example(path.name.split("-")[0], copy, voice_print(Audio(heard, RATE)))


def fit_mixture(frames: NDArray[np.float64]) -> Mixture:
    """Fit the Gaussians by expectation maximisation."""
    chance = np.random.default_rng(SEED)
    means = frames[chance.choice(len(frames), GAUSSIANS, replace=False)]
    spread = frames.var(axis=0)
    mixture = Mixture(means, np.tile(spread, (GAUSSIANS, 1)), np.full(GAUSSIANS, 1 / GAUSSIANS))
    for _ in range(EM_PASSES):
        counts, first, second = np.zeros(GAUSSIANS), np.zeros_like(means), np.zeros_like(means)
        for start in range(0, len(frames), 20_000):
            part = frames[start : start + 20_000]
            shares = mixture.responsibilities(part)
            counts += shares.sum(axis=0)
            first += shares.T @ part
            second += shares.T @ part**2
        means = first / counts[:, None]
        variances = np.maximum(second / counts[:, None] - means**2, 0.01 * spread)
        mixture = Mixture(means, variances, counts / counts.sum())
    return mixture


def pieces(mixture: Mixture, heard: VoicePrint) -> list[NDArray[np.float64]]:
    """Describe each two seconds of speech in a recording, half overlapping."""
    described = []
    for start in range(0, max(1, len(heard.frames) - PIECE_FRAMES + 1), PIECE_FRAMES // 2):
        part = heard.part(start, start + PIECE_FRAMES)
        evidence = gather(mixture, part.frames, part.log_f0)
        if evidence.enough:
            described.append(describe(mixture, evidence))
    return described


def fit_space(mixture: Mixture, described: NDArray[np.float64], speakers: NDArray[np.str_]) -> SpeakerSpace:
    """Principal axes of the shifted means, then linear discriminants over those, the pitch and the mean spectrum."""
    size = mixture.means.size
    centre = described.mean(axis=0)
    shifted = described[:, :size] - centre[:size]
    _, vectors = np.linalg.eigh(shifted.T @ shifted / len(shifted))
    rest = described.shape[1] - size
    reduce = np.zeros((described.shape[1], PRINCIPAL + rest))
    reduce[:size, :PRINCIPAL] = vectors[:, ::-1][:, :PRINCIPAL]
    reduce[size:, PRINCIPAL:] = np.eye(rest)
    reduced = (described - centre) @ reduce
    scale = reduced.std(axis=0) + 1e-6
    reduced /= scale
    within, between = np.zeros((2, reduced.shape[1], reduced.shape[1]))
    for speaker in np.unique(speakers):
        own = reduced[speakers == speaker]
        mean = own.mean(axis=0)
        within += (own - mean).T @ (own - mean)
        between += len(own) * np.outer(mean, mean)
    within, between = within / len(reduced), between / len(reduced)
    within = (1 - SHRINKAGE) * within + SHRINKAGE * np.eye(len(within)) * np.trace(within) / len(within)
    whiten = np.linalg.inv(np.linalg.cholesky(within))
    spread, axes = np.linalg.eigh(whiten @ between @ whiten.T)
    projection = reduce / scale @ (whiten.T @ axes[:, ::-1][:, :AXES])
    return SpeakerSpace(mixture, projection, -centre @ projection, np.maximum(spread[::-1][:AXES], 1e-6))


def train(known: list[Example]) -> SpeakerSpace:
    """Fit the mixture and the space to these examples."""
    mixture = fit_mixture(np.concatenate([e.heard.frames[::6] for e in known if e.copy < 2]).astype(np.float64))
    described, speakers = [], []
    for example in known:
        found = pieces(mixture, example.heard)
        described += found
        speakers += [example.speaker] * len(found)
    return fit_space(mixture, np.array(described), np.array(speakers))


def main() -> None:
    """Train on all speakers and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("AVATAR_EVAL_DATA", ".")))
    parser.add_argument("--out", type=Path, default=FILE)
    options = parser.parse_args()
    files = sorted((options.data / "train" / "speech").glob("*.flac"))
    space = train(list(examples(files)))
    options.out.parent.mkdir(exist_ok=True)
    np.savez(
        options.out,
        means=space.mixture.means.astype(np.float32),
        variances=space.mixture.variances.astype(np.float32),
        weights=space.mixture.weights.astype(np.float32),
        projection=space.projection.astype(np.float32),
        offset=space.offset.astype(np.float32),
        between=space.between.astype(np.float32),
    )
    digest = hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in files)).hexdigest()
    print(json.dumps({"files": len(files), "files_sha256": digest, "bytes": options.out.stat().st_size}))


if __name__ == "__main__":
    main()
