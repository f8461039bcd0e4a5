"""What one day cost, read out of the entries of spending. Days are UTC and half-open.

Every breakdown of a day is added up from the same rows, read in one statement, so that all of them sum to the same
total, to the last millionth, while others write.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, Engine, and_, func, select
from sqlalchemy.orm import Session

from avatar_pipeline.budget.types import ALL, NONE, Unit
from avatar_pipeline.ledger.cost_sums import COMPUTE, NOBODYS, OF_CLIPS, PROVIDER, Spent, added, by, spent_of, summed
from avatar_pipeline.ledger.database import chunks, reading
from avatar_pipeline.ledger.report import HOURS, bounds
from avatar_pipeline.ledger.schema import ArtifactRow, AvatarRow, RequestRow
from avatar_pipeline.ledger.spend_schema import OPEN_ATTEMPT, AttemptRow, EntryRow, TotalRow
from avatar_pipeline.ledger.totals import DAY

RUNNING = "running"
"""In the place of an ending: the attempt has none yet."""
SUCCEEDED = "succeeded"


@dataclass(frozen=True, slots=True)
class Each:
    """What each of some things cost: how many they are, all of them, and the 95th percentile by nearest rank."""

    count: int = 0
    total: Decimal = NONE
    p95: Decimal = NONE

    @property
    def average(self) -> Decimal | None:
        """What one cost on average, None where there is none."""
        return self.total / self.count if self.count else None


@dataclass(frozen=True, slots=True)
class DoneClip:
    """A clip request that was done, which artifact of the avatar it is, and all that it cost, whenever it did."""

    request_id: str
    avatar_id: str
    clip_key: str | None
    cost: Decimal


@dataclass(frozen=True, slots=True)
class DayCosts:
    """What was spent on one day. Each of the mappings but `providers` sums to `total`.

    `by_capacity` has what is no machine under its kind ('provider'); `by_ending` too, and machines by how their attempt
    ended, those that have not under 'running'. A tenant of '' is nobody in particular: manifests, reports. `by_hour`
    are 24; `hours_by_capacity` has them for each name of `by_capacity`, in US dollars. `providers` is what is in
    `by_capacity` under 'provider', provider by provider.

    `unattributed`: spent by work that no reservation was known for. `attempts`: how many attempts spent anything, by
    ending. `unsettled`: attempts that began before the end of the day and have no end yet: what they cost may change.
    `avatars` became ready on that day, `clips` were done on it; what they cost includes what they cost on other days.
    """

    day: date
    total: Spent
    by_tenant: Mapping[str, Spent]
    by_asset: Mapping[str, Spent]
    by_capacity: Mapping[str, Spent]
    by_ending: Mapping[str, Spent]
    by_hour: Sequence[Spent]
    hours_by_capacity: Mapping[str, Sequence[Decimal]]
    providers: Mapping[str, Spent]
    unattributed: Spent
    attempts: Mapping[str, int]
    unsettled: int
    avatars: Each
    clips: Each
    clips_done: Sequence[DoneClip]

    @property
    def lost(self) -> Mapping[str, Spent]:
        """What attempts cost that ended in another way than well, by ending."""
        return {name: spent for name, spent in self.by_ending.items() if name in self.attempts and _is_bad(name)}


def read_costs(engine: Engine, day: date) -> DayCosts:
    """Read what was spent on a day, and what became ready on it cost."""
    start, end = bounds(day)
    with reading(engine) as session:
        rows = _rows(session, start, end)
        attempts = _attempts(session, start, end)
        unsettled = session.scalar(
            select(func.count()).select_from(AttemptRow).where(OPEN_ATTEMPT, AttemptRow.started_at < end)
        )
        clips = _clips_done(session, start, end)
        avatars = _avatars_ready(session, start, end)
    machines = [row for row in rows if row.kind == COMPUTE]
    return DayCosts(
        day=day,
        total=added(spent_of(row) for row in rows),
        by_tenant=by(rows, lambda row: row.tenant),
        by_asset=by(rows, lambda row: row.asset),
        by_capacity=by(rows, _capacity),
        by_ending=by(rows, _ending),
        by_hour=_by_hour(rows),
        hours_by_capacity=_hours_by_capacity(rows),
        providers=by([row for row in rows if row.kind == PROVIDER], lambda row: row.provider),
        unattributed=added(spent_of(row) for row in machines if row.nobodys),
        attempts=attempts,
        unsettled=unsettled or 0,
        avatars=_each(avatars.values()),
        clips=_each(clip.cost for clip in clips),
        clips_done=clips,
    )


def spent_by_day(engine: Engine, first: date, last: date) -> dict[date, Decimal]:
    """Return what was spent on each day from `first` to `last`, in US dollars; from the sums that are kept of days."""
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    query = select(TotalRow.start, TotalRow.settled).where(
        TotalRow.scope == str(ALL),
        TotalRow.unit == str(Unit.USD),
        TotalRow.grain == DAY,
        TotalRow.start >= bounds(first)[0],
        TotalRow.start <= bounds(last)[0],
    )
    with reading(engine) as session:
        known = {start.date(): settled for start, settled in session.execute(query)}
    return {day: known.get(day, NONE) for day in days}


def machines_by_day(engine: Engine, first: date, last: date) -> dict[date, Decimal]:
    """Return what machines cost on each day from `first` to `last`, in US dollars."""
    found: dict[date, Decimal] = {}
    with reading(engine) as session:
        for number in range((last - first).days + 1):
            start, end = bounds(first + timedelta(days=number))
            query = select(func.sum(EntryRow.amount)).where(*_in(start, end), EntryRow.kind == COMPUTE)
            found[start.date()] = session.scalar(query) or NONE
    return found


def _in(start: datetime, end: datetime) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return EntryRow.slot >= start, EntryRow.slot < end


def _rows(session: Session, start: datetime, end: datetime) -> Sequence[Any]:
    """Read a day's spending, added up as far as no breakdown looks behind it."""
    columns = [
        *(EntryRow.kind, EntryRow.tenant, EntryRow.asset, EntryRow.capacity_type, EntryRow.provider, EntryRow.slot),
        NOBODYS.label("nobodys"),
        AttemptRow.ending,
        AttemptRow.key.is_not(None).label("known"),
    ]
    query = summed(*columns).select_from(EntryRow).outerjoin(AttemptRow, AttemptRow.key == EntryRow.source)
    return session.execute(query.where(*_in(start, end)).group_by(*columns)).all()


