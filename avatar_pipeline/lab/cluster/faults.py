"""What can be done to a cluster: to its nodes and pods, to capacity, to images, to the API."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.lab.cluster.api_faults import ApiFault
from avatar_pipeline.lab.cluster.autoscaler import ready_node
from avatar_pipeline.lab.cluster.machines import EVICTION, PREEMPTION, PRESSURE
from avatar_pipeline.lab.cluster.nodes import Node, Taint
from avatar_pipeline.lab.cluster.store import Object

if TYPE_CHECKING:
    from avatar_pipeline.lab.cluster.machinery import Machinery

T = TypeVar("T")


class Faults:
    """The commands of a cluster. Nodes and pods are given by name; a name that is not there raises InvalidInput.

    Every command is carried out when it returns, and stands in the journal as `fault`.
    """

    _machinery: Machinery

    def _do(self, call: Callable[[], T]) -> T:
        """Carry something out in the cluster's loop."""
        raise NotImplementedError

    def _fault(self, command: str, target: str, call: Callable[[Machinery], object], **detail: Any) -> None:
        def act() -> None:
            self._machinery.state.journal.add("fault", target, command=command, **detail)
            call(self._machinery)

        self._do(act)

    def _on_node(self, command: str, node: str, call: Callable[[Machinery, Object], object], **detail: Any) -> None:
        self._fault(command, node, lambda parts: call(parts, found(parts, "Node", node)), **detail)

    def _on_pod(self, command: str, pod: str, call: Callable[[Machinery, Object], object], **detail: Any) -> None:
        self._fault(command, pod, lambda parts: call(parts, found(parts, "Pod", pod)), **detail)

    # -- nodes

    def reclaim(self, node: str, notice_seconds: float = 120.0) -> None:
        """Interrupt a spot node: its pods are evicted now, and the machine is gone at the end of the notice."""
        self._on_node(
            "reclaim", node, lambda parts, it: parts.machines.reclaim(it, notice_seconds), notice=notice_seconds
        )

    def rebalance(self, node: str) -> None:
        """Let the metadata service of a node recommend a rebalance; nothing else happens."""
        self._on_node("rebalance", node, lambda parts, it: parts.machines.rebalance(it))

    def drain(self, node: str, grace_seconds: int | None = None) -> None:
        """Cordon a node and evict its pods."""
        self._on_node("drain", node, lambda parts, it: parts.machines.drain(it, grace_seconds))

    def shutdown(self, node: str, grace_seconds: float | None = None) -> None:
        """Shut a node down gracefully: its kubelet ends the pods (Failed, reason Terminated), then it is gone."""
        self._on_node("shutdown", node, lambda parts, it: parts.machines.shutdown(it, grace_seconds))

    def kill(self, node: str) -> None:
        """Take a machine away without notice; the cluster learns of it by silence (see the settings' times)."""
        self._on_node("kill", node, lambda parts, it: parts.machines.kill(it))

    def cordon(self, node: str) -> None:
        """Let nothing more be scheduled on a node."""
        self._on_node("cordon", node, lambda parts, it: parts.machines.cordon(it))

    def uncordon(self, node: str) -> None:
        """Let a node be scheduled on again."""
        self._on_node("uncordon", node, lambda parts, it: parts.machines.cordon(it, back=True))

    def taint(self, node: str, taint: Taint) -> None:
        """Put a taint on a node."""
        self._on_node("taint", node, lambda parts, it: parts.machines.taint(it, taint), taint=taint.as_json())

    def add_node(self, node: Node) -> None:
        """Let a node join."""

        def act(parts: Machinery) -> None:
            parts.kubelet.dead.discard(node.name)
            ready_node(parts.state, node.as_json())

        self._fault("add_node", node.name, act)

    def remove_node(self, node: str) -> None:
        """Take a node and its machine away; its pods are failed by the pod garbage collector."""
        self._on_node("remove_node", node, lambda parts, it: parts.machines.remove(it["metadata"]["name"]))

    # -- pods and Jobs

    def evict(self, pod: str, grace_seconds: int | None = None) -> None:
        """Evict a pod through the Eviction API."""
        self._on_pod("evict", pod, lambda parts, it: parts.machines.disrupt(it, EVICTION, grace_seconds=grace_seconds))

    def preempt(self, pod: str, grace_seconds: int | None = None) -> None:
        """Let the scheduler make room of a pod for a more important one."""
        self._on_pod(
            "preempt", pod, lambda parts, it: parts.machines.disrupt(it, PREEMPTION, grace_seconds=grace_seconds)
        )

    def press(self, pod: str) -> None:
        """Let the kubelet evict a pod for want of memory on the node (Failed, reason Evicted)."""
        self._on_pod("press", pod, lambda parts, it: parts.machines.terminate(it, PRESSURE, "Evicted", 0))

    def kill_pod(self, pod: str) -> None:
        """Kill the processes of a pod: exit code 137."""
        self._on_pod("kill_pod", pod, lambda parts, it: run_of(parts, it).kill())

    def oom(self, pod: str, container: str | None = None) -> None:
        """Kill a container, or all of a pod, as the kernel does for want of memory: OOMKilled, exit code 137."""
        self._on_pod("oom", pod, lambda parts, it: run_of(parts, it).kill(container, out_of_memory=True))

    def signal_pod(self, pod: str, number: int = signal.SIGTERM) -> None:
        """Send a signal to the first process of each container of a pod."""
        self._on_pod("signal_pod", pod, lambda parts, it: run_of(parts, it).signal(number), signal=int(number))

    def delete_pod(self, pod: str, grace_seconds: int | None = None) -> None:
        """Delete a pod, as somebody else would."""
        self._on_pod("delete_pod", pod, lambda parts, it: parts.deletion.pod(it, grace_seconds))

    def delete_job(self, job: str, propagation: str = "Background") -> None:
        """Delete a Job, as somebody else would."""
        self._fault("delete_job", job, lambda parts: parts.deletion.job(found(parts, "Job", job), propagation))

    # -- capacity and images

    def withhold(self, labels: Mapping[str, str] | None = None) -> None:
        """Give no more capacity from nodes and offerings that have all these labels; without labels, from any."""
        self._fault("withhold", "", lambda parts: parts.withheld.add(labels or {}), labels=dict(labels or {}))

    def restore(self, labels: Mapping[str, str] | None = None) -> None:
        """Give again what was withheld by these labels; without labels, everything."""

        def act(parts: Machinery) -> None:
            parts.withheld.remove(labels)
            parts.scheduler.look()

        self._fault("restore", "", act, labels=dict(labels or {}))

    def fail_pulls(self, image_pattern: str = "*", reason: str = "ErrImagePull") -> None:
        """Let pulls of images fail: ErrImagePull, InvalidImageName, ErrImageNeverPull or RegistryUnavailable."""
        self._fault("fail_pulls", image_pattern, lambda parts: parts.images.fail(image_pattern, reason), reason=reason)

    def mend_pulls(self, image_pattern: str | None = None) -> None:
        """Let pulls succeed again: those of one pattern, or all."""
        self._fault("mend_pulls", image_pattern or "*", lambda parts: parts.images.mend(image_pattern))

    def start_delay(self, image_pattern: str, seconds: float) -> None:
        """Let containers of images be ContainerCreating for a time."""
        self._fault(
            "start_delay", image_pattern, lambda parts: parts.images.delay(image_pattern, seconds), seconds=seconds
        )

    # -- the API

    def outage(self, seconds: float | None = None) -> None:
        """Reset all connections to the API and refuse new ones, for a time or until `end_outage`."""

        def act(parts: Machinery) -> None:
            parts.door.close()
            if seconds is not None:
                parts.state.later(seconds, parts.reopen)

        self._fault("outage", "", act, seconds=seconds)

    def end_outage(self) -> None:
        """Serve the API again; it does when this returns."""
        self._fault("end_outage", "", lambda parts: None)
        self._machinery.reopened()

    def drop(self, calls: int = 1, *, before: bool = False, method: str | None = None, path: str = "") -> None:
        """Cut the connection of the next calls, after they were carried out, or `before`."""
        self._api_fault(ApiFault("drop" if before else "drop_after", calls, method, path))

    def delay(self, calls: int, seconds: float, *, method: str | None = None, path: str = "") -> None:
        """Let the next calls take longer."""
        self._api_fault(ApiFault("delay", calls, method, path, seconds=seconds))

    def fail(
        self,
        calls: int,
        status: int = 500,
        *,
        retry_after: int | None = None,
        method: str | None = None,
        path: str = "",
    ) -> None:
        """Answer the next calls with an error, and not carry them out."""
        self._api_fault(ApiFault("fail", calls, method, path, status=status, retry_after=retry_after))

    def _api_fault(self, fault: ApiFault) -> None:
        detail = {"calls": fault.left, "method": fault.method, "path": fault.path}
        self._fault(fault.what, "", lambda parts: parts.faulty.faults.append(fault), **detail)


def found(parts: Machinery, kind: str, name: str) -> Object:
    """Return an object by name, in any namespace. Raises InvalidInput where there is none."""
    for item in parts.state.store.all(kind):
        if item["metadata"]["name"] == name:
            return item
    raise InvalidInput(f"The cluster has no {kind} {name!r}.", remedy="Ask for a name that it lists.")


def run_of(parts: Machinery, pod: Object) -> Any:
    """Return a pod's run. Raises InvalidInput where it does not run."""
    run = parts.kubelet.of(pod)
    if run is None:
        raise InvalidInput(
            f"Pod {pod['metadata']['name']!r} does not run.",
            remedy="Wait for it with wait_for, or until it is scheduled.",
        )
    return run
