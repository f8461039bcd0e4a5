"""When each sound is made, where a voice tells only when each character of its text is read.

eSpeak NG says which sounds a word has. A word's time is that of its letters; inside it, sounds last in proportion to
their kind (`durations`), and begin where the letters begin that write them (`spelling`), as far as the letters' times
say anything: some services spread a word's letters evenly over it.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from itertools import accumulate, pairwise

from avatar_pipeline.voice.durations import relative_durations
from avatar_pipeline.voice.letters import Letters, read_letters
from avatar_pipeline.voice.spelling import first_letters
from avatar_pipeline.voice.transcription import Unit, is_letter, transcribe
from avatar_pipeline.voice.types import CharacterTime, Phoneme, Word

BRIDGED_SECONDS = 0.12
"""A shorter gap between two words, with no punctuation in it, is no pause: services give spaces time of their own."""
LEAST_SECONDS = 0.02
"""What a sound takes at least, where there is a pause to take it from."""

_NOTHING = 1e-3
"""Seconds that are too few to be shared out."""
_EVEN, _UNEVEN = 0.05, 0.3
_MOST_TRUST = 0.85
"""Never all: a letter may have no time at all, and its sound has some."""
_FEWEST_LETTERS = 3
_PAUSING = re.compile(r"[^\w\s'’-]|\n|\s-\s")

Span = tuple[float, float]


def phonemes_of_characters(
    text: str, characters: Sequence[CharacterTime], language: str
) -> tuple[tuple[Phoneme, ...], tuple[Word, ...]]:
    """Work out the phonemes and words of a text from the times of its characters.

    Phonemes have no gaps or overlaps from 0 to the end of the last character; '' is a pause. Words are those of the
    text without punctuation, and sounds fill each. Times that run backwards and characters that the text has not are
    borne with. A word without any time takes some of the pause after it, or shares its neighbour's; where there is
    neither, it is left out.

    Args:
        text: what was sent to be spoken, numbers and the like already written out.
        characters: the characters that were read, in order, and when.
        language: BCP 47 tag. A language that eSpeak NG lacks is read as it is spelt.

    Raises:
        EnvironmentProblem: eSpeak NG is not installed or does not work.
    """
    letters = read_letters(text, characters)
    units = [unit for unit in transcribe(text, language) if letters.read_between(unit.begin, unit.stop)]
    timed = _with_time(units, _spans(text, units, letters))
    trust = _trust([unit for unit, _ in timed], letters)
    phonemes: list[Phoneme] = []
    words: list[Word] = []
    reached = 0.0
    for index, (unit, (start, end)) in enumerate(timed):
        if start > reached:
            phonemes.append(Phoneme("", reached, start))
        pause = index + 1 == len(timed) or timed[index + 1][1][0] > end
        edges = _edges(unit, (start, end), letters, trust=trust, before_pause=pause)
        phonemes += [Phoneme(symbol, a, b) for symbol, (a, b) in zip(unit.symbols, pairwise(edges), strict=True)]
        words += _words(unit, (start, end), letters)
        reached = end
    if letters.end > reached:
        phonemes.append(Phoneme("", reached, letters.end))
    return tuple(phonemes), tuple(words)


def _spans(text: str, units: Sequence[Unit], letters: Letters) -> list[Span]:
    """Return when each unit begins and ends, in order, apart or touching.

    Short gaps without punctuation are shared; a unit with less time than its sounds take gets some of the pause after.
    """
    spans: list[Span] = []
    for unit in units:
        read = [
            time
            for index in range(unit.begin, unit.stop)
            if (time := letters.times[index]) is not None and is_letter(text[index])
        ] or letters.read_between(unit.begin, unit.stop)
        spans.append((read[0][0], read[-1][1]))
    for index, unit in enumerate(units):
        start, end = spans[index]
        room = max(end, letters.end)
        if index + 1 < len(units):
            room, stop = spans[index + 1]
            if room - end <= BRIDGED_SECONDS and not _PAUSING.search(text[unit.stop : units[index + 1].begin]):
                room = end = end + (room - end) / 2
                spans[index + 1] = (room, stop)
        spans[index] = (start, min(max(end, start + LEAST_SECONDS * len(unit.symbols)), room))
    return spans


def _with_time(units: Sequence[Unit], spans: Sequence[Span]) -> list[tuple[Unit, Span]]:
    """Let units without time share that of those they touch, by the number of sounds; leave out who touches none."""
    groups: list[list[int]] = []
    for index, (start, end) in enumerate(spans):
        touching = bool(groups) and spans[groups[-1][-1]][1] == start
        if touching and min(end - start, start - spans[groups[-1][0]][0]) < _NOTHING:
            groups[-1].append(index)
        else:
            groups.append([index])
    timed: list[tuple[Unit, Span]] = []
    for group in groups:
        start, end = spans[group[0]][0], spans[group[-1]][1]
        if end - start < _NOTHING:
            continue
        counts = list(accumulate((len(units[index].symbols) for index in group), initial=0))
        edges = [start + (end - start) * (count / counts[-1]) for count in counts[:-1]] + [end]
        timed += [(units[index], span) for index, span in zip(group, pairwise(edges), strict=True)]
    return timed


def _trust(units: Sequence[Unit], letters: Letters) -> float:
    """Return how much the letters' own times count, 0 to 1: not at all where they are even inside the words."""
    spreads = []
    for unit in units:
        lengths = [end - start for start, end in letters.read_between(unit.begin, unit.stop)]
        if len(lengths) >= _FEWEST_LETTERS and sum(lengths) > 0:
            spreads.append(statistics.pstdev(lengths) / statistics.fmean(lengths))
    if not spreads:
        return 0.0
    return _MOST_TRUST * min(max((statistics.median(spreads) - _EVEN) / (_UNEVEN - _EVEN), 0.0), 1.0)


