"""What Kubernetes calls the things that happen to a pod, and what they mean. Names of Kubernetes 1.26 to 1.36.

Sources: kubernetes.io/docs/concepts/workloads/pods/disruptions (DisruptionTarget), the kubelet's eviction, shutdown and
admission managers, karpenter.sh/docs/concepts/disruption, and the taints of Cluster Autoscaler and of the AWS Node
Termination Handler.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

DISRUPTIONS: Mapping[str, str] = MappingProxyType(
    {
        "EvictionByEvictionAPI": "it was evicted through the eviction API, as a drain of its node does",
        "PreemptionByScheduler": "the scheduler preempted it for a pod of higher priority",
        "DeletionByTaintManager": "its node was tainted NoExecute and it was deleted from it",
        "DeletionByPodGC": "it was bound to a node that does not exist any more",
        "TerminationByKubelet": "its kubelet ended it, because the node shuts down or is short of a resource",
    }
)
"""Reasons of the pod condition DisruptionTarget."""

POD_REASONS: Mapping[str, str] = MappingProxyType(
    {
        "NodeShutdown": "its node is shutting down and refused it",
        "Shutdown": "its node was shut down",
        "Terminated": "its node was shut down",
        "Evicted": "its kubelet evicted it",
        "Preempting": "its kubelet preempted it for a critical pod",
        "NodeLost": "its node stopped answering",
        "UnexpectedAdmissionError": "its node could not give it the devices it asked for",
        "NodeAffinity": "its node does not fit it any more",
    }
)
"""Values of `status.reason` of a pod that its node, not its own code, ended."""

OUT_OF_PREFIX = "outof"
"""`OutOfcpu`, `OutOfnvidia.com/gpu`: the kubelet refused a pod for which nothing was left on the node."""

DEPARTURE_TAINTS: Mapping[str, str] = MappingProxyType(
    {
        "ToBeDeletedByClusterAutoscaler": "Cluster Autoscaler is deleting its node",
        "karpenter.sh/disrupted": "Karpenter is disrupting its node",
        "karpenter.sh/disruption": "Karpenter is disrupting its node",
        "node.kubernetes.io/unreachable": "its node does not answer",
        "node.kubernetes.io/not-ready": "its node is not ready",
        "node.kubernetes.io/out-of-service": "its node is out of service",
        "node.kubernetes.io/unschedulable": "its node is cordoned",
        "node.cloudprovider.kubernetes.io/shutdown": "its machine is shut down",
        "cloud.google.com/impending-node-termination": "its machine is about to be taken",
    }
)
"""Taints of a node that is on its way out."""

TERMINATION_HANDLER_PREFIX = "aws-node-termination-handler/"

IMAGE_PULL_RETRIED = frozenset({"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ImageInspectError"})
IMAGE_PULL_HOPELESS = frozenset({"InvalidImageName", "ErrImageNeverPull", "SignatureValidationFailed"})

START_REASONS = frozenset({"StartError", "ContainerCannotRun", "RunContainerError"})
"""Terminated before its first instruction: the runtime could not start it."""

GPU_HOOK = "nvidia-container-cli"
GPU_HOOK_REFUSAL = "requirement error"
"""The image wants a newer driver than the node has; all else that the hook complains of is the node's fault."""

LOST_CONTAINER = frozenset({"ContainerStatusUnknown", "Unknown"})
"""The kubelet came back, or cleaned up, and found the container gone without an exit code of its own."""

SIGKILL_EXIT, SIGTERM_EXIT = 137, 143
OUT_OF_MEMORY_REASON = "OOMKilled"


def departure(taint_key: str) -> str | None:
    """Return what a taint says about its node's departure, None where it says nothing of the kind."""
    if taint_key.startswith(TERMINATION_HANDLER_PREFIX):
        return f"the AWS Node Termination Handler announced {taint_key.removeprefix(TERMINATION_HANDLER_PREFIX)}"
    return DEPARTURE_TAINTS.get(taint_key)
