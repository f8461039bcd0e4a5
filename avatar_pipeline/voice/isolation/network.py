"""The network that isolates a voice: a complex mask for each bin of a short-time Fourier transform at 16 kHz.

The spectrum is split into 32 bands, wide ones at high frequencies, each with its own way in and out; between them,
blocks go along time with one GRU shared by all bands, across the bands with a linear map, and over the channels. It
takes after band-split and dual-path networks for music and speech: Luo & Yu (2023), "Music source separation with
band-split RNN", IEEE/ACM TASLP 31; Rong et al. (2024), "GTCRN: a speech enhancement model requiring ultralow
computational resources", ICASSP; Westhausen & Meyer (2020), "Dual-signal transformation LSTM network for real-time
noise suppression", Interspeech; Tolstikhin et al. (2021), "MLP-Mixer", NeurIPS. The mask's magnitude is bounded by
tanh, as in Hu et al. (2020), "DCCRN", Interspeech.

It is causal but for two frames of 16 ms; the state of its GRUs can be carried from chunk to chunk.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

RATE = 16_000
FRAME, HOP = 512, 256
BINS = FRAME // 2 + 1
BANDS = ((16, 4), (8, 8), (8, 16))
"""How many bands of how many bins of 31.25 Hz: all but the bin at 8 kHz, which takes its neighbour's mask."""
COVERED = sum(count * width for count, width in BANDS)
LOOK_AHEAD, LOOK_BACK = 2, 2
"""Frames that the first layer sees after and before its own."""
COMPRESSION = 0.3
"""Spectra are compressed to this power of their magnitude, near to how loudness is heard."""
_FEATURES = 3


class _IntoBands(nn.Module):
    """(B, T, bins, features) to (B, T, bands, channels), each band with its own matrix."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inputs = [(count, width * _FEATURES) for count, width in BANDS]
        self.weights = nn.ParameterList(
            [nn.Parameter(torch.randn(count, size, channels) / size**0.5) for count, size in inputs]
        )
        self.bias = nn.Parameter(torch.zeros(sum(count for count, _ in BANDS), channels))

    def forward(self, x: Tensor) -> Tensor:
        batch, time = x.shape[:2]
        parts, at = [], 0
        for (count, width), weight in zip(BANDS, self.weights, strict=True):
            bins = x[:, :, at : at + count * width].reshape(batch * time, count, width * _FEATURES)
            parts.append(torch.bmm(bins.transpose(0, 1), weight))
            at += count * width
        return torch.cat(parts).transpose(0, 1).reshape(batch, time, *self.bias.shape) + self.bias


class _OutOfBands(nn.Module):
    """(B, T, bands, channels) to (B, T, bins, 2), each band with its own matrix."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weights = nn.ParameterList(
            [nn.Parameter(torch.randn(count, channels, 2 * width) * 0.5 / channels**0.5) for count, width in BANDS]
        )

    def forward(self, x: Tensor) -> Tensor:
        batch, time, bands, channels = x.shape
        by_band = x.reshape(batch * time, bands, channels).transpose(0, 1)
        parts, at = [], 0
        for (count, width), weight in zip(BANDS, self.weights, strict=True):
            bins = torch.bmm(by_band[at : at + count], weight).transpose(0, 1)
            parts.append(bins.reshape(batch, time, count * width, 2))
            at += count
        return torch.cat(parts, dim=2)


class _Block(nn.Module):
    """Along time, across the bands, over the channels; each a step beside what comes in."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        bands = sum(count for count, _ in BANDS)
        self.time_norm = nn.LayerNorm(channels)
        self.time = nn.GRU(channels, hidden)
        self.time_out = nn.Linear(hidden, channels)
        self.band_norm = nn.LayerNorm(channels)
        self.band = nn.Sequential(nn.Linear(bands, 2 * bands), nn.GELU(), nn.Linear(2 * bands, bands))
        self.channel_norm = nn.LayerNorm(channels)
        self.channel = nn.Sequential(nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels))

    def forward(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        batch, time, bands, channels = x.shape
        along = self.time_norm(x).transpose(0, 1).reshape(time, batch * bands, channels)
        along, state = self.time(along, state)
        x = x + self.time_out(along).reshape(time, batch, bands, channels).transpose(0, 1)
        x = x + self.band(self.band_norm(x).transpose(2, 3)).transpose(2, 3)
        return x + self.channel(self.channel_norm(x)), state


class IsolationNetwork(nn.Module):
    """Estimates the mask that leaves the voice. The defaults are the shape of the weights that the package ships."""

    def __init__(self, channels: int = 40, hidden: int = 48, blocks: int = 3) -> None:
        super().__init__()
        self.into = _IntoBands(channels)
        self.around = nn.Conv2d(channels, channels, (LOOK_BACK + 1 + LOOK_AHEAD, 1), groups=channels)
        self.blocks = nn.ModuleList([_Block(channels, hidden) for _ in range(blocks)])
        self.norm = nn.LayerNorm(channels)
        self.out = _OutOfBands(channels)

    def forward(self, spectrum: Tensor, states: list[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        """Return the complex mask (B, T, 257), and the state after the last frame.

        Args:
            spectrum: complex (B, T + 4, 257): two frames before those wanted and two after, zeros at the ends.
            states: what a call for the frames just before returned; None at the beginning.
        """
        covered = spectrum[:, :, :COVERED]
        magnitude = covered.abs().clamp(min=1e-6)
        compressed = magnitude**COMPRESSION
        features = torch.stack(
            [covered.real / magnitude * compressed, covered.imag / magnitude * compressed, compressed], dim=-1
        )
        x = self.into(features)
        around = self.around(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        x = x[:, LOOK_BACK : x.shape[1] - LOOK_AHEAD] + functional.gelu(around)
        after = []
        for number, block in enumerate(self.blocks):
            x, state = block(x, states[number] if states else None)
            after.append(state)
        real, imaginary = self.out(self.norm(x)).float().unbind(-1)
        real = real + 0.8
        size = (real**2 + imaginary**2 + 1e-9).sqrt()
        scale = torch.tanh(size) / size
        mask = torch.complex(real * scale, imaginary * scale)
        return torch.cat([mask, mask[:, :, -1:]], dim=2), after
