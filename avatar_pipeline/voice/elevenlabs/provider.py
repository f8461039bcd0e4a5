"""ElevenLabs as a source of voices: instant clones of enrolled speech, and stock voices of an account."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING

from avatar_pipeline.clock import Clock
from avatar_pipeline.errors import AccountRefused, AvatarError, ConsentMissing, InvalidInput
from avatar_pipeline.voice.elevenlabs.answers import OUTPUT_FORMAT, RATE, Model
from avatar_pipeline.voice.elevenlabs.batch import THREADS, Batch, Job
from avatar_pipeline.voice.elevenlabs.cache import SpeechCache
from avatar_pipeline.voice.elevenlabs.door import Door
from avatar_pipeline.voice.elevenlabs.errors import error_of
from avatar_pipeline.voice.elevenlabs.failures import ProviderFailure
from avatar_pipeline.voice.elevenlabs.gate import Gate
from avatar_pipeline.voice.elevenlabs.orders import VERSION, job_of, remote_language, voice_of
from avatar_pipeline.voice.elevenlabs.patience import Patience
from avatar_pipeline.voice.elevenlabs.ports import NAME
from avatar_pipeline.voice.elevenlabs.reading import to_pcm, wav
from avatar_pipeline.voice.elevenlabs.slots import Slots, key_of, name_of
from avatar_pipeline.voice.elevenlabs.speaker import Speaker
from avatar_pipeline.voice.elevenlabs.till import Till
from avatar_pipeline.voice.elevenlabs.times import joined, scaled
from avatar_pipeline.voice.elevenlabs.wanted import Timed
from avatar_pipeline.voice.provider import Permit, ProviderLimits, Spoken, Utterance, always
from avatar_pipeline.voice.types import CharacterTime, Phoneme, Speech, VoiceModel, Word

if TYPE_CHECKING:
    from avatar_pipeline.consent import ConsentRecord
    from avatar_pipeline.media.types import Audio

CLONED_LABEL = "cloned (instant)"
STOCK_LABEL = "stock voice of ElevenLabs"
LONGEST_ENROLMENT = 180.0
"""Seconds; ElevenLabs advises against more."""
_FRESH = timedelta(seconds=10)

PhonemesOf = Callable[[str, Sequence[CharacterTime], str], tuple[tuple[Phoneme, ...], tuple[Word, ...]]]


class ElevenLabsProvider:
    """Voices of one ElevenLabs account.

    Its parts come from `open_elevenlabs`. `price` is US dollars per 1,000 credits; `phonemes` turns the times of
    characters into phonemes and words.
    """

    name = NAME

    def __init__(
        self,
        door: Door,
        *,
        gate: Gate,
        till: Till,
        slots: Slots,
        speaker: Speaker,
        cache: SpeechCache,
        patience: Patience,
        model: str,
        seed: int,
        price: Decimal,
        phonemes: PhonemesOf,
        clock: Clock,
        threads: int = THREADS,
        permit: Permit = always,
        account_voice: str | None = None,
    ) -> None:
        self._door = door
        self._gate = gate
        self._till = till
        self._slots = slots
        self._speaker = speaker
        self._cache = cache
        self._patience = patience
        self._model_id = model
        self._seed = seed
        self._price = price
        self._phonemes = phonemes
        self._clock = clock
        self._threads = threads
        self._permit = permit
        self._account_voice = account_voice
        self._known_model: Model | None = None

    @property
    def fingerprint(self) -> str:
        """The model, the seed, the format, and the version of what is done with a text here."""
        return f"{self._model_id}:{self._seed}:{OUTPUT_FORMAT}:{VERSION}"

    def create_voice(
        self, enrolment: Audio | None, consent: ConsentRecord | None, *, language: str, owner: str = ""
    ) -> VoiceModel:
        """Clone a voice from isolated speech. The same owner, speech and consent give the same voice, made once.

        Without an enrolment it is the account's voice that this provider was opened for.

        Raises:
            InvalidInput: there is no enrolment and no such voice was named, or the model does not speak `language`.
            ConsentMissing: no consent for voice is in force now.
            SpeechNotUsable: the enrolment holds too little speech.
            VoiceNotReady: a person must verify the voice in the ElevenLabs account first.
            ProviderDenied: the key is refused, or the plan has no cloned voices or no slot that could be freed.
            QuotaExhausted, ProviderBusy: not now.
        """
        from avatar_pipeline.voice.activity import measure_speech, require_speech

        if enrolment is None and self._account_voice is not None:
            return self.stock_voice(self._account_voice, language=language)
        if enrolment is None:
            raise InvalidInput(
                "A stock voice of ElevenLabs needs its id.", remedy="Name one of the account: --voice elevenlabs:<id>"
            )
        if consent is None:
            raise ConsentMissing(
                "There is no consent for the voice of the enrolment.",
                remedy="Give a consent file whose scope holds 'voice', or use a stock voice: --voice local:en",
            )
        consent.require("voice", self._clock())
        require_speech(measure_speech(enrolment), "The enrolment")
        samples = _pcm(enrolment)
        sha256 = hashlib.sha256(f"{enrolment.rate}:".encode() + samples).hexdigest()
        voice_key = key_of(owner, sha256, consent.consent_id)
        with _errors():
            self._require_language(language)
            self._slots.make(
                voice_key,
                lambda: wav(samples, enrolment.rate),
                owner=owner or None,
                consent_id=consent.consent_id,
                language=language,
            )
        return VoiceModel(
            provider=NAME,
            language=language,
            label=CLONED_LABEL,
            enrolment_sha256=sha256,
            enrolment_seconds=enrolment.seconds,
            consent_id=consent.consent_id,
            parameters={"voice_key": voice_key, "model": self._model_id},
        )

    def stock_voice(self, voice_id: str, *, language: str) -> VoiceModel:
        """Return a voice that the account has, to speak `language`.

        Raises:
            InvalidInput: the model does not speak `language`.
            ProviderDenied: the account has no such voice, or refuses the key.
            ProviderBusy: ElevenLabs cannot be asked now.
        """
        with _errors():
            self._require_language(language)
            self._patience.read(lambda: self._door.voice(voice_id))
        return VoiceModel(
            provider=NAME,
            language=language,
            label=STOCK_LABEL,
            parameters={"voice_id": voice_id, "model": self._model_id},
        )

    def synthesize(self, batch: Sequence[Utterance]) -> Iterator[Spoken]:
        """Speak a batch at 24 kHz; each utterance comes out once, as soon as it is done, in any order.

        A text is normalised here (`normalise`) and sent as it will be spoken: `characters` of the speech are of that.
        What was spoken before with the same voice, text and settings is not paid for again. Speech made after a call
        was cut off is looked for in the account's history before it is asked for once more. When the credits are used
        up, what is left comes out with QuotaExhausted and is not sent.

        Closing the iterator starts no more, waits for the calls in flight, and keeps what they bring.
        """
        if not batch:
            return
        try:
            with _errors():
                model = self._model()
        except AvatarError as error:
            yield from (Spoken(utterance, error=error) for utterance in batch)
            return
        jobs: list[Job] = []
        for utterance in batch:
            try:
                jobs.append(job_of(utterance, model, seed=self._seed, permit=self._permit))
            except AvatarError as error:
                yield Spoken(utterance, error=error)
        for voice_key in {order.voice_key for job in jobs for order in job.orders if order.voice_id is None}:
            self._slots.used(voice_key)
        work = Batch(jobs, self._speaker, finish=self._finish, using=self._gate.using, threads=self._threads)
        yield from work.run()

    def delete_voice(self, voice: VoiceModel) -> None:
        """Delete a cloned voice at ElevenLabs, what it spoke in the account's history, and its cached speech.

        Raises:
            ProviderDenied: the key is refused.
            ProviderBusy: ElevenLabs cannot be asked now.
        """
        voice_key, voice_id = voice_of(voice)
        if voice_id is not None:
            return  # a stock voice is not ours to delete
        # First what is here, which nobody can refuse us; and again what was spoken in the meantime.
        self._cache.remove_voice(voice_key)
        with _errors():
            ids = self._slots.delete(voice_key)
            self._forget_history(voice_key, ids)
        self._cache.remove_voice(voice_key)

    def limits(self) -> ProviderLimits:
        """Ask what the account and the model allow now.

        Raises:
            ProviderDenied: the key is refused, or there is no such model.
            ProviderBusy: ElevenLabs cannot be asked now.
        """
        with _errors():
            model = self._model()
            account = self._till.subscription(older_than=_FRESH)[1]
        return ProviderLimits(
            in_flight=self._gate.limit(model.group),
            text_characters=model.longest_text,
            credits_left=account.credits_left,
            resets_at=account.resets_at,
            voices=account.voices,
            voices_used=account.voices_used,
            languages=model.languages,
        )

    def _model(self) -> Model:
        if self._known_model is None:
            models = self._patience.read(self._door.models)
            found = next((model for model in models if model.model_id == self._model_id), None)
            if found is None:
                raise AccountRefused(
                    f"ElevenLabs has no model {self._model_id!r} that speaks for this account.",
                    remedy=f"Set AVATAR_ELEVENLABS_MODEL to one of {', '.join(sorted(m.model_id for m in models))}.",
                )
            self._known_model = found
        return self._known_model

    def _require_language(self, language: str) -> None:
        model = self._model()
        if model.languages and remote_language(language) not in model.languages:
            raise InvalidInput(
                f"The model {model.model_id} does not speak {language!r}.",
                remedy=f"It speaks {', '.join(sorted(model.languages))}.",
            )

    def _finish(self, job: Job, parts: Sequence[Timed]) -> Speech:
        import numpy as np

        from avatar_pipeline.media.types import Audio
        from avatar_pipeline.voice.tempo import slow_down

        samples = np.concatenate([np.frombuffer(part.take.pcm, "<i2") for part in parts])
        audio = Audio((samples / np.float32(32768.0)).astype(np.float32, copy=False), RATE)
        characters = joined(job.text, job.parts, [part.characters for part in parts], [part.seconds for part in parts])
        rest = job.utterance.settings.speed / job.orders[0].speed
        if abs(rest - 1.0) > 1e-9:
            audio = slow_down(audio, rest)
            characters = scaled(characters, 1 / rest)
        phonemes, words = self._phonemes(job.text, characters, job.utterance.voice.language)
        credits = sum((part.take.credits for part in parts), Decimal(0))
        return Speech(
            audio=audio,
            phonemes=phonemes,
            words=words,
            cost=credits * self._price / 1000,
            characters=characters,
            exact=False,
            credits=credits,
            request_ids=tuple(part.take.request_id for part in parts if part.take.request_id is not None),
        )

    def _forget_history(self, voice_key: str, ids: Sequence[str]) -> None:
        """Delete what a voice spoke from the history; under its name too, for a parked voice had other ids."""
        for item in self._patience.read(lambda: list(self._door.history())):
            if item.voice_id in ids or item.voice_name == name_of(voice_key):
                self._patience.read(partial(self._door.forget, item))


@contextmanager
def _errors() -> Iterator[None]:
    """Turn failures of calls into errors of this project."""
    try:
        yield
    except ProviderFailure as error:
        raise error_of(error.failure) from None


def _pcm(audio: Audio) -> bytes:
    """Return samples as 16-bit PCM, as many as ElevenLabs wants at most."""
    return to_pcm(replace(audio, samples=audio.samples[: round(LONGEST_ENROLMENT * audio.rate)]))
