"""What has to be true of the tables of money at any moment, whoever did what before: each sum is made anew."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import Connection, Engine, func, select, text

from avatar_pipeline.budget.types import Amounts, Payer, cost, lines
from avatar_pipeline.ledger.database import reading
from avatar_pipeline.ledger.schema import Base
from avatar_pipeline.ledger.spend_forgetting import FORGOTTEN
from avatar_pipeline.ledger.spend_schema import AccountRow, AttemptRow, EntryRow, ReservationRow, TotalRow

MONEY = ("spend_accounts", "spend_totals", "reservations", "spend_attempts", "spend_entries", "budget_changes")
_US = timedelta(microseconds=1)
_OPEN = ("reserved", "committed")

Line = tuple[str, str]
"""A scope and a unit."""


@contextmanager
def at_one_moment(engine: Engine) -> Iterator[Connection]:
    """A transaction that sees all tables as they are at one moment, and keeps nobody waiting."""
    if engine.dialect.name == "sqlite":
        with reading(engine) as session:
            yield session.connection()
        return
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection, connection.begin():
        yield connection


def audit(connection: Connection) -> list[str]:
    """Return what is wrong, in one transaction of the caller's that sees the tables as they are at one moment."""
    return [*_accounts(connection), *_totals(connection), *_attempts(connection), *_reservations(connection)]


def conserved(connection: Connection) -> list[str]:
    """Return what is left behind when all is settled and released: nothing should be reserved, open or unsettled."""
    wrong = [
        f"{row.scope} {row.unit}: {row.reserved} is reserved for nothing"
        for row in connection.execute(select(AccountRow.__table__))
        if row.reserved
    ]
    open_ = select(ReservationRow.key).where(ReservationRow.state.in_(_OPEN))
    wrong += [f"{key} is open for ever" for key in connection.scalars(open_)]
    wrong += [
        f"{key} is not settled"
        for key in connection.scalars(select(AttemptRow.key).where(AttemptRow.ended_at.is_(None)))
    ]
    return wrong


def everything(connection: Connection, *, leave_out: str = "") -> dict[str, list[tuple[object, ...]]]:
    """Return every row of every table of money, to compare with later; but for columns of one name."""
    found = {}
    for name in MONEY:
        table = Base.metadata.tables[name]
        columns = ", ".join(column.name for column in table.columns if column.name != leave_out)
        key = ", ".join(column.name for column in table.primary_key)
        rows = connection.execute(text(f"SELECT {columns} FROM {name} ORDER BY {key}"))
        found[name] = [tuple(str(value) for value in row) for row in rows]
    return found


def reserved(connection: Connection) -> dict[Line, Decimal]:
    """Return what is put aside by scope and unit, added up from the open reservations."""
    table = ReservationRow.__table__.c
    found: dict[Line, Decimal] = defaultdict(Decimal)
    for row in connection.execute(select(ReservationRow.__table__).where(table.state.in_(_OPEN))):
        left = Amounts(
            max(row.compute_reserved - row.compute_used, Decimal(0)),
            max(row.provider_reserved - row.provider_used, Decimal(0)),
            max(row.characters_reserved - row.characters_used, Decimal(0)),
        )
        payer = Payer(row.tenant, row.avatar_id, row.request_id, row.provider)
        for (scope, unit), amount in lines(payer, left).items():
            found[str(scope), str(unit)] += amount
    return found


def spent(connection: Connection) -> dict[tuple[str, str, datetime], Decimal]:
    """Return what was spent by scope, unit and quarter of an hour, added up from the entries."""
    table = EntryRow.__table__.c
    groups = (table.tenant, table.avatar_id, table.provider, table.kind, table.slot)
    query = select(*groups, func.sum(table.amount).label("amount"), func.sum(table.characters).label("characters"))
    found: dict[tuple[str, str, datetime], Decimal] = defaultdict(Decimal)
    for row in connection.execute(query.group_by(*groups)):
        provided = row.kind == "provider"
        amounts = Amounts(Decimal(0), row.amount, row.characters) if provided else Amounts(row.amount)
        payer = Payer(row.tenant, row.avatar_id, None, row.provider)
        for (scope, unit), amount in lines(payer, amounts).items():
            found[str(scope), str(unit), row.slot] += amount
    return found


