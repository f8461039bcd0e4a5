"""The table by which an attempt's ending is told. The first rule that applies decides; the order is part of it.

First come those that say to wait: a worker that has spoken for itself, and a pod that was told to go and is still
within its grace, in which it saves its work and asks for the retry itself. Then causes that look like an interruption
and are none, then interruptions, then pods that do not get to run, and last what the step's own process did.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from avatar_pipeline.spot import interruptions, signs, starts
from avatar_pipeline.spot.facts import exit_code, exit_shown, shown
from avatar_pipeline.spot.observation import Observation
from avatar_pipeline.spot.types import Ending
from avatar_pipeline.spot.views import Condition, ContainerView

_GONE_WITH_ITS_JOB = (None, signs.SIGKILL_EXIT, signs.SIGTERM_EXIT)


@dataclass(frozen=True, slots=True)
class Rule:
    """A row of the table. `applies` returns why it does, for a person, or None; `ending` None means: keep waiting."""

    name: str
    ending: Ending | None
    meaning: str
    applies: Callable[[Observation], str | None]


def _heard(seen: Observation) -> str | None:
    return "The worker has said itself how it ended." if seen.heard else None


def _moved(seen: Observation) -> str | None:
    stopped = not seen.alive and (seen.job is None or seen.job.deleting or seen.pod is not None)
    return "It was stopped, to go on elsewhere." if seen.deleted_by_us and stopped else None


def _in_its_grace(seen: Observation) -> str | None:
    pod = seen.pod
    if pod is None or not seen.alive:
        return None
    told = pod.deletion_requested_at or pod.condition("DisruptionTarget") or seen.job_failure or seen.deleted_by_us
    return "It was told to go, and may still be at work." if told else None


def _deadline(seen: Observation) -> str | None:
    failure, pod = seen.job_failure, seen.pod
    if failure is not None and failure.reason == "DeadlineExceeded":
        return f"It ran into its active deadline: {shown(failure.message)}"
    if pod is not None and pod.reason == "DeadlineExceeded":
        return f"It ran into its pod's active deadline: {shown(pod.message)}"
    return None


def _out_of_memory(seen: Observation) -> str | None:
    """During a node's shutdown the kubelet may report OOMKilled of containers that were not (kubernetes #120168)."""
    pod = seen.pod
    if pod is None:
        return None
    for container in (*(each for each in pod.containers if each.init), *([pod.step] if pod.step else [])):
        if container.terminated_reason == signs.OUT_OF_MEMORY_REASON and not _disrupted_before(
            pod.condition("DisruptionTarget"), container
        ):
            return f"The container {container.name!r} used more memory than its limit and was killed (OOMKilled)."
    return None


def _evicted_for_its_memory(seen: Observation) -> str | None:
    """The kubelet names a container in its message only where that used more than it had requested."""
    pod = seen.pod
    if pod is None or pod.reason != "Evicted" or "low on resource: memory" not in pod.message:
        return None
    return f"The node ran short of memory: {shown(pod.message)}" if "was using" in pod.message else None


def _storage_limit(seen: Observation) -> str | None:
    """A pod over its own storage limit is evicted without DisruptionTarget, and would be again."""
    pod = seen.pod
    if pod is None or pod.reason != "Evicted" or pod.condition("DisruptionTarget") is not None:
        return None
    own = re.search(r"exceed(s|ed) (the|its|the total) .*limit", pod.message)
    return f"It went over its own storage limit: {shown(pod.message)}" if own else None


def _vanished(seen: Observation) -> str | None:
    """With a Job its pod is deleted, and may still be there for a while; a node that was drained leaves the Job."""
    if not (seen.job is None or seen.job.deleting):
        return None
    pod = seen.pod
    if pod is not None:
        went_with_it = pod.deletion_requested_at is not None and exit_code(seen) in _GONE_WITH_ITS_JOB
        if seen.alive or not went_with_it:
            return None
    return "The Job is not there any more, and nobody here deleted it."


def _silent_exit(seen: Observation) -> str | None:
    limit, job = seen.limits.silent_exit_seconds, seen.job
    phase = seen.pod.phase if seen.pod is not None else ""
    complete = job.condition("Complete", "SuccessCriteriaMet") if job is not None else None
    if not (exit_code(seen) == 0 or phase == "Succeeded" or complete or (job is not None and job.succeeded)):
        return None
    finished = (
        seen.step.finished_at if seen.step is not None else None,
        job.completion_time if job is not None else None,
        complete.at if complete is not None else None,
    )
    return (
        f"It exited with 0, and {limit:g} s later the event log knows nothing of it."
        if seen.waited(*finished) >= limit
        else None
    )


def _user_error(seen: Observation) -> str | None:
    code = exit_code(seen)
    if code in (None, 0):
        return None
    step = seen.step
    why = shown(step.terminated_message) if step is not None else ""
    return f"The step's process ended with {exit_shown(seen)}{f': {why}' if why else '.'}"


