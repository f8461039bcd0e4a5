"""What happened in the cluster, in order, and waiting for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from avatar_pipeline.lab.cluster.store import Change

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that happened. `at` is by `time.monotonic()`, `time` by the wall clock; `name` is the object's.

    `what` is one of: job_created, job_failing, job_failed, job_complete, job_deleted; pod_created, pod_scheduled,
    pod_unschedulable, pod_pending, pod_running, pod_succeeded, pod_failed, pod_disrupted, pod_deleting, pod_deleted;
    container_started, container_ended, signal_sent; node_added, node_ready, node_not_ready, node_tainted, node_deleted;
    fault (what was commanded, in `detail`).
    """

    at: float
    time: datetime
    what: str
    name: str
    detail: Mapping[str, Any] = field(default_factory=dict)


class Journal:
    """The list of happenings, and a condition that is notified of every one and of every change of an object."""

    def __init__(self) -> None:
        self.happenings: list[Happening] = []
        self._changed = threading.Condition()
        self._version = 0

    def add(self, what: str, name: str, **detail: Any) -> None:
        """Write down that something happened."""
        with self._changed:
            self.happenings.append(Happening(time.monotonic(), datetime.now(UTC), what, name, detail))
            self._notify()

    def poke(self) -> None:
        """Wake those who wait: something changed that is not worth a line."""
        with self._changed:
            self._notify()

    def _notify(self) -> None:
        self._version += 1
        self._changed.notify_all()

    def wait_for(self, predicate: Callable[[], T], timeout: float) -> T:
        """Return the first true value of a predicate, asked again after every change.

        Raises TimeoutError, with the last happenings, after `timeout` seconds.
        """
        until = time.monotonic() + timeout
        while True:
            with self._changed:
                seen = self._version
            if value := predicate():
                return value
            with self._changed:
                left = until - time.monotonic()
                if left <= 0 or not self._changed.wait_for(lambda seen=seen: self._version != seen, left):  # type: ignore[misc]
                    break
        if value := predicate():
            return value
        last = "\n".join(
            f"  {each.at:.3f} {each.what} {each.name} {dict(each.detail)}" for each in self.happenings[-15:]
        )
        raise TimeoutError(f"It did not come to pass within {timeout} s. The last happenings:\n{last}")

    def narrate(self, change: Change) -> None:
        """Write down what a change of an object means; a listener of the store."""
        teller = {"Job": _job, "Pod": _pod, "Node": _node}.get(change.kind)
        name = change.after["metadata"]["name"]
        told = teller(change) if teller else []
        for what, detail in told:
            self.add(what, name, **detail)
        if not told:
            self.poke()


Told = list[tuple[str, dict[str, Any]]]


def _job(change: Change) -> Told:
    if change.what == "ADDED":
        return [("job_created", {})]
    if change.what == "DELETED":
        return [("job_deleted", {})]
    names = {"Complete": "job_complete", "Failed": "job_failed", "FailureTarget": "job_failing"}
    return [
        (names[each["type"]], {"reason": each.get("reason"), "message": each.get("message")})
        for each in _new_conditions(change)
        if each["type"] in names and each["status"] == "True"
    ]


def _pod(change: Change) -> Told:
    before, after = change.before or {}, change.after
    if change.what == "ADDED":
        return [("pod_created", {"job": after["metadata"].get("labels", {}).get("job-name")})]
    if change.what == "DELETED":
        return [("pod_deleted", {})]
    told: Told = []
    if after["spec"].get("nodeName") != before["spec"].get("nodeName"):
        told.append(("pod_scheduled", {"node": after["spec"]["nodeName"]}))
    for condition in _new_conditions(change):
        detail = {"reason": condition.get("reason"), "message": condition.get("message")}
        if condition["type"] == "DisruptionTarget":
            told.append(("pod_disrupted", detail))
        elif condition["type"] == "PodScheduled" and condition["status"] == "False":
            told.append(("pod_unschedulable", detail))
    if "deletionTimestamp" in after["metadata"] and "deletionTimestamp" not in before["metadata"]:
        told.append(("pod_deleting", {"grace_seconds": after["metadata"].get("deletionGracePeriodSeconds")}))
    if after["status"].get("phase") != before["status"].get("phase"):
        told.append((f"pod_{after['status']['phase'].lower()}", {"reason": after["status"].get("reason")}))
    return told


def _node(change: Change) -> Told:
    if change.what == "ADDED":
        return [("node_added", {"labels": change.after["metadata"].get("labels", {})})]
    if change.what == "DELETED":
        return [("node_deleted", {})]
    told: Told = [
        ("node_ready" if each["status"] == "True" else "node_not_ready", {"reason": each.get("reason")})
        for each in _new_conditions(change)
        if each["type"] == "Ready"
    ]
    before = (change.before or {}).get("spec", {}).get("taints", [])
    told += [("node_tainted", taint) for taint in change.after["spec"].get("taints", []) if taint not in before]
    return told


def _new_conditions(change: Change) -> list[dict[str, Any]]:
    before = {
        (each["type"], each["status"], each.get("reason"), each.get("message"))
        for each in (change.before or {}).get("status", {}).get("conditions", ())
    }
    return [
        each
        for each in change.after["status"].get("conditions", ())
        if (each["type"], each["status"], each.get("reason"), each.get("message")) not in before
    ]
