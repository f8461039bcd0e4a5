"""Which letters write which sounds: by hand for words that are hard, by rule for any."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar_pipeline.voice.durations import relative_durations
from avatar_pipeline.voice.spelling import first_letters, latin_letters

SYMBOLS = ["p", "b", "ˈaɪ", "ə", "tʃ", "ŋ", "k", "s", "oʊ", "ɹ", "x", "ʔ", "?", ""]


def groups(word: str, symbols: str) -> str:
    """Show the letters of each sound, as 'l|igh|t'; a sound without letters of its own shows as '+'."""
    first = (*first_letters(symbols.split(), list(word)), len(word))
    return "|".join(word[a:b] or "+" for a, b in itertools.pairwise(first))


@pytest.mark.parametrize(
    ("symbols", "spelling"),
    [
        ("l ˈaɪ t", "l|igh|t"),
        ("b ˈʌ ɾ ɚ", "b|u|tt|er"),
        ("b ˈoʊ t", "b|oa|t"),
        ("θ ˈɔː t", "th|ough|t"),
        ("n ˈaɪ t", "kn|igh|t"),
        ("b ˈɑː k s", "b|o|+|x"),
        ("f ˈoʊ n", "ph|o|ne"),
        ("k j ˈuː", "q|u|eue"),
        ("s ˈɪ ŋ ɪ ŋ", "s|i|ng|i|ng"),
        ("m ˈɛ ʒ ɚ", "m|ea|sur|e"),
        ("p rʲ i vʲ ˈe t", "п|р|и|в|е|т"),
        ("k a l i m ˈe r a", "κ|α|λ|η|μ|έ|ρ|α"),
        ("k a s a", "+|か|+|さ"),
    ],
)
def test_letters_go_with_the_sounds_they_write(symbols: str, spelling: str) -> None:
    word = spelling.replace("|", "").replace("+", "")
    assert groups(word, symbols) == spelling


def test_letters_of_any_script_are_read_by_their_names() -> None:
    assert latin_letters("É") == {"e"}
    assert latin_letters("ш") == {"s", "h"}
    assert latin_letters("ß") == {"s"}
    assert latin_letters("β") == {"b"}
    assert latin_letters("漢") == latin_letters("7") == latin_letters("\ue000") == frozenset()


@given(st.lists(st.sampled_from(SYMBOLS), max_size=8), st.text("abcdeghxyzéпж漢7ा", max_size=10))
def test_sounds_begin_in_order_within_the_word(symbols: list[str], letters: str) -> None:
    first = first_letters(symbols, list(letters))
    assert len(first) == len(symbols)
    assert list(first) == sorted(first)
    if symbols and letters:
        assert first[0] == 0
        assert first[-1] < len(letters)


@given(st.lists(st.sampled_from(SYMBOLS), min_size=1, max_size=12), st.booleans())
def test_shares_of_time_are_positive_and_sum_to_one(symbols: list[str], before_pause: bool) -> None:
    shares = relative_durations(symbols, before_pause=before_pause)
    assert min(shares) > 0
    assert sum(shares) == pytest.approx(1.0)


def test_stress_length_and_a_pause_make_vowels_longer() -> None:
    def vowel(symbol: str, *, before_pause: bool = False) -> float:
        return relative_durations(["t", symbol, "t"], before_pause=before_pause)[1]

    assert vowel("ə") < vowel("ɪ") < vowel("ˈɪ") < vowel("ˈiː") < vowel("ˈaɪ")
    before = relative_durations(["b", "ə", "t", "ˈaɪ"], before_pause=True)
    inside = relative_durations(["b", "ə", "t", "ˈaɪ"])
    assert before[3] > inside[3]
    assert before[0] < inside[0]
