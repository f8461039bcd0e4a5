"""Signs that an attempt does not get to run: its image, its configuration, a start that hangs, no machine for it.

Each function returns what it saw, for a person, or None. They are rows of the table in `rules`.
"""

from __future__ import annotations

from avatar_pipeline.spot import signs
from avatar_pipeline.spot.facts import (
    last_event,
    pending_seconds,
    scheduling,
    seconds_since_scheduled,
    shown,
    waiting_for,
    waiting_shown,
)
from avatar_pipeline.spot.observation import Observation

_UNSAID = "nothing was said why"


def image_unusable(seen: Observation) -> str | None:
    """Look for an image that no waiting will bring."""
    waiting = waiting_for(seen, signs.IMAGE_PULL_HOPELESS)
    return f"The image cannot be pulled ({waiting_shown(waiting)})." if waiting else None


def image_pull(seen: Observation) -> str | None:
    """Look for an image that is not there, or not for us; a registry that is down for a while is waited for."""
    waiting, limit = waiting_for(seen, signs.IMAGE_PULL_RETRIED), seen.limits.image_pull_seconds
    if waiting is None or seconds_since_scheduled(seen) < limit:
        return None
    return f"The image was not pulled within {limit:g} s ({waiting_shown(waiting)})."


def configuration(seen: Observation) -> str | None:
    """Look for a Secret or ConfigMap that does not exist; one that is yet to be fetched is part of the start."""
    waiting = waiting_for(seen, frozenset({"CreateContainerConfigError"}))
    if waiting is None or "failed to sync" in waiting.waiting_message or "timed out" in waiting.waiting_message:
        return None
    return f"The container's configuration cannot be used ({waiting_shown(waiting)})."


def stuck_in_its_start(seen: Observation) -> str | None:
    """Look for a pod that got a node and does not start there."""
    pod, limit = seen.pod, seen.limits.start_seconds
    if pod is None or pod.phase != "Pending" or not pod.scheduled or seconds_since_scheduled(seen) < limit:
        return None
    waiting = next((each for each in pod.containers if each.waiting_reason), None)
    why = waiting_shown(waiting, last_event(seen))
    return f"Interrupted: not started within {limit:g} s on the node {pod.node or 'it was given'} ({why})."


def held_back(seen: Observation) -> str | None:
    """Look for a queueing system (Kueue, say) that has not let it go yet; how long that takes is its affair."""
    if seen.job is not None and seen.job.condition("Suspended") is not None:
        return "A queueing system holds the Job back (suspended)."
    said = scheduling(seen)
    gated = said is not None and said.status != "True" and said.reason == "SchedulingGated"
    return "A queueing system holds the pod back (scheduling gates)." if gated else None


def no_capacity(seen: Observation) -> str | None:
    """Look for a pod that no node was found for."""
    pod, limit = seen.pod, seen.limits.pending_seconds
    if pod is None or pod.phase != "Pending" or pod.scheduled or pending_seconds(seen) < limit:
        return None
    said = scheduling(seen)
    message = said.message if said is not None else ""
    return f"No node for it within {limit:g} s: {shown(message or last_event(seen)) or _UNSAID}"


def no_pod(seen: Observation) -> str | None:
    """Look for a Job that no pod was made for, as where a quota is used up."""
    job, limit = seen.job, seen.limits.pending_seconds
    if job is None or seen.pod is not None or pending_seconds(seen) < limit:
        return None
    if job.succeeded or job.condition("Complete", "SuccessCriteriaMet", "Failed", "FailureTarget") is not None:
        return None
    return f"No pod was made for the Job within {limit:g} s: {shown(last_event(seen)) or _UNSAID}"
