"""Which letters of a word write which of its sounds, for any script: a monotonic alignment by dynamic programming."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache

from avatar_pipeline.voice.durations import VOWELS, letters_of

_VOWEL_LETTERS = frozenset("aeiouyw")
_WRITTEN = {
    sound: frozenset(letters)
    for sounds, letters in (
        ("p", "p"),
        ("b", "b"),
        ("m", "m"),
        ("fɸ", "fpvg"),
        ("vβʋ", "vwbf"),
        ("θ", "tcz"),
        ("ðd", "dt"),
        ("t", "tdcz"),
        ("ɾ", "rtd"),
        ("kcq", "kcqxg"),
        ("ɡgɢ", "gxk"),
        ("xχħç", "hcgjkx"),
        ("ɣʝ", "gy"),
        ("s", "scxz"),
        ("z", "zsx"),
        ("ʃɕʂ", "scxj"),
        ("ʒʑʐ", "gjszr"),
        ("n", "n"),
        ("ŋɲɴɳ", "ng"),
        ("lɫɭʎʟ", "ly"),
        ("ɹrʁʀɻ", "r"),
        ("jɥ", "yijelu"),
        ("w", "wuoq"),
        ("hɦ", "hgjw"),
    )
    for sound in sounds
    for letters in (letters,)
}
"""Latin letters that a consonant is written with in some language; vowels are written with any vowel letter."""

_MISMATCH = 1.5
_SHARED_LETTER, _SQUEEZED_IN = 0.7, 0.9
"""A sound that has no letter of its own: it is written by the letter before it, as the second of x in 'box', or not."""
_SILENT_LETTER, _SILENT_LIKE = 0.55, 0.35
"""A letter that is not heard; less where it doubles a letter of its kind before it, as in 'boat' and 'butter'."""
_OUT_OF_PLACE = 0.3


@cache
def latin_letters(character: str) -> frozenset[str]:
    """Return the Latin letters that a letter of any script stands for, by its Unicode name; none if it tells nothing.

    'é' gives e, 'ш' (CYRILLIC SMALL LETTER SHA) s and h, 'か' (HIRAGANA LETTER KA) k and a, '漢' nothing.
    """
    name = unicodedata.name(character, "").partition(" WITH ")[0]
    script, _, rest = name.partition(" ")
    word = rest.rpartition(" ")[2].lower()
    if not word.isalpha() or not word.isascii() or word == "sign" or script in ("CJK", "DIGIT"):
        return frozenset()
    if script == "GREEK":
        return frozenset(word[0])
    if script == "CYRILLIC":
        return frozenset(word) - _VOWEL_LETTERS or frozenset(word)
    return frozenset(word)


@cache
def _sounds_like(symbol: str) -> frozenset[str]:
    """Return the Latin letters that may write a sound."""
    letters = letters_of(symbol)
    if not VOWELS.isdisjoint(letters):
        return _VOWEL_LETTERS
    return frozenset().union(*(_WRITTEN.get(letter, frozenset()) for letter in letters))


def first_letters(symbols: Sequence[str], letters: Sequence[str]) -> tuple[int, ...]:
    """Return, for each sound of a word, the index of the letter it begins with; never less than the one before.

    Letters that are silent, or the second of a pair such as 'th', belong to the sound before them. Sounds that share a
    letter have the same index. The first sound begins with the first letter.
    """
    columns, rows = len(letters), len(symbols)
    if not rows or not columns:
        return (0,) * rows
    written = [latin_letters(letter) for letter in letters]
    spoken = [_sounds_like(symbol) for symbol in symbols]

    def meets(row: int, column: int) -> bool:
        letter = written[column - 1]
        return not letter or not letter.isdisjoint(spoken[row - 1])

    best = [[0.0] * (columns + 1) for _ in range(rows + 1)]
    came = [[""] * (columns + 1) for _ in range(rows + 1)]
    for row in range(rows + 1):
        for column in range(columns + 1):
            if row == column == 0:
                continue
            away = _OUT_OF_PLACE * abs(row / rows - column / columns)
            ways = []
            if row and column:
                ways.append((best[row - 1][column - 1] + (0.0 if meets(row, column) else _MISMATCH), "both"))
            if column:
                alike = row > 0 and (spoken[row - 1] == _VOWEL_LETTERS) == (written[column - 1] <= _VOWEL_LETTERS)
                ways.append((best[row][column - 1] + (_SILENT_LIKE if alike else _SILENT_LETTER), "letter"))
            if row:
                shared = column > 0 and meets(row, column)
                ways.append((best[row - 1][column] + (_SHARED_LETTER if shared else _SQUEEZED_IN), "sound"))
            cost, came[row][column] = min(ways, key=lambda way: way[0])
            best[row][column] = cost + away
    return _follow_back(came, rows, columns)


def _follow_back(came: list[list[str]], row: int, column: int) -> tuple[int, ...]:
    """Read the cheapest way backwards."""
    first = [0] * row
    while row:
        way = came[row][column]
        if way != "letter":
            row -= 1
            first[row] = column - 1 if way == "both" else max(column - 1, 0)
        column -= way != "sound"
    first[0] = 0
    return tuple(first)
