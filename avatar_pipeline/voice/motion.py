"""What a head does while it speaks, besides its mouth: blinks, glances and small turns and nods, from a seed.

For avatars that are nothing but a mesh, as in a browser. Rendered clips show the person's own footage, which blinks and
moves by itself.

Blinks: intervals are log-normal, some 17 a minute (A. R. Bentivoglio et al., "Analysis of blink rate patterns in normal
subjects", Movement Disorders 12, 1997), and many fall into pauses (F. Cummins, "Gaze and blinking in dyadic
conversation", Language and Cognitive Processes 27, 2012). Glances are short and near, with the speed of saccades. Heads
nod with stressed syllables (K. G. Munhall et al., "Visual prosody and speech intelligibility", Psychological Science
15, 2004).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from avatar_pipeline.voice.types import Phoneme

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Curve = NDArray[np.float64]

BLINKS = ("eyeBlinkLeft", "eyeBlinkRight")
LOOKS = (
    "eyeLookUpLeft", "eyeLookUpRight", "eyeLookDownLeft", "eyeLookDownRight",
    "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight",
)  # fmt: skip
TURNS = ("headYaw", "headPitch", "headRoll")
NAMES = (*BLINKS, *LOOKS, *TURNS)
MOST_TURN = {"headYaw": 4.0, "headPitch": 5.0, "headRoll": 2.5}
"""Degrees, each way."""
MOST_LOOK = 0.3
BLINK_SECONDS = (0.12, 0.25)

_BLINKS_A_MINUTE, _BLINK_SPREAD = 17.0, 0.55
_SHORTEST_INTERVAL = 0.8
_NEAR_A_PAUSE, _INTO_PAUSE = 1.0, 0.7
"""A blink this near to the end of a phrase, in seconds, moves there, this often."""
_CLOSING_SHARE = 0.35
"""Of a blink: lids fall faster than they rise."""
_PHRASE_PAUSE_SECONDS = 0.15

_FIXATION_SECONDS, _FIXATION_SPREAD = 1.1, 0.5
_AT_VIEWER = 0.6
_GLANCE_DEGREES = (3.0, 2.0)
"""Sigma of glances, sideways and upwards."""
_FULL_LOOK_DEGREES = 35.0
"""Turn of an eyeball at which an `eyeLook` shape is 1."""
_SACCADE_SECONDS = 0.045

_WANDER_DEGREES = np.array([1.6, 1.1, 0.8])
_NOD_DEGREES = (1.0, 3.0)
_NOD_SECONDS = (0.35, 0.55)
_BETWEEN_NODS = 0.7
_NOD_OFTEN = 0.65
_EASE_SECONDS = 0.4


def motion_curves(
    phonemes: Sequence[Phoneme], seconds: float, fps: Fraction | float, seed: str
) -> dict[str, NDArray[np.float64]]:
    """Return a curve (T,) for each of `NAMES`, T = ceil(seconds * fps); frame i is at time i / fps.

    Eyes are weights of ARKit shapes, 0 to 1, gaze at the viewer being all 0; every blink shuts the lids wholly for a
    frame. Turns of the head are degrees from its pose: yaw > 0 to the subject's left, pitch > 0 up, roll > 0 towards
    the subject's right shoulder. Head and gaze begin and end at rest, so that clips follow each other without a jump.
    The same arguments give the same curves.

    Args:
        phonemes: what is said, for pauses ('') and stress ('ˈ').
        seconds: how long the speech lasts.
        fps: frames a second.
        seed: any text; another one gives other motion for the same words.
    """
    count = math.ceil(round(seconds * float(fps), 6))
    times = np.arange(count) / float(fps)
    blink = _blinks(phonemes, times, seconds, _random(seed, "blink"))
    sideways, upwards = _gaze(times, seconds, _random(seed, "gaze"))
    curves = dict.fromkeys(BLINKS, blink)
    # Sideways is positive to the subject's left: outwards for the left eye.
    curves |= _eyes(sideways, upwards)
    turn = _wander(times, _random(seed, "head"))
    turn[:, 1] += _nods(phonemes, times, _random(seed, "nod"))
    turn *= _at_rest_outside(times, seconds)[:, None]
    limits = [MOST_TURN[name] for name in TURNS]
    turn = np.clip(turn, np.negative(limits), limits)
    return curves | {name: turn[:, axis] for axis, name in enumerate(TURNS)}


def _random(seed: str, part: str) -> np.random.Generator:
    """Return a generator of its own for each part, so that a change to one leaves the others as they were."""
    digest = hashlib.sha256(f"{part}:{seed}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def _ease(share: Curve) -> Curve:
    bounded = np.clip(share, 0.0, 1.0)
    eased: Curve = bounded * bounded * (3 - 2 * bounded)
    return eased


def _at_rest_outside(times: Curve, seconds: float) -> Curve:
    """Return 0 at the first and the last frame, 1 between but for the time to get there."""
    if not len(times):
        return times
    ease = min(_EASE_SECONDS, seconds / 2)
    return _ease(np.minimum(times, times[-1] - times) / max(ease, 1e-9))


def phrase_ends(phonemes: Sequence[Phoneme]) -> list[float]:
    """Return where pauses of 0.15 s and more begin, after something was said."""
    ends = []
    spoken = False
    for phoneme in phonemes:
        if phoneme.symbol:
            spoken = True
        elif spoken and phoneme.end - phoneme.start >= _PHRASE_PAUSE_SECONDS:
            ends.append(phoneme.start)
    return ends


def blink_times(phonemes: Sequence[Phoneme], seconds: float, random: np.random.Generator) -> list[float]:
    """Return when the lids are shut: at least 0.8 s apart, and rather at the ends of phrases than inside."""
    ends = phrase_ends(phonemes)
    mean = 60.0 / _BLINKS_A_MINUTE
    middle = math.log(mean) - _BLINK_SPREAD**2 / 2
    shut: list[float] = []
    # As if somebody had looked on for a while: the first blink comes anywhere in an interval.
    time = float(random.uniform(0.2, mean))
    while time < seconds - BLINK_SECONDS[1]:
        near = [end + 0.1 for end in ends if abs(end - time) <= _NEAR_A_PAUSE]
        moved = min(near, key=lambda end: abs(end - time)) if near and random.random() < _INTO_PAUSE else time
        if not shut or moved - shut[-1] >= _SHORTEST_INTERVAL:
            shut.append(moved)
        time += max(_SHORTEST_INTERVAL, float(random.lognormal(middle, _BLINK_SPREAD)))
    return [time for time in shut if time < seconds - BLINK_SECONDS[1]]


def _blinks(phonemes: Sequence[Phoneme], times: Curve, seconds: float, random: np.random.Generator) -> Curve:
    """Return how far the lids are shut (T,): a frame can be longer than they are shut, so each blink gets one whole."""
    closed = np.zeros(len(times))
    for shut in blink_times(phonemes, seconds, random):
        length = float(random.uniform(*BLINK_SECONDS))
        frame = int(np.argmin(np.abs(times - shut)))
        away = times - times[frame]
        share = np.where(away < 0, -away / (length * _CLOSING_SHARE), away / (length * (1 - _CLOSING_SHARE)))
        closed = np.maximum(closed, _ease(1.0 - share))
    return closed


def _gaze(times: Curve, seconds: float, random: np.random.Generator) -> tuple[Curve, Curve]:
    """Return where the eyes look (T,), to the subject's left and up, 0 to 1 of a full look."""
    sideways, upwards = np.zeros(len(times)), np.zeros(len(times))
    time, at = 0.0, np.zeros(2)
    while time < seconds:
        time += float(random.lognormal(math.log(_FIXATION_SECONDS), _FIXATION_SPREAD))
        away = random.normal(0.0, _GLANCE_DEGREES) / _FULL_LOOK_DEGREES
        # The last look, and any that comes back from a glance, is at the viewer.
        home = random.random() < _AT_VIEWER or time > seconds - 2 * _EASE_SECONDS
        target = np.zeros(2) if home else np.clip(away, -MOST_LOOK, MOST_LOOK)
        later = slice(int(np.searchsorted(times, time)), None)
        share = _ease((times[later] - time) / _SACCADE_SECONDS)
        sideways[later] = at[0] + share * (target[0] - at[0])
        upwards[later] = at[1] + share * (target[1] - at[1])
        at = target
    rest = _at_rest_outside(times, seconds)
    return sideways * rest, upwards * rest


