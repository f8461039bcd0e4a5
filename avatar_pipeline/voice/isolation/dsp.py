"""Speech enhancement without trained weights: the voice stays, steady and slowly changing noise goes down.

The gain is the MMSE log-spectral amplitude estimator (Ephraim & Malah 1985, IEEE TASSP 33(2), eq. 20) with the
decision-directed a-priori SNR (Ephraim & Malah 1984, IEEE TASSP 32(6), eq. 51). The noise is tracked by soft speech
presence (Gerkmann & Hendriks 2012, IEEE TASLP 20(4), algorithm 1). It cannot remove a second voice or music.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from avatar_pipeline.voice.isolation.resampling import LOUDEST
from avatar_pipeline.voice.isolation.threads import one_thread

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from avatar_pipeline.media.types import Audio
    from avatar_pipeline.voice.isolation.types import Progress

OVERLAP = 4
HOP_MS = 8
CHUNK_FRAMES = 512
QUANTILE_FRAMES = 1000

GAIN_FLOOR_DB = -15.0
"""Noise is turned down by no more than this: deeper floors buy silence with musical noise."""
XI_MIN = 10 ** (-25 / 10)
DECISION_DIRECTED = 0.92
XI_PRESENT = 10 ** (15 / 10)
"""A-priori SNR under speech presence, fixed at 15 dB as in Gerkmann & Hendriks (2012, section III-B)."""
PRESENCE_SMOOTHING = 0.9
NOISE_SMOOTHING = 0.8
STAGNATION = 0.99
POWER_FLOOR = 1e-12


@dataclass(frozen=True, slots=True)
class _Grid:
    """The short-time Fourier transform of one rate: periodic Hann window, 75 % overlap."""

    hop: int

    @classmethod
    def of(cls, rate: int) -> _Grid:
        return cls(hop=HOP_MS * max(1, round(rate / 1000)))

    @property
    def size(self) -> int:
        return OVERLAP * self.hop

    def frames(self, samples: int) -> int:
        """Count the frames that touch `samples` samples; frame t starts at sample (t - 3) * hop."""
        return -(-samples // self.hop) + OVERLAP - 1


def _read(samples: NDArray[np.float32], grid: _Grid, first: int, count: int) -> Tensor:
    """Cut frames `first` to `first + count` out of `samples`: (count, size), zeros outside."""
    import torch

    start = (first - OVERLAP + 1) * grid.hop
    stop = start + (count + OVERLAP - 1) * grid.hop
    block = np.zeros(stop - start, dtype=np.float32)
    # What is not a number would stay in the noise's estimate for ever; what is far above full scale has no power.
    inside = np.clip(np.nan_to_num(samples[max(start, 0) : min(stop, len(samples))], nan=0.0), -LOUDEST, LOUDEST)
    offset = max(-start, 0)
    block[offset : offset + len(inside)] = inside
    return torch.from_numpy(block).unfold(0, grid.size, grid.hop)


def _exponential_integral(x: Tensor) -> Tensor:
    """Return E1(x) for x > 0 (Abramowitz & Stegun 5.1.53 and 5.1.56)."""
    import torch

    x = x.clamp(1e-8, 80.0)
    series = x * (0.99999193 + x * (-0.24991055 + x * (0.05519968 + x * (-0.00976004 + x * 0.00107857))))
    small = series - 0.57721566 - torch.log(x)
    numerator = 0.2677737343 + x * (8.6347608925 + x * (18.0590169730 + x * (8.5733287401 + x)))
    denominator = 3.9584969228 + x * (21.0996530827 + x * (25.6329561486 + x * (9.5733223454 + x)))
    large = torch.exp(-x) * numerator / (denominator * x)
    return torch.where(x < 1.0, small, large)


class _Suppressor:
    """The recursion over frames: noise power, presence and last clean power for each frequency."""

    def __init__(self, noise: Tensor) -> None:
        import torch

        self.noise = noise
        self.presence = torch.zeros_like(noise)
        self.clean = torch.zeros_like(noise)

    def _track(self, power: Tensor) -> None:
        """Update the noise power with one frame (Gerkmann & Hendriks 2012, algorithm 1).

        Digital silence tells nothing of the noise, so bins without power leave it as it is.
        """
        import torch

        snr = (power / self.noise).clamp(max=200.0)
        present = 1.0 / (1.0 + (1.0 + XI_PRESENT) * torch.exp(snr * (-XI_PRESENT / (1.0 + XI_PRESENT))))
        self.presence = PRESENCE_SMOOTHING * self.presence + (1.0 - PRESENCE_SMOOTHING) * present
        present = torch.where(self.presence > STAGNATION, present.clamp(max=STAGNATION), present)
        estimate = torch.lerp(power, self.noise, present)
        estimate = torch.where(power > POWER_FLOOR, estimate, self.noise)
        self.noise = torch.lerp(estimate, self.noise, NOISE_SMOOTHING).clamp(min=POWER_FLOOR)

    def gain(self, power: Tensor) -> Tensor:
        """Return the gain of one frame of periodogram `power` (F,), and step on."""
        import torch

        self._track(power)
        snr = (power / self.noise).clamp(max=1000.0)
        prior = DECISION_DIRECTED * self.clean / self.noise + (1.0 - DECISION_DIRECTED) * (snr - 1.0).clamp(min=0.0)
        prior = prior.clamp(min=XI_MIN)
        wiener = prior / (1.0 + prior)
        gain = (wiener * torch.exp(0.5 * _exponential_integral(wiener * snr))).clamp(max=1.0)
        self.clean = gain.square() * power
        return gain


def _initial_noise(samples: NDArray[np.float32], grid: _Grid, window: Tensor) -> Tensor:
    """Estimate the noise power before the first frame: a low quantile over frames spread over the recording.

    Periodograms of noise are exponentially distributed, so their 10 % quantile is 0.105 of their mean. Frames of
    digital silence are left out.
    """
    import torch

    total = grid.frames(len(samples))
    chosen = np.unique(np.linspace(0, total - 1, min(total, QUANTILE_FRAMES)).astype(int))
    frames = torch.cat([_read(samples, grid, int(frame), 1) for frame in chosen])
    power = _power(torch.fft.rfft(frames * window))
    power = power[power.mean(dim=1) > POWER_FLOOR]
    if len(power) == 0:
        return torch.full((grid.size // 2 + 1,), POWER_FLOOR)
    low = torch.quantile(power, 0.1, dim=0) / 0.1054
    return torch.minimum(low, power.mean(dim=0)).clamp(min=POWER_FLOOR)


def _power(spectrum: Tensor) -> Tensor:
    return spectrum.real.square() + spectrum.imag.square()


def _smooth_over_frequency(gains: Tensor) -> Tensor:
    """Smooth (T, F) gains by [1, 2, 1] / 4 over frequency, against isolated bins that sound as musical noise."""
    import torch

    padded = torch.cat([gains[:, :1], gains, gains[:, -1:]], dim=1)
    return 0.25 * padded[:, :-2] + 0.5 * padded[:, 1:-1] + 0.25 * padded[:, 2:]


class DspIsolator:
    """The estimator as a `VoiceIsolator`: nothing to load, and noise goes down by no more than 15 dB."""

    name = "dsp"
    fingerprint = "dsp-mmse-lsa-1"

    def isolate(self, audio: Audio, progress: Progress | None = None) -> Audio:
        """Return `audio` with its background turned down: same rate, same length, no delay.

        Works in chunks of about four seconds, so memory beyond input and output is constant. The same samples give
        the same bytes whatever the number of threads set for torch.
        """
        import torch

        from avatar_pipeline.media.types import Audio

        samples = np.ascontiguousarray(audio.samples, dtype=np.float32)
        if len(samples) == 0:
            return audio
        grid = _Grid.of(audio.rate)
        window = torch.hann_window(grid.size, periodic=True)
        floor = 10 ** (GAIN_FLOOR_DB / 20)
        total = grid.frames(len(samples))
        out = np.zeros((total + OVERLAP - 1) * grid.hop, dtype=np.float32)
        with torch.inference_mode(), one_thread():
            suppressor = _Suppressor(_initial_noise(samples, grid, window))
            for first in range(0, total, CHUNK_FRAMES):
                count = min(CHUNK_FRAMES, total - first)
                spectrum = torch.fft.rfft(_read(samples, grid, first, count) * window)
                gains = torch.stack([suppressor.gain(power) for power in _power(spectrum)])
                gains = _smooth_over_frequency(gains.clamp(min=floor))
                # A Hann window squared adds up to 1.5 at 75 % overlap.
                frames = torch.fft.irfft(spectrum * gains, n=grid.size) * (window / 1.5)
                parts = frames.reshape(count, OVERLAP, grid.hop).numpy()
                block = out[first * grid.hop :][: (count + OVERLAP - 1) * grid.hop].reshape(-1, grid.hop)
                for part in range(OVERLAP):
                    block[part : part + count] += parts[:, part]
                if progress:
                    progress(audio.seconds * (first + count) / total, audio.seconds)
        start = (OVERLAP - 1) * grid.hop
        return Audio(samples=out[start : start + len(samples)], rate=audio.rate)
