"""Jobs made by dagster-k8s itself, amended, and held against the schemas of Kubernetes."""

import copy
from typing import Any

import kubernetes_validate
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kubernetes_validate.utils import all_versions, major_minor
from packaging.version import Version

from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.spot.executor.stock import run_job, step_job
from avatar_pipeline.spot.labels import step_labels
from avatar_pipeline.spot.manifests import amend, run_pod_config
from avatar_pipeline.spot.offerings import suitable
from avatar_pipeline.spot.profiles import DEFAULT_PROFILES, ComputeProfile, NodeRequirement, Toleration
from avatar_pipeline.spot.rendering import render_manifests
from avatar_pipeline.spot.types import CapacityType, Offering, Placement

SPOT, ON_DEMAND = CapacityType.SPOT, CapacityType.ON_DEMAND
SMALL = DEFAULT_PROFILES["gpu-small"]
VERSIONS = sorted({major_minor(version) for version in all_versions()}, key=Version)[-2:]
CAPACITY, TYPE, ZONE = "karpenter.sh/capacity-type", "node.kubernetes.io/instance-type", "topology.kubernetes.io/zone"


def terms(*expressions: tuple[str, str]) -> dict[str, Any]:
    """Required node affinity in dagster-k8s' spelling: one term for each key and value."""
    return {
        "node_affinity": {
            "required_during_scheduling_ignored_during_execution": {
                "node_selector_terms": [
                    {"match_expressions": [{"key": key, "operator": "In", "values": [value]}]}
                    for key, value in expressions
                ]
            }
        }
    }


PINNED_LAUNCHER = {
    "pod_spec_config": {
        "node_selector": {CAPACITY: "on-demand", "karpenter.sh/nodepool": "default", "kubernetes.io/arch": "amd64"},
        "affinity": terms((CAPACITY, "on-demand")),
        "tolerations": [{"key": "team", "operator": "Exists"}],
    },
    "job_spec_config": {"ttl_seconds_after_finished": 120},
}
PLAIN = step_job()
PINNED = step_job(
    launcher_config=PINNED_LAUNCHER,
    op_config={"pod_spec_config": {"affinity": terms((CAPACITY, "spot"), (ZONE, "us-east-1f"))}},
)


def placement(*offerings: tuple[str, str], capacity_type: CapacityType = SPOT) -> Placement:
    found = tuple(Offering(name, zone, capacity_type) for name, zone in offerings)
    return Placement(capacity_type, found, SMALL.name, "A test.")


SOMEWHERE = placement(("g4dn.xlarge", "us-east-1a"), ("g5.xlarge", "us-east-1b"), ("g4dn.xlarge", "us-east-1b"))


def amended(job: dict[str, Any] = PLAIN, where: Placement = SOMEWHERE, **fields: Any) -> dict[str, Any]:
    profile = SMALL.model_copy(update=fields)
    return amend(job, profile=profile, placement=where, labels={"avatar-pipeline/run": "r"}, env={"AVATAR_SPOT": "1"})


def pod_of(job: dict[str, Any]) -> dict[str, Any]:
    return job["spec"]["template"]["spec"]


