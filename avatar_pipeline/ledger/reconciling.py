"""What the reconciler asks of the ledger: which attempts it knows, how far requests are, what was billed unnoticed."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, exists, select

from avatar_pipeline.ledger.database import chunks, reading
from avatar_pipeline.ledger.provider_schema import ChargeRow
from avatar_pipeline.ledger.schema import RequestRow
from avatar_pipeline.ledger.spend_schema import AttemptRow, EntryRow
from avatar_pipeline.ledger.states import FINAL


@dataclass(frozen=True, slots=True)
class RequestEnd:
    """How far a request is: whether anything more is done for it, whether it was made, and what pays for it now."""

    is_final: bool
    is_done: bool
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
                found[row.id] = RequestEnd(row.state in FINAL, row.state == "done", row.reservation)
    return found


def unwritten_charges(engine: Engine, providers: Iterable[str], since: datetime) -> list[tuple[str, str]]:
    """Return provider and item of what was billed at `since` or later and is not in the ledger of spend.

    What was billed at nothing is no spending.
    """
    found = []
    with reading(engine) as session:
        for provider in providers:
            written = exists().where(EntryRow.source == ChargeRow.provider + "/" + ChargeRow.item_key)
            query = select(ChargeRow.item_key, ChargeRow.settled).where(
                ChargeRow.provider == provider,
                ChargeRow.settled_at >= since,
                ChargeRow.state == "settled",
                ~written,
            )
            found += [(provider, row.item_key) for row in session.execute(query) if row.settled]
    return found
