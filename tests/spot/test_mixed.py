"""The on-demand share of a fleet: what EC2 documents, and what holds for every fleet."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar_pipeline.spot.mixed import Fleet, next_capacity_type, on_demand_target
from avatar_pipeline.spot.types import CapacityType

bases, percentages = st.integers(0, 30), st.integers(0, 100)


@pytest.mark.parametrize(
    ("base", "percentage", "on_demand"),
    [
        (10, 50, (10, 15, 20, 25)),
        (0, 0, (0, 0, 0, 0)),
        (0, 60, (6, 12, 18, 24)),
        (0, 100, (10, 20, 30, 40)),
        (12, 0, (10, 12, 12, 12)),
    ],
)
def test_groups_of_10_to_40_are_split_as_in_the_ec2_user_guide(
    base: int, percentage: int, on_demand: tuple[int, ...]
) -> None:
    """The table "Scaling behavior" of the guide's setup overview, base and the rest added up."""
    split = [on_demand_target(size, base=base, percentage_above_base=percentage) for size in (10, 20, 30, 40)]
    assert tuple(split) == on_demand


def test_a_fraction_is_rounded_up_in_favour_of_on_demand() -> None:
    assert [on_demand_target(size, base=0, percentage_above_base=25) for size in range(6)] == [0, 1, 1, 1, 1, 2]


def test_the_base_is_filled_first_and_the_percentage_counts_above_it() -> None:
    placed = [
        next_capacity_type(Fleet(spot=0, on_demand=0), base=2, percentage_above_base=0),
        next_capacity_type(Fleet(spot=0, on_demand=1), base=2, percentage_above_base=0),
        next_capacity_type(Fleet(spot=0, on_demand=2), base=2, percentage_above_base=0),
    ]
    assert placed == [CapacityType.ON_DEMAND, CapacityType.ON_DEMAND, CapacityType.SPOT]


def test_a_base_that_ended_is_filled_again_before_more_spot() -> None:
    assert next_capacity_type(Fleet(spot=7, on_demand=1), base=2, percentage_above_base=0) is CapacityType.ON_DEMAND


@given(size=st.integers(0, 300), base=bases, percentage=percentages)
def test_a_fleet_that_grows_one_by_one_has_its_share_at_every_size(size: int, base: int, percentage: int) -> None:
    fleet = Fleet()
    for _ in range(size % 60):
        if next_capacity_type(fleet, base=base, percentage_above_base=percentage) is CapacityType.ON_DEMAND:
            fleet = Fleet(fleet.spot, fleet.on_demand + 1)
        else:
            fleet = Fleet(fleet.spot + 1, fleet.on_demand)
        grown = fleet.spot + fleet.on_demand
        assert fleet.on_demand == on_demand_target(grown, base=base, percentage_above_base=percentage)


@given(spot=st.integers(0, 100), on_demand=st.integers(0, 100), base=bases, percentage=percentages)
def test_more_on_demand_than_the_share_means_spot_next(spot: int, on_demand: int, base: int, percentage: int) -> None:
    target = on_demand_target(spot + on_demand + 1, base=base, percentage_above_base=percentage)
    chosen = next_capacity_type(Fleet(spot, on_demand), base=base, percentage_above_base=percentage)
    assert chosen is (CapacityType.SPOT if on_demand >= target else CapacityType.ON_DEMAND)
    assert 0 <= target <= spot + on_demand + 1
