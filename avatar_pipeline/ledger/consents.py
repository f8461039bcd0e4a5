"""Consents that were taken back. They outlive the avatars, so that a record cannot be handed in a second time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, select

from avatar_pipeline.clock import Clock, utc_now
from avatar_pipeline.errors import ConsentRevoked
from avatar_pipeline.ledger.database import insert_new, reading, writing
from avatar_pipeline.ledger.provider_schema import RevocationRow


@dataclass(frozen=True, slots=True)
class Revoked:
    """A consent that was taken back: which, why, and when."""

    consent_id: str
    reason: str
    revoked_at: datetime


class ConsentBook:
    """Revocations in the ledger. Every method is one transaction."""

    def __init__(self, engine: Engine, *, clock: Clock = utc_now) -> None:
        self._engine = engine
        self._clock = clock

    def revoke(self, consent_id: str, *, reason: str) -> datetime:
        """Take a consent back for good, and return when that was: the first time, be it asked for again and again.

        The avatar and its record need not be known. It is on the disk when this returns.
        """
        with writing(self._engine, durable=True) as session:
            new = insert_new(session, RevocationRow)
            session.execute(new.values(consent_id=consent_id, reason=reason, revoked_at=self._clock()))
            return session.get_one(RevocationRow, consent_id).revoked_at

    def revoked_at(self, consent_id: str) -> datetime | None:
        """Return when a consent was taken back, None if it was not."""
        with reading(self._engine) as session:
            row = session.get(RevocationRow, consent_id)
            return row.revoked_at if row else None

    def all(self) -> list[Revoked]:
        """Return the consents that were taken back, the first first."""
        with reading(self._engine) as session:
            rows = session.scalars(select(RevocationRow).order_by(RevocationRow.revoked_at, RevocationRow.consent_id))
            return [Revoked(row.consent_id, row.reason, row.revoked_at) for row in rows]

    def require_not_revoked(self, consent_id: str) -> None:
        """Check that a consent was not taken back.

        Raises:
            ConsentRevoked: it was.
        """
        if self.revoked_at(consent_id) is not None:
            raise ConsentRevoked(consent_id)
