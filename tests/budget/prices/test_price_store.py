"""Prices in the ledger, on SQLite and on PostgreSQL: kept once, found by time, pruned without a gap."""

from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from avatar_pipeline.budget.prices import PriceList
from avatar_pipeline.ledger.database import open_engine
from avatar_pipeline.ledger.prices import PriceStore
from avatar_pipeline.ledger.spend_schema import PriceRow
from avatar_pipeline.spot.types import CapacityType
from tests.budget.prices.seen import DAY, NOW, OFFERINGS, PRICES, TIMES, seen, spot


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self):
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(engine: Engine, clock: Clock) -> PriceStore:
    return PriceStore(engine, clock=clock)


def test_the_same_prices_are_kept_once(store: PriceStore):
    prices = [seen("0.47"), seen("0.61", "us-east-1b"), seen("1.006", "us-east-1", capacity=CapacityType.ON_DEMAND)]
    assert store.add(prices) == 3
    assert store.add(prices) == 0
    assert store.add([*prices, seen("0.48", as_of=NOW + DAY)]) == 1
    assert store.add([seen("0.99")]) == 0, "what was seen at a time stays"
    assert store.add([]) == 0
    assert store.load().quote(spot()).per_hour == Decimal("0.47")
    assert sorted(store.load().looked_up, key=str) == sorted([*prices, seen("0.48", as_of=NOW + DAY)], key=str)


def test_of_two_prices_of_one_time_the_dearer_is_kept(store: PriceStore):
    assert store.add([seen("0.47"), seen("0.61"), seen("0.5")]) == 1
    assert store.load().quote(spot()).per_hour == Decimal("0.61")


def test_a_list_has_what_held_since_a_time(store: PriceStore):
    store.add(seen(f"0.{day + 10}", as_of=NOW - day * DAY) for day in range(5))
    assert len(store.load().looked_up) == 1
    since = store.load(NOW - 2.5 * DAY)
    assert [price.per_hour for price in sorted(since.looked_up, key=lambda price: price.as_of)] == [
        Decimal(number) for number in ("0.13", "0.12", "0.11", "0.10")
    ]
    assert since.quote(spot(), NOW - 2.5 * DAY).per_hour == Decimal("0.13")


def test_lists_carry_the_stores_region_cap_and_age(engine: Engine, clock: Clock):
    store = PriceStore(engine, region="us-west-2", cap=Decimal(9), stale_after=DAY, clock=clock)
    store.add([seen("0.5", "us-west-2a", as_of=NOW - 2 * DAY)])
    prices = store.load()
    assert prices.at == NOW
    assert prices.quote(spot("")).stale
    assert prices.per_hour(spot(instance_type="p9.xlarge")) == 9


def test_current_prices_are_read_again_after_a_minute_or_a_change(store: PriceStore, engine: Engine, clock: Clock):
    store.add([seen("0.47", as_of=NOW - DAY)])
    first = store.prices()
    clock.now += timedelta(seconds=59)
    assert store.prices() is first
    PriceStore(engine).add([seen("0.50")])
    assert store.prices() is first
    clock.now += timedelta(seconds=1)
    assert store.prices().per_hour(spot()) == Decimal("0.50")
    store.add([seen("0.51", as_of=clock.now)])
    assert store.prices().per_hour(spot()) == Decimal("0.51")
    clock.now -= DAY
    assert store.prices().per_hour(spot()) == Decimal("0.47"), "a clock that was set back"


def test_a_price_is_exact_to_a_millionth(store: PriceStore):
    store.add([seen("2.242081")])
    assert store.load().looked_up[0].per_hour == Decimal("2.242081")


def test_what_no_longer_held_is_pruned_and_the_last_of_each_machine_stays(store: PriceStore, engine: Engine):
    store.add(seen("0.4", as_of=NOW - day * DAY) for day in (40, 30, 20, 10))
    store.add([seen("0.6", "us-east-1b", as_of=NOW - 90 * DAY)])
    assert store.prune(NOW - 25 * DAY) == 1
    assert store.prune(NOW - 25 * DAY) == 0
    left = store.load(NOW - 100 * DAY)
    assert left.quote(spot(), NOW - 25 * DAY).as_of == NOW - 30 * DAY
    assert left.quote(spot("us-east-1b")).per_hour == Decimal("0.6")
    assert store.prune(NOW + 1000 * DAY) == 2


@settings(max_examples=40)
@given(prices=st.lists(PRICES, max_size=10), since=TIMES, ask=TIMES, offering=OFFERINGS)
def test_a_quote_from_the_ledger_is_the_quote_from_all_that_was_ever_seen(prices, since, ask, offering):
    """Loaded since a time, after pruning up to it: of that time and later every answer is the same."""
    once = {(p.region, p.instance_type, p.capacity_type, p.zone, p.as_of): p for p in sorted(prices, key=_by_price)}
    engine = open_engine("sqlite://")
    PriceRow.__table__.create(engine)
    store = PriceStore(engine, clock=lambda: NOW)
    assert store.add(prices) == len(once)
    at = max(since, ask)
    whole = PriceList(NOW, list(once.values()))
    assert store.load(since).quote(offering, at) == whole.quote(offering, at)
    store.prune(since)
    assert store.load(since).quote(offering, at) == whole.quote(offering, at)
    engine.dispose()


def _by_price(price):
    return price.per_hour
