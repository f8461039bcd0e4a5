"""Requests by queue: kinds, tenants, priorities, attempts, history; flows, callbacks, beats, and the SQL queue."""

import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_PAGE = 500
_BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)
_WAITING = "kind = 'clip' AND state = 'queued' AND batch_id IS NULL"
_AT_WORK = "batch_id IS NOT NULL AND state IN ('queued', 'claimed', 'running')"
_INDEXES = (
    ("ix_requests_avatar", ["avatar_id", "kind", "position"], None),
    ("ix_requests_position", ["position"], None),
    ("ix_requests_sent", ["sent_at"], None),
    ("ix_requests_finished", ["finished_at", "kind", "state"], None),
    ("ix_requests_batch", ["batch_id", "place"], "batch_id IS NOT NULL"),
    ("ix_requests_flow", ["priority", "tenant", "position"], _WAITING),
    ("ix_requests_company", ["avatar_id", "priority", "tenant", "position", "sent_at"], _WAITING),
    ("ix_requests_at_work", ["batch_id", "claimed_at", "created_at"], _AT_WORK),
    ("ix_requests_deadline", ["deadline"], "state IN ('queued', 'held') AND deadline IS NOT NULL"),
    ("ix_requests_avatars", ["priority", "position"], "kind = 'avatar' AND state IN ('queued', 'claimed', 'running')"),
)


def upgrade() -> None:
    """Create the new tables, and make `requests` anew from what is in it."""
    _create_events_and_flows()
    _create_outbox_and_beats()
    _create_queue()
    old = _set_aside("requests", ["ix_requests_state", "ix_requests_batch", "ix_requests_avatar_id"])
    requests = _create_requests()
    events = sa.table("request_events", *(sa.column(name) for name in ("request_id", "state", "note")), _time("at"))
    for rows in _pages(old):
        op.bulk_insert(requests, [_upgraded(row) for row in rows])
        op.bulk_insert(events, [_event(row) for row in rows])
    op.drop_table(old.name)


def downgrade() -> None:
    """Drop what 0001 does not know: avatar requests, clip requests of unknown avatars, histories, callbacks, queues."""
    old = _set_aside("requests", [name for name, _, _ in _INDEXES])
    requests = _create_requests_of_0001()
    known = set(op.get_bind().scalars(sa.text("SELECT id FROM avatars")))
    for rows in _pages(old):
        kept = [row for row in rows if row["kind"] == "clip" and row["avatar_id"] in known]
        op.bulk_insert(requests, [_downgraded(row) for row in kept])
    op.drop_table(old.name)
    for table in ("queue_marks", "queue_messages", "batches", "beats", "callbacks", "flows", "request_events"):
        op.drop_table(table)


def _set_aside(name: str, indexes: list[str]) -> sa.TableClause:
    """Copy a table, without its keys and indexes, and drop it: so its successor can have the names it had."""
    for index in indexes:
        op.drop_index(index, table_name=name)
    op.execute(sa.text(f"CREATE TABLE {name}_before AS SELECT * FROM {name}"))  # noqa: S608  # the name is our own
    op.drop_table(name)
    columns = [column["name"] for column in sa.inspect(op.get_bind()).get_columns(f"{name}_before")]
    typed: dict[str, Any] = {"payload": sa.JSON(), "error": sa.JSON(), "deadline": _TIME}
    return sa.table(
        f"{name}_before",
        *(sa.column(column, _TIME if column.endswith("_at") else typed.get(column)) for column in columns),
    )


def _pages(table: sa.TableClause) -> Iterator[list[dict[str, Any]]]:
    """Return the rows of a table, some at a time, in order of their ids."""
    last = ""
    while True:
        page = sa.select(table).where(table.c.id > last).order_by(table.c.id).limit(_PAGE)
        rows = [dict(row) for row in op.get_bind().execute(page).mappings()]
        if not rows:
            return
        yield rows
        last = rows[-1]["id"]


def _upgraded(row: dict[str, Any]) -> dict[str, Any]:
    same = ("id", "avatar_id", "state", "batch_id", "position", "clip_key", "error", "created_at")
    payload = {"version": 1, "request_id": row["id"], "avatar_id": row["avatar_id"], "text": row["text"]}
    return {name: row[name] for name in same} | {
        "kind": "clip",
        "tenant": "default",
        "payload": payload,
        "priority": 0,
        "cost": max(1, len(row["text"])),
        "place": row["position"] if row["batch_id"] else None,
        "attempts": int(row["started_at"] is not None or row["state"] in ("running", "done")),
        "sent_at": row["created_at"],
        "claimed_at": row["claimed_at"],
        "started_at": row["started_at"],
        "finished_at": row["finished_at"],
    }


