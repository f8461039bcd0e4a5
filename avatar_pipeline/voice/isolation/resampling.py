"""Another sample rate and back, block by block, without delay."""

from __future__ import annotations

from collections.abc import Iterator
from math import gcd
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CROSSINGS, _KAISER = 32, 9.0
"""Length of the low-pass filter in zero crossings each way, and its window: 90 dB down, flat up to 0.91 of the band."""


LOUDEST = 1e6
"""Samples are within this, 120 dB over full scale."""


class Stream(Protocol):
    """Takes samples block by block and gives others, in the end as many as the rate makes of them."""

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take the next samples; return what is finished of the output."""

    def finish(self) -> NDArray[np.float32]:
        """Return the rest of the output; nothing may be pushed after that."""


class Resampler:
    """Polyphase resampling of a stream: sample n of the output is at the time n / rate, as at the input.

    The output is what one filter over the whole signal would give, zeros before and after it; `ceil(n * up / down)`
    samples in all.
    """

    def __init__(self, source: int, target: int) -> None:
        from scipy.signal import firwin

        divisor = gcd(source, target)
        self._up, self._down = target // divisor, source // divisor
        widest = max(self._up, self._down)
        half = _CROSSINGS * widest
        taps = firwin(2 * half + 1, 1 / widest, window=("kaiser", _KAISER))
        # As float32: upfirdn then works in single precision; resample_poly brings the gain of `up` along.
        self._taps = taps.astype(np.float32)
        # Blocks begin at multiples of `down`, where an output sample falls on an input sample.
        self._context = -(-(half // self._up + 2) // self._down) * self._down
        self._held = np.zeros(self._context, np.float32)
        self._seen = self._given = 0

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take the next samples; return what is finished of the output."""
        self._seen += len(samples)
        self._held = np.concatenate([self._held, samples])
        ready = max(0, len(self._held) - 2 * self._context) // self._down * self._down
        return self._give(ready)

    def finish(self) -> NDArray[np.float32]:
        """Return the rest of the output."""
        wanted = -(-self._seen * self._up // self._down) - self._given
        left = -(-(len(self._held) - self._context) // self._down) * self._down
        missing = left + 2 * self._context - len(self._held)
        self._held = np.concatenate([self._held, np.zeros(missing, np.float32)])
        return self._give(left)[:wanted]

    def _give(self, count: int) -> NDArray[np.float32]:
        """Turn the `count` input samples after the context into output, and forget as many."""
        if count == 0:
            return np.zeros(0, np.float32)
        from scipy.signal import resample_poly

        block = self._held[: count + 2 * self._context]
        first = self._context // self._down * self._up
        made = resample_poly(block, self._up, self._down, window=self._taps)
        self._held = self._held[count:]
        out = made[first : first + count // self._down * self._up]
        self._given += len(out)
        return np.ascontiguousarray(out, dtype=np.float32)


class AtRate:
    """A stream that works at a rate of its own, fed and read at another one; the length stays the same."""

    def __init__(self, inner: Stream, *, outside: int, inside: int) -> None:
        self._inner = inner
        self._way_in, self._way_out = Resampler(outside, inside), Resampler(inside, outside)
        self._seen = self._given = 0

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take the next samples; return what is finished of the output."""
        self._seen += len(samples)
        return self._count(self._way_out.push(self._inner.push(self._way_in.push(samples))))

    def finish(self) -> NDArray[np.float32]:
        """Return the rest of the output."""
        first = self._way_out.push(self._inner.push(self._way_in.finish()))
        second = self._way_out.push(self._inner.finish())
        rest = np.concatenate([first, second, self._way_out.finish()])
        return self._count(rest[: self._seen - self._given])

    def _count(self, out: NDArray[np.float32]) -> NDArray[np.float32]:
        self._given += len(out)
        return out


def blocks_of(samples: NDArray[np.float32], size: int) -> Iterator[NDArray[np.float32]]:
    """Cut samples into blocks of `size`, the last one shorter; what is not a number becomes silence.

    One such sample, as files of floats may hold, would stay in the state of a network for ever; so would one so large
    that its spectrum is infinite.
    """
    for first in range(0, len(samples), size):
        block = np.asarray(samples[first : first + size], dtype=np.float32)
        yield np.clip(np.nan_to_num(block, nan=0.0, posinf=1.0, neginf=-1.0), -LOUDEST, LOUDEST)
