"""Amounts and times as people read them."""

from __future__ import annotations

from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from zoneinfo import ZoneInfo

from avatar_pipeline.budget.types import MICRO, Unit

PER = {"day": "a day", "week": "a week", "month": "a month", "rolling_24h": "in any 24 hours"}


def figure(amount: Decimal, unit: Unit) -> str:
    """Return an amount without its unit: `1,187.20`, exact to the millionth; dollars with two places at least."""
    text = f"{amount.quantize(MICRO, ROUND_HALF_EVEN):,f}"
    whole, _, places = text.partition(".")
    places = places.rstrip("0")
    if unit is Unit.USD:
        places = places.ljust(2, "0")
    return f"{whole}.{places}" if places else whole


def with_unit(amount: Decimal, unit: Unit) -> str:
    """Return an amount with its unit: `US$ 200.00`, `100,000 characters`."""
    return f"US$ {figure(amount, unit)}" if unit is Unit.USD else f"{figure(amount, unit)} characters"


def percent(share: Decimal) -> str:
    """Return a share in per cent, `93.6 %`."""
    return f"{(share * 100).quantize(Decimal('0.1')).normalize():f} %"


def moment(at: datetime, timezone: str) -> str:
    """Return a time in a zone, to the minute: `2026-11-25 00:00 UTC`."""
    local = at.astimezone(ZoneInfo(timezone))
    name = local.tzname() or ""
    if not name.isalpha():  # zones without a name of their own: +0545
        offset = f"{local:%z}"
        name = f"UTC{offset[:3]}:{offset[3:5]}"
    return f"{local:%Y-%m-%d %H:%M} {name}"
