"""The schedule of the cost report, in UTC."""

from datetime import date, timedelta

import dagster as dg

from assets.costs import report_costs
from assets.partitions import days

DAYS_AGAIN = 3
"""Days that are reported on each night: the last one, and those before it that AWS may have billed by now, or whose
last attempts were settled since. A report that would say the same is not made again."""


@dg.schedule(
    job=report_costs,
    cron_schedule="30 0 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="The costs of the day before, and of the two before it once more: bills come late.",
)
def cost_report_schedule(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest]:
    """Ask for the last days, the latest one last."""
    today = context.scheduled_execution_time.date()
    return [
        dg.RunRequest(run_key=f"{today}/{key}", partition_key=key)
        for key in last_days(today)
        if days.has_partition_key(key)
    ]


def last_days(today: date) -> list[str]:
    """Return the keys of the days before `today` that are reported on, oldest first."""
    return [(today - timedelta(days=back)).isoformat() for back in range(DAYS_AGAIN, 0, -1)]
