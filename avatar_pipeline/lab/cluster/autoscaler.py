"""The autoscaler: nodes that come when a pending pod needs them; and capacity that is withheld."""

from __future__ import annotations

from collections.abc import Mapping

from avatar_pipeline.lab.cluster.deletion import TERMINAL
from avatar_pipeline.lab.cluster.nodes import Offering
from avatar_pipeline.lab.cluster.scheduling import obstacles, preference
from avatar_pipeline.lab.cluster.state import State, set_condition
from avatar_pipeline.lab.cluster.store import Change, Object

NO_OFFERING = "Failed to schedule pod, no instance type that meets its requirements has capacity"


class Withheld:
    """What gives no capacity just now: label sets; a node or offering with all labels of one is withheld."""

    def __init__(self) -> None:
        self._sets: list[dict[str, str]] = []

    def add(self, labels: Mapping[str, str]) -> None:
        """Withhold what has these labels; an empty set is everything."""
        if dict(labels) not in self._sets:
            self._sets.append(dict(labels))

    def remove(self, labels: Mapping[str, str] | None) -> None:
        """Give back what was withheld by these labels, or everything."""
        self._sets = [each for each in self._sets if labels is not None and each != dict(labels)]

    def has(self, labels: Mapping[str, str]) -> bool:
        """Tell whether something with these labels is withheld."""
        return any(all(labels.get(key) == value for key, value in each.items()) for each in self._sets)


class Autoscaler:
    """Karpenter in small: buys the first offering, in the order given, on which a pending pod would fit.

    A preferred node affinity of the pod goes before that order. One node is on its way for a pod at a time.
    """

    def __init__(self, state: State, offerings: tuple[Offering, ...], withheld: Withheld) -> None:
        self.offerings = offerings
        self._state = state
        self._store = state.store
        self._withheld = withheld
        self._coming: dict[str, str] = {}
        self._made: dict[str, Offering] = {}
        state.store.listeners.append(self._on_change)

    def consider(self, pod: Object) -> None:
        """Buy a node for a pod that still fits nowhere, if an offering suits it."""
        metadata = pod["metadata"]
        current = self._store.find("Pod", metadata["namespace"], metadata["name"], metadata["uid"])
        if current is None or not is_pending(current) or metadata["uid"] in self._coming:
            return
        best: tuple[int, Offering, Object] | None = None
        for offering in self.offerings:
            node = offering.node().as_json()
            if self._left(offering) <= 0 or self._withheld.has(node["metadata"]["labels"]):
                continue
            if obstacles(current, node, {}):
                continue
            score = preference(current, node)
            if best is None or score > best[0]:
                best = (score, offering, node)
        if best is None:
            if self.offerings:
                self._state.record(current, "Pod", "FailedScheduling", NO_OFFERING, by="karpenter", warning=True)
            return
        _, offering, node = best
        name = node["metadata"]["name"]
        self._made[name] = offering
        self._coming[metadata["uid"]] = name
        self._state.record(current, "Pod", "Nominated", f"Pod should schedule on: nodeclaim/{name}", by="karpenter")
        self._state.later(offering.delay_seconds, self._arrive, node, metadata["uid"])

    def _left(self, offering: Offering) -> int:
        return offering.count - sum(made is offering for made in self._made.values())

    def _arrive(self, node: Object, pod_uid: str) -> None:
        self._coming.pop(pod_uid, None)
        if self._withheld.has(node["metadata"]["labels"]):
            # The launch failed for want of capacity; the pod is looked at again.
            self._made.pop(node["metadata"]["name"], None)
            for pod in self._store.all("Pod"):
                if pod["metadata"]["uid"] == pod_uid:
                    self._state.later(self._state.settings.autoscaler_seconds, self.consider, pod)
            return
        ready_node(self._state, node)

    def _on_change(self, change: Change) -> None:
        name = change.after["metadata"]["name"]
        if change.kind == "Node" and change.what == "DELETED":
            self._made.pop(name, None)
        idle = self._state.settings.idle_node_seconds
        if idle is not None and change.kind == "Pod" and moves_capacity(change):
            node = change.after["spec"].get("nodeName")
            if node in self._made:
                self._state.later(idle, self._remove_if_idle, node)

    def _remove_if_idle(self, node_name: str) -> None:
        node = self._store.find("Node", "", node_name)
        busy = any(
            pod["spec"].get("nodeName") == node_name and pod["status"].get("phase") not in TERMINAL
            for pod in self._store.all("Pod")
        )
        if node is not None and not busy:
            self._store.remove(node, "Node")


def ready_node(state: State, node: Object) -> Object:
    """Let a node join the cluster."""

    def join(item: Object) -> None:
        set_condition(item, "Ready", "True", "KubeletReady", "kubelet is posting ready status")

    join(node)
    return state.store.create("Node", node)


def is_pending(pod: Object) -> bool:
    """Tell whether a pod waits for a node."""
    return (
        not pod["spec"].get("nodeName")
        and "deletionTimestamp" not in pod["metadata"]
        and pod["status"].get("phase") == "Pending"
    )


def moves_capacity(change: Change) -> bool:
    """Tell whether a change may make room: a node that came or changed, a pod that ended or went."""
    if change.kind == "Node":
        return True
    ended = change.after["status"].get("phase") in TERMINAL
    return change.what == "DELETED" or (ended and (change.before or {}).get("status", {}).get("phase") not in TERMINAL)
