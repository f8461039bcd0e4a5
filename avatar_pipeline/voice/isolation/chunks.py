"""Models that hear a fixed stretch at once: overlapping segments, faded into each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class OverlappingSegments:
    """A stream through a function of segments, weighted by a triangle and divided by the weights' sum.

    The first and the last samples are heard in as many segments as all others: zeros lie before and after the
    recording. The output is as long as the input, and not delayed.

    Args:
        run: makes a segment out of a segment.
        segment: samples in each.
        step: samples from one segment to the next, at most `segment`.
    """

    def __init__(self, run: Callable[[NDArray[np.float32]], NDArray[np.float32]], *, segment: int, step: int) -> None:
        if not 1 <= step <= segment:
            raise ValueError(f"step {step} is not between 1 and {segment}")
        self._run, self._segment, self._step = run, segment, step
        self._weight = (1 - np.abs((2 * np.arange(segment) + 1) / segment - 1)).astype(np.float64) + 1e-6
        self._waiting = np.zeros(segment - step, np.float32)
        self._sum = np.zeros(segment)
        self._weights = np.zeros(segment)
        self._skip = segment - step
        self._seen = self._given = 0

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take the next samples; return what is finished of the output."""
        self._seen += len(samples)
        self._waiting = np.concatenate([self._waiting, samples])
        done = [np.zeros(0, np.float32)]
        while len(self._waiting) >= self._segment:
            done.append(self._next())
        return np.concatenate(done)

    def finish(self) -> NDArray[np.float32]:
        """Return the rest of the output."""
        done = [np.zeros(0, np.float32)]
        while self._given < self._seen:
            missing = max(0, self._segment - len(self._waiting))
            self._waiting = np.concatenate([self._waiting, np.zeros(missing, np.float32)])
            done.append(self._next())
        return np.concatenate(done)

    def _next(self) -> NDArray[np.float32]:
        """Add the next segment; return the samples that no later one reaches."""
        self._sum += self._weight * self._run(self._waiting[: self._segment])
        self._weights += self._weight
        finished = (self._sum[: self._step] / self._weights[: self._step]).astype(np.float32)
        for buffer in (self._sum, self._weights):
            buffer[: -self._step] = buffer[self._step :].copy()
            buffer[-self._step :] = 0
        self._waiting = self._waiting[self._step :]
        skipped = min(self._skip, len(finished))
        self._skip -= skipped
        finished = finished[skipped:][: self._seen - self._given]
        self._given += len(finished)
        return finished
