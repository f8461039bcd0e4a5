"""isolated_voice and voice_model: the speaker without the room, and a voice that speaks any text."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from avatar_pipeline.errors import ConsentMissing, InvalidInput, NotFound, StoreCorrupt
from avatar_pipeline.ledger.records import AvatarRecord
from avatar_pipeline.preview.images import jpeg
from avatar_pipeline.preview.sound import sound_picture
from avatar_pipeline.stages.checks import Verdict
from avatar_pipeline.stages.consent import consent_recording, require_consent
from avatar_pipeline.stages.intake import upload_of
from avatar_pipeline.stages.line import Line, StageResult, produce
from avatar_pipeline.store.artifacts import Artifact, Draft, Recipe, Slot
from avatar_pipeline.store.checkpoints import Checkpoints
from avatar_pipeline.voice.isolation.choose import open_isolator
from avatar_pipeline.voice.provider import Permit, VoiceProvider, always
from avatar_pipeline.voice.types import account_voice_id

if TYPE_CHECKING:
    from avatar_pipeline.media.types import Audio
    from avatar_pipeline.voice.types import VoiceModel

ISOLATION_VERSION = "2"
MODEL_VERSION = "2"
STOCK_PROVIDER = "local"
"""Who speaks with voices that are nobody's."""
ENROLMENT_FILE = "enrolment.wav"


def make_isolated_voice(line: Line, avatar_id: str) -> StageResult:
    """Take the speaker's voice out of the noise; for an avatar with a stock voice, say that there is nothing to do.

    Raises:
        SpeechNotUsable: the video holds no speech, and the avatar was to have its speaker's voice.
    """
    avatar = line.ledger.avatar(avatar_id)
    source = line.store.require_current(Slot.avatar(avatar_id, "source_video"))
    _, video = upload_of(line, avatar)
    isolator = open_isolator(line.settings)

    def make(draft: Draft, _: Checkpoints) -> None:
        draft.facts["enrolment"] = avatar.enrols
        if not avatar.enrols:
            return
        from avatar_pipeline.media.audio import read_audio, write_wav
        from avatar_pipeline.voice.activity import measure_speech, require_speech

        before = read_audio(video)
        line.progress("isolated_voice", 0, before.seconds)
        noisy = measure_speech(before)
        require_speech(noisy, avatar.source_name)
        after = isolator.isolate(before, partial(line.progress, "isolated_voice"))
        clean = measure_speech(after)
        write_wav(draft.folder / "voice.wav", after)
        picture = sound_picture({"before": before, "after isolation": after})
        (draft.folder / "preview.jpg").write_bytes(jpeg(picture))
        draft.facts |= {
            "seconds": round(after.seconds, 3),
            "rate": after.rate,
            "isolator": isolator.name,
            "speech_seconds": round(clean.speech_seconds, 2),
            "snr_db_before": round(noisy.snr_db, 1),
            "snr_db_after": round(clean.snr_db, 1),
            "level_dbfs": round(clean.level_dbfs, 1),
        }

    recipe = Recipe(
        Slot.avatar(avatar_id, "isolated_voice"),
        ISOLATION_VERSION,
        {"source": source.key},
        {"enrols": avatar.enrols, "isolator": isolator.fingerprint if avatar.enrols else "none"},
    )
    return produce(line, recipe, make)


def make_voice_model(line: Line, avatar_id: str) -> StageResult:
    """Make the voice that the avatar speaks with, under the consent that covers it.

    Beside the voice lies the enrolment: the best minute or two of the isolated voice, as the provider got it.

    Raises:
        ConsentMissing: a voice was to be made from speech, and no consent in force covers that, or somebody else speaks
            in the recording of the consent.
        SpeechNotUsable: too little speech is left for a voice.
        ProviderDenied: the provider refuses for good.
        ProviderBusy, QuotaExhausted, VoiceNotReady: it cannot make the voice now.
        EnvironmentProblem: the voice provider is not installed.
    """
    avatar = line.ledger.avatar(avatar_id)
    isolated = line.store.require_current(Slot.avatar(avatar_id, "isolated_voice"))
    provider = provider_for(line, avatar)
    if avatar.enrols:
        # Here and not only in `make`: consent counts when the work is asked for, even if the result is there already.
        require_consent(line, avatar, "voice")

    def make(draft: Draft, _: Checkpoints) -> None:
        draft.facts["enrolment"] = avatar.enrols
        enrolment = _enrol(line, avatar, isolated, draft) if avatar.enrols else None
        voice = provider.create_voice(enrolment, avatar.consent, language=avatar.language, owner=avatar_id)
        (draft.folder / "voice.json").write_text(voice.model_dump_json(indent=1) + "\n")
        draft.facts |= {
            "provider": voice.provider,
            "label": voice.label,
            "language": voice.language,
            "consent_id": voice.consent_id,
        }
        draft.facts |= {
            name: round(value, 3) for name, value in voice.parameters.items() if isinstance(value, int | float)
        }

    recipe = Recipe(
        Slot.avatar(avatar_id, "voice_model"),
        MODEL_VERSION,
        {"isolated_voice": isolated.key, "consent": avatar.consent.sha256},
        {"provider": provider.name, "fingerprint": provider.fingerprint, "voice": avatar.voice},
    )
    return produce(line, recipe, make)


