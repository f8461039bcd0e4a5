"""Objects over HTTP, asked for by the official client."""

from __future__ import annotations

import threading

import pytest
from kubernetes import client, watch
from kubernetes.client.rest import ApiException

from avatar_pipeline.lab.cluster import Cluster
from tests.lab.cluster.client import Client
from tests.lab.cluster.conftest import Start
from tests.lab.cluster.manifests import UNTIL_TERM, job, pod

Shared = tuple[Cluster, Client]


def test_a_job_is_created_with_what_the_api_server_fills_in(shared: Shared) -> None:
    _, k8s = shared
    made = k8s.create(job("filled"))
    labels = made.spec.template.metadata.labels
    assert (made.metadata.namespace, made.spec.completions, made.spec.template.spec.dns_policy) == (
        "default", 1, "ClusterFirst",
    )  # fmt: skip
    assert labels["job-name"] == "filled"
    assert labels["batch.kubernetes.io/controller-uid"] == made.metadata.uid
    assert made.spec.selector.match_labels == {"batch.kubernetes.io/controller-uid": made.metadata.uid}
    assert k8s.job("filled").metadata.uid == made.metadata.uid


def test_a_typed_body_is_taken_as_well_as_a_plain_one(shared: Shared) -> None:
    _, k8s = shared
    container = client.V1Container(name="main", image="shell:1", command=["true"])
    spec = client.V1PodSpec(restart_policy="Never", containers=[container])
    template = client.V1PodTemplateSpec(metadata=client.V1ObjectMeta(labels={"a": "b"}), spec=spec)
    body = client.V1Job(
        api_version="batch/v1", kind="Job", metadata=client.V1ObjectMeta(generate_name="typed-"),
        spec=client.V1JobSpec(template=template),
    )  # fmt: skip
    made = k8s.batch.create_namespaced_job("default", body)
    assert made.metadata.name.startswith("typed-")
    assert made.metadata.labels == {"a": "b"}
    assert made.spec.backoff_limit == 6


def test_a_second_job_of_a_name_is_a_conflict(shared: Shared) -> None:
    _, k8s = shared
    k8s.create(job("twice"))
    with pytest.raises(ApiException) as refused:
        k8s.create(job("twice"))
    assert refused.value.status == 409
    assert '"reason":"AlreadyExists"' in refused.value.body


@pytest.mark.parametrize("what", ["job", "pod", "log", "delete", "namespace", "path"])
def test_what_is_not_there_is_a_404_status(shared: Shared, what: str) -> None:
    _, k8s = shared
    calls = {
        "job": lambda: k8s.batch.read_namespaced_job_status("nobody", "default"),
        "pod": lambda: k8s.core.read_namespaced_pod_status("nobody", "default"),
        "log": lambda: k8s.log("nobody"),
        "delete": lambda: k8s.batch.delete_namespaced_job("nobody", "default"),
        "namespace": lambda: k8s.batch.create_namespaced_job("nowhere", job("a")),
        "path": k8s.core.list_persistent_volume,
    }
    with pytest.raises(ApiException) as refused:
        calls[what]()
    assert refused.value.status == 404
    assert '"kind":"Status"' in refused.value.body


def test_lists_are_chosen_by_label_field_and_namespace(shared: Shared) -> None:
    _, k8s = shared
    for name, tier in (("gold-1", "gold"), ("gold-2", "gold"), ("tin-1", "tin")):
        k8s.create(pod(f"chosen-{name}", labels={"tier": tier}))

    def names(**selectors: str) -> list[str]:
        found = k8s.core.list_namespaced_pod("default", **selectors).items
        return [each.metadata.name for each in found if each.metadata.name.startswith("chosen-")]

    assert names(label_selector="tier=gold") == ["chosen-gold-1", "chosen-gold-2"]
    assert names(label_selector="tier in (tin, lead)") == ["chosen-tin-1"]
    assert names(label_selector="tier,tier!=gold") == ["chosen-tin-1"]
    assert names(field_selector="metadata.name=chosen-gold-2") == ["chosen-gold-2"]
    assert k8s.core.list_namespaced_pod("kube-system").items == []


def test_a_list_comes_in_pages_where_a_limit_is_given(shared: Shared) -> None:
    _, k8s = shared
    for number in range(3):
        k8s.create(pod(f"page-{number}", labels={"book": "one"}))
    first = k8s.core.list_namespaced_pod("default", label_selector="book=one", limit=2)
    rest = k8s.core.list_namespaced_pod(
        "default", label_selector="book=one", limit=2, _continue=first.metadata._continue
    )
    assert [each.metadata.name for each in first.items + rest.items] == ["page-0", "page-1", "page-2"]
    assert first.metadata.remaining_item_count == 1


