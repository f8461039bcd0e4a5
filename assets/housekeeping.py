"""Jobs that keep the house clean: old batch partitions, orphans in the store, uploads that may go."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from assets.avatars import avatar_assets
from assets.clips import clip_assets
from assets.jobs import build_avatar, make_clip_batch
from assets.orphans import sweep_gpu_jobs
from assets.partitions import avatars, clip_batches
from avatar_pipeline.forgetting import forget_runs_of
from avatar_pipeline.scaling.recovery import BatchSeen, prunable
from avatar_pipeline.stages import retention, revocation
from resources.line import LineResource

PARTITION_TAG = "dagster/partition"
_IN_FLIGHT = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]

KEEP_MONEY_DAYS = 120
"""Days that reservations, attempts, totals by the quarter of an hour, and prices are kept; what was spent stays."""


@dg.op(description="Takes away the partitions of batches that were finished long ago; their clips stay.")
def prune_batch_partitions(context: dg.OpExecutionContext, line: LineResource) -> None:
    """Delete batch partitions older than AVATAR_KEEP_BATCHES_DAYS, never one with work left or a run in flight."""
    instance = context.instance
    names = instance.get_dynamic_partitions(str(clip_batches.name))
    with line.look() as bench:
        # The ledger first and the runs after it, so that what begins in between is seen.
        changed = bench.requests.last_change_of_batches(names)
        unfinished = bench.requests.unfinished_batches()
        busy = _busy(instance)
        # Of a batch that found nothing to claim the ledger knows nothing; its run does.
        changed |= {name: at for name in names if name not in changed if (at := _last_run(instance, name))}
        seen = [
            BatchSeen(name, changed_at=changed.get(name), unfinished=name in unfinished, in_flight=name in busy)
            for name in names
        ]
        old = prunable(seen, bench.clock(), timedelta(days=bench.settings.keep_batches_days))
    for name in old:
        if name not in _busy(instance):
            instance.delete_dynamic_partition(str(clip_batches.name), name)
    context.log.info(f"{len(old)} of {len(names)} batch partitions taken away.")
    context.add_output_metadata({"pruned": len(old), "kept": len(names) - len(old)})


def _busy(instance: dg.DagsterInstance) -> set[str]:
    runs = instance.get_runs(dg.RunsFilter(statuses=_IN_FLIGHT))
    return {run.tags[PARTITION_TAG] for run in runs if PARTITION_TAG in run.tags}


def _last_run(instance: dg.DagsterInstance, partition: str) -> datetime | None:
    records = instance.get_run_records(dg.RunsFilter(tags={PARTITION_TAG: partition}), limit=1)
    return records[0].update_timestamp.astimezone(UTC) if records else None


@dg.op(description="Deletes from the store what no avatar and no batch of the ledger owns.")
def sweep_orphans(context: dg.OpExecutionContext, line: LineResource) -> None:
    """Delete orphans, and drafts and checkpoints of work that nobody will finish."""
    with line.look() as bench:
        orphans = retention.sweep_orphans(bench, bench.clock())
    context.log.info(f"Swept: {orphans}")


@dg.op(description="Deletes uploads of avatars that have been ready for AVATAR_KEEP_UPLOADS_DAYS; off by default.")
def delete_old_uploads(context: dg.OpExecutionContext, line: LineResource) -> None:
    """Delete uploads whose time is over."""
    with line.look() as bench:
        deleted = retention.delete_old_uploads(bench, bench.clock())
    context.log.info(f"Uploads of {len(deleted)} avatars deleted: {', '.join(deleted) or 'none'}.")


@dg.op(description="Deletes from the ledger what nobody asks for any more; requests and their history stay.")
def prune_ledger(context: dg.OpExecutionContext, line: LineResource) -> None:
    """Delete old beats, webhooks that came to their end, batches without work left, old leases, deleted voices."""
    with line.look() as bench:
        before = bench.clock() - timedelta(days=bench.settings.keep_batches_days)
        beats, callbacks = bench.beats.prune(before), bench.callbacks.prune(before)
        batches = bench.requests.prune_batches(before)
        leases, voices = bench.leases.prune(before), bench.voices.prune(before)
        # Forecasts look eight weeks back, reports and reconciliation a month or two.
        money = bench.clock() - timedelta(days=KEEP_MONEY_DAYS)
        spending, prices = bench.spend.tidy(money), bench.price_store.prune(money)
    told = f"Deleted: {beats} beats, {callbacks} webhooks, {batches} batches, {leases} leases, {voices} voices, "
    told += f"{spending} rows of reservations, attempts and totals, {prices} prices."
    context.log.info(told)


@dg.op(description="Carries out what is left of consents that were taken back: voices that a provider still has.")
def finish_revocations(context: dg.OpExecutionContext, line: LineResource) -> None:
    """Delete what a crash, or a provider that was down, kept from being deleted; and runs that ended since then."""
    with line.look() as bench:
        finished = revocation.finish_revocations(bench)
        people, batches = revocation.shown_by_dagster(bench)
    if people:
        forget_runs_of(context.instance, build_avatar.name, people, [asset.key for asset in avatar_assets])
        forget_runs_of(context.instance, make_clip_batch.name, batches, [asset.key for asset in clip_assets])
    for one in finished:
        for avatar_id in one.avatars:
            # Or it would be built again at night.
            context.instance.delete_dynamic_partition(str(avatars.name), avatar_id)
        told = "; ".join(one.left) or "nothing is left"
        context.log.info(f"Consent {one.consent_id}, avatars {', '.join(one.avatars) or 'none'}: {told}.")


@dg.job(description="Whenever anything is left of a consent that was taken back.", executor_def=dg.in_process_executor)
def carry_out_revocations() -> None:
    """Delete what should be gone already."""
    finish_revocations()


@dg.job(description="Every night: old batch partitions, uploads and rows.", executor_def=dg.in_process_executor)
def tidy_up() -> None:
    """Take away what the settings say may go."""
    prune_batch_partitions()
    delete_old_uploads()
    prune_ledger()
    finish_revocations()


@dg.job(description="Every week: orphans in the artifact store.", executor_def=dg.in_process_executor)
def sweep_store() -> None:
    """Delete what nobody owns."""
    sweep_orphans()


housekeeping_jobs = [tidy_up, sweep_store, carry_out_revocations, sweep_gpu_jobs]
