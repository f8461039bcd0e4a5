"""The Job controller: one pod a Job, replaced until the back-off limit, the failure policy or the deadline ends it.

After kubernetes: pkg/controller/job/job_controller.go, for one completion and parallelism 1.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from avatar_pipeline.lab.cluster.defaults import JOB_FINALIZER, now, pod_of_job
from avatar_pipeline.lab.cluster.deletion import TERMINAL, Deletion, release_from_job
from avatar_pipeline.lab.cluster.failure_policy import match_failure
from avatar_pipeline.lab.cluster.state import State, has_condition, set_condition
from avatar_pipeline.lab.cluster.store import Change, Object

CONTROLLER = "job-controller"
BACKOFF_EXCEEDED = ("BackoffLimitExceeded", "Job has reached the specified backoff limit")
DEADLINE_EXCEEDED = ("DeadlineExceeded", "Job was active longer than specified deadline")
COMPLETED = ("CompletionsReached", "Reached expected number of succeeded pods")


@dataclass(slots=True)
class _Memory:
    """What the controller keeps of a Job beside its status."""

    started: float
    failures: int = 0
    not_before: float = 0.0


@dataclass(slots=True)
class _Tally:
    """The pods of a Job, counted, and what follows: `ending` is why it fails, `done` that it succeeded."""

    succeeded: int
    failed: int
    ending: tuple[str, str] | None = None
    done: bool = False
    active: list[Object] = field(default_factory=list)
    terminating: list[Object] = field(default_factory=list)


class JobController:
    """Brings Jobs to their end."""

    def __init__(self, state: State, deletion: Deletion) -> None:
        self._state = state
        self._store = state.store
        self._deletion = deletion
        self._memory: dict[str, _Memory] = {}
        self._queued: set[tuple[str, str]] = set()
        state.store.listeners.append(self._on_change)

    def _on_change(self, change: Change) -> None:
        metadata = change.after["metadata"]
        if change.kind == "Job":
            if change.what == "DELETED":
                self._memory.pop(metadata["uid"], None)
            else:
                self._enqueue(metadata["namespace"], metadata["name"])
        elif change.kind == "Pod":
            for owner in metadata.get("ownerReferences") or ():
                if owner["kind"] == "Job":
                    self._enqueue(metadata["namespace"], owner["name"])

    def _enqueue(self, namespace: str, name: str) -> None:
        if (namespace, name) not in self._queued:
            self._queued.add((namespace, name))
            self._state.soon(self._sync, namespace, name)

    def _sync(self, namespace: str, name: str) -> None:
        self._queued.discard((namespace, name))
        job = self._store.find("Job", namespace, name)
        if job is None:
            return
        uid = job["metadata"]["uid"]
        if "deletionTimestamp" in job["metadata"]:
            for pod in self._pods_of(namespace, uid):
                self._release(pod)
            return
        if uid not in self._memory:
            self._memory[uid] = _Memory(time.monotonic())
            job = self._store.update(job, "Job", lambda item: item["status"].setdefault("startTime", now())) or job
            if deadline := job["spec"].get("activeDeadlineSeconds"):
                self._state.later(deadline, self._enqueue, namespace, name)
        pods = self._pods_of(namespace, uid)
        if has_condition(job, "Complete") or has_condition(job, "Failed"):
            for pod in pods:
                self._release(pod)
            return
        self._count(job, self._memory[uid], pods)

    def _pods_of(self, namespace: str, uid: str) -> list[Object]:
        return [
            pod
            for pod in self._store.all("Pod", namespace)
            if any(owner["uid"] == uid for owner in pod["metadata"].get("ownerReferences") or ())
        ]

    def _count(self, job: Object, memory: _Memory, pods: list[Object]) -> None:
        """Count ended pods, decide, and write the status."""
        spec = job["spec"]
        tally = self._tally(job, memory, pods)
        alive = [pod for pod in pods if pod["status"]["phase"] not in TERMINAL]
        tally.terminating = [pod for pod in alive if "deletionTimestamp" in pod["metadata"]]
        tally.active = [pod for pod in alive if "deletionTimestamp" not in pod["metadata"]]
        tally.ending = self._ending(job, memory, tally)
        tally.done = tally.succeeded > 0 and tally.ending is None
        self._write(job, tally)
        if tally.ending or tally.done:
            for pod in tally.active:
                told = f"Deleted pod: {pod['metadata']['name']}"
                self._state.record(job, "Job", "SuccessfulDelete", told, by=CONTROLLER)
                self._deletion.pod(pod)
        elif not tally.active and not (tally.terminating and spec["podReplacementPolicy"] == "Failed"):
            self._replace(job, memory)

    def _tally(self, job: Object, memory: _Memory, pods: list[Object]) -> _Tally:
        """Count the pods that ended and were not counted yet, and let go of them."""
        spec, status = job["spec"], job["status"]
        tally = _Tally(status.get("succeeded", 0), status.get("failed", 0))
        for pod in pods:
            if JOB_FINALIZER not in pod["metadata"].get("finalizers", ()):
                continue
            if pod["status"]["phase"] == "Succeeded":
                tally.succeeded += 1
            elif _is_failed(pod, spec):
                match = match_failure(spec.get("podFailurePolicy"), pod)
                if match and match.action == "FailJob" and tally.ending is None:
                    tally.ending = ("PodFailurePolicy", match.message)
                tally.failed += not (match and match.action == "Ignore")
                memory.failures += 1
                memory.not_before = time.monotonic() + self._backoff(memory.failures)
            else:
                continue
            self._release(pod)
        return tally

    def _ending(self, job: Object, memory: _Memory, tally: _Tally) -> tuple[str, str] | None:
        """Return why a Job has failed or is about to, or None."""
        spec = job["spec"]
        for condition in job["status"].get("conditions", ()):
            if condition["type"] == "FailureTarget":
                return condition["reason"], condition["message"]
        if tally.ending or tally.succeeded:
            return tally.ending
        alive = [*tally.active, *tally.terminating]
        restarts = sum(
            each.get("restartCount", 0) for pod in alive for each in pod["status"].get("containerStatuses", ())
        )
        if max(tally.failed, restarts) > spec["backoffLimit"]:
            return BACKOFF_EXCEEDED
        deadline = spec.get("activeDeadlineSeconds")
        if deadline is not None and time.monotonic() - memory.started >= deadline:
            return DEADLINE_EXCEEDED
        return None

    def _write(self, job: Object, tally: _Tally) -> None:
        quiet = not tally.active and not tally.terminating
        ending = tally.ending
        counts = {
            "active": len(tally.active), "terminating": len(tally.terminating), "succeeded": tally.succeeded,
            "failed": tally.failed, "ready": sum(has_condition(pod, "Ready") for pod in tally.active),
        }  # fmt: skip

        def change(item: Object) -> None:
            status = item["status"]
            for name, count in counts.items():
                if count or name in ("terminating", "ready"):
                    status[name] = count
                else:
                    status.pop(name, None)
            status["uncountedTerminatedPods"] = {}
            if ending:
                _condition(item, "FailureTarget", *ending)
                if quiet:
                    _condition(item, "Failed", *ending)
            elif tally.done:
                _condition(item, "SuccessCriteriaMet", *COMPLETED)
                if quiet:
                    _condition(item, "Complete", *COMPLETED)
                    status["completionTime"] = now()

        current = self._store.update(job, "Job", change)
        if current is None or not quiet or not (ending or tally.done):
            return
        if ending:
            self._state.record(current, "Job", ending[0], ending[1], by=CONTROLLER, warning=True)
        else:
            self._state.record(current, "Job", "Completed", "Job completed", by=CONTROLLER)
        lifetime = job["spec"].get("ttlSecondsAfterFinished")
        if lifetime is not None:
            self._state.later(lifetime, self._expire, current)

    def _expire(self, job: Object) -> None:
        metadata = job["metadata"]
        current = self._store.find("Job", metadata["namespace"], metadata["name"], metadata["uid"])
        if current is not None:
            self._deletion.job(current, "Foreground")

    def _replace(self, job: Object, memory: _Memory) -> None:
        wait = memory.not_before - time.monotonic()
        metadata = job["metadata"]
        if wait > 0:
            self._state.later(wait, self._enqueue, metadata["namespace"], metadata["name"])
            return
        pod = self._store.create("Pod", pod_of_job(job, self._state.settings.default_grace_seconds))
        message = f"Created pod: {pod['metadata']['name']}"
        self._state.record(job, "Job", "SuccessfulCreate", message, by=CONTROLLER)

    def _release(self, pod: Object) -> None:
        if JOB_FINALIZER in pod["metadata"].get("finalizers", ()):
            self._store.update(pod, "Pod", release_from_job)

    def _backoff(self, failures: int) -> float:
        settings = self._state.settings
        return float(min(settings.job_backoff_seconds * 2 ** (failures - 1), settings.job_backoff_limit_seconds))


def _is_failed(pod: Object, spec: dict[str, Any]) -> bool:
    """Tell whether a pod counts as failed; one that is being deleted does at once, unless the Job waits for its end."""
    if pod["status"]["phase"] == "Failed":
        return True
    return "deletionTimestamp" in pod["metadata"] and spec["podReplacementPolicy"] != "Failed"


def _condition(job: dict[str, Any], kind: str, reason: str, message: str) -> None:
    if not has_condition(job, kind):
        set_condition(job, kind, "True", reason, message, lastProbeTime=now())
