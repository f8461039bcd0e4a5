"""How limits stand: what is in force, what was spent in the period, and what is reserved now."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache

from sqlalchemy import Connection, RowMapping, Table, bindparam, select

from avatar_pipeline.budget.changes import Change, carried, in_force
from avatar_pipeline.budget.config import Limit, Plan
from avatar_pipeline.budget.periods import DAY, Period, Window, before, day_of, leaves, slot_of, window
from avatar_pipeline.budget.types import NONE, ScopeKind, Standing
from avatar_pipeline.ledger import totals
from avatar_pipeline.ledger.database import CHUNK
from avatar_pipeline.ledger.spend_schema import BudgetChangeRow
from avatar_pipeline.ledger.totals import QUARTER, Span, Sum

CHANGES: Table = BudgetChangeRow.__table__  # type: ignore[assignment]
_ALL_CHANGES = select(CHANGES).order_by(CHANGES.c.id)
_SOME_CHANGES = _ALL_CHANGES.where(CHANGES.c.limit_id.in_(bindparam("limit_ids", expanding=True)))
_JUST = timedelta(microseconds=1)

Sums = Mapping[Span, Mapping[tuple[str, str], Sum]]


@dataclass(frozen=True, slots=True)
class Stretch:
    """A period at a moment, and the one before it, with the rows of totals that make them up."""

    now: Window
    spans: tuple[Span, ...]
    before: Window
    spans_before: tuple[Span, ...]


def stand(connection: Connection, plan: Plan, limits: Sequence[Limit], now: datetime) -> list[tuple[Limit, Standing]]:
    """Return how limits of one payer stand at `now`. A statement each for limits, totals and reservations."""
    if not limits:
        return []
    scopes = list(dict.fromkeys(limit.scope for limit in limits))
    changes = _changes(connection, limits)
    added = totals.sums(connection, _wanted(plan, limits, now), scopes)
    return _standings(plan, limits, now, changes, added, totals.reserved(connection, scopes))


def stand_all(
    connection: Connection, plan: Plan, now: datetime, *, until: datetime | None = None
) -> list[tuple[Limit, Standing]]:
    """Return how every named limit stands, and those for each of a kind where anything is reserved or was spent.

    `until`: for a moment in the past, what people changed later does not count.
    """
    if not plan.rules:
        return []
    fixed = {limit.scope for limit in plan.fixed}
    reserved = totals.all_reserved(connection)
    # What is spent is by far the most to read, and all rules share a few periods.
    added = totals.all_sums(connection, _wanted(plan, plan.rules, now), fixed, plan.scope_kinds)
    seen = {scope for scope, _ in reserved} | {scope for rows in added.values() for scope, _ in rows}
    scopes = fixed | {scope for scope in map(totals.scope_of, seen) if scope.kind in plan.scope_kinds}
    limits = [limit for scope in sorted(scopes) for limit in plan.limits_of(scope)]
    changes = [_change(row) for row in connection.execute(_ALL_CHANGES).mappings()]
    found = _standings(plan, limits, now, changes, added, reserved, until)
    return [
        (limit, standing)
        for limit, standing in found
        if limit.scope in fixed or limit.scope.kind is ScopeKind.ALL or standing.settled or standing.reserved
    ]


def earliest(plan: Plan, now: datetime) -> datetime | None:
    """Return from when on totals are looked at by any limit, None without limits."""
    return min((_stretch(rule.period, plan.timezone, slot_of(now)).before.start for rule in plan.rules), default=None)


def latest(plan: Plan, now: datetime) -> datetime | None:
    """Return from when on every limit counts what was spent, None without limits: money that was spent earlier, and
    comes back, makes room in some period that is over."""
    return max((_stretch(rule.period, plan.timezone, slot_of(now)).now.start for rule in plan.rules), default=None)


def _standings(
    plan: Plan,
    limits: Sequence[Limit],
    now: datetime,
    changes: Sequence[Change],
    added: Sums,
    reserved: Mapping[tuple[str, str], Decimal],
    until: datetime | None = None,
) -> list[tuple[Limit, Standing]]:
    by_limit: dict[str, list[Change]] = {}
    for change in changes:
        if until is not None and change.at > until:
            continue
        by_limit.setdefault(change.limit_id, []).append(change)
    found = []
    for limit in limits:
        key = (str(limit.scope), str(limit.unit))
        stretch = _stretch(limit.period, plan.timezone, slot_of(now))
        mine = [*by_limit.get(limit.id, ()), *(by_limit.get(limit.rule_id, ()) if limit.rule_id != limit.id else ())]
        hard = in_force(limit, mine, now)
        if hard and limit.carry_over and limit.period is not Period.ROLLING:
            hard += _carried(limit, stretch, mine, added, key)
        settled, oldest = _sum(added, stretch.spans, key)
        ends_at = stretch.now.end
        if limit.period is Period.ROLLING:
            ends_at = leaves(oldest) if oldest else None
        standing = Standing(
            limit_id=limit.id,
            scope=limit.scope,
            unit=limit.unit,
            period=limit.period,
            starts_at=stretch.now.start,
            ends_at=ends_at,
            hard=hard,
            settled=settled,
            reserved=reserved.get(key, NONE),
        )
        found.append((limit, standing))
    return found


def _carried(limit: Limit, stretch: Stretch, changes: Sequence[Change], added: Sums, key: tuple[str, str]) -> Decimal:
    """What the period before left: of the limit that was in force at its end, and of what it is known to have cost.

    Money that is reserved since then may yet be settled in it, and what is carried falls by as much. The sum that the
    gate looks at falls by the same at the same time, for it counts what is reserved in full.
    """
    over = stretch.now.start
    known = [change for change in changes if change.at < over]
    settled, _ = _sum(added, stretch.spans_before, key)
    return carried(limit, in_force(limit, known, over - _JUST), settled)


def _sum(added: Sums, wanted: Iterable[Span], key: tuple[str, str]) -> tuple[Decimal, datetime | None]:
    rows = [row for span in wanted if (row := added[span].get(key))]
    oldest = min((row.oldest for row in rows if row.oldest), default=None)
    return sum((row.settled for row in rows), NONE), oldest


def _wanted(plan: Plan, limits: Collection[Limit], now: datetime) -> list[Span]:
    wanted: dict[Span, None] = {}
    for limit in limits:
        stretch = _stretch(limit.period, plan.timezone, slot_of(now))
        wanted |= dict.fromkeys(stretch.spans)
        if limit.carry_over and limit.period is not Period.ROLLING:
            wanted |= dict.fromkeys(stretch.spans_before)
    return list(wanted)


@lru_cache(maxsize=256)
def _stretch(period: Period, timezone: str, slot: datetime) -> Stretch:
    """Periods turn only where a quarter of an hour does, so that this is reckoned once in each."""
    now = window(period, timezone, slot)
    earlier = before(period, timezone, now)
    if now.end is None:
        # By quarters alone, so as to know when the oldest leaves. To the end of tomorrow: clocks differ a little.
        spans_now: tuple[Span, ...] = (Span(QUARTER, now.start, day_of(slot) + 2 * DAY),)
    else:
        spans_now = totals.spans(now.start, now.end)
    return Stretch(now, spans_now, earlier, totals.spans(earlier.start, earlier.end or now.start))


def _changes(connection: Connection, limits: Iterable[Limit]) -> list[Change]:
    names = {name for limit in limits for name in (limit.id, limit.rule_id)}
    # A payer's limits are a few dozen at most; a file with more is read in one go.
    if len(names) > CHUNK:
        return [_change(row) for row in connection.execute(_ALL_CHANGES).mappings()]
    return [_change(row) for row in connection.execute(_SOME_CHANGES, {"limit_ids": sorted(names)}).mappings()]


def _change(row: RowMapping) -> Change:
    return Change(**row)
