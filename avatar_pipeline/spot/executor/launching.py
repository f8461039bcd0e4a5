"""What a step's attempt is told and labelled with, and the client that puts it into the Job that Dagster made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import dagster as dg
from dagster._core.execution.context.system import IStepContext
from dagster._core.executor.step_delegating import StepHandlerContext
from dagster._grpc.types import ExecuteStepArgs

from avatar_pipeline.spot import attempt as told
from avatar_pipeline.spot import tags
from avatar_pipeline.spot.classification import CONSEQUENCES, Budget
from avatar_pipeline.spot.executor.door import Manifest
from avatar_pipeline.spot.intervals import interruption_mtbf
from avatar_pipeline.spot.labels import step_labels
from avatar_pipeline.spot.manifests import amend
from avatar_pipeline.spot.placement import PlacementPolicy, interruptions
from avatar_pipeline.spot.prices import PlacementPrices
from avatar_pipeline.spot.profiles import ComputeProfile
from avatar_pipeline.spot.types import Attempt, Placement

DEADLINE_TAG = "avatar/deadline"
"""On a run: when its GPU steps are to be done, as an ISO time with its zone."""
EXPECTED_TAG = "avatar/expected-seconds"
"""On a run or an op: seconds of work expected, for the deadline strategy, until the first checkpoint tells more."""
TENANT_TAG = "avatar/tenant"
PARTITION_TAG = "dagster/partition"
ARGUMENTS_VARIABLE = "DAGSTER_COMPRESSED_EXECUTE_STEP_ARGS"


class CapturingClient:
    """Stands before the stock handler's client: a Job that is to be created is given to `take` instead."""

    def __init__(self, client: Any, take: Callable[[Any, str], None]) -> None:
        self._client = client
        self._take = take

    def create_namespaced_job_with_retries(self, body: Any, namespace: str) -> None:
        """Hand the Job over; nothing is sent."""
        self._take(body, namespace)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def is_gpu(step: IStepContext) -> bool:
    """Say whether a step is tagged as GPU work."""
    return is_gpu_tagged(step.step.tags)


def is_gpu_tagged(of_step: Mapping[str, str] | None) -> bool:
    """Say whether these tags of a step are those of GPU work."""
    return (of_step or {}).get(tags.COMPUTE_TAG) == "gpu"


def tag(step: IStepContext, run: dg.DagsterRun, name: str) -> str | None:
    """Return a tag of the step, else of the run."""
    return dict(step.step.tags or {}).get(name) or run.tags.get(name)


def asset_of(step: IStepContext) -> str | None:
    """Return the asset that a step makes; of several, the first by name."""
    keys = step.job.get_definition().asset_layer.get_selected_entity_keys_for_node(step.node_handle)
    names = sorted(key.to_user_string() for key in keys if isinstance(key, dg.AssetKey))
    return names[0] if names else None


def policy_of(step: IStepContext, run: dg.DagsterRun, policy: PlacementPolicy) -> PlacementPolicy:
    """Return the policy that a step is placed by: the executor's, but spot only where its tags or its run's say so.

    Raises:
        InvalidInput: the tag says something else.
    """
    return replace(policy, spot_only=policy.spot_only or tags.spot_only(tag(step, run, tags.CAPACITY_TAG)))


def paid_by_retry_policy(history: tuple[Attempt, ...]) -> int:
    """Return how many attempts the op's RetryPolicy pays for: those that its code, image or deadline ended."""
    return sum(
        1
        for attempt in history
        if attempt.ending is not None and CONSEQUENCES[attempt.ending].budget is Budget.RETRY_POLICY
    )


def arguments(args: ExecuteStepArgs, step_key: str, user_errors: int) -> str:
    """Return the worker's arguments, in which only what the user is to blame for counts as an attempt.

    Dagster has one counter for all attempts, and compares it with the op's RetryPolicy in the worker. `verify_step`
    compares the same number with the event log, so it is left out; with `backoffLimit: 0` a Job has one pod.
    """
    known = args.known_state
    if known is not None:
        known = known._replace(previous_retry_attempts={**known.previous_retry_attempts, step_key: user_errors})
    theirs = ExecuteStepArgs(
        job_origin=args.job_origin,
        run_id=args.run_id,
        step_keys_to_execute=args.step_keys_to_execute,
        instance_ref=args.instance_ref,
        retry_mode=args.retry_mode,
        known_state=known,
        should_verify_step=False,
        print_serialized_events=args.print_serialized_events,
    )
    return str(next(pair["value"] for pair in theirs.get_command_env() if pair["name"] == ARGUMENTS_VARIABLE))


def amended(
    manifest: Manifest,
    context: StepHandlerContext,
    step: IStepContext,
    *,
    attempt: Attempt,
    history: tuple[Attempt, ...],
    own: tuple[Attempt, ...],
    profile: ComputeProfile,
    prices: PlacementPrices,
    budget: int,
) -> Manifest:
    """Return the Job that Dagster made for a step, with this attempt's placement, labels and variables in it.

    `history` is of this run and those it re-executes, `own` of this run alone.
    """
    run, placement = context.dagster_run, attempt.placement
    labels = step_labels(
        run_id=run.run_id,
        step_key=step.step.key,
        asset=asset_of(step),
        partition=run.tags.get(PARTITION_TAG),
        tenant=tag(step, run, TENANT_TAG),
        capacity_type=placement.capacity_type,
        profile=placement.profile,
        attempt=attempt.number,
    )
    variables = environment(
        attempt.number,
        history,
        placement,
        prices,
        interrupted=interruptions(own),
        budget=budget,
    )
    variables[ARGUMENTS_VARIABLE] = arguments(context.execute_step_args, step.step.key, paid_by_retry_policy(own))
    return amend(manifest, profile=profile, placement=placement, labels=labels, env=variables)


def environment(
    number: int,
    history: tuple[Attempt, ...],
    placement: Placement,
    prices: PlacementPrices,
    *,
    interrupted: int,
    budget: int,
) -> dict[str, str]:
    """Return what a pod is told of its attempt."""
    values = {
        told.ATTEMPT: str(number),
        told.INTERRUPTIONS: str(interrupted),
        told.BUDGET: str(budget),
        told.CAPACITY: placement.capacity_type.value,
        told.MTBF_SECONDS: f"{interruption_mtbf(history):.0f}",
        told.PRICE_CAP: format(prices.cap, "f"),
        told.PROFILE: placement.profile,
    }
    for name, price in ((told.PRICE, prices.first), (told.ON_DEMAND_PRICE, prices.on_demand)):
        if price is not None:
            values[name] = format(price, "f")
    saved = [attempt.progress for attempt in history if attempt.progress is not None]
    if saved:
        values[told.SECONDS_BEFORE] = f"{saved[-1].seconds:.3f}"
    return values


def shown(attempt: Attempt) -> Mapping[str, Any]:
    """Return an attempt as metadata for a person: what it got, how long it ran, what it cost and lost."""
    seconds, price = attempt.seconds, attempt.price
    return {
        "attempt": attempt.number,
        "capacity_type": attempt.placement.capacity_type.value,
        "profile": attempt.placement.profile,
        "instance_type": attempt.instance_type,
        "zone": attempt.zone,
        "ending": None if attempt.ending is None else attempt.ending.value,
        "seconds": None if seconds is None else round(seconds, 3),
        "work_lost_seconds": None if attempt.lost_seconds is None else round(attempt.lost_seconds, 3),
        "usd_per_hour": None if price is None else float(price),
    }
