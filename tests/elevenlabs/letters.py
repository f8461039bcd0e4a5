"""The time of every character of a text, from the times of its words and sounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from avatar_pipeline.voice.types import Phoneme, Word

VOWEL_LETTERS = frozenset("aeiouyäöüáéíóúàèìòùâêîôûåæøœ")
VOWEL_SOUNDS = frozenset("aeiouyæɐɑɒɔəɚɛɜɝɪɨʊʌøœɵʏᵻ")
SPELLINGS = {
    "f": "fpg",
    "v": "vf",
    "θ": "t",
    "ð": "t",
    "t": "td",
    "ɾ": "td",
    "k": "ckqx",
    "ɡ": "g",
    "s": "scz",
    "z": "zsx",
    "ʃ": "sct",
    "ʒ": "sgz",
    "tʃ": "ct",
    "dʒ": "jgd",
    "h": "hw",
    "ŋ": "n",
    "ɹ": "r",
    "w": "wuo",
    "j": "yui",
}
"""The letters that write a consonant, where it is not the letter itself."""
OTHER_OF_ITS_KIND, OTHER_KIND = 1.0, 2.5
DOUBLED, SILENT, SILENT_FIRST, UNWRITTEN = 0.2, 0.6, 0.8, 0.8
"""What it costs to pair a letter and a sound that do not fit, to pass over a letter, and to pass over a sound."""


@dataclass(frozen=True, slots=True)
class Times:
    """Characters with the seconds at which each starts and ends; each ends where the next one starts."""

    characters: tuple[str, ...]
    starts: tuple[float, ...]
    ends: tuple[float, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it as the API writes an alignment."""
        return {
            "characters": list(self.characters),
            "character_start_times_seconds": [round(start, 6) for start in self.starts],
            "character_end_times_seconds": [round(end, 6) for end in self.ends],
        }

    def stretched(self, factor: float) -> Times:
        """Return it with all times multiplied."""
        starts, ends = (tuple(time * factor for time in times) for times in (self.starts, self.ends))
        return Times(self.characters, starts, ends)


def spread(text: str, words: Sequence[Word], phonemes: Sequence[Phoneme], seconds: float) -> Times:
    """Time the characters of `text`: letters with the sounds that they write, spaces and signs from word to word."""
    sounds = [phoneme for phoneme in phonemes if phoneme.symbol]
    marks: list[tuple[int, float]] = []
    cursor = 0
    for word in words:
        position = text.find(word.text, cursor)
        if position < 0:
            continue
        cursor = position + len(word.text)
        inside = [sound for sound in sounds if word.start <= (sound.start + sound.end) / 2 < word.end]
        marks += [(position + index, start) for index, start in _letter_starts(word, inside)]
        marks.append((cursor, word.end))
    marks.append((len(text), seconds))
    return Times(tuple(text), *_between(marks, len(text)))


def _letter_starts(word: Word, sounds: Sequence[Phoneme]) -> list[tuple[int, float]]:
    """Return (index of a letter, second) for the first letter of every sound that is written."""
    starts = [(0, word.start)]
    for sound, letter in enumerate(pair([s.symbol for s in sounds], word.text.lower())):
        if letter is not None and letter > starts[-1][0]:
            starts.append((letter, max(sounds[sound].start, word.start)))
    return starts


def pair(sounds: Sequence[str], letters: str) -> list[int | None]:
    """Return for each IPA sound the letter that it begins with, in order; None for one that no letter writes.

    The cheapest way of walking through both at once, found by dynamic programming.
    """
    rows, columns = len(sounds) + 1, len(letters) + 1
    cost = [[float("inf")] * columns for _ in range(rows)]
    step = [[(0, 0)] * columns for _ in range(rows)]
    cost[0][0] = 0.0
    for sound in range(rows):
        for letter in range(columns):
            moves = []
            if sound and letter:
                moves.append((cost[sound - 1][letter - 1] + _misfit(sounds[sound - 1], letters[letter - 1]), (1, 1)))
            if letter:
                doubled = letter > 1 and (letters[letter - 1] == letters[letter - 2] or letters[letter - 1] == "h")
                silent = SILENT if sound else SILENT_FIRST
                moves.append((cost[sound][letter - 1] + (DOUBLED if doubled and sound else silent), (0, 1)))
            if sound:
                moves.append((cost[sound - 1][letter] + UNWRITTEN, (1, 0)))
            if moves:
                cost[sound][letter], step[sound][letter] = min(moves)
    found: list[int | None] = [None] * len(sounds)
    sound, letter = rows - 1, columns - 1
    while sound or letter:
        move = step[sound][letter]
        if move == (1, 1):
            found[sound - 1] = letter - 1
        sound, letter = sound - move[0], letter - move[1]
    return found


def _misfit(sound: str, letter: str) -> float:
    plain = sound.lstrip("ˈˌ")
    is_vowel = plain[:1] in VOWEL_SOUNDS
    if is_vowel:
        return 0.0 if letter in VOWEL_LETTERS else OTHER_KIND
    if letter in (SPELLINGS.get(plain[:2]) or SPELLINGS.get(plain[:1], plain[:1])):
        return 0.0
    return OTHER_KIND if letter in VOWEL_LETTERS else OTHER_OF_ITS_KIND


def _between(marks: Sequence[tuple[int, float]], count: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return starts and ends of `count` characters, evenly between (position, second) marks, from (0, 0)."""
    edges = [0.0] * (count + 1)
    last_position, last_time = 0, 0.0
    for position, second in marks:
        time = max(second, last_time)
        for index in range(last_position + 1, position):
            part = (index - last_position) / (position - last_position)
            edges[index] = min(last_time + (time - last_time) * part, time)
        edges[position] = time
        last_position, last_time = position, time
    return tuple(edges[:-1]), tuple(edges[1:])
