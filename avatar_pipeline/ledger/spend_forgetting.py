"""Forgetting: whose an avatar's spending was, and what is so old that nothing looks at it. What was spent stays."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Engine, String, and_, cast, delete, literal, select, update
from sqlalchemy.orm import Session

from avatar_pipeline.budget.types import Scope, ScopeKind
from avatar_pipeline.clock import utc_now
from avatar_pipeline.ledger.budget_alerts import callback_name
from avatar_pipeline.ledger.database import chunks, delete_in_pages
from avatar_pipeline.ledger.schema import CallbackRow
from avatar_pipeline.ledger.spend_attempts import ATTEMPTS
from avatar_pipeline.ledger.spend_entries import ENTRIES
from avatar_pipeline.ledger.spend_posting import RESERVATIONS, Posting
from avatar_pipeline.ledger.spend_schema import OPEN_ATTEMPT, AttemptRow, BudgetAlertRow, ReservationRow
from avatar_pipeline.ledger.totals import ACCOUNTS, TOTALS

FORGOTTEN = "forgotten"
"""The purpose of a reservation whose avatar was forgotten while an attempt still drew on it."""


def forget_avatar_in(session: Session, avatar_id: str, now: datetime | None = None) -> None:
    """Forget whose an avatar's spending was, in the caller's transaction.

    What was spent stays, in everybody's totals and the tenant's, under no name: the keys of reservations, which hold
    names of requests, go too. Reservations are closed and deleted; those that an attempt still draws on, once it is
    settled. Alerts of its limits go. People's changes of these stay: they are an audit.
    """
    posting = Posting(session.connection(), now or utc_now())
    of_avatar = select(RESERVATIONS.c.key).where(RESERVATIONS.c.avatar_id == avatar_id)
    keys = list(session.connection().scalars(of_avatar))
    posting.fetch(keys)
    gone = []
    for key in keys:
        known = posting.get(key)
        if known is None:
            continue
        if known.open_attempts == 0:
            gone.append(key)
            if known.is_open:
                posting.close(known)
            continue
        payer = replace(known.payer, avatar_id="", request_id=None)
        posting.change(known, payer=payer, purpose=FORGOTTEN, closing=known.is_open)
    posting.write()
    delete_reservations(posting, gone)
    at_work = select(AttemptRow.key).where(OPEN_ATTEMPT).scalar_subquery()
    _rename(posting, and_(ENTRIES.c.avatar_id == avatar_id, ENTRIES.c.source.not_in(at_work)))
    nobodys = update(ENTRIES).where(ENTRIES.c.avatar_id == avatar_id).values(avatar_id="", request_id=None)
    posting.connection.execute(nobodys)
    posting.connection.execute(update(ATTEMPTS).where(ATTEMPTS.c.partition == avatar_id).values(partition=""))
    scope = str(Scope(ScopeKind.AVATAR, avatar_id))
    for table in (TOTALS, ACCOUNTS):
        posting.connection.execute(delete(table).where(table.c.scope == scope))
    _forget_alerts(posting.connection, scope)


def _forget_alerts(connection: Connection, scope: str) -> None:
    """Delete the alerts of the limits of one scope, and their webhooks, sent or not."""
    of_scope = BudgetAlertRow.limit_id.endswith(f"@{scope}", autoescape=True)
    columns = (BudgetAlertRow.limit_id, BudgetAlertRow.period_start, BudgetAlertRow.kind, BudgetAlertRow.threshold)
    names = [callback_name(*row) for row in connection.execute(select(*columns).where(of_scope))]
    for some in chunks(names):
        connection.execute(delete(CallbackRow).where(CallbackRow.request_id.in_(some)))
    connection.execute(delete(BudgetAlertRow).where(of_scope))


def forget_settled(posting: Posting, attempt_key: str, keys: Iterable[str]) -> None:
    """Finish forgetting reservations that an attempt drew on, now that it is settled."""
    forgotten = [key for key in keys if (known := posting.get(key)) is not None and known.purpose == FORGOTTEN]
    for some in chunks(forgotten):
        _rename(posting, and_(ENTRIES.c.source == attempt_key, ENTRIES.c.reservation.in_(some)))
    delete_reservations(posting, [key for key in forgotten if not _draws(posting, key)])


def tidy(engine: Engine, before: datetime) -> int:
    """Delete attempts and reservations that were over by then; return how many. Entries stay."""
    closed = delete_in_pages(
        engine,
        ReservationRow.key,
        ReservationRow.closed_at < before,
        ReservationRow.open_attempts == 0,
    )
    return closed + delete_in_pages(engine, AttemptRow.key, AttemptRow.ended_at < before)


def delete_reservations(posting: Posting, keys: Iterable[str]) -> None:
    """Delete reservations that are closed."""
    for some in chunks(sorted(keys)):
        posting.connection.execute(delete(RESERVATIONS).where(RESERVATIONS.c.key.in_(some)))


def _draws(posting: Posting, key: str) -> bool:
    known = posting.get(key)
    return known is not None and known.open_attempts > 0


def _rename(posting: Posting, which: ColumnElement[bool]) -> None:
    nameless = literal(f"{FORGOTTEN}/") + cast(ENTRIES.c.id, String)
    posting.connection.execute(update(ENTRIES).where(which).values(reservation=nameless))
