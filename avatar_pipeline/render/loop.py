"""The plate played to and fro: which of its frames a clip's frame shows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def plate_indices(start: int, stop: int, length: int, *, offset: int = 0) -> NDArray[np.int64]:
    """Return the plate frame shown by each clip frame `start` <= n < `stop`.

    A triangle wave over `length` frames (forwards, then backwards, no frame twice at the turns), begun `offset` frames
    in; a function of the frame number alone. Consecutive frames show neighbouring plate frames, so that a segment
    touches one contiguous range of the plate.
    """
    if length < 1:
        raise ValueError("a plate has at least one frame")
    if length == 1:
        return np.zeros(stop - start, np.int64)
    phase = (np.arange(start, stop, dtype=np.int64) + offset) % (2 * length - 2)
    return np.minimum(phase, 2 * length - 2 - phase)
