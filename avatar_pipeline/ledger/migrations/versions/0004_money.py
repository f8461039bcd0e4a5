"""The money: attempts and what they cost, reservations, totals, changes of budgets, alerts, prices."""

from datetime import datetime

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_MICROS = sa.BigInteger()
_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_HELD_BY = sa.text("held_by IS NOT NULL")
_OPEN_RESERVATION = sa.text("state IN ('reserved', 'committed')")
_OPEN_ATTEMPT = sa.text("ended_at IS NULL")
_TABLES = (
    "prices",
    "budget_alerts",
    "budget_changes",
    "spend_entries",
    "spend_attempts",
    "reservations",
    "spend_totals",
    "spend_accounts",
)


def upgrade() -> None:
    """Add columns to `requests` and `charges`, which keep their rows as they are, and create the new tables."""
    op.add_column("requests", sa.Column("held_by", sa.String(length=200), nullable=True))
    op.add_column("requests", sa.Column("reservation", sa.String(length=300), nullable=True))
    op.add_column("requests", sa.Column("admissions", sa.Integer(), server_default="0", nullable=False))
    _index("ix_requests_held_by", "requests", ["held_by", "position"], _HELD_BY)
    op.add_column("charges", sa.Column("reservation", sa.String(length=300), nullable=True))
    _create_accounts()
    _create_reservations()
    _create_attempts()
    _create_entries()
    _create_budgets()
    op.create_table(
        "prices",
        _text("region", 32),
        _text("instance_type", 32),
        _text("capacity_type", 16),
        _text("zone", 32),
        _time("as_of"),
        _micros("per_hour"),
        _text("source", 100),
        sa.PrimaryKeyConstraint("region", "instance_type", "capacity_type", "zone", "as_of"),
    )


def downgrade() -> None:
    """Drop what 0003 does not know. What a budget holds is held until its time, or until it is released by hand."""
    for table in _TABLES:
        op.drop_table(table)
    op.drop_column("charges", "reservation")
    op.drop_index("ix_requests_held_by", table_name="requests")
    for column in ("admissions", "reservation", "held_by"):
        op.drop_column("requests", column)


def _create_accounts() -> None:
    op.create_table(
        "spend_accounts",
        _text("scope", 100),
        _text("unit", 16),
        _micros("reserved"),
        sa.PrimaryKeyConstraint("scope", "unit"),
    )
    op.create_table(
        "spend_totals",
        _text("scope", 100),
        _text("unit", 16),
        _text("grain", 1),
        _time("start"),
        _micros("settled"),
        sa.PrimaryKeyConstraint("scope", "unit", "grain", "start"),
    )
    op.create_index("ix_spend_totals_start", "spend_totals", ["grain", "start"])


def _create_reservations() -> None:
    op.create_table(
        "reservations",
        _text("key", 300),
        _text("state", 16),
        _text("purpose", 63),
        _text("tenant", 63),
        _text("avatar_id", 63),
        _text("request_id", 63, nullable=True),
        _text("provider", 63),
        _micros("units"),
        _micros("compute_reserved"),
        _micros("compute_used"),
        _micros("provider_reserved"),
        _micros("provider_used"),
        _micros("characters_reserved"),
        _micros("characters_used"),
        _micros("seconds"),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("open_attempts", sa.Integer(), nullable=False),
        sa.Column("degraded", sa.JSON(), nullable=True),
        sa.Column("closing", sa.Boolean(), nullable=False),
        sa.Column("finished", sa.Boolean(), nullable=False),
        _time("created_at"),
        _time("expires_at"),
        _time("closed_at", nullable=True),
        sa.PrimaryKeyConstraint("key"),
    )
    _index("ix_reservations_open", "reservations", ["expires_at"], _OPEN_RESERVATION)
    op.create_index("ix_reservations_request", "reservations", ["request_id"])
    op.create_index("ix_reservations_learnt", "reservations", ["purpose", "closed_at"])
    op.create_index("ix_reservations_avatar", "reservations", ["avatar_id"])


def _create_attempts() -> None:
    op.create_table(
        "spend_attempts",
        _text("key", 300),
        _text("run_id", 64),
        _text("step_key", 200),
        sa.Column("number", sa.Integer(), nullable=False),
        _text("asset", 63),
        _text("partition", 63),
        _text("profile", 63),
        _text("capacity_type", 16),
        _text("instance_type", 32, nullable=True),
        _text("zone", 32, nullable=True),
        _micros("price_per_hour"),
        _micros("on_demand_price", nullable=True),
        _text("price_source", 100),
        sa.Column("shares", sa.JSON(), nullable=False),
        _time("started_at"),
        _time("metered_until"),
        _time("ended_at", nullable=True),
        _text("ending", 32, nullable=True),
        _micros("seconds"),
        _micros("cost"),
        sa.PrimaryKeyConstraint("key"),
    )
    _index("ix_spend_attempts_open", "spend_attempts", ["metered_until"], _OPEN_ATTEMPT)
    op.create_index("ix_spend_attempts_run", "spend_attempts", ["run_id"])
    op.create_index("ix_spend_attempts_started", "spend_attempts", ["started_at"])


def _create_entries() -> None:
    op.create_table(
        "spend_entries",
        sa.Column("id", _ID, nullable=False),
        _text("source", 300),
        _text("reservation", 300),
        _time("slot"),
        _text("kind", 16),
        _text("tenant", 63),
        _text("avatar_id", 63),
        _text("request_id", 63, nullable=True),
        _text("provider", 63),
        _text("asset", 63),
        _text("capacity_type", 16),
        _text("instance_type", 32, nullable=True),
        _micros("seconds"),
        _micros("characters"),
        _micros("amount"),
        _micros("on_demand"),
        _text("currency", 3),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ux_spend_entries", "spend_entries", ["source", "reservation", "slot"], unique=True)
    op.create_index("ix_spend_entries_slot", "spend_entries", ["slot"])
    op.create_index("ix_spend_entries_request", "spend_entries", ["request_id"])
    op.create_index("ix_spend_entries_avatar", "spend_entries", ["avatar_id", "slot"])


def _create_budgets() -> None:
    op.create_table(
        "budget_changes",
        sa.Column("id", _ID, nullable=False),
        _text("limit_id", 200),
        _text("action", 16),
        _micros("amount", nullable=True),
        _text("override_id", 36, nullable=True),
        _time("expires_at", nullable=True),
        _text("who", 200),
        sa.Column("reason", sa.Text(), nullable=False),
        _time("at"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_budget_changes_limit", "budget_changes", ["limit_id"])
    op.create_table(
        "budget_alerts",
        _text("limit_id", 200),
        _time("period_start"),
        _text("kind", 16),
        _micros("threshold"),
        _micros("share"),
        sa.Column("message", sa.Text(), nullable=False),
        _time("at"),
        sa.PrimaryKeyConstraint("limit_id", "period_start", "kind", "threshold"),
    )
    op.create_index("ix_budget_alerts_at", "budget_alerts", ["at"])


def _text(name: str, length: int, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(length=length), nullable=nullable)


def _micros(name: str, *, nullable: bool = False) -> sa.Column[int]:
    """Millionths of a dollar, of a character, of a second."""
    return sa.Column(name, _MICROS, nullable=nullable)


def _time(name: str, *, nullable: bool = False) -> sa.Column[datetime]:
    return sa.Column(name, _TIME, nullable=nullable)


def _index(name: str, table: str, columns: list[str], condition: sa.TextClause) -> None:
    op.create_index(name, table, columns, sqlite_where=condition, postgresql_where=condition)
