"""What an hour costs: the zone's own price, else a dearer one that stands in for it, and never nothing."""

from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar_pipeline.budget.prices import CAP_SOURCE, Price, PriceList, listing, region_of, table
from avatar_pipeline.spot.types import CapacityType, Offering
from tests.budget.prices.seen import DAY, NOW, OD, OFFERINGS, PRICES, SPOT, TIMES, seen, spot

CAP = Decimal(40)


def test_the_zones_own_price_goes_before_all_others():
    prices = PriceList(NOW, [seen("0.47"), seen("0.61", "us-east-1b")])
    assert prices.quote(spot("us-east-1a")).per_hour == Decimal("0.47")
    assert prices.quote(spot("us-east-1b")).per_hour == Decimal("0.61")
    assert prices.per_hour(spot("us-east-1a")) == Decimal("0.47")


@pytest.mark.parametrize("zone", ["us-east-1f", "us-east-1", "", "rack-7"])
def test_where_the_zone_is_not_known_the_dearest_of_its_region_counts(zone: str):
    prices = PriceList(NOW, [seen("0.47"), seen("0.61", "us-east-1b"), seen("9", "us-west-2a")])
    assert prices.quote(spot(zone)).per_hour == Decimal("0.61")


def test_a_region_is_meant_by_the_settings_where_the_zone_does_not_tell():
    prices = PriceList(NOW, [seen("0.61"), seen("0.5", "us-west-2a")], region="us-west-2")
    assert prices.quote(spot("")).per_hour == Decimal("0.5")


def test_a_quote_is_of_the_time_that_is_asked_about():
    prices = PriceList(NOW, [seen("0.40", as_of=NOW - DAY), seen("0.50", as_of=NOW)])
    assert prices.quote(spot(), NOW + DAY).per_hour == Decimal("0.50")
    assert prices.quote(spot(), NOW - timedelta(seconds=1)) == prices.quote(spot(), NOW - DAY)
    assert prices.quote(spot(), NOW - DAY).per_hour == Decimal("0.40")
    before = prices.quote(spot(), NOW - 2 * DAY)
    assert before.source != "AWS", "nobody had looked yet: the table's"
    assert before.per_hour == Decimal("0.4886")


def test_an_old_price_is_stale_and_still_used():
    prices = PriceList(NOW, [seen("0.40", as_of=NOW - 30 * DAY)], stale_after=30 * DAY)
    assert not prices.quote(spot()).stale
    later = prices.quote(spot(), NOW + timedelta(seconds=1))
    assert later.stale
    assert later.per_hour == Decimal("0.40")
    assert later.as_of == NOW - 30 * DAY


def test_the_tables_prices_grow_old_too():
    quote = PriceList(NOW).on_demand("g5.xlarge")
    assert (quote.per_hour, quote.as_of.date().isoformat()) == (Decimal("1.006"), "2026-07-20")
    assert quote.stale


def test_spot_that_nobody_saw_costs_what_on_demand_costs():
    quote = PriceList(NOW).quote(spot(instance_type="g5.2xlarge"))
    assert quote.per_hour == Decimal("1.212")
    assert quote.known
    assert not quote.exact
    assert quote.source.startswith("on-demand instead of spot")
    dearer = PriceList(NOW, [seen("1.3", "us-east-1", capacity=OD, instance_type="g5.2xlarge")])
    assert dearer.quote(spot(instance_type="g5.2xlarge")).per_hour == Decimal("1.3")


@pytest.mark.parametrize("capacity", CapacityType)
@pytest.mark.parametrize(
    ("instance_type", "zone"),
    [("p9.xlarge", "us-east-1a"), ("g5.xlarge", "eu-central-1b"), ("g5.xlarge", "us-east-1-bos-1a"), ("", "")],
)
def test_what_nobody_knows_costs_the_cap(capacity: CapacityType, instance_type: str, zone: str):
    quote = PriceList(NOW, cap=Decimal(7)).quote(Offering(instance_type, zone, capacity))
    assert (quote.per_hour, quote.source, quote.known, quote.stale) == (Decimal(7), CAP_SOURCE, False, False)


def test_another_region_is_known_as_soon_as_it_was_looked_up():
    prices = PriceList(NOW, [seen("1.258", "eu-central-1", capacity=OD)])
    assert prices.on_demand("g5.xlarge", zone="eu-central-1b").per_hour == Decimal("1.258")
    assert prices.quote(spot("eu-central-1b")).per_hour == Decimal("1.258")
    assert prices.on_demand("g5.xlarge").per_hour == Decimal("1.006")


