"""A desk for tests of the hosted voice: the stand-in, a ledger, and providers as workers have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from avatar_pipeline.consent import ConsentRecord
from avatar_pipeline.errors import AvatarError
from avatar_pipeline.ledger.charges import Charges
from avatar_pipeline.ledger.leases import Leases
from avatar_pipeline.ledger.ledger import Ledger
from avatar_pipeline.ledger.voices import VoiceBook
from avatar_pipeline.media.audio import write_wav
from avatar_pipeline.media.types import Audio
from avatar_pipeline.settings import Settings
from avatar_pipeline.voice.elevenlabs import ElevenLabsProvider, open_elevenlabs
from avatar_pipeline.voice.elevenlabs.backoff import Backoff
from avatar_pipeline.voice.provider import Spoken, Utterance
from avatar_pipeline.voice.types import NATURAL, CharacterTime, Phoneme, Speech, VoiceModel, VoiceSettings, Word
from tests.elevenlabs.server import StandIn

STOCK = "21m00Tcm4TlvDq8ikWAM"
NAME = "elevenlabs"
CONSENT = ConsentRecord(
    consent_id="consent-1",
    subject="Ada",
    statement="I agree that my voice is used for my avatar.",
    statement_version="1",
    scope=frozenset({"voice"}),
    given_at=datetime(2025, 1, 1, tzinfo=UTC),
)


def no_phonemes(
    text: str, characters: Sequence[CharacterTime], language: str
) -> tuple[tuple[Phoneme, ...], tuple[Word, ...]]:
    """One phoneme for all: what phonemes are made of characters is tested elsewhere."""
    return (Phoneme("a", 0.0, characters[-1].end),), (Word(text, characters[0].start, characters[-1].end),)


def stock_voice(language: str = "en") -> VoiceModel:
    return VoiceModel(provider=NAME, language=language, label="stock", parameters={"voice_id": STOCK})


def babble(seconds: float = 8.0, seed: int = 0) -> Audio:
    """Something that the speech detector takes for speech: a buzz that comes and goes like syllables."""
    rate = 24_000
    time = np.arange(round(seconds * rate)) / rate
    buzz = np.sign(np.sin(2 * np.pi * (120 + 10 * seed) * time)) * (0.5 + 0.5 * np.sin(2 * np.pi * 4 * time)) ** 2
    noise = np.random.default_rng(seed).normal(0, 0.0005, len(time))
    return Audio((0.2 * buzz + noise).astype(np.float32), rate)


@dataclass
class Desk:
    """One account, one ledger, one folder for caches; `worker()` is a worker that just started."""

    folder: Path
    standin: StandIn
    ledger: Ledger
    enrolments: dict[str, Path] = field(default_factory=dict)
    offset: float = 0.0

    def __post_init__(self) -> None:
        self.leases = Leases(self.ledger.engine, clock=self.clock)
        self.charges = Charges(self.ledger.engine, clock=self.clock)
        self.voices = VoiceBook(self.ledger.engine, clock=self.clock)

    def clock(self) -> datetime:
        """The time now, and what a test added to it."""
        return datetime.fromtimestamp(datetime.now(UTC).timestamp() + self.offset, UTC)

    def worker(self, *, cache: str = "cache", key: str | None = None, **changes: Any) -> ElevenLabsProvider:
        settings = {
            "AVATAR_ELEVENLABS_API_KEY": key or self.standin.api_key,
            "elevenlabs_url": self.standin.url,
            "elevenlabs_timeout_seconds": 0.6,
        }
        options: dict[str, Any] = {"phonemes": no_phonemes, "backoff": Backoff(0.005, 0.02, 5), "grace": 0.15}
        for name, value in changes.items():
            (settings if name.startswith("elevenlabs_") else options)[name] = value
        return open_elevenlabs(
            Settings(**settings),
            self.leases,
            self.charges,
            self.voices,
            cache_folder=self.folder / cache,
            enrolments=lambda voice: self.enrolments.get(str(voice.parameters.get("voice_key"))),
            clock=self.clock,
            random=Random(1),
            **options,
        )

    def promised(self, owner: str = "ada") -> VoiceModel:
        """A cloned voice of which only the enrolment is there: ElevenLabs gets it when it is to speak."""
        voice_key = f"{owner}-0123456789abcdef"
        path = self.folder / f"{owner}.wav"
        write_wav(path, babble(1.0))
        self.enrolments[voice_key] = path
        return VoiceModel(
            provider=NAME, language="en", label="cloned", consent_id="consent-1", parameters={"voice_key": voice_key}
        )

    def cloned(self, worker: ElevenLabsProvider, owner: str = "ada", seed: int = 0) -> VoiceModel:
        """A cloned voice, with its enrolment kept."""
        voice = worker.create_voice(babble(seed=seed), CONSENT, language="en", owner=owner)
        path = self.folder / f"{owner}.wav"
        write_wav(path, babble(seed=seed))
        self.enrolments[str(voice.parameters["voice_key"])] = path
        return voice


def speak(
    worker: ElevenLabsProvider, *texts: str, voice: VoiceModel | None = None, settings: VoiceSettings = NATURAL
) -> list[Spoken]:
    """What becomes of some texts, in their order."""
    batch = [Utterance(str(i), voice or stock_voice(), text, settings) for i, text in enumerate(texts)]
    done = {spoken.utterance.key: spoken for spoken in worker.synthesize(batch)}
    assert len(done) == len(texts)
    return [done[str(i)] for i in range(len(texts))]


def speech(spoken: Spoken) -> Speech:
    assert spoken.error is None, spoken.error
    assert spoken.speech is not None
    return spoken.speech


def error(spoken: Spoken) -> AvatarError:
    assert spoken.error is not None
    return spoken.error
