"""What befalls nodes and pods, and how the cluster shows it."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import pytest

from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.lab.cluster import Cluster, Node, Taint
from tests.lab.cluster.conftest import Start
from tests.lab.cluster.manifests import DEAF, FAIL_ON_DISRUPTION, UNTIL_TERM, job, pod

SPOT_NODES = (Node.of("g5.xlarge", capacity_type="spot", name="spot-1"),)
STRICT = {"podFailurePolicy": FAIL_ON_DISRUPTION}


def disruption(cluster: Cluster, name: str) -> tuple[str, str]:
    told = cluster.wait_for(lambda: cluster.happenings("pod_disrupted", name))[0]
    return told.detail["reason"], told.detail["message"]


def signals(cluster: Cluster, name: str) -> list[str]:
    return [each.detail["signal"] for each in cluster.happenings("signal_sent", name)]


def test_a_reclaimed_node_evicts_its_pods_and_is_gone_at_the_end_of_the_notice(start: Start) -> None:
    cluster, k8s = start(SPOT_NODES)
    k8s.create(job("step", UNTIL_TERM, spec=STRICT))
    name = k8s.running("step")
    cluster.reclaim("spot-1", 0.3)
    k8s.ended("step")
    assert disruption(cluster, name) == ("EvictionByEvictionAPI", "Eviction API: evicting")
    assert signals(cluster, name) == ["SIGTERM"]
    assert "told to end" in cluster.logs(name)
    assert cluster.happenings("node_tainted")[0].detail["key"] == "karpenter.sh/disrupted"
    gone = cluster.wait_for(lambda: cluster.happenings("node_deleted", "spot-1"))[0]
    assert 0.29 < gone.at - cluster.happenings("fault")[0].at < 2
    assert cluster.happenings("job_failed")[0].at < gone.at


def test_who_is_deaf_to_the_notice_is_killed_with_the_machine(start: Start) -> None:
    cluster, k8s = start(SPOT_NODES)
    k8s.create(job("deaf", DEAF, spec=STRICT))
    name = k8s.running("deaf")
    cluster.reclaim("spot-1", 0.2)
    done = k8s.ended("deaf")
    assert signals(cluster, name) == ["SIGTERM", "SIGKILL"]
    assert done.status.conditions[-1].reason == "PodFailurePolicy"
    cluster.wait_for(lambda: not cluster.pods() and not cluster.nodes() and not cluster.processes())


def test_a_node_that_dies_without_notice_is_known_by_its_silence(start: Start) -> None:
    cluster, k8s = start(
        SPOT_NODES, node_monitor_grace_seconds=0.1, unreachable_toleration_seconds=0.1, node_removal_seconds=0.3,
        pod_gc_seconds=0.1,
    )  # fmt: skip
    k8s.create(job("step", UNTIL_TERM, spec=STRICT))
    name = k8s.running("step")
    assert cluster.processes()
    cluster.kill("spot-1")
    cluster.wait_for(lambda: not cluster.processes())
    assert k8s.pod(name).status.phase == "Running"
    assert k8s.job("step").status.active == 1
    cluster.wait_for(lambda: cluster.happenings("node_not_ready", "spot-1"))
    reason = ("DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint")
    assert disruption(cluster, name) == reason
    done = k8s.ended("step")
    assert done.status.conditions[-1].message.endswith(
        "has condition DisruptionTarget matching FailJob rule at index 0"
    )
    assert signals(cluster, name) == ["SIGKILL"]
    order = [
        each.what
        for each in cluster.events
        if each.what in ("node_not_ready", "pod_disrupted", "node_deleted", "pod_failed")
    ]
    assert order == ["node_not_ready", "pod_disrupted", "node_deleted", "pod_failed"]
    assert cluster.happenings("job_failed")[0].at - cluster.happenings("fault")[0].at >= 0.49


def test_a_pod_whose_node_goes_first_is_failed_by_the_garbage_collector(start: Start) -> None:
    cluster, k8s = start(SPOT_NODES)
    k8s.create(job("step", UNTIL_TERM, spec=STRICT))
    name = k8s.running("step")
    cluster.remove_node("spot-1")
    assert disruption(cluster, name) == ("DeletionByPodGC", "PodGC: node no longer exists")
    k8s.ended("step")
    cluster.wait_for(lambda: not cluster.pods())


def test_a_node_can_be_lost_while_a_container_is_being_created(start: Start) -> None:
    quick = {"node_monitor_grace_seconds": 0.05, "node_removal_seconds": 0.05, "pod_gc_seconds": 0.05}
    cluster, k8s = start(SPOT_NODES, **quick)
    cluster.start_delay("*", 5)
    k8s.create(job("step", spec=STRICT))
    cluster.wait_for(lambda: any(pod["status"].get("containerStatuses") for pod in cluster.pods()))
    cluster.kill("spot-1")
    done = k8s.ended("step")
    assert done.status.conditions[-1].reason == "PodFailurePolicy"
    assert not cluster.happenings("container_started")


def test_a_pod_evicted_while_it_is_being_created_fails_with_unknown_containers(start: Start) -> None:
    cluster, k8s = start()
    cluster.start_delay("*", 5)
    k8s.create(pod("young"))
    cluster.wait_for(lambda: any(pod["status"].get("containerStatuses") for pod in cluster.pods()))
    seen: list[Any] = []
    cluster._machinery.state.store.listeners.append(lambda change: seen.append(change.after))
    cluster.evict("young")
    cluster.wait_for(lambda: cluster.happenings("pod_deleted", "young"))
    last = next(each for each in seen if each["kind"] == "Pod" and each["status"]["phase"] == "Failed")
    ended = last["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (137, "ContainerStatusUnknown")


def test_a_drained_node_is_cordoned_and_empty(start: Start) -> None:
    cluster, k8s = start()
    k8s.create(job("step", UNTIL_TERM, spec=STRICT))
    name = k8s.running("step")
    cluster.drain("node-1")
    assert disruption(cluster, name)[0] == "EvictionByEvictionAPI"
    k8s.ended("step")
    assert k8s.core.read_node("node-1").spec.unschedulable is True


def test_an_eviction_can_be_asked_for_over_the_api(start: Start) -> None:
    cluster, k8s = start()
    k8s.create(job("step", UNTIL_TERM, spec=STRICT))
    name = k8s.running("step")
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": "default"}}
    k8s.core.create_namespaced_pod_eviction(name, "default", eviction)
    assert disruption(cluster, name)[0] == "EvictionByEvictionAPI"


def test_a_node_shut_down_gracefully_leaves_failed_pods(start: Start) -> None:
    cluster, k8s = start(node_removal_seconds=5)
    k8s.create(job("step", UNTIL_TERM, spec=STRICT))
    name = k8s.running("step")
    cluster.shutdown("node-1")
    message = "Pod was terminated in response to imminent node shutdown."
    assert disruption(cluster, name) == ("TerminationByKubelet", message)
    k8s.ended("step")
    status = k8s.pod(name).status
    assert (status.phase, status.reason, status.message) == ("Failed", "Terminated", message)
    assert "told to end" in k8s.log(name)


def test_a_pod_evicted_for_want_of_memory_says_so(start: Start) -> None:
    cluster, k8s = start()
    k8s.create(job("step", UNTIL_TERM, spec=STRICT))
    name = k8s.running("step")
    cluster.press(name)
    k8s.ended("step")
    status = k8s.pod(name).status
    assert (status.phase, status.reason) == ("Failed", "Evicted")
    assert disruption(cluster, name)[0] == "TerminationByKubelet"


def test_a_preempted_pod_says_who_needed_its_place(start: Start) -> None:
    cluster, k8s = start()
    k8s.create(job("step", UNTIL_TERM, spec=STRICT))
    name = k8s.running("step")
    cluster.preempt(name)
    assert disruption(cluster, name)[0] == "PreemptionByScheduler"
    k8s.ended("step")


def test_a_taint_deletes_who_does_not_tolerate_it(start: Start) -> None:
    cluster, k8s = start()
    tolerations = {
        "none": [], "for-ever": [{"key": "out", "operator": "Exists"}],
        "a-second": [{"key": "out", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}],
    }  # fmt: skip
    for name, those in tolerations.items():
        k8s.create(job(name, UNTIL_TERM, tolerations=those))
        k8s.running(name)
    cluster.taint("node-1", Taint("out", effect="NoExecute"))
    at = cluster.happenings("node_tainted")[0].at
    ended = [
        cluster.wait_for(lambda name=name: cluster.happenings("job_failed", name))[0] for name in ("none", "a-second")
    ]
    assert ended[0].at - at < 0.8
    assert 0.9 < ended[1].at - at < 3
    assert [each["metadata"]["labels"]["job-name"] for each in cluster.pods(phase="Running")] == ["for-ever"]


def test_a_killed_pod_is_no_disruption(start: Start) -> None:
    cluster, k8s = start()
    k8s.create(job("step", UNTIL_TERM, spec=STRICT))
    name = k8s.running("step")
    cluster.kill_pod(name)
    done = k8s.ended("step")
    assert done.status.conditions[-1].reason == "BackoffLimitExceeded"
    ended = k8s.pod(name).status.container_statuses[0].state.terminated
    assert (ended.exit_code, ended.reason, ended.signal) == (137, "Error", 9)
    assert not cluster.happenings("pod_disrupted")


def test_a_signal_reaches_the_process(start: Start) -> None:
    cluster, k8s = start()
    k8s.create(job("step", UNTIL_TERM))
    name = k8s.running("step")
    cluster.signal_pod(name)
    k8s.ended("step")
    assert k8s.pod(name).status.container_statuses[0].state.terminated.exit_code == 9


def test_all_that_a_container_started_ends_with_it(start: Start) -> None:
    cluster, k8s = start()
    k8s.create(job("parent", "setsid sleep 60 & sleep 60 & echo up; wait"))
    name = k8s.running("parent")
    many = cluster.processes()
    assert len(many) >= 2
    cluster.kill_pod(name)
    k8s.ended("parent")
    assert not any(alive(pid) for pid in many)


def test_a_daemon_that_a_container_leaves_behind_ends_with_it(start: Start) -> None:
    cluster, k8s = start()
    k8s.create(job("leaver", "setsid sleep 61 & echo $!; sleep 0.1"))
    name = k8s.running("leaver")
    daemon = int(cluster.logs(name))
    k8s.ended("leaver")
    assert not alive(daemon)


def alive(pid: int) -> bool:
    import psutil

    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_name_that_is_not_there_is_refused(start: Start) -> None:
    cluster, _ = start()
    for command in (cluster.reclaim, cluster.kill_pod, cluster.delete_job):
        with pytest.raises(InvalidInput, match="'nobody'"):
            command("nobody")


def test_a_setting_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidInput, match="'grace'"):
        Cluster(grace=3)


def test_a_pod_hears_of_its_interruption_from_the_metadata_service(start: Start) -> None:
    cluster, k8s = start(SPOT_NODES, eviction_seconds=30)
    k8s.create(pod("asks", 'echo "$AWS_EC2_METADATA_SERVICE_ENDPOINT"'))
    cluster.wait_for(lambda: cluster.happenings("pod_succeeded"))
    url = f"{k8s.log('asks').strip()}/latest"

    def ask(path: str, method: str = "GET") -> str | None:
        request = urllib.request.Request(f"{url}/{path}", method=method)
        try:
            with urllib.request.urlopen(request) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            assert error.code == 404
            return None

    assert ask("api/token", "PUT") == "lab-token"
    assert ask("meta-data/instance-type") == "g5.xlarge"
    assert ask("meta-data/spot/instance-action") is None
    assert ask("meta-data/events/recommendations/rebalance") is None
    cluster.rebalance("spot-1")
    assert "noticeTime" in (ask("meta-data/events/recommendations/rebalance") or "")
    cluster.reclaim("spot-1", 60)
    assert json.loads(ask("meta-data/spot/instance-action") or "{}")["action"] == "terminate"