def _attempts(session: Session, start: datetime, end: datetime) -> dict[str, int]:
    query = (
        select(AttemptRow.ending, func.count(EntryRow.source.distinct()))
        .join(AttemptRow, AttemptRow.key == EntryRow.source)
        .where(*_in(start, end))
        .group_by(AttemptRow.ending)
    )
    return dict(sorted((ending or RUNNING, count) for ending, count in session.execute(query)))


def _clips_done(session: Session, start: datetime, end: datetime) -> list[DoneClip]:
    """Read the clips that were done, with all that they cost: an attempt may have begun the day before."""
    cost = func.sum(EntryRow.amount)
    query = (
        select(RequestRow.id, RequestRow.avatar_id, RequestRow.clip_key, cost)
        .outerjoin(EntryRow, EntryRow.request_id == RequestRow.id)
        .where(RequestRow.kind == "clip", RequestRow.state == "done")
        .where(RequestRow.finished_at >= start, RequestRow.finished_at < end)
        .group_by(RequestRow.id, RequestRow.avatar_id, RequestRow.clip_key)
        .order_by(RequestRow.id)
    )
    return [DoneClip(name, avatar_id, key, amount or NONE) for name, avatar_id, key, amount in session.execute(query)]


def _avatars_ready(session: Session, start: datetime, end: datetime) -> dict[str, Decimal]:
    """Read what was spent on the avatars that became ready, until the end of that day, but for their clips.

    An avatar is ready since its first greeting was made.
    """
    first = func.min(ArtifactRow.created_at)
    ready = (
        select(ArtifactRow.owner)
        .join(AvatarRow, and_(AvatarRow.id == ArtifactRow.owner, AvatarRow.state == "ready"))
        .where(ArtifactRow.collection == "avatars", ArtifactRow.asset == "greeting_clip")
        .group_by(ArtifactRow.owner)
        .having(first >= start, first < end)
    )
    found = dict.fromkeys(session.scalars(ready), NONE)
    for names in chunks(sorted(found)):
        query = (
            select(EntryRow.avatar_id, func.sum(EntryRow.amount).label("amount"))
            .where(EntryRow.avatar_id.in_(names), EntryRow.slot < end, ~OF_CLIPS)
            .group_by(EntryRow.avatar_id)
        )
        found |= {row.avatar_id: row.amount for row in session.execute(query)}
    return found


def _by_hour(rows: Iterable[Any]) -> list[Spent]:
    hours = [Spent()] * HOURS
    for row in rows:
        hours[row.slot.hour] += spent_of(row)
    return hours


def _hours_by_capacity(rows: Iterable[Any]) -> dict[str, list[Decimal]]:
    hours: dict[str, list[Decimal]] = {}
    for row in rows:
        hours.setdefault(_capacity(row), [NONE] * HOURS)[row.slot.hour] += row.amount
    return hours


def _capacity(row: Any) -> str:
    return str(row.capacity_type if row.kind == COMPUTE else row.kind)


def _ending(row: Any) -> str:
    """Return how a row's attempt ended; of one whose record was tidied away only the spending is known."""
    if row.kind != COMPUTE:
        return str(row.kind)
    return row.ending or (RUNNING if row.known else "unknown")


def _is_bad(ending: str) -> bool:
    return ending not in {SUCCEEDED, RUNNING}


def _each(costs: Iterable[Decimal]) -> Each:
    ordered = sorted(costs)
    return Each(len(ordered), sum(ordered, NONE), ordered[-(-95 * len(ordered) // 100) - 1]) if ordered else Each()
