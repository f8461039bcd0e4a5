"""What a placement costs: told to the pod, which does not know yet on which of its offerings it runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import ROUND_UP, Decimal

from avatar_pipeline.spot.catalog import PriceBook
from avatar_pipeline.spot.types import CapacityType, Offering, Placement

_PLACES = Decimal("0.000001")


@dataclass(frozen=True, slots=True)
class PlacementPrices:
    """US dollars an hour, rounded up to 10⁻⁶.

    `first` is the price of the best offering, `on_demand` that of its type on demand; None where any machine will do.
    `cap` is the highest over all offerings: what an attempt costs at most, until its machine is known.
    """

    first: Decimal | None
    cap: Decimal
    on_demand: Decimal | None


def prices_of(placement: Placement, book: PriceBook) -> PlacementPrices:
    """Return the prices of a placement; the cap of one without offerings is the book's price of what it knows not."""
    if not placement.offerings:
        anything = Offering("", "", placement.capacity_type)
        return PlacementPrices(None, _rounded(book.per_hour(anything)), None)
    first = placement.offerings[0]
    return PlacementPrices(
        first=_rounded(book.per_hour(first)),
        cap=_rounded(max(book.per_hour(offering) for offering in placement.offerings)),
        on_demand=_rounded(book.per_hour(replace(first, capacity_type=CapacityType.ON_DEMAND))),
    )


def _rounded(price: Decimal) -> Decimal:
    return price.quantize(_PLACES, ROUND_UP)
