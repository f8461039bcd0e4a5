"""Waveform and spectrogram of sounds, one below the other."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from avatar_pipeline.media.types import Audio


_COLUMNS = 900
"""More than the picture has pixels across: what is drawn, and the memory it takes, does not grow with the sound."""
_WINDOW = 512


def sound_picture(sounds: Mapping[str, Audio]) -> NDArray[np.uint8]:
    """Draw the waveform and the spectrogram (up to 8 kHz) of each named sound, as one RGB image (H, W, 3)."""
    import numpy as np

    # Figure and not pyplot: pyplot keeps global state, and picks a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    figure = Figure(figsize=(7, 1.9 * len(sounds)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(sounds), 2, squeeze=False)
    for (name, sound), (wave, spectrum) in zip(sounds.items(), axes, strict=True):
        low, high = _envelope(sound.samples)
        times = np.linspace(0, sound.seconds, len(low))
        wave.fill_between(times, low, high, linewidth=0.3)
        wave.set(title=name, ylim=(-1, 1), xlim=(0, sound.seconds), xlabel="s")
        extent = (0.0, sound.seconds, 0.0, sound.rate / 2)
        spectrum.imshow(
            _levels(sound.samples), origin="lower", aspect="auto", extent=extent, vmin=-90, vmax=10, cmap="magma"
        )
        spectrum.set(ylim=(0, min(8000, sound.rate / 2)), xlabel="s", ylabel="Hz")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    return np.asarray(Image.open(buffer).convert("RGB"))


def _envelope(samples: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the lowest and the highest sample of each of at most `_COLUMNS` stretches."""
    import numpy as np

    starts = np.unique(np.linspace(0, max(len(samples) - 1, 0), _COLUMNS).astype(int))
    return np.minimum.reduceat(samples, starts), np.maximum.reduceat(samples, starts)


def _levels(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return power in dB, (frequencies, columns): at most `_COLUMNS` Hann windows spread over the sound."""
    import numpy as np

    padded = np.pad(samples, (0, max(0, _WINDOW - len(samples))))
    starts = np.unique(np.linspace(0, len(padded) - _WINDOW, _COLUMNS).astype(int))
    windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[starts] * np.hanning(_WINDOW)
    levels: NDArray[np.float64] = 10 * np.log10(np.abs(np.fft.rfft(windows, axis=1)) ** 2 + 1e-10).T
    return levels
