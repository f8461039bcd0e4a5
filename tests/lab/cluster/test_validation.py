"""Bodies that the API server refuses, and how."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubernetes.client.rest import ApiException

from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.lab.cluster import Cluster
from avatar_pipeline.lab.cluster.quantities import parse_quantity
from avatar_pipeline.lab.cluster.validation import server_version
from tests.lab.cluster.client import Client
from tests.lab.cluster.manifests import FAIL_ON_DISRUPTION, job

Shared = tuple[Cluster, Client]
Change = Callable[[dict[str, Any]], Any]


def in_pod(**more: Any) -> Change:
    return lambda body: body["spec"]["template"]["spec"].update(more)


def in_container(**more: Any) -> Change:
    return lambda body: body["spec"]["template"]["spec"]["containers"][0].update(more)


def in_job(**more: Any) -> Change:
    return lambda body: body["spec"].update(more)


def affinity(*expressions: dict[str, Any]) -> Change:
    terms = {"nodeSelectorTerms": [{"matchExpressions": list(expressions)}]}
    return in_pod(affinity={"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}})


TYPES = {
    "an unknown field of the Job": (in_job(backofLimit=1), "backofLimit"),
    "an unknown field deep inside": (in_container(resources={"limit": {}}), "limit"),
    "a text for a number": (in_job(backoffLimit="1"), "backoffLimit"),
    "a number in the environment": (in_container(env=[{"name": "A", "value": 1}]), "env"),
    "a container without a name": (lambda body: body["spec"]["template"]["spec"]["containers"][0].pop("name"), "name"),
    "no template": (lambda body: body["spec"].pop("template"), "template"),
    "another kind": (lambda body: body.update(kind="Pod"), "does not match"),
}
VALUES = {
    "a name with capitals": (lambda body: body["metadata"].update(name="Big"), "metadata.name"),
    "a name of 64 letters": (lambda body: body["metadata"].update(name="a" * 64), "metadata.name"),
    "a label that ends in a dash": (lambda body: body["metadata"].update(labels={"a": "b-"}), "metadata.labels"),
    "a label of 64 letters": (lambda body: body["metadata"].update(labels={"a": "b" * 64}), "metadata.labels"),
    "a label key with a space": (lambda body: body["metadata"].update(labels={"a b": "c"}), "metadata.labels"),
    "restartPolicy Always": (in_pod(restartPolicy="Always"), "restartPolicy"),
    "a failure policy with OnFailure": (
        lambda body: (in_pod(restartPolicy="OnFailure")(body), in_job(podFailurePolicy=FAIL_ON_DISRUPTION)(body)),
        'only "Never" is supported',
    ),
    "a failure rule with no pattern": (in_job(podFailurePolicy={"rules": [{"action": "FailJob"}]}), "rules[0]"),
    "exit code 0 in a rule": (
        in_job(podFailurePolicy={"rules": [{"action": "Count", "onExitCodes": {"operator": "In", "values": [0]}}]}),
        "must not be 0",
    ),
    "a negative deadline": (in_job(activeDeadlineSeconds=-1), "activeDeadlineSeconds"),
    "a quantity with a space": (in_container(resources={"limits": {"memory": "4 Gi"}}), "limits[memory]"),
    "more requested than allowed": (
        in_container(resources={"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}), "less than or equal to cpu limit",
    ),
    "GPUs requested without a limit": (
        in_container(resources={"requests": {"nvidia.com/gpu": "1"}}), "must be set for non overcommitable resources",
    ),
    "a toleration of seconds for NoSchedule": (
        in_pod(tolerations=[{"key": "a", "operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": 3}]),
        "effect must be 'NoExecute'",
    ),
    "a toleration that exists with a value": (
        in_pod(tolerations=[{"key": "a", "operator": "Exists", "value": "b"}]), "value must be empty",
    ),
    "In without values": (affinity({"key": "a", "operator": "In"}), "must be specified"),
    "Gt with two values": (affinity({"key": "a", "operator": "Gt", "values": ["1", "2"]}), "single value"),
    "a value and its source": (
        in_container(env=[{"name": "A", "value": "b", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]),
        "may not be specified when value is not empty",
    ),
    "two containers of a name": (
        lambda body: body["spec"]["template"]["spec"]["containers"].append({"name": "main", "image": "a"}), "Duplicate",
    ),
}  # fmt: skip


def refused(k8s: Client, change: Change) -> dict[str, Any]:
    body = job("wrong")
    change(body)
    with pytest.raises(ApiException) as refusal:
        k8s.batch.create_namespaced_job("default", body)
    status: dict[str, Any] = json.loads(refusal.value.body)
    assert status["kind"] == "Status"
    assert status["code"] == refusal.value.status
    return status


@pytest.mark.parametrize("what", TYPES)
def test_a_body_of_other_types_is_a_bad_request(shared: Shared, what: str) -> None:
    change, told = TYPES[what]
    status = refused(shared[1], change)
    assert (status["code"], status["reason"]) == (400, "BadRequest")
    assert told in status["message"]


@pytest.mark.parametrize("what", VALUES)
def test_values_that_types_cannot_rule_out_are_invalid(shared: Shared, what: str) -> None:
    change, told = VALUES[what]
    status = refused(shared[1], change)
    assert (status["code"], status["reason"]) == (422, "Invalid")
    assert told in status["message"]
    assert status["details"]["causes"]


def test_a_body_that_is_no_json_is_a_bad_request(shared: Shared) -> None:
    import urllib.error
    import urllib.request

    url = f"{shared[0].url}/apis/batch/v1/namespaces/default/jobs"
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(urllib.request.Request(url, data=b"{"))
    assert refusal.value.code == 400
    assert json.load(refusal.value)["reason"] == "BadRequest"


def test_nulls_are_taken_for_absent(shared: Shared) -> None:
    body = job("with-nulls")
    body["metadata"]["labels"] = None
    body["spec"]["template"]["spec"]["nodeSelector"] = None
    assert shared[1].create(body).metadata.name == "with-nulls"


def test_the_newest_bundled_version_counts_unless_another_is_named() -> None:
    assert server_version("1.36").startswith("1.36.")
    assert tuple(map(int, server_version().split("."))) > tuple(map(int, server_version("1.36").split(".")))
    with pytest.raises(InvalidInput, match=r"0\.9"):
        server_version("0.9")


@given(st.integers(0, 10**9), st.sampled_from([("", 1), ("k", 1000), ("Ki", 1024), ("Mi", 1024**2), ("G", 10**9)]))
def test_a_quantity_is_its_number_times_its_suffix(number: int, suffix: tuple[str, int]) -> None:
    assert parse_quantity(f"{number}{suffix[0]}") == number * suffix[1]
    assert parse_quantity(f"{number}m") * 1000 == number


@pytest.mark.parametrize("text", ["", "4 Gi", "Gi", "1gb", "--1", "1e", "0x10", "1.2.3"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_quantity(text)
