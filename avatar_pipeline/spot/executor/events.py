"""The event log as the memory of the executor: it outlives the run's pod, and holds for the run that replaces a run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from dagster._core.events import DagsterEvent, DagsterEventType, EngineEventData
from dagster._core.execution.context.system import IStepContext
from dagster._core.execution.plan.objects import ErrorSource
from dagster_shared.error import SerializableErrorInfo

from avatar_pipeline.spot import history
from avatar_pipeline.spot.types import Attempt, Ending

METADATA = "spot"
"""The metadata entry that a record lies in."""
TERMINAL = frozenset({DagsterEventType.STEP_SUCCESS, DagsterEventType.STEP_FAILURE, DagsterEventType.STEP_UP_FOR_RETRY})
_READ = TERMINAL | {DagsterEventType.ENGINE_EVENT}
_PAGE = 1000
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


def run_chain(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[dg.DagsterRun]:
    """Return the run and those that it is a re-execution of, the first of them first."""
    chain = [run]
    while chain[0].parent_run_id and (parent := instance.get_run_by_id(chain[0].parent_run_id)):
        chain.insert(0, parent)
    return chain


def records(instance: dg.DagsterInstance, run: dg.DagsterRun, step_key: str) -> Iterator[history.Record]:
    """Read what the event log knows of a step's attempts, in this run and those that it re-executes."""
    for each in run_chain(instance, run):
        yield from run_records(instance, each.run_id, step_key)


def run_records(instance: dg.DagsterInstance, run_id: str, step_key: str) -> Iterator[history.Record]:
    """Read what the event log knows of a step's attempts in one run."""
    number: int | None = None
    for event, at in step_events(instance, run_id, step_key):
        record = record_of(event)
        if record is not None:
            number = record.get("number", number)
            yield record
        elif number is not None and event.event_type in TERMINAL and not _ours(event):
            yield history.reported(number, said_of(event), at, reason=reason_of(event))


def jobs(run_records: Iterable[history.Record]) -> dict[int, tuple[str, str]]:
    """Return namespace and name of the Job of each attempt."""
    return {
        int(record["number"]): (str(record["namespace"]), str(record["job"]))
        for record in run_records
        if "namespace" in record
    }


def attempts(instance: dg.DagsterInstance, run: dg.DagsterRun, step_key: str) -> tuple[Attempt, ...]:
    """Return a step's attempts as the event log tells them."""
    return history.fold(records(instance, run, step_key))


def own_attempts(instance: dg.DagsterInstance, run_id: str, step_key: str) -> tuple[Attempt, ...]:
    """Return a step's attempts in one run: what its budgets are reckoned by, since a new run is somebody's decision."""
    return history.fold(run_records(instance, run_id, step_key))


def step_events(
    instance: dg.DagsterInstance, run_id: str, step_key: str, *, with_starts: bool = False
) -> Iterator[tuple[DagsterEvent, datetime]]:
    """Read the events of a step that say how an attempt of it fared, in order."""
    kinds = {*_READ, *({DagsterEventType.STEP_WORKER_STARTING} if with_starts else ())}
    cursor: str | None = None
    while True:
        page = instance.get_records_for_run(run_id, cursor, of_type=kinds, limit=_PAGE)
        for row in page.records:
            event = row.event_log_entry.dagster_event
            if event is not None and event.step_key == step_key:
                yield event, datetime.fromtimestamp(row.event_log_entry.timestamp, UTC)
        if not page.has_more:
            return
        cursor = page.cursor


def spoken(instance: dg.DagsterInstance, run_id: str, step_key: str) -> bool:
    """Say whether a worker has said its last word on the latest attempt of its step, whether it was read yet or not."""
    said = False
    for event, _ in step_events(instance, run_id, step_key, with_starts=True):
        if event.event_type is DagsterEventType.STEP_WORKER_STARTING:
            said = False
        elif event.event_type in TERMINAL:
            said = True
    return said


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
    return any(link.cls_name in _INTERRUPTIONS for link in _links(_error(event)))


def _ours(event: DagsterEvent) -> bool:
    """Say whether the executor itself wrote an event, after a health check: then a record says it better."""
    error = _error(event)
    return error is not None and error.cls_name is None and not error.stack


def _error(event: DagsterEvent) -> SerializableErrorInfo | None:
    if event.event_type is DagsterEventType.STEP_FAILURE:
        return event.step_failure_data.error
    return event.step_retry_data.error if event.event_type is DagsterEventType.STEP_UP_FOR_RETRY else None


def reason_of(event: DagsterEvent) -> str:
    """Return what a step failed of, or asks for a retry because of, in one line."""
    last = list(_links(_error(event)))[-1:]
    first_line = next(iter(last[0].message.strip().splitlines()), "") if last else ""
    # Dagster puts the class before the message, with its module.
    return _CLASS.sub("", first_line)[:300]


def _links(error: SerializableErrorInfo | None) -> Iterator[SerializableErrorInfo]:
    while error is not None:
        yield error
        error = error.cause
