"""The Job controller: how Jobs end, and what they say of it."""

from __future__ import annotations

from typing import Any

import pytest

from avatar_pipeline.lab.cluster.failure_policy import match_failure
from tests.lab.cluster.conftest import Start
from tests.lab.cluster.manifests import DEAF, FAIL_ON_DISRUPTION, LOSE_NO_TRY, UNTIL_TERM, job


def conditions(job: Any) -> dict[str, tuple[str, str]]:
    return {each.type: (each.reason, each.message) for each in job.status.conditions}


def test_a_job_whose_pod_succeeds_is_complete(start: Start) -> None:
    cluster, k8s = start()
    k8s.create(job("fine"))
    done = k8s.ended("fine")
    reached = ("CompletionsReached", "Reached expected number of succeeded pods")
    assert conditions(done) == {"SuccessCriteriaMet": reached, "Complete": reached}
    assert (done.status.succeeded, done.status.failed, done.status.active) == (1, None, None)
    assert done.status.completion_time is not None
    assert cluster.pods(job="fine", phase="Succeeded")[0]["metadata"].get("finalizers") is None


def test_failed_pods_are_replaced_until_the_backoff_limit(start: Start) -> None:
    cluster, k8s = start(job_backoff_seconds=0.05)
    k8s.create(job("tries", "exit 3", spec={"backoffLimit": 2}))
    done = k8s.ended("tries")
    exceeded = ("BackoffLimitExceeded", "Job has reached the specified backoff limit")
    assert conditions(done) == {"FailureTarget": exceeded, "Failed": exceeded}
    assert done.status.failed == 3
    created = [each.at for each in cluster.happenings("pod_created")]
    assert len(created) == 3
    assert created[1] - created[0] >= 0.05
    assert created[2] - created[1] >= 0.1
    assert exceeded[1] in k8s.messages("tries")


def test_containers_restarted_in_place_count_towards_the_backoff_limit(start: Start) -> None:
    cluster, k8s = start(restart_backoff_seconds=0.02)
    k8s.create(job("in-place", "exit 3", spec={"backoffLimit": 1}, restartPolicy="OnFailure"))
    done = k8s.ended("in-place")
    assert conditions(done)["Failed"][0] == "BackoffLimitExceeded"
    assert len(cluster.happenings("pod_created")) == 1
    assert len(cluster.happenings("container_started")) >= 2


def test_a_disruption_can_fail_the_job_at_once(start: Start) -> None:
    cluster, k8s = start()
    k8s.create(job("strict", UNTIL_TERM, spec={"backoffLimit": 5, "podFailurePolicy": FAIL_ON_DISRUPTION}))
    name = k8s.running("strict")
    cluster.evict(name)
    done = k8s.ended("strict")
    told = f"Pod default/{name} has condition DisruptionTarget matching FailJob rule at index 0"
    assert conditions(done)["Failed"] == ("PodFailurePolicy", told)
    assert done.status.failed == 1
    assert len(cluster.happenings("pod_created")) == 1


def test_an_exit_code_can_fail_the_job_at_once(start: Start) -> None:
    _, k8s = start()
    codes = {"containerName": "main", "operator": "In", "values": [42]}
    rules = [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
             {"action": "FailJob", "onExitCodes": codes}]  # fmt: skip
    k8s.create(job("coded", "exit 42", spec={"backoffLimit": 5, "podFailurePolicy": {"rules": rules}}))
    reason, message = conditions(k8s.ended("coded"))["Failed"]
    assert reason == "PodFailurePolicy"
    assert message.startswith("Container main for pod default/coded-")
    assert message.endswith(" failed with exit code 42 matching FailJob rule at index 1")


def test_an_ignored_disruption_costs_no_try(start: Start) -> None:
    cluster, k8s = start()
    k8s.create(job("patient", UNTIL_TERM, spec={"backoffLimit": 0, "podFailurePolicy": LOSE_NO_TRY}))
    first = k8s.running("patient")
    cluster.evict(first)
    cluster.wait_for(lambda: len(cluster.happenings("pod_created")) == 2)
    k8s.running("patient")
    status = k8s.job("patient").status
    assert (status.failed, status.active, status.conditions) == (None, 1, None)