def _edges(unit: Unit, span: Span, letters: Letters, *, trust: float, before_pause: bool) -> list[float]:
    """Return where the sounds of a unit begin, and where the last ends: increasing, the outer ones those of `span`."""
    start, end = span
    shares = relative_durations(unit.symbols, before_pause=before_pause)
    usual = [start + (end - start) * part for part in accumulate(shares, initial=0.0)]
    spelt = [
        (letter, time)
        for label, begin in unit.labels
        for letter, time in zip(label, letters.times[begin : begin + len(label)], strict=True)
        if is_letter(letter) and time is not None
    ]
    if trust > 0 and len(spelt) > 1:
        first = first_letters(unit.symbols, [letter for letter, _ in spelt])
        heard = _by_letters(first, shares, [time[0] for _, time in spelt], span)
        usual = [(1 - trust) * one + trust * two for one, two in zip(usual, heard, strict=True)]
    return [start, *usual[1:-1], end]


def _by_letters(first: Sequence[int], shares: Sequence[float], onsets: Sequence[float], span: Span) -> list[float]:
    """Return edges at the onsets of the letters that the sounds begin with; sounds of one letter share its time."""
    start, end = span
    edges: list[float] = []
    for index, letter in enumerate(first):
        peers = [number for number, other in enumerate(first) if other == letter]
        following = peers[-1] + 1
        begin = start if letter == first[0] else onsets[letter]
        stop = end if following == len(first) else onsets[first[following]]
        before = sum(shares[peers[0] : index]) / sum(shares[number] for number in peers)
        edges.append(min(max(begin + (stop - begin) * before, start), end))
    return [*edges, end]


def _words(unit: Unit, span: Span, letters: Letters) -> list[Word]:
    """Return the words of a unit, from letter to letter; by their length where these have no time."""
    start, end = span
    onsets = [read[0][0] if (read := letters.read_between(begin, begin + len(label))) else start
              for label, begin in unit.labels[1:]]  # fmt: skip
    edges = [start, *onsets, end]
    if any(two <= one for one, two in pairwise(edges)):
        counts = list(accumulate((len(label) for label, _ in unit.labels), initial=0))
        edges = [start + (end - start) * (count / counts[-1]) for count in counts[:-1]] + [end]
    return [Word(label, a, b) for (label, _), (a, b) in zip(unit.labels, pairwise(edges), strict=True)]
