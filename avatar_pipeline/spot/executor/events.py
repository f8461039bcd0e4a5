"""The event log as the memory of the executor: it outlives the run's pod, and holds for the run that replaces a run."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from dagster._core.event_api import EventLogCursor
from dagster._core.events import DagsterEvent, DagsterEventType, EngineEventData
from dagster._core.execution.context.system import IStepContext
from dagster._core.execution.plan.objects import ErrorSource
from dagster_shared.error import SerializableErrorInfo

from avatar_pipeline.spot import history
from avatar_pipeline.spot.types import Attempt, Ending

METADATA = "spot"
"""The metadata entry that a record lies in."""
TERMINAL = frozenset({DagsterEventType.STEP_SUCCESS, DagsterEventType.STEP_FAILURE, DagsterEventType.STEP_UP_FOR_RETRY})
STARTING, STARTED = DagsterEventType.STEP_WORKER_STARTING, DagsterEventType.STEP_WORKER_STARTED
_READ = TERMINAL | {DagsterEventType.ENGINE_EVENT, STARTING, STARTED}
_PAGE = 1000
_OVERLAP = 100
"""Events that are read again each time: on PostgreSQL one with a lower number may appear after one with a higher."""
_CLASS = re.compile(r"^(?:\w+\.)+\w+: ")
_INTERRUPTIONS = frozenset({"Preempted", "DagsterExecutionInterruptedError"})
"""Errors that mean: the process was told to end. The first is ours, the second Dagster's, in an op without a guard."""


def write(step: IStepContext, message: str, record: Mapping[str, Any], **shown: Any) -> None:
    """Put a record into the event log, with what a person wants to see of it beside."""
    metadata: dict[str, Any] = {name: value for name, value in shown.items() if value is not None}
    metadata[METADATA] = dg.MetadataValue.json(dict(record))
    DagsterEvent.engine_event(step, message, EngineEventData(metadata=metadata))


def say(step: IStepContext, message: str) -> None:
    """Put a sentence into the event log."""
    DagsterEvent.engine_event(step, message, EngineEventData())


@dataclass(slots=True)
class _Step:
    """What was read of a step in one run. `number`: of the attempt placed last; `begun`: its worker has said so."""

    records: list[history.Record] = field(default_factory=list)
    number: int | None = None
    begun: bool = False
    spoken: bool = False


@dataclass(slots=True)
class _Run:
    """How far a run's log was read, and what was found."""

    cursor: int = 0
    seen: set[int] = field(default_factory=set)
    steps: dict[str, _Step] = field(default_factory=lambda: defaultdict(_Step))


class EventLog:
    """Reads what the log says of attempts, each event once, however often it is asked."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance
        self._runs: dict[str, _Run] = defaultdict(_Run)
        self._chains: dict[str, list[dg.DagsterRun]] = {}

    def chain(self, run: dg.DagsterRun) -> list[dg.DagsterRun]:
        """Return the run and those that it is a re-execution of, the first of them first."""
        if run.run_id not in self._chains:
            chain = [run]
            while chain[0].parent_run_id and (parent := self._instance.get_run_by_id(chain[0].parent_run_id)):
                chain.insert(0, parent)
            self._chains[run.run_id] = chain
        return self._chains[run.run_id]

    def steps(self, run_id: str) -> list[str]:
        """Return the steps of a run that have attempts."""
        return sorted(key for key, step in self._read(run_id).steps.items() if step.records)

    def records(self, run_id: str, step_key: str) -> list[history.Record]:
        """Return what is known of a step's attempts in one run."""
        return list(self._read(run_id).steps[step_key].records)

    def attempts(self, run: dg.DagsterRun, step_key: str) -> tuple[Attempt, ...]:
        """Return a step's attempts, in this run and those that it re-executes."""
        return history.fold(record for each in self.chain(run) for record in self.records(each.run_id, step_key))

    def own_attempts(self, run_id: str, step_key: str) -> tuple[Attempt, ...]:
        """Return a step's attempts in one run: what its budgets are reckoned by, since a new run is a decision."""
        return history.fold(self.records(run_id, step_key))

    def spoken(self, run_id: str, step_key: str) -> bool:
        """Say whether the last word on the latest attempt of a step is in the log, whether it was read yet or not."""
        return self._read(run_id).steps[step_key].spoken

    def _read(self, run_id: str) -> _Run:
        run = self._runs[run_id]
        while True:
            start = EventLogCursor.from_storage_id(max(0, run.cursor - _OVERLAP)).to_string()
            page = self._instance.get_records_for_run(run_id, start, of_type=set(_READ), limit=_PAGE)
            new = [row for row in page.records if row.storage_id not in run.seen]
            for row in new:
                run.seen.add(row.storage_id)
                run.cursor = max(run.cursor, row.storage_id)
                event = row.event_log_entry.dagster_event
                if event is not None and event.step_key is not None:
                    at = datetime.fromtimestamp(row.event_log_entry.timestamp, UTC)
                    _take(run.steps[event.step_key], event, at)
            if not new or not page.has_more:
                run.seen = {number for number in run.seen if number > run.cursor - 2 * _OVERLAP}
                return run


