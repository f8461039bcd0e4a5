"""What a step's pod is told of its own attempt, in its environment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import TypeVar

from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.spot.types import CapacityType

ATTEMPT = "AVATAR_SPOT_ATTEMPT"
INTERRUPTIONS = "AVATAR_SPOT_INTERRUPTIONS"
BUDGET = "AVATAR_SPOT_BUDGET"
CAPACITY = "AVATAR_SPOT_CAPACITY"
DEADLINE_AT = "AVATAR_SPOT_DEADLINE_AT"
MTBF_SECONDS = "AVATAR_SPOT_MTBF_SECONDS"
SECONDS_BEFORE = "AVATAR_SPOT_SECONDS_BEFORE"
PRICE = "AVATAR_SPOT_PRICE"
PRICE_CAP = "AVATAR_SPOT_PRICE_CAP"
ON_DEMAND_PRICE = "AVATAR_SPOT_ON_DEMAND_PRICE"
PROFILE = "AVATAR_SPOT_PROFILE"

_PRICE_IS = "a price in US dollars an hour, above 0"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SpotAttempt:
    """An attempt of a step as its executor told it. Numbers count from 0.

    `interruptions` there were before it, of `budget` that are borne; `deadline` is that of its Job; `mtbf_seconds` the
    time between interruptions that is to be expected; `seconds_before` the work of earlier attempts. None: not told.

    Prices are US dollars an hour: `price` of the offering that is placed first, `on_demand_price` of the same type on
    demand, and `price_cap` the most that any offering of the placement costs, for as long as the machine is not known.
    `profile` is the compute profile that it was placed by.
    """

    number: int
    interruptions: int = 0
    budget: int | None = None
    capacity: CapacityType | None = None
    deadline: datetime | None = None
    mtbf_seconds: float | None = None
    seconds_before: float = 0.0
    price: Decimal | None = None
    price_cap: Decimal | None = None
    on_demand_price: Decimal | None = None
    profile: str | None = None


def attempt_from_environment(environment: Mapping[str, str]) -> SpotAttempt | None:
    """Read the `AVATAR_SPOT_*` variables of a pod; None where it is not the spot executor's.

    Raises:
        InvalidInput: one of them is not what it should be.
    """
    if not environment.get(ATTEMPT):
        return None

    def read(name: str, parse: Callable[[str], T], what: str) -> T | None:
        text = environment.get(name)
        if not text:
            return None
        try:
            return parse(text)
        except ValueError as error:
            raise InvalidInput(
                f"{name} is {text!r}, not {what}.", remedy="The spot executor sets it; leave it alone."
            ) from error

    return SpotAttempt(
        number=read(ATTEMPT, _count, "a number from 0") or 0,
        interruptions=read(INTERRUPTIONS, _count, "a number from 0") or 0,
        budget=read(BUDGET, _count, "a number from 0"),
        capacity=read(CAPACITY, CapacityType, f"one of {', '.join(CapacityType)}"),
        deadline=read(DEADLINE_AT, _aware, "an ISO time with its zone"),
        mtbf_seconds=read(MTBF_SECONDS, _above_zero, "a number of seconds above 0"),
        seconds_before=read(SECONDS_BEFORE, _seconds, "a number of seconds") or 0.0,
        price=read(PRICE, _price, _PRICE_IS),
        price_cap=read(PRICE_CAP, _price, _PRICE_IS),
        on_demand_price=read(ON_DEMAND_PRICE, _price, _PRICE_IS),
        profile=environment.get(PROFILE) or None,
    )


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


def _seconds(text: str) -> float:
    seconds = float(text)
    if not isfinite(seconds) or seconds < 0:
        raise ValueError(text)
    return seconds


def _above_zero(text: str) -> float:
    if not (seconds := _seconds(text)):
        raise ValueError(text)
    return seconds


def _price(text: str) -> Decimal:
    try:
        price = Decimal(text)
    except InvalidOperation as error:
        raise ValueError(text) from error
    if not price.is_finite() or price <= 0:
        raise ValueError(text)
    return price


def _aware(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(text)
    return time
