"""What follows from how attempts ended, by the description of the rules; the executor's code is not asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from avatar_pipeline.spot.types import CapacityType, Ending

SPOT, ON_DEMAND = CapacityType.SPOT, CapacityType.ON_DEMAND
EITHER = frozenset({SPOT, ON_DEMAND})
PROFILES = ("gpu-small", "gpu-medium")

_OWN_MISTAKES = frozenset({Ending.USER_ERROR, Ending.IMAGE_PULL, Ending.DEADLINE_EXCEEDED})
_INTERRUPTIONS = frozenset({Ending.INTERRUPTED, Ending.VANISHED, Ending.SILENT_EXIT})


@dataclass(frozen=True, slots=True)
class Rules:
    """What a run's attempts are bounded by. `retries` is the op's RetryPolicy."""

    ladder: int = 2
    budget: int = 10
    retries: int = 0


@dataclass(frozen=True, slots=True)
class Past:
    """An attempt that has ended."""

    ending: Ending
    capacity: CapacityType


@dataclass(frozen=True, slots=True)
class Next:
    """What follows: another attempt on one of `capacity` with `profile`, or, where that is empty, the end: `over`."""

    capacity: frozenset[CapacityType]
    profile: str
    over: str = ""


def what_follows(history: Sequence[Past], rules: Rules, *, forgot: bool = False, since: int = 0) -> Next:
    """Return what follows from these attempts.

    `forgot`: a new run worker does not know what had no capacity. `since`: the first attempt of the present run; those
    before it are of runs that it replaces, which count for its place on the ladder and not for its budgets.
    """
    endings = [past.ending for past in history[since:]]
    profile = PROFILES[min(endings.count(Ending.OUT_OF_MEMORY), len(PROFILES) - 1)]
    if over := _over(history[since:], endings, rules):
        return Next(frozenset(), profile, over)
    return Next(_capacity(history, rules, forgot, since), profile)


def mistakes(history: Sequence[Past]) -> int:
    """Return how many attempts the op's RetryPolicy pays for."""
    return sum(past.ending in _OWN_MISTAKES for past in history)


def spent(history: Sequence[Past]) -> int:
    """Return how many attempts the interruption budget pays for."""
    return sum(past.ending in _INTERRUPTIONS or past == Past(Ending.NO_CAPACITY, ON_DEMAND) for past in history)


def _over(own: Sequence[Past], endings: Sequence[Ending], rules: Rules) -> str:
    if not own:
        return ""
    if endings[-1] is Ending.SUCCEEDED:
        return "success"
    if endings[-1] in _OWN_MISTAKES and mistakes(own) > rules.retries:
        return "failure: the RetryPolicy is used up"
    if endings[-1] is Ending.OUT_OF_MEMORY and endings.count(Ending.OUT_OF_MEMORY) > 1:
        return "failure: out of memory twice"
    if spent(own) > rules.budget:
        return "failure: interrupted too often"
    return ""


def _capacity(history: Sequence[Past], rules: Rules, forgot: bool, since: int) -> frozenset[CapacityType]:
    on_spot = sum(past == Past(Ending.INTERRUPTED, SPOT) for past in history)
    if on_spot >= rules.ladder or (spent(history[since:]) and spent(history[since:]) >= rules.budget):
        return frozenset({ON_DEMAND})
    if spent(history) >= rules.budget and since:
        return EITHER
    vain = {past.capacity for past in history if past.ending is Ending.NO_CAPACITY}
    if not vain:
        return frozenset({SPOT})
    return frozenset({ON_DEMAND}) if vain == {SPOT} and not forgot else EITHER
