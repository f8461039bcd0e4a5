"""Mel-frequency cepstra of speech: the colour of a sound every 10 ms."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from avatar_pipeline.voice.pitch import HOP, RATE

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIZE = 512
BANDS = 32
LOW_HZ, HIGH_HZ = 60.0, 7_600.0
COUNT = 19
"""Coefficients 1 to 19; the 0th is the level."""
BATCH_FRAMES = 4096
LEVEL = 0.05
POWER_FLOOR = 1e-8


@cache
def _bank() -> NDArray[np.float64]:
    """Return 32 triangular filters, evenly spaced on the mel scale: (32, 257)."""
    low, high = (2595 * math.log10(1 + hertz / 700) for hertz in (LOW_HZ, HIGH_HZ))
    edges = np.linspace(low, high, BANDS + 2)
    corners = 700 * (10 ** (edges / 2595) - 1)
    bins = np.fft.rfftfreq(SIZE, 1 / RATE)[None]
    rising = (bins - corners[:-2, None]) / np.diff(corners[:-1])[:, None]
    falling = (corners[2:, None] - bins) / np.diff(corners[1:])[:, None]
    bank: NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling))
    return bank


def cepstra(samples: NDArray[np.float32], count: int, level: float) -> NDArray[np.float32]:
    """Return cepstra 1 to 19 and their slopes for `count` frames 10 ms apart: (count, 38).

    `samples` are at 16 kHz and reach 32 ms past the last frame's start, or are continued with silence; `level` is the
    RMS of the speech in them, which is brought to one level before the logarithm.
    """
    from scipy.fft import dct

    coefficients = np.zeros((count, COUNT), dtype=np.float32)
    missing = max(0, (count - 1) * HOP + SIZE - len(samples))
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(samples, (0, missing)), SIZE)[::HOP]
    window = np.hanning(SIZE) * LEVEL / max(level, 1e-6)
    for first in range(0, count, BATCH_FRAMES):
        part = frames[first : min(first + BATCH_FRAMES, count)]
        power = np.abs(np.fft.rfft(part * window, axis=1)) ** 2
        bands = np.log(power @ _bank().T + POWER_FLOOR)
        coefficients[first : first + len(part)] = dct(bands, type=2, norm="ortho", axis=1)[:, 1 : COUNT + 1]
    slopes = np.zeros_like(coefficients)
    slopes[2:-2] = (coefficients[4:] - coefficients[:-4]) / 2
    return np.concatenate([coefficients, slopes], axis=1)
