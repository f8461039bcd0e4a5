"""The recovery sensor: finds runs whose worker is gone, and batches that nobody works on, and has them run again."""

from datetime import timedelta

import dagster as dg

from assets.jobs import build_avatar, make_clip_batch
from assets.partitions import clip_batches
from avatar_pipeline.errors import WorkerLost
from avatar_pipeline.scaling.recovery import RETRY_GRACE, batches_to_run, lost_runs, run_key
from avatar_pipeline.stages.batches import give_up_batch
from avatar_pipeline.stages.line import Line
from avatar_pipeline.stages.posture import batch_posture
from resources.line import LineResource
from sensors.runs import ASSET_JOB, degraded_tags, runs_in_flight, runs_of


@dg.sensor(
    job=make_clip_batch,
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Closes runs whose worker is gone, and runs batches again that were left unfinished.",
)
def recovery_sensor(context: dg.SensorEvaluationContext, line: LineResource) -> dg.SensorResult:
    """Close lost runs, release what is held and due, then ask for a run of every batch with requests and no run."""
    instance = context.instance
    with line.look() as bench:
        lost = _close_lost_runs(context, bench)
        if released := bench.requests.release_due():
            context.log.info(f"{released} held requests go on.")
        open_batches = bench.requests.open_batches()
        runs = {batch.batch_id: runs_of(instance, batch.batch_id) for batch in open_batches}
        plan = batches_to_run(
            open_batches,
            runs,
            bench.clock(),
            grace=RETRY_GRACE,
            max_attempts=bench.settings.max_attempts,
            backoff=timedelta(seconds=bench.settings.retry_seconds),
        )
        for batch_id in plan.give_up:
            told = f"Batch {batch_id} was run {len(runs[batch_id])} times and not finished."
            give_up_batch(bench, batch_id, WorkerLost(told, remedy="See its runs in the UI, then send it again."))
            context.log.error(told)
        tags = {batch_id: degraded_tags(batch_posture(bench, batch_id)) for batch_id, _ in plan.rerun}
    if plan.parked:
        context.log.warning(f"Called off by a person and not finished: {', '.join(plan.parked)}. Run them again.")
    names = [batch_id for batch_id, _ in plan.rerun]
    new = [name for name in names if not instance.has_dynamic_partition(str(clip_batches.name), name)]
    told = f"{lost} lost runs closed, {len(plan.give_up)} batches given up, "
    told += f"{len(plan.parked)} parked, {len(plan.rerun)} run again."
    return dg.SensorResult(
        dynamic_partitions_requests=[clip_batches.build_add_request(new)] if new else [],
        run_requests=[
            dg.RunRequest(run_key=run_key(batch_id, runs[batch_id]), partition_key=batch_id, tags=tags[batch_id])
            for batch_id, _ in plan.rerun
        ],
        skip_reason=None if plan.rerun else told,
    )


def _close_lost_runs(context: dg.SensorEvaluationContext, line: Line) -> int:
    """Report runs as failed whose worker gives no sign of life, and return how many."""
    instance = context.instance
    if instance.run_launcher.supports_check_run_worker_health:
        # Such a launcher (Kubernetes) is asked by Dagster's own run monitoring, and knows better.
        return 0
    runs = runs_in_flight(instance, [build_avatar.name, make_clip_batch.name, ASSET_JOB])
    beats = line.beats.last([run.run_id for run in runs])
    lost = lost_runs(runs, beats, line.clock(), timedelta(seconds=line.settings.lost_after_seconds))
    for run_id in lost:
        run = instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            continue
        if run.status == dg.DagsterRunStatus.CANCELING:
            # Somebody called it off; it must not be taken for one that is to be tried again.
            instance.report_run_canceled(run, message="Its worker gave no sign of life any more.")
        else:
            instance.report_run_failed(run, message="Its worker gives no sign of life any more.")
        instance.event_log_storage.free_concurrency_slots_for_run(run_id)
    line.beats.forget(lost)
    return len(lost)
