"""What an op's tags say about where it runs.

Op tags, since the tags of jobs and runs reach neither the pods of steps nor backfills.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from avatar_pipeline.errors import InvalidInput

COMPUTE_TAG = "avatar/compute"
"""`gpu`: a pod of its own, on a machine with a GPU. Anything else, or nothing: in the run's own pod."""
PROFILE_TAG = "avatar/profile"
DEADLINE_TAG = "avatar/deadline-seconds"
CAPACITY_TAG = "avatar/capacity"
"""On a run or an op: `spot` for spot only, as a budget asks for that runs low. Nothing: as the strategy says."""
_SPOT_ONLY = "spot"


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a step asks for. `profile` None: the executor's default. `deadline` counts from the start of the run."""

    gpu: bool = False
    profile: str | None = None
    deadline: timedelta | None = None


def gpu_op_tags(profile: str | None = None, *, deadline: timedelta | None = None) -> dict[str, str]:
    """Return the tags of an op that is to run on a GPU machine, on spot capacity where that is there.

    `profile` names a `ComputeProfile`. By `deadline`, counted from its first placement, the step should be done:
    the deadline-aware strategy pays for on-demand capacity where spot would miss it.

    Raises:
        InvalidInput: `deadline` is shorter than a second.
    """
    tags = {COMPUTE_TAG: "gpu"}
    if profile is not None:
        tags[PROFILE_TAG] = profile
    if deadline is not None:
        if deadline < timedelta(seconds=1):
            raise InvalidInput(f"The deadline of a step is {deadline}.", remedy="Give a second or more, or none.")
        tags[DEADLINE_TAG] = str(int(deadline.total_seconds()))
    return tags


def spot_only(capacity: str | None) -> bool:
    """Read the tag `avatar/capacity`: whether a step runs on spot and nowhere else.

    Raises:
        InvalidInput: it has a value that means nothing.
    """
    if capacity is not None and capacity != _SPOT_ONLY:
        raise InvalidInput(
            f"The tag {CAPACITY_TAG} is {capacity!r}.",
            remedy=f"Give {_SPOT_ONLY!r} for spot only, or leave the tag out.",
        )
    return capacity is not None


def cpu_op_tags() -> dict[str, str]:
    """Return the tags of an op that runs in the run's own pod."""
    return {COMPUTE_TAG: "cpu"}


def wishes(tags: Mapping[str, str]) -> Wishes:
    """Read the tags of a step.

    Raises:
        InvalidInput: the deadline is not a whole number of seconds above 0.
    """
    deadline = tags.get(DEADLINE_TAG)
    if deadline is not None and not (deadline.isascii() and deadline.isdigit() and 0 < int(deadline) < 10**9):
        raise InvalidInput(
            f"The op tag {DEADLINE_TAG} is {deadline!r}, not a number of seconds.",
            remedy="Use gpu_op_tags(deadline=...), or give whole seconds above 0.",
        )
    return Wishes(
        gpu=tags.get(COMPUTE_TAG) == "gpu",
        profile=tags.get(PROFILE_TAG),
        deadline=None if deadline is None else timedelta(seconds=int(deadline)),
    )