def _eyes(sideways: Curve, upwards: Curve) -> dict[str, Curve]:
    left, right = np.maximum(sideways, 0.0), np.maximum(-sideways, 0.0)
    up, down = np.maximum(upwards, 0.0), np.maximum(-upwards, 0.0)
    return dict(zip(LOOKS, (up, up, down, down, right, left, left, right), strict=True))


def _wander(times: Curve, random: np.random.Generator) -> NDArray[np.float64]:
    """Return slow turns (T, 3) in degrees: for each axis three sines of 0.08 to 0.5 Hz."""
    rates = random.uniform([0.08, 0.18, 0.32], [0.16, 0.3, 0.5], (3, 3))
    phases = random.uniform(0, 2 * np.pi, (3, 3))
    waves = np.sin(2 * np.pi * rates * times[:, None, None] + phases) * np.array([0.55, 0.3, 0.15])
    turns: NDArray[np.float64] = waves.sum(axis=2) * _WANDER_DEGREES
    return turns


def _nods(phonemes: Sequence[Phoneme], times: Curve, random: np.random.Generator) -> Curve:
    """Return how far the head nods down on stressed syllables (T,), in degrees, negative."""
    pitch = np.zeros(len(times))
    latest = -math.inf
    for phoneme in phonemes:
        centre = (phoneme.start + phoneme.end) / 2
        if "ˈ" not in phoneme.symbol or centre - latest < _BETWEEN_NODS or random.random() > _NOD_OFTEN:
            continue
        latest = centre
        depth, length = float(random.uniform(*_NOD_DEGREES)), float(random.uniform(*_NOD_SECONDS))
        part = slice(*np.searchsorted(times, [centre - length / 2, centre + length / 2]))
        pitch[part] -= depth * np.cos((times[part] - centre) / length * np.pi) ** 2
    return pitch
