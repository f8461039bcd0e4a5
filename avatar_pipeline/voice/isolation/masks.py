"""Masks out of spectra: on a CPU from block to block with the network's state, on a GPU in batches of chunks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from avatar_pipeline.voice.isolation.network import LOOK_AHEAD, LOOK_BACK, IsolationNetwork

_log = logging.getLogger(__name__)

CHUNK, WARM_UP = 500, 375
"""Frames of one chunk on a GPU, 8 s, and of sound before it that the network hears first, 6 s, for it remembers."""
BATCH = 16
BLOCK = 512
"""Frames that a CPU is given at once."""

Run = Callable[[Tensor], Tensor]
"""Makes the masks (B, T, 257) of spectra (B, T + 4, 257), wherever it likes; both lie on the CPU."""


class MaskMaker(Protocol):
    """Makes masks of one stream of spectra."""

    @property
    def context(self) -> int:
        """Frames before those wanted that it is to be given again."""

    @property
    def block(self) -> int:
        """Frames that it likes to be given at once."""

    def __call__(self, spectra: Tensor, count: int) -> Tensor:
        """Return the masks (count, 257) of spectra (context + count + 2, 257): what lies before, and two ahead."""


class StatefulMasks:
    """One block after the other, with the state that the block before has left."""

    context = LOOK_BACK
    block = BLOCK

    def __init__(self, network: IsolationNetwork) -> None:
        self._network = network
        self._states: list[Tensor] | None = None

    def __call__(self, spectra: Tensor, count: int) -> Tensor:
        """Return the masks (count, 257)."""
        mask: Tensor
        mask, self._states = self._network(spectra[None], self._states)
        return mask[0]


class BatchedMasks:
    """Chunks side by side, each with a run-up: no state goes from one to the next, so that a GPU is kept busy.

    A device that runs out of memory gets half as many chunks from then on; where one chunk is too much, `fall_back`
    does the rest.
    """

    def __init__(
        self, run: Run, fall_back: Run, *, batch: int = BATCH, chunk: int = CHUNK, warm_up: int = WARM_UP
    ) -> None:
        self._run, self._fall_back = run, fall_back
        self._chunk, self._warm_up = chunk, warm_up
        self.batch = batch
        self.context = warm_up + LOOK_BACK
        self.block = chunk * batch
        self._done = 0

    def __call__(self, spectra: Tensor, count: int) -> Tensor:
        """Return the masks (count, 257)."""
        chunks = -(-count // self._chunk)
        length = self.context + self._chunk + LOOK_AHEAD
        missing = chunks * self._chunk - count + self._warm_up
        padded = torch.cat([spectra, spectra.new_zeros(missing, spectra.shape[1])])
        # At the beginning there is less to hear first, or nothing: silence instead would leave a state of its own.
        heard = [min(self._done + first, self._warm_up) for first in range(0, chunks * self._chunk, self._chunk)]
        starts = [number * self._chunk + self._warm_up - before for number, before in enumerate(heard)]
        windows = [padded[start : start + length] for start in starts]
        masks: list[Tensor] = []
        while len(masks) < len(windows):
            masks.extend(self._some(torch.stack(windows[len(masks) :][: max(1, self.batch)])))
        self._done += count
        wanted = [mask[before : before + self._chunk] for mask, before in zip(masks, heard, strict=True)]
        return torch.cat(wanted)[:count]

    def _some(self, windows: Tensor) -> Tensor:
        if self.batch == 0:
            return self._fall_back(windows)
        try:
            return self._run(windows)
        except torch.cuda.OutOfMemoryError:
            self.batch //= 2
            torch.cuda.empty_cache()
        if self.batch:
            _log.warning("The GPU is out of memory: going on with %d chunks at once.", self.batch)
            return self._some(windows[: self.batch])
        _log.warning("The GPU has no memory for a single chunk: going on on the CPU.")
        return self._some(windows[:1])


def on_device(network: IsolationNetwork, device: str) -> Run:
    """Return a runner of a copy of the network on `device`."""
    import copy

    moved = copy.deepcopy(network).to(device)

    def run(windows: Tensor) -> Tensor:
        mask: Tensor
        mask, _ = moved(windows.to(device))
        return mask.cpu()

    return run