def _accounts(connection: Connection) -> Iterator[str]:
    kept = {(row.scope, row.unit): row.reserved for row in connection.execute(select(AccountRow.__table__))}
    yield from _differ("account", kept, reserved(connection))


def _totals(connection: Connection) -> Iterator[str]:
    kept: dict[str, dict[tuple[str, str, datetime], Decimal]] = {"q": {}, "d": {}}
    for row in connection.execute(select(TotalRow.__table__)):
        kept[row.grain][row.scope, row.unit, row.start] = row.settled
    quarters = spent(connection)
    days: dict[tuple[str, str, datetime], Decimal] = defaultdict(Decimal)
    for (scope, unit, slot), amount in quarters.items():
        days[scope, unit, slot.replace(hour=0, minute=0)] += amount
    yield from _differ("total of the quarter", kept["q"], quarters)
    yield from _differ("total of the day", kept["d"], days)


def _differ(what: str, kept: dict, added: dict) -> Iterator[str]:
    for key in sorted(kept.keys() | added.keys()):
        is_, should = kept.get(key, Decimal(0)), added.get(key, Decimal(0))
        if is_ != should:
            yield f"{what} {' '.join(map(str, key))}: {is_}, but its lines add up to {should}"


def _attempts(connection: Connection) -> Iterator[str]:
    entry = EntryRow.__table__.c
    sums = select(entry.source, func.sum(entry.amount).label("amount"), func.sum(entry.seconds).label("seconds"))
    by_source = {row.source: row for row in connection.execute(sums.group_by(entry.source))}
    for row in connection.execute(select(AttemptRow.__table__)):
        added = by_source.get(row.key)
        amount, seconds = (added.amount, added.seconds) if added else (Decimal(0), Decimal(0))
        span = row.metered_until - row.started_at
        if row.seconds != Decimal(span // _US) / 1_000_000 or row.ended_at not in (None, row.metered_until):
            yield f"attempt {row.key}: {row.seconds} s from {row.started_at} to {row.metered_until}, {row.ended_at}"
        if row.seconds != seconds:
            yield f"attempt {row.key}: {row.seconds} s, but its entries add up to {seconds}"
        if not row.cost == amount == cost(row.seconds, row.price_per_hour):
            yield (
                f"attempt {row.key} cost {row.cost}, its entries {amount}, "
                f"and {row.seconds} s at {row.price_per_hour} are {cost(row.seconds, row.price_per_hour)}"
            )


def _reservations(connection: Connection) -> Iterator[str]:
    entry = EntryRow.__table__.c
    sums = select(
        entry.reservation,
        entry.kind,
        func.sum(entry.amount).label("amount"),
        func.sum(entry.seconds).label("seconds"),
        func.sum(entry.characters).label("characters"),
    )
    used = {
        (row.reservation, row.kind): row for row in connection.execute(sums.group_by(entry.reservation, entry.kind))
    }
    waiting: dict[str, int] = defaultdict(int)
    for (shares,) in connection.execute(select(AttemptRow.shares).where(AttemptRow.ended_at.is_(None))):
        for key in shares:
            waiting[key] += 1
    for row in connection.execute(select(ReservationRow.__table__)):
        compute, provider = used.get((row.key, "compute")), used.get((row.key, "provider"))
        is_ = (row.compute_used, row.seconds, row.provider_used, row.characters_used)
        should = (
            compute.amount if compute else 0,
            compute.seconds if compute else 0,
            provider.amount if provider else 0,
            provider.characters if provider else 0,
        )
        # Of an avatar that was forgotten, entries no longer say which request they were for.
        if is_ != should and row.purpose != FORGOTTEN:
            yield f"reservation {row.key} has used {is_}, but its entries add up to {should}"
        if row.open_attempts != waiting[row.key]:
            yield f"reservation {row.key} waits for {row.open_attempts} attempts, not {waiting[row.key]}"
        if (row.closed_at is None) != (row.state in _OPEN):
            yield f"reservation {row.key} is {row.state}, closed at {row.closed_at}"
        if row.closing and (row.state not in _OPEN or not row.open_attempts):
            yield f"reservation {row.key} is {row.state} and waits for {row.open_attempts} attempts to close"
