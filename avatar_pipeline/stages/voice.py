"""isolated_voice and voice_model: the speaker without the room, and a voice that speaks any text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from avatar_pipeline.errors import ConsentMissing, StoreCorrupt
from avatar_pipeline.preview.images import jpeg
from avatar_pipeline.preview.sound import sound_picture
from avatar_pipeline.stages.checks import Verdict
from avatar_pipeline.stages.intake import upload_of
from avatar_pipeline.stages.line import Line, StageResult, produce
from avatar_pipeline.store.artifacts import Artifact, Draft, Recipe, Slot
from avatar_pipeline.store.checkpoints import Checkpoints

if TYPE_CHECKING:
    from avatar_pipeline.voice.types import VoiceModel, VoiceProvider

ISOLATION_VERSION = "1"
MODEL_VERSION = "1"


def make_isolated_voice(line: Line, avatar_id: str) -> StageResult:
    """Take the speaker's voice out of the noise; for an avatar with a stock voice, say that there is nothing to do.

    Raises:
        SpeechNotUsable: the video holds no speech, and the avatar was to have its speaker's voice.
    """
    avatar = line.ledger.avatar(avatar_id)
    source = line.store.require_current(Slot.avatar(avatar_id, "source_video"))
    _, video = upload_of(line, avatar)

    def make(draft: Draft, _: Checkpoints) -> None:
        draft.facts["enrolment"] = avatar.enrols
        if not avatar.enrols:
            return
        from avatar_pipeline.media.audio import read_audio, write_wav
        from avatar_pipeline.voice.activity import measure_speech, require_speech
        from avatar_pipeline.voice.isolation import isolate

        before = read_audio(video)
        line.progress("isolated_voice", 0, before.seconds)
        noisy = measure_speech(before)
        require_speech(noisy, avatar.source_name)
        after = isolate(before)
        line.progress("isolated_voice", before.seconds, before.seconds)
        clean = measure_speech(after)
        write_wav(draft.folder / "voice.wav", after)
        picture = sound_picture({"before": before, "after isolation": after})
        (draft.folder / "preview.jpg").write_bytes(jpeg(picture))
        draft.facts |= {
            "seconds": round(after.seconds, 3),
            "rate": after.rate,
            "speech_seconds": round(clean.speech_seconds, 2),
            "snr_db_before": round(noisy.snr_db, 1),
            "snr_db_after": round(clean.snr_db, 1),
            "level_dbfs": round(clean.level_dbfs, 1),
        }

    recipe = Recipe(
        Slot.avatar(avatar_id, "isolated_voice"),
        ISOLATION_VERSION,
        {"source": source.key},
        {"enrols": avatar.enrols, "method": "mmse-lsa"},
    )
    return produce(line, recipe, make)


def make_voice_model(line: Line, avatar_id: str) -> StageResult:
    """Make the voice that the avatar speaks with, under the consent that covers it.

    Raises:
        ConsentMissing: a voice was to be made from speech, and no consent in force covers that.
        EnvironmentProblem: the voice provider is not installed.
    """
    avatar = line.ledger.avatar(avatar_id)
    isolated = line.store.require_current(Slot.avatar(avatar_id, "isolated_voice"))
    provider = configured_provider(line)
    if avatar.enrols:
        # Here and not only in `make`: consent counts when the work is asked for, even if the result is there already.
        avatar.consent.require("voice", line.clock())

    def make(draft: Draft, _: Checkpoints) -> None:
        from avatar_pipeline.media.audio import read_wav

        enrolment = read_wav(line.store.local(isolated, "voice.wav")) if avatar.enrols else None
        voice = provider.create_voice(enrolment, avatar.consent, language=avatar.language)
        (draft.folder / "voice.json").write_text(voice.model_dump_json(indent=1) + "\n")
        draft.facts |= {
            "provider": voice.provider,
            "label": voice.label,
            "language": voice.language,
            "enrolment_seconds": round(voice.enrolment_seconds, 2),
            "consent_id": voice.consent_id,
        }
        draft.facts |= {
            name: round(value, 3) for name, value in voice.parameters.items() if isinstance(value, int | float)
        }

    recipe = Recipe(
        Slot.avatar(avatar_id, "voice_model"),
        MODEL_VERSION,
        {"isolated_voice": isolated.key, "consent": avatar.consent.sha256},
        {"provider": provider.name, "voice": avatar.voice},
    )
    return produce(line, recipe, make)


def voice_consent(line: Line, avatar_id: str) -> Verdict:
    """Say whether a consent in force covers making a voice of this avatar's speaker."""
    avatar = line.ledger.avatar(avatar_id)
    if not avatar.enrols:
        return Verdict("consent_present", True, "Not needed: a stock voice is nobody's.")
    try:
        avatar.consent.require("voice", line.clock())
    except ConsentMissing as error:
        return Verdict("consent_present", False, str(error))
    return Verdict("consent_present", True, f"Consent {avatar.consent.consent_id} covers the voice.")


def configured_provider(line: Line) -> VoiceProvider:
    """Return the voice provider that speaks for this line."""
    from avatar_pipeline.voice.local import LocalVoiceProvider

    return LocalVoiceProvider(clock=line.clock)


def read_voice(line: Line, avatar_id: str) -> tuple[Artifact, VoiceModel]:
    """Return an avatar's current voice model artifact and the voice in it.

    Raises:
        StoreCorrupt: the file does not hold a voice model.
    """
    from pydantic import ValidationError

    from avatar_pipeline.voice.types import VoiceModel

    artifact = line.store.require_current(Slot.avatar(avatar_id, "voice_model"))
    path = line.store.local(artifact, "voice.json")
    try:
        return artifact, VoiceModel.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise StoreCorrupt(f"{path} is not a voice model.", remedy="Materialize voice_model again.") from error


def delete_voice(line: Line, avatar_id: str) -> None:
    """Delete the avatar's voice at its provider, if it has one."""
    if line.store.current(Slot.avatar(avatar_id, "voice_model")) is None:
        return
    try:
        _, voice = read_voice(line, avatar_id)
    except StoreCorrupt:
        # A damaged model names no voice that could be deleted; the rest of the avatar must still be removable.
        return
    configured_provider(line).delete_voice(voice)
