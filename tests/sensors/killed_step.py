"""A run in this process whose one step is metered and never ends: to be killed. Its first argument is DAGSTER_HOME."""

import sys
import time

import dagster as dg

from resources.line import LineResource


@dg.asset
def endless(context: dg.AssetExecutionContext, line: LineResource) -> None:
    """Work until killed."""
    with line.open(context):
        time.sleep(600)


if __name__ == "__main__":
    with dg.DagsterInstance.local_temp(sys.argv[1]) as instance:
        dg.materialize([endless], instance=instance, resources={"line": LineResource()})
