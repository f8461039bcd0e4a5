"""The forecast follows level and hour of the week, is honest about its width, and never takes back what is spent."""

import math
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar_pipeline.budget.config import Limit, Period
from avatar_pipeline.budget.forecast import ENOUGH_HOURS, HOUR, Crossing, Forecast, crossed, forecast
from avatar_pipeline.budget.periods import Window, window
from avatar_pipeline.budget.types import ALL, Standing, Unit

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
WEEK = timedelta(weeks=1)
LIMIT = Limit("everything/day", ALL, Unit.USD, Period.DAY, Decimal(100))


def until(end: datetime) -> Window:
    return Window(NOW - timedelta(days=1), end)


def past(count: int, *amounts: Decimal) -> dict[datetime, Decimal]:
    """Amounts over and over, in the `count` hours before now."""
    return {NOW - (count - step) * HOUR: amounts[step % len(amounts)] for step in range(count)}


def test_of_nothing_seen_nothing_more_is_expected() -> None:
    spent = Decimal("3.5")
    assert forecast({}, until(NOW + WEEK), NOW, spent=spent) == Forecast(spent, spent, spent, 0)
    present_and_later = {NOW: Decimal(9), NOW + HOUR: Decimal(9)}
    assert forecast(present_and_later, until(NOW + WEEK), NOW, spent=spent).hours_seen == 0


def test_steady_spending_goes_on() -> None:
    found = forecast(past(500, Decimal(2)), until(NOW + 10 * HOUR), NOW, spent=Decimal(7))
    assert abs(found.expected - 27) < Decimal("0.01")
    assert found.high - found.low < 1
    assert found.hours_seen == 500


def test_the_hour_in_hand_counts_for_what_is_left_of_it() -> None:
    steady = past(500, Decimal(2))
    half_past = forecast(steady, until(NOW + HOUR), NOW + timedelta(minutes=30), spent=Decimal(0))
    assert abs(half_past.expected - 1) < Decimal("0.01")


def test_spending_that_comes_at_some_hours_is_expected_at_those() -> None:
    # Eight weeks of 10 an hour from 12 to 18, nothing else; it is noon.
    hourly = {
        NOW - step * HOUR: Decimal(10) if 12 <= (NOW - step * HOUR).hour < 18 else Decimal(0)
        for step in range(1, 8 * 168 + 1)
    }
    day = forecast(hourly, until(NOW + 6 * HOUR), NOW, spent=Decimal(0)).expected
    night = forecast(hourly, until(NOW + 18 * HOUR), NOW + 6 * HOUR, spent=Decimal(0)).expected
    assert 45 < day < 75
    assert night < day / 5


def test_the_level_follows_what_changed_days_ago() -> None:
    hourly = past(700, Decimal(1)) | past(96, Decimal(5))
    found = forecast(hourly, until(NOW + 10 * HOUR), NOW, spent=Decimal(0))
    assert 25 < found.expected < 60


def test_hours_without_spending_are_hours_of_nothing() -> None:
    once = {NOW - 100 * HOUR: Decimal(10)}
    assert forecast(once, until(NOW + 10 * HOUR), NOW, spent=Decimal(0)).expected < 2


def test_what_is_older_than_eight_weeks_says_nothing() -> None:
    assert forecast({NOW - 8 * WEEK - HOUR: Decimal(10**6)}, until(NOW + WEEK), NOW, spent=Decimal(0)).hours_seen == 0


def test_the_last_24_hours_have_no_forecast_but_what_is_spent() -> None:
    spent = Decimal(5)
    for span in (Window(NOW - timedelta(days=1), None), until(NOW)):
        assert forecast(past(100, Decimal(1)), span, NOW, spent=spent) == Forecast(spent, spent, spent, 100)


