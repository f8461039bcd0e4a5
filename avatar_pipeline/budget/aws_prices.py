"""Prices as AWS tells them: spot from EC2's price history, on-demand from the Price List API. The one door to both.

boto3 is imported when somebody asks; it finds credentials as ever, and takes other endpoints than Amazon's from
AWS_ENDPOINT_URL_EC2 and AWS_ENDPOINT_URL_PRICING. The calls need the permissions `ec2:DescribeSpotPriceHistory` and
`pricing:GetProducts`.

What AWS says is looked at before it is believed: a price is above 0 and at most 1,000 US dollars an hour, in US
dollars, of the machine that was asked for. What is not is refused by name, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_UP, Decimal, InvalidOperation
from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from avatar_pipeline.budget.prices import Price, region_of
from avatar_pipeline.budget.types import CURRENCY, MICRO
from avatar_pipeline.errors import package_missing
from avatar_pipeline.spot.types import CapacityType

HIGHEST = Decimal(1000)
"""US dollars an hour, several times the dearest machine of EC2: what is more is a mistake."""
SPOT_SOURCE = "EC2 spot price history"
ON_DEMAND_SOURCE = "AWS Price List API"
PRICING_REGION = "us-east-1"
"""Where the Price List API is, whichever region it is asked about."""
LINUX = ("Linux/UNIX", "Linux/UNIX (Amazon VPC)")
"""Names of one and the same product; EC2 answers with either."""
_PATIENCE = 2
"""After so many calls in a row that reached nobody, the rest are not made: each may take a minute to fail."""

Session = Any
Client = Any
"""boto3's; it has no types."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What AWS said: prices, what it said and nobody believes, and calls that failed; sentences for a person."""

    prices: tuple[Price, ...] = ()
    refused: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()

    def __add__(self, other: Answer) -> Answer:
        return Answer(self.prices + other.prices, self.refused + other.refused, self.failed + other.failed)


def _session() -> Session:
    """Return a session of one's own: boto3's default one is not for several threads. It reads the AWS configuration.

    Raises:
        EnvironmentProblem: boto3 is not installed.
    """
    try:
        import boto3
    except ImportError as error:
        raise package_missing(error) from error
    return boto3.session.Session()


def look_up(regions: Iterable[str], instance_types: Sequence[str], at: datetime) -> Answer:
    """Ask AWS what these machines cost at `at`, which is now, in each region, on demand and on spot.

    A call that fails costs what it asked for, and nothing else.

    Raises:
        EnvironmentProblem: boto3 is not installed.
    """
    answer = Answer()
    session = cache(_session)
    for region in regions:
        answer += on_demand_prices(region, instance_types, at, session)
        answer += spot_prices(region, instance_types, at, session)
    return answer


def spot_prices(
    region: str, instance_types: Sequence[str], at: datetime, session: Callable[[], Session] = _session
) -> Answer:
    """Ask EC2 for the spot prices of Linux in all zones of a region.

    Asked for a stretch of time, EC2 also tells the last change before it, which is the price at its beginning: a
    stretch of no length gives the prices in force, each zone's once.

    Raises:
        EnvironmentProblem: boto3 is not installed.
    """
    aws_errors = _aws_errors()
    told: list[dict[str, Any]] = []
    failed: list[str] = []
    try:
        pages = _client(session, "ec2", region).get_paginator("describe_spot_price_history")
        query = {
            "StartTime": at,
            "EndTime": at,
            "ProductDescriptions": [LINUX[0]],
            # A filter, and no list of types: with that, one type that EC2 does not know would fail the call.
            "Filters": [{"Name": "instance-type", "Values": list(instance_types)}],
        }
        for page in pages.paginate(**query, PaginationConfig={"PageSize": 1000}):
            told += page.get("SpotPriceHistory", [])
    except aws_errors as error:
        # The pages that came before hold good.
        failed.append(f"Spot prices in {region}: {_why(error)}.")
    prices: dict[tuple[str, str], Price] = {}
    refused: list[str] = []
    for entry in sorted(told, key=lambda entry: entry["Timestamp"].timestamp() if "Timestamp" in entry else 0):
        name, zone = str(entry.get("InstanceType")), str(entry.get("AvailabilityZone"))
        if entry.get("ProductDescription") not in LINUX or name not in instance_types or not zone.startswith(region):
            continue
        try:
            per_hour = _amount(str(entry.get("SpotPrice")))
        except ValueError as error:
            refused.append(f"{name} on spot in {zone}: {error}")
            continue
        place = region_of(zone, region)
        prices[name, zone] = Price(place, name, CapacityType.SPOT, zone, per_hour, at, SPOT_SOURCE)
    return Answer(tuple(prices.values()), tuple(refused), tuple(failed))


