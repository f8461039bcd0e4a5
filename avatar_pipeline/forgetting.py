"""Runs that are to be forgotten: their events hold preview pictures and texts of people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import dagster as dg

_UI_JOB = "__ASSET_JOB"
"""What Dagster calls a run of assets that were chosen in the UI, not by a job."""


def forget_runs_of(
    instance: dg.DagsterInstance, job: str, partition_keys: Sequence[str], assets: Iterable[dg.AssetKey]
) -> None:
    """Delete the finished runs of a job that worked on these partitions; `assets` are those that the job makes."""
    for key in partition_keys:
        for run in instance.get_runs(dg.RunsFilter(tags={"dagster/partition": key})):
            if run.job_name in {job, _UI_JOB} and run.is_finished:
                instance.delete_run(run.run_id)
    for asset in assets:
        _forget_latest(instance, asset, set(partition_keys))


def _forget_latest(instance: dg.DagsterInstance, asset: dg.AssetKey, partition_keys: set[str]) -> None:
    """Have Dagster's catalogue show another partition where it shows one of these as the asset's latest.

    The catalogue keeps a copy of the latest materialization, pictures included, that deleting its run leaves.
    """
    latest = instance.get_latest_materialization_event(asset)
    shown = latest.asset_materialization if latest else None
    if shown is None or shown.partition not in partition_keys:
        return
    remaining = instance.fetch_materializations(asset, limit=1).records
    other = remaining[0].asset_materialization if remaining else None
    if other is None:
        instance.wipe_assets([asset])
    else:
        instance.report_runless_asset_event(other)
