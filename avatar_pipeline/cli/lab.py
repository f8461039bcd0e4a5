"""`avatar lab`: simulations to try policies out on."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from avatar_pipeline.cli import console
from avatar_pipeline.cli.options import AsJson
from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.lab.spot.comparison import ALL_POOLS, Result, compare, long_enough
from avatar_pipeline.lab.spot.simulator import ON_DEMAND_PRICE, SPOT_PRICE, Setting
from avatar_pipeline.lab.spot.traces import read_traces
from avatar_pipeline.progress import listener

lab_app = typer.Typer(help="Simulations to try policies out on.", no_args_is_help=True)


@lab_app.callback()
def _lab() -> None:
    """Simulations to try policies out on."""


@lab_app.command()
def spot(
    traces: Annotated[Path, typer.Option(help="A folder of availability traces: *.json (skypilot), *.csv (bamboo).")],
    job_hours: Annotated[float, typer.Option(min=0.01, help="Hours of work.")] = 48.0,
    deadline_hours: Annotated[list[float] | None, typer.Option(help="May be given again. Default: 52, 70.")] = None,
    restart_minutes: Annotated[list[float] | None, typer.Option(help="May be given again. Default: 3, 12.")] = None,
    windows: Annotated[int, typer.Option(min=1, max=100_000, help="Random windows of each trace.")] = 100,
    seed: Annotated[int, typer.Option(help="Settles which windows.")] = 0,
    nodes: Annotated[int, typer.Option(min=1, help="Instances that the job needs at once.")] = 1,
    tick_seconds: Annotated[int, typer.Option(min=1, max=86_400, help="How often is decided.")] = 600,
    on_demand_price: Annotated[str, typer.Option(help="USD an hour.")] = str(ON_DEMAND_PRICE),
    spot_price: Annotated[str, typer.Option(help="USD an hour.")] = str(SPOT_PRICE),
    by_pool: Annotated[bool, typer.Option("--by-pool", help="Rows for each trace as well.")] = False,
    as_json: AsJson = False,
) -> None:
    """Replay spot availability: what a job with a deadline costs under each policy, over the least it could cost.

    The policies are ours (deadline-aware), Uniform Progress, greedy spot, and on-demand alone; the least is what an
    optimum that knows the future would have paid.
    """
    settings = [
        Setting(
            work=_seconds(job_hours, 3600, "--job-hours"),
            deadline=_seconds(hours, 3600, "--deadline-hours"),
            restart=_seconds(minutes, 60, "--restart-minutes"),
            tick=tick_seconds,
            on_demand_price=_price(on_demand_price, "--on-demand-price"),
            spot_price=_price(spot_price, "--spot-price"),
        )
        for hours in dict.fromkeys(deadline_hours or (52.0, 70.0))
        for minutes in dict.fromkeys(restart_minutes or (3.0, 12.0))
    ]
    with console.showing_progress(quiet=as_json):
        read = read_traces(traces, tick_seconds=tick_seconds, nodes=nodes)
        long, short = long_enough(read, settings)
        rows = compare(long, settings, windows=windows, seed=seed, by_pool=by_pool, progress=listener())
    if short:
        names = ", ".join(trace.name for trace in short)
        console.err.print(f"left out, too short for the latest deadline: {names}", soft_wrap=True, markup=False)
    if as_json:
        console.say_json([row.as_dict() for row in rows])
        return
    told = ", ".join(f"{trace.name} {trace.share:.0%}" for trace in long)
    console.out.print(f"{windows} windows of each of {len(long)} traces (with spot: {told})", soft_wrap=True)
    console.print_table(_table(rows))


def _table(rows: list[Result]) -> Table:
    pools = any(row.pool != ALL_POOLS for row in rows)
    table = Table(box=None)
    for title in (["pool"] if pools else []) + ["policy"]:
        table.add_column(title, no_wrap=True)
    for title in ("hours", "restart min", "×optimum", "p95", "USD", "misses", "launches", "lost min"):
        table.add_column(title, justify="right")
    last = None
    for row in rows:
        setting = (row.pool, row.deadline_h, row.restart_s)
        if last not in (None, setting):
            table.add_row()
        last = setting
        table.add_row(
            *([row.pool] if pools else []),
            row.policy,
            f"{row.deadline_h:g}",
            f"{row.restart_s / 60:g}",
            f"{row.cost_ratio:.3f}",
            f"{row.cost_ratio_p95:.3f}",
            f"{row.cost_usd:.2f}",
            str(row.misses),
            "" if row.launches is None else f"{row.launches:.1f}",
            "" if row.work_lost_s is None else f"{row.work_lost_s / 60:.0f}",
        )
    return table


def _seconds(value: float, unit: int, name: str) -> int:
    if not 0 <= value * unit <= 10_000 * 86_400:
        raise InvalidInput(f"{name} is {value:g}.", remedy="Give at least 0, and no more than 10,000 days.")
    return round(value * unit)


def _price(text: str, name: str) -> Decimal:
    try:
        price = Decimal(text)
    except ArithmeticError:
        price = Decimal("NaN")
    if not (price.is_finite() and price > 0):
        raise InvalidInput(f"{name} is {text!r}.", remedy="Give a price in US dollars an hour, above 0, such as 3.06.")
    return price
