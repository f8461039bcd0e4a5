"""The avatar intake sensor: from a message to a durable request to a run, in an order that loses nothing.

The message is deleted when the ledger has its request; the run is asked for from the ledger, again at every tick until
it is there. So a tick that dies between any two lines is made up for by the next.
"""

from datetime import timedelta

import dagster as dg

from assets.jobs import build_avatar
from assets.partitions import avatars
from avatar_pipeline.errors import WorkerLost
from avatar_pipeline.ledger.messages import AvatarRequest
from avatar_pipeline.scaling.recovery import RETRY_GRACE, next_turn, run_key
from avatar_pipeline.stages.avatar_requests import abandon, attempts_allowed, waiting_requests
from avatar_pipeline.stages.build_budget import Builds, avatars_of
from avatar_pipeline.stages.dispatch import drain
from avatar_pipeline.stages.posture import posture
from resources.line import LineResource
from sensors.runs import ASSET_JOB, PRIORITY_TAG, degraded_tags, runs_in_flight, runs_of

REQUEST_TAG = "avatar/request"
MESSAGES_A_TICK = 1000


@dg.sensor(
    job=build_avatar,
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Takes in avatar requests and has those built that there is money for, most urgent first.",
)
def avatar_intake_sensor(context: dg.SensorEvaluationContext, line: LineResource) -> dg.SensorResult:
    """Take in what is queued, and ask for the runs that are missing, up to the most at once."""
    instance = context.instance
    runs: list[dg.RunRequest] = []
    parked: list[str] = []
    held = 0
    in_flight = runs_in_flight(instance, [build_avatar.name])
    # Two runs for one avatar would pull each other's checkpoints away.
    busy = {run.partition for run in in_flight} | {run.partition for run in runs_in_flight(instance, [ASSET_JOB])}
    with line.look() as bench:
        taken = drain(bench, "avatar", limit=MESSAGES_A_TICK)
        waiting = waiting_requests(bench)
        if bench.money.broken is not None:
            return dg.SensorResult(skip_reason=f"No avatar is begun. {bench.money.broken}")
        builds = Builds(bench)
        for begun in avatars_of(waiting):
            if begun.avatar_id in busy:
                builds.reckon(begun)
        for record in waiting:
            if len(runs) + len(in_flight) >= bench.settings.max_open_avatars:
                break
            request = record.request
            if request.avatar_id in busy or not isinstance(request, AvatarRequest):
                continue
            seen = runs_of(instance, request.avatar_id, tags={REQUEST_TAG: request.request_id})
            turn = next_turn(
                seen,
                bench.clock(),
                grace=RETRY_GRACE,
                max_attempts=attempts_allowed(bench, record),
                backoff=timedelta(seconds=bench.settings.retry_seconds),
            )
            if turn == "park":
                parked.append(request.request_id)
            elif turn == "give_up":
                told = f"{len(seen)} runs for request {request.request_id} failed."
                context.log.error(told)
                abandon(bench, record, WorkerLost(told, remedy="See the runs in the UI."))
            elif isinstance(turn, int):
                if (refused := builds.refused(request)) is not None:
                    held += bench.requests.hold_for_budget(request.request_id, refused, bench.clock())
                    continue
                degraded = posture(bench, builds.demand(request).payer)
                tags = {REQUEST_TAG: request.request_id, PRIORITY_TAG: str(request.priority)}
                tags |= degraded_tags(degraded, priority=request.priority)
                key = run_key(request.request_id, seen)
                runs.append(dg.RunRequest(run_key=key, partition_key=request.avatar_id, tags=tags))
                busy.add(request.avatar_id)
    names = dict.fromkeys(str(run.partition_key) for run in runs)
    new = [name for name in names if not instance.has_dynamic_partition(str(avatars.name), name)]
    told = (
        f"{taken.received} messages, {taken.refused} refused; {len(waiting)} requests not finished, "
        f"{len(in_flight)} avatars being built, {len(runs)} begun, {held} held by a budget"
    )
    context.log.info(told)
    if parked:
        context.log.warning(f"Called off by a person and not finished: {', '.join(parked)}. Run their avatars again.")
    return dg.SensorResult(
        dynamic_partitions_requests=[avatars.build_add_request(new)] if new else [],
        run_requests=runs,
        skip_reason=None if runs else f"{told}.",
    )
