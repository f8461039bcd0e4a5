"""What may be done to a run, at which moments, and how the attempt that it hits may end by the rules.

Written from the description of the rules, not from the executor's code: it is what the executor is held to.
"""

from __future__ import annotations

from dataclasses import dataclass

from avatar_pipeline.spot.types import Ending

STARTING, BOOTING, RUNNING, GAP, LATE = "starting", "booting", "running", "gap", "late"
"""On a node and not running; running, the op not begun; at work; between two attempts; its work done, not yet said."""
PHASES = (GAP, STARTING, BOOTING, RUNNING, LATE)

TAKEN = frozenset({Ending.INTERRUPTED})
GONE = frozenset({Ending.INTERRUPTED, Ending.VANISHED})
"""Of a Job that somebody deleted: its worker may have had time to say that it was told to go."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A sort of disturbance.

    `endings`: how the attempt may end by it; none where the attempt is to go on. `told`: the worker has time to finish
    its chunk, so that nothing is lost where it is guarded. `alone`: not beside another GPU step. `of_run`: it hits the
    run's process. `silent`: Kubernetes shows its exit as the op's own, so that it never happens while booting.
    """

    name: str
    group: str
    phases: tuple[str, ...]
    endings: frozenset[Ending] = frozenset()
    told: bool = False
    alone: bool = False
    of_run: bool = False
    weight: int = 2
    last: bool = False


_ANY = (STARTING, BOOTING, RUNNING)
_PROCESS = (BOOTING, RUNNING)
_API = (GAP, STARTING, RUNNING)

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        # Machines and pods that are taken.
        Kind("evict", "eviction", _ANY, TAKEN, told=True, weight=5),
        Kind("drain", "eviction", _ANY, TAKEN, told=True),
        Kind("preempt", "preemption", _ANY, TAKEN, told=True),
        Kind("reclaim", "reclaim with notice", _ANY, TAKEN, told=True, weight=5),
        Kind("reclaim_short", "reclaim, notice too short", _ANY, TAKEN, weight=3),
        Kind("shutdown", "node shutdown", _ANY, TAKEN, told=True, weight=3),
        Kind("shutdown_short", "node shutdown", (RUNNING,), TAKEN),
        Kind("taint", "taint", _ANY, TAKEN, told=True),
        Kind("press", "node pressure", _ANY, TAKEN),
        Kind("kill_node", "node killed", _ANY, TAKEN, weight=5),
        Kind("remove_node", "node killed", _ANY, TAKEN),
        Kind("kill_pod", "pod killed", _PROCESS, TAKEN, weight=4),
        Kind("sigterm", "pod told to end", (RUNNING,), TAKEN, told=True),
        Kind("hang_evict", "hang ignoring SIGTERM", (RUNNING,), TAKEN, weight=3),
        Kind("delete_pod", "pod deleted", _ANY, TAKEN, told=True),
        Kind("delete_pod_now", "pod deleted", _ANY, TAKEN),
        Kind("delete_job", "Job deleted", _ANY, GONE, told=True, weight=3),
        Kind("delete_job_foreground", "Job deleted", (RUNNING,), GONE, told=True),
        Kind("stuck_start", "start that hangs", (STARTING,), TAKEN),
        # What the step's own process does.
        Kind("oom", "out of memory", (RUNNING,), frozenset({Ending.OUT_OF_MEMORY}), weight=4),
        Kind("exit_0", "exit 0, silent", (RUNNING,), frozenset({Ending.SILENT_EXIT}), weight=4),
        Kind("exit_3", "exit n", (RUNNING,), frozenset({Ending.USER_ERROR}), weight=3),
        Kind("error", "user error", (RUNNING,), frozenset({Ending.USER_ERROR}), weight=4),
        Kind("deadline", "active deadline", (RUNNING,), frozenset({Ending.DEADLINE_EXCEEDED, Ending.USER_ERROR})),
        Kind("deadline_hang", "active deadline", (RUNNING,), frozenset({Ending.DEADLINE_EXCEEDED})),
        # Images and capacity.
        Kind("image", "image pull", (STARTING,), frozenset({Ending.IMAGE_PULL}), weight=2),
        Kind("image_invalid", "image pull", (STARTING,), frozenset({Ending.IMAGE_PULL}), weight=2),
        Kind("image_for_a_while", "image pull, for a while", (STARTING,), weight=3),
        Kind("no_spot", "no spot capacity", (STARTING,), frozenset({Ending.NO_CAPACITY}), alone=True, weight=4),
        Kind("no_capacity", "no capacity at all", (STARTING,), frozenset({Ending.NO_CAPACITY}), alone=True, weight=3),
        # The API.
        Kind("outage", "API outage", _API, weight=4),
        Kind("outage_evict", "API outage", (RUNNING,), TAKEN, told=True, weight=2),
        Kind("outage_kill_node", "API outage", (RUNNING,), TAKEN, weight=2),
        Kind("drop", "API drops calls", _API, weight=3),
        Kind("drop_before", "API drops calls", _API),
        Kind("delay", "API delays calls", _API),
        Kind("fail_500", "API errors", _API, weight=3),
        Kind("fail_429", "API errors", _API),
        # Of no consequence.
        Kind("rebalance", "rebalance notice", (RUNNING,)),
        Kind("cordon", "cordon", (STARTING, RUNNING)),
        Kind("orphan_job", "Job deleted, pod left", (RUNNING,), last=True),
        # The run itself.
        Kind("worker_killed", "run worker killed, resumed", _API, of_run=True, weight=5),
        Kind("away_evict", "run worker killed, resumed", (RUNNING,), TAKEN, told=True, of_run=True, weight=3),
        Kind("away_kill_node", "run worker killed, resumed", (RUNNING,), TAKEN, of_run=True, weight=2),
        Kind("away_exit_3", "run worker killed, resumed", (RUNNING,), frozenset({Ending.USER_ERROR}), of_run=True),
        Kind("away_oom", "run worker killed, resumed", (RUNNING,), frozenset({Ending.OUT_OF_MEMORY}), of_run=True),
        Kind("reexecuted", "run worker killed, run replaced", (STARTING, RUNNING), GONE, of_run=True, weight=4),
        Kind("cancel", "user cancels", (GAP, STARTING, BOOTING, RUNNING), of_run=True, weight=4, last=True),
        # Too late to matter, or just not.
        Kind("late_evict", "just after its work", (LATE,), TAKEN | {Ending.SUCCEEDED}, told=True, weight=2),
        Kind("late_kill_pod", "just after its work", (LATE,), TAKEN | {Ending.SUCCEEDED}, weight=2),
        Kind("late_kill_node", "just after its work", (LATE,), TAKEN | {Ending.SUCCEEDED}, weight=2),
        Kind("late_delete_job", "just after its work", (LATE,), GONE | {Ending.SUCCEEDED}, weight=2),
    )
}
