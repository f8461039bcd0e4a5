"""What was spent, added up as it is spent: by scope and unit, quarter of an hour and UTC day."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Connection,
    Engine,
    Table,
    and_,
    bindparam,
    delete,
    func,
    literal_column,
    select,
    union_all,
)
from sqlalchemy.dialects import postgresql, sqlite

from avatar_pipeline.budget.periods import cover, day_of, slot_of
from avatar_pipeline.budget.types import NONE, Scope, ScopeKind, Unit
from avatar_pipeline.ledger.database import changed, writing
from avatar_pipeline.ledger.spend_schema import AccountRow, TotalRow

QUARTER, DAY = "q", "d"
ACCOUNTS: Table = AccountRow.__table__  # type: ignore[assignment]
TOTALS: Table = TotalRow.__table__  # type: ignore[assignment]
_SCOPES = 4
"""Scopes that a payer counts in, at most."""

ScopeUnit = tuple[Scope, Unit]


@dataclass(frozen=True, slots=True)
class Span:
    """Rows of one grain that begin from `start` up to, not including, `end`."""

    grain: str
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Sum:
    """What was spent in a span, and when its oldest row with any spending begins."""

    settled: Decimal
    oldest: datetime | None


def spans(start: datetime, end: datetime) -> tuple[Span, ...]:
    """Return the rows that make up [start, end): of whole days, and of quarters of an hour before and after them."""
    parts = cover(start, end)
    days = () if parts.days is None else (Span(DAY, *parts.days),)
    return (*days, *(Span(QUARTER, *quarters) for quarters in parts.quarters))


def sums(
    connection: Connection, wanted: Collection[Span], scopes: Collection[Scope]
) -> dict[Span, dict[tuple[str, str], Sum]]:
    """Add up each span for some scopes (four at most) in one statement; by scope and unit, as the table has them."""
    if not wanted:
        return {}
    names = [str(scope) for scope in scopes]
    padded = names + [names[0]] * (_SCOPES - len(names))
    values: dict[str, Any] = {f"scope{number}": name for number, name in enumerate(padded)}
    return _added(connection, wanted, _sums(len(wanted), of_scopes=True), values)


def all_sums(
    connection: Connection, wanted: Collection[Span], scopes: Collection[Scope], kinds: Collection[ScopeKind]
) -> dict[Span, dict[tuple[str, str], Sum]]:
    """Add up each span for some scopes, and for all scopes of some kinds that spent anything in it."""
    found: dict[Span, dict[tuple[str, str], Sum]] = {}
    statement = _sums(1, of_scopes=False)
    of_these = {str(scope) for scope in scopes}
    for span in wanted:
        rows = _added(connection, [span], statement, {})[span]
        found[span] = {key: row for key, row in rows.items() if key[0] in of_these or scope_of(key[0]).kind in kinds}
    return found


def add(connection: Connection, spent: Mapping[tuple[Scope, Unit, datetime], Decimal]) -> None:
    """Add what was spent (or is given back) in quarters of an hour to both grains."""
    rows: dict[tuple[str, str, str, datetime], Decimal] = {}
    for (scope, unit, slot), amount in spent.items():
        for key in ((str(scope), str(unit), DAY, day_of(slot)), (str(scope), str(unit), QUARTER, slot_of(slot))):
            rows[key] = rows.get(key, NONE) + amount
    values = [
        {"scope": scope, "unit": unit, "grain": grain, "start": start, "settled": amount}
        for (scope, unit, grain, start), amount in sorted(rows.items())
        if amount
    ]
    if values:
        connection.execute(_adding(connection.dialect.name, TOTALS, "settled"), values)


def put_aside(connection: Connection, changes: Mapping[ScopeUnit, Decimal]) -> None:
    """Add to what is reserved, scope by scope; what falls is negative."""
    values = [
        {"scope": str(scope), "unit": str(unit), "reserved": amount}
        for (scope, unit), amount in sorted(changes.items())
        if amount
    ]
    if values:
        connection.execute(_adding(connection.dialect.name, ACCOUNTS, "reserved"), values)


def reserved(connection: Connection, scopes: Collection[Scope]) -> dict[tuple[str, str], Decimal]:
    """Return what is reserved in some scopes (four at most), by scope and unit."""
    names = [str(scope) for scope in scopes]
    padded = names + [names[0]] * (_SCOPES - len(names))
    values = {f"scope{number}": name for number, name in enumerate(padded)}
    return {(row.scope, row.unit): row.reserved for row in connection.execute(_RESERVED, values)}


def all_reserved(connection: Connection) -> dict[tuple[str, str], Decimal]:
    """Return what is reserved in every scope in which anything is."""
    query = select(ACCOUNTS).where(ACCOUNTS.c.reserved != NONE)
    return {(row.scope, row.unit): row.reserved for row in connection.execute(query)}


def hourly(connection: Connection, scope: Scope, unit: Unit, since: datetime) -> dict[datetime, Decimal]:
    """Return what was spent in each UTC hour from that of `since` on; hours without spending are left out."""
    query = select(TOTALS.c.start, TOTALS.c.settled).where(
        TOTALS.c.scope == str(scope),
        TOTALS.c.unit == str(unit),
        TOTALS.c.grain == QUARTER,
        TOTALS.c.start >= hour_of(since),
    )
    found: dict[datetime, Decimal] = {}
    for start, settled in connection.execute(query.order_by(TOTALS.c.start)):
        hour = hour_of(start)
        found[hour] = found.get(hour, NONE) + settled
    return {hour: amount for hour, amount in found.items() if amount}


def hour_of(moment: datetime) -> datetime:
    """Return the start of the UTC hour that holds `moment`."""
    return slot_of(moment).replace(minute=0)


def forget_quarters(engine: Engine, before: datetime) -> int:
    """Delete quarters of an hour from before `before`, some days at a time; UTC days stay."""
    old = and_(TOTALS.c.grain == QUARTER, TOTALS.c.start < before)
    total = 0
    while True:
        with writing(engine) as session:
            connection = session.connection()
            first = connection.scalar(select(func.min(TOTALS.c.start)).where(old))
            if first is None:
                return total
            a_day = and_(old, TOTALS.c.start < day_of(first) + timedelta(days=1))
            total += changed(connection.execute(delete(TOTALS).where(a_day)))


def scope_of(key: str) -> Scope:
    """Return the scope of a key such as `tenant:acme`."""
    kind, _, name = key.partition(":")
    return Scope(ScopeKind(kind), name)


def _added(
    connection: Connection, wanted: Collection[Span], statement: CompoundSelect[Any] | Any, values: dict[str, Any]
) -> dict[Span, dict[tuple[str, str], Sum]]:
    ordered = list(wanted)
    for number, span in enumerate(ordered):
        values |= {f"grain{number}": span.grain, f"start{number}": span.start, f"end{number}": span.end}
    found: dict[Span, dict[tuple[str, str], Sum]] = {span: {} for span in ordered}
    for number, scope, unit, settled, oldest in connection.execute(statement, values):
        found[ordered[number]][scope, unit] = Sum(settled, oldest)
    return found


@lru_cache(maxsize=64)
def _sums(count: int, *, of_scopes: bool) -> Any:
    return union_all(*(_sum(number, of_scopes=of_scopes) for number in range(count)))


def _sum(number: int, *, of_scopes: bool) -> Any:
    query = (
        select(
            literal_column(str(number)).label("number"),
            TOTALS.c.scope,
            TOTALS.c.unit,
            func.sum(TOTALS.c.settled).label("settled"),
            func.min(TOTALS.c.start).filter(TOTALS.c.settled > NONE).label("oldest"),
        )
        .where(
            TOTALS.c.grain == bindparam(f"grain{number}", type_=TOTALS.c.grain.type),
            TOTALS.c.start >= bindparam(f"start{number}", type_=TOTALS.c.start.type),
            TOTALS.c.start < bindparam(f"end{number}", type_=TOTALS.c.start.type),
        )
        .group_by(TOTALS.c.scope, TOTALS.c.unit)
    )
    return query.where(_is_one_of(TOTALS), _ANY_UNIT) if of_scopes else query


def _is_one_of(table: Table) -> ColumnElement[bool]:
    """A set number of names, so that there is one statement for all of them."""
    return table.c.scope.in_([bindparam(f"scope{number}", type_=table.c.scope.type) for number in range(_SCOPES)])


# The primary key is by scope, unit, grain and start: without a unit, a database would read all days to find one.
_ANY_UNIT = TOTALS.c.unit.in_([literal_column(f"'{unit}'") for unit in Unit])
_RESERVED = select(ACCOUNTS).where(_is_one_of(ACCOUNTS))


@lru_cache(maxsize=8)
def _adding(dialect: str, table: Table, column: str) -> Any:
    statement = (sqlite if dialect == "sqlite" else postgresql).insert(table)
    return statement.on_conflict_do_update(
        index_elements=list(table.primary_key.columns),
        set_={column: table.c[column] + statement.excluded[column]},
    )
