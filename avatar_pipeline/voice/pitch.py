"""Fundamental frequency by YIN, and what it says of a voice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from avatar_pipeline.media.types import Audio

RATE = 16_000
FLOOR_HZ = 60.0
CEILING_HZ = 420.0
WINDOW = 512
HOP = 160
THRESHOLD = 0.15
BATCH_FRAMES = 1024
BAND_HZ = (60.0, 900.0)
"""Rumble below and hiss above hide the period of quiet voices; the first harmonics are all that YIN needs."""
MARGIN = RATE // 10
SILENT_POWER = 1e-10


@dataclass(frozen=True, slots=True)
class PitchTrack:
    """F0 in Hz (T,) and aperiodicity (T,) (0 periodic, 1 noise) for frames 10 ms apart; frame t starts at t * 10 ms."""

    f0: NDArray[np.float64]
    aperiodicity: NDArray[np.float64]

    @property
    def voiced(self) -> NDArray[np.bool_]:
        """Frames that are periodic enough for their F0 to be believed."""
        return self.aperiodicity < THRESHOLD

    def median_and_spread(self) -> tuple[float, float]:
        """Return the median F0 in Hz and the spread of ln F0 over voiced frames.

        The spread is the interquartile range / 1.349, a standard deviation that octave errors do not inflate. Both are
        0 where nothing is voiced.
        """
        voiced = self.f0[self.voiced]
        if len(voiced) == 0:
            return 0.0, 0.0
        low, high = np.percentile(np.log(voiced), [25, 75])
        return float(np.median(voiced)), float((high - low) / 1.349)


def resample(audio: Audio, rate: int) -> NDArray[np.float32]:
    """Return the samples of `audio` at `rate` Hz (polyphase, linear phase, no delay)."""
    from math import gcd

    from scipy.signal import resample_poly

    if audio.rate == rate:
        return audio.samples
    common = gcd(audio.rate, rate)
    resampled: NDArray[np.float32] = resample_poly(audio.samples, rate // common, audio.rate // common)
    return resampled.astype(np.float32, copy=False)


def _voice_band(samples: NDArray[np.float32], start: int, stop: int) -> NDArray[np.float64]:
    """Return samples `start` to `stop`, zero-phase band-passed (second-order Butterworth, forward and backward)."""
    from scipy.signal import butter, sosfiltfilt

    before = min(start, MARGIN)
    sections = butter(2, BAND_HZ, "bandpass", fs=RATE, output="sos")
    band: NDArray[np.float64] = sosfiltfilt(sections, samples[start - before : stop + MARGIN].astype(np.float64))
    return band[before : before + stop - start]


def _normalized_difference(frames: NDArray[np.float64], longest: int) -> NDArray[np.float64]:
    """Return the cumulative mean normalized difference of (T, WINDOW + longest) frames: (T, longest + 1).

    De Cheveigné & Kawahara 2002, "YIN", JASA 111(4), eq. 6 and 8; the correlation is done by FFT.
    """
    size = 1 << (frames.shape[1] + WINDOW - 1).bit_length()
    head = np.fft.rfft(frames[:, :WINDOW], size)
    correlation = np.fft.irfft(np.fft.rfft(frames, size) * head.conj(), size)[:, : longest + 1]
    energy = np.concatenate([np.zeros((len(frames), 1)), np.cumsum(frames**2, axis=1)], axis=1)
    shifted = energy[:, WINDOW : WINDOW + longest + 1] - energy[:, : longest + 1]
    difference = np.maximum(shifted[:, :1] + shifted - 2 * correlation, 0.0)
    lags = np.arange(1, longest + 1)
    mean = np.cumsum(difference[:, 1:], axis=1) / lags
    normalized: NDArray[np.float64] = np.ones_like(difference)
    np.divide(difference[:, 1:], mean, out=normalized[:, 1:], where=mean > SILENT_POWER)
    return normalized


def _pick(normalized: NDArray[np.float64], shortest: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the period in samples and its aperiodicity for each frame (YIN steps 4 and 5).

    The period is the first local minimum under the threshold, or the lowest value where there is none; a parabola
    through three points refines it.
    """
    rows = np.arange(len(normalized))
    inner = normalized[:, shortest:-1]
    dips = (inner <= normalized[:, shortest - 1 : -2]) & (inner < normalized[:, shortest + 1 :]) & (inner < THRESHOLD)
    lag = np.where(dips.any(axis=1), dips.argmax(axis=1), inner.argmin(axis=1)) + shortest
    before, here, after = normalized[rows, lag - 1], normalized[rows, lag], normalized[rows, lag + 1]
    bend = before - 2 * here + after
    shift = np.zeros_like(here)
    np.divide(0.5 * (before - after), bend, out=shift, where=bend > 1e-12)
    return lag + np.clip(shift, -1, 1), here


def track_pitch(audio: Audio) -> PitchTrack:
    """Follow the F0 of one voice, 60 to 420 Hz, a frame every 10 ms (T = 0 for audio under 50 ms)."""
    samples = resample(audio, RATE)
    longest = int(RATE / FLOOR_HZ) + 2
    shortest = int(RATE / CEILING_HZ)
    length = WINDOW + longest
    count = max(0, (len(samples) - length) // HOP + 1)
    f0 = np.zeros(count)
    aperiodicity = np.ones(count)
    if count == 0:
        return PitchTrack(f0, aperiodicity)
    for first in range(0, count, BATCH_FRAMES):
        part = slice(first, min(first + BATCH_FRAMES, count))
        band = _voice_band(samples, part.start * HOP, (part.stop - 1) * HOP + length)
        frames = np.lib.stride_tricks.sliding_window_view(band, length)[::HOP]
        period, aperiodicity[part] = _pick(_normalized_difference(frames, longest), shortest)
        f0[part] = RATE / period
    return PitchTrack(f0, aperiodicity)
