"""Hosted providers: calls in flight, credits, voices; consents taken back; requests that are held until a time."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_MONEY = sa.String(length=40)
_PUT_OFF = sa.text("state = 'held' AND held_until IS NOT NULL")
_OPEN = sa.text("state IN ('reserved', 'sent')")


def upgrade() -> None:
    """Add a column to `requests`, which keeps its rows as they are, and create the new tables."""
    op.add_column("requests", sa.Column("held_until", _TIME, nullable=True))
    op.create_index("ix_requests_put_off", "requests", ["held_until"], sqlite_where=_PUT_OFF, postgresql_where=_PUT_OFF)
    _create_leases()
    _create_charges()
    _create_voices()
    op.create_table(
        "revocations",
        sa.Column("consent_id", sa.String(length=63), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("revoked_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("consent_id"),
    )


def downgrade() -> None:
    """Drop what 0002 does not know. What is held until a time is held until it is released by hand."""
    for table in ("revocations", "provider_voices", "charges", "provider_groups", "provider_leases"):
        op.drop_table(table)
    op.drop_index("ix_requests_put_off", table_name="requests")
    op.drop_column("requests", "held_until")


def _create_leases() -> None:
    op.create_table(
        "provider_leases",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("provider", sa.String(length=63), nullable=False),
        sa.Column("group_name", sa.String(length=200), nullable=False),
        sa.Column("holder", sa.String(length=200), nullable=False),
        sa.Column("taken_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_provider_leases_group", "provider_leases", ["provider", "group_name", "expires_at"])
    op.create_table(
        "provider_groups",
        sa.Column("provider", sa.String(length=63), nullable=False),
        sa.Column("group_name", sa.String(length=200), nullable=False),
        sa.Column("learnt_limit", sa.Integer(), nullable=True),
        sa.Column("paused_until", _TIME, nullable=True),
        sa.Column("pause_reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("provider", "group_name"),
    )


def _create_charges() -> None:
    op.create_table(
        "charges",
        sa.Column("provider", sa.String(length=63), nullable=False),
        sa.Column("item_key", sa.String(length=200), nullable=False),
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column("reserved", _MONEY, nullable=False),
        sa.Column("settled", _MONEY, nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("request_id", sa.String(length=200), nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("sent_at", _TIME, nullable=True),
        sa.Column("settled_at", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("provider", "item_key"),
    )
    op.create_index("ix_charges_open", "charges", ["provider"], sqlite_where=_OPEN, postgresql_where=_OPEN)
    op.create_index("ix_charges_settled", "charges", ["provider", "settled_at"])
    op.create_index("ix_charges_request", "charges", ["provider", "request_id"])


def _create_voices() -> None:
    op.create_table(
        "provider_voices",
        sa.Column("provider", sa.String(length=63), nullable=False),
        sa.Column("voice_key", sa.String(length=200), nullable=False),
        sa.Column("voice_id", sa.String(length=200), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("avatar_id", sa.String(length=63), nullable=True),
        sa.Column("consent_id", sa.String(length=63), nullable=True),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("last_used_at", _TIME, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("provider", "voice_key"),
    )
    op.create_index("ix_provider_voices_used", "provider_voices", ["provider", "state", "last_used_at"])
    op.create_index("ix_provider_voices_avatar", "provider_voices", ["avatar_id"])
    op.create_index("ix_provider_voices_consent", "provider_voices", ["consent_id"])
