"""Where pods may run, and what is said where they may not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar_pipeline.lab.cluster import Node, Offering, Taint
from avatar_pipeline.lab.cluster.quantities import as_resources, requested
from avatar_pipeline.lab.cluster.scheduling import obstacles, preference, tolerates
from avatar_pipeline.lab.cluster.selecting import label_selector, matches_expression, matches_node_terms
from tests.lab.cluster.conftest import Start
from tests.lab.cluster.manifests import UNTIL_TERM, job, pod

SPOT = {"karpenter.sh/capacity-type": "spot"}
ON_DEMAND = {"karpenter.sh/capacity-type": "on-demand"}


def one_gpu(cpu: str = "1") -> dict[str, Any]:
    return {"resources": {"limits": {"nvidia.com/gpu": "1", "cpu": cpu}}}


def required(*terms: list[dict[str, Any]]) -> dict[str, Any]:
    found = {"nodeSelectorTerms": [{"matchExpressions": term} for term in terms]}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": found}}}


def needs(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"key": key, "operator": operator, **({"values": list(values)} if values else {})}


def test_a_pod_goes_to_the_node_it_names_by_label(start: Start) -> None:
    cluster, k8s = start([Node("a"), Node("b", labels={"disk": "fast"})])
    k8s.create(pod("picky", nodeSelector={"disk": "fast"}))
    cluster.wait_for(lambda: cluster.happenings("pod_succeeded"))
    assert k8s.pod("picky").spec.node_name == "b"
    assert "Successfully assigned default/picky to b" in k8s.messages("picky")


def test_gpus_are_given_out_once(start: Start) -> None:
    cluster, k8s = start([Node.of("g5.xlarge", name="gpu")])
    k8s.create(job("first", UNTIL_TERM, container=one_gpu()))
    k8s.running("first")
    k8s.create(job("second", container=one_gpu()))
    told = cluster.wait_for(lambda: cluster.happenings("pod_unschedulable"))[0]
    assert told.detail["message"].startswith("0/1 nodes are available: 1 Insufficient nvidia.com/gpu.")
    cluster.delete_job("first")
    assert k8s.ended("second").status.succeeded == 1


def test_what_fits_nowhere_is_told_node_by_node(start: Start) -> None:
    tainted = Node("tainted", taints=(Taint("dedicated", "gpu"),))
    cluster, k8s = start([Node("small", cpu=1), tainted, Node("other", labels={"zone": "b"})])
    k8s.create(pod("stuck", nodeSelector={"zone": "a"}, container={"resources": {"requests": {"cpu": "2"}}}))
    cluster.wait_for(lambda: cluster.happenings("pod_unschedulable"))
    status = k8s.pod("stuck").status
    assert [(each.type, each.status, each.reason) for each in status.conditions] == [
        ("PodScheduled", "False", "Unschedulable")
    ]
    message = k8s.messages("stuck")[0]
    assert message.startswith("0/3 nodes are available: 1 node(s) had untolerated taint {dedicated: gpu}, ")
    assert "2 node(s) didn't match Pod's node affinity/selector" in message


def test_a_cluster_without_nodes_says_that(start: Start) -> None:
    cluster, k8s = start([])
    k8s.create(pod("alone"))
    told = cluster.wait_for(lambda: cluster.happenings("pod_unschedulable"))[0]
    assert told.detail["message"] == "no nodes available to schedule pods"
    cluster.add_node(Node("late"))
    cluster.wait_for(lambda: cluster.happenings("pod_succeeded", "alone"))


def test_preferred_terms_choose_among_what_fits(start: Start) -> None:
    cluster, k8s = start([Node("a"), Node("b", labels={"zone": "b"}), Node("c", labels={"zone": "c"})])
    weighted = [
        {"weight": weight, "preference": {"matchExpressions": [needs("zone", "In", zone)]}}
        for weight, zone in ((10, "b"), (90, "c"))
    ]
    affinity = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": weighted}}
    k8s.create(pod("choosy", affinity=affinity))
    assert cluster.wait_for(lambda: cluster.happenings("pod_scheduled"))[0].detail["node"] == "c"


def test_the_autoscaler_buys_what_suits_a_pod_after_its_delay(start: Start) -> None:
    offerings = [
        Offering("m7i.xlarge"), Offering("g5.xlarge", "us-east-1b", "spot", delay_seconds=0.15), Offering("g6.xlarge"),
    ]  # fmt: skip
    cluster, k8s = start([Node("cpu")], offerings)
    k8s.create(job("gpu", container=one_gpu(), nodeSelector=SPOT))
    assert k8s.ended("gpu").status.succeeded == 1
    node = cluster.nodes(labels=SPOT)[0]
    assert node["metadata"]["labels"]["node.kubernetes.io/instance-type"] == "g5.xlarge"
    assert node["metadata"]["labels"]["topology.kubernetes.io/zone"] == "us-east-1b"
    assert cluster.happenings("node_added")[-1].at - cluster.happenings("pod_created")[0].at >= 0.15
    assert len(cluster.nodes()) == 2


def test_preferences_of_a_pod_go_before_the_order_of_offerings(start: Start) -> None:
    cluster, k8s = start([], [Offering("g5.xlarge"), Offering("g6.xlarge")])
    term = {"matchExpressions": [needs("node.kubernetes.io/instance-type", "In", "g6.xlarge")]}
    affinity = {
        "nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": term}]}
    }
    k8s.create(job("prefers", container=one_gpu(), affinity=affinity))
    k8s.ended("prefers")
    assert cluster.nodes()[0]["metadata"]["labels"]["node.kubernetes.io/instance-type"] == "g6.xlarge"


def test_an_offering_gives_no_more_than_its_count(start: Start) -> None:
    quick = {"node_monitor_grace_seconds": 0.05, "node_removal_seconds": 0.05, "pod_gc_seconds": 0.05}
    cluster, k8s = start([], [Offering("g5.xlarge", count=1)], **quick)
    k8s.create(job("has", UNTIL_TERM, container=one_gpu()))
    k8s.running("has")
    k8s.create(job("has-not", container=one_gpu()))
    name = cluster.wait_for(lambda: cluster.pods(job="has-not"))[0]["metadata"]["name"]
    cluster.wait_for(lambda: any("no instance type" in message for message in k8s.messages(name)))
    assert len(cluster.nodes()) == 1
    cluster.kill(cluster.nodes()[0]["metadata"]["name"])
    assert k8s.ended("has-not").status.succeeded == 1


def test_withheld_capacity_comes_back_when_it_is_restored(start: Start) -> None:
    cluster, k8s = start([Node("cpu")], [Offering("g5.xlarge", capacity_type="spot")])
    cluster.withhold(SPOT)
    k8s.create(job("waits", container=one_gpu(), nodeSelector=SPOT))
    name = cluster.wait_for(lambda: cluster.happenings("pod_unschedulable"))[0].name
    cluster.wait_for(lambda: any("no instance type" in message for message in k8s.messages(name)))
    assert len(cluster.nodes()) == 1
    assert k8s.pod(name).status.phase == "Pending"
    cluster.restore(SPOT)
    assert k8s.ended("waits").status.succeeded == 1


def test_free_nodes_are_withheld_too_and_running_pods_stay(start: Start) -> None:
    cluster, k8s = start([Node.of("g5.12xlarge", capacity_type="spot", name="big")])
    k8s.create(job("stays", UNTIL_TERM, container=one_gpu()))
    k8s.running("stays")
    cluster.withhold({"node.kubernetes.io/instance-type": "g5.12xlarge"})
    k8s.create(job("comes", container=one_gpu()))
    cluster.wait_for(lambda: cluster.happenings("pod_unschedulable"))
    assert len(cluster.pods(phase="Running")) == 1
    cluster.restore()
    k8s.ended("comes")


def test_an_idle_node_of_the_autoscaler_goes_where_that_is_wanted(start: Start) -> None:
    cluster, k8s = start([], [Offering("g5.xlarge")], idle_node_seconds=0.05)
    k8s.create(job("short", container=one_gpu()))
    k8s.ended("short")
    cluster.wait_for(lambda: cluster.happenings("node_deleted"))


def test_a_cordoned_node_takes_nothing_new(start: Start) -> None:
    cluster, k8s = start()
    cluster.cordon("node-1")
    k8s.create(pod("waits"))
    told = cluster.wait_for(lambda: cluster.happenings("pod_unschedulable"))[0]
    assert "1 node(s) were unschedulable" in told.detail["message"]
    cluster.uncordon("node-1")
    cluster.wait_for(lambda: cluster.happenings("pod_succeeded"))


@pytest.mark.parametrize(("toleration", "tolerated"), [
    ({"key": "a", "value": "1", "effect": "NoSchedule"}, True),
    ({"key": "a", "operator": "Equal", "value": "1"}, True),
    ({"key": "a", "operator": "Exists"}, True),
    ({"operator": "Exists"}, True),
    ({"key": "a", "value": "2"}, False),
    ({"key": "b", "operator": "Exists"}, False),
    ({"key": "a", "operator": "Exists", "effect": "NoExecute"}, False),
])  # fmt: skip
def test_a_toleration_covers_a_taint_by_key_value_and_effect(toleration: dict[str, str], tolerated: bool) -> None:
    assert tolerates(toleration, {"key": "a", "value": "1", "effect": "NoSchedule"}) is tolerated


@pytest.mark.parametrize(("expression", "met"), [
    (needs("type", "In", "g5", "g6"), True), (needs("type", "In", "g4"), False), (needs("none", "In", "g5"), False),
    (needs("type", "NotIn", "g4"), True), (needs("type", "NotIn", "g5"), False), (needs("none", "NotIn", "g5"), True),
    (needs("type", "Exists"), True), (needs("none", "Exists"), False),
    (needs("none", "DoesNotExist"), True), (needs("type", "DoesNotExist"), False),
    (needs("gpus", "Gt", "3"), True), (needs("gpus", "Gt", "4"), False), (needs("gpus", "Lt", "5"), True),
    (needs("type", "Gt", "3"), False), (needs("none", "Lt", "3"), False),
])  # fmt: skip
def test_a_requirement_is_met_by_labels(expression: dict[str, Any], met: bool) -> None:
    assert matches_expression(expression, {"type": "g5", "gpus": "4"}) is met


def test_terms_are_alternatives_and_what_is_in_them_all_holds() -> None:
    labels = {"type": "g5", "zone": "b"}
    both, either = [needs("type", "In", "g5"), needs("zone", "In", "a")], [needs("zone", "In", "b")]
    assert not matches_node_terms([{"matchExpressions": both}], "n", labels)
    assert matches_node_terms([{"matchExpressions": both}, {"matchExpressions": either}], "n", labels)
    assert matches_node_terms([{"matchFields": [needs("metadata.name", "In", "n")]}], "n", labels)
    assert not matches_node_terms([{}], "n", labels)


def test_a_soft_taint_only_weighs() -> None:
    node = Node("a", taints=(Taint("soft", effect="PreferNoSchedule"),)).as_json()
    plain = pod("p")
    assert obstacles(plain, node, {}) == []
    assert preference(plain, node) < preference(plain, Node("b").as_json())


def test_a_pod_requests_its_containers_or_its_greatest_init_container() -> None:
    def container(cpu: str) -> dict[str, Any]:
        return {"resources": {"requests": {"cpu": cpu}}}

    asking = {"spec": {"containers": [container("500m"), container("1")], "initContainers": [container("2")]}}
    assert requested(asking) == as_resources({"cpu": "2", "pods": "1"})


LABELS = st.dictionaries(st.sampled_from("abc"), st.sampled_from(["1", "2", ""]))


@given(LABELS, st.sampled_from("abc"), st.sampled_from(["1", "2"]))
def test_a_selector_and_its_opposite_part_all_labels(labels: dict[str, str], key: str, value: str) -> None:
    for one, other in (
        (f"{key}={value}", f"{key}!={value}"), (f"{key} in ({value})", f"{key} notin ({value})"), (key, f"!{key}"),
    ):  # fmt: skip
        assert label_selector(one)(labels) != label_selector(other)(labels)
    assert label_selector(f"{key}=={value},{key}")(labels) == label_selector(f"{key} in ({value}, x)")(labels)
    assert label_selector("")(labels)
