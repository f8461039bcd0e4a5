"""How often work should be saved, how often a machine is taken, and how much work is left."""

from __future__ import annotations

import math
from collections.abc import Iterable

from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.spot.types import Attempt, CapacityType, Ending, Progress

PRIOR_INTERRUPTIONS = 1.0
PRIOR_SECONDS = 3600.0
"""What is taken as seen before anything was: one interruption in one hour on spot."""


def checkpoint_interval(cost_seconds: float, mtbf_seconds: float) -> float:
    """Return the seconds of work between two checkpoints that lose the least time in all.

    With the cost c of a checkpoint and the mean time M between interruptions, J. T. Daly's perturbation solution, "A
    higher order estimate of the optimum checkpoint interval for restart dumps", Future Generation Computer Systems 22
    (2006), 303-312, equation 37:

        sqrt(2 c M) · (1 + sqrt(c / 2M) / 3 + (c / 2M) / 9) - c   for c < 2M,    M   otherwise.

    Its first term is J. W. Young's, CACM 17 (1974), 530-531. It assumes interruptions at random (a Poisson process).

    Raises:
        InvalidInput: the cost is below 0 or the mean time not above 0.
    """
    if not cost_seconds >= 0 or math.isinf(cost_seconds):
        raise InvalidInput(f"A checkpoint cannot cost {cost_seconds} s.", remedy="Give a cost of 0 s or more.")
    if not mtbf_seconds > 0:
        raise InvalidInput(
            f"The mean time between interruptions cannot be {mtbf_seconds} s.", remedy="Give more than 0 s."
        )
    if cost_seconds == 0:
        return 0.0
    if cost_seconds >= 2 * mtbf_seconds:
        return mtbf_seconds
    ratio = cost_seconds / (2 * mtbf_seconds)
    young = math.sqrt(2 * cost_seconds) * math.sqrt(mtbf_seconds)
    return young * (1 + math.sqrt(ratio) / 3 + ratio / 9) - cost_seconds


def interruption_mtbf(
    attempts: Iterable[Attempt],
    *,
    prior_interruptions: float = PRIOR_INTERRUPTIONS,
    prior_seconds: float = PRIOR_SECONDS,
) -> float:
    """Return the mean seconds between interruptions that is to be expected on spot, from what these attempts met.

    Interruptions are taken as a Poisson process whose rate has a gamma prior, `prior_interruptions` in
    `prior_seconds`; after n interruptions in t seconds its mean is (n0 + n) / (t0 + t) (Gelman et al., Bayesian Data
    Analysis, 3rd edition, section 2.6, Poisson model with exposure), and this is the inverse of that. So a step without
    a past gets a sane figure, and one lucky hour moves it little.

    Raises:
        InvalidInput: a prior that is not above 0.
    """
    if not (prior_interruptions > 0 and prior_seconds > 0):
        raise InvalidInput(
            f"A prior of {prior_interruptions} interruptions in {prior_seconds} s says nothing.",
            remedy="Give both as more than 0.",
        )
    spot = [attempt for attempt in attempts if attempt.placement.capacity_type is CapacityType.SPOT]
    interruptions = sum(attempt.ending is Ending.INTERRUPTED for attempt in spot)
    return (prior_seconds + sum(_exposure(attempt) for attempt in spot)) / (prior_interruptions + interruptions)


def remaining_seconds(progress: Progress | None) -> float | None:
    """Return the seconds of work left at the pace so far; None where nothing was saved from which to tell."""
    if progress is None or progress.done <= 0 or progress.seconds < 0:
        return None
    return max(0.0, progress.total - progress.done) * progress.seconds / progress.done


def _exposure(attempt: Attempt) -> float:
    """Seconds on a machine; where its pod's own times were not seen, from its placement to its end at most."""
    if attempt.seconds is not None:
        return max(0.0, attempt.seconds)
    if attempt.ended_at is None or attempt.ending is not Ending.INTERRUPTED:
        return 0.0
    return max(0.0, (attempt.ended_at - attempt.placed_at).total_seconds())
