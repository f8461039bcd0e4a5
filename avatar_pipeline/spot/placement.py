"""Where the next attempt of a step runs: its history, marks, the fleet and its deadline in, a placement out. Pure.

The capacity type is decided first, by the strategy; then which offerings of it, by what had no capacity lately. Where
no spot offering is left to try, an attempt that was meant for spot goes to on-demand at once. With `spot_only` it waits
for spot instead. To wait costs nothing: no machine runs, and each attempt is as long as its pod may be pending.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.spot import urgency
from avatar_pipeline.spot.classification import CONSEQUENCES, Budget
from avatar_pipeline.spot.deadline import Mode
from avatar_pipeline.spot.mixed import Fleet, next_capacity_type, on_demand_target
from avatar_pipeline.spot.offerings import diversify
from avatar_pipeline.spot.situation import Marks, PlacementPolicy, Situation, Strategy, Work
from avatar_pipeline.spot.tags import CAPACITY_TAG
from avatar_pipeline.spot.types import Attempt, CapacityType, Ending, Offering, Placement

__all__ = [
    "Fleet",
    "Marks",
    "PlacementPolicy",
    "Situation",
    "Strategy",
    "Work",
    "budget_left",
    "interruptions",
    "next_profile",
    "over_budget",
    "place",
    "should_move",
    "while_pending",
]

SPOT, ON_DEMAND = CapacityType.SPOT, CapacityType.ON_DEMAND
_SPOT_ONLY = f"spot only (tag {CAPACITY_TAG})"
_AGAIN = "; no capacity, tried again"


@dataclass(frozen=True, slots=True)
class _Choice:
    """A capacity type, and why. `queued`: wait for it, even where it had no capacity a moment ago."""

    capacity_type: CapacityType
    why: str
    queued: bool = False


def place(situation: Situation, policy: PlacementPolicy) -> Placement:
    """Decide where the next attempt runs.

    Raises:
        InvalidInput: no offering of the only capacity type that may be used suits the profile.
    """
    return _offered(_choice(situation, policy), situation, policy)


def should_move(situation: Situation, current: Attempt, policy: PlacementPolicy) -> Placement | None:
    """Say where an attempt that runs is better moved to; None where it is to stay. Only a deadline moves anything.

    To on-demand, when an interruption of spot would make the step late and the move still does not. Back to spot, when
    that is likely to pay for both launches; not before it ran, nor for less work than is left, for
    `restarts_before_move` restarts. A step that never saved anything is not moved: it would begin anew.
    """
    work = situation.work
    if policy.spot_only:
        return None
    if policy.strategy is not Strategy.DEADLINE or work is None or urgency.last_progress(situation, current) is None:
        return None
    decision = urgency.while_running(situation, work, current, policy)
    here = current.placement.capacity_type
    if decision.mode is Mode.ON_DEMAND and here is SPOT:
        needed = work.remaining_seconds - urgency.unsaved_seconds(situation, work, current) + work.restart_seconds
        in_time = (work.deadline - situation.now).total_seconds() >= needed
        there = situation.to_be_had(ON_DEMAND, policy.mark_ttl)
        return _offered(_Choice(ON_DEMAND, decision.reason), situation, policy) if in_time and there else None
    if decision.mode is Mode.SPOT and here is ON_DEMAND and _pays(situation, work, current, policy):
        return _offered(_Choice(SPOT, decision.reason), situation, policy)
    return None


def while_pending(situation: Situation, current: Attempt, policy: PlacementPolicy) -> Placement | None:
    """Say where an attempt that waits for a spot machine goes instead, because its deadline does not let it wait.

    None where it is to go on waiting; its pending limit is another matter.
    """
    work = situation.work
    if policy.spot_only:
        return None
    if policy.strategy is not Strategy.DEADLINE or work is None or current.placement.capacity_type is not SPOT:
        return None
    decision = urgency.while_waiting(situation, work, current, policy)
    if decision.mode is not Mode.ON_DEMAND or not situation.to_be_had(ON_DEMAND, policy.mark_ttl):
        return None
    return _offered(_Choice(ON_DEMAND, decision.reason), situation, policy)


def next_profile(history: tuple[Attempt, ...], profile: str, bigger: Callable[[str], str | None]) -> str | None:
    """Return the profile of the next attempt; None where there is to be none.

    `profile` is the one that was asked for. After the first attempt that ran out of memory it is the next bigger, where
    there is one; after the second, or without a bigger one, the step fails.
    """
    out_of_memory = sum(attempt.ending is Ending.OUT_OF_MEMORY for attempt in history)
    if out_of_memory == 0:
        return profile
    return bigger(profile) if out_of_memory == 1 else None


def interruptions(history: tuple[Attempt, ...]) -> int:
    """Return how many attempts the interruption budget has paid for.

    A wait in vain on spot costs nothing: on-demand comes next, or spot alone is wanted and waited for. On on-demand it
    does: what nobody has capacity for would otherwise wait for ever.
    """
    return sum(
        CONSEQUENCES[attempt.ending].budget is Budget.INTERRUPTIONS
        or (attempt.ending is Ending.NO_CAPACITY and attempt.placement.capacity_type is ON_DEMAND)
        for attempt in history
        if attempt.ending is not None
    )


def budget_left(history: tuple[Attempt, ...], policy: PlacementPolicy) -> int:
    """Return how many more interruptions the step survives."""
    return max(0, policy.interruption_budget - interruptions(history))


def over_budget(history: tuple[Attempt, ...], policy: PlacementPolicy) -> bool:
    """Say whether the step was interrupted more often than it survives."""
    return interruptions(history) > policy.interruption_budget


def _choice(situation: Situation, policy: PlacementPolicy) -> _Choice:
    history, work = situation.history, situation.work
    if policy.spot_only:
        return _Choice(SPOT, _SPOT_ONLY, queued=True)
    if policy.strategy is Strategy.ON_DEMAND:
        return _Choice(ON_DEMAND, "the strategy is on-demand only")
    if interruptions(history) and not budget_left(history, policy):
        return _Choice(ON_DEMAND, "the next interruption would be one too many")
    share = _share(situation.fleet, policy)
    if share is not None:
        return share
    if policy.strategy is Strategy.DEADLINE and work is not None:
        return _by_deadline(situation, work, policy)
    return _by_ladder(history, policy.interruptions_before_on_demand)


def _by_deadline(situation: Situation, work: Work, policy: PlacementPolicy) -> _Choice:
    last = situation.history[-1] if situation.history else None
    if last is not None and last.ending is Ending.MOVED and last.placement.capacity_type is SPOT:
        # Its work is saved by now, so that spot may look well again; moving to and fro is what costs the time.
        return _Choice(ON_DEMAND, "moved off spot for its deadline")
    decision = urgency.before_placement(situation, work, policy)
    if decision.mode is Mode.ON_DEMAND:
        return _Choice(ON_DEMAND, decision.reason)
    return _Choice(SPOT, decision.reason, queued=decision.mode is Mode.IDLE)


def _by_ladder(history: tuple[Attempt, ...], limit: int) -> _Choice:
    counted = sum(_counts(attempt) for attempt in history)
    if counted >= limit:
        return _Choice(
            ON_DEMAND,
            f"interrupted {_times(counted)} on spot (the limit)" if counted else "no interruption on spot is allowed",
        )
    return _Choice(SPOT, f"interrupted {_times(counted)} of {limit}" if counted else "not interrupted so far")


def _pays(situation: Situation, work: Work, current: Attempt, policy: PlacementPolicy) -> bool:
    """Say whether a move back to spot is worth its trouble, borne by the budget, and leaves on-demand its share."""
    least = policy.restarts_before_move * work.restart_seconds
    ran = (situation.now - current.placed_at).total_seconds()
    others = Fleet(situation.fleet.spot, max(0, situation.fleet.on_demand - 1))
    return (
        min(ran, work.remaining_seconds) >= least
        and budget_left(situation.history, policy) > 0
        and _share(others, policy) is None
    )


def _counts(attempt: Attempt) -> bool:
    on_spot = attempt.placement.capacity_type is SPOT
    return on_spot and attempt.ending is not None and CONSEQUENCES[attempt.ending].counts_for_ladder


def _share(fleet: Fleet, policy: PlacementPolicy) -> _Choice | None:
    base, percentage = policy.on_demand_base, policy.on_demand_percentage_above_base
    if next_capacity_type(fleet, base=base, percentage_above_base=percentage) is SPOT:
        return None
    size = fleet.spot + fleet.on_demand + 1
    target = on_demand_target(size, base=base, percentage_above_base=percentage)
    return _Choice(ON_DEMAND, f"of {size} GPU steps {target} are to be (base {base}, {percentage} % above it)")


def _offered(choice: _Choice, situation: Situation, policy: PlacementPolicy) -> Placement:
    """Choose the offerings: those not passed over; else, for spot, those of on-demand; else the first to be free."""
    wanted = choice.capacity_type
    other = ON_DEMAND if wanted is SPOT else SPOT
    if situation.unrestricted:
        return _anything(choice, situation, policy)
    if not situation.offerings(wanted):
        if policy.spot_only:
            raise InvalidInput(
                f"No spot offering suits the profile {situation.profile!r}, and the run is to have {_SPOT_ONLY}.",
                remedy=f"Use a profile that spot machines suit, or run it without the tag {CAPACITY_TAG}.",
            )
        if policy.strategy is Strategy.ON_DEMAND:
            raise InvalidInput(
                f"No on-demand offering suits the profile {situation.profile!r}.",
                remedy="Allow on-demand in the profile, or use another strategy.",
            )
        choice = _Choice(other, f"no {wanted} offering suits the profile", queued=True)
        wanted = other
    free = situation.free(wanted, policy.mark_ttl)
    if free:
        return _placement(wanted, free, choice.why, situation, policy)
    if wanted is SPOT and not choice.queued and situation.on_demand:
        free = situation.free(ON_DEMAND, policy.mark_ttl)
        if free:
            return _placement(ON_DEMAND, free, "no spot capacity", situation, policy)
        return _first_free((SPOT, ON_DEMAND), "no capacity anywhere; tried again", situation, policy)
    silent = choice.queued and not policy.spot_only
    return _first_free((wanted,), choice.why if silent else f"{choice.why}{_AGAIN}", situation, policy)


def _anything(choice: _Choice, situation: Situation, policy: PlacementPolicy) -> Placement:
    """Choose without offerings to choose from: any machine of the capacity type."""
    fall_back = (
        choice.capacity_type is SPOT
        and not choice.queued
        and not situation.to_be_had(SPOT, policy.mark_ttl)
        and situation.to_be_had(ON_DEMAND, policy.mark_ttl)
    )
    if fall_back:
        return _placement(ON_DEMAND, (), "no spot capacity", situation, policy)
    in_vain = policy.spot_only and not situation.to_be_had(SPOT, policy.mark_ttl)
    return _placement(choice.capacity_type, (), f"{choice.why}{_AGAIN if in_vain else ''}", situation, policy)


def _first_free(kinds: tuple[CapacityType, ...], why: str, situation: Situation, policy: PlacementPolicy) -> Placement:
    """Choose the capacity type whose first offering may be tried again soonest, offerings in the order of that."""

    def until(offering: Offering) -> datetime:
        return situation.held_until(offering, policy.mark_ttl) or situation.now

    orders = {kind: tuple(sorted(situation.offerings(kind), key=until)) for kind in kinds}
    kind = min((kind for kind in kinds if orders[kind]), key=lambda kind: until(orders[kind][0]))
    return _placement(kind, orders[kind], why, situation, policy)


def _placement(
    capacity_type: CapacityType,
    offerings: tuple[Offering, ...],
    why: str,
    situation: Situation,
    policy: PlacementPolicy,
) -> Placement:
    chosen = offerings if policy.max_offerings is None else diversify(offerings, policy.max_offerings)
    return Placement(capacity_type, chosen, situation.profile, f"{capacity_type}: {why}")


def _times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number} times")
