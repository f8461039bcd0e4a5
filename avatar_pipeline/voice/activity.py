"""Is there speech in a recording, how much, and how good: by voicing, level and the movement of the pitch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from avatar_pipeline.errors import SpeechNotUsable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from avatar_pipeline.media.types import Audio
    from avatar_pipeline.voice.pitch import PitchTrack

MIN_SPEECH_SECONDS = 2.0
FRAME_SECONDS = 0.010
SILENCE_DBFS = -120.0
QUIETEST_SPEECH_DBFS = -65.0
ABOVE_FLOOR_DB = 3.0
MIN_VOICED_FRAMES = 5
HUM_FRAMES = 30
HUM_DRIFT = 0.003
CONSONANT_FRAMES = 15
SURELY_VOICED = 0.20
PERHAPS_VOICED = 0.35
"""Aperiodicity (YIN) below which a frame is voiced by itself, and below which it is so beside frames that are."""
PAUSE_FRAMES = 30
NEAR_SPEECH_DB = 20.0
CLIPPED = 0.999


@dataclass(frozen=True, slots=True)
class SpeechReport:
    """What a recording holds.

    `seconds` is its length, `speech_seconds` how much of it is speech (pauses up to 0.3 s count), `speech_ratio` their
    ratio. `level_dbfs` is the RMS level of the speech (of everything where there is none), 0 dBFS being a full-scale
    square wave and -120 digital silence; `snr_db` the speech power over the power between the words (0 without
    speech); `clipped_ratio` the share of samples at full scale.
    """

    seconds: float
    speech_seconds: float
    speech_ratio: float
    level_dbfs: float
    snr_db: float
    clipped_ratio: float

    @property
    def enough_speech(self) -> bool:
        """Whether there is enough speech to work with."""
        return self.speech_seconds >= MIN_SPEECH_SECONDS


def frame_power(samples: NDArray[np.float32], hop: int, count: int) -> NDArray[np.float64]:
    """Return the mean square of `count` frames, `hop` samples apart and four hops long."""
    cells = samples[: (len(samples) // hop) * hop].reshape(-1, hop)
    energy = np.einsum("ij,ij->i", cells, cells, dtype=np.float64) / hop
    return np.convolve(energy, np.full(4, 0.25), mode="valid")[:count]


def _runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the [start, stop) runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def _without_hum(voiced: NDArray[np.bool_], f0: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Drop voiced frames inside 0.3 s or more of a pitch that does not move: mains hum and tones, not people."""
    kept = voiced.copy()
    if len(f0) < HUM_FRAMES:
        return kept
    windows = np.lib.stride_tricks.sliding_window_view(f0, HUM_FRAMES)
    steady = (windows.max(axis=1) / np.maximum(windows.min(axis=1), 1.0) - 1.0) < HUM_DRIFT
    for start in np.flatnonzero(steady):
        kept[start : start + HUM_FRAMES] = False
    return kept


def _filled(mask: NDArray[np.bool_], longest: int) -> NDArray[np.bool_]:
    """Fill the gaps of at most `longest` frames between frames that are True; the ends stay as they are."""
    filled = mask.copy()
    for start, stop in _runs(~mask):
        if start > 0 and stop < len(mask) and stop - start <= longest:
            filled[start:stop] = True
    return filled


