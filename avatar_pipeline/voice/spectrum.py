"""The long-term average spectrum (LTAS) of a voice, and filters that turn one into another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from avatar_pipeline.voice.pitch import RATE, resample

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from avatar_pipeline.media.types import Audio

SIZE = 1024
HOP = 256
BINS = SIZE // 2 + 1
BATCH_FRAMES = 1024
ACTIVE_DB = -30.0
SMOOTHING_BINS = 4.0
COMPARED_HZ = (100.0, 7_300.0)
TAPS = 513
MAX_EQ_DB = 24.0


def average_spectrum(audio: Audio) -> NDArray[np.float64]:
    """Return the LTAS in dB at 513 frequencies from 0 to 8 kHz.

    Mean over the frames within 30 dB of the loudest, each scaled to unit power so that loud vowels do not decide alone,
    then smoothed with a Gaussian of 4 bins (62 Hz). Audio under one frame (64 ms at 16 kHz) gives a flat spectrum.
    """
    from scipy.ndimage import gaussian_filter1d

    samples = resample(audio, RATE)
    count = max(0, (len(samples) - SIZE) // HOP + 1)
    if count == 0:
        return np.zeros(BINS)
    frames = np.lib.stride_tricks.sliding_window_view(samples, SIZE)[::HOP][:count]
    power = np.einsum("ij,ij->i", frames, frames, dtype=np.float64)
    active = np.flatnonzero(power > max(power.max() * 10 ** (ACTIVE_DB / 10), 1e-9))
    if len(active) == 0:
        return np.zeros(BINS)
    window = np.hanning(SIZE)
    total = np.zeros(BINS)
    for first in range(0, len(active), BATCH_FRAMES):
        spectra = np.abs(np.fft.rfft(frames[active[first : first + BATCH_FRAMES]] * window, axis=1)) ** 2
        total += (spectra / spectra.sum(axis=1, keepdims=True)).sum(axis=0)
    smooth: NDArray[np.float64] = gaussian_filter1d(10 * np.log10(total / len(active) + 1e-12), SMOOTHING_BINS)
    return smooth


def spectral_distance(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return the RMS difference of two LTAS in dB between 100 Hz and 7.3 kHz, after taking out the level."""
    low, high = (round(hertz / (RATE / SIZE)) for hertz in COMPARED_HZ)
    difference = (one - other)[low : high + 1]
    return float(np.std(difference))


def shift_formants(ltas: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    """Return the LTAS of the same sound played `factor` times as fast."""
    bins = np.arange(len(ltas))
    return np.interp(bins / factor, bins, ltas)


def equalizer(source: NDArray[np.float64], target: NDArray[np.float64], rate: int) -> NDArray[np.float64]:
    """Design a linear-phase FIR filter (513 taps) for `rate` Hz that gives sound with LTAS `source` the LTAS `target`.

    Gains are held to ±24 dB around the mean; outside 100 Hz to 7.3 kHz the last gain inside holds.
    """
    from scipy.signal import firwin2

    low, high = (round(hertz / (RATE / SIZE)) for hertz in COMPARED_HZ)
    gain = target - source
    gain = np.clip(gain - gain[low : high + 1].mean(), -MAX_EQ_DB, MAX_EQ_DB)
    gain[:low], gain[high:] = gain[low], gain[high]
    hertz = np.linspace(0, rate / 2, 1025)
    decibels = np.interp(hertz, np.linspace(0, RATE / 2, BINS), gain)
    taps: NDArray[np.float64] = firwin2(TAPS, hertz / (rate / 2), 10 ** (decibels / 20))
    return taps


def apply_filter(samples: NDArray[np.float64], taps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Filter with an odd linear-phase FIR and take its delay out again: same length, lag 0."""
    from scipy.signal import oaconvolve

    delay = len(taps) // 2
    filtered: NDArray[np.float64] = oaconvolve(samples, taps)[delay : delay + len(samples)]
    return filtered
