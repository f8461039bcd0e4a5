"""How objects go: grace periods, finalizers, and the garbage collector that follows owners."""

from __future__ import annotations

from typing import Any

from avatar_pipeline.lab.cluster.defaults import JOB_FINALIZER, now
from avatar_pipeline.lab.cluster.state import State
from avatar_pipeline.lab.cluster.store import Change, Object

FOREGROUND = "foregroundDeletion"
TERMINAL = ("Succeeded", "Failed")
_OWNER_KINDS = ("Job", "Pod", "Node")


class Deletion:
    """Deletes objects as the API server and the garbage collector do."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._store = state.store
        state.store.listeners.append(self._on_change)

    def pod(self, pod: Object, grace_seconds: int | None = None) -> Object:
        """Delete a pod: its kubelet ends it within the grace period. Unscheduled and ended pods go at once.

        `grace_seconds` 0 takes the object away without waiting for the kubelet.
        """
        spec, status = pod["spec"], pod["status"]
        grace = spec.get("terminationGracePeriodSeconds", 30) if grace_seconds is None else grace_seconds
        if not spec.get("nodeName") or status.get("phase") in TERMINAL:
            grace = 0

        def mark(item: Object) -> None:
            metadata = item["metadata"]
            metadata.setdefault("deletionTimestamp", now())
            metadata["deletionGracePeriodSeconds"] = min(grace, metadata.get("deletionGracePeriodSeconds", grace))

        if not spec.get("nodeName"):
            self._state.later(self._state.settings.pod_gc_seconds, self._fail_unscheduled, pod)
        return self._store.update(pod, "Pod", mark) or pod

    def _fail_unscheduled(self, pod: Object) -> None:
        """Let a pod have failed that was deleted before it had a node and that a finalizer holds."""

        def fail(item: Object) -> None:
            item["status"]["phase"] = "Failed"

        self._store.update(pod, "Pod", fail)

    def kubelet_is_done(self, pod: Object) -> None:
        """Let a pod go whose processes have ended, if its deletion was asked for."""
        current = self._store.find("Pod", pod["metadata"]["namespace"], pod["metadata"]["name"], pod["metadata"]["uid"])
        if current is not None and "deletionTimestamp" in current["metadata"]:
            self.pod(current, 0)

    def job(self, job: Object, propagation: str) -> Object:
        """Delete a Job: `Orphan` leaves its pods, `Background` lets them follow, `Foreground` lets them go first."""
        if propagation == "Orphan":
            for dependent in self._dependents(job["metadata"]["uid"]):
                self._disown(dependent, job["metadata"]["uid"])
        if propagation != "Foreground":
            return self._store.remove(job, "Job") or job

        def mark(item: Object) -> None:
            item["metadata"].setdefault("deletionTimestamp", now())
            item["metadata"]["finalizers"] = sorted({*item["metadata"].get("finalizers", ()), FOREGROUND})

        marked = self._store.update(job, "Job", mark) or job
        for dependent in self._dependents(job["metadata"]["uid"]):
            self._delete(dependent)
        self._finish_foreground(marked)
        return marked

    def _delete(self, item: Object) -> None:
        if item["kind"] == "Job":
            self.job(item, "Background")
        elif item["kind"] == "Pod" and "deletionTimestamp" not in item["metadata"]:
            self.pod(item)

    def _dependents(self, uid: str) -> list[Object]:
        found = [item for kind in ("Job", "Pod") for item in self._store.all(kind)]
        return [item for item in found if any(owner["uid"] == uid for owner in _owners(item))]

    def _disown(self, item: Object, uid: str) -> None:
        def let_go(item: Object) -> None:
            metadata = item["metadata"]
            metadata["ownerReferences"] = [owner for owner in _owners(item) if owner["uid"] != uid]
            if not metadata["ownerReferences"]:
                del metadata["ownerReferences"]
            # The Job controller takes its finalizer off pods that have no Job any more.
            _without_finalizer(item, JOB_FINALIZER)

        self._store.update(item, item["kind"], let_go)

    def _on_change(self, change: Change) -> None:
        if change.what == "DELETED" and change.kind in _OWNER_KINDS:
            self._state.soon(self._collect, change.after["metadata"]["uid"])
        elif change.what == "ADDED" and _owners(change.after):
            self._state.soon(self._collect_if_orphan, change.after)
        elif change.kind == "Pod" and "deletionTimestamp" in change.after["metadata"]:
            self._state.soon(self._remove_if_free, change.after)

    def _remove_if_free(self, pod: Object) -> None:
        metadata = pod["metadata"]
        current = self._store.find("Pod", metadata["namespace"], metadata["name"], metadata["uid"])
        if current is None:
            return
        metadata = current["metadata"]
        if metadata.get("deletionGracePeriodSeconds") == 0 and not metadata.get("finalizers"):
            self._store.remove(current, "Pod")

    def _collect(self, uid: str) -> None:
        for item in self._dependents(uid):
            if JOB_FINALIZER in item["metadata"].get("finalizers", ()):
                self._store.update(item, item["kind"], lambda each: _without_finalizer(each, JOB_FINALIZER))
            self._collect_if_orphan(item)
        for job in self._store.all("Job"):
            self._finish_foreground(job)

    def _collect_if_orphan(self, item: Object) -> None:
        metadata = item["metadata"]
        current = self._store.find(item["kind"], metadata.get("namespace", ""), metadata["name"], metadata["uid"])
        if current is None or not _owners(current):
            return
        alive = {each["metadata"]["uid"] for kind in _OWNER_KINDS for each in self._store.all(kind)}
        if not any(owner["uid"] in alive for owner in _owners(current)):
            self._delete(current)

    def _finish_foreground(self, job: Object) -> None:
        if FOREGROUND in job["metadata"].get("finalizers", ()) and not self._dependents(job["metadata"]["uid"]):
            self._store.remove(job, "Job")


def _owners(item: Object) -> list[dict[str, Any]]:
    owners: list[dict[str, Any]] = item["metadata"].get("ownerReferences") or []
    return owners


def _without_finalizer(item: Object, finalizer: str) -> None:
    left = [each for each in item["metadata"].get("finalizers", ()) if each != finalizer]
    if left:
        item["metadata"]["finalizers"] = left
    else:
        item["metadata"].pop("finalizers", None)


def release_from_job(item: Object) -> None:
    """Take the Job controller's finalizer off a pod, in place."""
    _without_finalizer(item, JOB_FINALIZER)
