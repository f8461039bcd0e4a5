"""Consent at the moment of work: asked for again by every stage that uses a person's face or voice."""

from __future__ import annotations

from pathlib import Path

from avatar_pipeline.consent import Scope
from avatar_pipeline.errors import NotFound
from avatar_pipeline.ledger.records import AvatarRecord
from avatar_pipeline.stages.line import Line
from avatar_pipeline.store.artifacts import Recipe, Slot

RECORDING = "consent_recording"
RECORDING_VERSION = "1"
RECORDING_FILE = "recording"


def require_consent(line: Line, avatar: AvatarRecord, scope: Scope) -> None:
    """Check that the avatar's consent was not taken back and covers `scope` now.

    Raises:
        ConsentRevoked: it was taken back.
        ConsentMissing: it does not cover it, is not in force yet, or no longer; the message says why.
    """
    line.consents.require_not_revoked(avatar.consent.consent_id)
    avatar.consent.require(scope, line.clock())


def consent_recording(line: Line, avatar: AvatarRecord) -> Path | None:
    """Return a local path of the recording in which the person consents; None if their record names none.

    `media.recording.read_recording` reads it, whatever kind of file it is.

    Raises:
        NotFound: the record names one, and it was not kept.
    """
    recipe = recording_recipe(avatar.id, avatar.consent.evidence_sha256 or "")
    if avatar.consent.recording is None:
        return None
    artifact = line.store.find(recipe.slot, recipe.key)
    if artifact is None:
        raise NotFound(
            f"The consent recording of {avatar.id} ({avatar.consent.recording}) is not in the store.",
            remedy="Call avatar create again with the same video and consent, the recording beside the consent file.",
        )
    return line.store.local(artifact, RECORDING_FILE)


def recording_recipe(avatar_id: str, sha256: str) -> Recipe:
    """Return where and under which key the recording of a consent is kept."""
    return Recipe(Slot.avatar(avatar_id, RECORDING), RECORDING_VERSION, {"sha256": sha256}, {})
