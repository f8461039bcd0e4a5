"""Loudness and true peak: measured, and brought to what voice cloning wants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from avatar_pipeline.media.types import Audio

TARGET_LUFS = -20.0
TOLERANCE_LU = 2.0
PEAK_DB = -3.0
OVERSAMPLING = 4
SHORTEST_SECONDS = 0.4
"""One gating block: loudness is not defined below it (ITU-R BS.1770-5, annex 1)."""
SILENT_LUFS = -70.0
"""The absolute gate of BS.1770: what is quieter counts as silence."""
MOST_LIMITING_DB = 9.0
"""By how much peaks may be turned down: more is heard as distortion, and then the loudness is what is given up."""
LOOK_AHEAD_SECONDS = 0.004
PEAK_MARGIN_DB = 0.1
"""What the limiter stays below the peak asked for, since a gain that changes moves the peaks between samples."""
PASSES = 6
MOST_GAIN_DB = 60.0
_BLOCK = 1 << 18
_OVERLAP = 64


@dataclass(frozen=True, slots=True)
class Loudness:
    """What `normalise` reached.

    `lufs` is the integrated loudness (-70 where there is none to measure), `true_peak_db` the peak between samples in
    dBTP, `gain_db` by how much all was raised and `limited_db` by how much the highest peak was then turned down.
    `given_up` is 'loudness' where the two limits could not be met together, else nothing: the peak always holds.
    """

    lufs: float
    true_peak_db: float
    gain_db: float
    limited_db: float
    given_up: str | None


def integrated_loudness(audio: Audio) -> float:
    """Return the gated loudness of `audio` in LUFS (BS.1770); -70 for silence and for audio under 0.4 s."""
    import warnings

    import pyloudnorm

    if audio.seconds <= SHORTEST_SECONDS:
        return SILENT_LUFS
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore")  # the mean of no blocks, where all of it is below the gate
        measured = float(pyloudnorm.Meter(audio.rate).integrated_loudness(audio.samples.astype(np.float64)))
    return max(SILENT_LUFS, measured) if np.isfinite(measured) else SILENT_LUFS


def true_peak_db(audio: Audio) -> float:
    """Return the peak of the waveform, between samples too (4× oversampled), in dBTP; -120 at least."""
    peaks = _peaks(audio.samples)
    return 20 * float(np.log10(max(float(peaks.max(initial=0.0)), 1e-6)))


def _peaks(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return for each sample the highest absolute value from it to the next, 4× oversampled."""
    from scipy.signal import resample_poly

    peaks = np.zeros(len(samples))
    for first in range(0, len(samples), _BLOCK):
        before = min(first, _OVERLAP)
        part = samples[first - before : first + _BLOCK + _OVERLAP].astype(np.float64)
        fine = np.abs(resample_poly(part, OVERSAMPLING, 1)).reshape(-1, OVERSAMPLING).max(axis=1)
        count = min(_BLOCK, len(samples) - first)
        peaks[first : first + count] = np.maximum(fine, np.abs(part))[before : before + count]
    return peaks


def limit_peaks(
    samples: NDArray[np.float64], peaks: NDArray[np.float64], ceiling: float, rate: int
) -> NDArray[np.float64]:
    """Turn `samples` down around the `peaks` that pass `ceiling`, from 4 ms ahead to 4 ms after, by a smooth gain."""
    from scipy.ndimage import minimum_filter1d

    needed = np.minimum(1.0, ceiling / np.maximum(peaks, 1e-9))
    if needed.min(initial=1.0) >= 1.0:
        return samples
    reach = max(2, round(LOOK_AHEAD_SECONDS * rate))
    # A minimum over twice the reach, then a mean over the reach: never above what any peak needs, and smooth.
    lowest = minimum_filter1d(needed, 2 * reach + 3, mode="nearest")
    window = np.hanning(2 * reach + 3)[1:-1]
    gain = np.convolve(np.pad(lowest, reach, mode="edge"), window / window.sum(), mode="valid")
    limited: NDArray[np.float64] = samples * gain
    return limited


def normalise(audio: Audio, target_lufs: float = TARGET_LUFS, peak_db: float = PEAK_DB) -> tuple[Audio, Loudness]:
    """Bring `audio` to `target_lufs` with a true peak of at most `peak_db`, and say what was reached.

    One gain for all of it; where that lifts peaks too high they are limited, by 9 dB at most. Where this is not enough
    the loudness stays lower than asked for. Silence, and audio too short to have a loudness, is only kept below the
    peak.
    """
    from avatar_pipeline.media.types import Audio

    before = integrated_loudness(audio)
    ceiling = 10 ** ((peak_db - PEAK_MARGIN_DB) / 20)
    original = audio.samples.astype(np.float64)
    peaks = _peaks(audio.samples)
    highest = max(float(peaks.max(initial=0.0)), 1e-9)
    measurable = before > SILENT_LUFS
    most = 20 * float(np.log10(ceiling / highest)) + MOST_LIMITING_DB
    gain_db = min(target_lufs - before, most, MOST_GAIN_DB) if measurable else min(0.0, most - MOST_LIMITING_DB)
    out, lufs = audio, before
    for _ in range(PASSES):
        gain = 10 ** (gain_db / 20)
        out = Audio(limit_peaks(original * gain, peaks * gain, ceiling, audio.rate).astype(np.float32), audio.rate)
        lufs = integrated_loudness(out)
        missing = target_lufs - lufs
        if not measurable or missing < 0.1 or gain_db >= min(most, MOST_GAIN_DB) - 1e-9:
            break
        gain_db = min(gain_db + missing, most, MOST_GAIN_DB)  # what limiting took away
    excess = true_peak_db(out) - peak_db
    if excess > -1e-6:
        out = Audio(out.samples * np.float32(10 ** (-(excess + PEAK_MARGIN_DB) / 20)), audio.rate)
        lufs = integrated_loudness(out)
    missed = measurable and abs(lufs - target_lufs) > TOLERANCE_LU
    limited = max(0.0, 20 * float(np.log10(highest * 10 ** (gain_db / 20) / ceiling)))
    return out, Loudness(lufs, true_peak_db(out), gain_db, limited, "loudness" if missed else None)
