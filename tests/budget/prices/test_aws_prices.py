"""What AWS tells over its own wire protocols, and what of it is believed."""

from datetime import timedelta
from decimal import Decimal

import pytest

from avatar_pipeline.budget.aws_prices import look_up, on_demand_prices, spot_prices
from avatar_pipeline.budget.prices import Price
from avatar_pipeline.spot.types import CapacityType
from tests.budget.prices.aws import PAGE, Aws, Change, product
from tests.budget.prices.seen import NOW

HERE = "us-east-1"
TYPES = ["g5.xlarge", "g6.xlarge"]
HOUR = timedelta(hours=1)


def zones(aws: Aws, count: int, price: str = "0.4{}") -> None:
    """There is a spot price in so many zones of us-east-1."""
    aws.spot += [
        Change("g5.xlarge", f"us-east-1{letter}", price.format(n), NOW - HOUR) for n, letter in _letters(count)
    ]


def _letters(count: int):
    return enumerate("abcdefghijklmnop"[:count])


def costs(prices: tuple[Price, ...]) -> dict[tuple[str, str], Decimal]:
    return {(price.instance_type, price.zone): price.per_hour for price in prices}


def test_spot_prices_of_all_zones_come_in_pages(aws: Aws):
    zones(aws, 2 * PAGE + 1)
    answer = spot_prices(HERE, TYPES, NOW)
    assert (answer.refused, answer.failed) == ((), ())
    assert costs(answer.prices) == {
        ("g5.xlarge", f"us-east-1{letter}"): Decimal(f"0.4{n}") for n, letter in _letters(2 * PAGE + 1)
    }
    assert aws.pages("ec2") == 3
    assert {price.capacity_type for price in answer.prices} == {CapacityType.SPOT}
    assert {price.as_of for price in answer.prices} == {NOW}, "when it was looked up, not when it last changed"


def test_the_price_in_force_is_the_last_one_before_now(aws: Aws):
    aws.spot += [
        Change("g5.xlarge", "us-east-1a", "0.470000", NOW - 3 * HOUR),
        Change("g5.xlarge", "us-east-1a", "0.4512345", NOW - HOUR),
        Change("g5.xlarge", "us-east-1a", "0.9", NOW + HOUR),
    ]
    assert costs(spot_prices(HERE, TYPES, NOW).prices) == {("g5.xlarge", "us-east-1a"): Decimal("0.451235")}
    ((_, _, asked),) = aws.calls
    assert asked["StartTime"] == asked["EndTime"] == f"{NOW:%Y-%m-%dT%H:%M:%SZ}", "no history that nobody needs"


def test_of_a_whole_history_the_newest_price_counts(aws: Aws):
    aws.talkative = True
    aws.spot += [Change("g5.xlarge", "us-east-1a", f"0.4{hours}", NOW - hours * HOUR) for hours in (3, 1, 2)]
    assert costs(spot_prices(HERE, TYPES, NOW).prices) == {("g5.xlarge", "us-east-1a"): Decimal("0.41")}


def test_only_linux_on_the_machines_and_in_the_region_that_were_asked_for(aws: Aws):
    aws.spot += [
        Change("g5.xlarge", "us-east-1a", "0.47", NOW),
        Change("g5.xlarge", "us-east-1a", "0.67", NOW, product="Windows"),
        Change("p5.48xlarge", "us-east-1a", "30", NOW),
        Change("g5.xlarge", "us-west-2a", "0.54", NOW),
    ]
    assert costs(spot_prices(HERE, TYPES, NOW).prices) == {("g5.xlarge", "us-east-1a"): Decimal("0.47")}
    assert costs(spot_prices("us-west-2", TYPES, NOW).prices) == {("g5.xlarge", "us-west-2a"): Decimal("0.54")}
    assert [region for _, region, _ in aws.calls] == [HERE, "us-west-2"], "each region is asked itself"


