"""The production line as a resource: opens the store and the ledger that the settings name, for one step."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from avatar_pipeline.progress import Progress, listener
from avatar_pipeline.settings import read_settings
from avatar_pipeline.stages.line import Line, open_line


class LineResource(dg.ConfigurableResource):
    """The store, the ledger and the settings, opened per step.

    Everything comes from `AVATAR_*` environment variables of the process that runs the step, so that no secret is in
    Dagster's configuration. `store` overrides the artifact store's place.
    """

    store: str | None = None

    @contextmanager
    def open(self, context: dg.AssetExecutionContext) -> Iterator[Line]:
        """Give the line for one step; its progress goes to the step's log and to whoever listens in this process."""
        progress = step_progress(context.log, listener())
        with open_line(read_settings(), store=self.store, progress=progress, run_id=context.run_id) as line:
            yield line


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
