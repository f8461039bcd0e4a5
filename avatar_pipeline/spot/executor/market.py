"""What there is to choose from for a step: profiles, offerings with their marks and prices, the fleet, the deadline."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal

import dagster as dg
from dagster._core.execution.context.system import IStepContext

from avatar_pipeline.errors import AvatarError, InvalidInput
from avatar_pipeline.spot import labels
from avatar_pipeline.spot.catalog import PriceBook, TablePrices
from avatar_pipeline.spot.classification import CONSEQUENCES, Seen
from avatar_pipeline.spot.executor import launching
from avatar_pipeline.spot.executor.config import SpotConfig
from avatar_pipeline.spot.executor.door import Door
from avatar_pipeline.spot.executor.keeping import finished
from avatar_pipeline.spot.intervals import remaining_seconds
from avatar_pipeline.spot.offerings import MarkPolicy, Marks, rank, suitable
from avatar_pipeline.spot.placement import Fleet, Situation, Strategy, Work
from avatar_pipeline.spot.prices import PlacementPrices, prices_of
from avatar_pipeline.spot.profiles import ComputeProfile
from avatar_pipeline.spot.tags import wishes
from avatar_pipeline.spot.types import Attempt, CapacityType, Offering, Placement


class Market:
    """Knows the profiles, and remembers for the length of a run what had no capacity."""

    def __init__(self, config: SpotConfig, door: Door, *, prices: PriceBook | None = None) -> None:
        self._config = config
        self._door = door
        self._profiles: Mapping[str, ComputeProfile] = config.profiles()
        self._prices = prices or TablePrices()
        self._marks = Marks(MarkPolicy(ttl=timedelta(seconds=config.capacity_mark_seconds)))

    @property
    def may_move(self) -> bool:
        """Whether the strategy ever moves an attempt that runs or waits."""
        return self._config.policy.strategy is Strategy.DEADLINE

    def profile(self, name: str) -> ComputeProfile:
        """Return a profile.

        Raises:
            InvalidInput: there is none of that name.
        """
        if name not in self._profiles:
            raise InvalidInput(
                f"There is no compute profile {name!r}.",
                remedy=f"Use one of {', '.join(sorted(self._profiles))}, or define it in spot.profiles_file.",
            )
        return self._profiles[name]

    def profile_or_default(self, name: str) -> ComputeProfile:
        """Return the profile of an attempt that runs, or the default one where its own is not there any more."""
        return self._profiles.get(name) or self.profile(self._config.profile)

    def bigger(self, name: str) -> str | None:
        """Return the profile that an attempt takes after it ran out of memory."""
        return self.profile(name).bigger

    def note(self, attempt: Attempt) -> None:
        """Learn from an attempt that has ended."""
        if attempt.ending is not None and attempt.ended_at is not None:
            if CONSEQUENCES[attempt.ending].marks_offerings:
                self._marks = self._marks.failed(attempt.placement.offerings, attempt.ended_at)
            elif attempt.instance_type and attempt.zone:
                got = Offering(attempt.instance_type, attempt.zone, attempt.placement.capacity_type)
                self._marks = self._marks.worked(got)

    def prices(self, placement: Placement) -> PlacementPrices:
        """Return what a placement costs before it is known what it runs on."""
        return prices_of(placement, self._prices)

    def price(self, capacity_type: CapacityType, seen: Seen) -> Decimal | None:
        """Return US dollars an hour of the machine that an attempt ran on, paid for in this way; None if unseen."""
        if seen.instance_type is None:
            return None
        return self._prices.per_hour(Offering(seen.instance_type, seen.zone or "", capacity_type))

    def situation(
        self,
        step: IStepContext,
        run: dg.DagsterRun,
        history: tuple[Attempt, ...],
        profile: ComputeProfile,
        now: datetime,
        *,
        namespace: str,
    ) -> Situation:
        """Return all that the next placement of a step is decided by."""
        spot, on_demand = (self._offerings(profile, capacity_type, now) for capacity_type in CapacityType)
        prices = [self._prices.per_hour(offers[0]) if offers else None for offers in (spot, on_demand)]
        return Situation(
            history=history,
            spot=spot,
            on_demand=on_demand,
            profile=profile.name,
            marks=self._marks,
            fleet=self._fleet(namespace),
            work=self._work(step, run, history, now),
            now=now,
            spot_price=prices[0],
            on_demand_price=prices[1],
        )

    def _offerings(self, profile: ComputeProfile, capacity_type: CapacityType, now: datetime) -> tuple[Offering, ...]:
        return rank(suitable(profile, capacity_type, prices=self._prices), self._marks, now)[0]

    def _fleet(self, namespace: str) -> Fleet:
        """Count the GPU steps that run, of all runs; only where a share of them is to be on-demand."""
        if not (self._config.on_demand_base or self._config.on_demand_percentage_above_base):
            return Fleet()
        try:
            jobs = self._door.jobs(namespace, labels.CAPACITY_TYPE)
        except AvatarError:
            # Not to know the share is no reason not to run; it evens out with the next placement.
            return Fleet()
        kinds = [job["metadata"]["labels"][labels.CAPACITY_TYPE] for job in jobs if not finished(job)]
        return Fleet(spot=kinds.count(CapacityType.SPOT), on_demand=kinds.count(CapacityType.ON_DEMAND))

    def _work(self, step: IStepContext, run: dg.DagsterRun, history: tuple[Attempt, ...], now: datetime) -> Work | None:
        deadline = _deadline(step, run, history, now)
        if deadline is None:
            return None
        saved = [attempt.progress for attempt in history if attempt.progress is not None]
        left = remaining_seconds(saved[-1]) if saved else None
        if saved and left is not None:
            total = saved[-1].seconds + left
        else:
            expected = launching.tag(step, run, launching.EXPECTED_TAG)
            if expected is None:
                return None
            left = total = _positive(launching.EXPECTED_TAG, expected)
        return Work(deadline, left, total, self._config.restart_seconds)


def _deadline(step: IStepContext, run: dg.DagsterRun, history: tuple[Attempt, ...], now: datetime) -> datetime | None:
    """Return when a step is to be done: by the run's own deadline, or so long after its first attempt."""
    told = run.tags.get(launching.DEADLINE_TAG)
    if told is not None:
        try:
            deadline = datetime.fromisoformat(told)
        except ValueError:
            deadline = None
        if deadline is None or deadline.tzinfo is None:
            raise InvalidInput(
                f"The run tag {launching.DEADLINE_TAG} is {told!r}, not an ISO time with its zone.",
                remedy="For example 2026-11-24T18:00:00+00:00.",
            )
        return deadline
    allowed = wishes(dict(step.step.tags or {})).deadline
    if allowed is None:
        return None
    return (history[0].placed_at if history else now) + allowed


def _positive(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 10**9:
        raise InvalidInput(f"The tag {name} is {text!r}, not a number of seconds.", remedy="Give seconds above 0.")
    return value
