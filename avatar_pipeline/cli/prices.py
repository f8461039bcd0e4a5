"""`avatar budget prices`: what machines cost, as far as anybody knows, and what the doctor says to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from avatar_pipeline.budget.prices import Listed
from avatar_pipeline.cli import console
from avatar_pipeline.cli.bench import open_line
from avatar_pipeline.cli.options import AsJson
from avatar_pipeline.settings import Settings
from avatar_pipeline.stages import line as workbench
from avatar_pipeline.stages.price_refresh import Refreshed, known_prices, refresh_prices

if TYPE_CHECKING:
    from avatar_pipeline.cli.doctor import Noted

_REMEDY = "Look them up: avatar budget prices --refresh, or every day with AVATAR_PRICE_REFRESH=true."
_NAMED = 4


def prices(
    refresh: Annotated[bool, typer.Option("--refresh", help="Look prices up at AWS first.")] = False,
    as_json: AsJson = False,
) -> None:
    """List what machines cost, who says so, and which prices are old or missing."""
    with open_line() as line, console.interruptible():
        done = refresh_prices(line) if refresh else None
        known, now, settings = line.money.price_store.load(), line.clock(), line.settings
        listed = known_prices(settings, known)
    if as_json:
        console.say_json(
            {
                "cap_usd_per_hour": settings.price_cap,
                "stale_after_days": settings.price_stale_days,
                "refreshed": None if done is None else asdict(done),
                "prices": [_as_dict(one, now) for one in listed],
            }
        )
        return
    if done is not None:
        _say_refreshed(done)
    table = Table("machine", "paid", "where", box=None)
    for title in ("$/h", "age"):
        table.add_column(title, justify="right")
    for title in ("source", ""):
        table.add_column(title)
    for one in listed:
        table.add_row(*_cells(one, now))
    console.print_table(table)
    console.out.print(summary(listed, settings), soft_wrap=True)


def prices_finding(settings: Settings) -> str | Noted:
    """Say what is known of what machines cost; old and missing prices are worth a look where machines are bought."""
    from avatar_pipeline.cli.doctor import Noted

    with workbench.open_line(settings) as line:
        listed = known_prices(settings, line.money.price_store.load())
    told = summary(listed, settings)
    matters = settings.executor != "in_process" or settings.price_refresh
    if matters and any(one.quote.stale or not one.quote.exact for one in listed):
        return Noted(told, _REMEDY)
    return told


def summary(listed: Sequence[Listed], settings: Settings) -> str:
    """Return one sentence: how many prices there are, which are old, which stand in for others, which are missing."""
    stale = [one for one in listed if one.quote.stale]
    stand_ins = [one for one in listed if one.quote.known and not one.quote.exact]
    unknown = [one for one in listed if not one.quote.known]
    parts = [f"{len(listed)} prices"]
    if stale:
        oldest = min(one.quote.as_of for one in stale)
        told = f"{len(stale)} older than {settings.price_stale_days} days, the oldest of {oldest:%Y-%m-%d}"
        parts.append(f"{told} ({_named(stale)})")
    else:
        parts.append("none stale")
    if stand_ins:
        parts.append(f"{len(stand_ins)} of spot unknown, for which on-demand stands in ({_named(stand_ins)})")
    if unknown:
        parts.append(f"{len(unknown)} unknown, which count as {settings.price_cap} $/h ({_named(unknown)})")
    else:
        parts.append("none unknown")
    return "; ".join(parts) + "."


def _named(listed: Iterable[Listed]) -> str:
    names = list(dict.fromkeys(f"{one.offering.instance_type} {one.region}" for one in listed))
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _cells(one: Listed, now: datetime) -> Iterable[str]:
    quote = one.quote
    mark = "unknown" if not quote.known else "stale" if quote.stale else ""
    age = console.span(now - quote.as_of) if quote.known else ""
    where = one.offering.zone
    return (
        one.offering.instance_type,
        str(one.offering.capacity_type),
        where,
        f"{quote.per_hour:f}",
        age,
        quote.source,
        mark,
    )


def _as_dict(one: Listed, now: datetime) -> dict[str, Any]:
    quote, zone = one.quote, one.offering.zone
    return {
        "instance_type": one.offering.instance_type,
        "capacity_type": str(one.offering.capacity_type),
        "region": one.region,
        "zone": None if zone == one.region else zone,
        "usd_per_hour": quote.per_hour,
        "as_of": quote.as_of if quote.known else None,
        "age_seconds": round((now - quote.as_of).total_seconds(), 3) if quote.known else None,
        "source": quote.source,
        "stale": quote.stale,
        "known": quote.known,
        "exact": quote.exact,
    }


def _say_refreshed(done: Refreshed) -> None:
    console.out.print(f"AWS told {done.told} prices, {done.added} are new.", soft_wrap=True)
    for told in (*done.failed, *done.refused):
        console.err.print(console.printable(told), markup=False, soft_wrap=True)
