"""The times of the characters of what was spoken: those that came with it if they are true, else worked out anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from avatar_pipeline.errors import QualityTooLow
from avatar_pipeline.voice.elevenlabs.answers import RATE
from avatar_pipeline.voice.elevenlabs.cache import SpeechCache, Take
from avatar_pipeline.voice.elevenlabs.door import Door
from avatar_pipeline.voice.elevenlabs.failures import ProviderFailure
from avatar_pipeline.voice.elevenlabs.gate import Gate
from avatar_pipeline.voice.elevenlabs.keeping import keep
from avatar_pipeline.voice.elevenlabs.patience import PASSING, Patience
from avatar_pipeline.voice.elevenlabs.times import TOLERANCE, characters_of, fault_of
from avatar_pipeline.voice.elevenlabs.wanted import Order, Progress, Timed
from avatar_pipeline.voice.elevenlabs.worklist import Again

ALIGNMENT_GROUP = "forced-alignment"
_SILENCE = 2.0
"""An aligner ends with the last letter; what follows is silence, up to this many seconds."""


class Aligner:
    """Checks times, and asks for forced alignment where they are wrong; what it finds is kept with the audio."""

    def __init__(self, door: Door, gate: Gate, cache: SpeechCache, patience: Patience) -> None:
        self._door = door
        self._gate = gate
        self._cache = cache
        self._patience = patience

    def timed(self, order: Order, take: Take, progress: Progress, closed: Callable[[], bool]) -> Timed | Again:
        """Give a take the times of its characters: its own if they are true, else those of forced alignment.

        Raises:
            QualityTooLow: both are wrong.
        """
        seconds = len(take.pcm) / 2 / RATE
        fault = fault_of(take.alignment, seconds, early=_SILENCE if take.forced else TOLERANCE)
        if fault is None and take.alignment is not None:
            characters = characters_of(order.text, take.alignment, seconds)
            if characters is not None:
                return Timed(take, characters)
            fault = "it is of another text"
        try:
            with self._gate.place(ALIGNMENT_GROUP, closed):
                alignment = self._door.align(take.pcm, order.text)
        except ProviderFailure as error:
            progress.align_attempts += 1
            if error.failure.kind in PASSING and not self._patience.spent(progress.align_attempts):
                return Again(self._patience.after(progress.align_attempts, error.failure))
            raise _misaligned(fault, str(error)) from None
        again = fault_of(alignment, seconds, early=_SILENCE)
        aligned = characters_of(order.text, alignment, seconds) if alignment is not None and again is None else None
        if aligned is None:
            raise _misaligned(fault, again or "it is of another text")
        better = replace(take, alignment=alignment, forced=True)
        keep(self._cache, order, better)
        return Timed(better, aligned)


def _misaligned(fault: str | None, again: str) -> QualityTooLow:
    return QualityTooLow(
        f"ElevenLabs's alignment cannot be used ({fault}), nor can its forced alignment ({again}).",
        remedy="Change the text a little, or use another model: AVATAR_ELEVENLABS_MODEL=eleven_multilingual_v2.",
    )
