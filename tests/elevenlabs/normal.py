"""A text as the API normalises it, for the second alignment: spelled out, so that it differs from what was sent."""

from __future__ import annotations

from tests.elevenlabs.letters import Times

SPELLED = dict(
    zip("0123456789", ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"], strict=True),
    **{"&": "and", "%": "percent", "@": "at"},
)


def normalised(times: Times) -> Times:
    """Spell out digits and signs; the letters share the time of what they stand for."""
    characters: list[str] = []
    edges: list[tuple[float, float]] = []
    for character, start, end in zip(times.characters, times.starts, times.ends, strict=True):
        spelled = SPELLED.get(character, character)
        step = (end - start) / len(spelled)
        characters += spelled
        edges += [(start + index * step, start + (index + 1) * step) for index in range(len(spelled))]
    return Times(tuple(characters), tuple(start for start, _ in edges), tuple(end for _, end in edges))
