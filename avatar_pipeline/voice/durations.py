"""How long sounds last beside their neighbours, for speech of which only the words' or letters' times are known.

The figures are rounded from D. H. Klatt, "Linguistic uses of segmental duration in English", JASA 59 (1976), and
T. H. Crystal and A. S. House, "Segmental durations in connected-speech signals", JASA 83 (1988): stressed vowels last
about half as long again as others, voiceless consonants longer than voiced ones, and the last syllable before a pause
is stretched. Only ratios within a word count, so that the pace of a voice does not matter.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

VOWELS = frozenset("aɑɐʌæeɛεəɜɘɤɞiɪᵻɨɯoɔɒøœɶɵuʊʉyʏɚɝᵿ")

_SHORT, _LOW, _DIPHTHONG = 88.0, 112.0, 125.0
_LOW_VOWELS = frozenset("aɑæɔɒ")
_LONG, _RHOTIC, _LONGER_DIPHTHONG = 1.2, 1.4, 1.15
_STRESSED, _UNSTRESSED = 1.15, 0.72
_REDUCED = {"ə": 52.0, "ᵻ": 52.0, "ɐ": 52.0, "ɚ": 68.0}
_AFFRICATE, _VOICED_AFFRICATE = 100.0, 65.0
_LIQUID = 64.0
_NO_LETTER = 40.0
_CONSONANTS = {
    sound: milliseconds
    for sounds, milliseconds in (
        ("ptkcqʈ", 85.0),
        ("bdɡgɟɖɢ", 58.0),
        ("sʃfθxçχɕʂɸħ", 88.0),
        ("zʒvʁɣʝβʐʑ", 66.0),
        ("hɦʔ", 60.0),
        ("ð", 48.0),
        ("mnŋɲɳɱɴ", 76.0),
        ("wjɥɰ", 76.0),
        ("ɾɽ", 42.0),
    )
    for sound in sounds
}
_BEFORE_PAUSE = 1.3
_TOWARDS_EVEN = 0.2
"""Part of the way to even shares: speakers differ, and too little contrast errs less than too much."""


def letters_of(symbol: str) -> str:
    """Return the IPA letters of a symbol, without stress, length and other marks."""
    decomposed = unicodedata.normalize("NFD", symbol)
    return "".join(c for c in decomposed if unicodedata.category(c) in ("Ll", "Lo", "Lu"))


def is_vowel(symbol: str) -> bool:
    """Tell whether a symbol has a vowel in it."""
    return not VOWELS.isdisjoint(symbol)


def _milliseconds(symbol: str) -> float:
    """Return the usual length of a sound inside a phrase."""
    letters = letters_of(symbol)
    if not letters:
        return _NO_LETTER
    vowels = [letter for letter in letters if letter in VOWELS]
    if not vowels:
        if len(letters) > 1:
            return _AFFRICATE if letters[0] in "tp" else _VOICED_AFFRICATE
        return _CONSONANTS.get(letters[0], _LIQUID)
    stress = _STRESSED if "ˈ" in symbol else 1.0 if "ˌ" in symbol else _UNSTRESSED
    if stress == _UNSTRESSED and letters in _REDUCED:
        return _REDUCED[letters]
    if len(vowels) > 1:
        length = _DIPHTHONG * (_LONGER_DIPHTHONG if len(vowels) < len(letters) else 1.0)
    else:
        length = (_LOW if vowels[0] in _LOW_VOWELS else _SHORT) * (_RHOTIC if len(letters) > 1 else 1.0)
    return length * stress * (_LONG if "ː" in symbol else 1.0)


def relative_durations(symbols: Sequence[str], *, before_pause: bool = False) -> list[float]:
    """Return the shares, summing to 1, of a word's sounds (IPA symbols) in its time."""
    usual = [_milliseconds(symbol) for symbol in symbols]
    if before_pause:
        last = max((index for index, symbol in enumerate(symbols) if is_vowel(symbol)), default=0)
        usual[last:] = [length * _BEFORE_PAUSE for length in usual[last:]]
    total = sum(usual)
    return [(1 - _TOWARDS_EVEN) * length / total + _TOWARDS_EVEN / len(usual) for length in usual]
