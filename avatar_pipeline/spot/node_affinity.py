"""A placement as node affinity: what a node must have, and which is liked better among those that do."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from avatar_pipeline.spot.profiles import ENOUGH_TYPES, ComputeProfile
from avatar_pipeline.spot.types import CapacityType, Offering, Placement
from avatar_pipeline.spot.views import CAPACITY_TYPE_LABELS, INSTANCE_TYPE_LABEL, ZONE_LABEL

Requirement = dict[str, Any]

_KEYS_OF_CAPACITY = (*CAPACITY_TYPE_LABELS, "node.kubernetes.io/lifecycle", "node-lifecycle")
_KEYS_OF_TYPE = (INSTANCE_TYPE_LABEL, "beta.kubernetes.io/instance-type")
_PREFIXES_OF_TYPE = ("karpenter.k8s.aws/instance-", "eks.amazonaws.com/instance-")
_KEYS_OF_POOL = ("karpenter.sh/nodepool", "eks.amazonaws.com/nodegroup", "eks.amazonaws.com/compute-type")
_KEYS_OF_ZONE = (ZONE_LABEL, "failure-domain.beta.kubernetes.io/zone", "topology.k8s.aws/zone-id")
_LIKED = ((8, 40), (4, 20), (2, 10), (1, 5))
"""How many of the best types get how much weight more, so that better ones have more in sum."""


def place_on_nodes(pod: dict[str, Any], profile: ComputeProfile, placement: Placement) -> None:
    """Put a placement into a pod's spec, in place: node selector, required and preferred node affinity.

    The placement is AND-ed into every required term there is, for one term is enough for a node. What a term, a
    preference or the node selector said of the things that the placement decides is taken out: a launcher that pins its
    pods to on-demand would otherwise contradict it, or, as a term beside it, let the pod in anywhere.
    """
    decides = _Decides(placement)
    selector = {key: value for key, value in (pod.get("nodeSelector") or {}).items() if not decides.key(key)}
    pod.pop("nodeSelector", None)
    if selector:
        pod["nodeSelector"] = selector
    affinity = copy.deepcopy(pod.get("affinity") or {})
    node = dict(affinity.get("nodeAffinity") or {})
    required = node.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = _required(required.get("nodeSelectorTerms") or (), profile, placement, decides)
    node["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": terms}
    preferred = _preferred(node.get("preferredDuringSchedulingIgnoredDuringExecution") or (), placement, decides)
    node.pop("preferredDuringSchedulingIgnoredDuringExecution", None)
    if preferred:
        node["preferredDuringSchedulingIgnoredDuringExecution"] = preferred
    pod["affinity"] = {**affinity, "nodeAffinity": node}


def capacity_value(label: str, capacity_type: CapacityType) -> str:
    """Return how a node with this label spells a capacity type: EKS node groups write `ON_DEMAND`."""
    return capacity_type.value if label == CAPACITY_TYPE_LABELS[0] else capacity_type.value.upper().replace("-", "_")


class _Decides:
    """Which labels of nodes a placement has the say about; of zones and types only where it names some."""

    def __init__(self, placement: Placement) -> None:
        self._keys = {*_KEYS_OF_CAPACITY}
        self._types = bool(placement.offerings)
        if self._types:
            self._keys.update(_KEYS_OF_TYPE, _KEYS_OF_POOL)
        if any(placement.zones):
            self._keys.update(_KEYS_OF_ZONE)

    def key(self, key: str) -> bool:
        return key in self._keys or (self._types and key.startswith(_PREFIXES_OF_TYPE))


def _required(
    terms: Sequence[Mapping[str, Any]], profile: ComputeProfile, placement: Placement, decides: _Decides
) -> list[dict[str, Any]]:
    extra = [_expression(one.key, one.operator, one.values) for one in dict.fromkeys(profile.node_affinity)]
    ours = [[*group, *extra] for group in _groups(profile.capacity_label, placement)]
    # A term without any requirement matches no node, and so adds nothing to the others.
    existing = [term for term in terms if term.get("matchExpressions") or term.get("matchFields")] or [{}]
    found: list[dict[str, Any]] = []
    for term in existing:
        kept = [one for one in term.get("matchExpressions") or () if not decides.key(one["key"]) and one not in extra]
        for group in ours:
            amended = {**term, "matchExpressions": [*kept, *group]}
            if amended not in found:
                found.append(amended)
    return found


def _groups(capacity_label: str, placement: Placement) -> list[list[Requirement]]:
    """Requirements of which one set must hold: the types of a zone, zones with the same types together."""
    capacity = _in(capacity_label, (capacity_value(capacity_label, placement.capacity_type),))
    types_of: dict[str, tuple[str, ...]] = {
        zone: _types(offering for offering in placement.offerings if offering.zone == zone) for zone in placement.zones
    }
    zones_of: dict[tuple[str, ...], list[str]] = {}
    for zone, types in types_of.items():
        zones_of.setdefault(tuple(sorted(types)), []).append(zone)
    groups = []
    # Karpenter goes by the first term alone until that cannot be had, so the one with most to choose from comes first.
    for zones in sorted(zones_of.values(), key=lambda zones: -len(zones) * len(types_of[zones[0]])):
        group = [capacity, _in(INSTANCE_TYPE_LABEL, types_of[zones[0]])]
        groups.append(group + ([_in(ZONE_LABEL, zones)] if all(zones) else []))
    return groups or [[capacity]]


def _preferred(terms: Sequence[Mapping[str, Any]], placement: Placement, decides: _Decides) -> list[Mapping[str, Any]]:
    """Better types first, for a scheduler that has several nodes to choose from.

    Karpenter takes the heaviest preference for a requirement as long as that can be had (`newPodRequirements` in
    kubernetes-sigs/karpenter), so the heaviest one is broad: with a few types in it, spot steps would crowd on them.
    """
    kept = [
        term
        for term in terms
        if not any(decides.key(one["key"]) for one in term["preference"].get("matchExpressions") or ())
    ]
    types = placement.instance_types
    if not types:
        return kept
    liked = [(len(types[:ENOUGH_TYPES]), 100), *((count, weight) for count, weight in _LIKED if count < len(types))]
    ours = [
        {"weight": weight, "preference": {"matchExpressions": [_in(INSTANCE_TYPE_LABEL, types[:count])]}}
        for count, weight in liked
    ]
    return [*kept, *ours]


def _types(offerings: Iterable[Offering]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(offering.instance_type for offering in offerings))


def _in(key: str, values: Sequence[str]) -> Requirement:
    return _expression(key, "In", values)


def _expression(key: str, operator: str, values: Sequence[str]) -> Requirement:
    return {"key": key, "operator": operator} | ({"values": list(values)} if values else {})
