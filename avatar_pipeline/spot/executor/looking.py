"""One look at an attempt: what the API server shows of its Job, its pod and its machine."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from avatar_pipeline.spot.classification import Limits, Observation, Seen
from avatar_pipeline.spot.executor.door import ApiRefused, Door
from avatar_pipeline.spot.facts import scheduled_at
from avatar_pipeline.spot.types import Attempt
from avatar_pipeline.spot.views import EventView, NodeView, event_view, job_view, node_view, pod_view


@dataclass(frozen=True, slots=True)
class Look:
    """An observation, with where the attempt runs by all that was ever seen of it."""

    observation: Observation
    seen: Seen

    @property
    def pending(self) -> bool:
        """Whether the pod waits for a node."""
        pod = self.observation.pod
        return pod is not None and pod.phase == "Pending" and pod.node is None

    @property
    def machine_since(self) -> datetime | None:
        """When the pod got its machine; None as long as it has none."""
        return scheduled_at(self.observation)

    @property
    def started_at(self) -> datetime | None:
        """When the step's container began to run; None as long as it did not."""
        step = self.observation.step
        return None if step is None else step.running_since or step.started_at


def look_at(
    door: Door,
    namespace: str,
    job: str,
    attempt: Attempt,
    *,
    now: datetime,
    limits: Limits,
    seen: Seen,
    deleted_by_us: bool = False,
) -> Look:
    """Look at an attempt's Job, its pods, and at its node and the events where they tell more.

    `seen` is what earlier looks saw of its machine; `deleted_by_us` says that we told it to go.

    Raises:
        ApiUnreachable: the API server does not answer.
        ApiRefused: we may not read Jobs or pods.
    """
    found = door.job(namespace, job)
    pods = tuple(pod_view(pod) for pod in door.pods(namespace, job))
    first = Observation(
        job=None if found is None else job_view(found),
        pods=pods,
        node=None,
        events=(),
        now=now,
        placed_at=attempt.placed_at,
        limits=limits,
    )
    pod, step = first.pod, first.step
    # The node at every look: of a machine that is lost, nothing else tells for minutes.
    node, gone = _node(door, pod.node) if pod is not None and pod.node else (None, False)
    told: tuple[EventView, ...] = ()
    if pod is None or (pod.phase == "Pending" and (step is None or step.running_since is None)):
        told = _events(door, namespace, job if pod is None else pod.name)
    observation = Observation(
        job=first.job,
        pods=pods,
        node=node,
        events=told,
        now=now,
        placed_at=attempt.placed_at,
        limits=limits,
        node_gone=gone,
        deleted_by_us=deleted_by_us,
    )
    return Look(observation, observation.seen if observation.seen.instance_type else seen)


def _events(door: Door, namespace: str, about: str) -> tuple[EventView, ...]:
    try:
        return tuple(event_view(event) for event in door.events(namespace, about))
    except ApiRefused:
        # They only say in words what conditions and limits decide.
        return ()


def _node(door: Door, name: str) -> tuple[NodeView | None, bool]:
    try:
        found = door.node(name)
    except ApiRefused:
        # Reading nodes takes a ClusterRole, which not everybody grants; the pod's own conditions still tell.
        return None, False
    return (None, True) if found is None else (node_view(found), False)