@pytest.mark.parametrize(
    ("selector", "told"),
    [({"field_selector": "spec.colour=red"}, "spec.colour"), ({"label_selector": "a in b"}, "a in b")],
)
def test_a_selector_that_cannot_be_read_is_refused(shared: Shared, selector: dict[str, str], told: str) -> None:
    _, k8s = shared
    with pytest.raises(ApiException) as refused:
        k8s.core.list_namespaced_pod("default", **selector)
    assert refused.value.status == 400
    assert told in refused.value.body


def test_a_watch_tells_what_comes_after_its_resource_version(shared: Shared) -> None:
    cluster, k8s = shared
    k8s.create(job("watched-before"))
    version = k8s.batch.list_namespaced_job("default").metadata.resource_version
    seen: list[tuple[str, str]] = []
    watcher = watch.Watch()

    def follow() -> None:
        arguments = {"resource_version": version, "label_selector": "test in (watched-before, watched)"}
        for event in watcher.stream(k8s.batch.list_namespaced_job, "default", timeout_seconds=5, **arguments):
            seen.append((event["type"], event["object"].metadata.name))
            if event["type"] == "DELETED":
                return

    thread = threading.Thread(target=follow)
    thread.start()
    k8s.create(job("watched"))
    k8s.ended("watched")
    cluster.delete_job("watched")
    thread.join(6)
    of_watched = [what for what, name in seen if name == "watched"]
    assert of_watched[0] == "ADDED"
    assert set(of_watched[1:-1]) == {"MODIFIED"}
    assert of_watched[-1] == "DELETED"
    assert ("ADDED", "watched-before") not in seen


def test_a_watch_that_chooses_by_field_sees_a_pod_enter_and_leave(shared: Shared) -> None:
    _, k8s = shared
    seen: list[str] = []
    version = k8s.core.list_namespaced_pod("default").metadata.resource_version
    chosen = {"field_selector": "status.phase=Running", "label_selector": "watch=phase"}

    def follow() -> None:
        arguments = chosen | {"resource_version": version}
        for event in watch.Watch().stream(k8s.core.list_namespaced_pod, "default", timeout_seconds=5, **arguments):
            seen.append(event["type"])
            if event["type"] == "DELETED":
                return

    thread = threading.Thread(target=follow)
    thread.start()
    k8s.create(pod("passing", labels={"watch": "phase"}))
    thread.join(6)
    assert (seen[0], seen[-1]) == ("ADDED", "DELETED")


def test_a_watch_from_a_forgotten_version_is_told_that_it_is_gone(start: Start) -> None:
    cluster, k8s = start()
    history = cluster._machinery.state.store.history
    while len(history) < history.maxlen:  # type: ignore[operator]
        history.append(history[-1])
    history.append(history[-1])
    with pytest.raises(ApiException) as gone:
        list(watch.Watch().stream(k8s.core.list_node, resource_version="1", timeout_seconds=2))
    assert gone.value.status == 410


def test_jobs_deleted_over_the_api_leave_their_pods_unless_told_otherwise(start: Start) -> None:
    cluster, k8s = start()
    k8s.create(job("left", UNTIL_TERM))
    name = k8s.running("left")
    _, _, headers = k8s.batch.delete_namespaced_job_with_http_info("left", "default")
    assert "child pods are preserved by default" in headers["Warning"]
    assert k8s.pod(name).metadata.owner_references is None
    assert k8s.pod(name).metadata.finalizers is None
    assert k8s.pod(name).metadata.deletion_timestamp is None
    assert cluster.processes()


@pytest.mark.parametrize("propagation", ["Background", "Foreground"])
def test_pods_go_with_a_job_that_is_deleted_with_them(start: Start, propagation: str) -> None:
    cluster, k8s = start()
    k8s.create(job("gone", UNTIL_TERM))
    name = k8s.running("gone")
    k8s.batch.delete_namespaced_job("gone", "default", propagation_policy=propagation)
    cluster.wait_for(lambda: not cluster.pods() and not cluster.jobs())
    order = [each.what for each in cluster.events if each.what in ("job_deleted", "pod_deleted")]
    assert order == (["job_deleted", "pod_deleted"] if propagation == "Background" else ["pod_deleted", "job_deleted"])
    assert [each.detail["signal"] for each in cluster.happenings("signal_sent", name)] == ["SIGTERM"]
    assert "told to end" in cluster.logs(name)
    assert not cluster.processes()


