"""Consent: the record without which no likeness is animated and no voice is cloned."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from pathlib import Path
from typing import Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from avatar_pipeline.errors import ConsentMissing
from avatar_pipeline.store.keys import file_sha256

Scope = Literal["likeness", "voice"]
MAX_BYTES = 64 * 1024
CONSENT_ID = r"^[a-z0-9][a-z0-9-]{1,62}$"


class ConsentRecord(BaseModel):
    """What a person agreed to, when, and for how long.

    A consent file is this as JSON. `statement` is the exact text that was agreed to; `evidence_sha256` is the hash of
    the signature or recording that proves it, kept by the operator. `recording` names a recording that lies beside the
    consent file: it is the evidence then, and the voice of the avatar is compared with the speaker in it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    consent_id: str = Field(pattern=CONSENT_ID, description="Whoever keeps the record knows it by this.")
    subject: str = Field(min_length=1, max_length=200, description="The person.")
    statement: str = Field(min_length=20, max_length=10_000, description="The exact text that was agreed to.")
    statement_version: str = Field(min_length=1, max_length=40)
    scope: frozenset[Scope] = Field(min_length=1, description="likeness: the face; voice: a voice made from theirs.")
    given_at: AwareDatetime
    expires_at: AwareDatetime | None = Field(default=None, description="From then on nothing new is made.")
    revoked_at: AwareDatetime | None = Field(default=None, description="From then on nothing new is made.")
    evidence_sha256: str | None = Field(
        default=None, pattern=r"^[0-9a-f]{64}$", description="Hash of the signature or recording that proves it."
    )
    recording: str | None = Field(
        default=None,
        # A name and nothing else: no folder, no parent, nothing hidden.
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
        description="Name of a file beside this one: the person saying the statement. Its hash is evidence_sha256.",
    )

    @model_validator(mode="after")
    def _recording_has_a_hash(self) -> Self:
        if self.recording is not None and self.evidence_sha256 is None:
            raise ValueError("a recording needs its SHA-256 in evidence_sha256")
        return self

    def require(self, scope: Scope, now: datetime) -> None:
        """Check that the consent covers `scope` at `now`.

        Raises:
            ConsentMissing: it does not; the message says why.
        """
        reason = None
        if scope not in self.scope:
            reason = f"does not cover {scope}"
        elif now < self.given_at:
            reason = f"is dated {self.given_at:%Y-%m-%d}, in the future"
        elif self.expires_at is not None and now >= self.expires_at:
            reason = f"expired on {self.expires_at:%Y-%m-%d}"
        elif self.revoked_at is not None and now >= self.revoked_at:
            reason = f"was revoked on {self.revoked_at:%Y-%m-%d}"
        if reason:
            raise ConsentMissing(
                f"Consent {self.consent_id} {reason}.",
                remedy=f"Ask the person for a consent whose scope holds {scope!r} and that is in force.",
            )

    @property
    def sha256(self) -> str:
        """Hash of the canonical record; part of every key that depends on the consent."""
        data = self.model_dump(mode="json")
        data["scope"] = sorted(data["scope"])
        if self.recording is None:
            # Records are older than this field, and their hashes are in the keys of what was made with them.
            del data["recording"]
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def read_consent(path: Path) -> ConsentRecord:
    """Read a consent file.

    Raises:
        ConsentMissing: the file is absent, too large, or not a consent record; the message names the field.
    """
    remedy = "See docs/consent.md for the fields of a consent file."
    try:
        if not path.is_file():
            raise ConsentMissing(f"The consent file {path} is not there, or is no file.", remedy=remedy)
        if path.stat().st_size > MAX_BYTES:
            raise ConsentMissing(f"{path} is larger than {MAX_BYTES // 1024} KiB.", remedy=remedy)
        return ConsentRecord.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConsentMissing(f"The consent file {path} cannot be read: {error.strerror}.", remedy=remedy) from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ConsentMissing(f"{path} is not a consent record: {field}: {first['msg']}.", remedy=remedy) from error


def recording_beside(path: Path, consent: ConsentRecord) -> Path | None:
    """Return where the recording of a consent file lies, whole and unchanged; None if the record names none.

    Raises:
        ConsentMissing: it is not there, is a link or no file, or is not what the record was made with.
    """
    if consent.recording is None:
        return None
    recording = path.parent / consent.recording
    require_recording(recording, consent)
    return recording


def require_recording(recording: Path, consent: ConsentRecord) -> None:
    """Check that a file is the recording that a consent names.

    Raises:
        ConsentMissing: it is not.
    """
    remedy = "Put the recording beside the consent file, just as it was when its SHA-256 was taken."
    try:
        if recording.is_symlink() or not recording.is_file():
            raise ConsentMissing(f"recording: {consent.recording} is not there, or is no file.", remedy=remedy)
        found = file_sha256(recording)
    except OSError as error:
        raise ConsentMissing(f"recording: {consent.recording}: {error.strerror}.", remedy=remedy) from error
    if found != consent.evidence_sha256:
        raise ConsentMissing(f"recording: {consent.recording} does not match evidence_sha256.", remedy=remedy)
