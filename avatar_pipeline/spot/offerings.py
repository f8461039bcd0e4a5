"""Which machines suit a profile, best first, and which of them had no capacity a while ago."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from types import MappingProxyType

from avatar_pipeline.spot.catalog import CATALOG, InstanceType, PriceBook, TablePrices
from avatar_pipeline.spot.profiles import ComputeProfile
from avatar_pipeline.spot.types import CapacityType, Offering

ANY_ZONE = ""
"""The zone of an offering where the profile names none: any zone that the cluster has."""


def suitable(
    profile: ComputeProfile,
    capacity_type: CapacityType,
    *,
    catalog: tuple[InstanceType, ...] = CATALOG,
    prices: PriceBook | None = None,
) -> tuple[Offering, ...]:
    """Return every instance type that the profile fits on, in each of its zones, best first.

    Best is least dollars for the same work: the price of an hour over the speed of the GPU, which the profile knows
    from measurements or takes to be the same for all. Of equals, the later GPU generations with more memory come first.
    """
    book = prices or TablePrices(catalog=catalog)
    kinds = profile.instance_types(catalog)
    speed = {kind.name: Decimal(str(profile.gpu_speed.get(kind.gpu_name, 1.0))) for kind in kinds}
    memory = {kind.name: kind.gpu_memory_mib for kind in kinds}
    zones = profile.zones or (ANY_ZONE,)
    found = [Offering(kind.name, zone, capacity_type) for kind in kinds for zone in zones]

    def worth(offering: Offering) -> tuple[Decimal, int, str, int]:
        name = offering.instance_type
        return book.per_hour(offering) / speed[name], -memory[name], name, zones.index(offering.zone)

    return tuple(sorted(found, key=worth))


def diversify(offerings: tuple[Offering, ...], limit: int) -> tuple[Offering, ...]:
    """Return at most `limit` of the offerings, in their order, of as many types as there is room for.

    Each type comes in the zone that was taken least so far; then the best of the rest, until there are `limit`. The few
    best would mostly be one type in every zone, and spot capacity of one type can go away in all of them at once.
    """
    by_type: dict[str, list[Offering]] = {}
    for offering in offerings:
        by_type.setdefault(offering.instance_type, []).append(offering)
    taken: set[Offering] = set()
    zones: Counter[str] = Counter()
    for same_type in list(by_type.values())[:limit]:
        pick = min(same_type, key=lambda offering: zones[offering.zone])
        zones[pick.zone] += 1
        taken.add(pick)
    for offering in offerings:
        if len(taken) >= limit:
            break
        taken.add(offering)
    return tuple(offering for offering in offerings if offering in taken)


@dataclass(frozen=True, slots=True)
class MarkPolicy:
    """How long an offering that had no capacity comes last.

    `ttl` after a first error: 3 minutes, as long as Karpenter leaves it out. Each further error after the mark ran out
    doubles it, up to `longest`. An offering without an error for `longest` after its last mark starts anew.
    """

    ttl: timedelta = timedelta(seconds=180)
    longest: timedelta = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Mark:
    """`errors` capacity errors in a row; it comes last before `until`."""

    errors: int
    until: datetime


@dataclass(frozen=True, slots=True)
class Marks:
    """Offerings that had no capacity. A value: `failed` and `worked` return a new one. Times are the caller's."""

    policy: MarkPolicy = field(default_factory=MarkPolicy)
    of: Mapping[Offering, Mark] = field(default_factory=lambda: MappingProxyType({}))

    def failed(self, offerings: Iterable[Offering], at: datetime) -> Marks:
        """Return the marks after a capacity error for these offerings at `at`.

        An error under a mark that still holds is the same shortage seen by another step: it makes the mark last from
        now, but not longer than a first look would.
        """
        marked = dict(self.of)
        for offering in offerings:
            before = marked.get(offering)
            if before is None or at >= before.until + self.policy.longest:
                errors = 1
            else:
                errors = before.errors + (at >= before.until)
            until = at + self._ttl(errors)
            marked[offering] = Mark(errors, until if before is None else max(until, before.until))
        return replace(self, of=MappingProxyType(marked))

    def worked(self, offering: Offering) -> Marks:
        """Return the marks after a pod got this offering: there is capacity again."""
        return replace(self, of=MappingProxyType({key: mark for key, mark in self.of.items() if key != offering}))

    def expires(self, offering: Offering, now: datetime) -> datetime | None:
        """Return when the mark on an offering runs out; None where it has none at `now`.

        A mark on a type in any zone marks it in each.
        """
        anywhere = replace(offering, zone=ANY_ZONE)
        until = [self.of[key].until for key in {offering, anywhere} if key in self.of]
        return max((moment for moment in until if moment > now), default=None)

    def next_expiry(self, now: datetime) -> datetime | None:
        """Return when the next mark runs out; None where none holds."""
        return min((mark.until for mark in self.of.values() if mark.until > now), default=None)

    def _ttl(self, errors: int) -> timedelta:
        # The power is bounded for the sake of timedelta, which holds a million days times a thousand and no more.
        doubled: timedelta = self.policy.ttl * 2 ** min(errors - 1, 20)
        return min(doubled, self.policy.longest)


def rank(offerings: tuple[Offering, ...], marks: Marks, now: datetime) -> tuple[tuple[Offering, ...], datetime | None]:
    """Return the offerings with those that had no capacity last, and when the next of these marks runs out.

    Unmarked ones keep their order. Marked ones follow, soonest free first; the time is None where none is marked.
    """
    expiry = {offering: marks.expires(offering, now) for offering in offerings}
    free = [offering for offering in offerings if expiry[offering] is None]
    held = sorted(((until, index) for index, o in enumerate(offerings) if (until := expiry[o]) is not None))
    return (*free, *(offerings[index] for _, index in held)), held[0][0] if held else None
