"""How an attempt ended, from what the cluster shows of it, and what follows from that.

`classify` walks a table (`rules.RULES`) from top to bottom; the first rule that applies decides. `CONSEQUENCES` says
what each ending costs and asks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from avatar_pipeline.spot.facts import exit_code
from avatar_pipeline.spot.observation import Limits, Observation, Seen
from avatar_pipeline.spot.rules import RULES, Rule
from avatar_pipeline.spot.types import Ending

__all__ = [
    "CONSEQUENCES",
    "RULES",
    "Budget",
    "Consequence",
    "Limits",
    "Observation",
    "Rule",
    "Seen",
    "Verdict",
    "classify",
]


class Budget(StrEnum):
    """What pays for another attempt."""

    NOTHING = "nothing"
    INTERRUPTIONS = "interruptions"
    """The interruption budget of the placement policy."""
    RETRY_POLICY = "retry policy"
    """The op's own RetryPolicy."""


@dataclass(frozen=True, slots=True)
class Consequence:
    """What follows from an ending.

    `retry`: another attempt, as long as `budget` pays for it. `counts_for_ladder`: on spot, it is a step towards
    on-demand. `marks_offerings`: what it asked for has no capacity for a while. `bigger_profile_once`: the next attempt
    takes the next bigger profile, and a second such ending is final.
    """

    retry: bool
    budget: Budget = Budget.NOTHING
    counts_for_ladder: bool = False
    marks_offerings: bool = False
    bigger_profile_once: bool = False


CONSEQUENCES: Mapping[Ending, Consequence] = MappingProxyType(
    {
        Ending.SUCCEEDED: Consequence(retry=False),
        Ending.INTERRUPTED: Consequence(retry=True, budget=Budget.INTERRUPTIONS, counts_for_ladder=True),
        Ending.VANISHED: Consequence(retry=True, budget=Budget.INTERRUPTIONS),
        Ending.SILENT_EXIT: Consequence(retry=True, budget=Budget.INTERRUPTIONS),
        # On on-demand `placement.budget_left` charges it to the interruptions, or a step could wait for ever.
        Ending.NO_CAPACITY: Consequence(retry=True, marks_offerings=True),
        Ending.MOVED: Consequence(retry=True),
        Ending.OUT_OF_MEMORY: Consequence(retry=True, bigger_profile_once=True),
        Ending.IMAGE_PULL: Consequence(retry=True, budget=Budget.RETRY_POLICY),
        Ending.DEADLINE_EXCEEDED: Consequence(retry=True, budget=Budget.RETRY_POLICY),
        Ending.USER_ERROR: Consequence(retry=True, budget=Budget.RETRY_POLICY),
        Ending.CANCELLED: Consequence(retry=False),
    }
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an attempt ended. `reason` is for a person and names what was seen; `rule` is the row of the table."""

    ending: Ending
    reason: str
    seen: Seen
    exit_code: int | None = None
    rule: str = ""


def classify(observation: Observation) -> Verdict | None:
    """Say how the attempt ended, or None while it is alive, not decided yet, or has said itself how it ended.

    Where None is returned, look again: every state that can last is bounded by one of the `Limits`, but for a step
    that runs, and a Job that a queueing system holds back (suspended or gated).
    """
    for rule in RULES:
        reason = rule.applies(observation)
        if reason is not None:
            if rule.ending is None:
                return None
            return Verdict(rule.ending, reason, observation.seen, exit_code(observation), rule.name)
    return None
