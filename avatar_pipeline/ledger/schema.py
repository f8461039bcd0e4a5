"""The ledger's tables. Money is Decimal (kept as text: SQLite has no exact numbers), time is aware UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
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
    """One clip request, from queued to done."""

    __tablename__ = "requests"
    __table_args__ = (
        Index("ix_requests_batch", "batch_id", "position"),
        Index("ix_requests_state", "state", "position"),
    )

    id: Mapped[str] = mapped_column(String(63), primary_key=True)
    avatar_id: Mapped[str] = mapped_column(String(63), ForeignKey("avatars.id", ondelete="CASCADE"), index=True)
    text: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(16))
    batch_id: Mapped[str | None] = mapped_column(String(63))
    position: Mapped[int] = mapped_column(Integer)
    clip_key: Mapped[str | None] = mapped_column(String(64))
    error: Mapped[dict[str, str] | None] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    claimed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


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
