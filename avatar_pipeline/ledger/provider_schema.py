"""The tables of what is shared with hosted providers: calls in flight, credits, voices; and of consents taken back."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from sqlalchemy import ColumnElement, Index, Integer, String, Text, literal_column
from sqlalchemy.orm import Mapped, mapped_column

from avatar_pipeline.ledger.schema import Base, Money, UtcDateTime, only

_OPEN = "state IN ('reserved', 'sent')"


class LeaseRow(Base):
    """One call in flight, for as long as its holder may take it to be."""

    __tablename__ = "provider_leases"
    __table_args__ = (Index("ix_provider_leases_group", "provider", "group_name", "expires_at"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    provider: Mapped[str] = mapped_column(String(63))
    group_name: Mapped[str] = mapped_column(String(200))
    holder: Mapped[str] = mapped_column(String(200))
    taken_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)


class ProviderGroupRow(Base):
    """What a provider told us of a group of its models: how many calls at once, and until when none."""

    __tablename__ = "provider_groups"

    provider: Mapped[str] = mapped_column(String(63), primary_key=True)
    group_name: Mapped[str] = mapped_column(String(200), primary_key=True)
    learnt_limit: Mapped[int | None] = mapped_column(Integer)
    paused_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    pause_reason: Mapped[str | None] = mapped_column(Text)


class ChargeRow(Base):
    """The credits of one piece of work: put aside before it is sent, and what it cost in the end."""

    __tablename__ = "charges"
    __table_args__ = (
        Index("ix_charges_open", "provider", **only(_OPEN)),
        Index("ix_charges_settled", "provider", "settled_at"),
        Index("ix_charges_request", "provider", "request_id"),
    )

    provider: Mapped[str] = mapped_column(String(63), primary_key=True)
    item_key: Mapped[str] = mapped_column(String(200), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(63))
    reserved: Mapped[Decimal] = mapped_column(Money)
    settled: Mapped[Decimal | None] = mapped_column(Money)
    state: Mapped[str] = mapped_column(String(16))
    request_id: Mapped[str | None] = mapped_column(String(200))
    reservation: Mapped[str | None] = mapped_column(String(300))
    """The money of a budget that it is taken from, in the ledger of spend."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    sent_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    settled_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


# A database uses the partial index only for a query that says the same, in literals.
OPEN: ColumnElement[bool] = ChargeRow.state.in_([literal_column("'reserved'"), literal_column("'sent'")])
"""Charges of which nobody knows yet what they come to."""


class VoiceRow(Base):
    """A voice that a provider keeps, or kept, for us. It outlives its avatar until the provider has deleted it."""

    __tablename__ = "provider_voices"
    __table_args__ = (
        Index("ix_provider_voices_used", "provider", "state", "last_used_at"),
        Index("ix_provider_voices_avatar", "avatar_id"),
        Index("ix_provider_voices_consent", "consent_id"),
    )

    provider: Mapped[str] = mapped_column(String(63), primary_key=True)
    voice_key: Mapped[str] = mapped_column(String(200), primary_key=True)
    voice_id: Mapped[str | None] = mapped_column(String(200))
    state: Mapped[str] = mapped_column(String(16))
    avatar_id: Mapped[str | None] = mapped_column(String(63))
    consent_id: Mapped[str | None] = mapped_column(String(63))
    name: Mapped[str] = mapped_column(String(200))
    last_used_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


class RevocationRow(Base):
    """A consent that was taken back. Nothing deletes it: the record could be handed in again at any time."""

    __tablename__ = "revocations"

    consent_id: Mapped[str] = mapped_column(String(63), primary_key=True)
    reason: Mapped[str] = mapped_column(Text)
    revoked_at: Mapped[datetime] = mapped_column(UtcDateTime)
