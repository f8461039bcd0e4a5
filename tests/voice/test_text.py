"""Which texts may be spoken."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar_pipeline.errors import InvalidText
from avatar_pipeline.voice.text import MAX_CHARACTERS, MAX_DIGITS, MAX_WORD, check_text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \n\t ", "empty"),
        ("?!... —", "nothing to speak"),
        ("a" * (MAX_CHARACTERS + 1), "5,001 characters; the limit is 5,000"),
        ("one\x00two", r"U\+0000 at position 3"),
        ("\x1b[31mred", r"U\+001B at position 0"),
        ("\x01+20s fast", r"U\+0001 at position 0"),
        ("pi is " + "3" * 41, "41 letters or digits in a row, from '3{20}'; the limit is 40"),
        ("a " + "x" * 101, "101 letters or digits in a row, from 'x{20}'; the limit is 100"),
        ("half \ud800", r"U\+D800 at position 5"),
    ],
)
def test_unspeakable_text_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(InvalidText, match=f"The script .*{reason}"):
        check_text(text, "The script")


@pytest.mark.parametrize(
    "text", ["a", "7", "Hello,\n\tworld.", "你好", "مرحبا", "abcd " * 999 + "abcd.", "9" * MAX_DIGITS, "é" * MAX_WORD]
)
def test_speakable_text_passes(text: str) -> None:
    assert check_text(text) == text


def test_space_around_is_dropped_and_letters_are_composed() -> None:
    assert check_text("  cafe\u0301 \n") == "café"


@given(st.text(max_size=60))
def test_any_text_is_either_refused_or_clean(text: str) -> None:
    try:
        spoken = check_text(text)
    except InvalidText as refusal:
        assert refusal.remedy
        return
    assert spoken == spoken.strip() == check_text(spoken)
    assert any(character.isalnum() or unicodedata.category(character)[0] in "LN" for character in spoken)
    assert not any(unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\r\t" for c in spoken)