def test_the_highest_is_the_most_that_a_placement_can_cost():
    prices = PriceList(NOW, [seen("0.47"), seen("0.61", "us-east-1b")])
    offers = [spot("us-east-1a"), spot("us-east-1b"), spot(instance_type="g4dn.xlarge")]
    assert prices.highest(offers).per_hour == Decimal("0.61")
    assert prices.highest([*offers, spot(instance_type="p9.xlarge")]).per_hour == CAP
    assert prices.highest([]).per_hour == CAP


@pytest.mark.parametrize("cap", ["0", "-1", "NaN", "Infinity"])
def test_a_cap_that_would_make_the_unknown_free_is_refused(cap: str):
    with pytest.raises(ValueError, match="cap"):
        PriceList(NOW, cap=Decimal(cap))


@pytest.mark.parametrize("per_hour", ["0", "-0.1", "NaN", "Infinity", "0.0000001"])
def test_what_is_no_price_cannot_be_one(per_hour: str):
    with pytest.raises(ValueError, match="no price"):
        seen(per_hour)


def test_a_price_says_when_and_who():
    with pytest.raises(ValueError, match="time zone"):
        seen("1", as_of=NOW.replace(tzinfo=None))
    with pytest.raises(ValueError, match="source"):
        Price("us-east-1", "g5.xlarge", SPOT, "", Decimal(1), NOW, "")


@pytest.mark.parametrize(
    ("zone", "region"),
    [
        ("us-east-1a", "us-east-1"),
        ("us-east-1", "us-east-1"),
        ("ap-southeast-2c", "ap-southeast-2"),
        ("us-gov-west-1a", "us-gov-west-1"),
        ("us-east-1-bos-1a", "us-east-1-bos-1a"),
        ("", "here"),
        ("rack-7", "here"),
        ("use1-az4", "here"),
    ],
)
def test_the_region_of_a_zone(zone: str, region: str):
    assert region_of(zone, "here") == region


def test_the_list_names_each_zone_that_has_a_price_of_its_own():
    prices = PriceList(NOW, [seen("0.47"), seen("0.61", "us-east-1b")])
    lines = listing(prices, ["g5.xlarge", "g6.xlarge"], ["us-east-1", "eu-west-1"])
    assert [
        (one.region, one.offering.instance_type, one.offering.zone, one.offering.capacity_type) for one in lines
    ] == [
        ("us-east-1", "g5.xlarge", "us-east-1", OD),
        ("us-east-1", "g5.xlarge", "us-east-1a", SPOT),
        ("us-east-1", "g5.xlarge", "us-east-1b", SPOT),
        ("us-east-1", "g6.xlarge", "us-east-1", OD),
        ("us-east-1", "g6.xlarge", "us-east-1", SPOT),
        ("eu-west-1", "g5.xlarge", "eu-west-1", OD),
        ("eu-west-1", "g5.xlarge", "eu-west-1", SPOT),
        ("eu-west-1", "g6.xlarge", "eu-west-1", OD),
        ("eu-west-1", "g6.xlarge", "eu-west-1", SPOT),
    ]
    assert [one.quote.known for one in lines] == [True] * 5 + [False] * 4


@given(prices=st.lists(PRICES, max_size=12), offering=OFFERINGS, at=TIMES, order=st.randoms(use_true_random=False))
def test_whatever_was_looked_up_a_quote_is_of_that_machine_and_time_and_never_free(prices, offering, at, order):
    quote = PriceList(NOW, prices, cap=CAP).quote(offering, at)
    assert quote.per_hour > 0
    assert len(quote.source) <= 100
    shuffled = list(prices)
    order.shuffle(shuffled)
    assert PriceList(NOW, shuffled, cap=CAP).quote(offering, at) == quote, "the order of prices makes no difference"
    region = region_of(offering.zone, "us-east-1")
    own = [p for p in prices if (p.region, p.instance_type) == (region, offering.instance_type) and p.as_of <= at]
    own += [p for p in table() if (p.region, p.instance_type) == (region, offering.instance_type)]
    if quote.known:
        assert any((p.per_hour, p.as_of) == (quote.per_hour, quote.as_of) for p in own)
        assert quote.stale == (at - quote.as_of > 30 * DAY)
    else:
        assert quote.per_hour == CAP
        assert not any(p.capacity_type in (offering.capacity_type, OD) for p in own)
