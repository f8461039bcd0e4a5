"""What Dagster knows of the runs of a job, as the engine's decisions want to see it."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import dagster as dg

from avatar_pipeline.budget.types import Degraded
from avatar_pipeline.scaling.recovery import WITHDRAWN_TAG, RunSeen, RunStatus
from avatar_pipeline.spot.tags import CAPACITY_TAG

PARTITION_TAG = "dagster/partition"
PRIORITY_TAG = "dagster/priority"
WILL_RETRY_TAG = "dagster/will_retry"
ASSET_JOB = "__ASSET_JOB"
"""What Dagster calls the runs of backfills, and of assets that were chosen in the UI."""
WAITING = [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.QUEUED]
IN_FLIGHT = [
    *WAITING,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_STATUS: dict[dg.DagsterRunStatus, RunStatus] = {
    dg.DagsterRunStatus.NOT_STARTED: "queued",
    dg.DagsterRunStatus.QUEUED: "queued",
    dg.DagsterRunStatus.STARTING: "starting",
    dg.DagsterRunStatus.STARTED: "started",
    dg.DagsterRunStatus.CANCELING: "started",
    dg.DagsterRunStatus.SUCCESS: "succeeded",
    dg.DagsterRunStatus.CANCELED: "canceled",
}


def runs_in_flight(instance: dg.DagsterInstance, jobs: Iterable[str]) -> list[RunSeen]:
    """Return the runs of these jobs that are queued or at work."""
    return [
        run
        for job in jobs
        for run in _seen(instance.get_run_records(dg.RunsFilter(job_name=job, statuses=IN_FLIGHT), limit=1000))
    ]


def runs_of(instance: dg.DagsterInstance, partition: str, *, tags: dict[str, str] | None = None) -> list[RunSeen]:
    """Return all runs for one partition, whichever job or backfill they belong to."""
    chosen = dg.RunsFilter(tags={PARTITION_TAG: partition} | (tags or {}))
    return _seen(instance.get_run_records(chosen, limit=1000))


def degraded_tags(degraded: Degraded | None, *, priority: int = 0) -> dict[str, str]:
    """Return the tags of a run of some priority, as a budget that runs low wants it: later in line, only on spot."""
    if degraded is None:
        return {PRIORITY_TAG: str(priority)} if priority else {}
    tags = {PRIORITY_TAG: str(priority + degraded.priority)}
    return tags | ({CAPACITY_TAG: "spot"} if degraded.spot_only else {})


def _seen(records: Sequence[dg.RunRecord]) -> list[RunSeen]:
    return [
        RunSeen(
            run_id=record.dagster_run.run_id,
            partition=record.dagster_run.tags.get(PARTITION_TAG, ""),
            status=_status(record),
            started_at=_time(record.start_time),
            ended_at=_time(record.end_time),
            will_retry=record.dagster_run.tags.get(WILL_RETRY_TAG) == "true",
        )
        for record in records
    ]


def _status(record: dg.RunRecord) -> RunStatus:
    run = record.dagster_run
    # The queue may have let it go just when it was taken out: then it began, and who stopped it was a person.
    if run.status == dg.DagsterRunStatus.CANCELED and WITHDRAWN_TAG in run.tags and record.start_time is None:
        return "withdrawn"
    # A step that may not begin for lack of money ends its run, which is nobody's fault.
    if run.status == dg.DagsterRunStatus.FAILURE and WITHDRAWN_TAG in run.tags:
        return "withdrawn"
    return _STATUS.get(run.status, "failed")


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