def _event(row: dict[str, Any]) -> dict[str, Any]:
    since = {"claimed": "claimed_at", "running": "started_at", "done": "finished_at", "failed": "finished_at"}
    at = row[since.get(row["state"], "created_at")] or row["created_at"]
    return {"request_id": row["id"], "state": row["state"], "note": "known before histories were kept", "at": at}


def _downgraded(row: dict[str, Any]) -> dict[str, Any]:
    payload = row["payload"] if isinstance(row["payload"], dict) else json.loads(row["payload"])
    same = ("id", "avatar_id", "batch_id", "position", "clip_key", "error", "created_at")
    times = ("claimed_at", "started_at", "finished_at")
    state = "queued" if row["state"] == "held" else row["state"]
    return {name: row[name] for name in same + times} | {"text": payload["text"], "state": state}


def _time(name: str) -> sa.ColumnClause[Any]:
    return sa.column(name, _TIME)


def _create_requests() -> sa.Table:
    requests = op.create_table(
        "requests",
        sa.Column("id", sa.String(length=63), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("avatar_id", sa.String(length=63), nullable=False),
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("batch_id", sa.String(length=63), nullable=True),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("cost", sa.Integer(), nullable=False),
        sa.Column("virtual_start", sa.Float(), nullable=True),
        sa.Column("place", sa.Integer(), nullable=True),
        sa.Column("deadline", _TIME, nullable=True),
        sa.Column("callback_url", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("clip_key", sa.String(length=64), nullable=True),
        # Nothing is NULL, as SQLAlchemy has it only where no value is given at all.
        sa.Column("error", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("sent_at", _TIME, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("claimed_at", _TIME, nullable=True),
        sa.Column("started_at", _TIME, nullable=True),
        sa.Column("held_at", _TIME, nullable=True),
        sa.Column("finished_at", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    for name, columns, condition in _INDEXES:
        where = None if condition is None else sa.text(condition)
        op.create_index(name, "requests", columns, unique=False, sqlite_where=where, postgresql_where=where)
    return requests


def _create_events_and_flows() -> None:
    op.create_table(
        "request_events",
        sa.Column("id", _BIG_ID, nullable=False),
        sa.Column("request_id", sa.String(length=63), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_request_events_request_id", "request_events", ["request_id"], unique=False)
    op.create_table(
        "flows",
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column("virtual_time", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "priority", "tenant"),
    )


def _create_outbox_and_beats() -> None:
    op.create_table(
        "callbacks",
        sa.Column("id", _BIG_ID, nullable=False),
        sa.Column("request_id", sa.String(length=63), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("next_attempt_at", _TIME, nullable=False),
        sa.Column("finished_at", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_callbacks_request_id", "callbacks", ["request_id"], unique=False)
    op.create_index("ix_callbacks_due", "callbacks", ["state", "next_attempt_at"], unique=False)
    op.create_table(
        "batches",
        sa.Column("id", sa.String(length=63), nullable=False),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "beats",
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("run_id"),
    )


def _create_queue() -> None:
    op.create_table(
        "queue_messages",
        sa.Column("id", _BIG_ID, nullable=False),
        sa.Column("queue", sa.String(length=80), nullable=False),
        sa.Column("message_id", sa.String(length=36), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("receipt", sa.String(length=36), nullable=True),
        sa.Column("receive_count", sa.Integer(), nullable=False),
        sa.Column("sent_at", _TIME, nullable=False),
        sa.Column("visible_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("message_id"),
        sa.UniqueConstraint("receipt"),
    )
    op.create_index("ix_queue_messages_visible", "queue_messages", ["queue", "visible_at", "id"], unique=False)
    op.create_index("ix_queue_messages_sent", "queue_messages", ["queue", "sent_at"], unique=False)
    op.create_table(
        "queue_marks",
        sa.Column("queue", sa.String(length=80), nullable=False),
        sa.Column("since", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("queue"),
    )


def _create_requests_of_0001() -> sa.Table:
    requests = op.create_table(
        "requests",
        sa.Column("id", sa.String(length=63), nullable=False),
        sa.Column("avatar_id", sa.String(length=63), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("batch_id", sa.String(length=63), nullable=True),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("clip_key", sa.String(length=64), nullable=True),
        sa.Column("error", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("claimed_at", _TIME, nullable=True),
        sa.Column("started_at", _TIME, nullable=True),
        sa.Column("finished_at", _TIME, nullable=True),
        sa.ForeignKeyConstraint(["avatar_id"], ["avatars.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_requests_avatar_id", "requests", ["avatar_id"], unique=False)
    op.create_index("ix_requests_batch", "requests", ["batch_id", "position"], unique=False)
    op.create_index("ix_requests_state", "requests", ["state", "position"], unique=False)
    return requests
