"""Looking prices up at AWS: which ones matter, which are believed, and that they are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from avatar_pipeline.budget.aws_prices import look_up
from avatar_pipeline.budget.prices import FLOOR, Listed, Price, PriceList, listing, region_of
from avatar_pipeline.errors import EnvironmentProblem
from avatar_pipeline.settings import Settings
from avatar_pipeline.spot.catalog import CATALOG
from avatar_pipeline.spot.profiles import load_profiles
from avatar_pipeline.spot.types import CapacityType
from avatar_pipeline.stages.line import Line


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What a refresh did. `added` is how many prices are new in the ledger, `told` how many AWS told of.

    `refused` is what AWS told and nobody believes, `failed` the calls that failed; sentences for a person.
    """

    told: int
    added: int
    refused: tuple[str, ...]
    failed: tuple[str, ...]


def regions(settings: Settings) -> list[str]:
    """Return the regions whose prices matter: the settings' first, then those of the compute profiles' zones.

    Raises:
        InvalidInput: the file of compute profiles cannot be used.
    """
    profiles = load_profiles(settings.compute_profiles) if settings.compute_profiles else {}
    zones = [zone for profile in profiles.values() for zone in profile.zones]
    # A local zone is a region of its own only where prices are kept: EC2 tells of it where it tells of its region.
    others = [region for zone in zones if (region := region_of(zone, settings.region)) != zone]
    return list(dict.fromkeys([settings.region, *others]))


def instance_types() -> list[str]:
    """Return the machines whose prices matter: those that steps are placed on."""
    return [kind.name for kind in CATALOG]


def known_prices(settings: Settings, prices: PriceList) -> list[Listed]:
    """Return what is known now of every machine that a step may run on.

    Raises:
        InvalidInput: the file of compute profiles cannot be used.
    """
    return listing(prices, instance_types(), regions(settings))


def refresh_prices(line: Line) -> Refreshed:
    """Look up what machines cost now, and keep it. Again, it adds the prices of then; what is there stays.

    Raises:
        EnvironmentProblem: AWS told no price at all; the message has the first reason. Or boto3 is not installed.
        InvalidInput: the file of compute profiles cannot be used.
    """
    answer = look_up(regions(line.settings), instance_types(), line.clock().replace(microsecond=0))
    believed, unbelieved = _believable(answer.prices, line.money.price_store.load())
    refused = (*answer.refused, *unbelieved)
    if not believed:
        reason = next(iter((*answer.failed, *refused)), "it knows none of the machines.")
        raise EnvironmentProblem(
            f"AWS told no price. {reason}",
            remedy="Check the credentials, their permissions (ec2:DescribeSpotPriceHistory, pricing:GetProducts), "
            "the network and AVATAR_REGION. Known prices hold on.",
        )
    return Refreshed(len(answer.prices), line.money.price_store.add(believed), refused, answer.failed)


def _believable(prices: Sequence[Price], known: PriceList) -> tuple[list[Price], list[str]]:
    """Return the prices without spot prices that no market makes, and a sentence about each of those."""
    told = {(p.region, p.instance_type): p.per_hour for p in prices if p.capacity_type is CapacityType.ON_DEMAND}
    believed, refused = [], []
    for price in prices:
        on_demand = told.get((price.region, price.instance_type)) or _known(known, price)
        if price.capacity_type is CapacityType.SPOT and on_demand and price.per_hour <= FLOOR * on_demand:
            refused.append(
                f"{price.instance_type} on spot in {price.zone}: {price.per_hour:f} US dollars an hour is no market's "
                f"price, beside {on_demand:f} on demand"
            )
        else:
            believed.append(price)
    return believed, refused


def _known(known: PriceList, price: Price) -> Decimal | None:
    quote = known.on_demand(price.instance_type, zone=price.region)
    return quote.per_hour if quote.known else None
