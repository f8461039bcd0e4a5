"""Attempts: who pays for a step while it runs, and what it came to. Inside a caller's transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Table, bindparam, insert, select, update

from avatar_pipeline.budget.types import NONE, AttemptEnd, AttemptStart, Remaining, Shares
from avatar_pipeline.errors import NotFound
from avatar_pipeline.ledger.spend_admission import exact
from avatar_pipeline.ledger.spend_entries import paid_so_far, post_again, post_time
from avatar_pipeline.ledger.spend_posting import Posting
from avatar_pipeline.ledger.spend_schema import AttemptRow
from avatar_pipeline.ledger.spend_split import NOBODY, split
from avatar_pipeline.ledger.spend_views import AttemptView, attempt_view

ATTEMPTS: Table = AttemptRow.__table__  # type: ignore[assignment]
_ONE = select(ATTEMPTS).where(ATTEMPTS.c.key == bindparam("key"))
_NEW = insert(ATTEMPTS)


def begin(posting: Posting, start: AttemptStart, shares: Shares) -> bool:
    """Write down an attempt that begins, and who pays for it; false if it is known."""
    _check(start.started_at, shares)
    if not exact(start.price_per_hour) or not exact(start.on_demand_price or NONE):
        raise ValueError(f"{start.key}: {start.price_per_hour} or {start.on_demand_price} is no price of an hour")
    if _find(posting.connection, start.key) is not None:
        return False
    paying = _join(posting, {}, shares)
    values = asdict(start) | {"metered_until": start.started_at, "seconds": NONE, "cost": NONE}
    posting.connection.execute(_NEW, values | {"shares": paying, "ended_at": None, "ending": None})
    return True


def meter(
    posting: Posting, key: str, until: datetime, shares: Shares | None, *, lease: timedelta
) -> dict[str, Remaining]:
    """Charge an attempt up to `until`, then let `shares` pay; return what those who pay now have left."""
    _check(until, shares or {})
    known = _require(posting.connection, key)
    view, paying = known
    if view.ended_at is None:
        metered = view
        if until > view.metered_until:
            weights = _payers(posting.connection, key, paying, shares)
            metered = post_time(posting, view, split(view.metered_until, until, weights))
            metered = replace(metered, metered_until=until)
        if shares is not None:
            paying = _join(posting, paying, shares)
        for reservation in _of(posting, paying):
            later = max(reservation.expires_at, posting.now + lease)
            posting.change(reservation, expires_at=later)
        _write(posting.connection, metered, paying)
    else:
        paying = dict(shares or {})
    return {
        reservation.key: Remaining(reservation.key, reservation.left, closed=not reservation.is_open)
        for reservation in _of(posting, paying)
    }


def settle(posting: Posting, key: str, end: AttemptEnd) -> list[str] | None:
    """End an attempt as it was observed, at its real price; return which reservations paid, None if it has ended.

    What nobody metered is charged to who pays now. What was metered stays charged, whatever was observed.
    """
    _check(end.at, {})
    _check(end.started_at or end.at, {})
    for price in (end.price_per_hour, end.on_demand_price):
        if not exact(price or NONE):
            raise ValueError(f"{key}: {price} is no price of an hour")
    view, paying = _require(posting.connection, key)
    if view.ended_at is not None:
        return None
    started_at = min(view.started_at, end.started_at or view.started_at)
    ended_at = max(view.metered_until, end.at)
    weights = _payers(posting.connection, key, paying, None)
    added = split(started_at, view.started_at, weights)
    for part, time in split(view.metered_until, ended_at, weights).items():
        added[part] = added.get(part, 0) + time
    observed = {name: value for name in _OBSERVED if (value := getattr(end, name)) is not None}
    seen = replace(
        view, **observed, started_at=started_at, metered_until=ended_at, ended_at=ended_at, ending=end.ending
    )
    _write(posting.connection, post_again(posting, view, added, seen), {})
    posting.fetch(paying)
    for name in sorted(paying):
        reservation = posting.get(name) if name else None
        if reservation is None:
            continue
        still_open = max(0, reservation.open_attempts - 1)
        reservation = posting.change(reservation, open_attempts=still_open)
        if reservation.closing and reservation.is_open and not still_open:
            posting.close(reservation)
    return sorted(key for key in paying if key)


def _find(connection: Connection, key: str) -> tuple[AttemptView, dict[str, int]] | None:
    row = connection.execute(_ONE, {"key": key}).mappings().first()
    return (attempt_view(row), dict(row["shares"])) if row else None


def _require(connection: Connection, key: str) -> tuple[AttemptView, dict[str, int]]:
    known = _find(connection, key)
    if known is None:
        raise NotFound(f"There is no attempt {key}.", remedy="Write down its beginning first.")
    return known


def _payers(connection: Connection, key: str, paying: Mapping[str, int], new: Shares | None) -> Mapping[str, int]:
    """Who pays for what is not metered yet: those who pay now; else those who paid, by seconds; else who comes next."""
    now = {name: weight for name, weight in paying.items() if weight > 0}
    return now or paid_so_far(connection, key) or new or {}


def _join(posting: Posting, before: Mapping[str, int], shares: Shares) -> dict[str, int]:
    """Return who pays from now on. Those who paid before stay known, with a weight of 0, until the attempt is settled.

    Reservations that are not there (any more) pay nothing: their part is nobody's.
    """
    posting.fetch(key for key in shares if key)
    paying = {key: 0 for key in before if key != NOBODY}
    for key in sorted(shares):
        reservation = posting.get(key) if key else None
        if reservation is None:
            paying[NOBODY] = paying.get(NOBODY, 0) + shares[key]
            continue
        if key not in paying:
            state = "committed" if reservation.state == "reserved" else reservation.state
            posting.change(
                reservation,
                state=state,
                attempts=reservation.attempts + 1,
                open_attempts=reservation.open_attempts + 1,
            )
        paying[key] = shares[key]
    return paying


def _of(posting: Posting, paying: Mapping[str, int]) -> list[Any]:
    names = [key for key, weight in paying.items() if key and weight > 0]
    posting.fetch(names)
    return [reservation for key in names if (reservation := posting.get(key)) is not None]


def _write(connection: Connection, view: AttemptView, paying: Mapping[str, int]) -> None:
    columns = {name: getattr(view, name) for name in _CHANGING}
    changed = update(ATTEMPTS).where(ATTEMPTS.c.key == view.key)
    connection.execute(changed.values(**columns, shares=dict(paying)))


def _check(moment: datetime, shares: Shares) -> None:
    if moment.tzinfo is None:
        raise ValueError("a naive datetime was given to the ledger")
    if any(weight < 1 for weight in shares.values()):
        raise ValueError(f"a share is a whole number from 1 on: {dict(shares)}")


_OBSERVED = ("price_per_hour", "on_demand_price", "price_source", "capacity_type", "profile", "instance_type", "zone")
_CHANGING = (*_OBSERVED, "started_at", "metered_until", "ended_at", "ending", "seconds", "cost")
