"""What a health check looked at, at one moment, and the plain facts that follow from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from avatar_pipeline.spot.types import CapacityType
from avatar_pipeline.spot.views import Condition, ContainerView, EventView, JobView, NodeView, PodView


@dataclass(frozen=True, slots=True)
class Limits:
    """How long, in seconds, each state is waited out before it counts as an ending.

    `pending_seconds` without a node; `image_pull_seconds` on an image that will not come; `start_seconds` from getting
    a node to running; `silent_exit_seconds` from exit 0 to an event that says so; `terminating_slack_seconds` for a
    node that does not answer, past the grace period of its pod if that was asked to go.
    """

    pending_seconds: float = 600.0
    image_pull_seconds: float = 300.0
    silent_exit_seconds: float = 30.0
    start_seconds: float = 900.0
    terminating_slack_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Seen:
    """Where the attempt ran, as far as anybody saw it."""

    node: str | None = None
    instance_type: str | None = None
    zone: str | None = None
    capacity_type: CapacityType | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """One look at an attempt. An API server that does not answer gives none: the executor goes on waiting.

    `job` is None where the API answered that there is none. `node` is None where the pod has no node or its node could
    not be read; `node_gone` where the API answered that the pod's node is not there any more. `heard`: a terminal
    event of this attempt is in the event log (read after the rest, or a worker that ended in between is judged twice).
    `deleted_by_us`: the executor deleted the Job to move the attempt.
    """

    job: JobView | None
    pods: tuple[PodView, ...]
    node: NodeView | None
    events: tuple[EventView, ...]
    now: datetime
    placed_at: datetime
    heard: bool = False
    deleted_by_us: bool = False
    limits: Limits = field(default_factory=Limits)
    node_gone: bool = False

    @property
    def pod(self) -> PodView | None:
        """The pod of the attempt: where a Job made several, the newest."""
        oldest = datetime.min.replace(tzinfo=UTC)
        return max(self.pods, key=lambda pod: (pod.created_at or oldest, pod.name), default=None)

    @property
    def step(self) -> ContainerView | None:
        """The container that runs the step."""
        return self.pod.step if self.pod is not None else None

    @property
    def job_failure(self) -> Condition | None:
        """Why the Job failed, or is about to (`FailureTarget` comes before its pods have ended)."""
        return self.job.condition("Failed", "FailureTarget") if self.job is not None else None

    @property
    def seen(self) -> Seen:
        """Where the attempt ran."""
        name = self.pod.node if self.pod is not None else None
        node = self.node
        if node is None:
            return Seen(node=name)
        return Seen(name or node.name or None, node.instance_type, node.zone, node.capacity_type)

    @property
    def node_silent(self) -> bool:
        """Whether the pod's node is gone, on its way out, or not ready."""
        return self.node_gone or (self.node is not None and (self.node.ready is False or self.node.deleting))

    @property
    def node_lost(self) -> bool:
        """Whether the pod's node is gone, or the control plane has not heard of it for longer than the slack.

        A kubelet that hears nothing grants no grace either, and the control plane itself waits five minutes more before
        it deletes the pod.
        """
        since = self.node.silent_since if self.node is not None else None
        slack = timedelta(seconds=self.limits.terminating_slack_seconds)
        return self.node_gone or (since is not None and self.now - since >= slack)

    @property
    def overdue(self) -> timedelta | None:
        """How long the pod has outstayed its grace period; None where it was not asked to go.

        A kubelet that shuts its node down asks by the condition alone, and may be gone before it says how that went.
        A Job that failed asks too, even before its pods are marked.
        """
        pod, failure = self.pod, self.job_failure
        if pod is None:
            return None
        asked = pod.deletion_requested_at
        if asked is None and failure is not None:
            asked = failure.at or self.placed_at
        if asked is None and self.node_silent:
            target = pod.condition("DisruptionTarget")
            asked = target.at if target is not None else None
        return None if asked is None else self.now - asked - timedelta(seconds=pod.grace_seconds)

    @property
    def alive(self) -> bool:
        """Whether the step may still be at work, so that another attempt now would be a second one."""
        if self.pod is None or self.pod.ended or self.node_lost:
            return False
        slack = self.limits.terminating_slack_seconds * (1 if self.node_silent else PATIENCE)
        return self.overdue is None or self.overdue < timedelta(seconds=slack)

    def waited(self, *since: datetime | None) -> float:
        """Return the seconds since the first of these times that is known, else since the attempt was placed."""
        start = next((time for time in since if time is not None), self.placed_at)
        return (self.now - start).total_seconds()


PATIENCE = 10
"""Times the slack is given to a pod whose node answers: its kubelet is slow to end it, but it will."""
