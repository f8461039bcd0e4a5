"""Is there music behind the voice: tones that stay where they are while a voice's harmonics move.

Continuous frequency activation after Seyerlehner, Pohle, Schedl & Widmer (2007), "Automatic music detection in
television productions", DAFx-07; sizes are our own. An engine's or a siren's steady tones look the same to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from avatar_pipeline.media.types import Audio

SIZE = 2048
HOP = 512
LOCAL_BINS = 21
ABOVE_LOCAL_DB = 3.0
BLOCK_FRAMES = 80
BLOCK_STEP = 40
LOW_HZ, HIGH_HZ = 100.0, 5_000.0
NEIGHBOURS = 10
STRONGEST = 5
STEADY_BLOCKS = 4
STEADY_PERCENTILE = 20.0
"""What is there in this share of all blocks is the room's own hum and is taken out, where there are blocks enough."""
MUSICAL = 2.0
"""Sum of the five strongest activations from which a block is musical: the 97th percentile of plain read speech."""
MUCH_SHARE = 0.2
FEWEST_BLOCKS = 2
POWER_FLOOR = 1e-9


@dataclass(frozen=True, slots=True)
class MusicReport:
    """What was heard of music: the `share` of the recording that has it and `times`, (start, end) in seconds.

    Times are told to 1.3 s.
    """

    share: float
    times: tuple[tuple[float, float], ...]
    blocks: int

    @property
    def present(self) -> bool:
        """Whether there is enough of it to say so: a fifth of the recording, and more than one block of 2.6 s."""
        return self.share >= MUCH_SHARE and self.blocks >= FEWEST_BLOCKS


def detect_music(audio: Audio) -> MusicReport:
    """Look for music in `audio`, in blocks of 2.6 s; what is shorter than one block has none."""
    from avatar_pipeline.voice.pitch import RATE, resample

    samples = resample(audio, RATE)
    strength = _strengths(_activations(samples))
    found = strength > MUSICAL
    step, length = BLOCK_STEP * HOP / RATE, BLOCK_FRAMES * HOP / RATE
    times: list[tuple[float, float]] = []
    for block in np.flatnonzero(found):
        start, end = float(block * step), float(block * step + length)
        if times and start <= times[-1][1]:
            times[-1] = (times[-1][0], end)
        else:
            times.append((start, end))
    share = float(np.count_nonzero(found)) / max(1, len(found))
    return MusicReport(share, tuple(times), int(np.count_nonzero(found)))


def _activations(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return for each block how much of the time each frequency stands out of its neighbourhood: (B, F), 0 to 1."""
    from scipy.ndimage import uniform_filter1d

    from avatar_pipeline.voice.pitch import RATE

    low, high = round(LOW_HZ / RATE * SIZE), round(HIGH_HZ / RATE * SIZE)
    count = max(0, (len(samples) - SIZE) // HOP + 1)
    halves = count // BLOCK_STEP
    window = np.hanning(SIZE)
    frames = np.lib.stride_tricks.sliding_window_view(samples, SIZE)[::HOP] if count else np.zeros((0, SIZE))
    share = np.zeros((halves, high - low))
    for half in range(halves):
        part = frames[half * BLOCK_STEP : (half + 1) * BLOCK_STEP]
        level = 10 * np.log10(np.abs(np.fft.rfft(part * window, axis=1)) ** 2 + POWER_FLOOR)
        stands_out = level - uniform_filter1d(level, LOCAL_BINS, axis=1) > ABOVE_LOCAL_DB
        share[half] = stands_out[:, low:high].mean(axis=0)
    return (share[:-1] + share[1:]) / 2 if halves > 1 else np.zeros((0, high - low))


def _strengths(activations: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum of the strongest activation peaks of each block, each above the higher valley beside it."""
    if len(activations) >= STEADY_BLOCKS:
        activations = np.maximum(activations - np.percentile(activations, STEADY_PERCENTILE, axis=0), 0.0)
    strengths = np.zeros(len(activations))
    for number, block in enumerate(activations):
        crests = np.flatnonzero((block[1:-1] > block[:-2]) & (block[1:-1] >= block[2:])) + 1
        heights = [
            block[crest]
            - max(
                block[max(0, crest - NEIGHBOURS) : crest].min(),
                block[crest + 1 : crest + 1 + NEIGHBOURS].min(),
            )
            for crest in crests
        ]
        strengths[number] = sum(sorted(heights)[-STRONGEST:])
    return strengths
