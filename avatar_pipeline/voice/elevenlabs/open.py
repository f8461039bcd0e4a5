"""Put an ElevenLabs provider together from settings and the ledger's books."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from pydantic import SecretStr

from avatar_pipeline.clock import Clock, utc_now
from avatar_pipeline.errors import AccountRefused
from avatar_pipeline.settings import Settings
from avatar_pipeline.voice.elevenlabs.backoff import Backoff
from avatar_pipeline.voice.elevenlabs.batch import THREADS
from avatar_pipeline.voice.elevenlabs.cache import SpeechCache
from avatar_pipeline.voice.elevenlabs.door import Door
from avatar_pipeline.voice.elevenlabs.gate import Gate
from avatar_pipeline.voice.elevenlabs.patience import Patience
from avatar_pipeline.voice.elevenlabs.ports import ChargeBook, LeaseBook, VoiceBook
from avatar_pipeline.voice.elevenlabs.provider import ElevenLabsProvider, PhonemesOf
from avatar_pipeline.voice.elevenlabs.slots import Slots
from avatar_pipeline.voice.elevenlabs.speaker import GRACE_SECONDS, Speaker
from avatar_pipeline.voice.elevenlabs.till import Till
from avatar_pipeline.voice.provider import Permit, always
from avatar_pipeline.voice.types import CharacterTime, Phoneme, VoiceModel, Word

KEEP_DAYS = 14.0
"""Cached speech is there for what was interrupted; what is finished is in the store."""


def open_elevenlabs(
    settings: Settings,
    leases: LeaseBook,
    charges: ChargeBook,
    voices: VoiceBook,
    *,
    cache_folder: Path,
    enrolments: Callable[[VoiceModel], Path | None],
    clock: Clock = utc_now,
    sleep: Callable[[float], None] = time.sleep,
    random: Random | None = None,
    backoff: Backoff | None = None,
    grace: float = GRACE_SECONDS,
    phonemes: PhonemesOf | None = None,
    threads: int = THREADS,
    holder: str | None = None,
    permit: Permit = always,
    account_voice: str | None = None,
) -> ElevenLabsProvider:
    """Return the provider that the settings describe.

    `leases`, `charges` and `voices` are the ledger's books, shared by all workers. `cache_folder` is a local folder for
    speech that was paid for. `enrolments` finds the WAV file of a voice that was parked and must be made again.

    `backoff` are the pauses between tries, `random` spreads them, and `grace` is how many seconds after a call came to
    nothing its outcome may still appear in the account's history. `threads` is how many parts are worked on at once,
    waiting for their turn or not; `holder` is who this worker is to people who read the ledger. `permit` is asked right
    before a part of an utterance is sent. `account_voice` is the id of the account's voice that `create_voice` returns
    where there is no enrolment.

    Raises:
        AccountRefused: there is no key, or it is none.
    """
    key = _usable(settings.elevenlabs_api_key)
    patience = Patience(backoff or Backoff(), sleep=sleep, random=random)
    door = Door(
        key,
        residency=settings.elevenlabs_residency,
        url=settings.elevenlabs_url,
        timeout=settings.elevenlabs_timeout_seconds,
    )
    gate = Gate(leases, start=settings.elevenlabs_concurrency, holder=holder or _whoami(), clock=clock)
    till = Till(door, charges, patience, clock=clock)
    slots = Slots(door, voices, gate, till, patience)
    cache = SpeechCache(cache_folder)
    cache.prune(KEEP_DAYS)
    speaker = Speaker(door, gate, till, slots, cache, patience, enrolments=enrolments, clock=clock, grace=grace)
    return ElevenLabsProvider(
        door,
        gate=gate,
        till=till,
        slots=slots,
        speaker=speaker,
        cache=cache,
        patience=patience,
        model=settings.elevenlabs_model,
        seed=settings.elevenlabs_seed,
        price=settings.elevenlabs_price_per_1000_credits,
        phonemes=phonemes or _phonemes,
        clock=clock,
        threads=threads,
        permit=permit,
        account_voice=account_voice,
    )


def _phonemes(
    text: str, characters: Sequence[CharacterTime], language: str
) -> tuple[tuple[Phoneme, ...], tuple[Word, ...]]:
    from avatar_pipeline.voice.alignment import phonemes_of_characters

    return phonemes_of_characters(text, characters, language)


def _usable(key: SecretStr | None) -> SecretStr:
    text = key.get_secret_value().strip() if key is not None else ""
    if not text:
        raise AccountRefused(
            "There is no key for ElevenLabs.",
            remedy="Set AVATAR_ELEVENLABS_API_KEY (or ELEVENLABS_API_KEY), or AVATAR_VOICE_PROVIDER=local.",
        )
    if not text.isascii() or not text.isprintable() or " " in text:
        # Found here: as a header it would make an error that quotes it.
        raise AccountRefused(
            "The key for ElevenLabs holds characters that no key has.",
            remedy="Copy it again into AVATAR_ELEVENLABS_API_KEY, without quotes and without line breaks.",
        )
    return SecretStr(text)


def _whoami() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"
