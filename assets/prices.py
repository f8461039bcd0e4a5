"""Looks prices up at AWS: what machines cost on demand, and on spot in each zone."""

import dagster as dg

from avatar_pipeline.errors import AvatarError
from resources.line import LineResource


@dg.op(description="Asks EC2 and the Price List API what the machines of GPU steps cost now.")
def look_prices_up(context: dg.OpExecutionContext, line: LineResource) -> None:
    """Keep in the ledger what AWS says; what fails leaves the rest, and prices that are known hold on."""
    from avatar_pipeline.stages.price_refresh import refresh_prices as refresh

    try:
        with line.look() as bench:
            done = refresh(bench)
    except AvatarError as error:
        raise dg.Failure(str(error), metadata=error.as_dict()) from error
    for told in (*done.failed, *done.refused):
        context.log.warning(told)
    context.log.info(f"{done.told} prices were told, {done.added} are new.")
    context.add_output_metadata(
        {"told": done.told, "added": done.added, "refused": len(done.refused), "failed": len(done.failed)}
    )


@dg.job(description="Every day: what machines cost at AWS.", executor_def=dg.in_process_executor)
def refresh_prices() -> None:
    """Know what is paid."""
    look_prices_up()
