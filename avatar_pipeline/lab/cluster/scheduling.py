"""Where a pod may run: taints, selectors, affinity, room; and why not. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from avatar_pipeline.lab.cluster.nodes import UNSCHEDULABLE
from avatar_pipeline.lab.cluster.quantities import Resources, as_resources, requested
from avatar_pipeline.lab.cluster.selecting import matches_node_term, matches_node_terms

Pod = Mapping[str, Any]
NodeJson = Mapping[str, Any]


def tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    """Tell whether one toleration covers a taint."""
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if toleration.get("key") and toleration["key"] != taint["key"]:
        return False
    if (toleration.get("operator") or "Equal") == "Exists":
        return True
    return bool(toleration.get("key")) and (toleration.get("value") or "") == (taint.get("value") or "")


def toleration_of(pod: Pod, taint: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the first toleration of a pod that covers a taint."""
    return next((each for each in pod["spec"].get("tolerations") or () if tolerates(each, taint)), None)


def obstacles(pod: Pod, node: NodeJson, used: Resources) -> list[str]:
    """Return why a pod cannot go to a node, in the scheduler's words; empty where it can.

    `used` is what pods hold there. As in Kubernetes the first plugin that objects speaks: unschedulable, taints,
    affinity, then room.
    """
    labels = node["metadata"].get("labels", {})
    name = node["metadata"]["name"]
    taints = node["spec"].get("taints") or []
    if node["spec"].get("unschedulable") and not toleration_of(pod, {"key": UNSCHEDULABLE, "effect": "NoSchedule"}):
        return ["node(s) were unschedulable"]
    for taint in taints:
        if taint["effect"] in ("NoSchedule", "NoExecute") and toleration_of(pod, taint) is None:
            return [f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"]
    if not _wants(pod, name, labels):
        return ["node(s) didn't match Pod's node affinity/selector"]
    return short_of(requested(pod), node, used)


def short_of(wanted: Resources, node: NodeJson, used: Resources) -> list[str]:
    """Return what a node has too little of."""
    have = as_resources(node["status"]["allocatable"])
    zero = Decimal(0)
    return [
        "Too many pods" if name == "pods" else f"Insufficient {name}"
        for name, amount in sorted(wanted.items())
        if amount > 0 and amount > have.get(name, zero) - used.get(name, zero)
    ]


def _wants(pod: Pod, name: str, labels: Mapping[str, str]) -> bool:
    spec = pod["spec"]
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    return required is None or matches_node_terms(required["nodeSelectorTerms"], name, labels)


def preference(pod: Pod, node: NodeJson) -> int:
    """Return the sum of the weights of the preferred terms that a node meets, less its soft taints."""
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    labels = node["metadata"].get("labels", {})
    score: int = sum(
        weighted["weight"]
        for weighted in affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        if matches_node_term(weighted["preference"], node["metadata"]["name"], labels)
    )
    soft = [each for each in node["spec"].get("taints") or () if each["effect"] == "PreferNoSchedule"]
    return score - 1000 * sum(toleration_of(pod, taint) is None for taint in soft)


def best_node(
    pod: Pod, nodes: Sequence[NodeJson], used: Callable[[str], Resources]
) -> tuple[NodeJson | None, list[list[str]]]:
    """Return the node that suits a pod best (first of equals), and the obstacles of each node where none does."""
    objections = [obstacles(pod, node, used(node["metadata"]["name"])) for node in nodes]
    fitting = [node for node, objection in zip(nodes, objections, strict=True) if not objection]
    if not fitting:
        return None, objections
    return max(fitting, key=lambda node: preference(pod, node)), []


def told(objections: Iterable[list[str]]) -> str:
    """Return the scheduler's message for a pod that fits nowhere."""
    each_node = list(objections)
    if not each_node:
        return "no nodes available to schedule pods"
    counts = Counter(objection for node in each_node for objection in node)
    reasons = ", ".join(sorted(f"{count} {objection}" for objection, count in counts.items()))
    many = len(each_node)
    return (
        f"0/{many} nodes are available: {reasons}. preemption: 0/{many} nodes are available: "
        f"{many} Preemption is not helpful for scheduling."
    )
