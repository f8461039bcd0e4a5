"""What attempts cost an hour, once it is known what they ran on: by the price list of that time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from avatar_pipeline.budget.prices import PriceList
from avatar_pipeline.budget.types import MICRO
from avatar_pipeline.spot.types import CapacityType, Offering
from avatar_pipeline.stages.line import Line
from avatar_pipeline.stages.observed import ObservedAttempt

EXECUTOR = "executor"
"""The source of a price that no list knows, as the executor reckoned it."""


@dataclass(frozen=True, slots=True)
class Priced:
    """US dollars an hour, who says so, and what the same machine costs on demand, where that is known."""

    per_hour: Decimal
    source: str
    on_demand: Decimal | None


class Repricing:
    """The price list from the first of some attempts on; read when the first price is asked for."""

    def __init__(self, line: Line, since: Sequence[datetime]) -> None:
        self._line = line
        self._since = min(since, default=line.clock())
        self._list: PriceList | None = None

    def of(self, attempt: ObservedAttempt, at: datetime, capacity_type: str = "") -> Priced | None:
        """Return the price at a time of the machine that an attempt ran on; None where nobody saw the machine.

        `capacity_type` is how it was to be paid for, where that was not seen either.
        """
        capacity = _capacity(attempt.capacity_type or capacity_type)
        if attempt.instance_type is None or capacity is None:
            return None
        quote = self._prices().quote(Offering(attempt.instance_type, attempt.zone or "", capacity), at)
        if not quote.known and attempt.price is not None:
            on_demand = None if attempt.on_demand_price is None else attempt.on_demand_price.quantize(MICRO)
            return Priced(max(attempt.price.quantize(MICRO), MICRO), EXECUTOR, on_demand)
        return Priced(quote.per_hour, quote.source, self._on_demand(attempt.instance_type, attempt.zone or "", at))

    def highest(self, attempt: ObservedAttempt, at: datetime) -> Priced:
        """Return the most that an attempt can have cost, by what it was placed on."""
        quote = self._prices().highest(attempt.offerings, at)
        return Priced(quote.per_hour, quote.source, None)

    def _on_demand(self, instance_type: str, zone: str, at: datetime) -> Decimal | None:
        quote = self._prices().on_demand(instance_type, zone=zone, at=at)
        return quote.per_hour if quote.known else None

    def _prices(self) -> PriceList:
        if self._list is None:
            self._list = self._line.money.price_store.load(self._since)
        return self._list


def _capacity(name: str) -> CapacityType | None:
    try:
        return CapacityType(name)
    except ValueError:
        return None