def test_a_local_zone_has_a_price_of_its_own(aws: Aws):
    aws.spot.append(Change("g4dn.2xlarge", "us-east-1-bos-1a", "0.3", NOW))
    (price,) = spot_prices(HERE, ["g4dn.2xlarge"], NOW).prices
    assert (price.region, price.zone) == ("us-east-1-bos-1a", "us-east-1-bos-1a")


def test_a_spot_price_that_cannot_be_is_refused_by_name_and_leaves_the_others(aws: Aws):
    wrong = ["0", "-0.2", "0.000000", "1000.01", "NaN", "Infinity", "", "cheap"]
    aws.spot = [
        Change("g5.xlarge", f"us-east-1{zone}", text, NOW) for zone, text in zip("bcdefghi", wrong, strict=True)
    ]
    aws.spot.append(Change("g5.xlarge", "us-east-1a", "1000", NOW))
    answer = spot_prices(HERE, TYPES, NOW)
    assert costs(answer.prices) == {("g5.xlarge", "us-east-1a"): Decimal(1000)}
    assert sorted(refused.partition(":")[0] for refused in answer.refused) == [
        f"g5.xlarge on spot in us-east-1{zone}" for zone in "bcdefghi"
    ]


def test_pages_that_came_before_a_failure_hold_good(aws: Aws):
    zones(aws, 2 * PAGE)
    aws.faults["ec2", HERE, 1] = "UnauthorizedOperation"
    answer = spot_prices(HERE, TYPES, NOW)
    assert len(answer.prices) == PAGE
    assert answer.failed == ("Spot prices in us-east-1: AWS refuses (UnauthorizedOperation).",)


def test_on_demand_prices_are_asked_for_type_by_type(aws: Aws):
    aws.on_demand = {(HERE, "g5.xlarge"): "1.0060000000", (HERE, "g6.xlarge"): "0.8048000000"}
    answer = on_demand_prices(HERE, TYPES, NOW)
    assert costs(answer.prices) == {("g5.xlarge", ""): Decimal("1.006"), ("g6.xlarge", ""): Decimal("0.8048")}
    assert (answer.refused, answer.failed) == ((), ())
    service, region, asked = aws.calls[0]
    assert (service, region, asked["ServiceCode"]) == ("pricing", HERE, "AmazonEC2")
    assert asked["fields"] == {
        "regionCode": HERE,
        "instanceType": "g5.xlarge",
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
    }


def test_of_several_products_on_several_pages_the_dearest_counts(aws: Aws):
    aws.on_demand[HERE, "g5.xlarge"] = [product("g5.xlarge", HERE, price) for price in ("1.006", "1.106", "0.9")]
    assert costs(on_demand_prices(HERE, ["g5.xlarge"], NOW).prices) == {("g5.xlarge", ""): Decimal("1.106")}


def test_an_on_demand_price_that_cannot_be_is_refused_by_name_and_leaves_the_others(aws: Aws):
    wrong = [
        ("none", [], "no price was told"),
        ("free", [product("free", HERE, "0.0000000000")], "is no price"),
        ("dear", [product("dear", HERE, "1000.1")], "is no price"),
        ("yuan", [product("yuan", HERE, "7.1", currency="CNY")], "a price in CNY, not USD"),
        ("once", [product("once", HERE, unit="Quantity")], "a price per Quantity, not per hour"),
        ("other", [product("g5.metal", HERE)], "a price of g5.metal in us-east-1 was told"),
        ("there", [product("there", "eu-west-1")], "a price of there in eu-west-1 was told"),
        ("mixed", [product("mixed", HERE), product("mixed", HERE, "0")], "is no price"),
        ("torn", ["{"], "cannot be read"),
        ("empty", ['{"product": {"attributes": {"instanceType": "empty", "regionCode": "us-east-1"}}}'], "terms"),
        ("odd", ['{"product": 7, "terms": []}'], "cannot be read"),
    ]
    aws.on_demand = {(HERE, name): products for name, products, _ in wrong} | {(HERE, "g6.xlarge"): "0.8048"}
    answer = on_demand_prices(HERE, [*(name for name, _, _ in wrong), "g6.xlarge"], NOW)
    assert costs(answer.prices) == {("g6.xlarge", ""): Decimal("0.8048")}
    assert answer.failed == ()
    for refused, (name, _, why) in zip(answer.refused, wrong, strict=True):
        assert refused.startswith(f"{name} on demand in us-east-1: ")
        assert why in refused


