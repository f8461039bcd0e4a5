"""Checkpoint intervals against Daly's own figures, and the interruption rate that a history tells."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.spot.intervals import checkpoint_interval, interruption_mtbf, remaining_seconds
from avatar_pipeline.spot.types import Attempt, CapacityType, Ending, Placement, Progress

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SPOT = Attempt(0, Placement(CapacityType.SPOT, (), "gpu", ""), NOW)
costs = st.floats(1e-3, 1e4)
means = st.floats(1.0, 1e6)


@pytest.mark.parametrize(("hours", "minutes"), [(24, 117), (6, 57), (0.25, 9.1)])
def test_the_interval_is_that_of_figures_3_to_5_of_daly_2006(hours: float, minutes: float) -> None:
    """Checkpoints of 5 min, with a machine lost every 24 h, 6 h and 15 min."""
    assert checkpoint_interval(5 * 60, hours * 3600) / 60 == pytest.approx(minutes, rel=0.008)


def test_a_checkpoint_dearer_than_two_mean_times_is_made_once_a_mean_time() -> None:
    assert checkpoint_interval(200, 100) == 100
    assert checkpoint_interval(500, 100) == 100


def test_checkpoints_that_cost_nothing_are_made_all_the_time() -> None:
    assert checkpoint_interval(0, 100) == 0


@given(cost=costs, mean=means)
def test_the_interval_is_never_negative_nor_much_longer_than_youngs(cost: float, mean: float) -> None:
    interval = checkpoint_interval(cost, mean)
    assert 0 < interval <= max(mean, 1.5 * (2 * cost * mean) ** 0.5)


@given(cost=costs, mean=means, other=st.floats(1.01, 100))
def test_the_more_often_a_machine_is_lost_the_more_often_work_is_saved(cost: float, mean: float, other: float) -> None:
    assert checkpoint_interval(cost, mean) < checkpoint_interval(cost, mean * other)


@pytest.mark.parametrize(("cost", "mean"), [(-1, 60), (float("nan"), 60), (float("inf"), 60), (1, 0), (1, -5)])
def test_impossible_costs_and_rates_are_refused(cost: float, mean: float) -> None:
    with pytest.raises(InvalidInput):
        checkpoint_interval(cost, mean)


def test_without_a_past_a_machine_is_taken_to_last_an_hour() -> None:
    assert interruption_mtbf([]) == 3600


def test_interruptions_and_quiet_hours_on_spot_move_the_estimate() -> None:
    quick = replace(SPOT, ending=Ending.INTERRUPTED, seconds=600.0, ended_at=NOW)
    assert interruption_mtbf([quick, quick]) == (3600 + 1200) / 3
    assert interruption_mtbf([replace(SPOT, ending=Ending.SUCCEEDED, seconds=7200.0)]) == 3600 + 7200


def test_what_happened_on_demand_says_nothing_about_spot() -> None:
    on_demand = replace(SPOT, placement=Placement(CapacityType.ON_DEMAND, (), "gpu", ""), seconds=9000.0)
    assert interruption_mtbf([on_demand, replace(on_demand, ending=Ending.INTERRUPTED)]) == 3600


def test_an_interruption_whose_seconds_nobody_saw_counts_from_its_placement() -> None:
    unseen = replace(SPOT, ending=Ending.INTERRUPTED, ended_at=NOW + timedelta(minutes=10))
    assert interruption_mtbf([unseen]) == (3600 + 600) / 2
    assert interruption_mtbf([replace(unseen, ended_at=None)]) == 3600 / 2


def test_a_prior_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidInput):
        interruption_mtbf([], prior_seconds=0)
    with pytest.raises(InvalidInput):
        interruption_mtbf([], prior_interruptions=0)


def test_the_work_left_goes_on_at_the_pace_so_far() -> None:
    assert remaining_seconds(Progress(done=25, total=100, seconds=50, at=NOW)) == 150
    assert remaining_seconds(Progress(done=100, total=100, seconds=50, at=NOW)) == 0
    assert remaining_seconds(Progress(done=101, total=100, seconds=50, at=NOW)) == 0


def test_the_work_left_is_not_known_before_some_was_saved() -> None:
    assert remaining_seconds(None) is None
    assert remaining_seconds(Progress(done=0, total=100, seconds=50, at=NOW)) is None
