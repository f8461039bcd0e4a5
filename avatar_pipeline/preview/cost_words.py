"""Costs as a person reads them at a glance."""

from __future__ import annotations

from decimal import Decimal

from avatar_pipeline.budget.drift import Drift

NOBODY = "nobody in particular"
"""Who pays for manifests and reports."""
_CAPACITIES = {"": "not told", "on-demand": "on demand", "provider": "voice provider"}
_ENDINGS = {"provider": "voice provider", "running": "still open", "unknown": "not known any more"}


def money(amount: Decimal) -> str:
    """Return US dollars to the cent, or as many more places as show anything of an amount below a dollar."""
    size = abs(amount)
    places = 2 if size >= 1 or not size else 4 if size >= Decimal("0.01") else 6
    return f"{amount:,.{places}f}"


def share(part: Decimal) -> str:
    """Return a share in per cent; to a tenth where it is small."""
    return f"{part * 100:,.0f} %" if abs(part) >= Decimal("0.1") else f"{part * 100:.1f} %"


def capacity_name(name: str) -> str:
    """Return what a kind of capacity is called."""
    return _CAPACITIES.get(name, name)


def ending_name(name: str) -> str:
    """Return what an attempt's ending is called."""
    return _ENDINGS.get(name, name.replace("_", " "))


def signed(drift: Drift) -> str:
    """Return how far ours is from the bill, `-3.2 %`."""
    sign = "−" if drift.difference < 0 else "+" if drift.difference > 0 else ""
    return f"{sign}{share(drift.share)}"


def hours(seconds: Decimal) -> str:
    """Return seconds as hours of machines."""
    return f"{seconds / 3600:,.2f} h"


def count(number: Decimal | int) -> str:
    """Return a number of things."""
    return f"{number:,.0f}"
