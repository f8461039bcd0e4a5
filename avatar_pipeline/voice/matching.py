"""Fit a synthetic voice to a person's: pitch, pitch range, vocal tract length and long-term spectrum.

The synthesizer speaks at a pitch that, played `alpha` times as fast, is the person's; playing it so moves the formants
by `alpha` too, and every time by exactly 1 / alpha; a filter then gives it the person's long-term spectrum. It makes a
voice of the same height and colour, not the person's voice.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from avatar_pipeline.voice.espeak import Settings
from avatar_pipeline.voice.pitch import track_pitch
from avatar_pipeline.voice.spectrum import apply_filter, average_spectrum, equalizer, shift_formants, spectral_distance

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from avatar_pipeline.media.types import Audio

ALPHA_STEPS = 400
"""alpha is a whole number of 1/400, so that playing faster is a resampling by a ratio of integers."""
ALPHA_SEARCH = (0.84, 1.22)
ALPHA_LIMIT = (0.74, 1.36)
ALPHA_COST_DB = 4.0
LOW_VOICE_HZ = 160.0
"""Below, a voice is matched from the plain eSpeak NG voice (a man's); above, from its variant f3 (a woman's)."""
PITCH_RANGE = (10, 60)
"""Of eSpeak NG's pitch range. Above, its median pitch differs by several per cent from one text to the next."""
PITCH_PASSES = 6
EQ_PASSES = 8

CALIBRATION_TEXT = (
    "Please bring the queue of judges to the harbour before the morning light fades away. "
    "She had your dark suit in greasy wash water all year, and nobody thought to ask why. "
    "The quick brown fox jumps over the lazy dog while five boxing wizards watch from the shore. "
    "A large boat moved through thick azure mist, measuring pleasure by joy and noise. "
    "When did you first hear about it? We usually meet here on Thursdays, just after four."
)

FINAL_TEXT = (
    CALIBRATION_TEXT
    + " "
    + "The library on the corner opens at nine, but on weekends its doors stay closed until noon. "
    "Our neighbours grow tomatoes, beans and huge yellow pumpkins behind their garage. "
    "If you have any questions, please write to us, and somebody will answer within two days. "
    "He put the kettle on, cut three slices of bread, and looked for the strawberry jam. "
    "Winter came early that year; the rivers froze, and children skated home from school. "
    "A good teacher explains things twice: once with words and once with an example. "
    "They chose a small hotel near the beach because the view from there was worth the noise. "
    "Prices rose by seven percent, though wages hardly changed at all. "
    "Would you rather travel by train or by ship, and whom would you take along? "
    "The engine coughed, shook, and finally began to purr like a large cat. "
    "Most of what we know about the deep ocean was found out during the last fifty years. "
    "Thanks for watching, and do not forget to bring your own cup next time."
)
"""A longer one, for what is fitted last: over it, how often each sound occurs hardly differs from other texts."""


@dataclass(frozen=True, slots=True)
class VoiceProfile:
    """What is kept of a person's voice.

    Median F0 in Hz, spread of ln F0, and the long-term average spectrum in dB at 513 frequencies to 8 kHz.
    """

    f0_median: float
    f0_logsd: float
    ltas: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class MatchedVoice:
    """How to speak like a profile: what to ask eSpeak NG, how much faster to play it, and the filter after that."""

    settings: Settings
    alpha: float
    taps: NDArray[np.float64]


def describe_voice(audio: Audio) -> VoiceProfile:
    """Measure the profile of the one voice in `audio`."""
    median, spread = track_pitch(audio).median_and_spread()
    return VoiceProfile(median, spread, average_spectrum(audio))


