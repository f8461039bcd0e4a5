"""What the Kubernetes API says about a Job, its pods and their node, reduced to what the decisions need.

The builders take an object as the API writes it in JSON (camelCase, RFC 3339 times). A field that is missing, null or
of another kind than expected is as good as absent: a newer or older API server must not stop a health check.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from avatar_pipeline.spot.types import CapacityType

STEP_CONTAINER = "dagster"
"""What dagster-k8s calls the container that runs a step, unless its configuration names it otherwise."""

INSTANCE_TYPE_LABEL = "node.kubernetes.io/instance-type"
ZONE_LABEL = "topology.kubernetes.io/zone"
CAPACITY_TYPE_LABELS = ("karpenter.sh/capacity-type", "eks.amazonaws.com/capacityType")


@dataclass(frozen=True, slots=True)
class Condition:
    """One entry of `status.conditions`; `at` is its last transition."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class JobView:
    """A Job of the Batch API. `deleting`: it has a deletion timestamp, and something still holds it."""

    name: str = ""
    uid: str = ""
    created_at: datetime | None = None
    start_time: datetime | None = None
    completion_time: datetime | None = None
    active: int = 0
    failed: int = 0
    succeeded: int = 0
    conditions: tuple[Condition, ...] = ()
    deleting: bool = False

    def condition(self, *types: str) -> Condition | None:
        """Return the first condition of these types, in this order, that holds."""
        return _holding(self.conditions, types)


@dataclass(frozen=True, slots=True)
class ContainerView:
    """A container of a pod: it waits, runs, or has terminated (then `exit_code` is not None)."""

    name: str = ""
    init: bool = False
    waiting_reason: str = ""
    waiting_message: str = ""
    running_since: datetime | None = None
    exit_code: int | None = None
    signal: int | None = None
    terminated_reason: str = ""
    terminated_message: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class PodView:
    """A pod. `started_at` is when the kubelet took it; `grace_seconds` what its deletion, else its spec, grants."""

    name: str = ""
    uid: str = ""
    phase: str = ""
    reason: str = ""
    message: str = ""
    node: str | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    deletion_requested_at: datetime | None = None
    grace_seconds: float = 30.0
    conditions: tuple[Condition, ...] = ()
    containers: tuple[ContainerView, ...] = ()

    def condition(self, *types: str) -> Condition | None:
        """Return the first condition of these types, in this order, that holds."""
        return _holding(self.conditions, types)

    @property
    def step(self) -> ContainerView | None:
        """The container that runs the step: by its name, else the first that is not an init container."""
        own = [container for container in self.containers if not container.init]
        return next((container for container in own if container.name == STEP_CONTAINER), own[0] if own else None)

    @property
    def scheduled(self) -> bool:
        """Whether it has a node."""
        return self.node is not None or self.condition("PodScheduled") is not None

    @property
    def ended(self) -> bool:
        """Whether nothing of it can run any more, as far as its kubelet has said."""
        if self.phase in {"Succeeded", "Failed"}:
            return True
        step = self.step
        return step is not None and step.exit_code is not None


@dataclass(frozen=True, slots=True)
class Taint:
    """A taint of a node."""

    key: str
    effect: str = ""
    value: str = ""


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node. `ready` is None where it has no Ready condition yet.

    `silent_since`: the control plane has not heard of it (Ready is "Unknown", which counts as not ready).
    """

    name: str = ""
    instance_type: str | None = None
    zone: str | None = None
    capacity_type: CapacityType | None = None
    ready: bool | None = None
    silent_since: datetime | None = None
    taints: tuple[Taint, ...] = ()
    deleting: bool = False


@dataclass(frozen=True, slots=True)
class EventView:
    """An event of the Core API or of events.k8s.io; `about` is the name of the Job or pod."""

    reason: str = ""
    message: str = ""
    count: int = 1
    last_seen: datetime | None = None
    type: str = ""
    about: str = ""


def job_view(obj: Mapping[str, Any]) -> JobView:
    """Read a Job from the API's JSON."""
    metadata, status = _mapping(obj, "metadata"), _mapping(obj, "status")
    return JobView(
        name=_text(metadata, "name"),
        uid=_text(metadata, "uid"),
        created_at=_time(metadata, "creationTimestamp"),
        start_time=_time(status, "startTime"),
        completion_time=_time(status, "completionTime"),
        active=_integer(status, "active") or 0,
        failed=_integer(status, "failed") or 0,
        succeeded=_integer(status, "succeeded") or 0,
        conditions=_conditions(status),
        deleting=_time(metadata, "deletionTimestamp") is not None,
    )


def pod_view(obj: Mapping[str, Any]) -> PodView:
    """Read a pod from the API's JSON."""
    metadata, spec, status = _mapping(obj, "metadata"), _mapping(obj, "spec"), _mapping(obj, "status")
    granted = _integer(metadata, "deletionGracePeriodSeconds")
    if granted is None:
        granted = _integer(spec, "terminationGracePeriodSeconds")
    ends_at = _time(metadata, "deletionTimestamp")
    grace = 30.0 if granted is None else float(max(0, granted))
    return PodView(
        name=_text(metadata, "name"),
        uid=_text(metadata, "uid"),
        phase=_text(status, "phase"),
        reason=_text(status, "reason"),
        message=_text(status, "message"),
        node=_text(spec, "nodeName") or None,
        created_at=_time(metadata, "creationTimestamp"),
        started_at=_time(status, "startTime"),
        deletion_requested_at=_requested_at(ends_at, metadata),
        grace_seconds=grace,
        conditions=_conditions(status),
        containers=(
            *(_container(each, init=True) for each in _list(status, "initContainerStatuses")),
            *(_container(each, init=False) for each in _list(status, "containerStatuses")),
        ),
    )


