"""The schedule of `assets.orphans`."""

import dagster as dg

from assets.orphans import sweep_gpu_jobs
from avatar_pipeline.settings import read_settings


@dg.schedule(
    job=sweep_gpu_jobs,
    cron_schedule="*/5 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Takes away GPU Jobs whose run is over.",
)
def sweep_gpu_jobs_schedule() -> dg.RunRequest | dg.SkipReason:
    """Ask for a run where GPU steps are Jobs."""
    if read_settings().executor == "in_process":
        return dg.SkipReason("Steps run in their run's process: there are no Jobs.")
    return dg.RunRequest()
