"""The ledger's tables. Money is Decimal (kept as text: SQLite has no exact numbers), time is aware UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    ColumnElement,
    DateTime,
    Dialect,
    Float,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
    and_,
    literal_column,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC datetimes; a naive one is refused, for nobody can say what it means."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Store UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a naive datetime was given to the ledger")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return UTC; SQLite drops the zone on the way."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Money(TypeDecorator[Decimal]):
    """Decimal, exactly as given."""

    impl = String(40)
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> str | None:
        """Store as text."""
        return None if value is None else format(value, "f")

    def process_result_value(self, value: str | None, dialect: Dialect) -> Decimal | None:
        """Return the Decimal."""
        return None if value is None else Decimal(value)


# SQLite counts rows by itself only in a column that is exactly an INTEGER PRIMARY KEY.
BigId = BigInteger().with_variant(Integer, "sqlite")


_WAITING = "kind = 'clip' AND state = 'queued' AND batch_id IS NULL"
_AT_WORK = "batch_id IS NOT NULL AND state IN ('queued', 'claimed', 'running')"
_UNBEGUN = "state IN ('queued', 'held') AND deadline IS NOT NULL"
_AVATARS = "kind = 'avatar' AND state IN ('queued', 'claimed', 'running')"
_PUT_OFF = "state = 'held' AND held_until IS NOT NULL"
_HELD_BY = "held_by IS NOT NULL"


def only(condition: str) -> dict[str, Any]:
    """Return the options of an index over only the rows of which the condition holds."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


class Base(DeclarativeBase):
    """Base of the tables."""


