"""What befalls nodes: notices, drains, shutdowns, losses; and the controllers that clean up after them."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from avatar_pipeline.lab.cluster.defaults import now
from avatar_pipeline.lab.cluster.deletion import TERMINAL, Deletion
from avatar_pipeline.lab.cluster.kubelet import Kubelet
from avatar_pipeline.lab.cluster.nodes import DISRUPTED, UNREACHABLE, Taint
from avatar_pipeline.lab.cluster.scheduling import toleration_of
from avatar_pipeline.lab.cluster.state import State, has_condition, set_condition
from avatar_pipeline.lab.cluster.store import Object

EVICTION = ("EvictionByEvictionAPI", "Eviction API: evicting")
TAINT_MANAGER = ("DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint")
POD_GC = ("DeletionByPodGC", "PodGC: node no longer exists")
PREEMPTION = ("PreemptionByScheduler", "default-scheduler: preempting to accommodate a higher priority pod")
SHUTDOWN = ("TerminationByKubelet", "Pod was terminated in response to imminent node shutdown.")
PRESSURE = ("TerminationByKubelet", "The node was low on resource: memory.")


class Machines:
    """Acts on nodes and on the pods that are on them."""

    def __init__(self, state: State, deletion: Deletion, kubelet: Kubelet) -> None:
        self._state = state
        self._store = state.store
        self._deletion = deletion
        self._kubelet = kubelet
        self.notices: dict[str, dict[str, Any]] = {}
        """What the metadata service of a node tells: `action` and `rebalance` times."""

    def pods_on(self, node: str) -> list[Object]:
        """Return the pods on a node that have not ended."""
        return [
            pod
            for pod in self._store.all("Pod")
            if pod["spec"].get("nodeName") == node and pod["status"].get("phase") not in TERMINAL
        ]

    def disrupt(self, pod: Object, cause: tuple[str, str], *, grace_seconds: int | None = None) -> None:
        """Mark a pod as the target of a disruption, and delete it."""
        reason, message = cause
        marked = self._store.update(
            pod, "Pod", lambda item: set_condition(item, "DisruptionTarget", "True", reason, message)
        )
        if marked is not None:
            self._deletion.pod(marked, grace_seconds)

    def terminate(self, pod: Object, cause: tuple[str, str], told: str, grace_seconds: float | None) -> None:
        """Let the kubelet itself end a pod (node shutdown, memory pressure): Failed, and left where it is."""
        reason, message = cause
        marked = self._store.update(
            pod, "Pod", lambda item: set_condition(item, "DisruptionTarget", "True", reason, message)
        )
        run = self._kubelet.of(pod)
        if marked is not None and run is not None:
            own = pod["spec"]["terminationGracePeriodSeconds"]
            run.stop(own if grace_seconds is None else min(own, grace_seconds), (told, message))

    def cordon(self, node: Object, *, back: bool = False) -> None:
        """Let nothing more be scheduled on a node, or let it again."""

        def change(item: Object) -> None:
            if back:
                item["spec"].pop("unschedulable", None)
            else:
                item["spec"]["unschedulable"] = True

        self._store.update(node, "Node", change)

    def taint(self, node: Object, taint: Taint) -> None:
        """Put a taint on a node. Where it is `NoExecute` the taint manager deletes who does not tolerate it."""
        written = taint.as_json() | ({"timeAdded": now()} if taint.effect == "NoExecute" else {})

        def change(item: Object) -> None:
            taints = [
                each
                for each in item["spec"].get("taints", [])
                if (each["key"], each["effect"]) != (taint.key, taint.effect)
            ]
            item["spec"]["taints"] = [*taints, written]

        self._store.update(node, "Node", change)
        if taint.effect == "NoExecute":
            self._manage_taint(node["metadata"]["name"], written)

    def _manage_taint(self, node: str, taint: dict[str, str]) -> None:
        for pod in self.pods_on(node):
            toleration = toleration_of(pod, taint)
            if toleration is not None and toleration.get("tolerationSeconds") is None:
                continue
            # Admission gives every pod a toleration of 300 s for unreachable nodes; here it is a setting.
            usual = self._state.settings.unreachable_toleration_seconds if taint["key"] == UNREACHABLE else 0.0
            seconds = usual if toleration is None else max(toleration["tolerationSeconds"], 0)
            self._state.later(seconds, self._delete_if_there, pod, taint)

    def _delete_if_there(self, pod: Object, taint: dict[str, str]) -> None:
        node = self._store.find("Node", "", pod["spec"]["nodeName"])
        if node is not None and taint in node["spec"].get("taints", []):
            self._state.record(
                pod, "Pod", "TaintManagerEviction", "Marking for deletion Pod", by="taint-eviction-controller"
            )
            self.disrupt(pod, TAINT_MANAGER)

    def drain(self, node: Object, grace_seconds: int | None = None) -> None:
        """Cordon a node and evict its pods."""
        self.cordon(node)
        self._soon_after(lambda pod: self.disrupt(pod, EVICTION, grace_seconds=grace_seconds), node["metadata"]["name"])

    def _soon_after(self, act: Callable[[Object], None], node: str) -> None:
        def all_of_them() -> None:
            for pod in self.pods_on(node):
                act(pod)

        if self._state.settings.eviction_seconds:
            self._state.later(self._state.settings.eviction_seconds, all_of_them)
        else:
            all_of_them()

    def rebalance(self, node: Object) -> None:
        """Let the metadata service recommend a rebalance; nothing else happens."""
        self.notices.setdefault(node["metadata"]["name"], {})["rebalance"] = now()
        self._state.record(node, "Node", "SpotRebalanceRecommendation", "Spot rebalance recommendation", by="karpenter")

    def reclaim(self, node: Object, notice_seconds: float) -> None:
        """Interrupt a spot node as Karpenter handles it: notice, taint, evictions; at the end the machine is gone."""
        name = node["metadata"]["name"]
        at = datetime.now(UTC) + timedelta(seconds=notice_seconds)
        self.notices.setdefault(name, {})["action"] = at.strftime("%Y-%m-%dT%H:%M:%SZ")
        self._state.record(
            node, "Node", "SpotInterrupted", "Spot interruption warning was triggered", by="karpenter", warning=True
        )
        self.taint(node, Taint(DISRUPTED))
        self._soon_after(lambda pod: self.disrupt(pod, EVICTION), name)
        self._state.later(notice_seconds, self._end_of_notice, name)

    def _end_of_notice(self, name: str) -> None:
        if self._store.find("Node", "", name) is not None:
            self._kubelet.lose(name)
            self.remove(name)

    def shutdown(self, node: Object, grace_seconds: float | None = None) -> None:
        """Shut a node down gracefully: the kubelet ends its pods, then the node is gone."""
        name = node["metadata"]["name"]

        def silence(item: Object) -> None:
            set_condition(item, "Ready", "False", "KubeletNotReady", "node is shutting down")

        self._store.update(node, "Node", silence)
        pods = self.pods_on(name)
        for pod in pods:
            self.terminate(pod, SHUTDOWN, "Terminated", grace_seconds)
        longest = max((pod["spec"]["terminationGracePeriodSeconds"] for pod in pods), default=0)
        self._off_when_empty(name, time.monotonic() + (longest if grace_seconds is None else grace_seconds) + 0.1)

    def _off_when_empty(self, name: str, latest: float) -> None:
        if self._kubelet.on_node(name) and time.monotonic() < latest:
            self._state.later(0.05, self._off_when_empty, name, latest)
            return
        self._kubelet.lose(name)
        self._state.later(self._state.settings.node_removal_seconds, self.remove, name)

    def kill(self, node: Object) -> None:
        """Take a machine away without notice: its processes are gone at once; the cluster learns of it by silence."""
        name = node["metadata"]["name"]
        self._kubelet.lose(name)
        self._state.later(self._state.settings.node_monitor_grace_seconds, self._not_ready, name)

    def _not_ready(self, name: str) -> None:
        node = self._store.find("Node", "", name)
        if node is None:
            return
        message = "Kubelet stopped posting node status."

        def unknown(item: Object) -> None:
            set_condition(item, "Ready", "Unknown", "NodeStatusUnknown", message)

        node = self._store.update(node, "Node", unknown) or node
        self._state.record(
            node, "Node", "NodeNotReady", f"Node {name} status is now: NodeNotReady", by="node-controller"
        )
        for pod in self.pods_on(name):
            self._store.update(pod, "Pod", lambda item: set_condition(item, "Ready", "False", "NodeNotReady", message))
            self._state.record(pod, "Pod", "NodeNotReady", "Node is not ready", by="node-controller", warning=True)
        self.taint(node, Taint(UNREACHABLE, effect="NoSchedule"))
        self.taint(node, Taint(UNREACHABLE, effect="NoExecute"))
        self._state.later(self._state.settings.node_removal_seconds, self.remove, name)

    def remove(self, name: str) -> None:
        """Take a node object away; the pod garbage collector fails what was on it."""
        node = self._store.find("Node", "", name)
        if node is None:
            return
        self._kubelet.lose(name)
        self._store.remove(node, "Node")
        self._state.later(self._state.settings.pod_gc_seconds, self._collect_pods, name)

    def _collect_pods(self, name: str) -> None:
        """Fail and force out the pods of a node that is no more."""
        if self._store.find("Node", "", name) is not None:
            return
        for pod in list(self._store.all("Pod")):
            if pod["spec"].get("nodeName") != name:
                continue

            def fail(item: Object) -> None:
                if item["status"].get("phase") in TERMINAL:
                    return
                item["status"]["phase"] = "Failed"
                if not has_condition(item, "DisruptionTarget"):
                    set_condition(item, "DisruptionTarget", "True", *POD_GC)

            self._store.update(pod, "Pod", fail)
            self._deletion.pod(pod, 0)
