"""The scheduler: binds pending pods to nodes, and asks the autoscaler for what fits nowhere."""

from __future__ import annotations

import time

from avatar_pipeline.lab.cluster.autoscaler import Autoscaler, Withheld, is_pending, moves_capacity
from avatar_pipeline.lab.cluster.deletion import TERMINAL
from avatar_pipeline.lab.cluster.nodes import is_ready
from avatar_pipeline.lab.cluster.quantities import Resources, total_requested
from avatar_pipeline.lab.cluster.scheduling import best_node, told
from avatar_pipeline.lab.cluster.state import State, set_condition
from avatar_pipeline.lab.cluster.store import Change, Object


class Scheduler:
    """Looks at all pending pods whenever pods or nodes change."""

    def __init__(self, state: State, autoscaler: Autoscaler, withheld: Withheld) -> None:
        self._state = state
        self._store = state.store
        self._autoscaler = autoscaler
        self._withheld = withheld
        self._queued = False
        self._known: dict[str, float] = {}
        state.store.listeners.append(self._on_change)

    def _on_change(self, change: Change) -> None:
        metadata = change.after["metadata"]
        if change.kind == "Pod" and change.what == "ADDED":
            self._known[metadata["uid"]] = time.monotonic()
            self._state.later(self._state.settings.scheduling_seconds, self.look)
        elif change.kind in ("Pod", "Node") and moves_capacity(change):
            self.look()
        if change.kind == "Pod" and change.what == "DELETED":
            self._known.pop(metadata["uid"], None)

    def look(self) -> None:
        """Schedule what is pending, as the next thing in the loop."""
        if not self._queued:
            self._queued = True
            self._state.soon(self._schedule)

    def _schedule(self) -> None:
        self._queued = False
        latest = time.monotonic() - self._state.settings.scheduling_seconds
        for pod in list(self._store.all("Pod")):
            if is_pending(pod) and self._known.get(pod["metadata"]["uid"], 0.0) <= latest + 1e-3:
                self._place(pod)

    def used(self, node_name: str) -> Resources:
        """Return what the pods on a node hold. Ended pods hold nothing; terminating ones still do."""
        return total_requested(
            pod
            for pod in self._store.all("Pod")
            if pod["spec"].get("nodeName") == node_name and pod["status"].get("phase") not in TERMINAL
        )

    def _place(self, pod: Object) -> None:
        nodes = [node for node in self._store.all("Node") if is_ready(node)]
        offered = [node for node in nodes if not self._withheld.has(node["metadata"].get("labels", {}))]
        node, objections = best_node(pod, offered, self.used)
        if node is not None:
            self._bind(pod, node["metadata"]["name"])
            return
        message = told(objections)

        def unschedulable(item: Object) -> None:
            set_condition(item, "PodScheduled", "False", "Unschedulable", message)

        pending = self._store.update(pod, "Pod", unschedulable)
        if pending is not None and pending["metadata"]["resourceVersion"] != pod["metadata"]["resourceVersion"]:
            self._state.record(pending, "Pod", "FailedScheduling", message, by="default-scheduler", warning=True)
        self._state.later(self._state.settings.autoscaler_seconds, self._autoscaler.consider, pod)

    def _bind(self, pod: Object, node_name: str) -> None:
        def bound(item: Object) -> None:
            item["spec"]["nodeName"] = node_name
            set_condition(item, "PodScheduled", "True")

        if (placed := self._store.update(pod, "Pod", bound)) is not None:
            name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
            message = f"Successfully assigned {name} to {node_name}"
            self._state.record(placed, "Pod", "Scheduled", message, by="default-scheduler")
