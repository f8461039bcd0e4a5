"""Containers: what they are started with, and how their ends are told."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.lab.cluster import Image
from avatar_pipeline.lab.cluster.containers import expand, is_image_name
from avatar_pipeline.lab.cluster.images import Images
from tests.lab.cluster.conftest import Start
from tests.lab.cluster.manifests import DEAF, UNTIL_TERM, job, pod


def field(path: str) -> dict[str, Any]:
    return {"valueFrom": {"fieldRef": {"fieldPath": path}}}


def terminated(pod: Any) -> Any:
    return pod.status.container_statuses[0].state.terminated


def waiting(cluster: Any, name: str) -> str:
    state = cluster.pod(name)["status"].get("containerStatuses", [{"state": {}}])[0]["state"]
    return str(state.get("waiting", {}).get("reason", ""))


def test_a_container_has_its_own_environment_and_nothing_of_its_host(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_HOST", "1")
    cluster, k8s = start(
        images={"app:1": Image(env={"FROM_IMAGE": "image", "BOTH": "image"})},
        config_maps={"map": {"MAPPED": "m"}}, secrets={"vault": {"PASSWORD": "p", "other": "o"}},
    )  # fmt: skip
    env = [
        {"name": "BOTH", "value": "own"},
        {"name": "GREETING", "value": "hello $(BOTH) $$(BOTH) $(NOBODY)"},
        {"name": "POD", **field("metadata.name")},
        {"name": "SPACE", **field("metadata.namespace")},
        {"name": "IDENTITY", **field("metadata.uid")},
        {"name": "TIER", **field("metadata.labels['tier']")},
        {"name": "ADDRESS", **field("status.podIP")},
        {"name": "NODE", **field("spec.nodeName")},
        {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "vault", "key": "other"}}},
        {"name": "MAYBE", "valueFrom": {"configMapKeyRef": {"name": "no", "key": "no", "optional": True}}},
    ]
    sources = [{"configMapRef": {"name": "map"}}, {"prefix": "V_", "secretRef": {"name": "vault"}}]
    container = {"image": "app:1", "env": env, "envFrom": sources}
    made = k8s.create(pod("env", "env", labels={"tier": "gold"}, container=container))
    cluster.wait_for(lambda: cluster.happenings("pod_succeeded", "env"))
    seen = dict(line.partition("=")[::2] for line in k8s.log("env").splitlines())
    expected = {
        "FROM_IMAGE": "image", "BOTH": "own", "GREETING": "hello own $(BOTH) $(NOBODY)", "POD": "env",
        "HOSTNAME": "env", "SPACE": "default", "IDENTITY": made.metadata.uid, "TIER": "gold", "ADDRESS": "127.0.0.1",
        "NODE": "node-1", "KEY": "o", "MAPPED": "m", "V_PASSWORD": "p", "KUBECONFIG": str(cluster.kubeconfig),
    }  # fmt: skip
    assert {name: seen.get(name) for name in expected} == expected
    assert not {"MAYBE", "SECRET_OF_THE_HOST"} & set(seen)


@pytest.mark.parametrize(
    "source", [{"secretKeyRef": {"name": "vault", "key": "none"}}, {"configMapKeyRef": {"name": "none", "key": "a"}}]
)
def test_a_reference_to_nothing_is_a_config_error(start: Start, source: dict[str, Any]) -> None:
    cluster, k8s = start(secrets={"vault": {}})
    k8s.create(pod("broken", container={"env": [{"name": "A", "valueFrom": source}]}))
    cluster.wait_for(lambda: waiting(cluster, "broken") == "CreateContainerConfigError")
    assert k8s.pod("broken").status.phase == "Pending"


@pytest.mark.parametrize(("script", "code", "reason", "phase"), [
    ("exit 0", 0, "Completed", "Succeeded"), ("exit 3", 3, "Error", "Failed"),
    ("kill -TERM $$$$; sleep 5", 143, "Error", "Failed"), ("kill -KILL $$$$; sleep 5", 137, "Error", "Failed"),
])  # fmt: skip
def test_the_end_of_a_process_is_the_end_of_its_container(
    start: Start, script: str, code: int, reason: str, phase: str
) -> None:
    cluster, k8s = start()
    k8s.create(pod("ends", script))
    cluster.wait_for(lambda: cluster.happenings(f"pod_{phase.lower()}"))
    ended = terminated(k8s.pod("ends"))
    assert (ended.exit_code, ended.reason, k8s.pod("ends").status.phase) == (code, reason, phase)


def test_a_container_that_is_out_of_memory_is_told_so(start: Start) -> None:
    cluster, k8s = start()
    k8s.create(job("hungry", UNTIL_TERM))
    name = k8s.running("hungry")
    cluster.oom(name)
    k8s.ended("hungry")
    ended = terminated(k8s.pod(name))
    assert (ended.exit_code, ended.reason) == (137, "OOMKilled")


def test_a_memory_limit_is_enforced_where_that_is_wanted(start: Start) -> None:
    cluster, k8s = start(memory_watch_seconds=0.05)
    code = "import time; b = b'x' * 60_000_000; time.sleep(20)"
    container = {"command": ["python", "-S", "-c", code], "resources": {"limits": {"memory": "40Mi"}}}
    k8s.create(job("limited", container=container))
    k8s.ended("limited")
    assert terminated(k8s.pod(cluster.pods()[0]["metadata"]["name"])).reason == "OOMKilled"


def test_a_pod_has_its_grace_and_then_no_more(start: Start) -> None:
    cluster, k8s = start()
    k8s.create(job("deaf", DEAF, terminationGracePeriodSeconds=1))
    name = k8s.running("deaf")
    cluster.delete_pod(name)
    ended = cluster.wait_for(lambda: cluster.happenings("container_ended", name))[0]
    signals = cluster.happenings("signal_sent", name)
    assert [each.detail["signal"] for each in signals] == ["SIGTERM", "SIGKILL"]
    assert 0.9 < signals[1].at - signals[0].at < 2
    assert ended.detail["exit_code"] == 137


def test_a_program_that_is_not_there_is_a_start_error(start: Start) -> None:
    cluster, k8s = start()
    k8s.create(pod("lost", container={"command": ["no-such-program"]}))
    cluster.wait_for(lambda: cluster.happenings("pod_failed", "lost"))
    ended = terminated(k8s.pod("lost"))
    assert (ended.exit_code, ended.reason) == (128, "StartError")
    assert "no-such-program" in ended.message


def test_a_container_starts_in_the_folder_of_its_image(start: Start, tmp_path: Any) -> None:
    cluster, k8s = start(images={"app:1": Image(working_directory=tmp_path, entrypoint=("/bin/sh", "-c"))})
    k8s.create(pod("here", container={"image": "app:1", "command": None, "args": ["pwd"]}))
    cluster.wait_for(lambda: cluster.happenings("pod_succeeded", "here"))
    assert k8s.log("here").strip() == str(tmp_path)


def test_init_containers_run_first_and_one_that_fails_is_the_end(start: Start) -> None:
    cluster, k8s = start()
    first = {"name": "first", "image": "shell:1", "command": ["/bin/sh", "-c", "echo ready"]}
    k8s.create(pod("prepared", initContainers=[first]))
    k8s.create(pod("unprepared", initContainers=[{**first, "command": ["/bin/sh", "-c", "exit 4"]}]))
    cluster.wait_for(lambda: cluster.happenings("pod_succeeded") and cluster.happenings("pod_failed"))
    order = [each.detail["container"] for each in cluster.happenings("container_started", "prepared")]
    assert order == ["first", "main"]
    assert [each.detail["container"] for each in cluster.happenings("container_started", "unprepared")] == ["first"]
    assert k8s.log("prepared", container="first") == "ready\n"


def test_logs_are_cut_as_asked(start: Start) -> None:
    cluster, k8s = start()
    k8s.create(pod("talks", "for i in 1 2 3; do echo line $i; done; echo late >&2"))
    cluster.wait_for(lambda: cluster.happenings("pod_succeeded", "talks"))
    assert k8s.log("talks", follow=True) == "line 1\nline 2\nline 3\nlate\n"
    assert k8s.log("talks", tail_lines=2) == "line 3\nlate\n"
    assert k8s.log("talks", limit_bytes=4) == "line"
    assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z late\n", k8s.log("talks", tail_lines=1, timestamps=True))


def test_a_followed_log_ends_with_its_container(start: Start) -> None:
    _, k8s = start()
    k8s.create(job("followed", "echo one; sleep 0.2; echo two"))
    assert k8s.log(k8s.running("followed"), follow=True) == "one\ntwo\n"


def test_a_restarted_container_keeps_its_previous_log(start: Start) -> None:
    cluster, k8s = start(restart_backoff_seconds=0.02)
    script = "if [ -e again ]; then echo second; exit 0; fi; touch again; echo first; exit 1"
    folder = str(cluster.folder)
    k8s.create(pod("restarts", script, restartPolicy="OnFailure", container={"workingDir": folder}))
    cluster.wait_for(lambda: cluster.happenings("pod_succeeded", "restarts"))
    assert k8s.log("restarts") == "second\n"
    assert k8s.log("restarts", previous=True) == "first\n"
    status = k8s.pod("restarts").status.container_statuses[0]
    assert (status.restart_count, status.last_state.terminated.exit_code) == (1, 1)


def test_a_pull_that_fails_is_tried_again_until_it_can_be_done(start: Start) -> None:
    cluster, k8s = start(pull_backoff_seconds=0.05)
    cluster.fail_pulls("missing:*")
    k8s.create(job("puller", container={"image": "missing:1"}))
    name = cluster.wait_for(lambda: cluster.pods(job="puller"))[0]["metadata"]["name"]
    for reason in ("ErrImagePull", "ImagePullBackOff"):
        cluster.wait_for(lambda reason=reason: waiting(cluster, name) == reason)
    assert any(message.startswith('Failed to pull image "missing:1"') for message in k8s.messages(name))
    cluster.mend_pulls("missing:*")
    assert k8s.ended("puller").status.succeeded == 1


def test_the_newest_pattern_that_fits_an_image_counts() -> None:
    images = Images({})
    images.delay("a:*", 1)
    images.delay("*", 2)
    assert (images.seconds("a:1"), images.seconds("b:1")) == (2, 2)
    images.delay("a:*", 3)
    assert (images.seconds("a:1"), images.seconds("b:1")) == (3, 2)
    images.fail("a:*", "ErrImagePull")
    images.fail("*", "RegistryUnavailable")
    images.fail("a:*", "InvalidImageName")
    assert (images.problem("a:1"), images.problem("b:1")) == ("InvalidImageName", "RegistryUnavailable")
    images.mend("*")
    assert (images.problem("a:1"), images.problem("b:1")) == ("InvalidImageName", None)


@pytest.mark.parametrize("name", ["Upper:1", "two words", "registry/:tag"])
def test_an_image_name_that_cannot_be_read_is_told(start: Start, name: str) -> None:
    cluster, k8s = start()
    k8s.create(pod("misnamed", container={"image": name}))
    cluster.wait_for(lambda: waiting(cluster, "misnamed") == "InvalidImageName")


def test_a_reason_that_no_pull_has_is_refused(start: Start) -> None:
    cluster, _ = start()
    with pytest.raises(InvalidInput, match="Boredom"):
        cluster.fail_pulls("*", "Boredom")


def test_a_start_can_take_its_time(start: Start) -> None:
    cluster, k8s = start()
    cluster.start_delay("shell:*", 0.2)
    k8s.create(job("slow"))
    name = cluster.wait_for(lambda: cluster.happenings("pod_scheduled"))[0].name
    assert cluster.wait_for(lambda: waiting(cluster, name)) == "ContainerCreating"
    k8s.ended("slow")
    assert cluster.happenings("container_started")[0].at - cluster.happenings("pod_scheduled")[0].at >= 0.19


@pytest.mark.parametrize("name", [
    "a", "a:1", "ghcr.io/org/app:v1.2_3", "localhost:5000/a/b@sha256:" + "0" * 64,
    "123.dkr.ecr.us-east-1.amazonaws.com/x:y",
])  # fmt: skip
def test_usual_image_names_can_be_read(name: str) -> None:
    assert is_image_name(name)


@given(st.dictionaries(st.from_regex(r"[A-Z_][A-Z0-9_]{0,5}", fullmatch=True), st.text("abc$()", max_size=8)))
def test_a_reference_is_its_variable_and_an_escaped_one_stays(env: dict[str, str]) -> None:
    for name, value in env.items():
        assert expand(f"<$({name})>", env) == f"<{value}>"
        assert expand(f"<$$({name})>", env) == f"<$({name})>"
    assert expand("$(lower)", env) == "$(lower)"
