"""What the network learns from: mixtures of speech and noise, drawn anew for every step from one seed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.isolation.noise import RATE, noise_bank, room

ROOMS = 160
BANK_CLIPS, BANK_SECONDS = 14, 20.0
SNR_DB = (-5.0, 18.0)
LEVEL_DBFS, LEVEL_SPREAD_DB = -26.0, 3.0
"""Recordings come to the network at one level of their louder half; what is left of the spread is for streams."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """Recordings at 16 kHz, RMS 0.1, in half precision, and what they were made of."""

    speech: list[NDArray[np.float16]]
    real_noise: list[NDArray[np.float16]]
    synthetic_noise: dict[str, list[NDArray[np.float16]]]
    rooms: list[NDArray[np.float32]]
    hashes: dict[str, str]


def load_corpus(folder: Path, seed: int, *, clips: int = BANK_CLIPS) -> Corpus:
    """Read `folder`/speech and `folder`/noise, and make the synthetic noise and rooms.

    Raises:
        FileNotFoundError: there is no speech or no noise.
    """
    speech, speech_hash = _read(folder / "speech")
    noise, noise_hash = _read(folder / "noise")
    rooms = [room(np.random.default_rng([seed, 1000, number])).astype(np.float32) for number in range(ROOMS)]
    bank = noise_bank(seed, clips, BANK_SECONDS)
    return Corpus(speech, noise, bank, rooms, {"speech": speech_hash, "noise": noise_hash})


def _read(folder: Path) -> tuple[list[NDArray[np.float16]], str]:
    files = sorted([*folder.glob("*.flac"), *folder.glob("*.wav")])
    if not files:
        raise FileNotFoundError(f"{folder} holds no .flac or .wav files.")
    digest, recordings = hashlib.sha256(), []
    for file in files:
        digest.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
        samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
        if rate != RATE:
            raise ValueError(f"{file} is at {rate} Hz; the recipe takes 16 kHz.")
        mono = samples.mean(axis=1)
        recordings.append((0.1 * mono / (np.sqrt(np.mean(mono**2)) + 1e-9)).clip(-8, 8).astype(np.float16))
    return recordings, digest.hexdigest()


class Mixer:
    """Draws batches: step n of seed s is always the same batch."""

    def __init__(self, corpus: Corpus, seed: int, *, seconds: float = 2.5) -> None:
        self.corpus, self.seed = corpus, seed
        self.count = int(seconds * RATE) // 256 * 256
        self._noises = [clip for clips in corpus.synthetic_noise.values() for clip in clips]

    def batch(self, step: int, size: int) -> tuple[Tensor, Tensor]:
        """Return noisy and clean speech, float32 (size, samples) each."""
        chance = np.random.default_rng([self.seed, 7, step])
        pairs = [self._pair(chance) for _ in range(size)]
        noisy, clean = (torch.from_numpy(np.stack(side)) for side in zip(*pairs, strict=True))
        return noisy, clean

    def _pair(self, chance: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        clean = self._voice(chance)
        if chance.random() < 0.3:
            clean = self._in_a_room(chance, clean)
        clean = _equalise(chance, clean, 4.0) if chance.random() < 0.5 else clean
        noise = self._noise(chance)
        snr = chance.uniform(*SNR_DB) if chance.random() < 0.95 else 40.0
        active = _active_rms(clean)
        noise *= active / (np.sqrt(np.mean(noise**2)) + 1e-9) * 10 ** (-snr / 20)
        noisy = clean + noise
        if chance.random() < 0.25:
            noisy, clean = _through_a_channel(chance, noisy, clean)
        level = 10 ** (chance.normal(LEVEL_DBFS, LEVEL_SPREAD_DB) / 20) / _active_rms(noisy)
        noisy, clean = noisy * level, clean * level
        if chance.random() < 0.05:
            ceiling = np.abs(noisy).max() * chance.uniform(0.25, 0.9)
            noisy = noisy.clip(-ceiling, ceiling)
        return noisy.astype(np.float32), clean.astype(np.float32)

    def _voice(self, chance: np.random.Generator, least: float = 0.03) -> NDArray[np.float32]:
        """Cut a stretch of speech, at another speed and pitch than it was spoken, with a pause now and then."""
        for _ in range(8):
            speed = chance.uniform(0.85, 1.18) if chance.random() < 0.6 else 1.0
            voice = _cut(chance, self.corpus.speech, self.count, speed)
            if np.sqrt(np.mean(voice**2)) > least:
                break
        if chance.random() < 0.12:
            edge = int(chance.integers(0, self.count))
            voice[:edge] = 0.0
            if np.sqrt(np.mean(voice**2)) < least / 2:
                return self._voice(chance)
        return voice

    def _in_a_room(self, chance: np.random.Generator, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        response = self.corpus.rooms[int(chance.integers(len(self.corpus.rooms)))]
        size = 1 << int(len(samples) + len(response)).bit_length()
        wet = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(response, size), size)
        return wet[: len(samples)].astype(np.float32)

    def _noise(self, chance: np.random.Generator) -> NDArray[np.float32]:
        """Return one noise, or two or three at once, each through a random curve of its own."""
        total = np.zeros(self.count, dtype=np.float32)
        for _ in range(int(chance.choice([1, 2, 3], p=[0.5, 0.35, 0.15]))):
            one = self._one_noise(chance)
            if chance.random() < 0.6:
                one = _equalise(chance, one, 6.0)
            total += one / (np.sqrt(np.mean(one**2)) + 1e-6) * 10 ** (chance.normal(0, 5) / 20)
        return total

    def _one_noise(self, chance: np.random.Generator) -> NDArray[np.float32]:
        kind = chance.random()
        if kind < 0.30:
            return _cut(chance, self.corpus.real_noise, self.count, chance.uniform(0.5, 2.0))
        if kind < 0.55:
            return self._babble(chance)
        return _cut(chance, self._noises, self.count, chance.uniform(0.6, 1.6))

    def _babble(self, chance: np.random.Generator) -> NDArray[np.float32]:
        """Return several people at once, in a room: few of them are people nearby, many are a crowd."""
        total = np.zeros(self.count, dtype=np.float32)
        for _ in range(int(chance.integers(3, 9))):
            voice = _cut(chance, self.corpus.speech, self.count, chance.uniform(0.8, 1.25))
            total += voice * 10 ** (chance.normal(0, 4) / 20)
        return self._in_a_room(chance, total)


def _cut(
    chance: np.random.Generator, clips: Sequence[NDArray[np.float16]], count: int, speed: float
) -> NDArray[np.float32]:
    """Cut `count` samples out of one of the clips, played at `speed`; a short clip is repeated."""
    clip = clips[int(chance.integers(len(clips)))]
    needed = int(count * speed) + 2
    start = int(chance.integers(max(1, len(clip) - needed)))
    piece = clip[start : start + needed].astype(np.float32)
    if len(piece) < needed:
        piece = np.resize(piece, needed)
    if speed == 1.0:
        return piece[:count].copy()
    return np.interp(np.arange(count) * speed, np.arange(needed), piece).astype(np.float32)


def _equalise(chance: np.random.Generator, samples: NDArray[np.float32], spread_db: float) -> NDArray[np.float32]:
    """Pass the samples through a random smooth curve, as microphones and distances do."""
    spectrum = np.fft.rfft(samples)
    frequencies = np.linspace(0, RATE / 2, len(spectrum))
    points = np.geomspace(60, 8000, 8)
    gains = np.interp(np.log(np.maximum(frequencies, 60)), np.log(points), chance.normal(0, spread_db, len(points)))
    return np.fft.irfft(spectrum * 10 ** (gains / 20), len(samples)).astype(np.float32)


def _through_a_channel(
    chance: np.random.Generator, noisy: NDArray[np.float32], clean: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cut high or low frequencies off both, or code the noisy side: 8-bit mu-law, or bins dropped as codecs do."""
    what = chance.random()
    if what < 0.6:
        frequencies = np.linspace(0, RATE / 2, len(noisy) // 2 + 1)
        top = chance.uniform(3000, 8000)
        bottom = chance.uniform(0, 200)
        curve = 1 / (1 + (frequencies / top) ** 16) * (1 - 1 / (1 + (frequencies / (bottom + 1)) ** 4))
        noisy, clean = (np.fft.irfft(np.fft.rfft(side) * curve, len(side)) for side in (noisy, clean))
    elif what < 0.8:
        peak = np.abs(noisy).max() + 1e-9
        companded = np.sign(noisy) * np.log1p(255 * np.abs(noisy) / peak) / np.log(256)
        coarse = np.round(companded * 127) / 127
        noisy = np.sign(coarse) * (256 ** np.abs(coarse) - 1) / 255 * peak
    else:
        window = torch.hann_window(512)
        spectrum = torch.stft(
            torch.from_numpy(noisy.astype(np.float32)), 512, 256, window=window, center=True, return_complex=True
        )
        power = spectrum.abs()
        loudest = torch.nn.functional.max_pool1d(power.T[None], 9, 1, 4)[0].T
        kept = torch.where(power > loudest * 10 ** (-chance.uniform(12, 30) / 20), spectrum, 0)
        noisy = torch.istft(kept, 512, 256, window=window, center=True, length=len(noisy)).numpy()
    return noisy.astype(np.float32), clean.astype(np.float32)


def _active_rms(samples: NDArray[np.float32]) -> float:
    """Return the RMS of the louder half of 20 ms cells: speech without its pauses."""
    cells = np.mean(samples[: len(samples) // 320 * 320].reshape(-1, 320) ** 2, axis=1)
    return float(np.sqrt(np.mean(np.sort(cells)[len(cells) // 2 :]))) + 1e-6
