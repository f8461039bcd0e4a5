"""What is to be spoken, what was tried for it so far, and what it became."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from avatar_pipeline.voice.elevenlabs.answers import RATE, Model
from avatar_pipeline.voice.elevenlabs.cache import Take
from avatar_pipeline.voice.types import CharacterTime, VoiceModel


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be spoken. `voice_id` is that of a stock voice; one of ours is found by its key.

    `permit` is asked right before it is sent, and raises where it must not be.
    """

    voice: VoiceModel
    voice_key: str
    voice_name: str
    voice_id: str | None
    text: str
    before: str
    after: str
    speed: float
    language: str | None
    seed: int
    model: Model
    tenant: str
    reservation: str | None
    address: str
    permit: Callable[[], None]


@dataclass(slots=True)
class Progress:
    """What was tried for an order so far."""

    attempts: int = 0
    waits: int = 0
    looks: int = 0
    unclear_at: datetime | None = None
    billed: int | None = None
    billed_request: str | None = None
    align_attempts: int = 0


@dataclass(frozen=True, slots=True)
class Timed:
    """A part with the times of its characters."""

    take: Take
    characters: tuple[CharacterTime, ...]

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.take.pcm) / 2 / RATE
