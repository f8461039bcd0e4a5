"""The table of machines: whole, plausible, priced; and an unknown one is never free."""

import csv
import os
from decimal import Decimal
from pathlib import Path

import pytest

from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.spot.catalog import CATALOG, PRICE_CAP, TablePrices, by_name, price
from avatar_pipeline.spot.types import CapacityType, Offering

OD, SPOT = CapacityType.ON_DEMAND, CapacityType.SPOT


def at(name: str, capacity_type: CapacityType, zone: str = "us-east-1a") -> Decimal:
    return price(Offering(name, zone, capacity_type))


def test_the_catalog_holds_four_families_and_each_type_once():
    names = [kind.name for kind in CATALOG]
    assert len(names) == len(set(names)) == 31
    assert {kind.family for kind in CATALOG} == {"g4dn", "g5", "g6", "g6e"}
    assert len([kind for kind in CATALOG if kind.gpus == 1]) == 20


@pytest.mark.parametrize(
    ("name", "cpus", "memory_mib"),
    # What Karpenter's reference of instance types says is allocatable.
    [
        ("g4dn.xlarge", 3.92, 14481),
        ("g4dn.4xlarge", 15.89, 59946),
        ("g5.xlarge", 3.92, 14162),
        ("g5.12xlarge", 47.81, 173400),
        ("g6.16xlarge", 63.77, 234021),
        ("g6e.48xlarge", 191.45, 1449132),
    ],
)
def test_what_is_free_for_a_step_is_what_the_kubelet_offers_less_the_daemons(name: str, cpus: float, memory_mib: int):
    kind = by_name(name)
    assert kind is not None
    assert kind.free_cpus == pytest.approx(cpus - 0.4)
    assert kind.free_memory_mib == memory_mib - 768


@pytest.mark.parametrize("kind", CATALOG, ids=lambda kind: kind.name)
def test_spot_is_cheaper_than_on_demand_and_neither_is_free(kind):
    assert Decimal(0) < at(kind.name, SPOT) < at(kind.name, OD) == kind.on_demand < PRICE_CAP


def test_a_size_without_a_spot_price_gets_the_dearest_ratio_of_its_family():
    assert at("g5.16xlarge", SPOT) == Decimal("2.0070")


@pytest.mark.parametrize("capacity_type", CapacityType)
def test_a_machine_in_no_table_costs_the_cap(capacity_type: CapacityType):
    offering = Offering("p9.xlarge", "us-east-1a", capacity_type)
    assert price(offering) == PRICE_CAP
    assert TablePrices(cap=Decimal(7)).per_hour(offering) == Decimal(7)


@pytest.mark.parametrize("cap", ["0", "-1", "NaN"])
def test_a_cap_that_would_make_the_unknown_free_is_refused(cap: str):
    with pytest.raises(InvalidInput, match="cap"):
        TablePrices(cap=Decimal(cap))


def test_prices_are_those_that_were_published():
    data = os.environ.get("AVATAR_EVAL_DATA")
    if not data:
        pytest.skip("AVATAR_EVAL_DATA is not set: no published prices to compare with")
    folder = Path(data, "traces", "prices")
    with Path(folder, "ondemand_karpenter_2026-07-20.csv").open() as file:
        published = {row["instance_type"]: Decimal(row["usd_per_hour_linux"]) for row in csv.DictReader(file)}
    assert {kind.name: kind.on_demand for kind in CATALOG} == {kind.name: published[kind.name] for kind in CATALOG}
    with Path(folder, "spot_skypilot_catalog_v8_e385a0d.csv").open() as file:
        seen: dict[str, list[Decimal]] = {}
        for row in csv.DictReader(file):
            if row["region"] == "us-east-1":
                seen.setdefault(row["instance_type"], []).append(Decimal(row["spot_usd_h"]))
    for name, prices in seen.items():
        assert min(prices) <= at(name, SPOT) <= max(prices), name
