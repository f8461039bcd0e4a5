"""The daily report. Partition key: the day, in UTC."""

from datetime import date

import dagster as dg

from assets.avatars import OWNERS
from assets.binding import Outcome, materialize
from assets.compute import CPU_TAGS
from assets.partitions import days
from avatar_pipeline.stages import report
from resources.line import LineResource


@dg.asset(
    partitions_def=days,
    group_name="operations",
    owners=OWNERS,
    kinds={"python"},
    code_version=report.REPORT_VERSION,
    op_tags=CPU_TAGS,
)
def daily_report(context: dg.AssetExecutionContext, line: LineResource) -> Outcome:
    """What one day brought: requests, latencies, failures by reason, spend, and pictures of them."""
    with line.open(context) as bench:
        yield from materialize(
            bench, lambda: report.make_daily_report(bench, date.fromisoformat(context.partition_key))
        )


report_assets = [daily_report]
