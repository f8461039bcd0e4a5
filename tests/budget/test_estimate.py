"""What is put aside is above what nearly all such work took, and never nothing."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar_pipeline.budget.config import NO_BUDGETS, Plan
from avatar_pipeline.budget.estimate import ENOUGH_SAMPLES, estimate, upper_seconds
from avatar_pipeline.budget.types import MICRO, Amounts, Sample

PRICE = Decimal("1.006")  # g5.xlarge on demand
PLAN = Plan(
    caps={"clip": Amounts(Decimal("0.75"), characters=Decimal(300))},
    cold_start_seconds=180,
    expected_retries=Decimal("0.5"),
)


def sample(seconds: int, units: int = 1) -> Sample:
    return Sample(Decimal(units), Decimal(seconds), 1)


def test_it_is_the_formula_of_the_module() -> None:
    samples = [sample(seconds, 10) for seconds in range(10, 210, 10)]  # 1 to 20 seconds a unit: p95 is the 19th
    found = estimate(samples, Decimal(100), price_per_hour=Decimal(36), plan=PLAN, purpose="clip", provider=Amounts())
    assert found == Amounts(compute=(19 * 100 * Decimal("1.5") + 180) / 100)


@pytest.mark.parametrize(("count", "rank"), [(5, 5), (19, 19), (20, 19), (21, 20), (40, 38), (100, 95), (200, 190)])
def test_the_95th_percentile_is_by_nearest_rank(count: int, rank: int) -> None:
    assert upper_seconds([sample(seconds) for seconds in range(count, 0, -1)]) == rank


def test_of_fewer_than_five_samples_nothing_is_learnt() -> None:
    few = [sample(1)] * (ENOUGH_SAMPLES - 1)
    assert upper_seconds([*few, sample(1, units=0)]) is None
    assert estimate(few, Decimal(1), price_per_hour=PRICE, plan=PLAN, purpose="clip") == Amounts(
        compute=Decimal("0.75"), characters=Decimal(300)
    )
    unknown = estimate([], Decimal(1), price_per_hour=PRICE, plan=PLAN, purpose="mesh")
    assert unknown.compute == NO_BUDGETS.caps["default"].compute


def test_what_the_provider_will_bill_is_added_as_it_is_known() -> None:
    billed = Amounts(provider=Decimal("0.0123456789"), characters=Decimal(42))
    found = estimate([], Decimal(1), price_per_hour=PRICE, plan=PLAN, purpose="clip", provider=billed)
    assert found == Amounts(Decimal("0.75"), Decimal("0.012346"), Decimal(42))


def test_without_a_price_or_any_time_the_cap_is_put_aside() -> None:
    samples = [sample(0)] * 5
    no_start = Plan(caps={"clip": Amounts(Decimal("0.75"))}, cold_start_seconds=0)
    for plan, price in ((PLAN, Decimal(0)), (no_start, PRICE)):
        assert estimate(samples, Decimal(1), price_per_hour=price, plan=plan, purpose="clip").compute == Decimal("0.75")


seconds = st.integers(0, 10**6)
samples = st.lists(st.builds(sample, seconds, st.integers(1, 10**4)), max_size=60)
units = st.decimals(0, 10**4, places=3)
prices = st.decimals(0, 100, places=6)


@given(samples, units, prices)
def test_nothing_is_estimated_at_nothing_and_all_is_whole_millionths(
    learnt: list[Sample], amount: Decimal, price: Decimal
) -> None:
    found = estimate(learnt, amount, price_per_hour=price, plan=PLAN, purpose="clip")
    assert found.compute > 0
    for part in (found.compute, found.provider, found.characters):
        assert part == part.quantize(MICRO)


@given(st.lists(st.builds(sample, seconds, st.integers(1, 10**4)), min_size=5, max_size=60), units, prices.filter(bool))
def test_more_work_and_dearer_machines_are_never_estimated_lower(
    learnt: list[Sample], amount: Decimal, price: Decimal
) -> None:
    def of(more: Decimal, dearer: Decimal) -> Decimal:
        return estimate(learnt, more, price_per_hour=dearer, plan=PLAN, purpose="clip").compute

    assert of(amount, price) <= of(amount + 1, price)
    assert of(amount, price) <= of(amount, price * 2)


@given(st.lists(st.builds(sample, seconds), min_size=5, max_size=60))
def test_at_most_one_in_twenty_samples_took_longer(learnt: list[Sample]) -> None:
    upper = upper_seconds(learnt)
    assert upper is not None
    assert sum(each.seconds > upper for each in learnt) <= len(learnt) / 20
