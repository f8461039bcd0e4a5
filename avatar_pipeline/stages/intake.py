"""Taking in an upload: everything that can be known to be wrong is said before anything is kept."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from avatar_pipeline.consent import ConsentRecord, require_recording
from avatar_pipeline.errors import ConsentMissing, InvalidInput, InvalidMedia, NotFound
from avatar_pipeline.ids import require_slug
from avatar_pipeline.ledger.records import AvatarRecord
from avatar_pipeline.stages.consent import RECORDING_FILE, recording_recipe
from avatar_pipeline.stages.line import Line, require_owner
from avatar_pipeline.store.artifacts import Artifact, Recipe, Slot
from avatar_pipeline.store.keys import file_sha256
from avatar_pipeline.voice.text import check_text
from avatar_pipeline.voice.types import DEFAULT_GREETING, DEFAULT_VOICE, VOICE_PATTERN

UPLOAD = "upload"
UPLOAD_DELETION = "upload_deletion"
"""What retention leaves in an upload's place."""


def register_avatar(
    line: Line,
    avatar_id: str,
    video: Path,
    consent: ConsentRecord,
    *,
    voice: str = DEFAULT_VOICE,
    greeting: str = DEFAULT_GREETING,
    recording: Path | None = None,
) -> AvatarRecord:
    """Check an upload, keep a copy under its content hash, and write the avatar into the ledger.

    `voice` is 'enrol:<language>' (the voice in the video is matched) or 'local:<language>' (a stock voice; the video
    may be silent). `recording` is the file that the consent names, if it names one. Registering the same avatar again
    changes nothing.

    Raises:
        ConsentRevoked: the consent was taken back; nothing was changed.
        InvalidInput: an id, the video, its speech, the consent or a text cannot be used (the subclass says which);
            nothing was kept.
        Conflict: the id is taken by another upload.
    """
    from avatar_pipeline.media.probe import probe

    require_slug(avatar_id, "avatar id")
    line.consents.require_not_revoked(consent.consent_id)
    if line.ledger.has_avatar(avatar_id):
        # First of all, even if nothing else can be used: a revocation must take effect.
        line.ledger.set_consent(avatar_id, consent)
    video = video.absolute()
    if not re.fullmatch(VOICE_PATTERN, voice):
        raise InvalidInput(
            f"voice {voice[:40]!r} is not a voice.",
            remedy="Use enrol:<language> for the voice of the video, local:<language> for a stock voice, or "
            "elevenlabs:<id> for a voice of the ElevenLabs account.",
        )
    check_text(greeting, "The greeting")
    now = line.clock()
    consent.require("likeness", now)
    probe(video, line.settings.limits)
    if voice.startswith("enrol:"):
        consent.require("voice", now)
        _require_speech(video)
    _check_recording(line, consent, recording)
    recipe = Recipe(Slot.avatar(avatar_id, UPLOAD), "1", {"sha256": file_sha256(video)}, {})
    # The row comes first: if the id is taken by another upload, that one's files are not touched.
    avatar = line.ledger.register_avatar(
        avatar_id,
        voice=voice,
        greeting=greeting,
        upload_key=recipe.key,
        source_name=video.name[-255:],
        consent=consent,
    )
    line.store.sweep(now)
    _keep(line, recipe, video, "video")
    if recording is not None and consent.evidence_sha256 is not None:
        _keep(line, recording_recipe(avatar_id, consent.evidence_sha256), recording, RECORDING_FILE)
    # Taken back meanwhile: what deletes it may have been here before the files were.
    require_owner(line, recipe.slot)
    return avatar


def remove_avatar(line: Line, avatar_id: str) -> None:
    """Delete an avatar: its voice at the provider, its artifacts, its rows, and the batches that were its alone.

    A batch that holds other avatars' requests too keeps its manifest.

    Raises:
        NotFound: there is no such avatar.
    """
    from avatar_pipeline.stages.voice import delete_voice

    delete_voice(line, avatar_id)
    alone = batches_of(line, avatar_id)
    line.store.delete_owner("avatars", avatar_id)
    for batch_id in alone:
        line.store.delete_owner("clip-batches", batch_id)
    # The row goes last: an interrupted removal can be called again.
    line.ledger.delete_avatar(avatar_id, batches=alone)


def batches_of(line: Line, avatar_id: str) -> list[str]:
    """Return the ids of the clip batches that hold requests of this avatar and of no other."""
    return line.requests.batches_of(avatar_id)


def upload_of(line: Line, avatar: AvatarRecord) -> tuple[Artifact, Path]:
    """Return an avatar's kept upload: the artifact and a local path of the video.

    Raises:
        ConsentRevoked: the person took their consent back.
        NotFound: it is not kept any more.
    """
    line.consents.require_not_revoked(avatar.consent.consent_id)
    artifact = line.store.current(Slot.avatar(avatar.id, UPLOAD))
    deletion = line.store.current(Slot.avatar(avatar.id, UPLOAD_DELETION)) if artifact is None else None
    if deletion is not None:
        raise NotFound(
            f"The upload of {avatar.id} ({avatar.source_name}) was deleted on {deletion.facts['deleted_on']}: "
            f"AVATAR_KEEP_UPLOADS_DAYS is {deletion.facts['keep_days']}.",
            remedy="To make it anew, call avatar create again with the same video.",
        )
    if artifact is None:
        raise NotFound(
            f"The upload of {avatar.id} ({avatar.source_name}) is not in the store.",
            remedy="Call avatar create again with the same video.",
        )
    (name,) = artifact.files
    return artifact, line.store.local(artifact, name)


def _require_speech(video: Path) -> None:
    from avatar_pipeline.media.audio import read_audio
    from avatar_pipeline.voice.activity import measure_speech, require_speech

    require_speech(measure_speech(read_audio(video)), video.name)


def _check_recording(line: Line, consent: ConsentRecord, recording: Path | None) -> None:
    """Check that the recording is there if the consent names one, is the one that it names, and can be listened to."""
    if consent.recording is None:
        return
    if recording is None:
        raise ConsentMissing(
            f"Consent {consent.consent_id} names the recording {consent.recording}, which was not given.",
            remedy="Put it beside the consent file.",
        )
    require_recording(recording, consent)
    from avatar_pipeline.media.recording import read_recording
    from avatar_pipeline.voice.activity import measure_speech, require_speech

    require_speech(measure_speech(read_recording(recording, line.settings.limits)), f"The consent's {recording.name}")


def _keep(line: Line, recipe: Recipe, source: Path, name: str) -> None:
    if line.store.find(recipe.slot, recipe.key) is None:
        with line.store.create(recipe) as draft:
            shutil.copyfile(source, draft.folder / name)
            if file_sha256(draft.folder / name) != recipe.inputs["sha256"]:
                raise InvalidMedia(f"{source.name} changed while it was read.", remedy="Wait until it is whole.")
    artifact = line.store.find(recipe.slot, recipe.key)
    if artifact is not None:
        line.store.point(artifact)
