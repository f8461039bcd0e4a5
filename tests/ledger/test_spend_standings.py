"""How limits stand: periods, carry-over, the last 24 hours, all that spend; on SQLite and on PostgreSQL."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from avatar_pipeline.budget.periods import Period
from avatar_pipeline.budget.types import Payer, Scope, ScopeKind
from tests.ledger.till import ACME, HOUR, TENANTS, Till, limit, usd

AVATARS = Scope(ScopeKind.AVATAR)
OTHER = Payer(tenant="other", avatar_id="eve")


@pytest.fixture
def till(url: str) -> Iterator[Till]:
    till = Till(
        url,
        limit("all", 10, carry_over="0.5"),
        limit("month", 100, period=Period.MONTH),
        limit("burst", 5, period=Period.ROLLING),
        limit("tenants", 8, scope=TENANTS),
        limit("other", 3, scope=Scope(ScopeKind.TENANT, "other")),
        limit("avatars", 8, scope=AVATARS, period=Period.WEEK),
        timezone="America/New_York",
    )
    yield till
    till.engine.dispose()


def spend(till: Till, key: str, dollars: int, payer: Payer = ACME) -> None:
    """At 3600 dollars an hour, a second costs one."""
    assert till.ask(key, dollars, payer).admitted
    till.begin(f"run-{key}/render/1", price="3600", shares={key: 1})
    till.meter(dollars, f"run-{key}/render/1")
    till.settle(f"run-{key}/render/1")
    till.book.release(key)


def test_a_day_begins_at_midnight_where_the_budget_is(till: Till) -> None:
    till.now = datetime(2026, 3, 2, 4, 30, tzinfo=UTC)
    spend(till, "a", 4)
    assert till.standing("all/day").settled == 4
    till.now += HOUR
    standing = till.standing("all/day")
    assert (standing.settled, standing.starts_at) == (0, datetime(2026, 3, 2, 5, tzinfo=UTC))
    assert till.standing("month/month").settled == 4


def test_what_a_day_left_is_carried_up_to_the_share_that_may_be(till: Till) -> None:
    till.now = datetime(2026, 3, 2, 15, tzinfo=UTC)
    spend(till, "a", 4)
    till.now += timedelta(days=1, hours=1)
    assert till.standing("all/day").hard == 15, "6 were left, and 5 may be carried"
    spend(till, "b", 4)
    till.budgets.set("all/day", Decimal(6), who="me", reason="less")
    assert till.standing("all/day").hard == 11, "what was in force yesterday was left over"
    till.now += timedelta(days=1)
    assert till.standing("all/day").hard == 8, "2 were left of 6, and nothing of what had been carried"


def test_what_is_spent_leaves_the_last_24_hours_a_day_and_a_quarter_later_at_most(till: Till) -> None:
    till.now = datetime(2026, 3, 2, 15, 7, tzinfo=UTC)
    assert till.standing("burst/rolling_24h").ends_at is None
    spend(till, "a", 5)
    held = till.ask("b", 1)
    assert held.binding.limit_id == "burst/rolling_24h"
    assert held.retry_at == datetime(2026, 3, 3, 15, 15, tzinfo=UTC)
    till.now = held.retry_at - timedelta(microseconds=1)
    assert not till.ask("b", 1).admitted
    till.now = held.retry_at
    assert till.ask("b", 1).admitted


def test_every_scope_that_spends_or_reserves_has_its_standing(till: Till) -> None:
    till.now = datetime(2026, 3, 2, 15, tzinfo=UTC)
    spend(till, "a", 2)
    assert till.ask("b", 1, OTHER).admitted
    standings = {limit.id: standing for limit, standing in till.book.all_standings()}
    assert {key: (standing.settled, standing.reserved) for key, standing in standings.items()} == {
        "all/day": (2, 1),
        "burst/rolling_24h": (2, 1),
        "month/month": (2, 1),
        "tenants/day@tenant:acme": (2, 0),
        "other/day": (0, 1),
        "avatars/week@avatar:ada": (2, 0),
        "avatars/week@avatar:eve": (0, 1),
    }
    for payer in (ACME, OTHER):
        for limit_, standing in till.book.standings(payer):
            assert standings[limit_.id] == standing
    till.now += timedelta(days=40)
    till.book.release("b")
    assert [limit.id for limit, _ in till.book.all_standings()] == [
        "all/day",
        "burst/rolling_24h",
        "month/month",
        "other/day",
    ]


def test_work_admitted_before_midnight_takes_room_after_it(till: Till) -> None:
    till.now = datetime(2026, 3, 2, 4, 50, tzinfo=UTC)
    assert till.ask("a", 5).admitted
    till.now += HOUR
    assert till.standing("tenants/day@tenant:acme").left == 3
    assert not till.ask("b", usd(4)).admitted


def test_money_that_comes_back_from_yesterday_is_not_put_aside_again_today(url: str) -> None:
    till = Till(url, limit("all", 10), timezone="America/New_York")
    till.now = datetime(2026, 3, 2, 4, tzinfo=UTC)
    assert till.ask("a", 8).admitted
    till.begin(price="4")
    till.meter(3600)
    # A new day: 4 of the reservation are left, and 6 go to somebody else.
    assert till.ask("b", 6).admitted
    till.settle(price_per_hour=Decimal(2))
    assert (till.left("a"), till.book.get("a").used, till.standing("all/day").left) == (usd(4), usd(2), 0)
    till.begin("run/render/2", price="4")
    till.meter(1800, "run/render/2")
    till.settle("run/render/2", price_per_hour=Decimal(2))
    assert (till.left("a"), till.book.get("a").used, till.standing("all/day").left) == (usd(3), usd(3), 0)
    till.engine.dispose()
