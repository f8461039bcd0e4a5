"""The cost budget sensor: settles what died, holds what cannot be paid for and releases what can, and tells of it.

It keeps nothing in mind but what is in the ledger, so that killing it changes nothing. Every ten seconds: money
that was let go of is spent again soon, and a threshold is told of while it can still be acted upon.
"""

import time
from collections.abc import Mapping

import dagster as dg

from assets.budgets import budgets
from assets.jobs import build_avatar, make_clip_batch
from avatar_pipeline.observing import collect
from avatar_pipeline.scaling.recovery import WITHDRAWN_TAG
from avatar_pipeline.stages.admission import sift
from avatar_pipeline.stages.budget_watch import Outlook, Watched, batch_refused, watch
from avatar_pipeline.stages.build_budget import release_avatars
from avatar_pipeline.stages.dispatch import drain
from avatar_pipeline.stages.line import Line
from avatar_pipeline.stages.reconcile import reconcile
from avatar_pipeline.stages.standing_down import StoodDown, stand_down_avatars, stand_down_batches
from resources.line import LineResource
from sensors.intake import REQUEST_TAG
from sensors.runs import IN_FLIGHT, PARTITION_TAG

OBSERVED_EVERY_SECONDS = 15 * 60
MESSAGES_A_TICK = 1000
LIMITS_SHOWN = 20


@dg.sensor(
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Keeps the budgets: settles, holds, releases, alerts, and withdraws queued runs that have no money.",
)
def cost_budget_sensor(context: dg.SensorEvaluationContext, line: LineResource) -> dg.SensorResult:
    """Put the ledger right, let go on what there is money for, tell of what was crossed, and stop what has none."""
    instance = context.instance
    with line.look() as bench:
        reconciled = reconcile(bench, collect(instance, bench))
        sifted = sift(bench)
        released = sifted.released + release_avatars(bench)
        watched = watch(bench)
        held = sifted.held + (_take_in(bench, watched) if watched.stops else 0)
        down = _stand_down(context, bench, watched) if watched.stops else 0
    for alert in watched.alerts:
        context.log.warning(alert.message)
    told = f"{watched.figures} {held} held, {released} released, {down} runs withdrawn. {reconciled}."
    events = [_observation(watched)] if watched.outlooks and (watched.alerts or _is_due(instance)) else []
    return dg.SensorResult(asset_events=events, skip_reason=told)


def _take_in(line: Line, watched: Watched) -> int:
    """Take in clips that no batch will, so that they are seen to be held, and by what; return how many were held."""
    if not line.queues.clips.depth().visible or not (watched.stops_all or batch_refused(line)):
        return 0
    drain(line, "clip", limit=MESSAGES_A_TICK, patient=False)
    return sift(line).held


def _stand_down(context: dg.SensorEvaluationContext, line: Line, watched: Watched) -> int:
    """Take runs out of the queue for which there is no money; return how many."""
    instance = context.instance
    batches = _queued(instance, make_clip_batch.name, PARTITION_TAG)
    avatars = _queued(instance, build_avatar.name, REQUEST_TAG)
    down = [*stand_down_batches(line, watched.stops, batches), *stand_down_avatars(line, watched.stops, avatars)]
    withdrawn = [one for one in down if _withdraw(instance, one)]
    for one in withdrawn:
        context.log.info(f"Run {one.run_id} was taken out of the queue: {one.reason}")
    return len(withdrawn)


def _queued(instance: dg.DagsterInstance, job: str, tag: str) -> Mapping[str, str]:
    """Return the queued runs of a job and what their tag says; without those of which another run is at work.

    Runs without the tag were asked for by a person, who is told by the run itself why it cannot begin.
    """
    records = instance.get_run_records(dg.RunsFilter(job_name=job, statuses=IN_FLIGHT), limit=1000)
    runs = [record.dagster_run for record in records if tag in record.dagster_run.tags]
    at_work = {run.tags[tag] for run in runs if run.status != dg.DagsterRunStatus.QUEUED}
    return {run.run_id: run.tags[tag] for run in runs if run.tags[tag] not in at_work}


def _withdraw(instance: dg.DagsterInstance, one: StoodDown) -> bool:
    """Take a run out of the queue, unless it has left it; the tag says beforehand that no person did it."""
    if _still_queued(instance, one.run_id) is None:
        return False
    instance.add_run_tags(one.run_id, {WITHDRAWN_TAG: "budget"})
    run = _still_queued(instance, one.run_id)
    if run is None:
        return False
    # Not the run coordinator's way, which ends a run that has begun meanwhile.
    instance.report_run_canceled(run, message=f"Taken out of the queue by the budget. {one.reason}")
    return True


def _still_queued(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRun | None:
    run = instance.get_run_by_id(run_id)
    return run if run is not None and run.status == dg.DagsterRunStatus.QUEUED else None


def _is_due(instance: dg.DagsterInstance) -> bool:
    """Tell whether the budgets were observed last so long ago that the plot needs another point."""
    found = instance.fetch_observations(budgets.key, limit=1).records
    return not found or time.time() - found[0].timestamp >= OBSERVED_EVERY_SECONDS


def _observation(watched: Watched) -> dg.AssetObservation:
    """Tell how the fullest limits stand, in figures that the UI plots, and all of it in a table."""
    # Observations are kept for ever: no avatar is named.
    shown_limits = [one for one in watched.outlooks if not one.limit.names_avatar]
    fullest = sorted(shown_limits, key=lambda one: (-one.standing.share, one.limit.id))[:LIMITS_SHOWN]
    shown: dict[str, float | int | dg.MetadataValue] = {
        "limits": len(watched.outlooks),
        "hard_stops": len(watched.stops),
        "alerts": len(watched.alerts),
    }
    for one in fullest:
        shown[f"{one.limit.id} spent"] = float(one.standing.settled)
        shown[f"{one.limit.id} reserved"] = float(one.standing.reserved)
        shown[f"{one.limit.id} hard"] = float(one.standing.hard)
        if one.forecast is not None:
            shown[f"{one.limit.id} forecast"] = float(one.forecast.expected)
    rows = ["| limit | spent | reserved | limit | share | forecast |", "|---|---|---|---|---|---|", *map(_row, fullest)]
    shown["standings"] = dg.MetadataValue.md("\n".join(rows))
    named = {one.limit.id for one in watched.outlooks} - {one.limit.id for one in shown_limits}
    raised = [alert.message for alert in watched.alerts if alert.limit_id not in named]
    if raised:
        shown["raised"] = dg.MetadataValue.md("\n".join(f"- {message}" for message in raised))
    return dg.AssetObservation(budgets.key, description=watched.figures, metadata=shown)


def _row(one: Outlook) -> str:
    standing = one.standing
    expected = "" if one.forecast is None else f"{one.forecast.expected:.2f}"
    return (
        f"| {one.limit.id} | {standing.settled:.2f} | {standing.reserved:.2f} | {standing.hard:.2f} "
        f"| {standing.share:.1%} | {expected} |"
    )