def _enrol(line: Line, avatar: AvatarRecord, isolated: Artifact, draft: Draft) -> Audio:
    """Choose the enrolment, keep it in the draft with what was found in the recording, and return it as it is kept."""
    from avatar_pipeline.media.audio import read_audio, read_wav, write_wav
    from avatar_pipeline.voice.enrolment import choose_enrolment

    try:
        original = read_audio(upload_of(line, avatar)[1])
    except NotFound:
        original = None  # uploads are deleted after a while; what was made of them stays usable
    voice = read_wav(line.store.local(isolated, "voice.wav"))
    line.progress("voice_model", 0, voice.seconds)
    enrolment = choose_enrolment(voice, original, name=avatar.source_name)
    write_wav(draft.folder / ENROLMENT_FILE, enrolment.audio)
    picture = sound_picture({"isolated voice": voice, "enrolment": enrolment.audio})
    (draft.folder / "preview.jpg").write_bytes(jpeg(picture))
    draft.facts |= enrolment.report.facts() | {"judged_by": "isolated voice" if original is None else "recording"}
    kept = read_wav(draft.folder / ENROLMENT_FILE)
    draft.facts["consent_match"] = _match_consent(line, avatar, kept)
    line.progress("voice_model", voice.seconds, voice.seconds)
    return kept


def _match_consent(line: Line, avatar: AvatarRecord, enrolment: Audio) -> float | None:
    """Compare the enrolment with the person who consents; None if the consent has no recording.

    Raises:
        ConsentMissing: they do not sound like one person.
    """
    from avatar_pipeline.media.recording import read_recording
    from avatar_pipeline.voice.speakers import SAME_SPEAKER, same_speaker

    path = consent_recording(line, avatar)
    if path is None:
        return None
    spoken = open_isolator(line.settings).isolate(read_recording(path, line.settings.limits))
    match = same_speaker(enrolment, spoken, names=(avatar.source_name, f"The consent's {avatar.consent.recording}"))
    if not match.same:
        raise ConsentMissing(
            f"recording: the person in {avatar.consent.recording} does not sound like the one in {avatar.source_name} "
            f"(score {match.score:.0f}, at least {SAME_SPEAKER:.0f} is needed).",
            remedy="Let the person whose voice it is record the statement, in quiet, close to the microphone; "
            "or use a stock voice: --voice local:en",
        )
    return round(match.score, 1)


def voice_consent(line: Line, avatar_id: str) -> Verdict:
    """Say whether a consent in force covers making a voice of this avatar's speaker."""
    avatar = line.ledger.avatar(avatar_id)
    if not avatar.enrols:
        return Verdict("consent_present", True, "Not needed: a stock voice is nobody's.")
    try:
        require_consent(line, avatar, "voice")
    except ConsentMissing as error:
        return Verdict("consent_present", False, str(error))
    return Verdict("consent_present", True, f"Consent {avatar.consent.consent_id} covers the voice.")


def configured_provider(line: Line) -> VoiceProvider:
    """Return the provider that makes voices from speech here: `AVATAR_VOICE_PROVIDER`.

    Raises:
        AccountRefused: it needs a key, and there is none.
    """
    return provider_named(line, line.settings.voice_provider)


def provider_for(line: Line, avatar: AvatarRecord) -> VoiceProvider:
    """Return the provider that an avatar's voice is made by: the configured one, or for a stock voice its own.

    Raises:
        AccountRefused: it needs a key, and there is none.
    """
    voice_id = account_voice_id(avatar.voice)
    if voice_id is not None:
        return provider_named(line, "elevenlabs", account_voice=voice_id)
    return configured_provider(line) if avatar.enrols else provider_named(line, STOCK_PROVIDER)


def provider_named(
    line: Line, name: str, *, permit: Permit = always, account_voice: str | None = None
) -> VoiceProvider:
    """Return a provider by its name. A voice speaks by the one that made it, whatever is configured by then.

    `permit` is asked right before each utterance is spoken or sent. `account_voice` is the id of a voice that a hosted
    provider's account has, for one that is to be made without speech.

    Raises:
        AccountRefused: it needs a key, and there is none.
        InvalidInput: there is none of that name.
    """
    if name == STOCK_PROVIDER:
        from avatar_pipeline.voice.local import LocalVoiceProvider

        return LocalVoiceProvider(clock=line.clock, permit=permit)
    if name == "elevenlabs":
        from avatar_pipeline.voice.elevenlabs import open_elevenlabs

        return open_elevenlabs(
            line.settings,
            line.leases,
            line.charges,
            line.voices,
            cache_folder=line.settings.scratch / "speech-paid-for",
            enrolments=partial(_enrolment_of, line),
            clock=line.clock,
            permit=permit,
            account_voice=account_voice,
        )
    raise InvalidInput(f"There is no voice provider {name!r}.", remedy="Make the avatar's voice again.")


def _enrolment_of(line: Line, voice: VoiceModel) -> Path | None:
    """Return the WAV file that a parked voice is made from again; None if it is not kept any more.

    Raises:
        ConsentMissing: the consent is not in force any more, so it must not be made again.
    """
    record = line.voices.get(voice.provider, str(voice.parameters.get("voice_key", "")))
    if record is None or record.avatar_id is None or not line.ledger.has_avatar(record.avatar_id):
        return None
    require_consent(line, line.ledger.avatar(record.avatar_id), "voice")
    artifact, current = read_voice(line, record.avatar_id)
    if current.parameters.get("voice_key") != record.voice_key or ENROLMENT_FILE not in artifact.files:
        return None
    return line.store.local(artifact, ENROLMENT_FILE)


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
    provider_named(line, voice.provider).delete_voice(voice)
