"""How an ended attempt is told from what the cluster shows, rule by rule, and what follows from each ending."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar_pipeline.spot.classification import CONSEQUENCES, RULES, Budget, Limits, Observation, Seen, classify
from avatar_pipeline.spot.types import CapacityType, Ending
from avatar_pipeline.spot.views import Condition, ContainerView, EventView, JobView, NodeView, PodView, Taint

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
PLACED = NOW - timedelta(minutes=20)
LIMITS = Limits(
    pending_seconds=600,
    image_pull_seconds=300,
    silent_exit_seconds=30,
    start_seconds=900,
    terminating_slack_seconds=20,
)
SCHEDULED = Condition("PodScheduled", "True", at=PLACED + timedelta(seconds=60))
NODE = NodeView("n1", "g5.xlarge", "us-east-1a", CapacityType.SPOT, ready=True)
RUNNING = ContainerView("dagster", running_since=PLACED + timedelta(seconds=90))
POD = PodView(
    name="p1",
    phase="Running",
    node="n1",
    created_at=PLACED,
    started_at=PLACED + timedelta(seconds=60),
    grace_seconds=100,
    conditions=(SCHEDULED,),
    containers=(RUNNING,),
)
JOB = JobView(name="j1", created_at=PLACED, start_time=PLACED, active=1)
ALIVE = Observation(JOB, (POD,), NODE, (), NOW, PLACED, limits=LIMITS)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def pod(**changes: Any) -> tuple[PodView, ...]:
    return (replace(POD, **changes),)


def seen(**changes: Any) -> Observation:
    return replace(ALIVE, **changes)


def exited(code: int, reason: str = "Error", **changes: Any) -> tuple[PodView, ...]:
    """A pod whose step has ended."""
    container = ContainerView(
        "dagster", exit_code=code, terminated_reason=reason, finished_at=changes.pop("finished_at", ago(5))
    )
    message = changes.pop("said", "")
    own = {"phase": "Failed" if code else "Succeeded", "containers": (replace(container, terminated_message=message),)}
    return pod(**{**own, **changes})


def disrupted(reason: str, at: datetime | None = None, message: str = "") -> tuple[Condition, ...]:
    return (SCHEDULED, Condition("DisruptionTarget", "True", reason, message, at))


def waiting(reason: str, message: str = "", since_scheduled: float = 0.0, name: str = "dagster") -> tuple[PodView, ...]:
    """A pod that has a node and waits there."""
    return pod(
        phase="Pending",
        conditions=(replace(SCHEDULED, at=ago(since_scheduled)),),
        containers=(ContainerView(name, waiting_reason=reason, waiting_message=message),),
    )


def unscheduled(reason: str = "Unschedulable", **changes: Any) -> tuple[PodView, ...]:
    """A pod without a node."""
    said = Condition("PodScheduled", "False", reason, "0/5 nodes are available: 5 Insufficient nvidia.com/gpu.")
    return pod(**{"phase": "Pending", "node": None, "conditions": (said,), "containers": (), **changes})


def failed(reason: str, message: str = "", type: str = "Failed") -> JobView:
    return replace(JOB, active=0, failed=1, conditions=(Condition(type, "True", reason, message, ago(2)),))


def verdict(observation: Observation) -> tuple[str, Ending] | None:
    found = classify(observation)
    return None if found is None else (found.rule, found.ending)


DISRUPTED_JOB = "Pod default/p1 has condition DisruptionTarget matching FailJob rule at index 0"
LOW_MEMORY = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 80Mi. "
GREEDY = LOW_MEMORY + "Container dagster was using 12Gi, request is 8Gi, has larger consumption of memory. "
GONE = {"phase": "Failed", "containers": ()}

CASES: list[tuple[str, Ending, Observation]] = [
    ("moved", Ending.MOVED, seen(deleted_by_us=True, job=None, pods=())),
    ("moved", Ending.MOVED, seen(deleted_by_us=True, job=replace(JOB, deleting=True), pods=exited(143))),
    ("deadline", Ending.DEADLINE_EXCEEDED, seen(job=failed("DeadlineExceeded"), pods=exited(143))),
    ("deadline", Ending.DEADLINE_EXCEEDED, seen(job=failed("DeadlineExceeded"), pods=())),
    (
        "deadline",
        Ending.DEADLINE_EXCEEDED,
        seen(job=failed("DeadlineExceeded", type="FailureTarget"), pods=exited(143, conditions=disrupted("X"))),
    ),
    ("deadline", Ending.DEADLINE_EXCEEDED, seen(pods=(replace(exited(137)[0], reason="DeadlineExceeded"),))),
    ("out of memory", Ending.OUT_OF_MEMORY, seen(pods=exited(137, "OOMKilled"))),
    (
        "out of memory",
        Ending.OUT_OF_MEMORY,
        seen(pods=exited(137, "OOMKilled", conditions=disrupted("DeletionByPodGC", at=ago(1)))),
    ),
    (
        "out of memory",
        Ending.OUT_OF_MEMORY,
        seen(pods=pod(containers=(ContainerView("load", init=True, exit_code=137, terminated_reason="OOMKilled"),))),
    ),
    (
        "evicted for its memory",
        Ending.OUT_OF_MEMORY,
        seen(
            pods=pod(**GONE, reason="Evicted", message=GREEDY, conditions=disrupted("TerminationByKubelet", at=ago(9)))
        ),
    ),
    (
        "storage limit",
        Ending.USER_ERROR,
        seen(
            pods=pod(
                **GONE,
                reason="Evicted",
                message="Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. ",
            )
        ),
    ),
    (
        "storage limit",
        Ending.USER_ERROR,
        seen(pods=pod(**GONE, reason="Evicted", message='Usage of EmptyDir volume "shm" exceeds the limit "1Gi". ')),
    ),
    (
        "storage limit",
        Ending.USER_ERROR,
        seen(
            pods=pod(
                **GONE, reason="Evicted", message='Container dagster exceeded its local ephemeral storage limit "1Gi". '
            )
        ),
    ),
    *[
        ("disrupted", Ending.INTERRUPTED, seen(pods=exited(143, conditions=disrupted(reason))))
        for reason in (
            "EvictionByEvictionAPI",
            "PreemptionByScheduler",
            "DeletionByTaintManager",
            "DeletionByPodGC",
            "TerminationByKubelet",
            "SomethingNew",
        )
    ],
    ("disrupted", Ending.INTERRUPTED, seen(pods=exited(0, conditions=disrupted("EvictionByEvictionAPI")))),
    (
        "disrupted",
        Ending.INTERRUPTED,
        seen(pods=exited(137, "OOMKilled", conditions=disrupted("TerminationByKubelet", at=ago(9)))),
    ),
    (
        "disrupted",
        Ending.INTERRUPTED,
        seen(
            pods=pod(**GONE, reason="Evicted", message=LOW_MEMORY, conditions=disrupted("TerminationByKubelet", ago(9)))
        ),
    ),
    *[
        ("ended by its node", Ending.INTERRUPTED, seen(pods=pod(**GONE, reason=reason)))
        for reason in (
            "NodeShutdown",
            "Shutdown",
            "Terminated",
            "Evicted",
            "Preempting",
            "NodeLost",
            "OutOfnvidia.com/gpu",
            "Outofmemory",
            "UnexpectedAdmissionError",
            "NodeAffinity",
        )
    ],
    ("ended by its node", Ending.INTERRUPTED, seen(pods=pod(phase="Unknown", reason="NodeLost"))),
    ("failure policy", Ending.INTERRUPTED, seen(job=failed("PodFailurePolicy", DISRUPTED_JOB), pods=())),
    ("node lost", Ending.INTERRUPTED, seen(node=None, node_gone=True)),
    ("node lost", Ending.INTERRUPTED, seen(node=None, node_gone=True, pods=waiting("ContainerCreating"))),
    ("node lost", Ending.INTERRUPTED, seen(node=replace(NODE, ready=False, silent_since=ago(20)))),
    ("vanished", Ending.VANISHED, seen(job=None, pods=())),
    ("vanished", Ending.VANISHED, seen(job=replace(JOB, deleting=True), pods=())),
    ("vanished", Ending.VANISHED, seen(job=None, pods=exited(143, deletion_requested_at=ago(9)))),
    (
        "overdue",
        Ending.INTERRUPTED,
        seen(node=replace(NODE, ready=False), pods=pod(deletion_requested_at=ago(100 + 20))),
    ),
    (
        "overdue",
        Ending.INTERRUPTED,
        seen(pods=pod(deletion_requested_at=ago(100 + 200))),
    ),
    (
        "container lost",
        Ending.INTERRUPTED,
        seen(pods=exited(137, "ContainerStatusUnknown", said="The container could not be located")),
    ),
    ("container lost", Ending.INTERRUPTED, seen(pods=exited(255, "Unknown"))),
    ("killed on a leaving node", Ending.INTERRUPTED, seen(pods=exited(137), node=None, node_gone=True)),
    ("killed on a leaving node", Ending.INTERRUPTED, seen(pods=exited(143), node=replace(NODE, ready=False))),
    ("killed on a leaving node", Ending.INTERRUPTED, seen(pods=exited(143), node=replace(NODE, deleting=True))),
    *[
        (
            "killed on a leaving node",
            Ending.INTERRUPTED,
            seen(pods=exited(143), node=replace(NODE, taints=(Taint(key),))),
        )
        for key in (
            "ToBeDeletedByClusterAutoscaler",
            "karpenter.sh/disrupted",
            "aws-node-termination-handler/spot-itn",
            "node.kubernetes.io/unreachable",
        )
    ],
    ("pod deleted", Ending.INTERRUPTED, seen(pods=exited(143, deletion_requested_at=ago(30)))),
    (
        "GPU not there",
        Ending.INTERRUPTED,
        seen(
            pods=exited(
                128, "StartError", said="nvidia-container-cli: initialization error: nvml error: driver not loaded"
            )
        ),
    ),
    ("killed", Ending.INTERRUPTED, seen(pods=exited(137))),
    ("killed", Ending.INTERRUPTED, seen(pods=exited(143))),
    (
        "killed",
        Ending.INTERRUPTED,
        seen(
            job=failed("PodFailurePolicy", "Container dagster for pod a/p1 failed with exit code 137 matching"), pods=()
        ),
    ),
    ("pod removed", Ending.INTERRUPTED, seen(job=failed("BackoffLimitExceeded"), pods=())),
    ("never ran", Ending.INTERRUPTED, seen(pods=pod(**GONE, reason="SomethingNew"))),
    *[
        ("image unusable", Ending.IMAGE_PULL, seen(pods=waiting(reason)))
        for reason in ("InvalidImageName", "ErrImageNeverPull", "SignatureValidationFailed")
    ],
    ("image pull", Ending.IMAGE_PULL, seen(pods=waiting("ErrImagePull", since_scheduled=300))),
    ("image pull", Ending.IMAGE_PULL, seen(pods=waiting("ImagePullBackOff", since_scheduled=300, name="init"))),
    ("configuration", Ending.USER_ERROR, seen(pods=waiting("CreateContainerConfigError", 'secret "s" not found'))),
    ("stuck in its start", Ending.INTERRUPTED, seen(pods=waiting("ContainerCreating", since_scheduled=900))),
    (
        "stuck in its start",
        Ending.INTERRUPTED,
        seen(pods=waiting("CreateContainerConfigError", "failed to sync secret cache", since_scheduled=900)),
    ),
    ("no capacity", Ending.NO_CAPACITY, seen(pods=unscheduled(created_at=ago(600)))),
    ("no pod", Ending.NO_CAPACITY, seen(pods=())),
    ("silent exit", Ending.SILENT_EXIT, seen(pods=exited(0, "Completed", finished_at=ago(30)))),
    (
        "silent exit",
        Ending.SILENT_EXIT,
        seen(job=replace(JOB, succeeded=1, completion_time=ago(30)), pods=()),
    ),
    ("user error", Ending.USER_ERROR, seen(pods=exited(1))),
    ("user error", Ending.USER_ERROR, seen(pods=exited(139))),
    ("user error", Ending.USER_ERROR, seen(pods=exited(1), node=None, node_gone=True)),
    (
        "user error",
        Ending.USER_ERROR,
        seen(pods=exited(128, "StartError", said="nvidia-container-cli: requirement error: unsatisfied: cuda>=13.0")),
    ),
    (
        "user error",
        Ending.USER_ERROR,
        seen(
            job=failed("PodFailurePolicy", "Container dagster for pod a/p1 failed with exit code 42 matching FailJob"),
            pods=(),
        ),
    ),
    (
        "user error",
        Ending.USER_ERROR,
        seen(
            pods=pod(
                phase="Failed",
                containers=(
                    ContainerView("init", init=True, exit_code=1),
                    ContainerView("dagster", waiting_reason="PodInitializing"),
                ),
            )
        ),
    ),
    ("failed", Ending.USER_ERROR, seen(pods=pod(phase="Failed", containers=(ContainerView("i", True, exit_code=0),)))),
    (
        "failed",
        Ending.USER_ERROR,
        seen(
            job=failed("SomethingNew"),
            pods=pod(phase="Failed", containers=(ContainerView("init", init=True, exit_code=0),)),
        ),
    ),
]


@pytest.mark.parametrize(("rule", "ending", "observation"), CASES, ids=[f"{n} {c[0]}" for n, c in enumerate(CASES)])
def test_an_ended_attempt_is_told_by_its_rule(rule: str, ending: Ending, observation: Observation) -> None:
    assert verdict(observation) == (rule, ending)


@pytest.mark.parametrize(
    "observation",
    [
        ALIVE,
        seen(pods=(), placed_at=ago(5)),
        seen(pods=(), job=replace(JOB, conditions=(Condition("Suspended", "True"),))),
        seen(pods=unscheduled(reason="SchedulingGated")),
        seen(pods=unscheduled(created_at=ago(599))),
        seen(pods=waiting("ContainerCreating", since_scheduled=899)),
        seen(pods=waiting("ErrImagePull", since_scheduled=299)),
        seen(pods=waiting("CreateContainerConfigError", "failed to sync secret cache: timed out")),
        seen(pods=exited(0, "Completed", finished_at=ago(29))),
        seen(pods=exited(0, "Completed", finished_at=ago(9)), job=failed("BackoffLimitExceeded")),
        seen(node=replace(NODE, ready=False)),
        seen(node=replace(NODE, ready=False, silent_since=ago(19))),
        seen(node=replace(NODE, taints=(Taint("karpenter.sh/disrupted"),))),
        seen(pods=pod(reason="NodeLost")),
        seen(job=None),
    ],
)
def test_what_is_alive_or_not_decided_yet_is_waited_for(observation: Observation) -> None:
    assert classify(observation) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"pods": pod(conditions=disrupted("EvictionByEvictionAPI"), deletion_requested_at=ago(99))},
        {"pods": pod(conditions=disrupted("TerminationByKubelet", at=ago(99))), "node": replace(NODE, ready=False)},
        {"pods": pod(deletion_requested_at=ago(119)), "node": replace(NODE, ready=False)},
        {"pods": pod(deletion_requested_at=ago(299))},
        {"pods": pod(deletion_requested_at=ago(50)), "job": failed("DeadlineExceeded", type="FailureTarget")},
        {"pods": pod(deletion_requested_at=ago(50)), "job": None},
        {"pods": pod(deletion_requested_at=ago(50)), "job": None, "deleted_by_us": True},
        {"deleted_by_us": True},
    ],
)
def test_a_pod_that_was_told_to_go_has_its_grace_to_save_its_work_and_say_so(changes: dict[str, Any]) -> None:
    """An attempt beside it would do the same work twice, and what it says itself would come second."""
    assert classify(seen(**changes)) is None


def test_a_kubelet_that_dies_while_it_shuts_its_node_down_is_not_waited_for() -> None:
    """It marks its pods by a condition alone; the control plane would delete them only five minutes later."""
    marked = pod(conditions=disrupted("TerminationByKubelet", at=ago(120)))
    assert verdict(seen(pods=marked, node=replace(NODE, ready=False))) == ("disrupted", Ending.INTERRUPTED)


@pytest.mark.parametrize("observation", [case[2] for case in CASES[::3]])
def test_an_attempt_that_has_spoken_for_itself_is_not_judged(observation: Observation) -> None:
    assert classify(replace(observation, heard=True)) is None


def test_every_rule_that_decides_has_a_case_and_a_name_of_its_own() -> None:
    deciding = [rule.name for rule in RULES if rule.ending is not None]
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert set(deciding) == {case[0] for case in CASES}
    assert all(rule.meaning for rule in RULES)


@pytest.mark.parametrize(
    ("observation", "reason"),
    [
        (
            seen(pods=exited(143, conditions=disrupted("EvictionByEvictionAPI", message="Eviction API: evicting"))),
            "Interrupted: it was evicted through the eviction API, as a drain of its node does "
            "(EvictionByEvictionAPI). Eviction API: evicting",
        ),
        (
            seen(pods=exited(137)),
            "Interrupted: killed from outside (exit code 137, SIGKILL), with no sign of why. "
            "If it keeps happening, think of memory.",
        ),
        (
            seen(pods=exited(143), node=replace(NODE, taints=(Taint("aws-node-termination-handler/spot-itn"),))),
            "Interrupted: killed (exit code 143, SIGTERM), and the AWS Node Termination Handler announced spot-itn.",
        ),
        (
            seen(pods=unscheduled()),
            "No node for it within 600 s: 0/5 nodes are available: 5 Insufficient nvidia.com/gpu.",
        ),
        (
            seen(
                pods=(),
                events=(
                    EventView("FailedCreate", "exceeded quota: gpus", last_seen=ago(9), type="Warning"),
                    EventView("SomethingElse", "later, but no warning", last_seen=ago(1), type="Normal"),
                    EventView("FailedCreate", "earlier", last_seen=ago(99), type="Warning"),
                ),
            ),
            "No pod was made for the Job within 600 s: FailedCreate: exceeded quota: gpus",
        ),
        (
            seen(pods=waiting("ImagePullBackOff", 'Back-off pulling image "x:1"', since_scheduled=400)),
            'The image was not pulled within 300 s (ImagePullBackOff: Back-off pulling image "x:1").',
        ),
        (
            seen(pods=waiting("CreateContainerConfigError", 'secret "s" not found')),
            'The container\'s configuration cannot be used (CreateContainerConfigError: secret "s" not found).',
        ),
        (
            seen(
                pods=pod(phase="Pending", conditions=(replace(SCHEDULED, at=ago(900)),), containers=()),
                events=(EventView("FailedMount", "volume is gone", type="Warning"),),
            ),
            "Interrupted: not started within 900 s on the node n1 (FailedMount: volume is gone).",
        ),
        (seen(pods=exited(139)), "The step's process ended with exit code 139, SIGSEGV."),
        (seen(pods=exited(3, said="no such\nfile")), "The step's process ended with exit code 3: no such file"),
        (
            seen(pods=exited(0, finished_at=ago(40))),
            "It exited with 0, and 30 s later the event log knows nothing of it.",
        ),
    ],
)
def test_the_reason_names_what_was_seen(observation: Observation, reason: str) -> None:
    found = classify(observation)
    assert found is not None
    assert found.reason == reason


def test_a_long_message_is_cut() -> None:
    found = classify(seen(pods=exited(1, said="x" * 9000)))
    assert found is not None
    assert len(found.reason) < 500


def test_the_verdict_says_where_the_attempt_ran_and_its_exit_code() -> None:
    found = classify(seen(pods=exited(1)))
    assert found is not None
    assert found.seen == Seen("n1", "g5.xlarge", "us-east-1a", CapacityType.SPOT)
    assert found.exit_code == 1
    unread = classify(seen(pods=exited(1), node=None))
    assert unread is not None
    assert unread.seen == Seen(node="n1")


def test_of_several_pods_the_newest_counts() -> None:
    """Where a Job controller replaced a pod, the first one's end is not the attempt's."""
    first = replace(exited(143, conditions=disrupted("EvictionByEvictionAPI"))[0], created_at=ago(500))
    assert classify(seen(pods=(replace(POD, created_at=ago(100)), first))) is None


def test_time_in_a_queue_is_not_time_without_capacity() -> None:
    """A Job that was suspended for an hour has its pod made when it is let go."""
    late = seen(placed_at=ago(4000), pods=unscheduled(created_at=ago(30)))
    assert classify(late) is None


def test_interruptions_have_a_budget_of_their_own_and_user_errors_have_the_retry_policy() -> None:
    paid_by = {budget: {e for e in Ending if CONSEQUENCES[e].budget is budget} for budget in Budget}
    assert paid_by[Budget.INTERRUPTIONS] == {Ending.INTERRUPTED, Ending.VANISHED, Ending.SILENT_EXIT}
    assert paid_by[Budget.RETRY_POLICY] == {Ending.USER_ERROR, Ending.IMAGE_PULL, Ending.DEADLINE_EXCEEDED}


def test_each_ending_has_its_consequence() -> None:
    assert set(CONSEQUENCES) == set(Ending)
    assert [e for e in Ending if not CONSEQUENCES[e].retry] == [Ending.SUCCEEDED, Ending.CANCELLED]
    assert [e for e in Ending if CONSEQUENCES[e].counts_for_ladder] == [Ending.INTERRUPTED]
    assert [e for e in Ending if CONSEQUENCES[e].marks_offerings] == [Ending.NO_CAPACITY]
    assert [e for e in Ending if CONSEQUENCES[e].bigger_profile_once] == [Ending.OUT_OF_MEMORY]


parts = {
    "job": st.sampled_from([None, *{case[2].job for case in CASES if case[2].job}]),
    "pods": st.sampled_from([case[2].pods for case in CASES]),
    "node": st.sampled_from([None, NODE, *{case[2].node for case in CASES if case[2].node}]),
    "node_gone": st.booleans(),
    "deleted_by_us": st.booleans(),
}


@given(changes=st.fixed_dictionaries({}, optional=parts))
def test_what_lasts_is_decided_in_the_end(changes: dict[str, Any]) -> None:
    """Whatever the cluster goes on showing, an attempt hangs only while its step runs or a queue holds it back."""
    observation = seen(**changes)
    later = replace(observation, now=NOW + timedelta(days=1))
    if classify(later) is not None:
        return
    step = later.step
    assert step is None or (step.running_since is not None and step.exit_code is None) or later.deleted_by_us
    if step is None:
        assert later.deleted_by_us


@given(changes=st.fixed_dictionaries({}, optional=parts), seconds=st.integers(0, 10**5))
def test_an_attempt_that_has_ended_is_not_alive_again_later(changes: dict[str, Any], seconds: int) -> None:
    observation = seen(**changes)
    if classify(observation) is not None:
        assert classify(replace(observation, now=NOW + timedelta(seconds=seconds))) is not None
