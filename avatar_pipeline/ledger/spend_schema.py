"""The tables of money: attempts, what was spent slot by slot, reservations, and what budgets are reckoned by.

Amounts are whole micro-units (10⁻⁶ US dollars, or characters) in the database, so that sums and comparisons are exact
in SQL on SQLite too; in Python they are Decimal. Time is cut into quarters of an hour: every time zone's day begins on
one, so one table of totals serves every period in every zone.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, ColumnElement, Dialect, Index, Integer, String, Text, literal_column
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from avatar_pipeline.ledger.schema import Base, BigId, UtcDateTime, only

_SCALE = Decimal(1_000_000)
_OPEN_RESERVATION = "state IN ('reserved', 'committed')"
_OPEN_ATTEMPT = "ended_at IS NULL"


class Micros(TypeDecorator[Decimal]):
    """A Decimal of at most six places, kept as a whole number of millionths."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> int | None:
        """Store millionths.

        Raises:
            ValueError: it has more places, or is no number.
        """
        if value is None:
            return None
        scaled = Decimal(value) * _SCALE
        if not scaled.is_finite() or scaled != scaled.to_integral_value():
            raise ValueError(f"{value} is not a whole number of millionths")
        return int(scaled)

    def process_result_value(self, value: int | None, dialect: Dialect) -> Decimal | None:
        """Return the Decimal."""
        return None if value is None else Decimal(int(value)) / _SCALE


class AccountRow(Base):
    """What is reserved and not yet spent in one scope and unit. Its row is what rivals for the same money wait at."""

    __tablename__ = "spend_accounts"

    scope: Mapped[str] = mapped_column(String(100), primary_key=True)
    unit: Mapped[str] = mapped_column(String(16), primary_key=True)
    reserved: Mapped[Decimal] = mapped_column(Micros)


class TotalRow(Base):
    """What was spent in one scope and unit from `start` on, for a quarter of an hour ('q') or a UTC day ('d')."""

    __tablename__ = "spend_totals"
    __table_args__ = (Index("ix_spend_totals_start", "grain", "start"),)

    scope: Mapped[str] = mapped_column(String(100), primary_key=True)
    unit: Mapped[str] = mapped_column(String(16), primary_key=True)
    grain: Mapped[str] = mapped_column(String(1), primary_key=True)
    start: Mapped[datetime] = mapped_column(UtcDateTime, primary_key=True)
    settled: Mapped[Decimal] = mapped_column(Micros)