def required(job: dict[str, Any]) -> list[dict[str, Any]]:
    node = pod_of(job)["affinity"]["nodeAffinity"]
    return node["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]


def preferred(job: dict[str, Any]) -> list[dict[str, Any]]:
    return pod_of(job)["affinity"]["nodeAffinity"].get("preferredDuringSchedulingIgnoredDuringExecution", [])


def env_of(job: dict[str, Any]) -> dict[str, str | None]:
    return {entry["name"]: entry.get("value") for entry in pod_of(job)["containers"][0]["env"]}


def fits(job: dict[str, Any], **labels: str) -> bool:
    """Whether the scheduler would let the pod onto a node with these labels: selector and one whole term."""
    node = {
        CAPACITY: labels.get("capacity", "spot"),
        TYPE: labels.get("type", "g4dn.xlarge"),
        ZONE: labels.get("zone", "us-east-1a"),
        "kubernetes.io/arch": "amd64",
    }
    if any(node.get(key) != value for key, value in pod_of(job).get("nodeSelector", {}).items()):
        return False
    return any(
        all(one["operator"] == "In" and node.get(one["key"]) in one["values"] for one in term["matchExpressions"])
        for term in required(job)
    )


def check(job: dict[str, Any]) -> None:
    assert len(VERSIONS) == 2
    for version in VERSIONS:
        assert kubernetes_validate.validate(job, version, strict=True) == version


def test_the_validator_would_see_a_field_that_kubernetes_does_not_have():
    wrong = amended()
    pod_of(wrong)["nodeAffinity"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="nodeAffinity"):
        check(wrong)


def test_the_jobs_of_all_default_profiles_are_what_kubernetes_takes():
    jobs = list(render_manifests(PINNED, DEFAULT_PROFILES.values()))
    assert len({job["metadata"]["name"] for job in jobs}) == 6
    for job in jobs:
        check(job)
        assert max(map(len, job["spec"]["template"]["metadata"]["labels"].values())) <= 63


def test_a_pod_goes_where_the_placement_says_and_nowhere_else():
    """Types and zones are not mixed with one another: a type that is short in one zone is not asked for there."""
    job = amended()
    check(job)
    allowed = {(offering.instance_type, offering.zone) for offering in SOMEWHERE.offerings}
    for name in ("g4dn.xlarge", "g5.xlarge", "g6.xlarge", "m7i.large"):
        for zone in ("us-east-1a", "us-east-1b", "us-east-1c"):
            assert fits(job, type=name, zone=zone) == ((name, zone) in allowed)
            assert not fits(job, type=name, zone=zone, capacity="on-demand")


def test_a_launcher_pinned_to_on_demand_does_not_leak_into_a_spot_step():
    """dagster-k8s ORs the terms of launcher and step, and its steps inherit the launcher's node selector."""
    assert len(required(PINNED)) == 3
    assert not fits(PINNED)
    job = amended(PINNED)
    check(job)
    assert pod_of(job)["nodeSelector"] == {"kubernetes.io/arch": "amd64"}
    assert fits(job)
    assert not fits(job, capacity="on-demand")
    assert not fits(job, type="m7i.large")
    assert not fits(job, zone="us-east-1f")
    assert len(required(job)) == 2


def test_a_launcher_pinned_to_spot_does_not_leak_into_an_on_demand_step():
    job = amended(
        step_job(launcher_config={"pod_spec_config": {"affinity": terms((CAPACITY, "spot"))}}),
        placement(("g5.xlarge", ""), capacity_type=ON_DEMAND),
    )
    assert fits(job, capacity="on-demand", type="g5.xlarge")
    assert not fits(job, capacity="spot", type="g5.xlarge")


def test_an_offering_in_any_zone_is_not_held_to_that_of_another():
    job = amended(where=placement(("g5.xlarge", "us-east-1a"), ("g5.xlarge", "")))
    assert fits(job, type="g5.xlarge", zone="us-east-1c")


def test_the_term_with_most_to_choose_from_comes_first():
    """Karpenter goes by the first one alone until it cannot be had."""
    where = placement(("g5.xlarge", "us-east-1a"), ("g4dn.xlarge", "us-east-1b"), ("g6.xlarge", "us-east-1b"))
    first = {one["key"]: one["values"] for one in required(amended(where=where))[0]["matchExpressions"]}
    assert (first[ZONE], first[TYPE]) == (["us-east-1b"], ["g4dn.xlarge", "g6.xlarge"])


def test_other_requirements_stay_in_each_term():
    job = amended(step_job(op_config={"pod_spec_config": {"affinity": terms(("disk", "ssd"), ("disk", "nvme"))}}))
    assert len(required(job)) == 4
    for term in required(job):
        assert [one["values"] for one in term["matchExpressions"] if one["key"] == "disk"] in [[["ssd"]], [["nvme"]]]
        assert {CAPACITY, TYPE, ZONE} < {one["key"] for one in term["matchExpressions"]}


def test_a_term_that_matches_nothing_does_not_come_to_match():
    job = copy.deepcopy(PINNED)
    required(job).insert(0, {})
    required(job)[1:] = [{"matchExpressions": [{"key": "disk", "operator": "Exists"}]}]
    assert all(any(one["key"] == "disk" for one in term["matchExpressions"]) for term in required(amended(job)))


def test_without_zones_the_step_keeps_the_zone_it_was_given():
    where = placement(("g4dn.xlarge", ""), ("g5.xlarge", ""))
    job = amended(step_job(op_config={"pod_spec_config": {"node_selector": {ZONE: "us-east-1a"}}}), where)
    assert pod_of(job)["nodeSelector"] == {ZONE: "us-east-1a"}
    assert all(one["key"] != ZONE for term in required(job) for one in term["matchExpressions"])


def test_requirements_of_the_profile_are_added_once():
    nvme = NodeRequirement(key="karpenter.k8s.aws/instance-local-nvme", operator="Gt", values=("200",))
    job = amended(node_affinity=(nvme,))
    check(job)
    for term in required(job):
        assert term["matchExpressions"].count({"key": nvme.key, "operator": "Gt", "values": ["200"]}) == 1
    assert amended(job, node_affinity=(nvme,)) == job


def test_node_groups_of_eks_are_asked_for_in_their_own_words():
    label = "eks.amazonaws.com/capacityType"
    spot, on_demand = (
        amended(where=placement(("g5.xlarge", ""), capacity_type=capacity_type), capacity_label=label)
        for capacity_type in (SPOT, ON_DEMAND)
    )
    assert {"key": label, "operator": "In", "values": ["SPOT"]} in required(spot)[0]["matchExpressions"]
    assert {"key": label, "operator": "In", "values": ["ON_DEMAND"]} in required(on_demand)[0]["matchExpressions"]


def test_better_types_weigh_more_and_the_heaviest_preference_is_broad():
    """Karpenter takes the heaviest preference for a requirement: a narrow one would undo the diversification."""
    where = Placement(SPOT, suitable(SMALL, SPOT), SMALL.name, "A test.")
    job = amended(where=where)
    heaviest = max(preferred(job), key=lambda term: term["weight"])
    assert len(heaviest["preference"]["matchExpressions"][0]["values"]) == 15
    weights = [
        sum(term["weight"] for term in preferred(job) if name in term["preference"]["matchExpressions"][0]["values"])
        for name in where.instance_types
    ]
    assert weights == sorted(weights, reverse=True)
    assert weights[0] > weights[1] > weights[-1] == 0
    check(job)


def test_a_preference_for_another_capacity_type_goes_and_others_stay():
    job = copy.deepcopy(PINNED)
    pod_of(job)["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"] = [
        {
            "weight": 100,
            "preference": {"matchExpressions": [{"key": CAPACITY, "operator": "In", "values": ["on-demand"]}]},
        },
        {"weight": 7, "preference": {"matchExpressions": [{"key": "disk", "operator": "Exists"}]}},
    ]
    pod_of(job)["affinity"]["podAntiAffinity"] = {}
    found = amended(job)
    keys = [one["key"] for term in preferred(found) for one in term["preference"]["matchExpressions"]]
    assert CAPACITY not in keys and "disk" in keys
    assert pod_of(found)["affinity"]["podAntiAffinity"] == {}


def test_a_disruption_fails_the_job_and_nothing_makes_a_second_pod():
    job = copy.deepcopy(PLAIN)
    own = {"action": "FailJob", "onExitCodes": {"containerName": "dagster", "operator": "In", "values": [42]}}
    ignore = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    job["spec"] |= {"podFailurePolicy": {"rules": [ignore, own]}, "backoffLimit": 3}
    pod_of(job)["restartPolicy"] = "OnFailure"
    found = amended(job)
    check(found)
    assert found["spec"]["podFailurePolicy"]["rules"] == [
        {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        own,
    ]
    assert found["spec"]["backoffLimit"] == 0
    assert pod_of(found)["restartPolicy"] == "Never"


@pytest.mark.parametrize(
    ("of_step", "of_profile", "holds"), [(60, 90, 60), (90, 60, 60), (None, 60, 60), (60, None, 60)]
)
def test_of_two_deadlines_the_earlier_holds(of_step: int | None, of_profile: int | None, holds: int):
    job = step_job(op_config={"job_spec_config": {"active_deadline_seconds": of_step}} if of_step else None)
    assert amended(job, active_deadline_seconds=of_profile)["spec"]["activeDeadlineSeconds"] == holds


def test_a_step_without_any_deadline_gets_none():
    assert "activeDeadlineSeconds" not in amended(active_deadline_seconds=None)["spec"]


def test_the_time_that_a_finished_job_is_kept_stays():
    assert amended(PINNED)["spec"]["ttlSecondsAfterFinished"] == PINNED["spec"]["ttlSecondsAfterFinished"] == 120


def test_a_node_that_is_lost_is_noticed_in_half_a_minute():
    job = copy.deepcopy(PLAIN)
    slow = {
        "key": "node.kubernetes.io/unreachable",
        "operator": "Exists",
        "effect": "NoExecute",
        "tolerationSeconds": 300,
    }
    pod_of(job)["tolerations"] = [slow, {"key": "team", "operator": "Exists"}]
    found = pod_of(amended(job))["tolerations"]
    seconds = {one["key"]: one["tolerationSeconds"] for one in found if "tolerationSeconds" in one}
    assert seconds == {"node.kubernetes.io/unreachable": 30, "node.kubernetes.io/not-ready": 30}
    assert {"key": "team", "operator": "Exists"} in found


def test_a_toleration_that_is_there_is_not_added_again():
    gpu = Toleration(key="nvidia.com/gpu")
    job = amended(step_job(op_config={"pod_spec_config": {"tolerations": [gpu.model_dump(exclude_none=True)]}}))
    assert [one["key"] for one in pod_of(job)["tolerations"]].count("nvidia.com/gpu") == 1
    twice = amended(tolerations=(gpu, gpu), spot_tolerations=(gpu,))
    assert [one["key"] for one in pod_of(twice)["tolerations"]].count("nvidia.com/gpu") == 1


def test_taints_of_spot_nodes_are_tolerated_on_spot_only():
    taint = Toleration(key="spot", effect=None)
    on_spot = pod_of(amended(spot_tolerations=(taint,)))["tolerations"]
    elsewhere = pod_of(amended(where=placement(("g5.xlarge", ""), capacity_type=ON_DEMAND), spot_tolerations=(taint,)))[
        "tolerations"
    ]
    assert {"key": "spot", "operator": "Exists"} in on_spot
    assert {"key": "spot", "operator": "Exists"} not in elsewhere
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in elsewhere


def test_the_container_gets_what_the_profile_says():
    job = step_job(
        op_config={
            "container_config": {
                "resources": {
                    "requests": {"cpu": "9", "hugepages-2Mi": "2Mi"},
                    "limits": {"cpu": "9", "hugepages-2Mi": "2Mi", "memory": "99Gi"},
                }
            }
        }
    )
    found = amended(job, cpus=2.5, ephemeral_storage_gib=10, image="registry.example/other:2")
    check(found)
    container = pod_of(found)["containers"][0]
    assert container["image"] == "registry.example/other:2"
    assert container["resources"] == {
        "requests": {
            "cpu": "2500m",
            "memory": "12Gi",
            "nvidia.com/gpu": "1",
            "ephemeral-storage": "10Gi",
            "hugepages-2Mi": "2Mi",
        },
        "limits": {"memory": "12Gi", "nvidia.com/gpu": "1", "hugepages-2Mi": "2Mi"},
    }
    assert pod_of(found)["terminationGracePeriodSeconds"] == 100
    assert pod_of(amended(job))["containers"][0]["image"] == "registry.example/avatar:1"


def test_variables_are_replaced_where_they_stood_and_others_kept():
    before, after = env_of(PLAIN), env_of(amended())
    assert before["NVIDIA_DRIVER_CAPABILITIES"] == "compute,utility"
    assert after["NVIDIA_DRIVER_CAPABILITIES"] == "compute,graphics,video,utility"
    assert list(after) == [*before, "AVATAR_SPOT"]
    assert after["AVATAR_SPOT"] == "1"
    assert pod_of(amended())["containers"][0]["envFrom"] == pod_of(PLAIN)["containers"][0]["envFrom"]


def test_a_variable_that_came_from_a_secret_and_stood_twice_becomes_one_value():
    job = copy.deepcopy(PLAIN)
    secret = {"name": "AVATAR_SPOT", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}
    pod_of(job)["containers"][0]["env"][:0] = [secret, secret]
    entries = pod_of(amended(job))["containers"][0]["env"]
    assert [entry for entry in entries if entry["name"] == "AVATAR_SPOT"] == [{"name": "AVATAR_SPOT", "value": "1"}]
    assert entries[0]["name"] == "AVATAR_SPOT"


def test_sidecars_are_left_alone_whatever_the_steps_container_is_called():
    sidecar = {"name": "logs", "image": "logs:1"}
    config = {"container_config": {"name": "step"}, "pod_spec_config": {"containers": [sidecar]}}
    containers = pod_of(amended(step_job(op_config=config)))["containers"]
    assert [one["name"] for one in containers] == ["step", "logs"]
    assert containers[0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert containers[1] == {"name": "logs", "image": "logs:1"}


def test_job_and_pod_are_labelled_and_keep_dagsters_labels():
    labels = {"avatar-pipeline/run": "r", "avatar-pipeline/partition": "a/b"}
    profile = SMALL.model_copy(update={"labels": {"cost-center": "7"}})
    job = amend(PLAIN, profile=profile, placement=SOMEWHERE, labels=labels, env={})
    for found in (job["metadata"]["labels"], job["spec"]["template"]["metadata"]["labels"]):
        assert found["avatar-pipeline/partition"] == "a-b"
        assert found["cost-center"] == "7"
        assert found["dagster/op"] == "rendered_clips"


@pytest.mark.parametrize("how", ["true", "30m", None])
def test_karpenter_is_told_to_leave_the_pod_alone(how: str | None):
    annotations = amended(do_not_disrupt=how)["spec"]["template"]["metadata"].get("annotations", {})
    assert annotations.get("karpenter.sh/do-not-disrupt") == how


def test_a_job_without_a_container_is_refused():
    with pytest.raises(InvalidInput, match="Job empty has no container"):
        amended({"metadata": {"name": "empty"}, "spec": {"template": {"spec": {"containers": []}}}})


def test_run_pods_stay_on_on_demand_whatever_the_launcher_prefers():
    job = run_job(run_pod_config(cpus=1.5), launcher_config={"pod_spec_config": {"node_selector": {CAPACITY: "spot"}}})
    check(job)
    pod = pod_of(job)
    assert pod["nodeSelector"] == {CAPACITY: "on-demand"}
    assert pod["terminationGracePeriodSeconds"] == 60
    assert pod["containers"][0]["resources"] == {
        "requests": {"cpu": "1500m", "memory": "8Gi"},
        "limits": {"memory": "8Gi"},
    }
    assert job["spec"]["template"]["metadata"]["annotations"]["karpenter.sh/do-not-disrupt"] == "true"


def test_the_run_pods_config_does_not_reach_steps():
    assert step_job(job_config=run_pod_config()) == PLAIN


words = st.text(max_size=20)
requirements = st.builds(
    lambda key, values: (
        {"key": key, "operator": "In", "values": values} if values else {"key": key, "operator": "Exists"}
    ),
    st.sampled_from([CAPACITY, TYPE, ZONE, "disk", "karpenter.k8s.aws/instance-family", "karpenter.sh/nodepool"]),
    st.lists(st.sampled_from(["spot", "on-demand", "a", "b"]), max_size=2),
)
selector_terms = st.lists(
    st.fixed_dictionaries({}, optional={"matchExpressions": st.lists(requirements, max_size=3)}), max_size=3
)
profiles = st.builds(
    ComputeProfile,
    name=st.just("some"),
    allow_few_types=st.just(True),
    gpus=st.sampled_from([1, 2, 4, 8]),
    cpus=st.floats(0.1, 3.5),
    memory_gib=st.floats(0.1, 12),
    ephemeral_storage_gib=st.none() | st.floats(0.1, 16),
    zones=st.lists(st.sampled_from(["a", "b", "c"]), max_size=3).map(tuple),
    do_not_disrupt=st.sampled_from(["true", "1h30m", None]),
    active_deadline_seconds=st.none() | st.integers(60, 10**6),
    node_affinity=st.lists(
        st.sampled_from(
            [
                NodeRequirement(key="disk", values=("a",)),
                NodeRequirement(key="karpenter.k8s.aws/instance-family", operator="Exists"),
            ]
        ),
        max_size=2,
    ).map(tuple),
    labels=st.dictionaries(st.sampled_from(["team", "example.com/x"]), st.sampled_from(["", "a", "b"])),
)


@settings(max_examples=40)
@given(data=st.data(), profile=profiles, capacity_type=st.sampled_from(CapacityType), required_terms=selector_terms)
def test_any_profile_on_any_placement_is_a_job_and_amending_it_again_changes_nothing(
    data: st.DataObject, profile: ComputeProfile, capacity_type: CapacityType, required_terms: list[dict[str, Any]]
):
    offerings = suitable(profile, capacity_type)
    chosen = data.draw(st.lists(st.sampled_from(offerings), unique=True))
    where = Placement(capacity_type, tuple(chosen), profile.name, "")
    job = copy.deepcopy(PINNED)
    pod_of(job)["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] = {
        "nodeSelectorTerms": required_terms
    }
    labels = step_labels(
        run_id=data.draw(words),
        step_key="s",
        partition=data.draw(words),
        capacity_type=capacity_type,
        profile="p",
        attempt=0,
    )
    before = copy.deepcopy(job)
    once = amend(job, profile=profile, placement=where, labels=labels, env={"A": data.draw(words)})
    assert job == before
    check(once)
    env = {"A": env_of(once)["A"]}
    assert amend(once, profile=profile, placement=where, labels=labels, env=env) == once
    for term in required(once):
        assert [one["values"] for one in term["matchExpressions"] if one["key"] == CAPACITY] == [[capacity_type.value]]
