"""Steps that need no GPU: subprocesses of the run's own pod, so that only GPU work pays for a pod."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from typing import IO

from dagster._core.events import DagsterEvent
from dagster._core.executor.step_delegating import CheckStepHealthResult, StepHandler, StepHandlerContext

_SECONDS_TO_END = 30.0
"""How long a step may take to end when it is told to, before it is killed."""


class LocalStepHandler(StepHandler):
    """Runs each step as `dagster api execute_step` in a process of its own, beside the run's process.

    Its output is this process's output, where Dagster's log capture finds it; its events go to the event log, like
    those of a step in a pod.
    """

    def __init__(self, output: IO[bytes] | None = None) -> None:
        self._output = output
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def name(self) -> str:
        """The name in the run's log."""
        return "LocalStepHandler"

    def launch_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        """Start the step's process."""
        key = step_of(step_handler_context)
        args = step_handler_context.execute_step_args
        yield DagsterEvent.step_worker_starting(
            step_handler_context.get_step_context(key),
            message=f'Executing step "{key}" in a subprocess of the run.',
            metadata={},
        )
        self._processes[key] = subprocess.Popen(
            args.get_command_args(skip_serialized_namedtuple=True),
            env=dict(os.environ) | _environment(args.get_command_env()),
            stdout=self._output,
            stderr=self._output,
        )

    def check_step_health(self, step_handler_context: StepHandlerContext) -> CheckStepHealthResult:
        """Say whether the step's process lives, or ended well."""
        key = step_of(step_handler_context)
        process = self._processes.get(key)
        if process is None:
            return CheckStepHealthResult.unhealthy("its process ended with the run's earlier one")
        code = process.poll()
        if code is None or code == 0:
            return CheckStepHealthResult.healthy()
        return CheckStepHealthResult.unhealthy(f"its process ended {describe_exit(code)}")

    def ended_silently(self, key: str) -> bool:
        """Say whether the step's process has ended with 0: if its last event is not there by now, none will come."""
        process = self._processes.get(key)
        return process is not None and process.poll() == 0

    def terminate_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        """Tell the step's process to end, and see that it does."""
        key = step_of(step_handler_context)
        process = self._processes.get(key)
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(_SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                process.kill()
        yield from ()


def step_of(context: StepHandlerContext) -> str:
    """Return the key of the one step that a context is about."""
    (key,) = context.execute_step_args.step_keys_to_execute or ()
    return key


def describe_exit(code: int) -> str:
    """Return how a process ended, in words."""
    return f"by signal {-code}" if code < 0 else f"with exit code {code}"


def _environment(pairs: object) -> dict[str, str]:
    if not isinstance(pairs, list):
        return {}
    return {pair["name"]: pair["value"] for pair in pairs if isinstance(pair, Mapping)}
