"""Loud syllables are shown larger than soft ones: how far shapes go, by the sound's own loudness.

Loudness and jaw opening go together in speech (J. Schulman, "Articulatory dynamics of loud and normal speech", JASA 85,
1989). It is measured over a syllable, against the same utterance: quiet recordings are not shown with small lips.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from avatar_pipeline.voice.visemes import VISEMES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from avatar_pipeline.media.types import Audio

LEAST, MOST = 0.75, 1.15
"""Shapes of the softest and the loudest syllables, times what they are in the middle."""
CLOSED = ("PP", "FF")
"""Shapes that are as firm in a whisper."""

_DB_TO_LEAST, _DB_TO_MOST = 12.0, 6.0
"""Decibels under and over the median syllable at which that is reached."""
_SYLLABLE_SECONDS = 0.08
"""Sigma of the window: a syllable lasts about 0.2 s, and its consonants go with its vowel."""
_SPEECH_DB = -35.0
"""Quieter than this, against the loudest, is pause and says nothing of syllables."""


def loudness(audio: Audio, count: int, fps: Fraction | float) -> NDArray[np.float64]:
    """Return the level in dB (T,) around each of `count` frames, frame i being at i / fps, over about a syllable."""
    step = max(1, round(audio.rate * 0.005))
    blocks = audio.samples[: len(audio.samples) // step * step].astype(np.float64).reshape(-1, step)
    if not len(blocks):
        return np.full(count, -math.inf)
    sigma = _SYLLABLE_SECONDS * audio.rate / step
    reach = np.arange(-round(3 * sigma), round(3 * sigma) + 1)
    window = np.exp(-0.5 * (reach / sigma) ** 2)
    half = len(reach) // 2
    power = np.convolve(np.pad((blocks**2).mean(axis=1), half), window / window.sum(), mode="valid")
    centres = (np.arange(len(power)) + 0.5) * step / audio.rate
    level: NDArray[np.float64] = 10 * np.log10(np.interp(np.arange(count) / float(fps), centres, power) + 1e-12)
    return level


def intensity(audio: Audio, count: int, fps: Fraction | float) -> NDArray[np.float64]:
    """Return how far shapes go at each of `count` frames, 0.75 to 1.15; 1 throughout for a sound that never changes."""
    level = loudness(audio, count, fps)
    heard = level > level.max(initial=-math.inf) + _SPEECH_DB
    if not heard.any():
        return np.ones(count)
    over = level - np.median(level[heard])
    scale = 1.0 + np.where(over > 0, over * (MOST - 1) / _DB_TO_MOST, over * (1 - LEAST) / _DB_TO_LEAST)
    bounded: NDArray[np.float64] = np.clip(scale, LEAST, MOST)
    return bounded


def emphasise(curves: NDArray[np.float32], scale: NDArray[np.float64]) -> NDArray[np.float32]:
    """Scale viseme curves (T, 15) by an intensity (T,): closures stay as they are, no weight passes 1.

    What shapes lose goes to 'sil', the mouth at rest; what they win is taken from it as far as it has any, so that a
    frame's weights can sum to 1.15.
    """
    scaled = curves.astype(np.float64)
    rest = VISEMES.index("sil")
    open_shapes = [index for index, name in enumerate(VISEMES) if name not in ("sil", *CLOSED)]
    scaled[:, open_shapes] = np.minimum(scaled[:, open_shapes] * scale[:, None], 1.0)
    scaled[:, rest] = 0.0
    scaled[:, rest] = np.maximum(1.0 - scaled.sum(axis=1), 0.0)
    result: NDArray[np.float32] = scaled.astype(np.float32)
    return result
