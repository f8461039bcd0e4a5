"""The GPU machines of a scenario: as nodes that are there, or as offerings of an autoscaler."""

from __future__ import annotations

from avatar_pipeline.lab.cluster import Node, Offering, Taint

PLENTY = 6
"""Of each kind: what a scenario takes away is never all there is."""
_GPU = Taint("nvidia.com/gpu")
_SPOT = Taint("karpenter.sh/capacity-type", "spot")


def machines() -> list[Node]:
    """Return plenty of GPU nodes of either capacity type."""
    kinds = (("g5.xlarge", "a"), ("g6.xlarge", "b"), ("g5.2xlarge", "a"))
    return [
        Node.of(kind, name=f"{capacity}-{kind.replace('.', '-')}-{number}", zone=f"us-east-1{zone}",
                capacity_type=capacity, taints=(_GPU, _SPOT) if capacity == "spot" else (_GPU,))
        for capacity in ("spot", "on-demand")
        for kind, zone in kinds
        for number in range(PLENTY)
    ]  # fmt: skip


def market(delay_seconds: float) -> list[Offering]:
    """Return the same as offerings of an autoscaler."""
    return [
        Offering(
            kind, f"us-east-1{zone}", capacity, count=PLENTY, delay_seconds=delay_seconds,
            taints=(_GPU, _SPOT) if capacity == "spot" else (_GPU,),
        )
        for capacity in ("spot", "on-demand")
        for kind, zone in (("g5.xlarge", "a"), ("g6.xlarge", "b"), ("g5.2xlarge", "a"))
    ]  # fmt: skip
