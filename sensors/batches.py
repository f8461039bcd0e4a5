"""The clip batch sensor: opens as many batches as the capacity decision wants. It never receives a message itself."""

import secrets

import dagster as dg

from assets.jobs import make_clip_batch
from assets.partitions import clip_batches
from avatar_pipeline.scaling.capacity import decide
from avatar_pipeline.scaling.recovery import is_parked, run_key
from avatar_pipeline.stages.budget_watch import all_stopped, batch_refused
from avatar_pipeline.stages.dispatch import capacity_policy, signals
from avatar_pipeline.stages.posture import batch_posture
from resources.line import LineResource
from sensors.runs import degraded_tags, runs_in_flight, runs_of


@dg.sensor(
    job=make_clip_batch,
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Opens clip batches by the depth and the age of what is queued, where there is money for them.",
)
def clip_batch_sensor(context: dg.SensorEvaluationContext, line: LineResource) -> dg.SensorResult:
    """Measure the backlog, decide, and ask for that many new batches."""
    instance = context.instance
    runs = runs_in_flight(instance, [make_clip_batch.name])
    with line.look() as bench:
        at_work = {run.partition for run in runs}
        # A batch that waits to be run again is open too: while nothing succeeds, nothing more is claimed.
        open_batches = at_work | {
            batch.batch_id
            for batch in bench.requests.open_batches()
            if not is_parked(runs_of(instance, batch.batch_id))
        }
        unclaimed = len(at_work - bench.requests.batches_with_claims(list(at_work)))
        measured = signals(bench, open_batches=len(open_batches), unclaimed_batches=unclaimed)
        decision = decide(measured, capacity_policy(bench))
        now = bench.clock()
        # What is in the queue and not in the ledger yet is nobody's: the budget sensor takes it in, and holds it.
        if bench.money.broken is not None:
            return dg.SensorResult(skip_reason=f"No batch is opened. {bench.money.broken}")
        refused = batch_refused(bench) if decision.open else None
        if decision.open and refused is None and not measured.waiting:
            refused = all_stopped(bench)
        tags = degraded_tags(batch_posture(bench)) if decision.open else {}
    if decision.open == 0 or refused is not None:
        return dg.SensorResult(skip_reason=" ".join(filter(None, (refused, decision.reason))))
    context.log.info(decision.reason)
    names = [f"batch-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}" for _ in range(decision.open)]
    return dg.SensorResult(
        dynamic_partitions_requests=[clip_batches.build_add_request(names)],
        run_requests=[dg.RunRequest(run_key=run_key(name, []), partition_key=name, tags=tags) for name in names],
    )
