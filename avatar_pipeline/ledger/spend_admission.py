"""Admission: what is asked is compared with what is left, and put aside, in one step. Inside a caller's transaction."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import Connection, bindparam, insert, select

from avatar_pipeline.budget.config import Plan
from avatar_pipeline.budget.gate import decide
from avatar_pipeline.budget.types import MICRO, NONE, Admission, Amounts, Decision, Demand, lines
from avatar_pipeline.errors import Conflict, NotFound
from avatar_pipeline.ledger import totals
from avatar_pipeline.ledger.spend_posting import RESERVATIONS, Posting, insert_values, lock
from avatar_pipeline.ledger.spend_views import ReservationView, degraded_of
from avatar_pipeline.ledger.standings import stand

_URGENT = 9
_KNOWN = select(RESERVATIONS.c.degraded).where(RESERVATIONS.c.key == bindparam("key"))
_NEW = insert(RESERVATIONS)


def admit(connection: Connection, demand: Demand, now: datetime, *, plan: Plan, lease: timedelta) -> Admission:
    """Reserve what is asked if all limits have room for it, else nothing.

    Raises:
        ValueError: an amount is below 0 or has more than six places, or nothing is asked at all: nothing is free.
    """
    _check(demand.amounts, demand.key)
    lock(connection)
    known = connection.execute(_KNOWN, {"key": demand.key}).first()
    if known is not None:
        return _again(demand.key, known.degraded)
    admission = _decide(connection, demand, now, plan)
    if not admission.admitted:
        return admission
    new = ReservationView(
        key=demand.key,
        state="reserved",
        purpose=demand.purpose,
        payer=demand.payer,
        units=demand.units.quantize(MICRO),
        reserved=demand.amounts,
        used=Amounts(),
        seconds=NONE,
        attempts=0,
        open_attempts=0,
        degraded=admission.degraded,
        closing=False,
        finished=False,
        created_at=now,
        expires_at=now + lease,
        closed_at=None,
    )
    connection.execute(_NEW, insert_values(new))
    totals.put_aside(connection, lines(demand.payer, demand.amounts))
    return admission


def top_up(connection: Connection, key: str, more: Amounts, now: datetime, *, plan: Plan) -> Admission:
    """Put more aside for an open reservation, if all its limits have room for it. It is work that has begun, so it does
    not wait for off-peak hours.

    What was spent beyond the reservation before is not made up for: it is spent, and counted as such.

    Raises:
        NotFound: there is no such reservation.
        Conflict: it is closed, or about to be.
    """
    _check(more, key)
    posting = Posting(connection, now)
    known = posting.get(key)
    if known is None:
        raise not_found(key)
    if not known.is_open or known.closing:
        raise Conflict(
            f"Reservation {key} is {'closing' if known.is_open else known.state}, and was to be topped up.",
            remedy="Have the work admitted anew.",
        )
    demand = Demand(key, known.purpose, known.payer, more, priority=_URGENT)
    admission = _decide(connection, demand, now, plan)
    if admission.admitted:
        posting.change(known, reserved=_at_least(known.reserved, known.used) + more)
        posting.write()
    return admission


def not_found(key: str) -> NotFound:
    """Return the error for a reservation that is not there."""
    return NotFound(f"There is no reservation {key}.", remedy="Have the work admitted first.")


def _decide(connection: Connection, demand: Demand, now: datetime, plan: Plan) -> Admission:
    standings = stand(connection, plan, plan.limits_for(demand.payer), now)
    return decide(demand, standings, now, timezone=plan.timezone)


def _again(key: str, kept: dict[str, object] | None) -> Admission:
    degraded = degraded_of(kept)
    decision = Decision.ADMIT if degraded is None else Decision.DEGRADE
    return Admission(decision, key, "It was admitted before.", degraded=degraded, replayed=True)


def _at_least(reserved: Amounts, used: Amounts) -> Amounts:
    return Amounts(
        max(reserved.compute, used.compute),
        max(reserved.provider, used.provider),
        max(reserved.characters, used.characters),
    )


def _check(amounts: Amounts, key: str) -> None:
    parts = (amounts.compute, amounts.provider, amounts.characters)
    if any(not exact(part) for part in parts) or not any(parts):
        raise ValueError(f"{key}: {amounts} is no amount to reserve")


def exact(amount: Decimal) -> bool:
    """Return whether an amount is a number from 0 on, in whole millionths."""
    return amount.is_finite() and amount >= 0 and amount == amount.quantize(MICRO)