class AvatarRow(Base):
    """One avatar: who it is of, what it is made from, how far it is."""

    __tablename__ = "avatars"

    id: Mapped[str] = mapped_column(String(63), primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    voice: Mapped[str] = mapped_column(String(64))
    greeting: Mapped[str] = mapped_column(Text)
    upload_key: Mapped[str] = mapped_column(String(64))
    source_name: Mapped[str] = mapped_column(String(255))
    consent: Mapped[dict[str, Any]] = mapped_column(JSON)
    error: Mapped[dict[str, str] | None] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


class RequestRow(Base):
    """One request for a clip or an avatar, from queued to done. `payload` is the request itself, as it was sent.

    `avatar_id` is no foreign key: a request may come before its avatar. `position` is the order of arrival, `cost` what
    it takes of a tenant's share (characters). `virtual_start` is its start tag in fair queueing, and `place` its place
    in the batch, once it is claimed. One that is held goes on by itself at `held_until`, if that is set; `held_by` is
    the limit of a budget that holds it. `reservation` is the money that is put aside for it, `admissions` how often
    some was.
    """

    __tablename__ = "requests"
    __table_args__ = (
        Index("ix_requests_avatar", "avatar_id", "kind", "position"),
        Index("ix_requests_position", "position"),
        Index("ix_requests_sent", "sent_at"),
        Index("ix_requests_finished", "finished_at", "kind", "state"),
        Index("ix_requests_batch", "batch_id", "place", **only("batch_id IS NOT NULL")),
        # No index begins with the state. How many are in which state changes from all to none within minutes, while a
        # planner's statistics are of yesterday, and with such an index it would read all of a state to find a few.
        Index("ix_requests_flow", "priority", "tenant", "position", **only(_WAITING)),
        Index("ix_requests_company", "avatar_id", "priority", "tenant", "position", "sent_at", **only(_WAITING)),
        Index("ix_requests_at_work", "batch_id", "claimed_at", "created_at", **only(_AT_WORK)),
        Index("ix_requests_deadline", "deadline", **only(_UNBEGUN)),
        Index("ix_requests_avatars", "priority", "position", **only(_AVATARS)),
        Index("ix_requests_put_off", "held_until", **only(_PUT_OFF)),
        Index("ix_requests_held_by", "held_by", "position", **only(_HELD_BY)),
    )

    id: Mapped[str] = mapped_column(String(63), primary_key=True)
    kind: Mapped[str] = mapped_column(String(8))
    avatar_id: Mapped[str] = mapped_column(String(63))
    tenant: Mapped[str] = mapped_column(String(63))
    payload: Mapped[dict[str, Any]] = mapped_column(JSON)
    state: Mapped[str] = mapped_column(String(16))
    batch_id: Mapped[str | None] = mapped_column(String(63))
    position: Mapped[int] = mapped_column(BigInteger)
    priority: Mapped[int] = mapped_column(Integer)
    cost: Mapped[int] = mapped_column(Integer, default=1)
    virtual_start: Mapped[float | None] = mapped_column(Float)
    place: Mapped[int | None] = mapped_column(Integer)
    deadline: Mapped[datetime | None] = mapped_column(UtcDateTime)
    callback_url: Mapped[str | None] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(Integer)
    clip_key: Mapped[str | None] = mapped_column(String(64))
    error: Mapped[dict[str, str] | None] = mapped_column(JSON)
    sent_at: Mapped[datetime] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    claimed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    held_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    held_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    held_by: Mapped[str | None] = mapped_column(String(200))
    reservation: Mapped[str | None] = mapped_column(String(300))
    admissions: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


def _in(*states: str) -> ColumnElement[bool]:
    return RequestRow.state.in_([literal_column(f"'{state}'") for state in states])


# The conditions of the indexes above. A database uses a partial index only for a query that says the same, in literals.
WAITING: ColumnElement[bool] = and_(
    RequestRow.kind == literal_column("'clip'"),
    RequestRow.state == literal_column("'queued'"),
    RequestRow.batch_id.is_(None),
)
"""Clips that any batch may claim, once their avatar is ready."""
AT_WORK: ColumnElement[bool] = and_(RequestRow.batch_id.is_not(None), _in("queued", "claimed", "running"))
"""What a batch has yet to do: begun, claimed, or reserved for it and not claimed yet."""
UNBEGUN: ColumnElement[bool] = and_(_in("queued", "held"), RequestRow.deadline.is_not(None))
"""What has a deadline before it."""
AVATARS: ColumnElement[bool] = and_(RequestRow.kind == literal_column("'avatar'"), _in("queued", "claimed", "running"))
"""Avatars that are to be made."""
PUT_OFF: ColumnElement[bool] = and_(RequestRow.state == literal_column("'held'"), RequestRow.held_until.is_not(None))
"""What is held until a time."""
HELD_BY: ColumnElement[bool] = RequestRow.held_by.is_not(None)
"""What a budget holds."""


class RequestEventRow(Base):
    """One step of a request through its states: the proof of what happened, and when."""

    __tablename__ = "request_events"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    request_id: Mapped[str] = mapped_column(String(63), index=True)
    state: Mapped[str] = mapped_column(String(16))
    note: Mapped[str] = mapped_column(Text)
    at: Mapped[datetime] = mapped_column(UtcDateTime)


class FlowRow(Base):
    """Where the service that a tenant had, of one kind and priority, ends in virtual time; tenant '' is the clock.

    A tenant that is behind the clock has no row.
    """

    __tablename__ = "flows"

    kind: Mapped[str] = mapped_column(String(8), primary_key=True)
    priority: Mapped[int] = mapped_column(Integer, primary_key=True)
    tenant: Mapped[str] = mapped_column(String(63), primary_key=True)
    virtual_time: Mapped[float] = mapped_column(Float)


class CallbackRow(Base):
    """One webhook to deliver: written in the transaction that finished its request, so none is forgotten."""

    __tablename__ = "callbacks"
    __table_args__ = (Index("ix_callbacks_due", "state", "next_attempt_at"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    request_id: Mapped[str] = mapped_column(String(63), index=True)
    url: Mapped[str] = mapped_column(Text)
    body: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int] = mapped_column(Integer)
    last_error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    next_attempt_at: Mapped[datetime] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class BatchRow(Base):
    """A batch that has claimed: what it has then, be it nothing, it has for ever."""

    __tablename__ = "batches"

    id: Mapped[str] = mapped_column(String(63), primary_key=True)
    claimed_at: Mapped[datetime] = mapped_column(UtcDateTime)


class BeatRow(Base):
    """The last sign of life of a run's worker."""

    __tablename__ = "beats"

    run_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime)


class MessageRow(Base):
    """One message in a queue of the ledger's own, with the semantics of SQS."""

    __tablename__ = "queue_messages"
    __table_args__ = (
        Index("ix_queue_messages_visible", "queue", "visible_at", "id"),
        Index("ix_queue_messages_sent", "queue", "sent_at"),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    queue: Mapped[str] = mapped_column(String(80))
    message_id: Mapped[str] = mapped_column(String(36), unique=True)
    body: Mapped[str] = mapped_column(Text)
    reason: Mapped[str | None] = mapped_column(Text)
    receipt: Mapped[str | None] = mapped_column(String(36), unique=True)
    receive_count: Mapped[int] = mapped_column(Integer)
    sent_at: Mapped[datetime] = mapped_column(UtcDateTime)
    visible_at: Mapped[datetime] = mapped_column(UtcDateTime)


class QueueMarkRow(Base):
    """Since when a queue that cannot tell its oldest message's age (SQS) is known to hold messages."""

    __tablename__ = "queue_marks"

    queue: Mapped[str] = mapped_column(String(80), primary_key=True)
    since: Mapped[datetime] = mapped_column(UtcDateTime)


class ArtifactRow(Base):
    """One published artifact: when it was made and where it is. What it is stands in its own manifest."""

    __tablename__ = "artifacts"
    __table_args__ = (UniqueConstraint("collection", "owner", "asset", "key"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    collection: Mapped[str] = mapped_column(String(63))
    owner: Mapped[str] = mapped_column(String(63), index=True)
    asset: Mapped[str] = mapped_column(String(63))
    key: Mapped[str] = mapped_column(String(64))
    uri: Mapped[str] = mapped_column(Text)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    code_version: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class TimingRow(Base):
    """One attempt to make (or reuse) an artifact: how long it took and what that cost."""

    __tablename__ = "timings"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    collection: Mapped[str] = mapped_column(String(63))
    owner: Mapped[str] = mapped_column(String(63), index=True)
    asset: Mapped[str] = mapped_column(String(63))
    key: Mapped[str] = mapped_column(String(64))
    run_id: Mapped[str | None] = mapped_column(String(64))
    reused: Mapped[bool] = mapped_column(Boolean)
    seconds: Mapped[float] = mapped_column(Float)
    price_per_hour: Mapped[Decimal] = mapped_column(Money)
    cost: Mapped[Decimal] = mapped_column(Money)
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