def test_a_call_that_fails_leaves_the_others(aws: Aws):
    zones(aws, 1)
    aws.on_demand = {(HERE, "g5.xlarge"): "1.006", (HERE, "g6.xlarge"): "0.8048", ("us-west-2", "g5.xlarge"): "1.006"}
    aws.faults = {("pricing", HERE, "g5.xlarge"): "InternalOddity", ("ec2", "us-west-2", 0): "OptInRequired"}
    answer = look_up([HERE, "us-west-2"], TYPES, NOW)
    assert {(p.region, p.instance_type, p.zone) for p in answer.prices} == {
        (HERE, "g6.xlarge", ""),
        (HERE, "g5.xlarge", "us-east-1a"),
        ("us-west-2", "g5.xlarge", ""),
    }
    assert answer.failed == (
        "On-demand prices in us-east-1: AWS refuses (InternalOddity): g5.xlarge.",
        "Spot prices in us-west-2: AWS refuses (OptInRequired).",
    )


def test_one_reason_is_told_once_for_all_it_cost(aws: Aws):
    aws.faults["pricing", HERE, "*"] = "AccessDeniedException"
    answer = on_demand_prices(HERE, ["g5.xlarge", "g6.xlarge", "g6e.xlarge"], NOW)
    assert answer.failed == (
        "On-demand prices in us-east-1: AWS refuses (AccessDeniedException): g5.xlarge, g6.xlarge, g6e.xlarge.",
    )


@pytest.mark.usefixtures("no_credentials")
def test_without_credentials_nobody_is_asked_for_long():
    answer = look_up([HERE], ["g5.xlarge", "g6.xlarge", "g6e.xlarge", "g4dn.xlarge"], NOW)
    assert answer.prices == ()
    assert answer.failed == (
        "On-demand prices in us-east-1: AWS cannot be reached (NoCredentialsError): g5.xlarge, g6.xlarge.",
        "On-demand prices in us-east-1: not asked for after that: g6e.xlarge, g4dn.xlarge.",
        "Spot prices in us-east-1: AWS cannot be reached (NoCredentialsError).",
    )


def test_an_endpoint_that_is_none_is_said_so(aws: Aws, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", "nonsense")
    (failed,) = spot_prices(HERE, TYPES, NOW).failed
    assert failed == "Spot prices in us-east-1: AWS cannot be reached (ValueError)."


@pytest.mark.usefixtures("no_credentials")
def test_a_profile_that_is_not_there_is_said_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    answer = look_up([HERE], TYPES, NOW)
    assert answer.failed == (
        "On-demand prices in us-east-1: AWS cannot be reached (ProfileNotFound): g5.xlarge, g6.xlarge.",
        "Spot prices in us-east-1: AWS cannot be reached (ProfileNotFound).",
    )


def test_without_boto3_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch):
    import sys

    from avatar_pipeline.errors import EnvironmentProblem

    for name in list(sys.modules):
        if name.partition(".")[0] in ("boto3", "botocore"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "botocore", None)
    with pytest.raises(EnvironmentProblem, match="aws"):
        look_up([HERE], TYPES, NOW)


@pytest.mark.usefixtures("no_credentials")
def test_the_wire_is_one_that_others_speak_too(monkeypatch: pytest.MonkeyPatch):
    """moto's EC2 knows the zones of the real one; its prices are one invented figure for all."""
    from moto.server import ThreadedMotoServer

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", f"http://{host}:{port}")
        answer = spot_prices(HERE, TYPES, NOW)
    finally:
        server.stop()
    assert (answer.refused, answer.failed) == ((), ())
    assert {price.instance_type for price in answer.prices} == set(TYPES)
    assert {price.per_hour for price in answer.prices} == {Decimal("0.00001")}
    assert all(price.zone.startswith(HERE) for price in answer.prices)
