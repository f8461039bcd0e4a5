"""The borders of the voice room: speech with its timings, voice models, and the provider protocol."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from avatar_pipeline.consent import ConsentRecord
    from avatar_pipeline.media.types import Audio


VOICE_PATTERN = r"^(enrol|local):[a-z]{2,3}(-[a-z0-9]{1,8}){0,3}$"
"""'enrol:<language>': the voice in the video is matched; 'local:<language>': a stock voice."""
DEFAULT_VOICE = "enrol:en"
DEFAULT_GREETING = (
    "Hello, it is good to meet you. I was made from a short video, and now I can read anything that you type."
)


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
class Viseme:
    """One mouth shape, an Oculus name without prefix ('sil', 'PP', ... 'U'), from `start` to `end` in seconds."""

    name: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Speech:
    """Synthesized speech: the audio, what is said when, and what it cost."""

    audio: Audio
    phonemes: tuple[Phoneme, ...]
    words: tuple[Word, ...]
    cost: Decimal


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


class VoiceProvider(Protocol):
    """A source of voices: embedded (eSpeak NG) or hosted."""

    name: str

    def create_voice(self, enrolment: Audio | None, consent: ConsentRecord | None, *, language: str) -> VoiceModel:
        """Make a voice from isolated speech, or a stock voice where `enrolment` is None.

        Raises:
            ConsentMissing: there is an enrolment and no consent that covers voice.
            SpeechNotUsable: the enrolment holds too little speech.
        """

    def synthesize(self, voice: VoiceModel, text: str, settings: VoiceSettings = NATURAL) -> Speech:
        """Speak `text` as `settings` say. The same voice, text, settings and version give the same bytes.

        Raises:
            InvalidText: the text is empty, too long, or has nothing to speak.
        """

    def delete_voice(self, voice: VoiceModel) -> None:
        """Forget the voice, remotely too; deleting what is gone already is not an error."""
