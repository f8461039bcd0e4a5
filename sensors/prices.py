"""The schedule of `assets.prices`."""

import dagster as dg

from assets.prices import refresh_prices
from avatar_pipeline.settings import read_settings


@dg.schedule(
    job=refresh_prices,
    # Before the daily report, which tells what the day before cost.
    cron_schedule="5 0 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Looks up what machines cost at AWS.",
)
def refresh_prices_schedule() -> dg.RunRequest | dg.SkipReason:
    """Ask for a run where prices may be looked up."""
    if not read_settings().price_refresh:
        return dg.SkipReason("Prices are not looked up at AWS (AVATAR_PRICE_REFRESH).")
    return dg.RunRequest()
