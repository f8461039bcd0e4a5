"""A finished Job manifest, amended: where it may run, what it gets, what it is called and when it is given up. Pure.

Manifests are plain JSON objects with the API's own camelCase names, as the Kubernetes client's
`sanitize_for_serialization` makes them. `run_pod_config` alone speaks the snake_case of dagster-k8s.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.spot.labels import label_value
from avatar_pipeline.spot.node_affinity import capacity_value, place_on_nodes
from avatar_pipeline.spot.profiles import ComputeProfile
from avatar_pipeline.spot.types import CapacityType, Placement
from avatar_pipeline.spot.views import CAPACITY_TYPE_LABELS, STEP_CONTAINER

Manifest = dict[str, Any]

GPU_RESOURCE = "nvidia.com/gpu"
DRIVER_CAPABILITIES = "NVIDIA_DRIVER_CAPABILITIES"
"""`graphics` in it is what EGL needs; the NVIDIA runtime leaves it out unless asked."""
KARPENTER_ANNOTATION = "karpenter.sh/do-not-disrupt"
AUTOSCALER_ANNOTATION = "cluster-autoscaler.kubernetes.io/safe-to-evict"
_LOST_NODE_TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_ON_DISRUPTION = {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}


def amend(
    job: Mapping[str, Any],
    *,
    profile: ComputeProfile,
    placement: Placement,
    labels: Mapping[str, str],
    env: Mapping[str, str],
    container: str = STEP_CONTAINER,
) -> Manifest:
    """Return a Job manifest like `job`, with a profile and a placement in it. Amending again changes nothing.

    What the profile or the placement speaks of replaces what was there, since it comes from launchers and code
    locations that know nothing of GPUs: capacity type, instance types, node pools and zones wherever they are asked
    for, requests for CPU, memory and GPUs, grace period, retries. All else stays: volumes, secrets, service account,
    sidecars, other tolerations and affinities. Of two active deadlines the earlier holds. `labels` and `env` win over
    the profile's.

    The Job fails when Kubernetes takes its pod away, and makes no second pod: a pod that Kubernetes replaced would find
    its step begun, and end without a word (dagster #33755).

    Raises:
        InvalidInput: the manifest has no container.
    """
    amended: Manifest = copy.deepcopy(dict(job))
    spec = _at(amended, "spec")
    template = _at(spec, "template")
    pod = _at(template, "spec")

    names = {**profile.labels, **{key: label_value(value) for key, value in labels.items()}}
    _at(_at(amended, "metadata"), "labels").update(names)
    metadata = _at(template, "metadata")
    _at(metadata, "labels").update(names)
    if profile.do_not_disrupt is not None:
        _at(metadata, "annotations").update(_undisturbed(profile.do_not_disrupt))

    spec["backoffLimit"] = 0
    spec["podFailurePolicy"] = {"rules": _failure_rules(spec.get("podFailurePolicy"))}
    deadlines = [spec.get("activeDeadlineSeconds"), profile.active_deadline_seconds]
    if known := [deadline for deadline in deadlines if deadline is not None]:
        spec["activeDeadlineSeconds"] = min(known)

    pod["restartPolicy"] = "Never"
    pod["terminationGracePeriodSeconds"] = profile.termination_grace_seconds
    pod["tolerations"] = _tolerations(pod.get("tolerations") or (), profile, placement.capacity_type)
    place_on_nodes(pod, profile, placement)
    _amend_container(_container(pod, container, _name(amended)), profile, env)
    return amended


def run_pod_config(
    *,
    cpus: float = 2,
    memory_gib: float = 8,
    termination_grace_seconds: int = 60,
    capacity_label: str = CAPACITY_TYPE_LABELS[0],
    annotations: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return `dagster-k8s/config` for the tags of a job: its run pod stays on on-demand capacity.

    In a job's tags, since they do not reach the pods of steps; set on the launcher, it would. The capacity type is a
    node selector, not an affinity: dagster-k8s appends terms of affinities, of which any one is then enough, while a
    node selector replaces the launcher's. The run pod hosts the CPU steps too, so give it what they need.
    """
    memory = _mebibytes(memory_gib)
    return {
        "container_config": {
            "resources": {"requests": {"cpu": _cpu(cpus), "memory": memory}, "limits": {"memory": memory}}
        },
        "pod_template_spec_metadata": {"annotations": {**_undisturbed("true"), **(annotations or {})}},
        "pod_spec_config": {
            "node_selector": {capacity_label: capacity_value(capacity_label, CapacityType.ON_DEMAND)},
            "termination_grace_period_seconds": termination_grace_seconds,
        },
        "job_spec_config": {"backoff_limit": 0},
    }


def _undisturbed(how: str) -> dict[str, str]:
    return {KARPENTER_ANNOTATION: how, AUTOSCALER_ANNOTATION: "false"}


def _failure_rules(policy: Mapping[str, Any] | None) -> list[Any]:
    """Ours, then those that were there, but none that has a pod replaced or not counted."""
    before = (policy or {}).get("rules") or ()
    return [_ON_DISRUPTION, *(rule for rule in before if rule["action"] == "FailJob" and rule != _ON_DISRUPTION)]


def _tolerations(before: Sequence[Any], profile: ComputeProfile, capacity_type: CapacityType) -> list[Any]:
    wanted = profile.tolerations + (profile.spot_tolerations if capacity_type is CapacityType.SPOT else ())
    ours = [one.model_dump(exclude_none=True) for one in wanted]
    # Kubernetes itself adds these with 300 s to pods that have none: five minutes in which a lost step is not noticed.
    ours += [
        {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": profile.lost_node_seconds}
        for key in _LOST_NODE_TAINTS
    ]
    kept = [
        one
        for one in before
        if one not in ours and not (one.get("key") in _LOST_NODE_TAINTS and one.get("effect") in {"NoExecute", None})
    ]
    return kept + [one for index, one in enumerate(ours) if one not in ours[:index]]


def _amend_container(container: Manifest, profile: ComputeProfile, env: Mapping[str, str]) -> None:
    if profile.image is not None:
        container["image"] = profile.image
    memory, gpus = _mebibytes(profile.memory_gib), str(profile.gpus)
    resources = _at(container, "resources")
    requests, limits = _at(resources, "requests"), _at(resources, "limits")
    requests.update({"cpu": _cpu(profile.cpus), "memory": memory, GPU_RESOURCE: gpus})
    # Memory is limited to what was asked for, so that a step that takes more is killed for it, not its neighbours.
    # Cores are not: what nobody else uses is free. A limit on storage would look like an eviction.
    limits.update({"memory": memory, GPU_RESOURCE: gpus})
    limits.pop("cpu", None)
    if profile.ephemeral_storage_gib is not None:
        requests["ephemeral-storage"] = _mebibytes(profile.ephemeral_storage_gib)
        limits.pop("ephemeral-storage", None)
    container["env"] = _environment(
        container.get("env") or (), {DRIVER_CAPABILITIES: profile.driver_capabilities} | dict(env)
    )


def _environment(before: Iterable[Any], values: Mapping[str, str]) -> list[Any]:
    """Variables replaced where they stood, for later ones may refer to them; new ones at the end."""
    left = dict(values)
    after: list[Any] = []
    for entry in before:
        if entry["name"] not in values:
            after.append(entry)
        elif entry["name"] in left:
            after.append({"name": entry["name"], "value": left.pop(entry["name"])})
    return after + [{"name": name, "value": value} for name, value in left.items()]


def _container(pod: Manifest, name: str, job: str) -> Manifest:
    """The container of that name; else the first, which is where dagster-k8s puts its own whatever it is called."""
    containers: list[Manifest] = pod.get("containers") or []
    if not containers:
        raise InvalidInput(f"The Job {job} has no container.", remedy="Give the manifest of a dagster-k8s step.")
    return next((one for one in containers if one.get("name") == name), containers[0])


def _name(job: Mapping[str, Any]) -> str:
    return str((job.get("metadata") or {}).get("name", "without a name"))


def _at(parent: Manifest, key: str) -> Manifest:
    """The object under `key`, which is made where it is missing or null."""
    if parent.get(key) is None:
        parent[key] = {}
    child: Manifest = parent[key]
    return child


def _cpu(cpus: float) -> str:
    millis = math.ceil(cpus * 1000)
    return f"{millis}m" if millis % 1000 else str(millis // 1000)


def _mebibytes(gib: float) -> str:
    mebibytes = math.ceil(gib * 1024)
    return f"{mebibytes}Mi" if mebibytes % 1024 else f"{mebibytes // 1024}Gi"
