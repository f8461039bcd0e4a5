"""Run jobs for the command line: in this process, through the same Dagster assets and the same instance as the UI."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import dagster as dg
from filelock import FileLock

from avatar_pipeline.definitions import build_defs
from avatar_pipeline.errors import AvatarError, Interrupted, WorkerLost
from avatar_pipeline.forgetting import forget_runs_of
from avatar_pipeline.observing import collect
from avatar_pipeline.settings import Settings
from avatar_pipeline.stages.line import open_line
from avatar_pipeline.stages.reconcile import UNSEEN, reconcile

PROCESS_TAG = "avatar/process"
BUILD_AVATAR = "build_avatar"
MAKE_CLIP_BATCH = "make_clip_batch"
SAY = "say-"
"""How the requests begin that `avatar say` makes, and waits for."""
CHECK_FAILED = "check_failed"
_PARTITIONS = {BUILD_AVATAR: "avatars", MAKE_CLIP_BATCH: "clip_batches"}


class RunFailed(AvatarError):
    """A run ended badly; it carries the code, message, remedy and exit code of what went wrong in it."""

    code = "run_failed"

    def __init__(self, message: str, *, remedy: str, code: str = code, exit_code: int = 1) -> None:
        super().__init__(message, remedy=remedy)
        self.code = code  # type: ignore[misc]  # the class's code is only the default
        self.exit_code = exit_code  # type: ignore[misc]


@contextmanager
def open_instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """Open the Dagster instance: DAGSTER_HOME's where that is set, else the local one under the settings' home."""
    if settings.dagster_home is not None:
        with dg.DagsterInstance.get() as instance:
            yield instance
        return
    folder = settings.home.absolute() / "storage"
    folder.mkdir(parents=True, exist_ok=True)
    # Two processes that create a fresh SQLite instance at once trip over each other's tables.
    with FileLock(str(folder.with_suffix(".lock"))):
        instance = dg.DagsterInstance.local_temp(str(folder), overrides={"telemetry": {"enabled": False}})
    with instance:
        yield instance


def run_job(settings: Settings, job: str, partition_key: str) -> None:
    """Run a job for one partition in this process, and wait for it.

    Raises:
        RunFailed: the run failed; the message is what the user needs to know.
        Interrupted: the user called it off.
    """
    with open_instance(settings) as instance:
        _settle_the_dead(instance, settings, _fail_runs_of_dead_processes(instance))
        instance.add_dynamic_partitions(_PARTITIONS[job], [partition_key])
        result = (
            build_defs()
            .resolve_job_def(job)
            .execute_in_process(
                instance=instance,
                partition_key=partition_key,
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                tags={PROCESS_TAG: f"{socket.gethostname()}:{os.getpid()}"},
                raise_on_error=False,
            )
        )
        if not result.success:
            raise _what_went_wrong(result, settings)


def forget_partitions(settings: Settings, job: str, partition_keys: Sequence[str]) -> None:
    """Take keys out of a job's dynamic partitions, and delete the runs that worked on them.

    The events of a run hold preview pictures and texts, so they go with it.
    """
    with open_instance(settings) as instance:
        for key in partition_keys:
            instance.delete_dynamic_partition(_PARTITIONS[job], key)
        forget_runs(instance, job, partition_keys)


def forget_runs(instance: dg.DagsterInstance, job: str, partition_keys: Sequence[str]) -> None:
    """Delete the finished runs that worked on keys of a job's partitions; the keys stay."""
    assets = build_defs().resolve_job_def(job).asset_layer.executable_asset_keys
    forget_runs_of(instance, job, partition_keys, assets)


def _what_went_wrong(result: dg.ExecuteInProcessResult, settings: Settings) -> AvatarError:
    for event in result.get_asset_check_evaluations():
        if not event.passed and event.description:
            failed_check = f"{event.asset_key.to_user_string()}: check {event.check_name} failed: {event.description}"
            break
    else:
        failed_check = None
    for step in result.all_events:
        if not step.is_step_failure:
            continue
        data = step.step_failure_data
        told = data.user_failure_data
        if told is not None and "remedy" in told.metadata:
            values = {name: value.value for name, value in told.metadata.items()}
            return RunFailed(
                str(values["message"]),
                remedy=str(values["remedy"]),
                code=str(values["code"]),
                exit_code=int(str(values["exit_code"])),
            )
        if failed_check:
            return RunFailed(failed_check, remedy=f"See run {result.run_id} in the UI.", code=CHECK_FAILED)
        error = data.error
        if error is not None and error.cls_name == dg.DagsterExecutionInterruptedError.__name__:
            return Interrupted()
        details = settings.home.absolute() / "errors" / f"{result.run_id}.txt"
        details.parent.mkdir(parents=True, exist_ok=True)
        details.write_text(error.to_string() if error else "no details")
        cause = error.cause or error if error else None
        first_line = cause.message.strip().splitlines()[0] if cause else "unknown error"
        return RunFailed(
            f"{step.step_key} failed unexpectedly: {first_line}", remedy=f"Details are in {details}.", code="bug"
        )
    return RunFailed("The run failed before any step.", remedy=f"See run {result.run_id} in the UI.")


def _settle_the_dead(instance: dg.DagsterInstance, settings: Settings, dead: Sequence[dg.DagsterRun]) -> None:
    """Settle what killed processes spent, and end what nobody waits for any more: the money put aside for it is free.

    No sensor does that where nothing but the command line runs. What a process was metered up to is what it spent: it
    is known to be gone, so nothing more is waited for.
    """
    gone = {run.run_id for run in dead}
    with open_line(settings) as line:
        for batch_id in [run.tags.get("dagster/partition", "") for run in dead if run.job_name == MAKE_CLIP_BATCH]:
            for record in line.requests.list(batch_id=batch_id, states=("queued", "claimed", "running", "held")):
                if record.request.request_id.startswith(SAY):
                    told = f"The command that asked for {record.request.request_id} was killed."
                    line.requests.fail(record.request.request_id, WorkerLost(told, remedy="Call it again."))
        ends = {one.key: one.metered_until for one in line.spend.open_attempts() if one.run_id in gone}
        seen = [
            replace(one, ended_at=ends[one.key], ending=UNSEEN) if one.key in ends else one
            for one in collect(instance, line)
        ]
        reconcile(line, seen)


def _fail_runs_of_dead_processes(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """Close runs that this command started and that were killed, and give back the pool slots they held; return them.

    No daemon watches a run inside the command line's process, so the next one does.
    """
    dead: list[dg.DagsterRun] = []
    unfinished = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING])
    for run in instance.get_runs(unfinished):
        host, _, pid = run.tags.get(PROCESS_TAG, "").partition(":")
        if host == socket.gethostname() and pid.isdigit() and not Path(f"/proc/{pid}").exists():
            instance.report_run_failed(run, message=f"Its process {pid} is gone.")
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
            dead.append(run)
    return dead