def _take(step: _Step, event: DagsterEvent, at: datetime) -> None:
    record = record_of(event)
    if record is not None:
        step.records.append(record)
        step.number = record.get("number", step.number)
    elif event.event_type is STARTING:
        step.begun = step.spoken = False
    elif event.event_type is STARTED:
        step.begun = True
    elif event.event_type in TERMINAL:
        if is_ours(event):
            step.spoken = True
        elif step.begun or step.number is None:
            # Before its worker has begun, a word is a late one of the worker before it.
            step.spoken = True
            if step.number is not None:
                step.records.append(history.reported(step.number, said_of(event), at, reason=reason_of(event)))


def attempts(instance: dg.DagsterInstance, run: dg.DagsterRun, step_key: str) -> tuple[Attempt, ...]:
    """Return a step's attempts as the event log tells them, read anew."""
    return EventLog(instance).attempts(run, step_key)


def jobs(run_records: Iterable[history.Record]) -> dict[int, tuple[str, str]]:
    """Return namespace and name of the Job of each attempt."""
    return {
        int(record["number"]): (str(record["namespace"]), str(record["job"]))
        for record in run_records
        if "namespace" in record
    }


def record_of(event: DagsterEvent) -> history.Record | None:
    """Return the record in an event, where it holds one."""
    if event.event_type is not DagsterEventType.ENGINE_EVENT:
        return None
    value = event.engine_event_data.metadata.get(METADATA)
    return value.data if isinstance(value, dg.JsonMetadataValue) and isinstance(value.data, dict) else None


def said_of(event: DagsterEvent) -> Ending:
    """Say how a worker ended by its own account."""
    if event.event_type is DagsterEventType.STEP_SUCCESS:
        return Ending.SUCCEEDED
    return Ending.INTERRUPTED if was_interrupted(event) else Ending.USER_ERROR


def was_interrupted(event: DagsterEvent) -> bool:
    """Say whether a step failed, or asks for a retry, because its process was told to end."""
    if event.event_type is DagsterEventType.STEP_FAILURE and (
        event.step_failure_data.error_source is ErrorSource.INTERRUPT
    ):
        return True
    return any(link.cls_name in _INTERRUPTIONS for link in _links(error_of(event)))


def is_ours(event: DagsterEvent) -> bool:
    """Say whether the executor itself wrote an event, after a health check: then a record says it better."""
    error = error_of(event)
    return error is not None and error.cls_name is None and not error.stack


def error_of(event: DagsterEvent) -> SerializableErrorInfo | None:
    """Return the error in a last word; None where there is none."""
    if event.event_type is DagsterEventType.STEP_FAILURE:
        return event.step_failure_data.error
    return event.step_retry_data.error if event.event_type is DagsterEventType.STEP_UP_FOR_RETRY else None


def reason_of(event: DagsterEvent) -> str:
    """Return what a step failed of, or asks for a retry because of, in one line."""
    last = list(_links(error_of(event)))[-1:]
    first_line = next(iter(last[0].message.strip().splitlines()), "") if last else ""
    # Dagster puts the class before the message, with its module.
    return _CLASS.sub("", first_line)[:300]


def _links(error: SerializableErrorInfo | None) -> Iterator[SerializableErrorInfo]:
    while error is not None:
        yield error
        error = error.cause
