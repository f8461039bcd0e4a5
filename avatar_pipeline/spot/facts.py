"""Small questions that several rules put to an observation, and how their answers are shown to a person."""

from __future__ import annotations

import re
import signal
from datetime import datetime

from avatar_pipeline.spot.observation import Observation
from avatar_pipeline.spot.views import Condition, ContainerView

_SHOWN_CHARACTERS = 400
_EXIT_CODE = re.compile(r"failed with exit code (\d+)")
_SIGNALLED = 128


def exit_code(seen: Observation) -> int | None:
    """Return the exit code that ended the attempt: of the step's container, or of an init container that failed.

    Where the pod is gone, it is the one that the Job's failure names.
    """
    if seen.step is not None and seen.step.exit_code is not None:
        return seen.step.exit_code
    if seen.pod is not None and seen.pod.phase == "Failed":
        return next((each.exit_code for each in seen.pod.containers if each.init and each.exit_code), None)
    failure = seen.job_failure
    named = _EXIT_CODE.search(failure.message) if failure is not None and seen.pod is None else None
    return int(named[1]) if named else None


def exit_shown(seen: Observation) -> str:
    """Return the step's exit code with the name of the signal that it stands for."""
    code = exit_code(seen) or 0
    try:
        return f"exit code {code}, {signal.Signals(code - _SIGNALLED).name}"
    except ValueError:
        return f"exit code {code}"


def scheduling(seen: Observation) -> Condition | None:
    """Return what the scheduler says of the pod, whether or not it found a node."""
    conditions = seen.pod.conditions if seen.pod is not None else ()
    return next((each for each in conditions if each.type == "PodScheduled"), None)


def waiting_for(seen: Observation, reasons: frozenset[str]) -> ContainerView | None:
    """Return the first container that waits for one of these reasons."""
    containers = seen.pod.containers if seen.pod is not None else ()
    return next((each for each in containers if each.waiting_reason in reasons), None)


def scheduled_at(seen: Observation) -> datetime | None:
    """Return when the pod got its node, or when the kubelet there took it; None where neither is known."""
    said = scheduling(seen)
    at = said.at if said is not None and said.status == "True" else None
    return at or (seen.pod.started_at if seen.pod is not None else None)


def seconds_since_scheduled(seen: Observation) -> float:
    """Return the seconds since the pod got its node."""
    return seen.waited(scheduled_at(seen))


def pending_seconds(seen: Observation) -> float:
    """Return the seconds since it was placed; since its pod was made, where a queueing system held that back."""
    created = seen.pod.created_at if seen.pod is not None else None
    return seen.waited(max(seen.placed_at, created) if created is not None else seen.placed_at)


def last_event(seen: Observation) -> str:
    """Return the latest event, warnings first."""
    if not seen.events:
        return ""
    warnings = [event for event in seen.events if event.type == "Warning"] or seen.events
    event = max(warnings, key=lambda each: each.last_seen or seen.placed_at)
    return f"{event.reason}: {event.message}"


def waiting_shown(container: ContainerView | None, otherwise: str = "") -> str:
    """Return why a container waits, `otherwise` where it does not say."""
    if container is None:
        return shown(otherwise) or "nothing was said why"
    said = container.waiting_message or otherwise
    return f"{container.waiting_reason}: {shown(said)}" if said else container.waiting_reason


def shown(text: str) -> str:
    """Return a text in one line, cut where it is long."""
    flat = " ".join(text.split())
    return flat if len(flat) <= _SHOWN_CHARACTERS else flat[: _SHOWN_CHARACTERS - 1] + "…"
