"""Waveform and spectrogram of sounds, one below the other."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from avatar_pipeline.media.types import Audio


def sound_picture(sounds: Mapping[str, Audio]) -> NDArray[np.uint8]:
    """Draw the waveform and the spectrogram (up to 8 kHz) of each named sound, as one RGB image (H, W, 3)."""
    # Figure and not pyplot: pyplot keeps global state, and picks a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    figure = Figure(figsize=(7, 1.9 * len(sounds)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(sounds), 2, squeeze=False)
    for (name, sound), (wave, spectrum) in zip(sounds.items(), axes, strict=True):
        step = max(1, len(sound.samples) // 4000)
        wave.plot(np.arange(len(sound.samples))[::step] / sound.rate, sound.samples[::step], linewidth=0.4)
        wave.set(title=name, ylim=(-1, 1), xlabel="s")
        spectrum.specgram(
            sound.samples + 1e-9, NFFT=512, Fs=sound.rate, noverlap=256, vmin=-140, vmax=-30, cmap="magma"
        )
        spectrum.set(ylim=(0, min(8000, sound.rate / 2)), xlabel="s", ylabel="Hz")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    return np.asarray(Image.open(buffer).convert("RGB"))
