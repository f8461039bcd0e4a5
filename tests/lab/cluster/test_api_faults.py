"""An API server that is away, slow, or wrong."""

from __future__ import annotations

import time

import pytest
import urllib3
from kubernetes import watch
from kubernetes.client.rest import ApiException

from tests.lab.cluster.conftest import Start
from tests.lab.cluster.manifests import UNTIL_TERM, job


def test_in_an_outage_connections_are_refused_and_pods_run_on(start: Start) -> None:
    cluster, k8s = start()
    k8s.create(job("through"))
    cluster.outage()
    with pytest.raises(urllib3.exceptions.MaxRetryError, match="refused"):
        k8s.job("through")
    cluster.wait_for(lambda: cluster.happenings("job_complete", "through"))
    cluster.end_outage()
    assert k8s.job("through").status.succeeded == 1


def test_an_outage_ends_by_itself(start: Start) -> None:
    cluster, k8s = start()
    cluster.outage(0.2)
    began = time.monotonic()
    while True:
        try:
            k8s.core.list_node()
            break
        except urllib3.exceptions.HTTPError:
            assert time.monotonic() - began < 5
            time.sleep(0.02)
    assert time.monotonic() - began >= 0.19


def test_an_outage_cuts_watches(start: Start) -> None:
    cluster, k8s = start()
    stream = watch.Watch().stream(k8s.core.list_node, timeout_seconds=10)
    assert next(stream)["type"] == "ADDED"
    cluster.outage()
    with pytest.raises(urllib3.exceptions.HTTPError):
        list(stream)


@pytest.mark.parametrize("before", [True, False])
def test_a_dropped_call_was_carried_out_or_not(start: Start, before: bool) -> None:
    cluster, k8s = start()
    cluster.drop(1, before=before, method="POST")
    with pytest.raises(urllib3.exceptions.ProtocolError):
        k8s.create(job("dropped"))
    assert len(cluster.jobs()) == (0 if before else 1)


def test_dropped_reads_are_repeated_by_the_client(start: Start) -> None:
    cluster, k8s = start()
    cluster.drop(2, method="GET", path="/nodes$")
    assert len(k8s.core.list_node().items) == 1
    assert cluster.requests["GET", "/api/v1/nodes"] == 3


def test_calls_can_be_delayed(start: Start) -> None:
    cluster, k8s = start()
    cluster.delay(1, 0.2)
    began = time.monotonic()
    k8s.core.list_node()
    assert time.monotonic() - began >= 0.2
    with pytest.raises(urllib3.exceptions.HTTPError):
        cluster.delay(4, 0.2)
        k8s.core.list_node(_request_timeout=0.05)


@pytest.mark.parametrize(
    ("status", "reason"), [(500, "InternalError"), (503, "ServiceUnavailable"), (401, "Unauthorized")]
)
def test_the_next_calls_can_fail(start: Start, status: int, reason: str) -> None:
    cluster, k8s = start()
    cluster.fail(2, status, path="/jobs")
    for _ in range(2):
        with pytest.raises(ApiException) as failed:
            k8s.batch.list_namespaced_job("default")
        assert failed.value.status == status
        assert f'"reason": "{reason}"' in failed.value.body
    assert k8s.batch.list_namespaced_job("default").items == []


def test_a_client_that_is_too_fast_is_told_when_to_come_back(start: Start) -> None:
    cluster, k8s = start()
    cluster.fail(1, 429, retry_after=7, method="POST")
    with pytest.raises(ApiException) as failed:
        k8s.create(job("hasty"))
    assert (failed.value.status, failed.value.headers["Retry-After"]) == (429, "7")
    assert not cluster.jobs()


def test_faults_leave_other_calls_alone(start: Start) -> None:
    cluster, k8s = start()
    cluster.fail(1, 500, method="DELETE")
    k8s.create(job("other", UNTIL_TERM))
    assert k8s.job("other").metadata.name == "other"
