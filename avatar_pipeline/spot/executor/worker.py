"""In the pod: `preemption_guard` around an op's long work, so that a machine that is taken costs one chunk at most."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import dagster as dg
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.events import EngineEventData

from avatar_pipeline.errors import AvatarError, Interrupted, InvalidInput
from avatar_pipeline.spot import history
from avatar_pipeline.spot.attempt import SpotAttempt, attempt_from_environment
from avatar_pipeline.spot.executor.events import METADATA, EventLog
from avatar_pipeline.spot.guard import NO_GUARD, Guard, Preempted, StepDeadlineExceeded, watching
from avatar_pipeline.spot.notice import Ec2Metadata
from avatar_pipeline.spot.types import Progress

_RUN_ENDS = frozenset({dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.FAILURE})
_SUPERSEDED = 75
"""Exit code, EX_TEMPFAIL of sysexits.h."""
_WITHOUT_END = 1_000_000
"""The executor keeps the budget of interruptions; Dagster's own counter is not to end it sooner."""


def spot_attempt() -> SpotAttempt | None:
    """Return which attempt this process is; None where no spot executor started it."""
    return attempt_from_environment(os.environ)


@contextmanager
def preemption_guard(context: dg.OpExecutionContext | dg.AssetExecutionContext) -> Iterator[Guard]:
    """Give work a guard, whose `boundary` it calls after every chunk that it has saved.

    When the machine is to be taken (SIGTERM, or EC2's interruption notice), the next boundary leaves the block, and the
    step asks for a retry that its `RetryPolicy` does not pay for. What the work says of its progress goes to the
    event log, where the executor finds it. Outside of the spot executor the guard watches nothing.

    Raises:
        RetryRequested: the machine is being taken.
        Failure: it was taken more often than the budget allows, or the step ran into its active deadline.
        DagsterExecutionInterruptedError: the user cancelled the run.
    """
    attempt = spot_attempt()
    if attempt is None:
        yield NO_GUARD
        return

    def cancelled() -> bool:
        try:
            run = context.instance.get_run_by_id(context.run_id)
        except Exception:
            # Without an answer it is taken for what is more likely; a retry of a cancelled run is not launched.
            return False
        return run is not None and run.status in _RUN_ENDS

    def report(progress: Progress) -> None:
        # Progress is told for the sake of placement; work must not fail because it could not be told.
        with suppress(Exception):
            context.instance.report_engine_event(
                f"Checkpoint: {progress.done:g} of {progress.total:g}.",
                context.dagster_run,
                EngineEventData(
                    metadata={METADATA: dg.MetadataValue.json(history.checkpointed(attempt.number, progress))}
                ),
                step_key=context.op_execution_context.get_step_execution_context().step.key,
            )

    try:
        with watching(
            cancelled=cancelled,
            report=report,
            sources=(_metadata_service(),),
            deadline=attempt.deadline,
            seconds_before=attempt.seconds_before,
        ) as guard:
            yield guard
    except Preempted as error:
        _leave_if_superseded(context, attempt)
        raise asked_again(attempt, error) from error
    except StepDeadlineExceeded as error:
        raise dg.Failure(str(error), metadata=error.as_dict(), allow_retries=True) from error
    except Interrupted as error:
        raise DagsterExecutionInterruptedError from error


def _leave_if_superseded(context: dg.OpExecutionContext | dg.AssetExecutionContext, attempt: SpotAttempt) -> None:
    """End this process without a word where a later attempt has been placed: its word would be taken for that one's.

    This happens to a worker on a machine that was given up for lost, and comes back.
    """
    step_key = context.op_execution_context.get_step_execution_context().step.key
    with suppress(Exception):
        known = EventLog(context.instance).attempts(context.dagster_run, step_key)
        if known and known[-1].number > attempt.number:
            context.log.warning(f"Attempt {attempt.number} was given up before; attempt {known[-1].number} goes on.")
            os._exit(_SUPERSEDED)


def _metadata_service() -> Ec2Metadata:
    """Return the instance metadata service, where AWS's own variable says it is, if it says so."""
    told = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT")
    if told:
        # One that is not near, such as a proxy's, is not asked: it would speak of another machine.
        with suppress(InvalidInput):
            return Ec2Metadata(told)
    return Ec2Metadata()


def asked_again(attempt: SpotAttempt, error: AvatarError) -> Exception:
    """Return what asks Dagster for another attempt, or says that there were enough."""
    if attempt.budget is not None and attempt.interruptions >= attempt.budget:
        return dg.Failure(
            f"Interrupted {attempt.interruptions + 1} times, where {attempt.budget} are allowed. {error}",
            metadata=error.as_dict(),
            allow_retries=False,
        )
    return dg.RetryRequested(max_retries=_WITHOUT_END, seconds_to_wait=0)
