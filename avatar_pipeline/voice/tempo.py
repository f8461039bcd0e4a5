"""Speech made slower without a change of pitch, for what is slower than the synthesizer can speak by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from avatar_pipeline.media.types import Audio

_HOP_SECONDS = 0.010
_REACH_SECONDS = 0.008
"""How far a piece may be moved to meet the one before it in phase: half a period of 62 Hz, below any voice here."""


def slow_down(audio: Audio, speed: float) -> Audio:
    """Return `audio` at `speed` (0 < speed <= 1) of its own, to the sample: round(samples / speed) samples.

    What was at time t is at t / `speed`, give or take 8 ms, which do not add up. WSOLA: W. Verhelst and M. Roelands,
    "An overlap-add technique based on waveform similarity (WSOLA) for high quality time-scale modification of speech",
    ICASSP 1993.
    """
    from avatar_pipeline.media.types import Audio

    hop, reach = round(_HOP_SECONDS * audio.rate), round(_REACH_SECONDS * audio.rate)
    length = round(len(audio.samples) / speed)
    margin = 2 * hop + reach
    source = np.pad(audio.samples.astype(np.float64), (margin, 2 * margin + hop))
    window = 0.5 - 0.5 * np.cos(np.pi * np.arange(2 * hop) / hop)
    pieces = -(-length // hop) + 1
    out = np.zeros((pieces + 1) * hop)
    place = margin - hop
    for number in range(pieces):
        # Piece n is centred on n hops of the result, and so on n * speed hops of the source.
        nominal = margin - hop + round(number * hop * speed)
        if number:
            place = _most_alike(source, source[place + hop : place + 3 * hop], nominal, reach)
        out[number * hop : (number + 2) * hop] += window * source[place : place + 2 * hop]
    return Audio(out[hop : hop + length].astype(audio.samples.dtype), audio.rate)


def _most_alike(source: NDArray[np.float64], wanted: NDArray[np.float64], nominal: int, reach: int) -> int:
    """Return the place within `reach` of `nominal` where the source is most like `wanted`; in silence, `nominal`."""
    from scipy.signal import fftconvolve

    near = source[nominal - reach : nominal + reach + len(wanted)]
    match = fftconvolve(near, wanted[::-1], mode="valid")
    energy = np.convolve(near**2, np.ones(len(wanted)), mode="valid")
    score = match / np.sqrt(np.maximum(energy, 1e-9))
    best = int(np.argmax(score))
    return nominal - reach + best if score[best] > 1e-6 else nominal
