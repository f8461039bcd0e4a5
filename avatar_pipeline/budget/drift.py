"""How far what we say was spent is from what the bill says."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from avatar_pipeline.budget.types import NONE

ALARM = Decimal("0.05")
"""A difference of more than this share of the bill is to be looked at."""


@dataclass(frozen=True, slots=True)
class Drift:
    """`difference` is ours less theirs, in US dollars; `share` its size as a share of theirs. `alarm`: above 5 %.

    Where they bill nothing and we have something, the share is 1: all of ours is unexplained.
    """

    ours: Decimal
    theirs: Decimal
    difference: Decimal
    share: Decimal
    alarm: bool


def drift(ours: Decimal, theirs: Decimal, *, most: Decimal = ALARM) -> Drift:
    """Compare what we recorded with what was billed for the same time; more than `most` of theirs is an alarm."""
    difference = ours - theirs
    if theirs > 0:
        # Compared before the division, which rounds.
        return Drift(ours, theirs, difference, abs(difference) / theirs, abs(difference) > most * theirs)
    share = Decimal(1) if difference else NONE
    return Drift(ours, theirs, difference, share, share > most)
