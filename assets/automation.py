"""When assets are made without anybody asking: the nightly rebuild of avatars.

https://docs.dagster.io/guides/automate/declarative-automation
"""

from hashlib import sha256

import dagster as dg

OPENS = "0 2 * * *"
CLOSES = "0 6 * * *"
"""The off-peak window, UTC. It is looked once, as soon as it opens; a daemon that comes up in it looks then."""
LAST = "greeting_clip"
"""The avatar asset that every run which builds a whole avatar makes last."""

_DATA_VERSION_TAG = "dagster/data_version"
_FAILURE_REASON_TAG = "dagster/failure_reason"
_RETRY_NUMBER_TAG = "dagster/retry_number"


class MadeByOtherCode(dg.AutomationCondition):
    """Was made by another code version than the current one, or from something that was.

    `AutomationCondition.code_version_changed()` compares with its own last look: it misses a deployment before the
    first look, and takes what a run of the old code finished after it for new. This compares with what Dagster wrote
    down: an asset that declares no data version of its own gets the hash of its code version and of its inputs' data
    versions (https://docs.dagster.io/guides/build/assets/asset-versioning-and-caching). An avatar's first asset has no
    inputs, so that the versions of the code alone say what each hash must be, and it is the same for all avatars.
    One query per asset, whatever the number of partitions.
    """

    def evaluate(self, context: dg.AutomationContext) -> dg.AutomationResult:
        """Compare the recorded data versions with the one that the code gives now."""
        if context.candidate_subset.is_empty:
            return dg.AutomationResult(context, context.get_empty_subset())
        recorded = context.asset_graph_view.instance.event_log_storage.get_latest_tags_by_partition(
            context.key, dg.DagsterEventType.ASSET_MATERIALIZATION, [_DATA_VERSION_TAG]
        )
        wanted = _data_version(context, context.key)
        others = {partition for partition, tags in recorded.items() if tags.get(_DATA_VERSION_TAG) != wanted}
        return dg.AutomationResult(context, _among(context, others))


class FailedForGood(dg.AutomationCondition):
    """Failed by itself when it was last tried, and neither then nor tonight was there new code to try it with.

    By itself means: a step failed, or the run's worker was lost as often as Dagster tries again. A run that was lost
    with its machine says nothing against its avatar; nor does one that somebody called off. The cursor holds the code
    version of the last night, so that a new one gets a try, once. The first night of all has a try too.
    """

    def evaluate(self, context: dg.AutomationContext) -> dg.AutomationResult:
        """Look at the run of each partition whose last attempt made nothing."""
        if context.candidate_subset.is_empty:
            return dg.AutomationResult(context, context.get_empty_subset(), cursor=context.cursor)
        version = str(context.asset_graph.get(context.key).code_version)
        failed = _failed(context.asset_graph_view.instance, context.key) if context.cursor == version else set()
        return dg.AutomationResult(context, _among(context, failed), cursor=version)


def nightly(opens: str = OPENS, closes: str = CLOSES, timezone: str = "UTC") -> dg.AutomationCondition:
    """Return the condition of an asset that is rebuilt in the night where it is missing or not of the current code.

    What is downstream of something rebuilt is rebuilt with it, in the same backfill. What somebody is at already, what
    failed for good, and what would be made from inputs that are not ready, is left alone.
    """
    condition = dg.AutomationCondition
    window_opened = condition.cron_tick_passed(opens, timezone)
    # Passed and not over: a daemon that was down all night does not begin at noon.
    still_open = window_opened.since(condition.cron_tick_passed(closes, timezone)).with_label("window is open")
    outdated = condition.missing() | MadeByOtherCode()
    with_its_inputs = condition.any_deps_match(condition.will_be_requested())
    inputs_not_ready = condition.any_deps_match(outdated & ~condition.will_be_requested())
    at_work = condition.in_progress() | condition.asset_matches(LAST, condition.in_progress())
    return (
        window_opened
        & still_open
        & (outdated | with_its_inputs).with_label("missing, or not of the current code")
        & ~inputs_not_ready.with_label("inputs are not ready")
        & ~at_work.with_label("somebody is at it")
        & (~FailedForGood() | with_its_inputs).with_label("has not failed for good")
    ).with_label("nightly rebuild")


def _data_version(context: dg.AutomationContext, key: dg.AssetKey) -> str:
    """Return the data version that Dagster gives to an asset made by the current code from inputs made by it.

    As in `dagster._core.definitions.data_version.compute_logical_data_version`: SHA-256 over the code version and the
    inputs' versions, in the order of their keys; an input that is a partition counts with the SHA-256 of its version.
    """
    node = context.asset_graph.get(key)
    inputs = [_sha256(_data_version(context, parent)) for parent in sorted(node.parent_keys, key=str)]
    return _sha256("".join([str(node.code_version), *inputs]))


def _sha256(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def _failed(instance: dg.DagsterInstance, key: dg.AssetKey) -> set[str]:
    failed = set()
    for partition, run in _unfinished(instance, key).items():
        by_a_step = run.tags.get(_FAILURE_REASON_TAG) == "STEP_FAILURE"
        tried = int(run.tags.get(_RETRY_NUMBER_TAG, 0))
        worn_out = instance.run_retries_enabled and tried >= instance.run_retries_max_retries
        if run.status == dg.DagsterRunStatus.FAILURE and (by_a_step or worn_out):
            failed.add(partition)
    return failed


def _unfinished(instance: dg.DagsterInstance, key: dg.AssetKey) -> dict[str, dg.DagsterRun]:
    """Return the run of each partition that was last to be made by that run, and was not."""
    log = instance.event_log_storage
    attempts = log.get_latest_asset_partition_materialization_attempts_without_materializations(key)
    wanted = sorted({run_id for run_id, _ in attempts.values()})
    runs: dict[str, dg.DagsterRun] = {}
    for first in range(0, len(wanted), 500):  # below the number of variables that SQLite allows in a query
        chunk = dg.RunsFilter(run_ids=wanted[first : first + 500])
        runs |= {run.run_id: run for run in instance.get_runs(chunk)}
    return {partition: runs[run_id] for partition, (run_id, _) in attempts.items() if run_id in runs}


def _among(context: dg.AutomationContext, partitions: set[str]):  # type: ignore[no-untyped-def]  # Dagster does not export it
    return context.candidate_subset.compute_intersection_with_partition_keys(partitions)


NIGHTLY = nightly()
"""The condition of the avatars' assets, in the window between `OPENS` and `CLOSES`."""
