"""The step handler: GPU steps as Jobs where the placement policy says, everything else beside the run's process."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from dagster._core.events import DagsterEvent
from dagster._core.executor.step_delegating import CheckStepHealthResult, StepHandler, StepHandlerContext

from avatar_pipeline.clock import Clock, utc_now
from avatar_pipeline.spot.executor import launching
from avatar_pipeline.spot.executor.events import EventLog
from avatar_pipeline.spot.executor.gpu import GpuSteps
from avatar_pipeline.spot.executor.local import LocalStepHandler, step_of


class SpotStepHandler(StepHandler):
    """Sends each step where its tags say."""

    def __init__(self, gpu: GpuSteps, *, log: EventLog, silent_exit_seconds: float, clock: Clock = utc_now) -> None:
        self._gpu = gpu
        self._log = log
        self._local = LocalStepHandler()
        self._silent_exit_seconds = silent_exit_seconds
        self._exits: dict[str, datetime] = {}
        self._clock = clock

    @property
    def name(self) -> str:
        """The name in the run's log."""
        return "SpotStepHandler"

    def launch_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        """Begin the next attempt of a step."""
        key = step_of(step_handler_context)
        if _is_gpu(step_handler_context):
            yield from self._gpu.launch(step_handler_context)
        else:
            self._exits.pop(key, None)
            yield from self._local.launch_step(step_handler_context)

    def check_step_health(self, step_handler_context: StepHandlerContext) -> CheckStepHealthResult:
        """Look at a step's attempt. Unhealthy means that it has ended."""
        if not _is_gpu(step_handler_context):
            return self._check_local(step_handler_context)
        ended = self._gpu.check(step_handler_context)
        return CheckStepHealthResult.healthy() if ended is None else CheckStepHealthResult.unhealthy(ended)

    def terminate_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        """End a step for good."""
        if _is_gpu(step_handler_context):
            self._gpu.terminate(step_handler_context)
        else:
            yield from self._local.terminate_step(step_handler_context)

    def _check_local(self, context: StepHandlerContext) -> CheckStepHealthResult:
        key = step_of(context)
        health = self._local.check_step_health(context)
        if health.is_healthy and self._local.ended_silently(key):
            since = self._exits.setdefault(key, self._clock())
            if (self._clock() - since).total_seconds() >= self._silent_exit_seconds:
                health = CheckStepHealthResult.unhealthy("its process ended without a word")
        if not health.is_healthy and self._log.spoken(context.dagster_run.run_id, key):
            return CheckStepHealthResult.healthy()
        return health


def _is_gpu(context: StepHandlerContext) -> bool:
    return launching.is_gpu(context.get_step_context(step_of(context)))
