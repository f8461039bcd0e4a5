"""Reading what the Kubernetes API writes, all of it or any part of it."""

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from avatar_pipeline.spot.types import CapacityType
from avatar_pipeline.spot.views import (
    Condition,
    ContainerView,
    EventView,
    Taint,
    event_view,
    job_view,
    node_view,
    pod_view,
)

JOB: dict[str, Any] = {
    "metadata": {
        "name": "dagster-step-1",
        "uid": "4d6a",
        "creationTimestamp": "2026-11-24T12:00:00Z",
        "deletionTimestamp": "2026-11-24T12:30:00Z",
    },
    "spec": {"backoffLimit": 0},
    "status": {
        "startTime": "2026-11-24T12:00:01Z",
        "completionTime": "2026-11-24T12:20:00Z",
        "failed": 1,
        "succeeded": 2,
        "active": 3,
        "conditions": [
            {
                "type": "FailureTarget",
                "status": "True",
                "reason": "PodFailurePolicy",
                "message": "Pod default/a has condition DisruptionTarget matching FailJob rule at index 0",
                "lastTransitionTime": "2026-11-24T12:10:00Z",
            }
        ],
    },
}
POD: dict[str, Any] = {
    "metadata": {
        "name": "dagster-step-1-abcde",
        "uid": "77",
        "creationTimestamp": "2026-11-24T12:00:01Z",
        "deletionTimestamp": "2026-11-24T12:11:40Z",
        "deletionGracePeriodSeconds": 100,
    },
    "spec": {"nodeName": "ip-10-0-0-7", "terminationGracePeriodSeconds": 90},
    "status": {
        "phase": "Running",
        "reason": "NodeLost",
        "message": "Node ip-10-0-0-7 which was running pod is unresponsive",
        "startTime": "2026-11-24T12:00:05.123456789Z",
        "conditions": [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-11-24T12:00:04Z"},
            {"type": "Ready", "status": "False", "reason": "ContainersNotReady"},
        ],
        "initContainerStatuses": [
            {"name": "wait", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off"}}}
        ],
        "containerStatuses": [
            {"name": "proxy", "state": {"running": {"startedAt": "2026-11-24T12:00:08Z"}}},
            {
                "name": "dagster",
                "state": {
                    "terminated": {
                        "exitCode": 137,
                        "signal": 9,
                        "reason": "OOMKilled",
                        "message": "killed",
                        "startedAt": "2026-11-24T12:00:09Z",
                        "finishedAt": "2026-11-24T14:09:00+02:00",
                    }
                },
            },
        ],
    },
}
NODE: dict[str, Any] = {
    "metadata": {
        "name": "ip-10-0-0-7",
        "labels": {
            "node.kubernetes.io/instance-type": "g5.xlarge",
            "topology.kubernetes.io/zone": "us-east-1a",
            "karpenter.sh/capacity-type": "spot",
        },
    },
    "spec": {"taints": [{"key": "karpenter.sh/disrupted", "effect": "NoSchedule"}]},
    "status": {"conditions": [{"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}]},
}
EVENT: dict[str, Any] = {
    "metadata": {"name": "e.1", "creationTimestamp": "2026-11-24T12:00:00Z"},
    "involvedObject": {"kind": "Pod", "name": "dagster-step-1-abcde"},
    "reason": "FailedScheduling",
    "message": "0/3 nodes are available",
    "type": "Warning",
    "count": 7,
    "lastTimestamp": "2026-11-24T12:05:00Z",
}


def at(minute: int, second: int = 0, micro: int = 0) -> datetime:
    return datetime(2026, 11, 24, 12, minute, second, micro, tzinfo=UTC)


def test_a_job_is_read_whole() -> None:
    job = job_view(JOB)
    assert (job.name, job.uid, job.deleting) == ("dagster-step-1", "4d6a", True)
    assert (job.created_at, job.start_time, job.completion_time) == (at(0), at(0, 1), at(20))
    assert (job.failed, job.succeeded, job.active) == (1, 2, 3)
    failure = job.condition("Failed", "FailureTarget")
    assert failure is not None
    assert (failure.reason, failure.at) == ("PodFailurePolicy", at(10))


def test_a_pod_is_read_whole() -> None:
    pod = pod_view(POD)
    assert (pod.name, pod.uid, pod.phase, pod.reason, pod.node) == (
        "dagster-step-1-abcde",
        "77",
        "Running",
        "NodeLost",
        "ip-10-0-0-7",
    )
    assert pod.message.startswith("Node ip-10-0-0-7")
    assert (pod.created_at, pod.started_at) == (at(0, 1), at(0, 5, 123456))
    assert pod.condition("PodScheduled") == Condition("PodScheduled", "True", at=at(0, 4))
    wait, proxy, step = pod.containers
    assert wait == ContainerView("wait", True, "ImagePullBackOff", "Back-off")
    assert proxy.running_since == at(0, 8)
    assert step == ContainerView(
        name="dagster",
        exit_code=137,
        signal=9,
        terminated_reason="OOMKilled",
        terminated_message="killed",
        started_at=at(0, 9),
        finished_at=at(9),
    )


def test_a_deletion_was_asked_for_its_grace_before_the_time_that_the_api_writes() -> None:
    pod = pod_view(POD)
    assert (pod.deletion_requested_at, pod.grace_seconds) == (at(10), 100)


def test_the_grace_of_a_pod_that_is_not_deleted_is_that_of_its_spec_or_kubernetes_default() -> None:
    assert pod_view({"spec": {"terminationGracePeriodSeconds": 90}}).grace_seconds == 90
    assert pod_view({}).grace_seconds == 30


def test_a_condition_that_does_not_hold_is_none() -> None:
    assert pod_view(POD).condition("Ready") is None


def test_the_step_is_the_container_of_dagsters_name_else_the_first_that_is_not_init() -> None:
    step = pod_view(POD).step
    assert step is not None
    assert step.name == "dagster"
    named = {"initContainerStatuses": [{"name": "wait"}], "containerStatuses": [{"name": "mine"}, {"name": "proxy"}]}
    first = pod_view({"status": named}).step
    assert first is not None
    assert first.name == "mine"
    assert pod_view({"status": {"initContainerStatuses": [{"name": "wait"}]}}).step is None


def test_a_pod_has_ended_when_its_phase_or_its_step_says_so() -> None:
    assert pod_view({"status": {"phase": "Failed"}}).ended
    assert pod_view(POD).ended
    running = {"phase": "Running", "containerStatuses": [{"name": "dagster", "state": {"running": {}}}]}
    assert not pod_view({"status": running}).ended
    assert not pod_view({"status": {"phase": "Pending"}}).ended


def test_a_node_is_read_whole_and_no_heartbeat_is_not_ready() -> None:
    node = node_view(NODE)
    assert (node.name, node.instance_type, node.zone) == ("ip-10-0-0-7", "g5.xlarge", "us-east-1a")
    assert node.capacity_type is CapacityType.SPOT
    assert node.ready is False
    assert node.taints == (Taint("karpenter.sh/disrupted", "NoSchedule"),)
    assert node_view({}).ready is None


def test_eks_node_groups_label_the_capacity_type_in_their_own_way() -> None:
    def capacity(value: str) -> CapacityType | None:
        return node_view({"metadata": {"labels": {"eks.amazonaws.com/capacityType": value}}}).capacity_type

    assert capacity("SPOT") is CapacityType.SPOT
    assert capacity("ON_DEMAND") is CapacityType.ON_DEMAND
    assert capacity("CAPACITY_BLOCK") is None


def test_an_event_of_either_api_is_read() -> None:
    expected = EventView("FailedScheduling", "0/3 nodes are available", 7, at(5), "Warning", "dagster-step-1-abcde")
    assert event_view(EVENT) == expected
    newer = {
        "regarding": {"name": "dagster-step-1-abcde"},
        "reason": "FailedScheduling",
        "note": "0/3 nodes are available",
        "type": "Warning",
        "eventTime": "2026-11-24T12:00:00.000000Z",
        "series": {"count": 7, "lastObservedTime": "2026-11-24T12:05:00.000000Z"},
    }
    assert event_view(newer) == expected


def _paths(obj: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where in an object something can be left out or be of another kind."""
    items = obj.items() if isinstance(obj, dict) else enumerate(obj) if isinstance(obj, list) else ()
    found = []
    for key, value in items:
        found += [(*path, key), *_paths(value, (*path, key))]
    return found


odd = st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=4), st.just([]), st.just({}), st.just([None]))


@given(data=st.data())
def test_whatever_is_missing_or_of_another_kind_is_as_good_as_absent(data: st.DataObject) -> None:
    reader, whole = data.draw(
        st.sampled_from([(job_view, JOB), (pod_view, POD), (node_view, NODE), (event_view, EVENT)]), label="kind"
    )
    obj = json.loads(json.dumps(whole))
    for path in data.draw(st.lists(st.sampled_from(_paths(obj)), max_size=6, unique=True), label="changed"):
        holder: Any = obj
        for key in path[:-1]:
            holder = holder[key] if isinstance(holder, dict | list) and _has(holder, key) else None
        if not isinstance(holder, dict | list) or not _has(holder, path[-1]):
            continue
        if isinstance(holder, dict) and data.draw(st.booleans(), label="left out"):
            del holder[path[-1]]
        else:
            holder[path[-1]] = data.draw(odd, label="instead")
    view = reader(obj)
    assert hash(view) == hash(reader(obj))


def test_times_that_cannot_be_are_as_good_as_absent() -> None:
    for time in ("yesterday", "", "0001-01-01T00:00:00+14:00", 5):
        assert job_view({"metadata": {"creationTimestamp": time}}).created_at is None
    early = {"deletionTimestamp": "0001-01-01T00:00:00Z", "deletionGracePeriodSeconds": 10**12}
    assert pod_view({"metadata": early}).deletion_requested_at == datetime(1, 1, 1, tzinfo=UTC)


def _has(holder: Any, key: Any) -> bool:
    if isinstance(holder, dict):
        return key in holder
    return isinstance(key, int) and key < len(holder)
