"""Rest before and after speech: a mouth begins and ends closed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from avatar_pipeline.media.types import Audio
from avatar_pipeline.voice.types import CharacterTime, Phoneme, Speech, Word

BEFORE_SECONDS = 0.2
AFTER_SECONDS = 0.3
"""Long enough for `visemes` to take it for silence and not for a pause between sounds."""


def with_rest(speech: Speech, *, before: float = BEFORE_SECONDS, after: float = AFTER_SECONDS) -> Speech:
    """Return the speech with silence around it, to the whole sample, and all times moved along."""
    rate = speech.audio.rate
    lead, tail = round(before * rate), round(after * rate)
    shift = lead / rate
    end = speech.audio.seconds + shift
    moved = [Phoneme(p.symbol, p.start + shift, p.end + shift) for p in speech.phonemes]
    total = (len(speech.audio.samples) + lead + tail) / rate
    return replace(
        speech,
        audio=Audio(np.pad(speech.audio.samples, (lead, tail)), rate),
        phonemes=(Phoneme("", 0.0, shift), *moved, Phoneme("", end, total)),
        words=tuple(Word(w.text, w.start + shift, w.end + shift) for w in speech.words),
        characters=tuple(CharacterTime(c.character, c.start + shift, c.end + shift) for c in speech.characters),
    )
