"""The report of costs. Partition key: the day, in UTC."""

from datetime import date

import dagster as dg

from assets.avatars import OWNERS
from assets.binding import Outcome, materialize, warning
from assets.compute import CPU_TAGS
from assets.partitions import days
from avatar_pipeline.stages import cost_facts
from avatar_pipeline.stages import cost_report as stage
from resources.line import LineResource


@dg.asset(
    partitions_def=days,
    group_name="operations",
    owners=OWNERS,
    kinds={"python"},
    code_version=stage.COST_REPORT_VERSION,
    op_tags=CPU_TAGS,
    check_specs=[
        warning(
            "matches_the_bill",
            "cost_report",
            "What we recorded for machines is within 5 % of what AWS billed, on each of the last days that it has.",
        )
    ],
)
def cost_report(context: dg.AssetExecutionContext, line: LineResource) -> Outcome:
    """What one day cost and whose it was, what spot saved, how the budgets stand, and whether the bill agrees."""
    with line.open(context) as bench:
        yield from materialize(
            bench,
            lambda: stage.make_cost_report(bench, date.fromisoformat(context.partition_key)),
            judge=lambda facts: [cost_facts.matches_the_bill(facts)],
        )


cost_assets = [cost_report]

report_costs = dg.define_asset_job(
    "report_costs",
    selection=dg.AssetSelection.assets(*cost_assets),
    description="The costs of one day.",
    executor_def=dg.in_process_executor,
)