def _failed_somehow(seen: Observation) -> str | None:
    """A failure for which no container gives a reason: of a kind not known here, so the user is to see it."""
    failure, pod = seen.job_failure, seen.pod
    if exit_code(seen) == 0:
        return None
    if failure is not None:
        return f"The Job failed ({failure.reason or 'no reason given'}). {shown(failure.message)}".rstrip()
    return f"The pod failed. {shown(pod.message)}".rstrip() if pod is not None and pod.phase == "Failed" else None


RULES: tuple[Rule, ...] = (
    Rule("heard", None, "a terminal event of this attempt is in the event log", _heard),
    Rule("moved", Ending.MOVED, "the executor stopped it to place it elsewhere, and it has ended", _moved),
    Rule("in its grace", None, "told to go, and still within its grace period", _in_its_grace),
    Rule("deadline", Ending.DEADLINE_EXCEEDED, "condition or reason DeadlineExceeded", _deadline),
    Rule("out of memory", Ending.OUT_OF_MEMORY, "OOMKilled, and not by a node's shutdown", _out_of_memory),
    Rule(
        "evicted for its memory",
        Ending.OUT_OF_MEMORY,
        "evicted from a node short of memory while using more than it requested",
        _evicted_for_its_memory,
    ),
    Rule("storage limit", Ending.USER_ERROR, "evicted for more local storage than its own limit", _storage_limit),
    Rule(
        "disrupted", Ending.INTERRUPTED, "pod condition DisruptionTarget, whatever its reason", interruptions.disrupted
    ),
    Rule(
        "ended by its node",
        Ending.INTERRUPTED,
        "pod reason NodeShutdown, Shutdown, Terminated, Evicted, Preempting, NodeLost, OutOf…, "
        "UnexpectedAdmissionError, NodeAffinity",
        interruptions.ended_by_its_node,
    ),
    Rule(
        "failure policy",
        Ending.INTERRUPTED,
        "Job failed by PodFailurePolicy on DisruptionTarget",
        interruptions.failure_policy,
    ),
    Rule(
        "node lost",
        Ending.INTERRUPTED,
        "the pod's node does not exist any more, or was silent past the slack",
        interruptions.node_lost,
    ),
    Rule("vanished", Ending.VANISHED, "the Job is gone, and its pod, if still there, was deleted with it", _vanished),
    Rule("overdue", Ending.INTERRUPTED, "terminating past grace and slack", interruptions.overdue),
    Rule("container lost", Ending.INTERRUPTED, "ContainerStatusUnknown", interruptions.container_lost),
    Rule(
        "killed on a leaving node",
        Ending.INTERRUPTED,
        "exit 137 or 143 while the node is not ready, gone, or tainted to go",
        interruptions.killed_on_a_leaving_node,
    ),
    Rule("pod deleted", Ending.INTERRUPTED, "exit 137 or 143 of a pod that was deleted", interruptions.pod_deleted),
    Rule(
        "GPU not there",
        Ending.INTERRUPTED,
        "the NVIDIA hook failed, not for the image's own demands",
        interruptions.gpu_not_there,
    ),
    Rule("killed", Ending.INTERRUPTED, "exit 137 or 143 with no sign of why", interruptions.killed_from_outside),
    Rule("pod removed", Ending.INTERRUPTED, "the Job failed and its pod is missing", interruptions.pod_removed),
    Rule("never ran", Ending.INTERRUPTED, "the pod failed and no container of it ran", interruptions.never_ran),
    Rule(
        "image unusable",
        Ending.IMAGE_PULL,
        "InvalidImageName, ErrImageNeverPull, SignatureValidationFailed: at once",
        starts.image_unusable,
    ),
    Rule(
        "image pull",
        Ending.IMAGE_PULL,
        "ErrImagePull, ImagePullBackOff and the like past their limit",
        starts.image_pull,
    ),
    Rule("configuration", Ending.USER_ERROR, "CreateContainerConfigError, with its message", starts.configuration),
    Rule(
        "stuck in its start",
        Ending.INTERRUPTED,
        "has a node and has not started within the limit",
        starts.stuck_in_its_start,
    ),
    Rule("held back", None, "suspended or gated by a queueing system", starts.held_back),
    Rule("no capacity", Ending.NO_CAPACITY, "Pending without a node past its limit", starts.no_capacity),
    Rule("no pod", Ending.NO_CAPACITY, "no pod made for the Job within the same limit (a quota, say)", starts.no_pod),
    Rule("silent exit", Ending.SILENT_EXIT, "exit 0, and no event past its limit (dagster #33755)", _silent_exit),
    Rule("user error", Ending.USER_ERROR, "another exit code than 0, and nothing of the above", _user_error),
    Rule("failed", Ending.USER_ERROR, "the Job or its pod failed, and nothing of the above", _failed_somehow),
)


def _disrupted_before(target: Condition | None, container: ContainerView) -> bool:
    if target is None:
        return False
    return target.at is None or container.finished_at is None or target.at <= container.finished_at
