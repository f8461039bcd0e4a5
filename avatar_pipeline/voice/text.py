"""What may be spoken: the rules for a script, the same for every provider."""

from __future__ import annotations

import re
import unicodedata

from avatar_pipeline.errors import InvalidText

MAX_CHARACTERS = 5_000
MAX_WORD = 100
MAX_DIGITS = 40
"""Longer words and numbers are read in part only: eSpeak NG drops what does not fit its buffer without a word."""
_ALLOWED_CONTROLS = frozenset("\n\r\t")


def check_text(text: str, name: str = "The text") -> str:
    """Return `text` as it will be spoken: Unicode NFC, without space around it.

    Raises:
        InvalidText: it is empty, longer than 5,000 characters, holds control characters other than line breaks and
            tabs (or half a surrogate pair), has no letter and no digit, or has a word of more than 100 characters or a
            number of more than 40 digits. The message begins with `name`.
    """
    shorten = "Give between 1 and 5,000 characters; split a longer script into several clips."
    if len(text) > MAX_CHARACTERS:
        raise InvalidText(f"{name} has {len(text):,} characters; the limit is {MAX_CHARACTERS:,}.", remedy=shorten)
    for position, character in enumerate(text):
        if character not in _ALLOWED_CONTROLS and unicodedata.category(character) in ("Cc", "Cs"):
            raise InvalidText(
                f"{name} holds the control character U+{ord(character):04X} at position {position}.",
                remedy="Remove it; only line breaks and tabs are allowed.",
            )
    spoken = unicodedata.normalize("NFC", text).strip()
    if not spoken:
        raise InvalidText(f"{name} is empty.", remedy=shorten)
    if len(spoken) > MAX_CHARACTERS:
        raise InvalidText(f"{name} has {len(spoken):,} characters once composed.", remedy=shorten)
    if not any(unicodedata.category(character)[0] in "LN" for character in spoken):
        raise InvalidText(f"{name} has nothing to speak.", remedy="Write at least one letter or digit.")
    for pattern, limit in ((rf"\d{{{MAX_DIGITS + 1},}}", MAX_DIGITS), (rf"\w{{{MAX_WORD + 1},}}", MAX_WORD)):
        if long := re.search(pattern, spoken):
            raise InvalidText(
                f"{name} has {len(long.group()):,} letters or digits in a row, from {long.group()[:20]!r}; "
                f"the limit is {limit}.",
                remedy="Divide it with spaces or punctuation.",
            )
    return spoken
