"""A voice isolated as it comes in: samples go in block by block, and come out two frames and an overlap later."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from avatar_pipeline.voice.isolation.masks import MaskMaker
from avatar_pipeline.voice.isolation.network import BINS, FRAME, LOOK_AHEAD, RATE

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

STEP = 8_000
"""Rates that are a multiple of this have frames of 32 ms whose bins are 31.25 Hz apart, as the network's are."""
FLOOR = 0.07
"""No bin is turned down by more than this (-23 dB). Below it lies what the network is least sure of: with it PESQ is
higher by 0.03 to 0.05 on real noise, the pair that ESTOI likes least is better off, and SI-SDR stays."""
_TOP_BINS = 64
"""The bins (6 to 8 kHz) whose mean mask is the gain of everything above them: hiss and sibilants go on up there."""
_TOP_SMOOTHING = 0.5
"""Weight of the frame before in the gain above 8 kHz: one broad band has no neighbours to hide its flutter."""


class NeuralStream:
    """One recording on its way through the network, at a rate that is a multiple of 8 kHz.

    What comes out is as long as what went in and not delayed against it; it comes out later, by 32 ms of overlap and
    as much look-ahead. Blocks may have any size: the result is the same but for rounding.

    Args:
        masks: makes masks of spectra and keeps what it remembers of them; one for each stream.
        rate: sample rate in Hz.
        gain: brings the recording to the level that the network learnt on (`level.level_gain`); undone in the output.
    """

    def __init__(self, masks: MaskMaker, rate: int, *, gain: float = 1.0) -> None:
        if rate % STEP or rate <= 0:
            raise ValueError(f"{rate} Hz is not a multiple of {STEP} Hz.")
        self._masks, self._gain = masks, gain
        self._size = FRAME * rate // RATE
        self.hop = self._size // 2
        """Samples from frame to frame."""
        self._scale = gain * RATE / rate
        self._window = torch.hann_window(self._size, periodic=True).sqrt()
        # The first frame is centred on the first sample: half of it lies before, in silence.
        self._waiting = np.zeros(self.hop, np.float32)
        self._spectra = torch.zeros(0, self._size // 2 + 1, dtype=torch.complex64)
        self._core = torch.zeros(masks.context, BINS, dtype=torch.complex64)
        self._tail = torch.zeros(self.hop)
        self._top = torch.ones(())
        self._skip = self.hop
        self._seen = self._given = 0

    @torch.inference_mode()
    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take the next samples; return what is finished of the output."""
        self._seen += len(samples)
        return self._step(samples, ahead=0)

    @torch.inference_mode()
    def finish(self) -> NDArray[np.float32]:
        """Return the rest of the output."""
        frames = -(-self._seen // self.hop) + 1 if self._seen else 0
        return self._step(np.zeros(frames * self.hop - self._seen, np.float32), ahead=LOOK_AHEAD)

    def _step(self, samples: NDArray[np.float32], ahead: int) -> NDArray[np.float32]:
        """Read all whole frames, and put out those whose look-ahead is there; `ahead` frames of it are silence."""
        self._waiting = np.concatenate([self._waiting, np.asarray(samples, np.float32)])
        count = max(0, (len(self._waiting) - self._size) // self.hop + 1)
        if count:
            frames = torch.from_numpy(self._waiting).unfold(0, self._size, self.hop)
            spectra = torch.fft.rfft(frames * self._window)
            self._waiting = self._waiting[count * self.hop :]
            self._spectra = torch.cat([self._spectra, spectra])
            self._core = torch.cat([self._core, self._for_network(spectra)])
        if ahead:
            self._core = torch.cat([self._core, torch.zeros(ahead, BINS, dtype=torch.complex64)])
        ready = len(self._core) - self._masks.context - LOOK_AHEAD
        if ready <= 0:
            return np.zeros(0, np.float32)
        mask = self._masks(self._core, ready)
        masked = self._spectra[:ready] * self._for_all(mask)
        self._core, self._spectra = self._core[ready:], self._spectra[ready:]
        return self._overlap(torch.fft.irfft(masked, n=self._size) * self._window)

    def _for_network(self, spectra: Tensor) -> Tensor:
        """Cut or pad spectra to 8 kHz, at the scale of 16 kHz and the level of the training."""
        core = spectra[:, :BINS] * self._scale
        return torch.nn.functional.pad(core, (0, BINS - core.shape[1]))

    def _for_all(self, mask: Tensor) -> Tensor:
        """Make the mask (T, bins) of the rate out of the network's (T, 257)."""
        bins = self._size // 2 + 1
        size = mask.abs().clamp(min=1e-4)
        mask = mask * (size.clamp(min=FLOOR) / size)
        if bins <= BINS:
            return mask[:, :bins]
        top = mask[:, -_TOP_BINS:].abs().mean(dim=1)
        smooth = []
        for value in top:
            self._top = torch.lerp(value, self._top, _TOP_SMOOTHING)
            smooth.append(self._top)
        above = torch.stack(smooth)[:, None].expand(-1, bins - BINS)
        return torch.cat([mask, above.to(mask.dtype)], dim=1)

    def _overlap(self, frames: Tensor) -> NDArray[np.float32]:
        """Add frames onto the half frame that is left of those before."""
        count, hop = len(frames), self.hop
        out = torch.zeros((count + 1) * hop)
        out[:hop] = self._tail
        out[: count * hop] += frames[:, :hop].reshape(-1)
        out[hop:] += frames[:, hop:].reshape(-1)
        self._tail = out[count * hop :].clone()
        done = out[: count * hop].numpy()
        skipped = min(self._skip, len(done))
        self._skip -= skipped
        done = done[skipped:][: self._seen - self._given]
        self._given += len(done)
        return done
