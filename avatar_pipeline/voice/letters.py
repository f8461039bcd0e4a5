"""When each character of a text is read, by what a service says of the characters that it read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from avatar_pipeline.voice.types import CharacterTime


@dataclass(frozen=True, slots=True)
class Letters:
    """`times` holds (start, end) for each character of the text, None where it was not read; never backwards."""

    times: tuple[tuple[float, float] | None, ...]
    end: float

    def read_between(self, begin: int, stop: int) -> list[tuple[float, float]]:
        """Return the times of those characters from `begin` to before `stop` that were read."""
        return [time for time in self.times[begin:stop] if time is not None]


def read_letters(text: str, characters: Sequence[CharacterTime]) -> Letters:
    """Find the characters of `text` among those that were read; quotes, case and spaces may differ, some be missing."""
    read: list[str] = []
    times: list[tuple[float, float]] = []
    reached = 0.0
    for entry in characters:
        start, end = (reached if math.isnan(time) else max(time, reached) for time in (entry.start, entry.end))
        end = max(start, end)
        for number, character in enumerate(entry.character):
            step = (end - start) / len(entry.character)
            read.append(character)
            times.append((start + step * number, start + step * (number + 1)))
        reached = max(reached, start)
    # A character ends where the next one begins, at the latest.
    ordered = [
        (start, min(end, times[index + 1][0]) if index + 1 < len(times) else end)
        for index, (start, end) in enumerate(times)
    ]
    last = max((end for _, end in ordered), default=0.0)
    return Letters(tuple(ordered[at] if at is not None else None for at in _places(text, read)), last)


def _places(text: str, read: Sequence[str]) -> list[int | None]:
    """Return, for each character of the text, which of those that were read it is."""
    sent, heard = [_plain(character) for character in text], [_plain(character) for character in read]
    if sent == heard:
        return list(range(len(sent)))
    places: list[int | None] = [None] * len(sent)
    for tag, one, two, first, last in SequenceMatcher(None, sent, heard, autojunk=False).get_opcodes():
        if tag == "equal" or (tag == "replace" and two - one == last - first):
            places[one:two] = range(first, last)
    return places


def _plain(character: str) -> str:
    """Fold what services change: case, and kinds of quotes and spaces."""
    if character.isspace():
        return " "
    return {"’": "'", "‘": "'", "“": '"', "”": '"'}.get(character, character.lower())
