"""The client of dagster-k8s against the cluster: what the executor and the run launcher call."""

from __future__ import annotations

import pytest
from dagster_k8s.client import (
    DagsterK8sError,
    DagsterK8sUnrecoverableAPIError,
    DagsterKubernetesClient,
    PatchedApiClient,
    WaitForPodState,
)
from dagster_k8s.job import DagsterK8sJobConfig, construct_dagster_k8s_job
from kubernetes import client, config

from avatar_pipeline.lab.cluster import Cluster
from tests.lab.cluster.conftest import Start
from tests.lab.cluster.manifests import UNTIL_TERM, job

FAST = {"wait_time_between_attempts": 0.02}


def dagster(cluster: Cluster) -> DagsterKubernetesClient:
    configuration = client.Configuration()
    config.load_kube_config(str(cluster.kubeconfig), client_configuration=configuration)
    api = PatchedApiClient(configuration)
    return DagsterKubernetesClient.production_client(client.BatchV1Api(api), client.CoreV1Api(api))


def test_a_job_as_dagster_builds_it_runs_to_its_end(start: Start) -> None:
    cluster, k8s = start()
    settings = DagsterK8sJobConfig(job_image="app:1", dagster_home="/tmp/home")
    body = construct_dagster_k8s_job(
        settings, ["/bin/sh", "-c", "echo $DAGSTER_HOME"], "dagster-step-1", component="step_worker",
        labels={"dagster/run-id": "r1"}, env_vars=[{"name": "A", "value": "b"}],
    )  # fmt: skip
    api = dagster(cluster)
    api.create_namespaced_job_with_retries(body=body, namespace="default", wait_time_between_attempts=0.02)
    api.wait_for_job_success("dagster-step-1", "default", **FAST)
    status = api.get_job_status("dagster-step-1", "default")
    assert status is not None
    assert (status.succeeded, status.failed) == (1, None)
    (pod,) = api.get_pods_in_job("dagster-step-1", "default")
    assert pod.metadata.labels["dagster/run-id"] == "r1"
    assert api.retrieve_pod_logs(pod.metadata.name, "default") == "/tmp/home\n"
    assert k8s.job("dagster-step-1").metadata.labels["app.kubernetes.io/component"] == "step_worker"


def test_a_failed_job_is_an_error_with_its_debug_information(start: Start) -> None:
    cluster, k8s = start()
    api = dagster(cluster)
    k8s.create(job("broken", "echo words; exit 3"))
    with pytest.raises(DagsterK8sError, match="failed job pods"):
        api.wait_for_job_success("broken", "default", **FAST)
    assert "failed=1" in api.get_job_debug_info("broken", "default")
    (name,) = api.get_pod_names_in_job("broken", "default")
    told = api.get_pod_debug_info(name, "default")
    assert "Terminated with exit code 3" in told
    assert "words" in told
    with pytest.raises(DagsterK8sError, match="failed with message"):
        api.wait_for_pod(name, "default", WaitForPodState.Terminated, wait_time_between_attempts=0.02)


def test_deleting_a_job_ends_its_pods_and_says_whether_there_was_one(start: Start) -> None:
    cluster, k8s = start()
    api = dagster(cluster)
    k8s.create(job("cancelled", UNTIL_TERM))
    name = k8s.running("cancelled")
    assert api.delete_job("cancelled", "default") is True
    cluster.wait_for(lambda: not cluster.pods() and not cluster.jobs())
    assert "told to end" in cluster.logs(name)
    assert api.delete_job("cancelled", "default") is False
    assert api.get_job_status("cancelled", "default") is None


def test_transient_errors_are_tried_again_and_others_are_not(start: Start) -> None:
    cluster, k8s = start()
    api = dagster(cluster)
    k8s.create(job("there"))
    cluster.fail(2, 503)
    assert api.get_job_status("there", "default", wait_time_between_attempts=0.01) is not None
    cluster.fail(1, 403)
    with pytest.raises(DagsterK8sUnrecoverableAPIError):
        api.get_job_status("there", "default", wait_time_between_attempts=0.01)


def test_the_stock_client_takes_its_own_create_that_was_cut_for_a_conflict(start: Start) -> None:
    """dagster-k8s 0.29.27 counts no connection error as a try: whoever uses it must look whether the Job is its own."""
    cluster, _ = start()
    body = construct_dagster_k8s_job(DagsterK8sJobConfig(job_image="app:1"), ["/bin/true"], "once")
    cluster.drop(1, method="POST")
    with pytest.raises(DagsterK8sUnrecoverableAPIError) as refused:
        dagster(cluster).create_namespaced_job_with_retries(body, "default", wait_time_between_attempts=0.01)
    assert refused.value.k8s_api_exception.status == 409
    assert [each["metadata"]["name"] for each in cluster.jobs()] == ["once"]
    assert cluster.requests["POST", "/apis/batch/v1/namespaces/default/jobs"] == 2


def test_a_pod_that_cannot_be_pulled_is_told(start: Start) -> None:
    cluster, k8s = start()
    cluster.fail_pulls("*")
    k8s.create(job("puller"))
    name = cluster.wait_for(cluster.pods)[0]["metadata"]["name"]
    with pytest.raises(DagsterK8sError, match=r"ErrImagePull|ImagePullBackOff"):
        dagster(cluster).wait_for_pod(name, "default", wait_time_between_attempts=0.02)


def test_a_run_worker_finds_its_own_pod_by_its_host_name(start: Start) -> None:
    from dagster_k8s.utils import detect_current_namespace

    cluster, k8s = start()
    k8s.create(job("worker", "echo $HOSTNAME; sleep 20"))
    name = k8s.running("worker")
    assert cluster.logs(name).strip() == name
    assert detect_current_namespace(str(cluster.kubeconfig)) == "default"
    assert dagster(cluster).get_pod_by_name(name, "default").metadata.name == name
