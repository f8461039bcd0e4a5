"""Jobs that are to be there, and Jobs that are to be gone, with an API server that may not answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from avatar_pipeline.clock import Clock
from avatar_pipeline.spot.executor.door import ApiRefused, ApiUnreachable, Door, Manifest

_FINISHED = frozenset({"Complete", "Failed"})
_LOOK_SECONDS = 0.2
_TIME_AT_THE_END = timedelta(seconds=30)
"""In which deleting is tried at the end of a run, where the API server does not answer."""
_TIME_TO_DELETE = timedelta(seconds=60)
"""How long deleting a cancelled step's Job is tried, where the API server does not answer."""


class JobKeeper:
    """Creates a Job once, and sees that one that nobody waits for any more goes away."""

    def __init__(self, door: Door, clock: Clock, sleep: Callable[[float], None] = time.sleep) -> None:
        self._door = door
        self._clock = clock
        self._sleep = sleep
        self._leaving: dict[tuple[str, str], datetime] = {}

    def create(self, namespace: str, manifest: Manifest) -> bool:
        """Ask for a Job; say whether it is there. One of its name that is of an earlier attempt makes way first.

        Raises:
            ApiUnreachable: it is not known whether it is there; asking again is safe.
            ApiRefused: it cannot be.
        """
        name = manifest["metadata"]["name"]
        if self._door.create_job(namespace, manifest):
            return True
        there = self._door.job(namespace, name)
        if there is None:
            return False
        if manifest["metadata"]["labels"].items() <= there["metadata"].get("labels", {}).items():
            # It was taken the last time we asked, only the answer was lost.
            return True
        self._door.delete_job(namespace, name)
        # Its object is gone at once, unless somebody else's finalizer holds it; then the next time.
        return self._door.create_job(namespace, manifest)

    def let_go(self, namespace: str, name: str, *, after: timedelta = timedelta(0)) -> None:
        """See that a Job is gone, or has ended, `after` a while: what has ended is left to be looked at."""
        self._leaving[namespace, name] = self._clock() + after

    def tidy(self) -> None:
        """Delete the Jobs whose time is over and that still run; what cannot be asked now is asked the next time."""
        now = self._clock()
        for (namespace, name), since in list(self._leaving.items()):
            if since <= now and self._gone(namespace, name):
                del self._leaving[namespace, name]

    def wait(self, *, seconds: float) -> None:
        """Wait for the Jobs that are to go; after so long, those that still run are deleted.

        A Job that is told to go is given its grace period by Kubernetes, so that this may be short.
        """
        patience = self._clock() + timedelta(seconds=seconds)
        for namespace, name in list(self._leaving):
            while self._clock() < patience and not self._has_ended(namespace, name):
                self._sleep(_LOOK_SECONDS)
            self._leaving[namespace, name] = self._clock()
        last = self._clock() + _TIME_AT_THE_END
        self.tidy()
        while self._leaving and self._clock() < last:
            self._sleep(1.0)
            self.tidy()

    def delete_now(self, namespace: str, name: str) -> None:
        """Delete a Job, trying for a minute if the API server does not answer."""
        last = self._clock() + _TIME_TO_DELETE
        while not self._delete(namespace, name) and self._clock() < last:
            self._sleep(1.0)

    def _has_ended(self, namespace: str, name: str) -> bool:
        try:
            return self._ended(namespace, name)
        except ApiUnreachable:
            return False

    def _gone(self, namespace: str, name: str) -> bool:
        try:
            return self._ended(namespace, name) or self._delete(namespace, name)
        except ApiUnreachable:
            return False

    def _ended(self, namespace: str, name: str) -> bool:
        try:
            job = self._door.job(namespace, name)
        except ApiRefused:
            return True
        return job is None or finished(job)

    def _delete(self, namespace: str, name: str) -> bool:
        try:
            self._door.delete_job(namespace, name)
        except ApiUnreachable:
            return False
        except ApiRefused:
            # We may not, now or later; the sweep of orphans, or the owner reference, is what is left.
            return True
        return True


def finished(job: Mapping[str, Any]) -> bool:
    """Say whether a Job has ended, well or not."""
    conditions = (job.get("status") or {}).get("conditions") or ()
    return any(one.get("type") in _FINISHED and one.get("status") == "True" for one in conditions)
