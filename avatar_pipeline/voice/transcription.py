"""Which sounds the words of a text have, by eSpeak NG."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from avatar_pipeline.errors import InvalidInput, InvalidText
from avatar_pipeline.voice import espeak
from avatar_pipeline.voice.types import Phoneme, Word

UNKNOWN_SOUND = "ə"
"""For a word that eSpeak NG does not say: the mouth moves while it is heard."""
SPELT_AS_SPOKEN = "id"
"""Read in place of a language that eSpeak NG lacks: Indonesian is written as it sounds."""

_TOKEN = re.compile(r"[^\W_](?:\S*[^\W_])?")


@dataclass(frozen=True, slots=True)
class Unit:
    """What is spoken in one: mostly a word, sometimes two ('of the'). `labels` are its words, and where they begin in
    the text; `symbols` its sounds in IPA, at least one.
    """

    labels: tuple[tuple[str, int], ...]
    symbols: tuple[str, ...]

    @property
    def begin(self) -> int:
        """Where its first character is in the text."""
        return self.labels[0][1]

    @property
    def stop(self) -> int:
        """Where the text goes on behind it."""
        label, begin = self.labels[-1]
        return begin + len(label)


def is_letter(character: str) -> bool:
    """Tell whether a character can be read: a letter, a digit, or a mark that goes with one."""
    return unicodedata.category(character)[0] in "LMN"


@lru_cache(maxsize=64)
def transcribe(text: str, language: str) -> tuple[Unit, ...]:
    """Return the sounds of a text, word by word.

    How eSpeak NG would time them is not looked at. Words that it does not say, as those in a script that it cannot
    read, have the `UNKNOWN_SOUND`.

    Raises:
        EnvironmentProblem: eSpeak NG is not installed or does not work.
    """
    tokens = [(match[0], match.start()) for match in _TOKEN.finditer(text)]
    if not tokens:
        return ()
    try:
        said = espeak.speak(text, espeak.Settings(_voice(language)))
    except InvalidText:
        units = []
    else:
        units = _said(text, said.words, said.phonemes)
    taken = [(unit.begin, unit.stop) for unit in units]
    for label, begin in tokens:
        if not any(first < begin + len(label) and begin < stop for first, stop in taken):
            units.append(Unit(((label, begin),), (UNKNOWN_SOUND,)))
    return tuple(sorted(units, key=lambda unit: unit.begin))


@lru_cache(maxsize=64)
def _voice(language: str) -> str:
    voices = espeak.list_voices()
    try:
        return espeak.resolve_voice(language, voices).identifier
    except InvalidInput:
        return espeak.resolve_voice(SPELT_AS_SPOKEN, voices).identifier


def _said(text: str, words: Sequence[Word], phonemes: Sequence[Phoneme]) -> list[Unit]:
    """Give each word its sounds; words that have a border inside a sound are one unit."""
    edges = {phoneme.start for phoneme in phonemes} | {phoneme.end for phoneme in phonemes}
    units: list[Unit] = []
    labels: list[tuple[str, int]] = []
    start, position = 0.0, 0
    for word in words:
        begin = text.find(word.text, position)
        if begin < 0:
            continue
        start = start if labels else word.start
        labels.append((word.text, begin))
        position = begin + len(word.text)
        if word.end in edges:
            symbols = tuple(p.symbol for p in phonemes if p.symbol and start <= p.start < word.end)
            units.append(Unit(tuple(labels), symbols or (UNKNOWN_SOUND,)))
            labels = []
    return units