def test_with_a_policy_the_next_pod_waits_for_the_end_of_the_last(start: Start) -> None:
    cluster, k8s = start(job_backoff_seconds=0.0)
    slow = "trap 'sleep 0.2; exit 1' TERM; echo up; while :; do sleep 0.02; done"
    k8s.create(job("one-at-a-time", slow, spec={"podFailurePolicy": LOSE_NO_TRY}))
    cluster.evict(k8s.running("one-at-a-time"))
    cluster.wait_for(lambda: cluster.job("one-at-a-time")["status"].get("terminating") == 1)
    cluster.wait_for(lambda: len(cluster.happenings("pod_created")) == 2)
    assert cluster.happenings("pod_created")[1].at >= cluster.happenings("pod_failed")[0].at


def test_without_a_policy_the_next_pod_comes_when_the_last_is_told_to_end(start: Start) -> None:
    cluster, k8s = start(job_backoff_seconds=0.0)
    k8s.create(job("impatient", DEAF, spec={"backoffLimit": 1}))
    cluster.evict(k8s.running("impatient"), 2)
    cluster.wait_for(lambda: len(cluster.pods(job="impatient")) == 2)
    assert not cluster.happenings("pod_failed")


def test_a_job_over_its_deadline_is_ended_and_failed(start: Start) -> None:
    cluster, k8s = start()
    k8s.create(job("late", UNTIL_TERM, spec={"activeDeadlineSeconds": 1, "backoffLimit": 4}))
    name = k8s.running("late")
    done = k8s.ended("late")
    assert conditions(done)["Failed"] == ("DeadlineExceeded", "Job was active longer than specified deadline")
    assert "told to end" in cluster.logs(name)
    assert done.status.failed == 1
    failing, failed = cluster.happenings("job_failing")[0], cluster.happenings("job_failed")[0]
    assert 0.9 < failing.at - cluster.happenings("job_created")[0].at < 3
    assert failing.at <= cluster.happenings("container_ended", name)[0].at <= failed.at


def test_a_pending_job_over_its_deadline_fails_too(start: Start) -> None:
    cluster, k8s = start()
    spec = {"activeDeadlineSeconds": 1, "podFailurePolicy": FAIL_ON_DISRUPTION}
    k8s.create(job("nowhere", spec=spec, nodeSelector={"no": "where"}))
    assert conditions(k8s.ended("nowhere"))["Failed"][0] == "DeadlineExceeded"
    cluster.wait_for(lambda: not cluster.pods())


def test_a_finished_job_goes_after_its_lifetime_with_its_pods(start: Start) -> None:
    cluster, k8s = start()
    k8s.create(job("brief", spec={"ttlSecondsAfterFinished": 1}))
    k8s.ended("brief")
    assert cluster.pods(job="brief")
    cluster.wait_for(lambda: not cluster.jobs() and not cluster.pods(), 5)
    gone = cluster.happenings("job_deleted")[0].at - cluster.happenings("job_complete")[0].at
    assert 0.9 < gone < 3


def test_a_pod_that_ends_with_0_after_its_eviction_completes_the_job(start: Start) -> None:
    cluster, k8s = start()
    script = "trap 'exit 0' TERM; echo up; while :; do sleep 0.02; done"
    k8s.create(job("graceful", script, spec={"podFailurePolicy": FAIL_ON_DISRUPTION}))
    cluster.evict(k8s.running("graceful"))
    assert "Complete" in conditions(k8s.ended("graceful"))


POD = {
    "metadata": {"namespace": "ns", "name": "p"},
    "status": {
        "conditions": [{"type": "DisruptionTarget", "status": "True"}],
        "containerStatuses": [
            {"name": "side", "state": {"terminated": {"exitCode": 0}}},
            {"name": "main", "state": {"terminated": {"exitCode": 7}}},
        ],
    },
}
DISRUPTED = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}


def codes(operator: str, *values: int, container: str | None = None) -> dict[str, Any]:
    named = {"containerName": container} if container else {}
    return {"action": "FailJob", "onExitCodes": {"operator": operator, "values": list(values), **named}}


@pytest.mark.parametrize(
    ("rules", "action"),
    [
        ([], None),
        ([codes("In", 7)], "FailJob"),
        ([codes("In", 8)], None),
        ([codes("NotIn", 8)], "FailJob"),
        ([codes("NotIn", 7)], None),
        ([codes("In", 7, container="side")], None),
        ([codes("NotIn", 7, container="side")], None),
        ([DISRUPTED, codes("In", 7)], "Ignore"),
        ([codes("In", 7), DISRUPTED], "FailJob"),
        ([{"action": "Count", "onPodConditions": [{"type": "DisruptionTarget", "status": "False"}]}], None),
    ],
)
def test_the_first_rule_that_a_failed_pod_meets_decides(rules: list[dict[str, Any]], action: str | None) -> None:
    found = match_failure({"rules": rules}, POD)
    assert (found.action if found else None) == action
