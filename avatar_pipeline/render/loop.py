"""The plate played to and fro: which of its frames a clip's frame shows."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

PLATE_FPS = Fraction(25)
"""Frames a second of every plate."""


def plate_indices(
    start: int, stop: int, length: int, *, offset: int = 0, fps: Fraction = PLATE_FPS
) -> NDArray[np.int64]:
    """Return the plate frame shown by each clip frame `start` <= n < `stop`.

    A triangle wave over `length` frames (forwards, then backwards, no frame twice at the turns), begun `offset` frames
    in; a function of the frame number alone. At the plate's own rate consecutive frames show neighbouring plate
    frames; at another, frame n shows what the plate shows nearest to its time, n / `fps`: some frames twice, or some
    not at all. They are not blended: where a head turns quickly, half of each of two neighbours has 57 % of their
    sharpness and twice their hairs, and at 30 fps the picture would go soft and sharp again five times a second.
    """
    if length < 1:
        raise ValueError("a plate has at least one frame")
    if length == 1:
        return np.zeros(stop - start, np.int64)
    ratio = PLATE_FPS / fps
    doubled = 2 * ratio.numerator * np.arange(start, stop, dtype=np.int64)
    ticks = (doubled + ratio.denominator) // (2 * ratio.denominator)
    phase = (ticks + offset) % (2 * length - 2)
    return np.minimum(phase, 2 * length - 2 - phase)