def on_demand_prices(
    region: str, instance_types: Sequence[str], at: datetime, session: Callable[[], Session] = _session
) -> Answer:
    """Ask the Price List API for on-demand prices of Linux in a region, without licences, on shared hardware.

    Each type is a call of its own.

    Raises:
        EnvironmentProblem: boto3 is not installed.
    """
    aws_errors = _aws_errors()
    prices: list[Price] = []
    refused: list[str] = []
    failed: dict[str, list[str]] = {}
    unreached = 0
    client: Client = None
    for index, name in enumerate(instance_types):
        try:
            client = client or _client(session, "pricing", PRICING_REGION)
            products = list(_products(client, region, name))
            unreached = 0
        except aws_errors as error:
            failed.setdefault(_why(error), []).append(name)
            unreached = 0 if hasattr(error, "response") else unreached + 1
            if unreached == _PATIENCE:
                failed.setdefault("not asked for after that", []).extend(instance_types[index + 1 :])
                break
            continue
        try:
            per_hour = _dearest(products, region, name)
        except ValueError as error:
            refused.append(f"{name} on demand in {region}: {error}")
            continue
        prices.append(Price(region, name, CapacityType.ON_DEMAND, "", per_hour, at, ON_DEMAND_SOURCE))
    told = [f"On-demand prices in {region}: {why}: {', '.join(names)}." for why, names in failed.items() if names]
    return Answer(tuple(prices), tuple(refused), tuple(told))


def _products(client: Client, region: str, instance_type: str) -> Iterator[str]:
    fields = {
        "regionCode": region,
        "instanceType": instance_type,
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "preInstalledSw": "NA",
        # Neither capacity that is reserved, nor what is paid for it while nobody uses it.
        "capacitystatus": "Used",
    }
    filters = [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in fields.items()]
    pages = client.get_paginator("get_products").paginate(ServiceCode="AmazonEC2", Filters=filters)
    for page in pages:
        yield from map(str, page.get("PriceList", []))


class _Part(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)


class _Attributes(_Part):
    instance_type: str
    region_code: str


class _Product(_Part):
    attributes: _Attributes


class _Dimension(_Part):
    unit: str
    price_per_unit: dict[str, str]


class _Term(_Part):
    price_dimensions: dict[str, _Dimension]


class _Terms(_Part):
    on_demand: dict[str, _Term] = Field(alias="OnDemand")


class _Item(_Part):
    """One product of the price list, as much of it as is looked at."""

    product: _Product
    terms: _Terms


def _dearest(products: Sequence[str], region: str, instance_type: str) -> Decimal:
    """Return the highest price of an hour among these products: there should be one.

    Raises:
        ValueError: there is none, or one of them is not what was asked for, or no price to believe.
    """
    prices = []
    for text in products:
        try:
            item = _Item.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ValueError(f"a product that cannot be read ({where or 'JSON'}: {first['msg']})") from error
        seen = item.product.attributes
        if (seen.region_code, seen.instance_type) != (region, instance_type):
            raise ValueError(f"a price of {seen.instance_type[:40]} in {seen.region_code[:40]} was told")
        for term in item.terms.on_demand.values():
            prices += [_hourly(dimension) for dimension in term.price_dimensions.values()]
    if not prices:
        raise ValueError("no price was told")
    return max(prices)


def _hourly(dimension: _Dimension) -> Decimal:
    if dimension.unit != "Hrs":
        raise ValueError(f"a price per {dimension.unit[:20]}, not per hour")
    if CURRENCY not in dimension.price_per_unit:
        raise ValueError(
            f"a price in {', '.join(sorted(dimension.price_per_unit))[:40] or 'no currency'}, not {CURRENCY}"
        )
    return _amount(dimension.price_per_unit[CURRENCY])


def _amount(text: str) -> Decimal:
    """Return a price as it was told, rounded up to a millionth.

    Raises:
        ValueError: it is no number, not above 0, or more than any machine costs.
    """
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{text[:40]!r} is no number") from None
    if not (value.is_finite() and 0 < value <= HIGHEST):
        raise ValueError(f"{text[:40]} US dollars an hour is no price")
    return value.quantize(MICRO, ROUND_UP)


def _client(session: Callable[[], Session], service: str, region: str) -> Client:
    from botocore.config import Config

    config = Config(connect_timeout=5, read_timeout=30, retries={"mode": "standard", "max_attempts": 3})
    return session().client(service, region_name=region, config=config)


def _aws_errors() -> tuple[type[Exception], ...]:
    """Return what boto3 raises: refusals, what keeps it from asking, and answers and endpoints that make no sense.

    Raises:
        EnvironmentProblem: boto3 is not installed.
    """
    try:
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError
    except ImportError as error:
        raise package_missing(error) from error
    return ClientError, BotoCoreError, ResponseParserError, ValueError


def _why(error: Exception) -> str:
    response: dict[str, Any] | None = getattr(error, "response", None)
    if response is None:
        return f"AWS cannot be reached ({type(error).__name__})"
    return f"AWS refuses ({response.get('Error', {}).get('Code', 'unknown')})"
