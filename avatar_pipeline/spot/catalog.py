"""The GPU machines of EC2 that steps are placed on, what fits on them, and what they cost when nobody knows better.

Sizes, GPUs and pods per node: the public instance tables of AWS, as Karpenter v1.14 labels them. On-demand prices:
us-east-1, Linux, as in the price table that Karpenter generates (2026-07-20). Spot prices: medians over the zones of
us-east-1 in a snapshot of skypilot-org/skypilot-catalog, which itself carries no date. In other regions, and on other
days, prices differ: whoever has real ones brings a `PriceBook` of their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Protocol

from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.spot.types import CapacityType, Offering

ON_DEMAND_PRICES_AS_OF = date(2026, 7, 20)
ON_DEMAND_PRICES_SOURCE = "aws/karpenter-provider-aws, generated price table, us-east-1, Linux"
SPOT_PRICES_AS_OF = date(2026, 11, 24)
"""The day the snapshot was read: not later than this."""
SPOT_PRICES_SOURCE = "skypilot-org/skypilot-catalog v8 at e385a0d, us-east-1, median over zones"
PRICE_CAP = Decimal("40")
"""US dollars an hour for what is in no table: more than the dearest machine in this one."""

DAEMON_CPUS = 0.4
DAEMON_MEMORY_MIB = 768
"""Left free on each node for its DaemonSets (CNI, kube-proxy, CSI, device plugin, GPU and log exporters)."""


@dataclass(frozen=True, slots=True)
class InstanceType:
    """A kind of machine. Memory in MiB; `gpu_memory_mib` is of one GPU, as `karpenter.k8s.aws/instance-gpu-memory`.

    `max_pods` is what the AWS CNI allows; the kubelet reserves memory by it. `on_demand` is US dollars an hour.
    """

    name: str
    vcpus: int
    memory_mib: int
    gpus: int
    gpu_name: str
    gpu_memory_mib: int
    max_pods: int
    on_demand: Decimal

    @property
    def family(self) -> str:
        """`g5` of `g5.xlarge`."""
        return self.name.partition(".")[0]

    @property
    def size(self) -> str:
        """`xlarge` of `g5.xlarge`."""
        return self.name.partition(".")[2]

    @property
    def free_cpus(self) -> float:
        """Cores that one step can ask for: what the kubelet offers, less the DaemonSets' share.

        The kubelet of EKS reserves 6 % of the first core, 1 % of the second, 0.5 % of the next two, 0.25 % of the rest.
        """
        reserved = 0.06 + 0.01 * (self.vcpus > 1) + 0.005 * min(max(self.vcpus - 2, 0), 2)
        return self.vcpus - reserved - 0.0025 * max(self.vcpus - 4, 0) - DAEMON_CPUS

    @property
    def free_memory_mib(self) -> int:
        """MiB that one step can ask for: what the kubelet offers, less the DaemonSets' share.

        As Karpenter reckons before it has seen a node: 7.5 % less for the hypervisor and the system; the kubelet
        reserves 255 MiB and 11 MiB for each possible pod, and evicts below 100 MiB.
        """
        seen_by_the_system = int(self.memory_mib * 0.925)
        return seen_by_the_system - 255 - 11 * self.max_pods - 100 - DAEMON_MEMORY_MIB


_GPUS = {"g4dn": ("t4", 16384), "g5": ("a10g", 22888), "g6": ("l4", 22888), "g6e": ("l40s", 45776)}


def _of(name: str, vcpus: int, memory_gib: int, gpus: int, max_pods: int, on_demand: str) -> InstanceType:
    gpu_name, gpu_memory = _GPUS[name.partition(".")[0]]
    return InstanceType(name, vcpus, memory_gib * 1024, gpus, gpu_name, gpu_memory, max_pods, Decimal(on_demand))


CATALOG: tuple[InstanceType, ...] = (
    _of("g4dn.xlarge", 4, 16, 1, 29, "0.526"),
    _of("g4dn.2xlarge", 8, 32, 1, 29, "0.752"),
    _of("g4dn.4xlarge", 16, 64, 1, 29, "1.204"),
    _of("g4dn.8xlarge", 32, 128, 1, 58, "2.176"),
    _of("g4dn.16xlarge", 64, 256, 1, 58, "4.352"),
    _of("g4dn.12xlarge", 48, 192, 4, 234, "3.912"),
    _of("g4dn.metal", 96, 384, 8, 737, "7.824"),
    _of("g5.xlarge", 4, 16, 1, 58, "1.006"),
    _of("g5.2xlarge", 8, 32, 1, 58, "1.212"),
    _of("g5.4xlarge", 16, 64, 1, 234, "1.624"),
    _of("g5.8xlarge", 32, 128, 1, 234, "2.448"),
    _of("g5.16xlarge", 64, 256, 1, 234, "4.096"),
    _of("g5.12xlarge", 48, 192, 4, 737, "5.672"),
    _of("g5.24xlarge", 96, 384, 4, 737, "8.144"),
    _of("g5.48xlarge", 192, 768, 8, 345, "16.288"),
    _of("g6.xlarge", 4, 16, 1, 58, "0.8048"),
    _of("g6.2xlarge", 8, 32, 1, 58, "0.9776"),
    _of("g6.4xlarge", 16, 64, 1, 234, "1.3232"),
    _of("g6.8xlarge", 32, 128, 1, 234, "2.0144"),
    _of("g6.16xlarge", 64, 256, 1, 737, "3.3968"),
    _of("g6.12xlarge", 48, 192, 4, 234, "4.6016"),
    _of("g6.24xlarge", 96, 384, 4, 737, "6.6752"),
    _of("g6.48xlarge", 192, 768, 8, 737, "13.3504"),
    _of("g6e.xlarge", 4, 32, 1, 58, "1.861"),
    _of("g6e.2xlarge", 8, 64, 1, 58, "2.24208"),
    _of("g6e.4xlarge", 16, 128, 1, 234, "3.00424"),
    _of("g6e.8xlarge", 32, 256, 1, 234, "4.52856"),
    _of("g6e.16xlarge", 64, 512, 1, 737, "7.57719"),
    _of("g6e.12xlarge", 48, 384, 4, 292, "10.49264"),
    _of("g6e.24xlarge", 96, 768, 4, 492, "15.06559"),
    _of("g6e.48xlarge", 192, 1536, 8, 492, "30.13118"),
)

_SPOT_SEEN = {
    "g4dn.xlarge": Decimal("0.2131"),
    "g5.xlarge": Decimal("0.4886"),
    "g5.4xlarge": Decimal("0.6842"),
    "g5.8xlarge": Decimal("0.9951"),
    "g5.12xlarge": Decimal("2.0049"),
    "g6.xlarge": Decimal("0.4083"),
    "g6.8xlarge": Decimal("0.8285"),
    "g6e.xlarge": Decimal("0.8902"),
    "g6e.4xlarge": Decimal("1.0261"),
    "g6e.12xlarge": Decimal("4.4325"),
}
_SPOT_RATIO = {"g4dn": Decimal("0.41"), "g5": Decimal("0.49"), "g6": Decimal("0.51"), "g6e": Decimal("0.48")}
"""Spot over on-demand for sizes that the snapshot lacks: the highest median of the family, rounded up."""


class PriceBook(Protocol):
    """Whoever knows what an offering costs now."""

    def per_hour(self, offering: Offering) -> Decimal:
        """US dollars an hour, never 0 or less."""
        ...


@dataclass(frozen=True, slots=True)
class TablePrices:
    """Prices of the dated tables above; `cap` for what is in none of them. The zone makes no difference.

    Raises:
        InvalidInput: `cap` is not more than 0.
    """

    cap: Decimal = PRICE_CAP
    catalog: tuple[InstanceType, ...] = field(default=CATALOG, repr=False)

    def __post_init__(self) -> None:
        if not (self.cap.is_finite() and self.cap > 0):
            raise InvalidInput(
                f"The price cap is {self.cap} US dollars an hour; it must be more than 0.",
                remedy="Give the most that an hour of any machine may cost.",
            )

    def per_hour(self, offering: Offering) -> Decimal:
        """US dollars an hour; spot never more than on-demand."""
        kind = by_name(offering.instance_type, self.catalog)
        if kind is None:
            return self.cap
        if offering.capacity_type is CapacityType.ON_DEMAND:
            return kind.on_demand
        seen = _SPOT_SEEN.get(kind.name)
        guess = kind.on_demand * _SPOT_RATIO.get(kind.family, Decimal(1))
        return min(seen or guess.quantize(Decimal("0.0001")), kind.on_demand)


def price(offering: Offering, cap: Decimal = PRICE_CAP) -> Decimal:
    """US dollars an hour by the dated tables; `cap` where they do not know it, never 0."""
    return TablePrices(cap).per_hour(offering)


def by_name(name: str, catalog: Iterable[InstanceType] = CATALOG) -> InstanceType | None:
    """Return the instance type of this name, None if it is not in the catalog."""
    return next((kind for kind in catalog if kind.name == name), None)
