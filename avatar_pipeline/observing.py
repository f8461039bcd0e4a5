"""What Dagster knows of attempts that the ledger has open, or has not heard of: the reconciler's eyes."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

import dagster as dg

from avatar_pipeline.ledger.database import chunks
from avatar_pipeline.ledger.spend_views import AttemptView
from avatar_pipeline.spot import history
from avatar_pipeline.spot.executor.events import EventLog
from avatar_pipeline.spot.types import Attempt
from avatar_pipeline.stages.line import Line
from avatar_pipeline.stages.observed import ObservedAttempt, named
from avatar_pipeline.stages.reconcile import QUIET

PARTITION_TAG = "dagster/partition"
RECENT, SELDOM = timedelta(minutes=5), timedelta(hours=1)
"""How long after its end a run is looked at for attempts of which the ledger never heard: at each look, and every ten
minutes, for what happened while nobody looked."""
_MOST_RECENT = 1000
_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
_TICKET = "step/"
_NAME, _MACHINE = 63, 32
"""Characters that the ledger has room for; what a log says may be of another project, and longer."""


def collect(instance: dg.DagsterInstance, line: Line) -> list[ObservedAttempt]:
    """Return what is known of the open attempts whose run is there, and of others that had a machine.

    Only runs of open attempts and, where steps are Jobs, those that ended within the last hour are looked at, however
    many there are besides.
    """
    now = line.clock()
    attempts = line.spend.open_attempts()
    unbegun = _unbegun(line, {attempt.key for attempt in attempts})
    jobs = line.settings.executor != "in_process"
    wanted = {attempt.run_id for attempt in attempts} | {run_id for run_id, _, _ in unbegun}
    far = now.minute % 10 == 0
    runs = _runs(instance, wanted, since=now - (SELDOM if far else RECENT) if jobs else None)
    signs = line.beats.last(sorted(wanted & runs.keys()))
    log = EventLog(instance)
    placed = {attempt.run_id for attempt in attempts if attempt.profile}
    recorded = {
        one.key: one
        for run in runs.values()
        if jobs or run.run_id in placed
        for one in _recorded(log, run, signs.get(run.run_id))
    }
    found = dict(recorded)
    for attempt in attempts:
        if attempt.key not in found and attempt.run_id in runs:
            found[attempt.key] = _at_work(instance, attempt, runs[attempt.run_id], signs.get(attempt.run_id), now)
    for run_id, step_key, number in unbegun:
        if run_id in runs:
            run = runs[run_id]
            one = ObservedAttempt(run_id, step_key, number, step_key, run.partition, run_finished_at=run.finished_at)
            found.setdefault(one.key, one)
    return list(found.values())


@dataclass(frozen=True, slots=True)
class _Run:
    """A run that is there: of which partition, and when it ended."""

    run_id: str
    partition: str
    finished_at: datetime | None


def _runs(instance: dg.DagsterInstance, run_ids: Iterable[str], *, since: datetime | None) -> dict[str, _Run]:
    records: list[dg.RunRecord] = []
    if since is not None:
        recent = dg.RunsFilter(statuses=_ENDED, updated_after=since)
        records += instance.get_run_records(recent, limit=_MOST_RECENT, order_by="update_timestamp")
    missing = sorted(set(run_ids) - {record.dagster_run.run_id for record in records})
    for some in chunks(missing):
        records += instance.get_run_records(dg.RunsFilter(run_ids=list(some)))
    return {record.dagster_run.run_id: _run(record) for record in records}


def _run(record: dg.RunRecord) -> _Run:
    run = record.dagster_run
    ended = record.end_time
    finished_at = None
    if run.is_finished:
        finished_at = record.update_timestamp if ended is None else datetime.fromtimestamp(ended, UTC)
        finished_at = finished_at if finished_at.tzinfo else finished_at.replace(tzinfo=UTC)
    return _Run(run.run_id, run.tags.get(PARTITION_TAG, ""), finished_at)


def _unbegun(line: Line, begun: set[str]) -> list[tuple[str, str, int]]:
    """Return the attempts that something is put aside for, for longer than it should be, and that never began."""
    expired = (one.key.removeprefix(_TICKET) for one in line.spend.expired() if one.key.startswith(_TICKET))
    names = [named(key) for key in expired if key not in begun]
    return [name for name in names if name is not None]


def _at_work(
    instance: dg.DagsterInstance, attempt: AttemptView, run: _Run, sign: datetime | None, now: datetime
) -> ObservedAttempt:
    """Return an attempt that no executor keeps records of; if it is silent, with its end by the event log."""
    ended_at, ending = None, None
    if not attempt.profile and now - attempt.metered_until >= QUIET:
        ended_at, ending = _step_end(instance, attempt)
    return ObservedAttempt(
        run_id=attempt.run_id,
        step_key=attempt.step_key,
        number=attempt.number,
        asset=attempt.asset,
        partition=attempt.partition,
        ended_at=ended_at,
        ending=ending,
        run_finished_at=run.finished_at,
        last_sign=sign,
    )


def _step_end(instance: dg.DagsterInstance, attempt: AttemptView) -> tuple[datetime | None, str | None]:
    for stats in instance.get_run_step_stats(attempt.run_id, [attempt.step_key]):
        ends = [marker.end_time for marker in stats.attempts_list]
        if attempt.number < len(ends) and (end := ends[attempt.number]) is not None:
            last = attempt.number == len(ends) - 1
            succeeded = last and stats.status is not None and stats.status.value == "SUCCESS"
            return datetime.fromtimestamp(end, UTC), "succeeded" if succeeded else "user_error"
    return None, None


def _recorded(log: EventLog, run: _Run, sign: datetime | None) -> Iterator[ObservedAttempt]:
    """Yield the attempts of a run that the spot executor keeps records of."""
    for step_key in log.steps(run.run_id):
        records = log.records(run.run_id, step_key)
        ends = _first(records, history.ENDED)
        words = _first(records, history.REPORTED)
        for attempt in history.fold(records):
            end = ends.get(attempt.number)
            ended = attempt.number in ends or attempt.number in words
            yield _observed(attempt, end, run, step_key, sign, ended=ended)


def _observed(
    attempt: Attempt, end: history.Record | None, run: _Run, step_key: str, sign: datetime | None, *, ended: bool
) -> ObservedAttempt:
    told: Mapping[str, Any] = end or {}
    return ObservedAttempt(
        run_id=run.run_id,
        step_key=step_key,
        number=attempt.number,
        asset=(_text(told.get("asset")) or step_key).rpartition("/")[2][:_NAME],
        partition=run.partition[:_NAME],
        started_at=_machine_since(attempt, told),
        ended_at=attempt.ended_at if ended else None,
        ending=attempt.ending.value if ended and attempt.ending is not None else None,
        provisional=ended and end is None,
        capacity_type=_text(told.get("capacity_type")) or attempt.placement.capacity_type.value,
        instance_type=None if attempt.instance_type is None else attempt.instance_type[:_MACHINE],
        zone=None if attempt.zone is None else attempt.zone[:_MACHINE],
        price=attempt.price,
        on_demand_price=_price(told.get("on_demand_price")),
        profile=attempt.placement.profile[:_NAME],
        offerings=attempt.placement.offerings,
        run_finished_at=run.finished_at,
        last_sign=sign,
    )


def _machine_since(attempt: Attempt, told: Mapping[str, Any]) -> datetime | None:
    """Return since when an attempt's machine was paid for; None where nobody saw that it got one."""
    try:
        return datetime.fromisoformat(str(told.get("machine_since"))).astimezone(UTC)
    except ValueError:
        pass
    if attempt.seconds is None or attempt.ended_at is None:
        return None
    return attempt.ended_at - timedelta(seconds=attempt.seconds)


def _first(records: Sequence[history.Record], kind: str) -> dict[int, history.Record]:
    """Return the first record of a kind of each attempt: `history.fold` takes that one too."""
    found: dict[int, history.Record] = {}
    for record in records:
        number = record.get("number")
        if record.get("kind") == kind and isinstance(number, int):
            found.setdefault(number, record)
    return found


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _price(value: Any) -> Decimal | None:
    try:
        price = Decimal(value) if isinstance(value, str) else None
    except InvalidOperation:
        return None
    return price if price is not None and price.is_finite() and price >= 0 else None
