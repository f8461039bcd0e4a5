"""Character times: are they true, what text are they of, and how do those of parts become those of a whole."""

from __future__ import annotations

import math
from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import pairwise

from avatar_pipeline.voice.elevenlabs.answers import Alignment
from avatar_pipeline.voice.elevenlabs.split import Part
from avatar_pipeline.voice.types import CharacterTime

TOLERANCE = 0.25
"""How far the last character may end from the end of the audio, in seconds."""
_JITTER = 0.02
"""How far a time may fall behind the one before it: rounding, no fault."""
_LEAST_ALIKE = 0.8


def fault_of(alignment: Alignment | None, seconds: float, *, early: float = TOLERANCE) -> str | None:
    """Say what is wrong with an alignment of audio that long; None if nothing is.

    It may end `early` seconds before the audio. Some models' times drift towards the end, or are all the same after a
    while; lips would drift with them.
    """
    if alignment is None or not alignment.characters:
        return "it is missing"
    if not len(alignment.characters) == len(alignment.starts) == len(alignment.ends):
        return "it has not a time for each character"
    disorder = _disorder(alignment)
    if disorder is not None:
        return disorder
    off = max(alignment.ends) - seconds
    if off > TOLERANCE or -off > early:
        return f"it ends {abs(off):.2f} s {'after' if off > 0 else 'before'} the audio does"
    return None


def _disorder(alignment: Alignment) -> str | None:
    times = [*alignment.starts, *alignment.ends]
    if not all(math.isfinite(time) and time >= -_JITTER for time in times):
        return "it holds a time that is none"
    if any(end < start - _JITTER for start, end in zip(alignment.starts, alignment.ends, strict=True)):
        return "a character ends before it starts"
    if any(after < before - _JITTER for before, after in pairwise(alignment.starts)):
        return "its times go back"
    return None


def characters_of(text: str, alignment: Alignment, seconds: float) -> tuple[CharacterTime, ...] | None:
    """Return a time for each character of `text`, in order and within the audio; None if it is another text.

    Aligners leave out space and signs, or write them otherwise: such a character gets its time from its neighbours.
    """
    given = "".join(alignment.characters)
    if given == text and len(alignment.characters) == len(text):
        spans: list[tuple[float, float] | None] = list(zip(alignment.starts, alignment.ends, strict=True))
    else:
        pairs = _matched(text, alignment)
        if pairs is None:
            return None
        spans = pairs
    return _ordered(text, _filled(spans, seconds), seconds)


def _matched(text: str, alignment: Alignment) -> list[tuple[float, float] | None] | None:
    owners = [index for index, symbol in enumerate(alignment.characters) for _ in symbol]
    given = "".join(alignment.characters)
    matcher = SequenceMatcher(None, text.casefold(), given.casefold(), autojunk=False)
    if len(text) != len(text.casefold()) or len(given) != len(given.casefold()):
        matcher = SequenceMatcher(None, text, given, autojunk=False)
    spans: list[tuple[float, float] | None] = [None] * len(text)
    for block in matcher.get_matching_blocks():
        for offset in range(block.size):
            owner = owners[block.b + offset]
            spans[block.a + offset] = (alignment.starts[owner], alignment.ends[owner])
    letters = [span for character, span in zip(text, spans, strict=True) if character.isalnum()]
    if not letters or sum(span is not None for span in letters) < _LEAST_ALIKE * len(letters):
        return None
    return spans


def _filled(spans: Sequence[tuple[float, float] | None], seconds: float) -> list[tuple[float, float]]:
    """Give those without a time equal shares of the gap that they are in."""
    full: list[tuple[float, float]] = []
    place = 0
    while place < len(spans):
        span = spans[place]
        if span is not None:
            full.append(span)
            place += 1
            continue
        end = place
        while end < len(spans) and spans[end] is None:
            end += 1
        begin = full[-1][1] if full else 0.0
        following = spans[end] if end < len(spans) else None
        until = max(begin, following[0] if following else seconds)
        step = (until - begin) / (end - place)
        full += [(begin + step * i, begin + step * (i + 1)) for i in range(end - place)]
        place = end
    return full


def _ordered(text: str, spans: Sequence[tuple[float, float]], seconds: float) -> tuple[CharacterTime, ...]:
    timed: list[CharacterTime] = []
    floor = 0.0
    for character, (start, end) in zip(text, spans, strict=True):
        begin = min(max(start, floor), seconds)
        timed.append(CharacterTime(character, begin, min(max(end, begin), seconds)))
        floor = begin
    return tuple(timed)


def joined(
    text: str, parts: Sequence[Part], times: Sequence[tuple[CharacterTime, ...]], seconds: Sequence[float]
) -> tuple[CharacterTime, ...]:
    """Return the times of the whole text, from those of its parts and how long each part's audio is.

    The space between two parts is where one part's audio meets the next one's.
    """
    whole: list[CharacterTime] = []
    offset = 0.0
    for part, timed, length in zip(parts, times, seconds, strict=True):
        whole += [CharacterTime(gap, offset, offset) for gap in text[len(whole) : part.start]]
        whole += [CharacterTime(one.character, one.start + offset, one.end + offset) for one in timed]
        offset += length
    whole += [CharacterTime(gap, offset, offset) for gap in text[len(whole) :]]
    return tuple(whole)


def scaled(times: Sequence[CharacterTime], factor: float) -> tuple[CharacterTime, ...]:
    """Return times of audio that was made longer by `factor`."""
    return tuple(CharacterTime(one.character, one.start * factor, one.end * factor) for one in times)
