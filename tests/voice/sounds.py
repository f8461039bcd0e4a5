"""Noise, and how near one sound is to another."""

from __future__ import annotations

import numpy as np
from scipy.signal import fftconvolve

Samples = np.ndarray


def noise(samples: int, level: float, seed: int = 0) -> Samples:
    """White noise of RMS `level`."""
    return (np.random.default_rng(seed).standard_normal(samples) * level).astype(np.float32)


def babbling_brook(samples: int, rate: int, level: float) -> Samples:
    """Low noise that swells and ebbs twice a second, of RMS `level`."""
    rough = np.cumsum(noise(samples, 1.0, seed=1).astype(np.float64))
    rough -= np.convolve(rough, np.ones(200) / 200, "same")
    rough *= 1 + 0.5 * np.sin(2 * np.pi * 2 * np.arange(samples) / rate)
    return (rough / rough.std() * level).astype(np.float32)


def si_sdr(estimate: Samples, clean: Samples) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019)."""
    estimate, clean = estimate.astype(np.float64), clean.astype(np.float64)
    target = (estimate @ clean) / (clean @ clean) * clean
    rest = estimate - target
    return float(10 * np.log10((target @ target) / (rest @ rest)))


def lag(delayed: Samples, original: Samples) -> int:
    """By how many samples `delayed` is late, by the peak of the cross-correlation; negative where it is early."""
    likeness = fftconvolve(delayed.astype(np.float64), original[::-1].astype(np.float64))
    return int(np.argmax(likeness)) - (len(original) - 1)
