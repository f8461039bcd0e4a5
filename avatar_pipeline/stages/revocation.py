"""Taking a consent back: recorded first, then everything made with it is deleted, here and at the provider.

Called again it goes on where it was: nothing but the ledger's row of the revocation decides what is to go.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from avatar_pipeline.consent import CONSENT_ID
from avatar_pipeline.errors import (
    AccountRefused,
    AvatarError,
    ConsentRevoked,
    InvalidId,
    NotFound,
    ProviderBusy,
    StoreCorrupt,
    package_missing,
)
from avatar_pipeline.ledger.records import AvatarRecord
from avatar_pipeline.ledger.retention import uploads_named_by
from avatar_pipeline.ledger.voices import VoiceRecord
from avatar_pipeline.stages.line import Line
from avatar_pipeline.stages.retention import delete_named
from avatar_pipeline.voice.types import VoiceModel


@dataclass(frozen=True, slots=True)
class Revocation:
    """What came of taking a consent back.

    `avatars` are those that were made with it, of which nothing is left but their rows; `refused` is how many requests
    it ended now; `left` says, one sentence each, what could not be deleted yet.
    """

    consent_id: str
    revoked_at: datetime
    avatars: tuple[str, ...]
    refused: int
    left: tuple[str, ...]


def revoke_consent(line: Line, consent_id: str, *, reason: str = "", even_unknown: bool = False) -> Revocation:
    """Take a consent back for good, end what is asked of its avatars, and delete all that was made with it.

    Everything goes that holds the face or the voice: upload, consent recording, isolated voice, enrolment, voice model,
    speech, head, plate, clips, what is half made of them, and the voice at the provider. The avatar's row stays, failed
    with the reason, so that what is asked of it is refused and its history can be told.

    Raises:
        NotFound: no avatar was made with this consent, and `even_unknown` does not say that this is known.
        InvalidId: it is no id of a consent.
    """
    if not re.fullmatch(CONSENT_ID, consent_id):
        raise InvalidId(
            f"consent id {consent_id[:70]!r} is not 2 to 63 of a-z, 0-9 and '-'.",
            remedy="See the ids there are: avatar consent list.",
        )
    known = any(avatar.consent.consent_id == consent_id for avatar in line.ledger.avatars())
    if not (known or even_unknown or line.consents.revoked_at(consent_id) or line.voices.of_consent(consent_id)):
        raise NotFound(
            f"No avatar was made with the consent {consent_id!r}.",
            remedy="See the ids there are: avatar consent list. To refuse it all the same when it comes: --unknown.",
        )
    # First of all, and on disk: from here on nothing new is made with it, whatever becomes of this process.
    revoked_at = line.consents.revoke(consent_id, reason=reason)
    return _carry_out(line, consent_id, revoked_at)


def finish_revocations(line: Line) -> list[Revocation]:
    """Carry out what is left of earlier revocations, and return those that had something left before.

    That is what a crash or a provider that was down kept from being deleted, and what was finished by a worker that
    had begun before.
    """
    finished = []
    for revoked in line.consents.all():
        if _left_of(line, revoked.consent_id):
            finished.append(_carry_out(line, revoked.consent_id, revoked.revoked_at))
    return finished


def anything_left(line: Line) -> bool:
    """Say, from the ledger alone, whether `finish_revocations` may have something to do."""
    avatars = line.ledger.avatars()
    return any(
        any(avatar.consent.consent_id == revoked.consent_id and not _is_over(avatar) for avatar in avatars)
        or _voices_of(line, revoked.consent_id)
        for revoked in line.consents.all()
    )


def shown_by_dagster(line: Line) -> tuple[list[str], list[str]]:
    """Return the partitions whose runs may hold pictures of people who took their consent back: avatars, batches.

    A batch may hold others' clips too; it is among these once nothing in it is left to do.
    """
    revoked = {one.consent_id for one in line.consents.all()}
    avatars = [avatar.id for avatar in line.ledger.avatars() if avatar.consent.consent_id in revoked]
    batches = {name for avatar_id in avatars for name in line.requests.finished_batches_of(avatar_id)}
    return avatars, sorted(batches)


def _carry_out(line: Line, consent_id: str, revoked_at: datetime) -> Revocation:
    error = ConsentRevoked(consent_id)
    avatars = _avatars_of(line, consent_id)
    refused = 0
    for avatar in avatars:
        if not _is_over(avatar):
            # Before its requests, or a batch would claim new ones of a ready avatar.
            line.ledger.set_avatar_state(avatar.id, "failed", error)
        refused += line.requests.refuse_avatar(avatar.id, error)
    for avatar in avatars:
        _book_voice(line, avatar)
    left = [sentence for avatar in avatars for sentence in _delete_uploads(line, avatar)]
    for avatar in avatars:
        line.store.delete_owner("avatars", avatar.id)
    # What is here is gone before a provider is waited for.
    left += _delete_remote_voices(line, consent_id)
    return Revocation(consent_id, revoked_at, tuple(avatar.id for avatar in avatars), refused, tuple(left))


def _left_of(line: Line, consent_id: str) -> bool:
    avatars = _avatars_of(line, consent_id)
    return bool(
        any(not _is_over(avatar) or line.store.has_owner("avatars", avatar.id) for avatar in avatars)
        or _voices_of(line, consent_id)
    )


def _is_over(avatar: AvatarRecord) -> bool:
    """Whether the avatar's row says already that the consent was taken back."""
    return avatar.state == "failed" and (avatar.error or {}).get("code") == ConsentRevoked.code