def _grown(mask: NDArray[np.bool_], near: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """Add the frames that are `near` and touch `mask` without a gap, up to `reach` frames on either side."""
    grown = mask.copy()
    for start, stop in _runs(near & ~mask):
        if start > 0 and mask[start - 1]:
            grown[start : min(stop, start + reach)] = True
        if stop < len(mask) and mask[stop]:
            grown[max(start, stop - reach) : stop] = True
    return grown


def speech_frames(audio: Audio) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Tell speech from the rest for frames 10 ms apart: a mask (T,) and the mean square of each frame (T,).

    Speech is voiced sound that lasts, stands above the recording's own floor and whose pitch moves; the 0.15 s around
    it, up to 0.3 s of sound within 20 dB of it that touches it, and pauses up to 0.3 s.
    """
    from avatar_pipeline.voice.pitch import track_pitch

    return speech_of_pitch(audio, track_pitch(audio))


def speech_of_pitch(audio: Audio, pitch: PitchTrack) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Do as `speech_frames` does for audio whose pitch was tracked already."""
    from avatar_pipeline.voice.pitch import HOP, RATE, resample

    count = len(pitch.f0)
    mask = np.zeros(count, dtype=bool)
    if count == 0:
        return mask, np.zeros(0)
    power = frame_power(resample(audio, RATE), HOP, count)
    level = 10 * np.log10(np.maximum(power, 1e-12))
    heard = level[level > SILENCE_DBFS + 10]
    floor = float(np.percentile(heard, 10)) if len(heard) else SILENCE_DBFS
    loud = (level > QUIETEST_SPEECH_DBFS) & (level > floor + ABOVE_FLOOR_DB)
    sure = _without_hum((pitch.aperiodicity < SURELY_VOICED) & loud, pitch.f0)
    perhaps = _without_hum((pitch.aperiodicity < PERHAPS_VOICED) & loud, pitch.f0)
    for start, stop in _runs(perhaps):
        if np.count_nonzero(sure[start:stop]) >= MIN_VOICED_FRAMES:
            mask[max(0, start - CONSONANT_FRAMES) : stop + CONSONANT_FRAMES] = True
    if not mask.any():
        return mask, power
    mask = _filled(mask, PAUSE_FRAMES)
    near = level > max(floor + ABOVE_FLOOR_DB, float(np.median(level[mask])) - NEAR_SPEECH_DB)
    return _filled(_grown(mask, near, PAUSE_FRAMES), PAUSE_FRAMES), power


def measure_speech(audio: Audio) -> SpeechReport:
    """Measure how much speech `audio` holds and how well it was recorded. Silence and noise give no speech."""
    mask, power = speech_frames(audio)
    speech_seconds = float(mask.sum()) * FRAME_SECONDS
    samples = audio.samples
    overall = float(np.einsum("i,i->", samples, samples, dtype=np.float64)) / max(1, len(samples))
    loudness, snr = overall, 0.0
    if mask.any():
        loudness = float(power[mask].mean())
        rest = power[~mask]
        noise = float(np.median(rest)) if len(rest) * FRAME_SECONDS >= 0.3 else float(np.percentile(power, 5))
        noise = max(noise, 1e-12)
        snr = 10 * float(np.log10(max(loudness - noise, noise * 1e-2) / noise))
    return SpeechReport(
        seconds=audio.seconds,
        speech_seconds=speech_seconds,
        speech_ratio=min(1.0, speech_seconds / audio.seconds) if len(samples) else 0.0,
        level_dbfs=max(SILENCE_DBFS, 10 * float(np.log10(max(loudness, 1e-12)))),
        snr_db=snr,
        clipped_ratio=float(np.count_nonzero(np.abs(samples) >= CLIPPED)) / max(1, len(samples)),
    )


def require_speech(report: SpeechReport, name: str) -> None:
    """Check that `report`, measured on the recording called `name`, holds enough speech to make a voice from.

    Raises:
        SpeechNotUsable: there is less than two seconds of speech.
    """
    if report.enough_speech:
        return
    found = "no speech" if report.speech_seconds == 0 else f"only {report.speech_seconds:.1f} s of speech"
    raise SpeechNotUsable(
        f"{name} holds {found} in {report.seconds:.1f} s at {report.level_dbfs:.0f} dBFS; "
        f"at least {MIN_SPEECH_SECONDS:g} s are needed.",
        remedy="Give a recording in which the person talks, or make the avatar with a stock voice: --voice local:en",
    )
