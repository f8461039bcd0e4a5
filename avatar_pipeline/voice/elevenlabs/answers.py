"""What ElevenLabs answers, as far as we ask: plain data, none of the SDK's types."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_CEILING, Decimal

RATE = 24_000
OUTPUT_FORMAT = "pcm_24000"
"""Raw samples: an MP3 encoder would delay them by an unknown few milliseconds. Higher rates need a larger plan."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """Characters and their times in seconds, as the provider gave them: nothing is sure about them yet."""

    characters: tuple[str, ...]
    starts: tuple[float, ...]
    ends: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """Spoken audio, 16-bit PCM at 24 kHz, and what the answer's headers say."""

    pcm: bytes
    alignment: Alignment | None
    credits: int | None
    request_id: str | None
    maximum: int | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """What a model takes and costs."""

    model_id: str
    group: str
    longest_text: int
    multiplier: Decimal
    languages: frozenset[str]

    def credits(self, characters: int) -> Decimal:
        """Return what so many characters cost, rounded up as the provider does."""
        return (characters * self.multiplier).to_integral_value(ROUND_CEILING)


@dataclass(frozen=True, slots=True)
class Subscription:
    """What the account has left. `credits_left` is None where it has no end."""

    credits_left: Decimal | None
    resets_at: datetime | None
    voices: int
    voices_used: int
    may_clone: bool
    voice_changes_left: int | None


@dataclass(frozen=True, slots=True)
class RemoteVoice:
    """A voice at ElevenLabs."""

    voice_id: str
    name: str
    verified: bool


@dataclass(frozen=True, slots=True)
class HistoryItem:
    """Something that was spoken before."""

    item_id: str
    request_id: str | None
    voice_id: str | None
    voice_name: str | None
    model_id: str | None
    text: str
    at: datetime
    credits: int
    output_format: str | None
