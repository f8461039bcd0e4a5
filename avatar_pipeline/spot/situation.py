"""What a placement is decided by: the policy that the user configures, and the situation at the moment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from itertools import takewhile
from typing import Protocol

from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.spot.deadline import DeadlinePolicy, Policy
from avatar_pipeline.spot.mixed import Fleet
from avatar_pipeline.spot.types import Attempt, CapacityType, Ending, Offering


class Strategy(StrEnum):
    """How the capacity type is chosen."""

    ON_DEMAND = "on_demand"
    """Never spot."""
    SPOT_THEN_ON_DEMAND = "spot_then_on_demand"
    """Spot until so many interruptions, from then on on-demand."""
    DEADLINE = "deadline"
    """As the time left asks; where no deadline is known, as above."""


@dataclass(frozen=True, slots=True)
class PlacementPolicy:
    """How steps are placed.

    strategy: how the capacity type is chosen.
    interruptions_before_on_demand: interruptions that a step bears on spot before it goes to on-demand for good.
    on_demand_base, on_demand_percentage_above_base: the on-demand share of the fleet (`mixed`).
    interruption_budget: interruptions that a step survives in all; one more fails it.
    mark_ttl: how long an offering that was tried without success is passed over.
    max_offerings: instance type and zone pairs that one attempt may choose from; None for all.
    deadline: who decides under `Strategy.DEADLINE`; decision_seconds: how often it is asked.
    restarts_before_move: a running attempt is moved to spot only after it ran for so many restarts, and if so many
        restarts' worth of work is left.
    spot_only: never on-demand, whatever the strategy: where spot has no capacity, it is waited for.

    Raises:
        InvalidInput: a number out of its range.
    """

    strategy: Strategy = Strategy.SPOT_THEN_ON_DEMAND
    interruptions_before_on_demand: int = 2
    on_demand_base: int = 0
    on_demand_percentage_above_base: int = 0
    interruption_budget: int = 10
    mark_ttl: timedelta = timedelta(seconds=180)
    max_offerings: int | None = None
    deadline: Policy = field(default_factory=DeadlinePolicy)
    decision_seconds: float = 60.0
    restarts_before_move: float = 3.0
    spot_only: bool = False

    def __post_init__(self) -> None:
        self._at_least(0, "interruptions_before_on_demand", "on_demand_base", "interruption_budget")
        self._at_least(0, "on_demand_percentage_above_base", "restarts_before_move", "decision_seconds")
        if self.on_demand_percentage_above_base > 100:
            raise InvalidInput(
                f"on_demand_percentage_above_base is {self.on_demand_percentage_above_base}.",
                remedy="Give a percentage from 0 to 100.",
            )
        if self.max_offerings is not None:
            self._at_least(1, "max_offerings")
        if self.mark_ttl < timedelta(0):
            raise InvalidInput(f"mark_ttl is {self.mark_ttl}.", remedy="Give a time of 0 or more.")

    def _at_least(self, least: int, *names: str) -> None:
        for name in names:
            if not getattr(self, name) >= least:
                raise InvalidInput(f"{name} is {getattr(self, name)}.", remedy=f"Give a number of {least} or more.")


@dataclass(frozen=True, slots=True)
class Work:
    """A deadline and the work: what is left as of the last checkpoint and in all, and what a launch costs, in seconds.

    A launch costs until work goes on: a machine, the image, loading.
    """

    deadline: datetime
    remaining_seconds: float
    total_seconds: float
    restart_seconds: float


class Marks(Protocol):
    """Offerings that had no capacity, each with when it may be tried again (`offerings.Marks`)."""

    def expires(self, offering: Offering, now: datetime) -> datetime | None:
        """Return when the mark on an offering runs out; None where it has none at `now`."""
        ...


@dataclass(frozen=True, slots=True)
class Situation:
    """All that a placement is decided by.

    `history` holds the step's attempts so far; one that runs may be its last. `spot` and `on_demand` are best first;
    where both are empty, any machine of the capacity type will do. Prices are US dollars an hour of the best offering.
    """

    history: tuple[Attempt, ...]
    spot: tuple[Offering, ...]
    on_demand: tuple[Offering, ...]
    profile: str
    marks: Marks
    fleet: Fleet
    work: Work | None
    now: datetime
    spot_price: Decimal | None = None
    on_demand_price: Decimal | None = None

    def offerings(self, capacity_type: CapacityType) -> tuple[Offering, ...]:
        """Return what there is of a capacity type, best first."""
        return self.spot if capacity_type is CapacityType.SPOT else self.on_demand

    @property
    def unrestricted(self) -> bool:
        """Whether any machine of a capacity type will do."""
        return not self.spot and not self.on_demand

    def held_until(self, offering: Offering, ttl: timedelta) -> datetime | None:
        """Return until when an offering is passed over: it is marked, or this step just tried it in vain."""
        tried = (at for attempt, at in self.in_vain(ttl) if offering in attempt.placement.offerings)
        until = (self.marks.expires(offering, self.now), *(at + ttl for at in tried))
        return max((time for time in until if time is not None), default=None)

    def free(self, capacity_type: CapacityType, ttl: timedelta) -> tuple[Offering, ...]:
        """Return the offerings of a capacity type that are not passed over, best first."""
        return tuple(each for each in self.offerings(capacity_type) if self.held_until(each, ttl) is None)

    def to_be_had(self, capacity_type: CapacityType, ttl: timedelta) -> bool:
        """Say whether there is something of a capacity type to try: nothing says that there is no capacity of it."""
        if self.unrestricted:
            return not any(each.placement.capacity_type is capacity_type for each, _ in self.in_vain(ttl))
        return bool(self.free(capacity_type, ttl))

    def in_vain(self, ttl: timedelta) -> Iterator[tuple[Attempt, datetime]]:
        """Yield the attempts without capacity since the last that had some, the latest first, with when they ended.

        They hold however short a mark lasts, so that a step gets round to everything it could have before it tries
        anything again. Those of a run that ended long before this one began are past.
        """
        ended = [(attempt, attempt.ended_at) for attempt in self.history if attempt.ending is not None]
        if not ended or ended[-1][1] is None or self.now - ended[-1][1] > ttl:
            return
        for attempt, at in takewhile(lambda each: each[0].ending is Ending.NO_CAPACITY, reversed(ended)):
            if at is not None:
                yield attempt, at
