"""Machines of the cluster: nodes, taints, and the offerings from which the autoscaler makes nodes."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from avatar_pipeline.errors import InvalidInput

INSTANCE_TYPE = "node.kubernetes.io/instance-type"
ZONE = "topology.kubernetes.io/zone"
CAPACITY_TYPE = "karpenter.sh/capacity-type"
GPU_PRODUCT = "nvidia.com/gpu.product"
GPU = "nvidia.com/gpu"
UNREACHABLE = "node.kubernetes.io/unreachable"
DISRUPTED = "karpenter.sh/disrupted"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"

_VCPUS = {"large": 2, "xlarge": 4, "2xlarge": 8, "4xlarge": 16, "8xlarge": 32, "12xlarge": 48, "16xlarge": 64,
          "24xlarge": 96, "48xlarge": 192, "metal": 96}  # fmt: skip
_GIB_A_VCPU = {"g4dn": 4, "g5": 4, "g6": 4, "g6e": 8, "c7i": 2, "m7i": 4, "r7i": 8, "m5": 4, "c5": 2}
_GPU_NAMES = {"g4dn": "Tesla-T4", "g5": "NVIDIA-A10G", "g6": "NVIDIA-L4", "g6e": "NVIDIA-L40S"}
_GPUS = {"12xlarge": 4, "24xlarge": 4, "48xlarge": 8, "metal": 8}
_serial = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Taint:
    """A taint of a node: who does not tolerate it is not scheduled there, or not left there (`NoExecute`)."""

    key: str
    value: str = ""
    effect: str = "NoSchedule"

    def as_json(self) -> dict[str, str]:
        """Return it as the API writes it."""
        return {"key": self.key, "effect": self.effect} | ({"value": self.value} if self.value else {})


@dataclass(frozen=True, slots=True)
class Node:
    """A machine: its name, what it has, its labels and taints."""

    name: str
    cpu: float | str = 4
    memory: str = "16Gi"
    gpus: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    pods: int = 110

    @classmethod
    def of(
        cls,
        instance_type: str,
        *,
        zone: str = "us-east-1a",
        capacity_type: str = "on-demand",
        name: str | None = None,
        labels: Mapping[str, str] | None = None,
        taints: tuple[Taint, ...] = (),
    ) -> Node:
        """Return a node of an EC2 instance type, with the labels that EKS and Karpenter give it.

        Raises InvalidInput for an instance type whose size is not known.
        """
        cpu, memory, gpus, product = instance_size(instance_type)
        named = {INSTANCE_TYPE: instance_type, ZONE: zone, CAPACITY_TYPE: str(capacity_type)}
        if product:
            named[GPU_PRODUCT] = product
        name = name or f"{instance_type.replace('.', '-')}-{zone[-1]}-{capacity_type}-{next(_serial)}"
        return cls(name, cpu, memory, gpus, {**named, **(labels or {})}, taints)

    def as_json(self) -> dict[str, Any]:
        """Return the Node object that the API gives."""
        amounts = {"cpu": str(self.cpu), "memory": self.memory, "pods": str(self.pods)}
        if self.gpus:
            amounts[GPU] = str(self.gpus)
        labels = {"kubernetes.io/hostname": self.name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
        return {
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": self.name, "labels": labels | dict(self.labels)},
            "spec": {
                "providerID": f"aws:///{self.labels.get(ZONE, 'us-east-1a')}/i-{zlib.crc32(self.name.encode()):017x}",
                **({"taints": [taint.as_json() for taint in self.taints]} if self.taints else {}),
            },
            "status": {
                "capacity": dict(amounts), "allocatable": dict(amounts),
                "conditions": [], "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            },
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Offering:
    """What the autoscaler may buy: up to `count` nodes of an instance type in a zone, each after `delay_seconds`.

    `labels` and `taints` are those of its nodes, beside the usual ones.
    """

    instance_type: str
    zone: str = "us-east-1a"
    capacity_type: str = "on-demand"
    count: int = 1
    delay_seconds: float = 0.0
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()

    def node(self) -> Node:
        """Return a new node of it."""
        return Node.of(
            self.instance_type,
            zone=self.zone,
            capacity_type=str(self.capacity_type),
            labels=self.labels,
            taints=self.taints,
        )


def instance_size(instance_type: str) -> tuple[int, str, int, str]:
    """Return vCPUs, memory, GPUs and GPU product of an EC2 instance type. Raises InvalidInput where it is not known."""
    family, _, size = instance_type.partition(".")
    if family not in _GIB_A_VCPU or size not in _VCPUS:
        raise InvalidInput(
            f"The size of {instance_type!r} is not known here.",
            remedy=f"Use Node(name, cpu=..., memory=..., gpus=...), or a family of {', '.join(sorted(_GIB_A_VCPU))}.",
        )
    vcpus = _VCPUS[size]
    product = _GPU_NAMES.get(family, "")
    return vcpus, f"{vcpus * _GIB_A_VCPU[family]}Gi", _GPUS.get(size, 1) if product else 0, product


def ready(status: str, reason: str, message: str, now: str) -> dict[str, Any]:
    """Return a node's Ready condition."""
    return {
        "type": "Ready", "status": status, "reason": reason, "message": message,
        "lastHeartbeatTime": now, "lastTransitionTime": now,
    }  # fmt: skip


def is_ready(node: Mapping[str, Any]) -> bool:
    """Tell whether a node says it is ready."""
    conditions = node["status"].get("conditions", ())
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
