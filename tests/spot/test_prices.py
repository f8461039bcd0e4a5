"""What a pod is told that its placement costs."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from avatar_pipeline.spot.catalog import CATALOG, PRICE_CAP, TablePrices
from avatar_pipeline.spot.prices import PlacementPrices, prices_of
from avatar_pipeline.spot.types import CapacityType, Offering, Placement

SPOT, ON_DEMAND = CapacityType.SPOT, CapacityType.ON_DEMAND
BOOK = TablePrices()


def placement(*types: str, capacity_type: CapacityType = SPOT) -> Placement:
    return Placement(capacity_type, tuple(Offering(kind, "a", capacity_type) for kind in types), "gpu", "")


def test_the_first_offering_is_priced_beside_what_it_costs_on_demand_and_the_dearest_caps_them() -> None:
    assert prices_of(placement("g5.xlarge", "g6e.xlarge", "g4dn.xlarge"), BOOK) == PlacementPrices(
        first=Decimal("0.4886"), cap=Decimal("0.8902"), on_demand=Decimal("1.006")
    )


def test_on_demand_costs_what_it_costs_on_demand() -> None:
    told = prices_of(placement("g5.xlarge", capacity_type=ON_DEMAND), BOOK)
    assert told.first == told.on_demand == told.cap == Decimal("1.006")


def test_where_any_machine_will_do_the_cap_is_that_of_an_unknown_machine() -> None:
    assert prices_of(placement(), BOOK) == PlacementPrices(None, PRICE_CAP, None)


def test_prices_are_rounded_up_so_that_none_becomes_nothing() -> None:
    class Odd:
        def per_hour(self, offering: Offering) -> Decimal:
            return Decimal("0.00000000001") if offering.instance_type == "g5.xlarge" else Decimal(1) / 3

    told = prices_of(placement("g5.xlarge", "g6.xlarge"), Odd())
    assert (told.first, told.cap) == (Decimal("0.000001"), Decimal("0.333334"))


@given(
    types=st.lists(st.sampled_from([kind.name for kind in CATALOG] + ["x9.huge"]), min_size=1),
    capacity_type=st.sampled_from(CapacityType),
)
def test_no_offering_of_a_placement_costs_more_than_its_cap(types: list[str], capacity_type: CapacityType) -> None:
    placed = placement(*types, capacity_type=capacity_type)
    told = prices_of(placed, BOOK)
    assert all(0 < BOOK.per_hour(offering) <= told.cap for offering in placed.offerings)
    assert told.first is not None and told.first <= told.cap