def test_a_collection_of_jobs_is_deleted_by_label(start: Start) -> None:
    cluster, k8s = start()
    for name in ("keep", "drop"):
        k8s.create(job(name))
    k8s.batch.delete_collection_namespaced_job("default", label_selector="test=drop", propagation_policy="Background")
    assert [each["metadata"]["name"] for each in cluster.jobs()] == ["keep"]
    cluster.wait_for(lambda: not cluster.pods(job="drop"))


def test_a_job_owned_by_a_pod_goes_with_it(start: Start) -> None:
    cluster, k8s = start()
    owner = k8s.create(pod("run-worker", UNTIL_TERM))
    step = job("step", UNTIL_TERM)
    reference = {"apiVersion": "v1", "kind": "Pod", "name": "run-worker", "uid": owner.metadata.uid}
    step["metadata"]["ownerReferences"] = [reference]
    k8s.create(step)
    name = k8s.running("step")
    cluster.delete_pod("run-worker", 0)
    cluster.wait_for(lambda: not cluster.jobs() and not cluster.pods())
    assert cluster.happenings("pod_deleting", name)


def test_an_object_whose_owner_never_was_is_collected(start: Start) -> None:
    cluster, k8s = start()
    orphan = job("orphan")
    orphan["metadata"]["ownerReferences"] = [{"apiVersion": "v1", "kind": "Pod", "name": "ghost", "uid": "no-such-uid"}]
    k8s.create(orphan)
    cluster.wait_for(lambda: not cluster.jobs())


def test_a_pending_pod_is_deleted_at_once_and_a_running_one_within_its_grace(start: Start) -> None:
    cluster, k8s = start()
    k8s.create(pod("pending", nodeSelector={"no": "where"}))
    k8s.core.delete_namespaced_pod("pending", "default")
    cluster.wait_for(lambda: not cluster.pods())
    k8s.create(job("slow", "trap 'sleep 0.2; exit 0' TERM; echo up; while :; do sleep 0.02; done"))
    name = k8s.running("slow")
    answer = k8s.core.delete_namespaced_pod(name, "default", grace_period_seconds=5)
    assert answer.metadata.deletion_timestamp is not None
    assert answer.metadata.deletion_grace_period_seconds == 5
    assert k8s.pod(name).status.phase == "Running"
    cluster.wait_for(lambda: not cluster.pods(job="slow"))


def test_the_server_tells_its_version_its_groups_and_its_namespaces(shared: Shared) -> None:
    _, k8s = shared
    api = k8s.core.api_client
    assert client.VersionApi(api).get_code().major == "1"
    assert client.CoreApi(api).get_api_versions().versions == ["v1"]
    assert "batch" in [group.name for group in client.ApisApi(api).get_api_versions().groups]
    assert "jobs" in [each.name for each in k8s.batch.get_api_resources().resources]
    assert k8s.core.read_namespace("default").status.phase == "Active"


def test_nodes_are_listed_with_what_they_have(shared: Shared) -> None:
    _, k8s = shared
    node = k8s.core.list_node().items[0]
    assert node.status.allocatable["cpu"] == "8"
    assert [(each.type, each.status) for each in node.status.conditions] == [("Ready", "True")]
    assert k8s.core.read_node_status(node.metadata.name).metadata.uid == node.metadata.uid


def test_events_are_told_by_both_apis(shared: Shared) -> None:
    _, k8s = shared
    k8s.create(job("evented"))
    k8s.ended("evented")
    of_job = "involvedObject.name=evented"
    core = {each.reason: each for each in k8s.core.list_namespaced_event("default", field_selector=of_job).items}
    assert {"SuccessfulCreate", "Completed"} <= set(core)
    newer = k8s.events.list_namespaced_event("default", field_selector="regarding.name=evented").items
    assert {each.note for each in newer} == {each.message for each in core.values()}


def test_a_dry_run_checks_and_keeps_nothing(shared: Shared) -> None:
    cluster, k8s = shared
    made = k8s.batch.create_namespaced_job("default", job("dry"), dry_run="All")
    assert made.metadata.name == "dry"
    assert "dry" not in [each["metadata"]["name"] for each in cluster.jobs()]
