"""Signs that an attempt was interrupted: its machine, not its own code, ended it.

Each function returns what it saw, for a person, or None. They are rows of the table in `rules`, where a pod within its
grace period was waited for before.
"""

from __future__ import annotations

from avatar_pipeline.spot import signs
from avatar_pipeline.spot.facts import exit_code, exit_shown, shown
from avatar_pipeline.spot.observation import Observation

_KILLED = (signs.SIGKILL_EXIT, signs.SIGTERM_EXIT)


def disrupted(seen: Observation) -> str | None:
    """Look for the pod condition DisruptionTarget."""
    target = seen.pod.condition("DisruptionTarget") if seen.pod is not None else None
    if target is None:
        return None
    meaning = signs.DISRUPTIONS.get(target.reason, "it was disrupted")
    return _said(f"Interrupted: {meaning} ({target.reason or target.type}).", target.message)


def ended_by_its_node(seen: Observation) -> str | None:
    """Look at the reason that the kubelet or the node controller wrote into the pod's status."""
    pod = seen.pod
    if pod is None or (seen.alive and pod.phase != "Unknown"):
        return None
    meaning = signs.POD_REASONS.get(pod.reason)
    if meaning is None and pod.reason.lower().startswith(signs.OUT_OF_PREFIX):
        meaning = "its node had nothing left for it"
    return _said(f"Interrupted: {meaning} ({pod.reason}).", pod.message) if meaning else None


def failure_policy(seen: Observation) -> str | None:
    """Look for a Job that its pod failure policy failed on a condition of the pod; this outlives the pod."""
    failure = seen.job_failure
    if failure is None or failure.reason != "PodFailurePolicy" or "exit code" in failure.message:
        return None
    return _said("Interrupted: the Job failed by its pod failure policy.", failure.message)


def node_lost(seen: Observation) -> str | None:
    """Look for a node that is gone, or that nobody has heard of for longer than the slack."""
    pod = seen.pod
    if pod is None or pod.ended or not seen.node_lost:
        return None
    return f"Interrupted: the node {pod.node} {'is gone' if seen.node_gone else 'has stopped answering'}."


def overdue(seen: Observation) -> str | None:
    """Look for a pod that should have ended long ago."""
    pod, late = seen.pod, seen.overdue
    if pod is None or pod.ended or seen.alive or late is None:
        return None
    node = "does not answer" if seen.node_silent else "has not ended it"
    return f"Interrupted: the pod is {late.total_seconds():.0f} s past its grace period, and its node {node}."


def container_lost(seen: Observation) -> str | None:
    """Look for a container that its kubelet does not find any more; the exit code is made up then."""
    step = seen.step
    if step is None or step.exit_code in (None, 0) or step.terminated_reason not in signs.LOST_CONTAINER:
        return None
    return _said(f"Interrupted: the node lost the container ({step.terminated_reason}).", step.terminated_message)


def killed_on_a_leaving_node(seen: Observation) -> str | None:
    """Look for a kill on a node that does not answer, or that is tainted to go."""
    if exit_code(seen) not in _KILLED:
        return None
    if seen.node_silent:
        return f"Interrupted: killed ({exit_shown(seen)}), and its node is gone, leaving or not ready."
    taints = seen.node.taints if seen.node is not None else ()
    meaning = next((text for taint in taints if (text := signs.departure(taint.key))), None)
    return f"Interrupted: killed ({exit_shown(seen)}), and {meaning}." if meaning else None


def pod_deleted(seen: Observation) -> str | None:
    """Look for a kill of a pod that somebody deleted."""
    pod = seen.pod
    if pod is None or pod.deletion_requested_at is None or exit_code(seen) not in _KILLED:
        return None
    return f"Interrupted: somebody deleted the pod, and it was killed ({exit_shown(seen)})."


def killed_from_outside(seen: Observation) -> str | None:
    """Look for a kill without any sign of why.

    A process does not end itself with SIGKILL or SIGTERM, and the kernel's kills for memory are labelled. A machine
    that is taken without notice shows nothing but this until its node is missed, about 40 s later. Taken for an
    interruption, another cause costs a bounded number of attempts; taken for an error, a lost machine fails the run.
    """
    if exit_code(seen) not in _KILLED:
        return None
    hint = "" if exit_code(seen) == signs.SIGTERM_EXIT else " If it keeps happening, think of memory."
    return f"Interrupted: killed from outside ({exit_shown(seen)}), with no sign of why.{hint}"


def gpu_not_there(seen: Observation) -> str | None:
    """Look for a container that NVIDIA's hook could not give its GPU, unless the image asks for a newer driver."""
    step = seen.step
    if step is None or step.terminated_reason not in signs.START_REASONS:
        return None
    message = step.terminated_message
    if signs.GPU_HOOK not in message or signs.GPU_HOOK_REFUSAL in message:
        return None
    return _said("Interrupted: the node could not give the container its GPU.", message)


def pod_removed(seen: Observation) -> str | None:
    """Look for a failed Job without a pod: one that fails by itself stays with its Job, so it was taken away."""
    if seen.job_failure is None or seen.pod is not None or exit_code(seen) is not None:
        return None
    return _said("Interrupted: the Job failed and its pod was removed.", seen.job_failure.message)


def never_ran(seen: Observation) -> str | None:
    """Look for a pod that failed and none of whose containers ran, so that no code of the user's can have failed."""
    pod = seen.pod
    if pod is None or pod.phase != "Failed" or any(each.exit_code is not None for each in pod.containers):
        return None
    return _said(f"Interrupted: the pod failed before its container ran ({pod.reason or 'no reason'}).", pod.message)


def _said(meaning: str, message: str) -> str:
    return f"{meaning} {shown(message)}".rstrip()
