"""The production line as a resource: opens the store and the ledger that the settings name, for one step."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import dagster as dg

from avatar_pipeline.errors import AvatarError, BudgetHold
from avatar_pipeline.progress import Progress, listener
from avatar_pipeline.scaling.recovery import WITHDRAWN_TAG
from avatar_pipeline.settings import read_settings
from avatar_pipeline.spot.attempt import SpotAttempt
from avatar_pipeline.spot.cadence import Cadence
from avatar_pipeline.spot.executor.worker import preemption_guard, spot_attempt
from avatar_pipeline.stages.heartbeat import beating
from avatar_pipeline.stages.line import Line, open_line
from avatar_pipeline.stages.paying import Step, hold_step, paid_step


class LineResource(dg.ConfigurableResource):
    """The store, the ledger and the settings, opened per step.

    Everything comes from `AVATAR_*` environment variables of the process that runs the step, so that no secret is in
    Dagster's configuration. `store` overrides the artifact store's place.
    """

    store: str | None = None

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[Self]:
        """Give signs of life for as long as a run's process has this resource.

        That is longer than its steps: a run that waits for a place in a pool lives too.
        """
        if context.run is None:
            yield self
            return
        with self.look() as line, beating(line.beats, context.run.run_id):
            yield self

    @contextmanager
    def open(self, context: dg.AssetExecutionContext) -> Iterator[Line]:
        """Give the line for one step; its progress goes to the step's log and to whoever listens in this process.

        On a machine that may be taken away, the work stops at the next chunk when that happens, and asks for a retry.
        What the step costs is put aside before it begins, and metered while it runs.

        Raises:
            Failure: a budget has no room for the step; whoever asked for it is held until there is.
        """
        progress = step_progress(context.log, listener())
        attempt = spot_attempt()
        cadence = Cadence.learning(attempt.mtbf_seconds) if attempt is not None and attempt.mtbf_seconds else None
        with (
            preemption_guard(context) as guard,
            open_line(
                read_settings(),
                store=self.store,
                progress=progress,
                run_id=context.run.run_id,
                guard=guard,
                cadence=cadence,
            ) as line,
            _paid(context, line, _step(context), attempt) as paid,
        ):
            yield paid

    @contextmanager
    def look(self) -> Iterator[Line]:
        """Give the line to a sensor, a schedule or an op that makes no artifacts."""
        with open_line(read_settings(), store=self.store) as line:
            yield line


@contextmanager
def _paid(context: dg.AssetExecutionContext, line: Line, step: Step, attempt: SpotAttempt | None) -> Iterator[Line]:
    """Meter a step; where a budget has no room for it, hold whoever asked for it and say so.

    The run's tag says that it ends for lack of money, so that nobody counts it as a failure.
    """
    begun = False
    try:
        with paid_step(line, step, attempt) as metered:
            begun = True
            yield metered
    except AvatarError as error:
        if begun or not (isinstance(error, BudgetHold) or error is line.money.broken):
            raise
        held = hold_step(line, step, error) if isinstance(error, BudgetHold) else 0
        context.instance.add_run_tags(context.run.run_id, {WITHDRAWN_TAG: "budget"})
        raise dg.Failure(
            f"{error} Held until then: {held} requests." if held else str(error),
            metadata={**error.as_dict(), "exit_code": error.exit_code},
            allow_retries=False,
        ) from error


def _step(context: dg.AssetExecutionContext) -> Step:
    return Step(
        run_id=context.run.run_id,
        step_key=context.op_execution_context.get_step_execution_context().step.key,
        number=context.retry_number,
        asset=context.asset_key.path[-1],
        partition=context.partition_key if context.has_partition_key else "",
    )


def step_progress(log: dg.DagsterLogManager, also: Progress) -> Progress:
    """Return a listener that logs every tenth of a stage, and passes everything on to `also`."""
    said: dict[str, int] = {}

    def report(stage: str, done: float, total: float | None) -> None:
        also(stage, done, total)
        tenths = int(10 * done / total) if total else 0
        if said.get(stage) != tenths:
            said[stage] = tenths
            log.info(f"{stage}: {done:g} of {total:g}" if total else f"{stage}: {done:g}")

    return report
