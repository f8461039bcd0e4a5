"""Time by payer and quarter of an hour, and its price: the parts sum to the whole, however it was cut up."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from avatar_pipeline.budget.types import cost
from avatar_pipeline.ledger.spend_split import NOBODY, amounts, microseconds, priced, split

START = datetime(2026, 3, 1, 12, 7, 3, 141592, tzinfo=UTC)
MOMENTS = st.integers(0, 3 * 3600 * 1_000_000).map(lambda micros: START + timedelta(microseconds=micros))
WEIGHTS = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 10**12), max_size=6)
PRICES = st.integers(0, 50_000_000)


@given(st.lists(MOMENTS, min_size=2, max_size=30).map(sorted), WEIGHTS)
def test_the_parts_of_a_span_are_those_of_its_steps_together(moments: list[datetime], weights: dict[str, int]) -> None:
    whole = split(moments[0], moments[-1], weights)
    steps: dict[tuple[datetime, str], int] = {}
    for start, end in pairwise(moments):
        for part, time in split(start, end, weights).items():
            assert time > 0
            steps[part] = steps.get(part, 0) + time
    assert steps == whole
    assert sum(whole.values()) == microseconds(moments[-1] - moments[0])


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 400), min_size=1), st.integers(1, 50))
def test_each_payer_has_its_share_to_the_microsecond_after_whole_turns(weights: dict[str, int], turns: int) -> None:
    start = datetime(2026, 3, 1, 12, 1, tzinfo=UTC)
    total = sum(weights.values())
    parts = split(start, start + timedelta(microseconds=turns * total), weights)
    assert {key: time for (_, key), time in parts.items()} == {key: turns * weight for key, weight in weights.items()}


@given(WEIGHTS.filter(bool))
def test_however_large_the_weights_are_a_minute_is_split_by_them(weights: dict[str, int]) -> None:
    start = datetime(2026, 3, 1, 12, 1, tzinfo=UTC)
    parts = split(start, start + timedelta(minutes=1), weights)
    for key, weight in weights.items():
        fair = 60_000_000 * weight / sum(weights.values())
        assert abs(sum(time for (_, name), time in parts.items() if name == key) - fair) <= 200_000


def test_quarters_are_cut_at_quarters() -> None:
    start = datetime(2026, 3, 1, 12, 14, tzinfo=UTC)
    assert split(start, start + timedelta(minutes=2), {"a": 1}) == {
        (datetime(2026, 3, 1, 12, 0, tzinfo=UTC), "a"): 60_000_000,
        (datetime(2026, 3, 1, 12, 15, tzinfo=UTC), "a"): 60_000_000,
    }


def test_time_without_payers_is_nobodys_and_no_time_is_nothing() -> None:
    start = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    assert split(start, start + timedelta(seconds=1), {}) == {(start, NOBODY): 1_000_000}
    assert split(start, start, {"a": 1}) == {}
    assert split(start, start - timedelta(hours=1), {"a": 1}) == {}


@given(st.lists(st.integers(0, 900_000_000), max_size=40), PRICES, st.integers(0, 10**12))
def test_amounts_sum_to_the_price_of_all_time(parts: list[int], price: int, before: int) -> None:
    found = amounts(parts, price, before=before)
    assert sum(found) == priced(before + sum(parts), price) - priced(before, price)
    for part, amount in zip(parts, found, strict=True):
        assert abs(amount - part * price / 3_600_000_000) <= 1


@given(st.integers(0, 10**13), PRICES)
def test_the_price_in_whole_numbers_is_the_one_in_decimals(time: int, price: int) -> None:
    million = Decimal(1_000_000)
    assert Decimal(priced(time, price)) / million == cost(Decimal(time) / million, Decimal(price) / million)
