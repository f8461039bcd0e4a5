"""The dated table: from published figures by a recipe that anybody can follow, and no other than the executor's."""

import csv
import os
from collections import defaultdict
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from statistics import median

import pytest

from avatar_pipeline.budget.prices import FLOOR, PriceList, table
from avatar_pipeline.spot.catalog import CATALOG, ON_DEMAND_PRICES_AS_OF, SPOT_PRICES_AS_OF, TablePrices
from avatar_pipeline.spot.types import CapacityType, Offering
from tests.budget.prices.seen import NOW

OD, SPOT = CapacityType.ON_DEMAND, CapacityType.SPOT
HERE = "us-east-1"


def test_each_price_is_there_once_and_dated():
    keys = [(price.region, price.instance_type, price.capacity_type) for price in table()]
    assert len(keys) == len(set(keys)) == 69
    assert {(price.as_of.date(), price.zone) for price in table()} == {
        (ON_DEMAND_PRICES_AS_OF, ""),
        (SPOT_PRICES_AS_OF, ""),
    }


def test_every_machine_has_an_on_demand_price_where_the_table_is_from():
    known = {price.instance_type for price in table() if price.region == HERE and price.capacity_type is OD}
    assert known == {kind.name for kind in CATALOG}


def test_spot_is_what_a_market_makes():
    on_demand = {(p.region, p.instance_type): p.per_hour for p in table() if p.capacity_type is OD}
    spot = [price for price in table() if price.capacity_type is SPOT]
    assert len(spot) == 24
    for price in spot:
        dear = on_demand[price.region, price.instance_type]
        assert FLOOR * dear < price.per_hour < dear


@pytest.mark.parametrize("kind", CATALOG, ids=lambda kind: kind.name)
def test_the_executor_and_the_ledger_agree_on_what_was_seen_and_the_ledger_never_says_less(kind):
    """The executor guesses spot prices that nobody saw, to rank machines; what is paid is never taken to be less."""
    executor, ledger = TablePrices(), PriceList(NOW)
    on_demand, spot = (Offering(kind.name, "us-east-1a", capacity) for capacity in (OD, SPOT))
    assert executor.per_hour(on_demand) == ledger.per_hour(on_demand)
    if ledger.quote(spot).exact:
        assert executor.per_hour(spot) == ledger.per_hour(spot)
    else:
        assert executor.per_hour(spot) < ledger.per_hour(spot) == kind.on_demand


def test_the_recipe_gives_this_table():
    """The recipe is that of the README beside the table."""
    data = os.environ.get("AVATAR_EVAL_DATA")
    if not data:
        pytest.skip("AVATAR_EVAL_DATA is not set: no published prices to make the table from")
    folder = Path(data, "traces", "prices")
    names = {kind.name for kind in CATALOG}
    made: dict[tuple[str, str, CapacityType], Decimal] = {}
    spot: dict[tuple[str, str], list[Decimal]] = defaultdict(list)
    with (folder / "spot_skypilot_catalog_v8_e385a0d.csv").open() as file:
        for row in csv.DictReader(file):
            key = row["region"], row["instance_type"]
            dear, cheap = Decimal(row["ondemand_usd_h"]), Decimal(row["spot_usd_h"])
            assert made.setdefault((*key, OD), dear) == dear, "one on-demand price a region"
            if FLOOR * dear < cheap < dear:
                spot[key].append(cheap)
    with (folder / "ondemand_karpenter_2026-07-20.csv").open() as file:
        for row in csv.DictReader(file):
            if row["instance_type"] in names:
                price = Decimal(row["usd_per_hour_linux"])
                assert made.get((row["region"], row["instance_type"], OD), price) == price, "the two sources agree"
                made[row["region"], row["instance_type"], OD] = price
    for key, prices in spot.items():
        made[*key, SPOT] = median(prices).quantize(Decimal("0.0001"), ROUND_HALF_UP)
    assert {(p.region, p.instance_type, p.capacity_type): p.per_hour for p in table()} == made
