"""A refresh: what is asked for, what of it is believed and kept, and that a bad day at AWS takes nothing away."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from avatar_pipeline.errors import EnvironmentProblem, InvalidInput
from avatar_pipeline.spot.catalog import CATALOG
from avatar_pipeline.spot.types import Offering
from avatar_pipeline.stages.line import Line
from avatar_pipeline.stages.price_refresh import refresh_prices, regions
from tests.budget.prices.aws import Aws, Change
from tests.budget.prices.seen import DAY, NOW, OD, SPOT, spot
from tests.stages.benches import make_line

HERE = "us-east-1"


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def line(tmp_path: Path, clock: Clock) -> Iterator[Line]:
    line = make_line(tmp_path, clock)
    yield line
    line.ledger.close()


@pytest.fixture
def priced(aws: Aws) -> Aws:
    """AWS, where each machine costs a tenth more on demand than in the table, in two regions, and some come on spot."""
    aws.on_demand = {
        (region, kind.name): f"{kind.on_demand * Decimal('1.1'):.10f}"
        for kind in CATALOG
        for region in (HERE, "eu-west-1")
    }
    aws.spot = [
        Change("g5.xlarge", "us-east-1a", "0.45", NOW - DAY),
        Change("g5.xlarge", "us-east-1b", "0.55", NOW - DAY),
        Change("g5.xlarge", "eu-west-1a", "0.65", NOW - DAY),
    ]
    return aws


def test_a_refresh_keeps_what_machines_cost_now(line: Line, priced: Aws):
    done = refresh_prices(line)
    assert (done.told, done.added, done.refused, done.failed) == (len(CATALOG) + 2, len(CATALOG) + 2, (), ())
    prices = line.prices
    assert prices.per_hour(spot("us-east-1a")) == Decimal("0.45")
    assert prices.per_hour(spot("us-east-1f")) == Decimal("0.55")
    quote = prices.on_demand("g5.xlarge", zone="us-east-1c")
    assert (quote.per_hour, quote.as_of, quote.source, quote.stale) == (
        Decimal("1.1066"),
        NOW,
        "AWS Price List API",
        False,
    )


def test_again_at_the_same_time_adds_nothing_and_later_the_prices_of_then(line: Line, priced: Aws, clock: Clock):
    first = refresh_prices(line)
    assert refresh_prices(line).added == 0
    clock.now += DAY
    priced.spot.append(Change("g5.xlarge", "us-east-1a", "0.48", NOW + timedelta(hours=1)))
    assert refresh_prices(line).added == first.added, "looked up anew, though most are as they were: none is stale now"
    prices = line.money.price_store.load(NOW)
    assert prices.quote(spot("us-east-1a")).per_hour == Decimal("0.48")
    assert prices.quote(spot("us-east-1a"), NOW + timedelta(hours=2)).per_hour == Decimal("0.45")


def test_a_spot_price_that_no_market_makes_is_not_believed(line: Line, priced: Aws):
    """A tenth of on-demand or less. A spot price as high as on-demand says that there is none, and costs that much."""
    told = {"a": "0.05", "b": "0.11066", "c": "0.1107", "d": "1.1066"}
    priced.spot = [Change("g5.xlarge", f"us-east-1{zone}", price, NOW - DAY) for zone, price in told.items()]
    done = refresh_prices(line)
    assert [refused.partition(":")[0] for refused in done.refused] == [
        "g5.xlarge on spot in us-east-1a",
        "g5.xlarge on spot in us-east-1b",
    ]
    assert "beside 1.106600 on demand" in done.refused[0]
    known = {zone: line.prices.per_hour(spot(f"us-east-1{zone}")) for zone in told}
    assert known == dict(zip("abcd", map(Decimal, ("1.1066", "1.1066", "0.1107", "1.1066")), strict=True))


def test_where_on_demand_was_not_told_the_known_price_is_what_spot_is_held_against(line: Line, priced: Aws):
    priced.faults["pricing", HERE, "*"] = "AccessDeniedException"
    priced.spot = [Change("g5.xlarge", "us-east-1a", "0.1006", NOW), Change("g5.xlarge", "us-east-1b", "0.1007", NOW)]
    done = refresh_prices(line)
    assert (done.told, done.added, len(done.refused), len(done.failed)) == (2, 1, 1, 1)


def test_what_fails_leaves_what_is_known(line: Line, priced: Aws, clock: Clock):
    refresh_prices(line)
    clock.now += DAY
    priced.faults = {("pricing", HERE, "*"): "AccessDeniedException", ("ec2", HERE, 0): "UnauthorizedOperation"}
    before = line.money.price_store.load().looked_up
    with pytest.raises(EnvironmentProblem, match="AccessDeniedException"):
        refresh_prices(line)
    assert line.money.price_store.load().looked_up == before


def test_if_aws_knows_none_of_the_machines_it_is_said_so(line: Line, aws: Aws):
    with pytest.raises(EnvironmentProblem, match="no price was told"):
        refresh_prices(line)


def test_the_regions_of_the_profiles_zones_are_looked_up_too(tmp_path: Path, priced: Aws, clock: Clock):
    profiles = tmp_path / "profiles.yaml"
    profiles.write_text("defaults: {zones: [eu-west-1a, eu-west-1b, us-east-1c, eu-west-1-lon-1a, rack-7]}\n")
    line = make_line(tmp_path, clock, compute_profiles=profiles)
    assert regions(line.settings) == [HERE, "eu-west-1"]
    refresh_prices(line)
    assert line.prices.per_hour(Offering("g5.xlarge", "eu-west-1b", SPOT)) == Decimal("0.65")
    assert line.prices.per_hour(Offering("g6.xlarge", "eu-west-1b", OD)) == Decimal("0.88528")
    line.ledger.close()


def test_profiles_that_cannot_be_read_are_said_so(tmp_path: Path, clock: Clock):
    line = make_line(tmp_path, clock, compute_profiles=tmp_path / "none.yaml")
    with pytest.raises(InvalidInput, match="profiles"):
        refresh_prices(line)
    line.ledger.close()
