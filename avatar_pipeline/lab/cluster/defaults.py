"""What the API server and its admission plugins fill in."""

from __future__ import annotations

import copy
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

JOB_FINALIZER = "batch.kubernetes.io/job-tracking"
CONTROLLER_UID = "batch.kubernetes.io/controller-uid"
JOB_NAME = "batch.kubernetes.io/job-name"
_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"


def now() -> str:
    """Return the time as the API writes it; to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def now_micro() -> str:
    """Return the time as Events write it; to the microsecond."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def random_suffix(length: int = 5) -> str:
    """Return the end of a generated name, from the letters that Kubernetes uses."""
    return "".join(secrets.choice(_SUFFIX) for _ in range(length))


def without_nulls(value: Any) -> Any:
    """Return a body without its nulls, which mean as much as absence."""
    if isinstance(value, dict):
        return {key: without_nulls(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [without_nulls(each) for each in value]
    return value


def name_it(item: dict[str, Any], namespace: str) -> None:
    """Fill in the metadata of a new object: namespace, a name from `generateName`, the time."""
    metadata = item.setdefault("metadata", {})
    metadata["namespace"] = namespace
    if not metadata.get("name") and metadata.get("generateName"):
        metadata["name"] = metadata["generateName"] + random_suffix()
    for name in ("uid", "resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds"):
        metadata.pop(name, None)
    metadata["creationTimestamp"] = now()
    metadata["generation"] = 1


def default_pod_spec(spec: dict[str, Any], grace_seconds: int) -> None:
    """Fill in a pod's spec, in place."""
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("terminationGracePeriodSeconds", grace_seconds)
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("schedulerName", "default-scheduler")
    spec.setdefault("securityContext", {})
    if name := spec.get("serviceAccountName"):
        spec.setdefault("serviceAccount", name)
    for container in [*(spec.get("initContainers") or ()), *spec["containers"]]:
        container.setdefault("terminationMessagePath", "/dev/termination-log")
        container.setdefault("terminationMessagePolicy", "File")
        tag = container["image"].rsplit("/", 1)[-1].partition(":")[2]
        container.setdefault("imagePullPolicy", "Always" if tag in ("", "latest") else "IfNotPresent")
        resources = container.setdefault("resources", {})
        if limits := resources.get("limits"):
            resources["requests"] = dict(limits) | resources.get("requests", {})


def default_pod(pod: dict[str, Any], grace_seconds: int) -> None:
    """Fill in a new pod, in place: its spec, what admission adds, its first status."""
    default_pod_spec(pod["spec"], grace_seconds)
    pod["spec"].setdefault("serviceAccountName", "default")
    pod["spec"].setdefault("serviceAccount", pod["spec"]["serviceAccountName"])
    pod["status"] = {"phase": "Pending", "qosClass": "Burstable"}


def default_job(job: dict[str, Any], uid: str, grace_seconds: int) -> None:
    """Fill in a new Job, in place: its spec, its selector, the labels of its pods, an empty status."""
    job["metadata"]["uid"] = uid
    spec = job["spec"]
    for name, value in (
        ("parallelism", 1), ("completions", 1), ("backoffLimit", 6), ("completionMode", "NonIndexed"),
        ("suspend", False), ("manualSelector", False),
    ):  # fmt: skip
        spec.setdefault(name, value)
    spec.setdefault("podReplacementPolicy", "Failed" if spec.get("podFailurePolicy") else "TerminatingOrFailed")
    for rule in (spec.get("podFailurePolicy") or {}).get("rules", ()):
        for condition in rule.get("onPodConditions", ()):
            condition.setdefault("status", "True")
    name = job["metadata"]["name"]
    labels = {CONTROLLER_UID: uid, JOB_NAME: name, "controller-uid": uid, "job-name": name}
    template = spec["template"]
    if not job["metadata"].get("labels"):
        job["metadata"]["labels"] = dict(template.get("metadata", {}).get("labels", {}))
    metadata = template.setdefault("metadata", {})
    metadata["labels"] = metadata.get("labels", {}) | labels
    spec["selector"] = {"matchLabels": {CONTROLLER_UID: uid}}
    default_pod_spec(template["spec"], grace_seconds)
    job["status"] = {}


def pod_of_job(job: Mapping[str, Any], grace_seconds: int) -> dict[str, Any]:
    """Return a new pod from a Job's template, owned by the Job and held by its finalizer until it is counted."""
    template = copy.deepcopy(job["spec"]["template"])
    name = job["metadata"]["name"]
    metadata = {key: value for key, value in template.get("metadata", {}).items() if key in ("labels", "annotations")}
    pod: dict[str, Any] = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
    name_it(pod, job["metadata"]["namespace"])
    metadata["generateName"] = f"{name}-"
    metadata["name"] = f"{name[:57]}-{random_suffix()}"
    metadata["finalizers"] = [JOB_FINALIZER]
    metadata["ownerReferences"] = [
        {
            "apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": job["metadata"]["uid"],
            "controller": True, "blockOwnerDeletion": True,
        }
    ]  # fmt: skip
    default_pod(pod, grace_seconds)
    return pod
