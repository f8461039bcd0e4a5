"""A text in parts that the model takes, cut where a reader would pause."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

CONTEXT = 300
"""Most characters of the neighbouring text that go along, so that the voice carries on and does not begin anew."""

_ENDS = (
    re.compile(r"[.!?…。！？]+[\"'”’»)\]]*(?=\s)|(?<=[。！？])|\n\s*\n"),
    re.compile(r"[;:,、，；—–-]+(?=\s)|(?<=[、，；])"),
    re.compile(r"(?=\s)"),
)
"""Where a text may be cut, best first: after a sentence, after a clause, between words."""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a text from `start` on, without space around it, and what is before and after it."""

    text: str
    start: int
    before: str
    after: str


def split(text: str, limit: int) -> list[Part]:
    """Cut `text` into parts of at most `limit` characters; nothing but space between parts is left out.

    As many sentences as fit go into a part. What has no pause within the limit is cut between words, and a word that is
    longer than the limit anywhere.
    """
    pieces = list(_pieces(text, limit))
    return [Part(text[start:end], start, _last(text[:start]), _first(text[end:])) for start, end in pieces]


def _pieces(text: str, limit: int) -> Iterator[tuple[int, int]]:
    start = 0
    while start < len(text):
        if text[start].isspace():
            start += 1
            continue
        end = _cut(text, start, limit)
        yield start, start + len(text[start:end].rstrip())
        start = end


def _cut(text: str, start: int, limit: int) -> int:
    rest = text[start:].rstrip()
    if len(rest) <= limit:
        return len(text)
    for ends in _ENDS:
        # One character more than fits is looked at: the space after the last sentence.
        found = [match.end() for match in ends.finditer(rest[: limit + 1]) if 0 < match.end() <= limit]
        if found:
            return start + found[-1]
    return start + limit


def _last(text: str) -> str:
    """Return the end of `text`, from a word on."""
    near = text.rstrip()[-CONTEXT:]
    return near if len(text.rstrip()) <= CONTEXT else near.partition(" ")[2] or near


def _first(text: str) -> str:
    near = text.lstrip()[:CONTEXT]
    return near if len(text.lstrip()) <= CONTEXT else near.rpartition(" ")[0] or near