def node_view(obj: Mapping[str, Any]) -> NodeView:
    """Read a node from the API's JSON; the capacity type as Karpenter or an EKS node group labels it."""
    metadata, status = _mapping(obj, "metadata"), _mapping(obj, "status")
    labels = _mapping(metadata, "labels")
    ready = next((each for each in _conditions(status) if each.type == "Ready"), None)
    return NodeView(
        name=_text(metadata, "name"),
        instance_type=_text(labels, INSTANCE_TYPE_LABEL) or None,
        zone=_text(labels, ZONE_LABEL) or None,
        capacity_type=_capacity_type(labels),
        ready=None if ready is None else ready.status == "True",
        silent_since=ready.at if ready is not None and ready.status == "Unknown" else None,
        taints=tuple(
            Taint(_text(each, "key"), _text(each, "effect"), _text(each, "value"))
            for each in _list(_mapping(obj, "spec"), "taints")
        ),
        deleting=_time(metadata, "deletionTimestamp") is not None,
    )


def event_view(obj: Mapping[str, Any]) -> EventView:
    """Read an event from the API's JSON: `v1` or `events.k8s.io/v1`, single or as a series."""
    series = _mapping(obj, "series")
    seen = (
        _time(series, "lastObservedTime"),
        _time(obj, "lastTimestamp"),
        _time(obj, "deprecatedLastTimestamp"),
        _time(obj, "eventTime"),
        _time(_mapping(obj, "metadata"), "creationTimestamp"),
    )
    about = _mapping(obj, "involvedObject") or _mapping(obj, "regarding")
    return EventView(
        reason=_text(obj, "reason"),
        message=_text(obj, "message") or _text(obj, "note"),
        count=_integer(series, "count") or _integer(obj, "count") or _integer(obj, "deprecatedCount") or 1,
        last_seen=next((time for time in seen if time is not None), None),
        type=_text(obj, "type"),
        about=_text(about, "name"),
    )


def _holding(conditions: tuple[Condition, ...], types: tuple[str, ...]) -> Condition | None:
    holding = {condition.type: condition for condition in conditions if condition.status == "True"}
    return next((holding[name] for name in types if name in holding), None)


def _requested_at(ends_at: datetime | None, metadata: Mapping[str, Any]) -> datetime | None:
    """The API writes when the grace ends; the request came the granted seconds before that."""
    if ends_at is None:
        return None
    granted = max(0, _integer(metadata, "deletionGracePeriodSeconds") or 0)
    try:
        return datetime.fromtimestamp(ends_at.timestamp() - granted, UTC)
    except (OverflowError, OSError, ValueError):
        return ends_at


def _container(obj: Mapping[str, Any], *, init: bool) -> ContainerView:
    state = _mapping(obj, "state")
    waiting, running, terminated = (_mapping(state, kind) for kind in ("waiting", "running", "terminated"))
    return ContainerView(
        name=_text(obj, "name"),
        init=init,
        waiting_reason=_text(waiting, "reason"),
        waiting_message=_text(waiting, "message"),
        running_since=_time(running, "startedAt"),
        exit_code=_integer(terminated, "exitCode"),
        signal=_integer(terminated, "signal"),
        terminated_reason=_text(terminated, "reason"),
        terminated_message=_text(terminated, "message"),
        started_at=_time(terminated, "startedAt") or _time(running, "startedAt"),
        finished_at=_time(terminated, "finishedAt"),
    )


def _conditions(status: Mapping[str, Any]) -> tuple[Condition, ...]:
    return tuple(
        Condition(
            type=_text(each, "type"),
            status=_text(each, "status"),
            reason=_text(each, "reason"),
            message=_text(each, "message"),
            at=_time(each, "lastTransitionTime"),
        )
        for each in _list(status, "conditions")
    )


def _capacity_type(labels: Mapping[str, Any]) -> CapacityType | None:
    for label in CAPACITY_TYPE_LABELS:
        value = _text(labels, label).lower().replace("_", "-")
        if value in set(CapacityType):
            return CapacityType(value)
    return None


def _mapping(obj: Any, key: str) -> Mapping[str, Any]:
    value = obj.get(key) if isinstance(obj, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def _list(obj: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    value = obj.get(key)
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


def _text(obj: Mapping[str, Any], key: str) -> str:
    value = obj.get(key)
    return value if isinstance(value, str) else ""


def _integer(obj: Mapping[str, Any], key: str) -> int | None:
    value = obj.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _time(obj: Mapping[str, Any], key: str) -> datetime | None:
    value = obj.get(key)
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    if time is None:
        return None
    try:
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except OverflowError:
        return None
