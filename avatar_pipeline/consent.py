"""Consent: the record without which no likeness is animated and no voice is cloned."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from avatar_pipeline.errors import ConsentMissing

Scope = Literal["likeness", "voice"]
MAX_BYTES = 64 * 1024


class ConsentRecord(BaseModel):
    """What a person agreed to, when, and for how long.

    A consent file is this as JSON. `statement` is the exact text that was agreed to; `evidence_sha256` is the hash of
    the signature or recording that proves it, kept by the operator.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    consent_id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{1,62}$")
    subject: str = Field(min_length=1, max_length=200)
    statement: str = Field(min_length=20, max_length=10_000)
    statement_version: str = Field(min_length=1, max_length=40)
    scope: frozenset[Scope] = Field(min_length=1)
    given_at: AwareDatetime
    expires_at: AwareDatetime | None = None
    revoked_at: AwareDatetime | None = None
    evidence_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")

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
