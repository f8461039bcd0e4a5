"""What the parts of `spot` talk in: offerings, placements, attempts and how they ended. No Dagster, no Kubernetes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum


class CapacityType(StrEnum):
    """How a machine is paid for, as Karpenter spells it (label `karpenter.sh/capacity-type`)."""

    SPOT = "spot"
    ON_DEMAND = "on-demand"


class Ending(StrEnum):
    """How an attempt of a step ended. What follows from each is in `classification.CONSEQUENCES`."""

    SUCCEEDED = "succeeded"
    INTERRUPTED = "interrupted"
    """The machine was taken: spot reclaim, drain, eviction, a node that shut down or was lost."""
    VANISHED = "vanished"
    """The Kubernetes Job is not there any more, and nobody here deleted it."""
    SILENT_EXIT = "silent_exit"
    """The container ended with 0 and the event log never heard of it (dagster #33755)."""
    NO_CAPACITY = "no_capacity"
    """The pod stayed Pending past its limit."""
    MOVED = "moved"
    """We stopped it ourselves, to go on with it on another capacity type."""
    OUT_OF_MEMORY = "out_of_memory"
    IMAGE_PULL = "image_pull"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    """It ran into its active deadline."""
    USER_ERROR = "user_error"
    """The step's own code failed, or its process died of itself."""
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, order=True)
class Offering:
    """A thing one can buy: an instance type in a zone, paid for in one way."""

    instance_type: str
    zone: str
    capacity_type: CapacityType


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an attempt may run. `offerings` are best first and all of `capacity_type`; `reason` is for a person."""

    capacity_type: CapacityType
    offerings: tuple[Offering, ...]
    profile: str
    reason: str

    @property
    def instance_types(self) -> tuple[str, ...]:
        """The instance types, best first."""
        return tuple(dict.fromkeys(offering.instance_type for offering in self.offerings))

    @property
    def zones(self) -> tuple[str, ...]:
        """The zones, best first."""
        return tuple(dict.fromkeys(offering.zone for offering in self.offerings))


@dataclass(frozen=True, slots=True)
class Progress:
    """What a step has saved: `done` of `total` units, after `seconds` of work on them (all attempts), at `at`."""

    done: float
    total: float
    seconds: float
    at: datetime


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of a step, as the event log tells it. Numbers count from 0, over resumed and re-executed runs too.

    `ending` is None while it runs. `instance_type` and `zone` are what it got, where that was seen. `seconds` is from
    the pod's start to its end; `lost_seconds` the work since its last checkpoint; `price` US dollars an hour.
    """

    number: int
    placement: Placement
    placed_at: datetime
    ending: Ending | None = None
    ended_at: datetime | None = None
    instance_type: str | None = None
    zone: str | None = None
    seconds: float | None = None
    lost_seconds: float | None = None
    price: Decimal | None = None
    progress: Progress | None = None
