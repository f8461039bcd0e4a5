"""The lines of spending: what an attempt has cost each payer in each quarter of an hour, and what providers billed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Table, bindparam, func, insert, select, update

from avatar_pipeline.budget.types import CURRENCY, NONE, Amounts, Payer, ProviderCharge
from avatar_pipeline.ledger.spend_posting import Posting, Spending, payer_of
from avatar_pipeline.ledger.spend_schema import EntryRow
from avatar_pipeline.ledger.spend_split import NOBODY, amounts
from avatar_pipeline.ledger.spend_views import AttemptView, ReservationView

ENTRIES: Table = EntryRow.__table__  # type: ignore[assignment]
COMPUTE, PROVIDER = "compute", "provider"
_MICROS = Decimal(1_000_000)
_NEW = insert(ENTRIES)
_CHANGED = (
    update(ENTRIES)
    .where(ENTRIES.c.id == bindparam("b_id"))
    .values({name: bindparam(name, type_=ENTRIES.c[name].type) for name in ("seconds", "amount", "on_demand")})
)
_FROM = select(ENTRIES).where(ENTRIES.c.source == bindparam("source"), ENTRIES.c.slot >= bindparam("slot"))
_ALL = select(ENTRIES).where(ENTRIES.c.source == bindparam("source"))
_KNOWN = select(ENTRIES.c.id).where(ENTRIES.c.source == bindparam("source")).limit(1)
_PAID = (
    select(ENTRIES.c.reservation, func.sum(ENTRIES.c.seconds))
    .where(ENTRIES.c.source == bindparam("source"))
    .group_by(ENTRIES.c.reservation)
)


@dataclass(frozen=True, slots=True)
class _Line:
    """One entry: microseconds, and millionths of a dollar."""

    id: int | None
    reservation: str
    slot: datetime
    payer: Payer
    time: int = 0
    amount: int = 0
    on_demand: int = 0


def paid_so_far(connection: Connection, attempt_key: str) -> dict[str, int]:
    """Return the microseconds that each reservation has paid for of an attempt."""
    rows = connection.execute(_PAID, {"source": attempt_key})
    return {key: int(seconds * _MICROS) for key, seconds in rows if seconds > 0}


def post_time(posting: Posting, attempt: AttemptView, added: Mapping[tuple[datetime, str], int]) -> AttemptView:
    """Charge more microseconds of an attempt, by quarter of an hour and reservation, at its price.

    Entries from the first of these quarters on are reckoned anew: their amounts add up along the attempt, so that they
    sum to its cost however often it was metered.
    """
    if not added:
        return attempt
    first = min(slot for slot, _ in added)
    rows = posting.connection.execute(_FROM, {"source": attempt.key, "slot": first}).mappings()
    return _post(posting, attempt, _lines(rows), added)


def post_again(
    posting: Posting, attempt: AttemptView, added: Mapping[tuple[datetime, str], int], priced: AttemptView
) -> AttemptView:
    """Charge more microseconds, and reckon all that an attempt cost anew, at the price of `priced`."""
    rows = posting.connection.execute(_ALL, {"source": attempt.key}).mappings()
    settled = _post(posting, replace(priced, seconds=attempt.seconds), _lines(rows), added)
    where = (priced.capacity_type, priced.instance_type)
    if where != (attempt.capacity_type, attempt.instance_type):
        corrected = update(ENTRIES).where(ENTRIES.c.source == attempt.key)
        posting.connection.execute(corrected.values(capacity_type=where[0], instance_type=where[1]))
    return settled


def post_charge(posting: Posting, charge: ProviderCharge, slot: datetime) -> bool:
    """Write down what a provider billed, once; false if it is known."""
    if posting.connection.execute(_KNOWN, {"source": charge.key}).first() is not None:
        return False
    known = posting.get(charge.reservation) if charge.reservation else None
    payer = _payer(charge, known)
    spent = Amounts(provider=charge.usd, characters=charge.characters)
    entry = _values(charge.key, payer, PROVIDER, charge.asset) | {
        "reservation": known.key if known else NOBODY,
        "slot": slot,
        "capacity_type": "",
        "instance_type": None,
        "seconds": NONE,
        "characters": charge.characters,
        "amount": charge.usd,
        "on_demand": charge.usd,
    }
    posting.connection.execute(_NEW, entry)
    posting.spend(Spending(payer, slot, spent))
    if known:
        posting.draw(known.key, slot, spent)
    return True


def _payer(charge: ProviderCharge, known: ReservationView | None) -> Payer:
    """On whose account a charge is: where the money was put aside, if it was."""
    return replace(known.payer if known else charge.payer, provider=charge.provider)


def _post(
    posting: Posting,
    attempt: AttemptView,
    lines: dict[tuple[datetime, str], _Line],
    added: Mapping[tuple[datetime, str], int],
) -> AttemptView:
    before = _whole(attempt.seconds) - sum(line.time for line in lines.values())
    posting.fetch(key for _, key in added if key != NOBODY)
    merged = dict(lines)
    for (slot, key), time in added.items():
        known = merged.get((slot, key))
        if known is None:
            payer = payer_of(posting.get(key)) if key else Payer()
            known = _Line(None, key, slot, payer)
        merged[slot, key] = replace(known, time=known.time + time)
    ordered = [line for _, line in sorted(merged.items(), key=lambda each: each[0])]
    times = [line.time for line in ordered]
    price = _whole(attempt.price_per_hour)
    on_demand = price if attempt.on_demand_price is None else _whole(attempt.on_demand_price)
    costs, elsewhere = amounts(times, price, before=before), amounts(times, on_demand, before=before)
    priced = [
        replace(line, amount=cost, on_demand=other) for line, cost, other in zip(ordered, costs, elsewhere, strict=True)
    ]
    _write(posting, attempt, priced, lines)
    total = before + sum(times)
    (cost,) = amounts([total], price)
    return replace(attempt, seconds=_parts(total), cost=_parts(cost))


def _write(
    posting: Posting, attempt: AttemptView, priced: list[_Line], known: Mapping[tuple[datetime, str], _Line]
) -> None:
    new, changed = [], []
    for line in priced:
        old = known.get((line.slot, line.reservation))
        if line == old:
            continue
        figures = {
            "seconds": _parts(line.time),
            "amount": _parts(line.amount),
            "on_demand": _parts(line.on_demand),
        }
        if old is None:
            new.append(_compute(attempt, line) | figures)
        else:
            changed.append({"b_id": old.id} | figures)
        more, longer = (line.amount - old.amount, line.time - old.time) if old else (line.amount, line.time)
        spent = Amounts(compute=_parts(more))
        posting.spend(Spending(line.payer, line.slot, spent))
        posting.draw(line.reservation, line.slot, spent, _parts(longer))
    if new:
        posting.connection.execute(_NEW, new)
    if changed:
        posting.connection.execute(_CHANGED, changed)


def _compute(attempt: AttemptView, line: _Line) -> dict[str, Any]:
    return _values(attempt.key, line.payer, COMPUTE, attempt.asset) | {
        "reservation": line.reservation,
        "slot": line.slot,
        "capacity_type": attempt.capacity_type,
        "instance_type": attempt.instance_type,
        "characters": NONE,
    }


def _values(source: str, payer: Payer, kind: str, asset: str) -> dict[str, Any]:
    return {
        "source": source,
        "kind": kind,
        "tenant": payer.tenant,
        "avatar_id": payer.avatar_id,
        "request_id": payer.request_id,
        "provider": payer.provider,
        "asset": asset,
        "currency": CURRENCY,
    }


def _lines(rows: Any) -> dict[tuple[datetime, str], _Line]:
    return {
        (row["slot"], row["reservation"]): _Line(
            id=row["id"],
            reservation=row["reservation"],
            slot=row["slot"],
            payer=Payer(row["tenant"], row["avatar_id"], row["request_id"], row["provider"]),
            time=_whole(row["seconds"]),
            amount=_whole(row["amount"]),
            on_demand=_whole(row["on_demand"]),
        )
        for row in rows
    }


def _whole(amount: Decimal) -> int:
    return int(amount * _MICROS)


def _parts(amount: int) -> Decimal:
    return Decimal(amount) / _MICROS
