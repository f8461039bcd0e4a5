"""Schedules: the daily report, and the cleaning of the house. All in UTC; the nightly rebuild is in `automation`."""

import dagster as dg

from assets.housekeeping import carry_out_revocations, sweep_store, tidy_up
from assets.jobs import report_day
from avatar_pipeline.stages.revocation import anything_left
from resources.line import LineResource
from sensors.costs import cost_report_schedule
from sensors.orphans import sweep_gpu_jobs_schedule
from sensors.prices import refresh_prices_schedule

daily_report_schedule = dg.build_schedule_from_partitioned_job(
    report_day,
    name="daily_report_schedule",
    hour_of_day=0,
    minute_of_hour=15,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="The report of the day before.",
)

tidy_up_schedule = dg.ScheduleDefinition(
    name="tidy_up_schedule",
    job=tidy_up,
    cron_schedule="30 3 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Takes away old batch partitions, and uploads whose time is over.",
)

sweep_store_schedule = dg.ScheduleDefinition(
    name="sweep_store_schedule",
    job=sweep_store,
    cron_schedule="0 4 * * 0",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Deletes from the store what nobody owns.",
)


@dg.schedule(
    job=carry_out_revocations,
    cron_schedule="*/10 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Deletes voices that a provider still has though their consent was taken back.",
)
def revocation_schedule(line: LineResource) -> dg.RunRequest | dg.SkipReason:
    """Ask for a run if the ledger knows of anything left."""
    with line.look() as bench:
        if anything_left(bench):
            return dg.RunRequest()
    return dg.SkipReason("Nothing is left of any consent that was taken back.")


schedules = [
    daily_report_schedule,
    cost_report_schedule,
    tidy_up_schedule,
    sweep_store_schedule,
    revocation_schedule,
    sweep_gpu_jobs_schedule,
    refresh_prices_schedule,
]
