"""From an utterance to what is ordered of ElevenLabs: normalised, in parts, each with the address of its speech."""

from __future__ import annotations

from functools import partial

from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.voice.elevenlabs.answers import OUTPUT_FORMAT, Model
from avatar_pipeline.voice.elevenlabs.batch import Job
from avatar_pipeline.voice.elevenlabs.cache import address_of
from avatar_pipeline.voice.elevenlabs.ports import NAME
from avatar_pipeline.voice.elevenlabs.slots import name_of
from avatar_pipeline.voice.elevenlabs.split import split
from avatar_pipeline.voice.elevenlabs.wanted import Order
from avatar_pipeline.voice.normalise import normalise
from avatar_pipeline.voice.provider import Permit, Utterance, always
from avatar_pipeline.voice.text import check_text
from avatar_pipeline.voice.types import VoiceModel

VERSION = "1"
"""Of how a text becomes speech here: splitting, normalising, settings."""
SPEEDS = (0.7, 1.2)
"""What ElevenLabs takes; beyond, the audio is stretched here."""
_LANGUAGES = {"cmn": "zh", "yue": "zh", "nb": "no", "nn": "no"}
"""ElevenLabs's names of languages that we call otherwise."""


def job_of(utterance: Utterance, model: Model, *, seed: int, permit: Permit = always) -> Job:
    """Return the parts of an utterance, to be spoken by a model. `permit` is asked right before each is sent.

    Raises:
        InvalidText: there is nothing to speak, or it cannot be spoken.
        InvalidInput: the voice is not one of ElevenLabs.
    """
    voice = utterance.voice
    voice_key, voice_id = voice_of(voice)
    text = normalise(check_text(utterance.text), voice.language)
    speed = min(max(utterance.settings.speed, SPEEDS[0]), SPEEDS[1])
    parts = split(text, model.longest_text)
    language = remote_language(voice.language) if _takes_language(model.model_id) else None
    orders = [
        Order(
            voice=voice,
            voice_key=voice_key,
            voice_name=name_of(voice_key),
            voice_id=voice_id,
            text=part.text,
            before=part.before,
            after=part.after,
            speed=speed,
            language=language,
            seed=seed,
            model=model,
            tenant=utterance.tenant,
            reservation=utterance.reservation,
            address=address_of(
                version=VERSION,
                voice=voice_key,
                model=model.model_id,
                text=part.text,
                context=[part.before, part.after],
                speed=speed,
                language=language,
                seed=seed,
                format=OUTPUT_FORMAT,
            ),
            permit=partial(permit, utterance),
        )
        for part in parts
    ]
    return Job(utterance, text, parts, orders)


def voice_of(voice: VoiceModel) -> tuple[str, str | None]:
    """Return the key of a voice, and its id if it is a stock voice.

    Raises:
        InvalidInput: the voice is not one of ElevenLabs.
    """
    if voice.provider != NAME:
        raise InvalidInput(
            f"The voice belongs to the provider {voice.provider!r}, not {NAME!r}.",
            remedy="Speak with the provider that made the voice, or make a new one.",
        )
    voice_key, voice_id = voice.parameters.get("voice_key"), voice.parameters.get("voice_id")
    if isinstance(voice_id, str) and voice_id:
        return f"stock-{voice_id}", voice_id
    if isinstance(voice_key, str) and voice_key:
        return voice_key, None
    raise InvalidInput("The voice model has neither a key nor an id.", remedy="Make the voice again.")


def remote_language(language: str) -> str:
    """Return what ElevenLabs calls a language."""
    base = language.partition("-")[0]
    return _LANGUAGES.get(base, base)


def _takes_language(model_id: str) -> bool:
    """Whether a model lets the language be said; others refuse the call then, and hear it from the text."""
    return model_id.endswith("_v2_5") or model_id.endswith("_v3")
