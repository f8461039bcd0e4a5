"""The share of on-demand in a fleet, as an EC2 Auto Scaling group with a mixed instances policy keeps it.

The base comes first; of what is above it a percentage, and "if the result creates a fractional number, it rounds up to
the next integer in favor of On-Demand Instances" (Amazon EC2 Auto Scaling User Guide, Setup overview for creating a
mixed instances group:
https://docs.aws.amazon.com/autoscaling/ec2/userguide/mixed-instances-groups-set-up-overview.html).
Unlike EC2's, the default percentage is 0: who asks for this executor wants spot.
"""

from __future__ import annotations

from dataclasses import dataclass

from avatar_pipeline.spot.types import CapacityType


@dataclass(frozen=True, slots=True)
class Fleet:
    """GPU steps that run or are placed now, of the whole deployment; the one to be placed is not counted."""

    spot: int = 0
    on_demand: int = 0


def on_demand_target(size: int, *, base: int, percentage_above_base: int) -> int:
    """Return how many of a fleet of `size` are to be on-demand; never more than all."""
    above = max(0, size - base)
    return min(size, base) + -(-above * percentage_above_base // 100)


def next_capacity_type(fleet: Fleet, *, base: int, percentage_above_base: int) -> CapacityType:
    """Return what the next machine of the fleet is to be, so that with it the fleet has its share of on-demand.

    A group scales out by whichever kind it lacks. Steps end when they do, so a fleet may hold more on-demand than its
    share for a while; then the next one is on spot.
    """
    target = on_demand_target(fleet.spot + fleet.on_demand + 1, base=base, percentage_above_base=percentage_above_base)
    return CapacityType.ON_DEMAND if fleet.on_demand < target else CapacityType.SPOT
