"""What an hour of a machine costs: prices looked up, else the dated table in `data/`, else the cap. Never 0.

A price that nobody knows is never guessed low. A spot price falls back to the dearest of its region's zones, then to
the table, then to the on-demand price, above which spot is not bought unless somebody asks for it. An on-demand price
of a region without figures falls to the cap, and not to us-east-1's times a factor: whatever the factor, some region is
dearer, and too little put aside is overspent, while too much is only noticed.
"""

from __future__ import annotations

import csv
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from importlib.resources import files

from avatar_pipeline.budget.types import MICRO
from avatar_pipeline.spot.catalog import PRICE_CAP
from avatar_pipeline.spot.types import CapacityType, Offering

CAP_SOURCE = "cap"
LONGEST_SOURCE = 60
"""Characters; with what is put before it, a quote's source has at most 100."""
FLOOR = Decimal("0.1")
"""A spot price of this share of on-demand, or less, is no market's: catalogs show it where spot cannot be had."""
_INSTEAD = "on-demand instead of spot: "
_REGION = re.compile(r"[a-z]{2}(?:-[a-z]+)+-\d+")

_Key = tuple[str, str, CapacityType]


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars an hour of an instance type in a region, as it was seen at `as_of`. An empty zone: in all of them.

    Raises:
        ValueError: it is no price: not above 0, of more than six places, seen at no time, or of a nameless source.
    """

    region: str
    instance_type: str
    capacity_type: CapacityType
    zone: str
    per_hour: Decimal
    as_of: datetime
    source: str

    def __post_init__(self) -> None:
        if not (self.per_hour.is_finite() and self.per_hour > 0 and self.per_hour == self.per_hour.quantize(MICRO)):
            raise ValueError(f"{self.per_hour} is no price of {self.instance_type} in US dollars an hour")
        if self.as_of.tzinfo is None:
            raise ValueError(f"the price of {self.instance_type} is of {self.as_of}, in no time zone")
        if not 0 < len(self.source) <= LONGEST_SOURCE:
            raise ValueError(f"the source of a price has 1 to {LONGEST_SOURCE} characters, not {len(self.source)}")


@dataclass(frozen=True, slots=True)
class Quote:
    """What an offering costs, US dollars an hour, who says so, and since when. `stale`: it was old when asked for."""

    per_hour: Decimal
    as_of: datetime
    source: str
    stale: bool

    @property
    def known(self) -> bool:
        """Whether anybody ever saw a price for it; if not, it is the cap."""
        return self.source != CAP_SOURCE

    @property
    def exact(self) -> bool:
        """Whether it is the price of just this way to pay, and no higher one that stands in for it."""
        return self.known and not self.source.startswith(_INSTEAD)


@cache
def table() -> tuple[Price, ...]:
    """Return the dated table that comes with the package; `data/README.md` says where it is from."""
    text = files("avatar_pipeline.budget").joinpath("data", "prices.csv").read_text(encoding="utf-8")
    return tuple(
        Price(
            region=row["region"],
            instance_type=row["instance_type"],
            capacity_type=CapacityType(row["capacity_type"]),
            zone="",
            per_hour=Decimal(row["per_hour"]),
            as_of=datetime.fromisoformat(row["as_of"]).replace(tzinfo=UTC),
            source=row["source"],
        )
        for row in csv.DictReader(text.splitlines())
    )


def region_of(zone: str, default: str) -> str:
    """Return the region whose prices hold in a zone: `us-east-1` for `us-east-1a`, and for itself.

    Local and Wavelength zones (`us-east-1-bos-1a`) have prices of their own, and so are regions of their own here.
    What is no zone of AWS, or empty, counts as in `default`.
    """
    found = _REGION.match(zone)
    if found is None:
        return default
    return found[0] if len(zone) - found.end() <= 1 else zone


@dataclass(frozen=True, slots=True)
class PriceList:
    """Prices as they are known at a moment, `at`: those looked up, and the table.

    `cap` is the price of what is in neither. `region` is meant where a zone does not tell. A quote is stale if its
    price was older than `stale_after` at the time it was asked for: it is still used.

    Raises:
        ValueError: the cap is not more than 0.
    """

    at: datetime
    looked_up: Sequence[Price] = ()
    table: Sequence[Price] = field(default_factory=table, repr=False)
    cap: Decimal = PRICE_CAP
    region: str = "us-east-1"
    stale_after: timedelta = timedelta(days=30)
    _seen: Mapping[_Key, Mapping[str, Sequence[Price]]] = field(init=False, repr=False, compare=False)
    _table: Mapping[_Key, Mapping[str, Sequence[Price]]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not (self.cap.is_finite() and self.cap > 0):
            raise ValueError(f"a price cap of {self.cap} US dollars an hour would make the unknown free")
        object.__setattr__(self, "_seen", _indexed(self.looked_up))
        object.__setattr__(self, "_table", _indexed(self.table))

    def quote(self, offering: Offering, at: datetime | None = None) -> Quote:
        """Return the price of an offering at a time (now, if not said), by what was looked up not later than that.

        For a zone without a price of its own, or none named, the dearest zone's of the region. Then the table's; then,
        for spot, on-demand's; then the cap.
        """
        at = at or self.at
        region = region_of(offering.zone, self.region)
        zone = "" if offering.zone == region else offering.zone
        key = (region, offering.instance_type, offering.capacity_type)
        found = _newest(self._seen.get(key, {}), zone, at) or _latest(self._table.get(key, {}))
        if found is not None:
            return Quote(found.per_hour, found.as_of, found.source, at - found.as_of > self.stale_after)
        if offering.capacity_type is CapacityType.SPOT:
            other = self.on_demand(offering.instance_type, zone=offering.zone, at=at)
            if other.known:
                return Quote(other.per_hour, other.as_of, _INSTEAD + other.source, other.stale)
        return Quote(self.cap, at, CAP_SOURCE, False)

    def on_demand(self, instance_type: str, *, zone: str = "", at: datetime | None = None) -> Quote:
        """Return what a machine costs on demand in the region of a zone; see `known` before savings are told by it."""
        return self.quote(Offering(instance_type, zone, CapacityType.ON_DEMAND), at)

    def highest(self, offerings: Iterable[Offering], at: datetime | None = None) -> Quote:
        """Return the dearest of the quotes: the most that a placement can cost; the cap where it has no offerings."""
        quotes = [self.quote(offering, at) for offering in offerings]
        return max(quotes, key=lambda quote: quote.per_hour, default=Quote(self.cap, at or self.at, CAP_SOURCE, False))

    def per_hour(self, offering: Offering) -> Decimal:
        """Return US dollars an hour now: what `spot.catalog.PriceBook` asks for."""
        return self.quote(offering).per_hour

    def zones(self, region: str, instance_type: str) -> tuple[str, ...]:
        """Return the zones of a region in which a spot price of the type was looked up."""
        return tuple(sorted(zone for zone in self._seen.get((region, instance_type, CapacityType.SPOT), {}) if zone))


@dataclass(frozen=True, slots=True)
class Listed:
    """A line of the list of prices. Without a zone it holds in the whole region."""

    region: str
    offering: Offering
    quote: Quote


def listing(prices: PriceList, instance_types: Iterable[str], regions: Iterable[str]) -> list[Listed]:
    """Return what is known of these types now: on demand in each region, and spot in each of its zones."""
    types = list(instance_types)
    found = []
    for region in regions:
        for name in types:
            offerings = [Offering(name, region, CapacityType.ON_DEMAND)]
            zones = prices.zones(region, name) or (region,)
            offerings += [Offering(name, zone, CapacityType.SPOT) for zone in zones]
            found += [Listed(region, offering, prices.quote(offering)) for offering in offerings]
    return found


def _indexed(prices: Iterable[Price]) -> dict[_Key, dict[str, list[Price]]]:
    index: dict[_Key, dict[str, list[Price]]] = {}
    # Of two of the same time the dearer one comes last, and counts: the list does not depend on their order.
    for price in sorted(prices, key=lambda price: (price.as_of, price.per_hour)):
        key = (price.region, price.instance_type, price.capacity_type)
        index.setdefault(key, {}).setdefault(price.zone, []).append(price)
    return index


def _newest(by_zone: Mapping[str, Sequence[Price]], zone: str, at: datetime) -> Price | None:
    """Return the zone's newest price of this time or before it; else the region's; else the dearest zone's."""
    then = {name: price for name, prices in by_zone.items() if (price := _not_after(prices, at)) is not None}
    return then.get(zone) or then.get("") or max(then.values(), key=lambda price: price.per_hour, default=None)


def _not_after(prices: Sequence[Price], at: datetime) -> Price | None:
    index = bisect_right(prices, at, key=lambda price: price.as_of)
    return prices[index - 1] if index else None


def _latest(by_zone: Mapping[str, Sequence[Price]]) -> Price | None:
    prices = by_zone.get("")
    return prices[-1] if prices else None
