"""`k8s_spot_executor`: the stock `k8s_job_executor`, with its GPU steps on spot capacity."""

from __future__ import annotations

from typing import Any

import dagster as dg
from dagster._core.definitions.executor_definition import multiple_process_executor_requirements
from dagster._core.executor.step_delegating import StepDelegatingExecutor
from dagster_k8s.executor import _K8S_EXECUTOR_CONFIG_SCHEMA, K8sStepHandler, k8s_job_executor
from pydantic import ValidationError

from avatar_pipeline.clock import utc_now
from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.spot.executor.config import SpotConfig
from avatar_pipeline.spot.executor.door import Door
from avatar_pipeline.spot.executor.events import EventLog
from avatar_pipeline.spot.executor.gpu import GpuSteps
from avatar_pipeline.spot.executor.handler import SpotStepHandler
from avatar_pipeline.spot.executor.keeping import JobKeeper
from avatar_pipeline.spot.executor.stepping import SpotStepExecutor

CONFIG_SCHEMA: dict[str, Any] = {
    **_K8S_EXECUTOR_CONFIG_SCHEMA,
    "spot": dg.Field(
        SpotConfig.to_config_schema().as_field().config_type,
        is_required=False,
        default_value={},
        description="Placement of GPU steps on spot and on-demand capacity, and what counts as an interruption.",
    ),
}
"""All that `k8s_job_executor` takes, and `spot`."""


@dg.executor(name="k8s_spot", config_schema=CONFIG_SCHEMA, requirements=multiple_process_executor_requirements())
def k8s_spot_executor(context: dg.InitExecutorContext) -> dg.Executor:
    """Run steps tagged `avatar/compute: gpu` as Kubernetes Jobs on spot capacity, and all others in the run's pod.

    An attempt whose machine is taken is followed by another one, from its last checkpoint, at the expense of an
    interruption budget; the op's own `RetryPolicy` pays for errors of the op alone. After so many interruptions, where
    spot has no capacity, or as a deadline comes near, the step goes on on-demand. See `docs/spot-executor.md`.

    It is made by composition: the stock executor reads its configuration and makes the manifests.

    Raises:
        InvalidInput: the `spot` part cannot be used, or retries are disabled.
    """
    given: dict[str, Any] = {**context.executor_config}
    config = _read(given.pop("spot", {}))
    create = k8s_job_executor.executor_creation_fn
    stock = None if create is None else create(context._replace(executor_config=given))
    if not isinstance(stock, StepDelegatingExecutor) or not isinstance(stock._step_handler, K8sStepHandler):
        raise InvalidInput("The stock executor is not what it was.", remedy="Pin dagster to a version we support.")
    if stock.retries.disabled:
        raise InvalidInput(
            "retries: disabled cannot be used with the spot executor: an interrupted step is a retry.",
            remedy="Leave retries enabled; a step without a RetryPolicy is not retried for errors of its own.",
        )
    handler = stock._step_handler
    door = Door.like(handler._api_client.batch_api.api_client)
    log = EventLog(context.instance)
    gpu = GpuSteps(handler, config, log=log, door=door, keeper=JobKeeper(door, utc_now))
    return SpotStepExecutor(
        SpotStepHandler(gpu, log=log, silent_exit_seconds=config.silent_exit_seconds),
        gpu,
        log=log,
        policy=config.policy,
        retries=stock.retries,
        sleep_seconds=config.poll_seconds,
        check_step_health_interval_seconds=config.check_interval_seconds,
        max_concurrent=stock._max_concurrent,
        tag_concurrency_limits=stock._tag_concurrency_limits,
        step_dependency_config=stock.step_dependency_config,
    )


def _read(given: dict[str, Any]) -> SpotConfig:
    try:
        return SpotConfig(**given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(
            f"execution.config.spot.{name} cannot be used: {first['msg']}.", remedy="See docs/spot-executor.md."
        ) from error