def test_four_in_five_days_end_within_the_interval() -> None:
    source = random.Random(6)
    hits = 0
    for _ in range(60):
        amounts = [Decimal(source.randrange(0, 2000)) / 100 for _ in range(400)]
        found = forecast(past(400, *amounts), until(NOW + 24 * HOUR), NOW, spent=Decimal(0))
        truth = sum(Decimal(source.randrange(0, 2000)) / 100 for _ in range(24))
        hits += found.low <= truth <= found.high
    assert 40 <= hits <= 58


MONDAY = datetime(2026, 9, 7, tzinfo=UTC)


def busy(hour: int) -> float:
    """How busy an hour since Monday is: from 8 to 20 on working days 1, less at night and at the weekend."""
    return (1 if 8 <= hour % 24 < 20 else 0.15) * (0.3 if hour // 24 % 7 >= 5 else 1)


def clips(source: random.Random, mean: float) -> int:
    """A Poisson number, by Knuth's method."""
    bound, count, product = math.exp(-mean), 0, source.random()
    while product > bound:
        count, product = count + 1, product * source.random()
    return count


def business(source: random.Random, hour: int) -> float:
    return 0.2 * clips(source, 5 * busy(hour))


def sparse(source: random.Random, hour: int) -> float:
    return 0.5 * clips(source, 0.3 * busy(hour))


def heavy_tailed(source: random.Random, hour: int) -> float:
    return 0.2 * clips(source, 5 * busy(hour)) * math.exp(source.gauss(0, 0.8))


def growing(source: random.Random, hour: int) -> float:
    return business(source, hour) * math.exp(hour / 24 * 0.01)


def outcome(
    load: Callable[[random.Random, int], float], period: Period, weeks: int, seed: int
) -> tuple[Forecast, Decimal]:
    """A forecast at some hour of the week after so many weeks of a load, and what the period came to."""
    source = random.Random(seed)
    present = weeks * 168 + source.randrange(168)
    now = MONDAY + present * HOUR
    span = window(period, "UTC", now)
    assert span.end is not None
    first, end = (span.start - MONDAY) // HOUR, (span.end - MONDAY) // HOUR
    amounts = [round(Decimal(load(source, hour)), 6) for hour in range(end)]
    hourly = {MONDAY + hour * HOUR: amount for hour, amount in enumerate(amounts[:present])}
    found = forecast(hourly, span, now, spent=sum(amounts[first:present], Decimal(0)))
    return found, sum(amounts[first:], Decimal(0))


@pytest.mark.parametrize(
    ("load", "period", "weeks", "most_off"),
    [
        (business, Period.DAY, 4, 0.06),
        (business, Period.WEEK, 4, 0.03),
        (business, Period.DAY, 2, 0.08),
        (sparse, Period.DAY, 4, 0.25),
        (heavy_tailed, Period.DAY, 4, 0.12),
        (growing, Period.DAY, 4, 0.06),
    ],
)
def test_the_interval_holds_about_as_often_as_it_says_and_the_middle_is_not_biased(
    load: Callable[[random.Random, int], float], period: Period, weeks: int, most_off: float
) -> None:
    outcomes = [outcome(load, period, weeks, seed) for seed in range(24)]
    held = sum(found.low <= truth <= found.high for found, truth in outcomes)
    assert 16 <= held <= 23
    off = sorted(float(found.expected / truth) - 1 for found, truth in outcomes if truth)
    assert abs(off[len(off) // 2]) <= most_off


money = st.decimals(0, 10**4, places=6)
histories = st.dictionaries(st.integers(1, 400).map(lambda hours: NOW - hours * HOUR), money, max_size=30)
minutes = st.integers(0, 60 * 24 * 10)
few = settings(max_examples=40)


@few
@given(histories, minutes, money)
def test_it_lies_in_its_interval_and_never_below_what_is_spent(
    hourly: dict[datetime, Decimal], ahead: int, spent: Decimal
) -> None:
    found = forecast(hourly, until(NOW + timedelta(minutes=ahead)), NOW, spent=spent)
    assert spent <= found.low <= found.expected <= found.high


@few
@given(histories, minutes, minutes, money, money)
def test_more_time_or_more_spent_is_never_forecast_lower(
    hourly: dict[datetime, Decimal], ahead: int, further: int, spent: Decimal, more: Decimal
) -> None:
    end = NOW + timedelta(minutes=ahead)
    found = forecast(hourly, until(end), NOW, spent=spent)
    longer = forecast(hourly, until(end + timedelta(minutes=further)), NOW, spent=spent)
    dearer = forecast(hourly, until(end), NOW, spent=spent + more)
    assert longer.expected >= found.expected
    assert longer.high >= found.high
    assert dearer.expected >= found.expected
    assert dearer.low >= found.low
    assert dearer.high >= found.high


@few
@given(histories.filter(lambda hourly: sum(hourly.values()) > 1), minutes)
def test_twice_the_spending_is_twice_the_forecast(hourly: dict[datetime, Decimal], ahead: int) -> None:
    span = until(NOW + timedelta(minutes=ahead))
    one = forecast(hourly, span, NOW, spent=Decimal(0))
    two = forecast({hour: 2 * amount for hour, amount in hourly.items()}, span, NOW, spent=Decimal(0))
    assert abs(two.expected - 2 * one.expected) < Decimal("0.00001")
    assert abs(two.high - 2 * one.high) < Decimal("0.00001")


def standing(settled: str, hard: str = "100") -> Standing:
    return Standing(LIMIT.id, ALL, Unit.USD, Period.DAY, NOW, NOW + HOUR, Decimal(hard), Decimal(settled), Decimal(0))


def expecting(amount: str, hours: int = ENOUGH_HOURS) -> Forecast:
    return Forecast(Decimal(amount), Decimal(0), Decimal(amount), hours)


@pytest.mark.parametrize(
    ("settled", "thresholds"),
    [("0", []), ("49.999999", []), ("50", ["0.5"]), ("85", ["0.5", "0.8"]), ("130", ["0.5", "0.8", "1"])],
)
def test_thresholds_are_crossed_from_the_moment_that_they_are_reached(settled: str, thresholds: list[str]) -> None:
    share = Decimal(settled) / 100
    assert crossed(LIMIT, standing(settled)) == [Crossing("actual", Decimal(each), share) for each in thresholds]


def test_a_limit_of_nothing_is_crossed_by_anything_but_not_by_nothing() -> None:
    assert crossed(LIMIT, standing("0", hard="0"), expecting("50")) == []
    assert len(crossed(LIMIT, standing("0.01", hard="0"), expecting("50"))) == 3


def test_a_forecast_that_reaches_the_limit_is_told_before_it_is_spent() -> None:
    assert crossed(LIMIT, standing("0"), expecting("120")) == [Crossing("forecast", Decimal(1), Decimal("1.2"))]
    assert crossed(LIMIT, standing("60"), expecting("99")) == [Crossing("actual", Decimal("0.5"), Decimal("0.6"))]


def test_a_forecast_of_half_a_day_is_not_told() -> None:
    assert crossed(LIMIT, standing("0"), expecting("120", hours=12)) == []


def test_a_forecast_is_not_told_after_the_fact_nor_where_nobody_wants_it() -> None:
    assert {each.kind for each in crossed(LIMIT, standing("100"), expecting("120"))} == {"actual"}
    silent = Limit(LIMIT.id, ALL, Unit.USD, Period.DAY, Decimal(100), forecast=None)
    assert crossed(silent, standing("0"), expecting("120")) == []


@given(money, money, st.none() | st.builds(expecting, money.map(str), st.integers(0, 48)))
def test_more_spending_never_takes_a_threshold_back(settled: Decimal, more: Decimal, expected: Forecast | None) -> None:
    def actual(amount: Decimal) -> set[Decimal]:
        return {each.threshold for each in crossed(LIMIT, standing(str(amount)), expected) if each.kind == "actual"}

    assert actual(settled) <= actual(settled + more)