def _avatars_of(line: Line, consent_id: str) -> list[AvatarRecord]:
    return [avatar for avatar in line.ledger.avatars() if avatar.consent.consent_id == consent_id]


def _voices_of(line: Line, consent_id: str) -> list[VoiceRecord]:
    """Return the voices at providers that are to go: made with this consent, or of an avatar that has it.

    One of an avatar that a newer consent covers stays: who renews a consent takes back the old one and goes on.
    """
    found = {(voice.provider, voice.voice_key): voice for voice in line.voices.of_consent(consent_id)}
    for avatar in _avatars_of(line, consent_id):
        found |= {(voice.provider, voice.voice_key): voice for voice in line.voices.of_avatar(avatar.id)}
    return [
        voice
        for voice in found.values()
        if voice.state != "deleted" and not _is_covered_anew(line, voice.avatar_id, consent_id)
    ]


def _is_covered_anew(line: Line, avatar_id: str | None, consent_id: str) -> bool:
    if avatar_id is None or not line.ledger.has_avatar(avatar_id):
        return False
    consent = line.ledger.avatar(avatar_id).consent
    newer = consent.consent_id != consent_id and line.consents.revoked_at(consent.consent_id) is None
    return newer and "voice" in consent.scope


def _book_voice(line: Line, avatar: AvatarRecord) -> None:
    """Have the ledger know the voice that the voice model names, be it one that another ledger's worker made.

    The model is deleted before the voice is, and a crash in between must not make it nobody's.
    """
    from avatar_pipeline.stages.voice import read_voice

    try:
        _, voice = read_voice(line, avatar.id)
    except (NotFound, StoreCorrupt):
        return
    key = voice.parameters.get("voice_key")
    if isinstance(key, str) and line.voices.get(voice.provider, key) is None:
        line.voices.remember(
            provider=voice.provider,
            voice_key=key,
            state="ready",
            avatar_id=avatar.id,
            consent_id=avatar.consent.consent_id,
        )


def _delete_remote_voices(line: Line, consent_id: str) -> list[str]:
    """Delete the voices at their providers; return what could not be deleted. The ledger goes on knowing those."""
    from avatar_pipeline.stages.voice import provider_named

    left, silent = [], set()
    for voice in _voices_of(line, consent_id):
        still = f"the voice {voice.voice_key} is still at {voice.provider}"
        if voice.provider in silent:
            left.append(f"{still}, which was not asked again.")
            continue
        # The voice model is gone; the ledger knows what the provider needs.
        model = VoiceModel(
            provider=voice.provider,
            language="en",
            label="consent revoked",
            consent_id=consent_id,
            parameters={"voice_key": voice.voice_key},
        )
        try:
            provider_named(line, voice.provider).delete_voice(model)
        except ImportError as error:
            silent.add(voice.provider)
            left.append(f"{still}: {package_missing(error)}")
        except AvatarError as error:
            # Whoever does not answer, or refuses us altogether, is waited for once.
            silent |= {voice.provider} if isinstance(error, ProviderBusy | AccountRefused) else set()
            left.append(f"{still}: {error}")
    return left


def _delete_uploads(line: Line, avatar: AvatarRecord) -> list[str]:
    try:
        named = uploads_named_by(line.ledger.engine, {avatar.id}).get(avatar.id, [])
        delete_named(line, named, avatar.consent)
    except AvatarError as error:
        return [f"the files that requests named for {avatar.id} are still in the uploads place: {error}"]
    return []
