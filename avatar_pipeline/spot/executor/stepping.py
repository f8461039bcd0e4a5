"""Dagster's step-delegating executor, with what it lacks for machines that come and go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
from dagster._core.events import DagsterEvent
from dagster._core.execution.context.system import IStepContext, PlanOrchestrationContext
from dagster._core.execution.plan.objects import StepFailureData, StepRetryData
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.plan.state import KnownExecutionState
from dagster._core.execution.plan.step import ExecutionStep
from dagster._core.executor.step_delegating import StepDelegatingExecutor, StepHandlerContext
from dagster._grpc.types import ExecuteStepArgs
from dagster_shared.error import SerializableErrorInfo

from avatar_pipeline.spot.classification import CONSEQUENCES, Budget
from avatar_pipeline.spot.executor import events, launching
from avatar_pipeline.spot.executor.gpu import GpuSteps, Outcome
from avatar_pipeline.spot.executor.handler import SpotStepHandler
from avatar_pipeline.spot.placement import PlacementPolicy, over_budget
from avatar_pipeline.spot.types import Attempt

_RUN_ENDS = frozenset({dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED})


class SpotStepExecutor(StepDelegatingExecutor):
    """Retries interrupted steps on a budget of their own, and leaves no Job behind when a run is cancelled."""

    def __init__(self, handler: SpotStepHandler, gpu: GpuSteps, *, policy: PlacementPolicy, **stock: Any) -> None:
        super().__init__(handler, **stock)
        self._spot = gpu
        self._policy = policy
        self._plan_context: PlanOrchestrationContext | None = None
        self._plan: ExecutionPlan | None = None

    def execute(self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan) -> Iterator[DagsterEvent]:
        """Execute a plan's steps, and see that nothing of it goes on running when a user called it off."""
        self._plan_context, self._plan = plan_context, execution_plan
        try:
            for event in super().execute(plan_context, execution_plan):
                if event.event_type is dg.DagsterEventType.STEP_WORKER_STARTED and event.step_key is not None:
                    self._spot.began(self._handler_context(event.step_key))
                if event.event_type in events.TERMINAL and event.step_key is not None:
                    self._spot.heard(self._handler_context(event.step_key), event)
                yield event
        finally:
            self._delete_if_cancelled(plan_context)

    def log_failure_or_retry_event_after_error(
        self, step_context: IStepContext, err_info: SerializableErrorInfo, known_state: KnownExecutionState
    ) -> DagsterEvent:
        """Say what follows from an attempt that has ended: another one, and at whose expense, or failure."""
        key = step_context.step.key
        outcome = self._spot.take_outcome(key)
        own = events.own_attempts(step_context.instance, step_context.run_id, key)
        if outcome is None and not launching.is_gpu(step_context):
            return super().log_failure_or_retry_event_after_error(step_context, err_info, known_state)
        if outcome is None or (not outcome.final and CONSEQUENCES[outcome.ending].budget is Budget.RETRY_POLICY):
            # An attempt that has been written down is in the history, and Dagster adds it once more.
            paid = launching.paid_by_retry_policy(own) - (outcome is not None)
            known_state = _counting(known_state, key, paid)
            return super().log_failure_or_retry_event_after_error(step_context, err_info, known_state)
        if not outcome.final and CONSEQUENCES[outcome.ending].retry:
            spent = self._spent(key, outcome, own)
            if spent is None:
                return DagsterEvent.step_retry_event(step_context, _again(err_info))
            err_info = SerializableErrorInfo(message=f"{spent} {err_info.message}", stack=[], cls_name=None)
        return DagsterEvent.step_failure_event(step_context, _failed(err_info))

    def _spent(self, key: str, outcome: Outcome, own: tuple[Attempt, ...]) -> str | None:
        """Say why there is no other attempt; None where there is one."""
        if over_budget(own, self._policy):
            return f"Interrupted more often than the {self._policy.interruption_budget} times it may be."
        if CONSEQUENCES[outcome.ending].bigger_profile_once:
            context = self._handler_context(key)
            history = events.attempts(context.instance, context.dagster_run, key)
            if self._spot.next_profile(context, history) is None:
                return "Out of memory, and there is no bigger profile to try, or it was tried."
        return None

    def _pop_events(
        self, instance: dg.DagsterInstance, run_id: str, seen_storage_ids: set[int]
    ) -> Sequence[DagsterEvent]:
        """Read the log, and keep from the engine what would mislead it.

        A worker without a `preemption_guard` that is told to end reports a failure, though only its machine was taken;
        that becomes a retry. And what a pod on a lost node says after it was given up is not said twice.
        """
        heard = list(super()._pop_events(instance, run_id, seen_storage_ids))
        passed = []
        for position, event in enumerate(heard):
            key = event.step_key
            if key is None or not self._ours(key):
                passed.append(event)
                continue
            if event.event_type is dg.DagsterEventType.STEP_WORKER_STARTING:
                self._spot.awaited.add(key)
            if event.event_type in events.TERMINAL:
                if key not in self._spot.awaited:
                    continue
                if event.is_step_failure and events.was_interrupted(event):
                    later = [other.event_type for other in heard[position + 1 :] if other.step_key == key]
                    if dg.DagsterEventType.STEP_UP_FOR_RETRY in later:
                        continue
                    if dg.DagsterEventType.STEP_WORKER_STARTING not in later and self._retry_interrupted(
                        instance, run_id, event
                    ):
                        continue
                self._spot.awaited.discard(key)
            passed.append(event)
        return passed

    def _retry_interrupted(self, instance: dg.DagsterInstance, run_id: str, event: DagsterEvent) -> bool:
        """Ask for a retry in the place of a step that failed because its machine was taken; False if it may not."""
        run = instance.get_run_by_id(run_id)
        if run is None or run.status in _RUN_ENDS or event.step_key is None:
            return False
        context = self._handler_context(event.step_key)
        self._spot.heard(context, event)
        if over_budget(events.own_attempts(instance, run_id, event.step_key), self._policy):
            return False
        step = context.get_step_context(event.step_key)
        error = SerializableErrorInfo(message="Interrupted: its machine was taken.", stack=[], cls_name="Preempted")
        DagsterEvent.step_retry_event(step, _again(error))
        return True

    def _delete_if_cancelled(self, plan_context: PlanOrchestrationContext) -> None:
        """Delete a cancelled run's Jobs, which the stock executor leaves to a resumed run that never comes (#33923)."""
        if self._plan is None:
            return
        left = [step.key for step in self._plan.get_all_steps_in_topo_order() if self._spot.runs(step.key)]
        run = plan_context.instance.get_run_by_id(plan_context.run_id) if left else None
        if run is None or run.status not in _RUN_ENDS:
            return
        for key in left:
            self._spot.terminate(self._handler_context(key))

    def _ours(self, key: str) -> bool:
        return self._plan_context is not None and launching.is_gpu(self._plan_context.for_step(self._step(key)))

    def _step(self, key: str) -> ExecutionStep:
        assert self._plan is not None  # noqa: S101
        step = self._plan.get_step_by_key(key)
        assert isinstance(step, ExecutionStep)  # noqa: S101
        return step

    def _handler_context(self, key: str) -> StepHandlerContext:
        """Return what the handler needs to know of a step outside of the stock executor's own calls."""
        plan_context = self._plan_context
        assert plan_context is not None  # noqa: S101
        return StepHandlerContext(
            instance=plan_context.plan_data.instance,
            plan_context=plan_context,
            steps=[self._step(key)],
            execute_step_args=ExecuteStepArgs(
                job_origin=plan_context.reconstructable_job.get_python_origin(),
                run_id=plan_context.dagster_run.run_id,
                step_keys_to_execute=[key],
                instance_ref=None,
                print_serialized_events=False,
            ),
            dagster_run=plan_context.dagster_run,
        )


def _counting(known_state: KnownExecutionState, key: str, user_errors: int) -> KnownExecutionState:
    attempts = {**known_state.previous_retry_attempts, key: max(0, user_errors)}
    return known_state._replace(previous_retry_attempts=attempts)


def _again(error: SerializableErrorInfo) -> StepRetryData:
    return StepRetryData(error=error, seconds_to_wait=0)  # type: ignore[no-untyped-call]


def _failed(error: SerializableErrorInfo) -> StepFailureData:
    return StepFailureData(error=error, user_failure_data=None)  # type: ignore[no-untyped-call]
