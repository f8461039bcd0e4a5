"""The borders of the voice room: speech with its timings, and voice models."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from avatar_pipeline.media.types import Audio


_LANGUAGE = r"[a-z]{2,3}(-[a-z0-9]{1,8}){0,3}"
VOICE_PATTERN = rf"^((enrol|local):{_LANGUAGE}|elevenlabs:[A-Za-z0-9]{{8,40}}(:{_LANGUAGE})?)$"
"""'enrol:<language>': the voice in the video is matched or cloned; 'local:<language>': a stock voice;
'elevenlabs:<id>' or 'elevenlabs:<id>:<language>': a voice that the ElevenLabs account has."""
DEFAULT_VOICE = "enrol:en"
DEFAULT_GREETING = (
    "Hello, it is good to meet you. I was made from a short video, and now I can read anything that you type."
)


def voice_language(voice: str) -> str:
    """Return the language of a voice that `VOICE_PATTERN` allows; English where an account's voice names none."""
    kind, _, rest = voice.partition(":")
    return rest if kind != "elevenlabs" else rest.partition(":")[2] or "en"


def account_voice_id(voice: str) -> str | None:
    """Return the id of a voice that an ElevenLabs account has, None for other voices."""
    kind, _, rest = voice.partition(":")
    return rest.partition(":")[0] if kind == "elevenlabs" else None


class VoiceSettings(BaseModel):
    """How a text is to be spoken."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    speed: float = Field(default=1.0, ge=0.5, le=2.0, description="1 is the voice's own pace, 2 twice as fast.")


NATURAL = VoiceSettings()
"""A voice as it is."""


@dataclass(frozen=True, slots=True)
class Phoneme:
    """One sound: an IPA symbol ('' is a pause) from `start` to `end`, in seconds from the first sample."""

    symbol: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Word:
    """One spoken word from `start` to `end`, in seconds from the first sample."""

    text: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class CharacterTime:
    """One character of the text as it was spoken, from `start` to `end`, in seconds from the first sample."""

    character: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Viseme:
    """One mouth shape, an Oculus name without prefix ('sil', 'PP', ... 'U'), from `start` to `end` in seconds."""

    name: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Speech:
    """Synthesized speech: the audio, what is said when, and what it cost.

    `characters` are there where the provider times letters; `exact` says that the phonemes' times are the
    synthesizer's own and not worked out from those. `cost` is in US dollars, `credits` in the provider's own unit.
    """

    audio: Audio
    phonemes: tuple[Phoneme, ...]
    words: tuple[Word, ...]
    cost: Decimal
    characters: tuple[CharacterTime, ...] = ()
    exact: bool = True
    credits: Decimal = Decimal(0)
    request_ids: tuple[str, ...] = ()


class VoiceModel(BaseModel):
    """A voice that a provider can speak with. JSON on disk; `parameters` belong to the provider."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    provider: str
    language: str
    label: str
    """What a person should know of it, such as 'voice-matched, not cloned' or 'stock voice'."""
    enrolment_sha256: str | None = None
    enrolment_seconds: float = 0.0
    consent_id: str | None = None
    parameters: dict[str, float | int | str | list[float]] = {}
