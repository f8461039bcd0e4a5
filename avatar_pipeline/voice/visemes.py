"""From sounds to mouth shapes: IPA to the 15 Oculus visemes, and visemes to smooth weights for each frame.

The names are those of the Oculus LipSync reference (https://developers.meta.com/horizon/documentation/unity/
audio-ovrlipsync-viseme-reference).
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from avatar_pipeline.voice.types import Phoneme, Viseme

if TYPE_CHECKING:
    from fractions import Fraction

    from numpy.typing import NDArray

VISEMES = ("sil", "PP", "FF", "TH", "DD", "kk", "CH", "SS", "nn", "RR", "aa", "E", "I", "O", "U")

_SOUNDS = {
    "PP": "p b m ɓ ʙ",
    "FF": "f v ɱ ʋ ⱱ ɸ β",
    "TH": "θ ð",
    "DD": "t d ʈ ɖ ɗ ɾ ɽ",
    "kk": "k g ɡ c ɟ q ɢ ɠ x ɣ χ ʁ ʀ ɰ ç ʝ ɧ",
    "CH": "tʃ dʒ ʧ ʤ ʃ ʒ tɕ dʑ ɕ ʑ tʂ dʐ ʂ ʐ",
    "SS": "s z ts dz ʦ ʣ ɬ ɮ",
    "nn": "n l ɫ ɭ ɲ ɳ ŋ ɴ ʎ ʟ",
    "RR": "ɹ r ɻ ɺ ɚ ɝ",
    "aa": "a ɑ ɐ ʌ æ",
    "E": "e ɛ ε ə ɜ ɘ ɤ ɞ",
    "I": "i ɪ ᵻ ɨ ɯ j",
    "O": "o ɔ ɒ ø œ ɶ ɵ",
    "U": "u ʊ ʉ y ʏ w ʍ ɥ ᵿ",
}
_SHAPES = {sound: viseme for viseme, sounds in _SOUNDS.items() for sound in sounds.split()}
_GLOTTAL = frozenset("hɦʔʕħʜʡʢ")
"""Sounds made in the throat: the mouth already has, or still has, the shape of the sound beside them."""
_LETTERS = frozenset({"Ll", "Lo", "Lu"})

MIN_PAUSE_SECONDS = 0.03
DIPHTHONG = (0.6, 0.4)

_STRENGTH = {"PP": 1.6, "FF": 1.5, "U": 1.3, "O": 1.25, "CH": 1.1, "aa": 1.1, "sil": 0.55}
_OTHER_STRENGTH = 0.8
_ROUNDED = frozenset({"U", "O", "CH"})
_CLOSED = frozenset({"PP", "FF"})
_REACH_SECONDS = 0.4
_SILENCE_SECONDS = 0.2
_FADE_SECONDS = 0.08
_CLOSURE_RAMP_SECONDS = 0.03


def split_ipa(symbol: str) -> tuple[str | None, ...]:
    """Return the mouth shapes of one IPA symbol in order: 'aɪ' is ('aa', 'I'), 'tʃ' is ('CH',).

    None stands for a sound without a shape of its own: glottal sounds, and letters that are not IPA. Stress, length,
    tone and other diacritics have no shape and are skipped.
    """
    letters = [
        character for character in unicodedata.normalize("NFD", symbol) if unicodedata.category(character) in _LETTERS
    ]
    shapes: list[str | None] = []
    index = 0
    while index < len(letters):
        pair = "".join(letters[index : index + 2])
        if len(pair) == 2 and pair in _SHAPES:
            shapes.append(_SHAPES[pair])
            index += 2
        else:
            shapes.append(_SHAPES.get(letters[index]))
            index += 1
    return tuple(shapes)


def unknown_letters(symbol: str) -> str:
    """Return the letters of an IPA symbol that have no mouth shape here and are not glottal."""
    letters = unicodedata.normalize("NFD", symbol)
    single = {sound for sound in _SHAPES if len(sound) == 1}
    return "".join(c for c in letters if unicodedata.category(c) in _LETTERS and c not in single | _GLOTTAL)


def _with_neighbours(shapes: list[tuple[str | None, float, float]]) -> list[Viseme]:
    """Give each None the shape that follows it, or the one before it where a pause follows."""
    visemes: list[Viseme] = []
    for index, (name, start, end) in enumerate(shapes):
        following = next((later for later, _, _ in shapes[index + 1 :] if later is not None), "sil")
        before = visemes[-1].name if visemes else "sil"
        shape = name or (following if following != "sil" else before)
        if visemes and visemes[-1].name == shape and visemes[-1].end == start:
            visemes[-1] = Viseme(shape, visemes[-1].start, end)
        else:
            visemes.append(Viseme(shape, start, end))
    return visemes


_LEAST_SECONDS = 1e-4
"""What lasts less than this is rounding, not sound: it cannot be shared out between two shapes."""


def to_visemes(phonemes: Iterable[Phoneme], seconds: float) -> tuple[Viseme, ...]:
    """Turn phonemes into visemes that cover 0 to `seconds` without gaps or overlaps; neighbours differ.

    Diphthongs spend 60 % in their first shape (Rhubarb Lip Sync), and /p/ has its lips together for the first 60 % of
    its time, the rest being breath; /h/ takes the shape of its neighbour; pauses under 30 ms belong to the sound before
    them.
    """
    shapes: list[tuple[str | None, float, float]] = []
    reached = 0.0
    for phoneme in sorted(phonemes, key=lambda p: (p.start, p.end)):
        start, end = max(phoneme.start, reached), min(phoneme.end, seconds)
        if end - start < _LEAST_SECONDS:
            continue
        if start > reached:
            _add_pause(shapes, reached, start)
        names = split_ipa(phoneme.symbol)
        if names == ("PP",) and "p" in phoneme.symbol:
            names = ("PP", None)
        if names:
            shapes.extend(_share(names, start, end))
        else:
            _add_pause(shapes, start, end)
        reached = end
    if reached < seconds:
        _add_pause(shapes, reached, seconds)
    return tuple(_with_neighbours(shapes))


def _add_pause(shapes: list[tuple[str | None, float, float]], start: float, end: float) -> None:
    """Append a pause, or make the sound before it longer where it is too short to close the mouth."""
    if shapes and end - start < MIN_PAUSE_SECONDS:
        name, began, _ = shapes[-1]
        shapes[-1] = (name, began, end)
    else:
        shapes.append(("sil", start, end))


def _share(names: Sequence[str | None], start: float, end: float) -> list[tuple[str | None, float, float]]:
    """Divide the time of one phoneme among its shapes."""
    shares = DIPHTHONG if len(names) == 2 else (1 / len(names),) * len(names)
    edges = [start + (end - start) * sum(shares[:index]) for index in range(len(names))] + [end]
    return [(name, edges[index], edges[index + 1]) for index, name in enumerate(names)]


def _gapless(visemes: Iterable[Viseme], seconds: float) -> list[Viseme]:
    """Return the visemes in order, clipped to 0..seconds, with 'sil' in the gaps and neighbouring 'sil' as one."""
    filled: list[Viseme] = []

    def add(name: str, start: float, end: float) -> None:
        if end <= start:
            return
        if filled and name == "sil" == filled[-1].name:
            filled[-1] = Viseme("sil", filled[-1].start, end)
        else:
            filled.append(Viseme(name, start, end))

    for viseme in sorted(visemes, key=lambda v: (v.start, v.end)):
        reached = filled[-1].end if filled else 0.0
        add("sil", reached, min(viseme.start, seconds))
        add(viseme.name, max(viseme.start, reached), min(viseme.end, seconds))
    add("sil", filled[-1].end if filled else 0.0, seconds)
    return filled


def _dominance(segments: Sequence[Viseme], times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Blend the segments by dominance: D = a * exp(-theta * distance), weights D / sum of D (T, 15).

    Cohen & Massaro 1993, "Modeling coarticulation in synthetic visual speech", with the peak held over the middle of
    each segment. Rounded shapes begin earlier and end later than the others.
    """
    total = np.zeros((len(times), len(VISEMES)))
    for segment in segments:
        part = slice(*np.searchsorted(times, [segment.start - _REACH_SECONDS, segment.end + _REACH_SECONDS]))
        near = times[part] - (segment.start + segment.end) / 2
        half = max((segment.end - segment.start) / 2, 0.02)
        before, after = (0.10, 0.09) if segment.name in _ROUNDED else (0.06, 0.05)
        distance = np.maximum(np.abs(near) - 0.6 * half, 0.0) / np.where(near < 0, before, after)
        strength = _STRENGTH.get(segment.name, _OTHER_STRENGTH)
        total[part, VISEMES.index(segment.name)] += strength * np.exp(-2.2 * distance)
    weights: NDArray[np.float64] = total / total.sum(axis=1, keepdims=True)
    return weights