class ReservationRow(Base):
    """Money put aside for one attempt at something: reserved, committed (work has begun), settled or released.

    What is left of it is `*_reserved` less `*_used`, not below 0; nothing once it is closed. `closing`: nobody needs it
    any more but an attempt that is not settled yet. `expires_at`: when the reconciler looks whether it is still wanted.
    """

    __tablename__ = "reservations"
    __table_args__ = (
        Index("ix_reservations_open", "expires_at", **only(_OPEN_RESERVATION)),
        Index("ix_reservations_request", "request_id"),
        Index("ix_reservations_learnt", "purpose", "closed_at"),
        Index("ix_reservations_avatar", "avatar_id"),
    )

    key: Mapped[str] = mapped_column(String(300), primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    purpose: Mapped[str] = mapped_column(String(63))
    tenant: Mapped[str] = mapped_column(String(63))
    avatar_id: Mapped[str] = mapped_column(String(63))
    request_id: Mapped[str | None] = mapped_column(String(63))
    provider: Mapped[str] = mapped_column(String(63))
    units: Mapped[Decimal] = mapped_column(Micros)
    compute_reserved: Mapped[Decimal] = mapped_column(Micros)
    compute_used: Mapped[Decimal] = mapped_column(Micros)
    provider_reserved: Mapped[Decimal] = mapped_column(Micros)
    provider_used: Mapped[Decimal] = mapped_column(Micros)
    characters_reserved: Mapped[Decimal] = mapped_column(Micros)
    characters_used: Mapped[Decimal] = mapped_column(Micros)
    seconds: Mapped[Decimal] = mapped_column(Micros)
    """Machine seconds that it has paid for."""
    attempts: Mapped[int] = mapped_column(Integer)
    """Attempts that it has paid for."""
    open_attempts: Mapped[int] = mapped_column(Integer)
    """Those of them that are not settled yet."""
    degraded: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    closing: Mapped[bool] = mapped_column(Boolean)
    finished: Mapped[bool] = mapped_column(Boolean)
    """The work it was for is done: what it took is worth learning from."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
    closed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


# A database uses a partial index only for a query that says the same, in literals.
OPEN_RESERVATION: ColumnElement[bool] = ReservationRow.state.in_(
    [literal_column("'reserved'"), literal_column("'committed'")]
)
"""Reservations that money is put aside by."""


class AttemptRow(Base):
    """One attempt of a step: where it ran, from when to when, at what price. It is metered up to `metered_until`.

    `shares`: who pays for what is not metered yet; a weight of 0 is of one that has paid and pays no more. Settled, it
    has none. `ended_at` None: it runs, or nobody saw its end yet.
    """

    __tablename__ = "spend_attempts"
    __table_args__ = (
        Index("ix_spend_attempts_open", "metered_until", **only(_OPEN_ATTEMPT)),
        Index("ix_spend_attempts_run", "run_id"),
        Index("ix_spend_attempts_started", "started_at"),
    )

    key: Mapped[str] = mapped_column(String(300), primary_key=True)
    run_id: Mapped[str] = mapped_column(String(64))
    step_key: Mapped[str] = mapped_column(String(200))
    number: Mapped[int] = mapped_column(Integer)
    asset: Mapped[str] = mapped_column(String(63))
    partition: Mapped[str] = mapped_column(String(63))
    profile: Mapped[str] = mapped_column(String(63))
    capacity_type: Mapped[str] = mapped_column(String(16))
    instance_type: Mapped[str | None] = mapped_column(String(32))
    zone: Mapped[str | None] = mapped_column(String(32))
    price_per_hour: Mapped[Decimal] = mapped_column(Micros)
    on_demand_price: Mapped[Decimal | None] = mapped_column(Micros)
    price_source: Mapped[str] = mapped_column(String(100))
    shares: Mapped[dict[str, int]] = mapped_column(JSON)
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    metered_until: Mapped[datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ending: Mapped[str | None] = mapped_column(String(32))
    seconds: Mapped[Decimal] = mapped_column(Micros)
    cost: Mapped[Decimal] = mapped_column(Micros)


OPEN_ATTEMPT: ColumnElement[bool] = AttemptRow.ended_at.is_(None)
"""Attempts that run, or whose end nobody has seen."""


class EntryRow(Base):
    """What was spent, on whose account, in one quarter of an hour: the lines that every report adds up.

    `source` is the attempt's key, or a provider charge's. `on_demand` is what the same seconds cost on demand.
    """

    __tablename__ = "spend_entries"
    __table_args__ = (
        Index("ux_spend_entries", "source", "reservation", "slot", unique=True),
        Index("ix_spend_entries_slot", "slot"),
        Index("ix_spend_entries_request", "request_id"),
        Index("ix_spend_entries_avatar", "avatar_id", "slot"),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    source: Mapped[str] = mapped_column(String(300))
    reservation: Mapped[str] = mapped_column(String(300))
    slot: Mapped[datetime] = mapped_column(UtcDateTime)
    kind: Mapped[str] = mapped_column(String(16))
    """compute, provider, storage or delivery."""
    tenant: Mapped[str] = mapped_column(String(63))
    avatar_id: Mapped[str] = mapped_column(String(63))
    request_id: Mapped[str | None] = mapped_column(String(63))
    provider: Mapped[str] = mapped_column(String(63))
    asset: Mapped[str] = mapped_column(String(63))
    capacity_type: Mapped[str] = mapped_column(String(16))
    instance_type: Mapped[str | None] = mapped_column(String(32))
    seconds: Mapped[Decimal] = mapped_column(Micros)
    characters: Mapped[Decimal] = mapped_column(Micros)
    amount: Mapped[Decimal] = mapped_column(Micros)
    on_demand: Mapped[Decimal] = mapped_column(Micros)
    currency: Mapped[str] = mapped_column(String(3))


class BudgetChangeRow(Base):
    """One change of a limit: who, when, why. Nothing deletes it; what is in force follows from all of them."""

    __tablename__ = "budget_changes"
    __table_args__ = (Index("ix_budget_changes_limit", "limit_id"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    limit_id: Mapped[str] = mapped_column(String(200))
    action: Mapped[str] = mapped_column(String(16))
    """set, clear, override or revoke."""
    amount: Mapped[Decimal | None] = mapped_column(Micros)
    override_id: Mapped[str | None] = mapped_column(String(36))
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    who: Mapped[str] = mapped_column(String(200))
    reason: Mapped[str] = mapped_column(Text)
    at: Mapped[datetime] = mapped_column(UtcDateTime)


class BudgetAlertRow(Base):
    """One crossing of a threshold in one period: its key makes it happen once."""

    __tablename__ = "budget_alerts"
    __table_args__ = (Index("ix_budget_alerts_at", "at"),)

    limit_id: Mapped[str] = mapped_column(String(200), primary_key=True)
    period_start: Mapped[datetime] = mapped_column(UtcDateTime, primary_key=True)
    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    """actual or forecast."""
    threshold: Mapped[Decimal] = mapped_column(Micros, primary_key=True)
    share: Mapped[Decimal] = mapped_column(Micros)
    message: Mapped[str] = mapped_column(Text)
    at: Mapped[datetime] = mapped_column(UtcDateTime)


class PriceRow(Base):
    """A price as it was looked up: US dollars an hour of an instance type, in a region or zone, at a time."""

    __tablename__ = "prices"

    region: Mapped[str] = mapped_column(String(32), primary_key=True)
    instance_type: Mapped[str] = mapped_column(String(32), primary_key=True)
    capacity_type: Mapped[str] = mapped_column(String(16), primary_key=True)
    zone: Mapped[str] = mapped_column(String(32), primary_key=True)
    as_of: Mapped[datetime] = mapped_column(UtcDateTime, primary_key=True)
    per_hour: Mapped[Decimal] = mapped_column(Micros)
    source: Mapped[str] = mapped_column(String(100))
