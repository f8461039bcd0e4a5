"""What the reconciler asks of the ledger: which attempts it knows, how far requests are, what was billed unnoticed."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, and_, exists, or_, select

from avatar_pipeline.ledger.database import chunks, reading
from avatar_pipeline.ledger.provider_schema import OPEN, ChargeRow
from avatar_pipeline.ledger.schema import RequestRow
from avatar_pipeline.ledger.spend_schema import AttemptRow, EntryRow
from avatar_pipeline.ledger.states import FINAL


@dataclass(frozen=True, slots=True)
class RequestEnd:
    """How far a request is: whether it has ended, was made, or is held, and what pays for it now."""

    is_final: bool
    is_done: bool
    is_held: bool
    reservation: str | None


def endings(engine: Engine, attempts: Collection[str]) -> dict[str, str | None]:
    """Return the endings of those of these attempts that the ledger knows; None for one that is open."""
    found: dict[str, str | None] = {}
    with reading(engine) as session:
        for keys in chunks(list(attempts)):
            query = select(AttemptRow.key, AttemptRow.ended_at, AttemptRow.ending).where(AttemptRow.key.in_(keys))
            for row in session.execute(query):
                found[row.key] = None if row.ended_at is None else row.ending or ""
    return found


def request_ends(engine: Engine, request_ids: Collection[str]) -> dict[str, RequestEnd]:
    """Return how far those of these requests are that are still there."""
    found: dict[str, RequestEnd] = {}
    with reading(engine) as session:
        for names in chunks(list(request_ids)):
            query = select(RequestRow.id, RequestRow.state, RequestRow.reservation).where(RequestRow.id.in_(names))
            for row in session.execute(query):
                found[row.id] = RequestEnd(
                    row.state in FINAL, row.state == "done", row.state == "held", row.reservation
                )
    return found


def unwritten_charges(
    engine: Engine, providers: Iterable[str], since: datetime, unclear_before: datetime
) -> list[tuple[str, str]]:
    """Return provider and item of what was, or may have been, billed since then and is not in the ledger of spend.

    A call that was sent before `unclear_before` and of which nobody knows what became counts as billed: money that may
    be spent is not free. What was billed at nothing is no spending.
    """
    found = []
    with reading(engine) as session:
        for provider in providers:
            written = exists().where(EntryRow.source == ChargeRow.provider + "/" + ChargeRow.item_key)
            settled = and_(ChargeRow.state == "settled", ChargeRow.settled_at >= since)
            unclear = and_(
                OPEN, ChargeRow.state == "sent", ChargeRow.sent_at >= since, ChargeRow.sent_at < unclear_before
            )
            query = select(ChargeRow.item_key, ChargeRow.settled, ChargeRow.reserved).where(
                ChargeRow.provider == provider, or_(settled, unclear), ~written
            )
            found += [
                (provider, row.item_key)
                for row in session.execute(query)
                if (row.reserved if row.settled is None else row.settled)
            ]
    return found


def waits_for_providers(engine: Engine, reservations: Collection[str], since: datetime) -> set[str]:
    """Return those of these reservations of which a call was sent since then and nobody knows yet what became of it."""
    found: set[str] = set()
    with reading(engine) as session:
        for keys in chunks(sorted(reservations)):
            query = select(ChargeRow.reservation).where(
                OPEN, ChargeRow.reservation.in_(keys), ChargeRow.state == "sent", ChargeRow.sent_at >= since
            )
            found |= {key for key in session.scalars(query) if key is not None}
    return found
