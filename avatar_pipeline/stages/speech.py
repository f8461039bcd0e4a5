"""Speech of one avatar: the same text, voice and settings give the same artifact, made once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from avatar_pipeline.errors import StoreCorrupt
from avatar_pipeline.ledger.records import AvatarRecord
from avatar_pipeline.stages.consent import require_consent
from avatar_pipeline.stages.line import Line, StageResult, produce
from avatar_pipeline.stages.seal import seal_speech
from avatar_pipeline.stages.voice import provider_named, read_voice
from avatar_pipeline.store.artifacts import Draft, Recipe, Slot
from avatar_pipeline.store.checkpoints import Checkpoints
from avatar_pipeline.store.keys import Json
from avatar_pipeline.voice.provider import Permit, VoiceProvider, always, say_one
from avatar_pipeline.voice.types import NATURAL, Speech, VoiceModel, VoiceSettings

SPEECH_VERSION = "2"


class OpenProvider(Protocol):
    """How a provider is opened by its name: `provider_named`, or another where tests need one."""

    def __call__(self, line: Line, name: str, *, permit: Permit) -> VoiceProvider:
        """Return the provider."""


class Providers:
    """The providers that a line speaks with, each opened once. `permit` is asked before each utterance."""

    def __init__(self, line: Line, *, permit: Permit = always, opener: OpenProvider = provider_named) -> None:
        self._line = line
        self._permit = permit
        self._opener = opener
        self._open: dict[str, VoiceProvider] = {}

    def of(self, voice: VoiceModel) -> VoiceProvider:
        """Return the provider of a voice.

        Raises:
            AccountRefused: it needs a key, and there is none.
            InvalidInput: there is no such provider.
        """
        if voice.provider not in self._open:
            self._open[voice.provider] = self._opener(self._line, voice.provider, permit=self._permit)
        return self._open[voice.provider]


@dataclass(frozen=True, slots=True)
class SpeechPlan:
    """Something that an avatar is to say, with its current voice. `recipe` is what the speech will be known by."""

    avatar_id: str
    voice: VoiceModel
    text: str
    settings: VoiceSettings
    recipe: Recipe

    @property
    def voice_key(self) -> str:
        """Key of the voice model."""
        return self.recipe.inputs["voice_model"]


def require_may_speak(line: Line, avatar_id: str) -> AvatarRecord:
    """Check that an avatar's voice may be used at this moment, and return the avatar.

    Raises:
        NotFound: there is no such avatar any more.
        ConsentRevoked: the consent was taken back.
        ConsentMissing: the voice was made from speech, and its consent is not in force.
    """
    avatar = line.ledger.avatar(avatar_id)
    if avatar.enrols:
        require_consent(line, avatar, "voice")
    else:
        line.consents.require_not_revoked(avatar.consent.consent_id)
    return avatar


def plan_speech(
    line: Line, providers: Providers, avatar_id: str, text: str, settings: VoiceSettings = NATURAL
) -> SpeechPlan:
    """Resolve what is to be said by whom. Settings that are the defaults are no part of the key.

    Raises:
        ConsentMissing: the voice was made from speech and its consent is no longer in force.
        NotFound: there is no such avatar, or it has no voice yet.
        AccountRefused: the voice's provider needs a key, and there is none.
    """
    require_may_speak(line, avatar_id)
    model, voice = read_voice(line, avatar_id)
    params: dict[str, Json] = {
        "text": text,
        "provider": voice.provider,
        "sound": providers.of(voice).fingerprint,
    }
    if changed := settings.model_dump(exclude_defaults=True):
        params["settings"] = changed
    recipe = Recipe(Slot.avatar(avatar_id, "speech"), SPEECH_VERSION, {"voice_model": model.key}, params)
    return SpeechPlan(avatar_id, voice, text, settings, recipe)


def find_speech(line: Line, plan: SpeechPlan) -> StageResult | None:
    """Return the speech of a plan if it is in the store already."""
    if line.store.find(plan.recipe.slot, plan.recipe.key) is None:
        return None
    return produce(line, plan.recipe, _never, point=False)


def keep_speech(line: Line, plan: SpeechPlan, speech: Speech, seconds: float) -> StageResult:
    """Publish what was spoken: `speech.wav` and `timings.json` (phonemes, words, visemes).

    `seconds` is how long it took to speak; what the provider charged for it is part of the result's cost.

    Raises:
        ConsentMissing: the consent ended while it was spoken; nothing is kept.
        NotFound: the avatar was removed meanwhile.
    """
    require_may_speak(line, plan.avatar_id)

    def make(draft: Draft, _: Checkpoints) -> None:
        from avatar_pipeline.media.audio import write_wav
        from avatar_pipeline.voice.rest import with_rest
        from avatar_pipeline.voice.timings import write_timings
        from avatar_pipeline.voice.visemes import to_visemes

        rested = with_rest(speech)
        visemes = to_visemes(rested.phonemes, rested.audio.seconds)
        path = draft.folder / "speech.wav"
        write_wav(path, rested.audio)
        write_timings(draft.folder / "timings.json", rested, visemes)
        seal_speech(line, path, plan.avatar_id, draft.key, params=plan.recipe.params, voice=plan.voice_key)
        draft.facts |= {
            "seconds": round(rested.audio.seconds, 3),
            "characters": len(plan.text),
            "words": len(speech.words),
            "visemes": len(visemes),
            "exact_times": speech.exact,
            "provider_cost": str(speech.cost),
            "provider_credits": str(speech.credits),
            "provider_requests": list(speech.request_ids),
        }

    return produce(line, plan.recipe, make, point=False, earlier=seconds, bill=speech.cost)


def make_speech(line: Line, avatar_id: str, text: str, settings: VoiceSettings = NATURAL) -> StageResult:
    """Speak `text` with the avatar's voice, unless that was done before.

    Raises:
        ConsentMissing: the voice was made from speech and its consent is no longer in force.
        InvalidText: the text cannot be spoken.
        QuotaExhausted, ProviderBusy, VoiceNotReady: the provider cannot speak it now.
        ProviderDenied: the provider refuses to.
    """
    providers = Providers(line, permit=lambda _: _check(line, avatar_id))
    plan = plan_speech(line, providers, avatar_id, text, settings)
    if (found := find_speech(line, plan)) is not None:
        return found
    start = line.stopwatch()
    speech = say_one(providers.of(plan.voice), plan.voice, text, settings, reservation=line.meter.ticket)
    return keep_speech(line, plan, speech, line.stopwatch() - start)


def _check(line: Line, avatar_id: str) -> None:
    require_may_speak(line, avatar_id)


def _never(_draft: Draft, _checkpoints: Checkpoints) -> None:
    raise StoreCorrupt("Speech vanished while it was read.", remedy="Run it again.")
