"""Dagster's step-delegating executor, with what it lacks for machines that come and go."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import dagster as dg
from dagster._core.events import DagsterEvent
from dagster._core.execution.context.system import IStepContext, PlanOrchestrationContext
from dagster._core.execution.plan.handle import ResolvedFromDynamicStepHandle, StepHandle
from dagster._core.execution.plan.objects import StepFailureData, StepRetryData
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.plan.state import KnownExecutionState
from dagster._core.execution.plan.step import ExecutionStep, IExecutionStep
from dagster._core.executor.step_delegating import StepDelegatingExecutor, StepHandlerContext
from dagster._grpc.types import ExecuteStepArgs
from dagster_shared.error import SerializableErrorInfo

from avatar_pipeline.spot.classification import CONSEQUENCES, Budget
from avatar_pipeline.spot.executor import events, launching
from avatar_pipeline.spot.executor.gpu import GpuSteps, Outcome
from avatar_pipeline.spot.executor.handler import SpotStepHandler
from avatar_pipeline.spot.placement import PlacementPolicy, over_budget
from avatar_pipeline.spot.types import Attempt, Ending

_PAGE = 1000
_LOGGER = logging.getLogger("dagster")
_TAKEN = "Interrupted: its machine was taken."
_SPENT = "Told to go, and there is no other attempt: the budget that would pay for it is spent."
_BEGUN_AGAIN = frozenset({dg.DagsterEventType.STEP_UP_FOR_RETRY, dg.DagsterEventType.STEP_WORKER_STARTING})
_RUN_ENDS = frozenset({dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED})


class SpotStepExecutor(StepDelegatingExecutor):
    """Retries interrupted steps on a budget of their own, and leaves no Job behind when a run is cancelled."""

    def __init__(
        self, handler: SpotStepHandler, gpu: GpuSteps, *, log: events.EventLog, policy: PlacementPolicy, **stock: Any
    ) -> None:
        super().__init__(handler, **stock)
        self._spot = gpu
        self._log = log
        self._policy = policy
        self._plan_context: PlanOrchestrationContext | None = None
        self._plan: ExecutionPlan | None = None
        self._has_read = False
        self._passed: Counter[str] = Counter()
        self._begun: set[str] = set()

    def execute(self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan) -> Iterator[DagsterEvent]:
        """Execute a plan's steps, and see that nothing of it goes on running when the run has ended."""
        self._plan_context, self._plan = plan_context, execution_plan
        try:
            for event in super().execute(plan_context, execution_plan):
                if event.step_key is not None and self._spot.runs(event.step_key):
                    self._take_note(event, self._handler_context(event.step_key))
                yield event
        except Exception:
            # The stock executor ends its steps before it raises, but for those of a run that it was about to resume.
            self._end_all()
            raise
        finally:
            try:
                if self._is_called_off(plan_context):
                    # Left by the stock executor to a resumed run, which never comes for a cancelled one (#33923).
                    self._end_all()
            finally:
                self._spot.wait_for_the_last()

    def _take_note(self, event: DagsterEvent, context: StepHandlerContext) -> None:
        """Write down what an event says of an attempt. That it cannot be is no reason to end a run with its steps."""
        try:
            if event.event_type is dg.DagsterEventType.STEP_WORKER_STARTED:
                self._spot.began(context)
            elif event.event_type in events.TERMINAL:
                self._spot.heard(context, event)
        except Exception:
            _LOGGER.warning("Could not write down how an attempt of %s fares.", event.step_key, exc_info=True)
            if event.event_type in events.TERMINAL:
                self._spot.forget(str(event.step_key))

    def log_failure_or_retry_event_after_error(
        self, step_context: IStepContext, err_info: SerializableErrorInfo, known_state: KnownExecutionState
    ) -> DagsterEvent:
        """Say what follows from an attempt that has ended: another one, and at whose expense, or failure."""
        key = step_context.step.key
        outcome = self._spot.take_outcome(key)
        own = self._log.own_attempts(step_context.run_id, key)
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
        bigger = CONSEQUENCES[outcome.ending].bigger_profile_once
        if bigger and self._spot.next_profile(self._handler_context(key), own) is None:
            return "Out of memory, and there is no bigger profile to try, or it was tried."
        return None

    def _pop_events(
        self, instance: dg.DagsterInstance, run_id: str, seen_storage_ids: set[int]
    ) -> Sequence[DagsterEvent]:
        """Read the log, and keep from the engine what would mislead it.

        A worker without a `preemption_guard` that is told to end reports a failure, though only its machine was taken;
        that becomes a retry. And what a pod on a lost node says after it was given up is not said twice.
        """
        heard = [] if self._has_read else self._read_all(instance, run_id, seen_storage_ids)
        heard += super()._pop_events(instance, run_id, seen_storage_ids)
        passed: list[DagsterEvent] = []
        for position, event in enumerate(heard):
            key = event.step_key
            if key is None or not self._ours(key):
                passed.append(event)
            elif event.event_type not in events.TERMINAL:
                self._follow(event, key)
                passed.append(event)
            elif self._counts(event, key):
                later = {other.event_type for other in heard[position + 1 :] if other.step_key == key}
                told = events.was_interrupted(event) and not event.is_step_success
                if told and event.is_step_failure and later & _BEGUN_AGAIN:
                    continue
                words = self._instead(instance, run_id, event) if told and not later & _BEGUN_AGAIN else [event]
                passed += words
                self._spot.awaited.difference_update([key] if words else [])
        return passed

    def _read_all(self, instance: dg.DagsterInstance, run_id: str, seen_storage_ids: set[int]) -> list[DagsterEvent]:
        """Read what the log holds so far.

        The state of a resumed run is rebuilt from what is read first: by the stock executor that is one page, and with
        half of what happened it would be wrong.
        """
        self._has_read = True
        heard: list[DagsterEvent] = []
        cursor: str | None = None
        while True:
            page = instance.get_records_for_run(run_id, cursor, of_type=set(dg.DagsterEventType), limit=_PAGE)
            found = [
                row.event_log_entry.dagster_event for row in page.records if row.storage_id not in seen_storage_ids
            ]
            heard += [event for event in found if event is not None]
            seen_storage_ids.update(row.storage_id for row in page.records)
            if not page.has_more:
                return heard
            cursor = page.cursor

    def _follow(self, event: DagsterEvent, key: str) -> None:
        if event.event_type is events.STARTING:
            self._spot.awaited.add(key)
            self._begun.discard(key)
        elif event.event_type is events.STARTED:
            self._begun.add(key)

    def _counts(self, event: DagsterEvent, key: str) -> bool:
        """Say whether a last word is the one that is awaited.

        Not the one that was passed on before it was read, nor what a pod on a lost node says after it was given up:
        before the worker of the next attempt has begun, a word cannot be its own.
        """
        return (
            key in self._spot.awaited and not self._was_passed(event) and (key in self._begun or events.is_ours(event))
        )

    def _instead(self, instance: dg.DagsterInstance, run_id: str, event: DagsterEvent) -> list[DagsterEvent]:
        """Return what follows from a worker's word that it was told to go: a retry or a failure, whatever it asked for.

        A worker without a guard reports a failure, or a retry for its RetryPolicy to pay, and no worker can know
        whether its machine was taken or its Job ran into its active deadline.
        """
        run, key = instance.get_run_by_id(run_id), str(event.step_key)
        if run is None or run.status in _RUN_ENDS:
            return [event]
        if self._spot.runs(key):
            self._spot.heard(self._handler_context(key), event)
        own = self._log.own_attempts(run_id, key)
        ending = own[-1].ending if own else Ending.INTERRUPTED
        again = not over_budget(own, self._policy)
        step = self._step(key)
        context = self._plan_context.for_step(step) if self._plan_context and isinstance(step, ExecutionStep) else None
        if ending is not None and CONSEQUENCES[ending].budget is Budget.RETRY_POLICY:
            allowed = context.op_retry_policy.max_retries if context and context.op_retry_policy else 0
            again = launching.paid_by_retry_policy(own) <= allowed
        if again == event.is_step_up_for_retry:
            return [event]
        if context is None:
            # A mapped step of a run that is just being resumed: it is launched again because it is found not to run.
            return [] if again else [event]
        self._passed[key] += 1
        error = SerializableErrorInfo(message=_TAKEN if again else _SPENT, stack=[], cls_name="Preempted")
        if again:
            return [DagsterEvent.step_retry_event(context, _again(error))]
        return [DagsterEvent.step_failure_event(context, _failed(error))]

    def _was_passed(self, event: DagsterEvent) -> bool:
        """Say whether this was put in the place of a worker's word, and is now read from the log."""
        key = str(event.step_key)
        error = events.error_of(event)
        if error is None or error.message not in (_TAKEN, _SPENT) or not self._passed[key]:
            return False
        self._passed[key] -= 1
        return True

    def _is_called_off(self, plan_context: PlanOrchestrationContext) -> bool:
        run = plan_context.instance.get_run_by_id(plan_context.run_id) if self._spot.running else None
        return run is not None and run.status in _RUN_ENDS

    def _end_all(self) -> None:
        self._spot.delete_all()
        for key in self._spot.running:
            # That it cannot be written down must not keep the others alive.
            with suppress(Exception):
                self._spot.terminate(self._handler_context(key))

    def _ours(self, key: str) -> bool:
        step = self._step(key)
        return step is not None and launching.is_gpu_tagged(step.tags)

    def _step(self, key: str) -> IExecutionStep | None:
        """Return a step; of a mapped one that the plan does not know yet, the step that it is mapped from."""
        if self._plan is None:
            return None
        handle = StepHandle.parse_from_key(key)
        if key not in self._plan.step_dict_by_key and isinstance(handle, ResolvedFromDynamicStepHandle):
            key = handle.unresolved_form.to_key()
        return self._plan.step_dict_by_key.get(key)

    def _handler_context(self, key: str) -> StepHandlerContext:
        """Return what the handler needs to know of a step outside of the stock executor's own calls."""
        plan_context, step = self._plan_context, self._step(key)
        assert plan_context is not None and isinstance(step, ExecutionStep)  # noqa: S101
        return StepHandlerContext(
            instance=plan_context.plan_data.instance,
            plan_context=plan_context,
            steps=[step],
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
