"""How budgets stood on the day that a report is of: whichever way its period lies beside the UTC day."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar_pipeline.budget.config import Limit, Plan
from avatar_pipeline.budget.outlook import MOST, moments, outlooks
from avatar_pipeline.budget.periods import Period, window
from avatar_pipeline.budget.types import ALL, Payer, Scope, ScopeKind, Standing, Unit
from avatar_pipeline.ledger.budget_alerts import Alert
from avatar_pipeline.ledger.budget_days import alerts_between, standings_at
from avatar_pipeline.ledger.spend_schema import BudgetAlertRow
from tests.budget.costs.days import ON_DEMAND, Studio

START = datetime(2026, 11, 10, tzinfo=UTC)
NEXT = START + timedelta(days=1)
HOUR = timedelta(hours=1)
JUST = timedelta(microseconds=1)
LATER = NEXT + timedelta(days=2)
ZONES = ["UTC", "Europe/Berlin", "America/Los_Angeles", "Asia/Kathmandu", "Pacific/Kiritimati", "Pacific/Marquesas"]


def limit(name: str, hard: str, period: Period = Period.DAY, scope: Scope = ALL) -> Limit:
    return Limit(f"{name}/{period}", scope, Unit.USD, period, Decimal(hard))


def standing(limit: Limit, settled: str, at: datetime = START) -> Standing:
    span = window(limit.period, "UTC", at)
    return Standing(
        limit.id, limit.scope, limit.unit, limit.period, span.start, span.end, limit.hard, Decimal(settled), Decimal(0)
    )


def test_in_utc_all_limits_are_looked_at_as_the_day_ends() -> None:
    assert moments("UTC", START, LATER) == dict.fromkeys(Period, NEXT - JUST)
    assert moments("UTC", START, START + HOUR) == dict.fromkeys(Period, START + HOUR)


def test_a_limit_of_a_day_is_looked_at_as_that_day_ends_in_its_zone() -> None:
    assert moments("Europe/Berlin", START, LATER)[Period.DAY] == NEXT - HOUR - JUST
    assert moments("America/Los_Angeles", START, LATER)[Period.DAY] == NEXT + 8 * HOUR - JUST
    assert moments("America/Los_Angeles", START, NEXT + HOUR)[Period.DAY] == NEXT + HOUR


def test_a_month_that_turns_within_the_day_is_looked_at_as_it_ends() -> None:
    last = datetime(2026, 11, 30, tzinfo=UTC)
    assert moments("Europe/Berlin", last, last + timedelta(days=3))[Period.MONTH] == last + 23 * HOUR - JUST
    assert moments("America/Los_Angeles", last, last + timedelta(days=3))[Period.MONTH] == last + 24 * HOUR - JUST


@given(st.integers(0, 1000), st.sampled_from(ZONES), st.sampled_from(Period), st.floats(0, 60))
def test_every_moment_lies_in_the_period_that_holds_the_days_noon(
    day: int, zone: str, period: Period, hours: float
) -> None:
    start = START + timedelta(days=day)
    at = moments(zone, start, start + timedelta(hours=12 + hours))[period]
    if period is not Period.ROLLING:
        assert window(period, zone, at) == window(period, zone, start + 12 * HOUR)
    assert start <= at


def test_standings_are_of_the_day_and_not_of_what_was_spent_since(studio: Studio) -> None:
    tenant = Scope(ScopeKind.TENANT, "acme")
    plan = Plan(
        "Europe/Berlin",
        (limit("all", "10"), limit("all", "100", Period.MONTH), limit("acme", "5", scope=tenant)),
    )
    for at in (START - 2 * HOUR, START - HOUR / 2, START + 12 * HOUR, NEXT - HOUR / 2, NEXT + 3 * HOUR):
        studio.work("landmarks", at, 30, payer=Payer("acme", "ada"))
    piece = (ON_DEMAND / 2).quantize(Decimal("0.000001"))
    stood = standings_at(studio.engine, plan, moments("Europe/Berlin", START, LATER))
    found = {limit.id: (standing.settled, standing.hard) for limit, standing in stood}
    assert found == {
        "all/day": (2 * piece, 10),
        "acme/day": (2 * piece, 5),
        "all/month": (4 * piece, 100),
    }
    assert all(standing.reserved == 0 for _, standing in stood)


def test_a_day_that_is_not_over_is_told_of_so_far(studio: Studio) -> None:
    plan = Plan("UTC", (limit("all", "10"),))
    for hours in (1, 5):
        studio.work("landmarks", START + hours * HOUR, 60, payer=Payer("acme"))
    (found,) = standings_at(studio.engine, plan, moments("UTC", START, START + 3 * HOUR))
    assert found[1].settled == ON_DEMAND


def test_alerts_are_those_of_the_day_in_order_of_time(studio: Studio) -> None:
    def row(name: str, at: datetime) -> BudgetAlertRow:
        return BudgetAlertRow(
            limit_id=name,
            period_start=START,
            kind="actual",
            threshold=Decimal("0.5"),
            share=Decimal("0.6"),
            message=f"{name} is half spent.",
            at=at,
        )

    studio.add(row("b/day", START), row("a/day", NEXT - JUST), row("c/day", NEXT), row("d/day", START - JUST))
    first, second = alerts_between(studio.engine, START, NEXT)
    assert (first.limit_id, second.limit_id) == ("b/day", "a/day")
    assert first == Alert("b/day", START, "actual", Decimal("0.5"), Decimal("0.6"), "b/day is half spent.", START)


def test_what_is_spent_or_will_be_comes_first() -> None:
    month, day, small = limit("month", "100", Period.MONTH), limit("day", "10"), limit("small", "1")
    hourly = {START - number * HOUR: Decimal("0.5") for number in range(1, 200)}
    known = [(month, standing(month, "60")), (day, standing(day, "7")), (small, standing(small, "0.8"))]
    found = outlooks(known, lambda *_: hourly, dict.fromkeys(Period, NEXT - JUST))
    assert [each.limit for each in found] == [month, small, day]
    assert [each.is_close for each in found] == [True, True, False]
    assert found[0].expected_share > 1
    assert found[2].forecast.expected == pytest.approx(Decimal(7), abs=Decimal("0.001"))


def test_without_history_nothing_is_foretold_and_a_limit_of_nothing_is_used_up() -> None:
    month, none = limit("month", "100", Period.MONTH), limit("none", "0")
    found = outlooks(
        [(month, standing(month, "79")), (none, standing(none, "0"))], lambda *_: {}, dict.fromkeys(Period, START)
    )
    assert {each.limit.id: (each.worst, each.is_close) for each in found} == {
        "none/day": (1, True),
        "month/month": (Decimal("0.79"), False),
    }


def test_of_very_many_limits_only_those_are_looked_at_that_most_is_spent_of() -> None:
    asked = []
    limits = [limit(f"l-{number:04d}", "1000", scope=Scope(ScopeKind.TENANT, f"t-{number}")) for number in range(300)]
    known = [(each, replace(standing(each, "1"), settled=Decimal(number))) for number, each in enumerate(limits)]
    found = outlooks(known, lambda scope, *_: asked.append(scope) or {}, dict.fromkeys(Period, START))
    assert [each.limit.id for each in found] == [f"l-{number:04d}/day" for number in range(299, 299 - MOST, -1)]
    assert len(asked) == MOST
