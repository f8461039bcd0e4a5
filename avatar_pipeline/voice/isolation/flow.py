"""A whole recording through a stream, block by block, at the rate that the stream works at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from avatar_pipeline.media.types import Audio
from avatar_pipeline.voice.isolation.resampling import AtRate, Stream, blocks_of

if TYPE_CHECKING:
    from avatar_pipeline.voice.isolation.types import Progress


def through(stream: Stream, audio: Audio, *, rate: int, block: int, progress: Progress | None = None) -> Audio:
    """Return what `stream` makes of the recording: same rate, same length, not delayed.

    Args:
        stream: works at `rate` Hz; its output is as long as its input.
        audio: resampled on the way in and out where its rate is another one.
        rate: Hz.
        block: samples at `rate` Hz that the stream is given at once.
        progress: called after each block.
    """
    if audio.rate != rate:
        stream = AtRate(stream, outside=audio.rate, inside=rate)
        block = max(1, block * audio.rate // rate)
    out = np.empty(len(audio.samples), np.float32)
    read = written = 0
    for samples in blocks_of(audio.samples, block):
        done = stream.push(samples)
        out[written : written + len(done)] = done
        read, written = read + len(samples), written + len(done)
        if progress:
            progress(read / audio.rate, audio.seconds)
    rest = stream.finish()
    if written + len(rest) != len(out):
        raise AssertionError(f"{written + len(rest)} samples came out of {len(out)}")
    out[written:] = rest
    return Audio(out, audio.rate)