def _silence(segments: Sequence[Viseme], times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how silent each frame is (T,): 1 inside pauses of 0.2 s and more, with 80 ms to fade in and out.

    The recording begins and ends in silence: there is nothing before or after a pause at its edge to fade from.
    """
    amount = np.zeros(len(times))
    for segment in segments:
        if segment.name != "sil" or segment.end - segment.start < _SILENCE_SECONDS:
            continue
        part = slice(*np.searchsorted(times, [segment.start, segment.end]))
        inside = times[part]
        start = -math.inf if segment is segments[0] else segment.start
        end = math.inf if segment is segments[-1] else segment.end
        edge = np.minimum(inside - start, end - inside)
        ramp = np.clip(edge / _FADE_SECONDS, 0.0, 1.0)
        amount[part] = ramp * ramp * (3 - 2 * ramp)
    return amount


def _owners(segments: Sequence[Viseme], times: NDArray[np.float64]) -> dict[int, Viseme]:
    """Return which closure has which frame to itself: the one nearest to its centre, or else the next nearest.

    Lips that meet come before lips that touch teeth, and longer closures before shorter ones. Two of a kind in one
    frame are both seen in it.
    """
    owner: dict[int, Viseme] = {}
    closed = [segment for segment in segments if segment.name in _CLOSED]
    for segment in sorted(closed, key=lambda s: (s.name != "PP", s.start - s.end)):
        nearest = np.argsort(np.abs(times - (segment.start + segment.end) / 2), kind="stable")[:2]
        for frame in nearest.tolist():
            if owner.setdefault(frame, segment).name == segment.name:
                break
    return owner


def _closures(
    segments: Sequence[Viseme], times: NDArray[np.float64], silence: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return how firmly each frame must show PP or FF: (T, 15), zero elsewhere, rows summing to at most 1.

    Lips that should meet and do not are the error people see first. A closure can be shorter than a frame, so its
    centre is moved to the nearest frame, which it gets whole.
    """
    firm: NDArray[np.float64] = np.zeros((len(times), len(VISEMES)))
    owner = _owners(segments, times)
    for frame, segment in owner.items():
        quarter = (segment.end - segment.start) / 4
        ramp = quarter + _CLOSURE_RAMP_SECONDS
        part = slice(*np.searchsorted(times, [times[frame] - quarter - ramp, times[frame] + quarter + ramp]))
        beyond = np.clip((np.abs(times[part] - times[frame]) - quarter) / ramp, 0.0, 1.0)
        column = firm[part, VISEMES.index(segment.name)]
        np.maximum(column, np.cos(beyond * math.pi / 2) ** 2, out=column)
    firm[silence == 1.0] = 0.0
    for frame, segment in owner.items():
        firm[frame] = 0.0
        firm[frame, VISEMES.index(segment.name)] = 1.0
    shared: NDArray[np.float64] = firm / np.maximum(firm.sum(axis=1, keepdims=True), 1.0)
    return shared


def viseme_curves(visemes: Iterable[Viseme], seconds: float, fps: Fraction | float) -> NDArray[np.float32]:
    """Return the weight of each viseme at each frame: float32 (T, 15), T = ceil(seconds * fps), order `VISEMES`.

    Frame i is at time i / fps. Weights are not negative and each frame's sum to 1. Between long pauses the shapes
    overlap as in speech; PP and FF are 1 at the frame nearest to their centre; inside pauses of 0.2 s and more 'sil'
    is exactly 1.
    """
    count = math.ceil(round(seconds * float(fps), 6))
    if count == 0:
        return np.zeros((0, len(VISEMES)), dtype=np.float32)
    times = np.arange(count) / float(fps)
    segments = _gapless(visemes, seconds)
    weights = _dominance(segments, times)
    silence = _silence(segments, times)[:, None]
    weights *= 1.0 - silence
    weights[:, VISEMES.index("sil")] += silence[:, 0]
    firm = _closures(segments, times, silence[:, 0])
    weights = weights * (1.0 - firm.sum(axis=1, keepdims=True)) + firm
    curves: NDArray[np.float32] = weights.astype(np.float32)
    return curves