def play_faster(audio: Audio, alpha: float) -> Audio:
    """Return `audio` played `alpha` (a multiple of 1/400) times as fast at the same rate.

    Frequencies times alpha, times divided by it.
    """
    from scipy.signal import resample_poly

    from avatar_pipeline.media.types import Audio

    samples: NDArray[np.float32] = resample_poly(audio.samples, ALPHA_STEPS, round(alpha * ALPHA_STEPS))
    return Audio(samples.astype(np.float32, copy=False), audio.rate)


def _on_grid(alpha: float) -> float:
    low, high = ALPHA_LIMIT
    return round(min(max(alpha, low), high) * ALPHA_STEPS) / ALPHA_STEPS


def _choose_alpha(base: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    """Return the formant shift whose spectrum comes nearest to the target, preferring small shifts among equals."""

    def cost(alpha: float) -> float:
        return spectral_distance(shift_formants(base, alpha), target) + ALPHA_COST_DB * abs(math.log(alpha))

    return min((float(alpha) for alpha in np.arange(*ALPHA_SEARCH, 0.02)), key=cost)


def _find_pitch(measure: Callable[[int], float], wanted: float) -> int:
    """Return the eSpeak pitch (0..99) whose median F0 comes nearest to `wanted` Hz, by regula falsi."""
    tried = {pitch: measure(pitch) for pitch in (0, 99)}
    for _ in range(PITCH_PASSES):
        below = max((p for p in tried if tried[p] <= wanted), default=None)
        above = min((p for p in tried if tried[p] > wanted), default=None)
        if below is None or above is None or abs(above - below) <= 1:
            break
        guess = below + (above - below) * (wanted - tried[below]) / (tried[above] - tried[below])
        between = sorted((below, above))
        pitch = min(max(round(guess), between[0] + 1), between[1] - 1)
        tried[pitch] = measure(pitch)
    return min(tried, key=lambda p: (abs(tried[p] - wanted), p))


def match_voice(target: VoiceProfile, voice: str, speak: Callable[[str, Settings], Audio]) -> MatchedVoice:
    """Fit the eSpeak NG voice called `voice` to `target`; `speak` synthesizes a text.

    Takes about ten calls of `speak` with 20 s of speech each. Deterministic if `speak` is.
    """
    base = voice if target.f0_median < LOW_VOICE_HZ else f"{voice}+f3"
    plain = describe_voice(speak(CALIBRATION_TEXT, Settings(base)))
    alpha = _on_grid(_choose_alpha(plain.ltas, target.ltas))
    spread = round(50 * target.f0_logsd / max(plain.f0_logsd, 0.01))
    settings = Settings(base, rate=_clip(165 / alpha, 80, 450), range=_clip(spread, *PITCH_RANGE))

    def median(pitch: int) -> float:
        return track_pitch(speak(CALIBRATION_TEXT, replace(settings, pitch=pitch))).median_and_spread()[0]

    settings = replace(settings, pitch=_find_pitch(median, target.f0_median / alpha))
    spoken = speak(FINAL_TEXT, settings)
    # What whole steps of pitch, or the end of their range, leave open is made up by the speed.
    alpha = _on_grid(target.f0_median / max(track_pitch(spoken).median_and_spread()[0], 1.0))
    spoken = play_faster(spoken, alpha)
    return MatchedVoice(settings, alpha, _fit_equalizer(spoken, target.ltas))


def _clip(value: float, low: int, high: int) -> int:
    return min(max(round(value), low), high)


def _fit_equalizer(spoken: Audio, target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Design the filter that brings `spoken` to the `target` spectrum, correcting what the first design leaves."""
    from avatar_pipeline.media.types import Audio

    source = average_spectrum(spoken)
    wanted = target.copy()
    taps = equalizer(source, wanted, spoken.rate)
    for _ in range(EQ_PASSES - 1):
        filtered = apply_filter(spoken.samples.astype(np.float64), taps)
        reached = average_spectrum(Audio(filtered.astype(np.float32), spoken.rate))
        wanted = wanted + (target - reached)
        taps = equalizer(source, wanted, spoken.rate)
    return taps
