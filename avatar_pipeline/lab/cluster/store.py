"""The objects of the cluster, by kind, with resource versions and a history to watch.

Objects are plain dictionaries as the API's JSON. A stored object is never changed: an update puts a new one in its
place, so whoever holds one holds a snapshot. All changes happen in the cluster's own loop.
"""

from __future__ import annotations

import copy
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from avatar_pipeline.lab.cluster.refusals import Refusal, already_exists, not_found

Object = dict[str, Any]
Key = tuple[str, str, str]
"""Kind, namespace (empty where the kind has none) and name."""

PLURALS = {
    "Job": "jobs.batch", "Pod": "pods", "Node": "nodes", "Event": "events", "Namespace": "namespaces",
    "ConfigMap": "configmaps", "Secret": "secrets",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to an object: `ADDED`, `MODIFIED` or `DELETED`, before and after."""

    version: int
    what: str
    kind: str
    before: Object | None
    after: Object


Listener = Callable[[Change], None]


class Store:
    """All objects. Listeners are called for each change, in order, before the change returns."""

    def __init__(self, history: int = 10_000) -> None:
        self.version = 1
        self.objects: dict[Key, Object] = {}
        self.history: deque[Change] = deque(maxlen=history)
        self.listeners: list[Listener] = []

    def create(self, kind: str, item: Object) -> Object:
        """Put a new object in; give it a uid and a resource version. Raises Refusal (409) where the name is taken."""
        item = copy.deepcopy(item)
        metadata = item.setdefault("metadata", {})
        key = (kind, metadata.get("namespace", ""), metadata["name"])
        if key in self.objects:
            raise already_exists(PLURALS[kind], metadata["name"])
        metadata.setdefault("uid", str(uuid.uuid4()))
        return self._put(key, item, None, "ADDED")

    def get(self, kind: str, namespace: str, name: str) -> Object:
        """Return an object. Raises Refusal (404) where there is none."""
        found = self.objects.get((kind, namespace, name))
        if found is None:
            raise not_found(PLURALS[kind], name)
        return found

    def find(self, kind: str, namespace: str, name: str, uid: str | None = None) -> Object | None:
        """Return an object, or None where there is none (or one of that name with another uid)."""
        found = self.objects.get((kind, namespace, name))
        return found if found is None or uid is None or found["metadata"]["uid"] == uid else None

    def all(self, kind: str, namespace: str | None = None) -> Iterator[Object]:
        """Yield the objects of a kind, in one namespace or in all, as they stood at the call."""
        for (of_kind, of_namespace, _), item in list(self.objects.items()):
            if of_kind == kind and namespace in (None, of_namespace):
                yield item

    def update(self, item: Object, kind: str, change: Callable[[Object], None]) -> Object | None:
        """Change a copy of the newest version of an object and put it in place.

        Nothing is stored where nothing changed. Returns the newest version, or None where the object is gone.
        """
        metadata = item["metadata"]
        key = (kind, metadata.get("namespace", ""), metadata["name"])
        before = self.objects.get(key)
        if before is None or before["metadata"]["uid"] != metadata["uid"]:
            return None
        after = copy.deepcopy(before)
        change(after)
        if after == before:
            return before
        return self._put(key, after, before, "MODIFIED")

    def remove(self, item: Object, kind: str) -> Object | None:
        """Take an object out, whatever holds it. Returns its last version, or None where it was gone."""
        metadata = item["metadata"]
        key = (kind, metadata.get("namespace", ""), metadata["name"])
        before = self.objects.get(key)
        if before is None or before["metadata"]["uid"] != metadata["uid"]:
            return None
        del self.objects[key]
        last = copy.deepcopy(before)
        return self._tell(kind, "DELETED", before, last)

    def _put(self, key: Key, item: Object, before: Object | None, what: str) -> Object:
        self.objects[key] = item
        return self._tell(key[0], what, before, item)

    def _tell(self, kind: str, what: str, before: Object | None, after: Object) -> Object:
        self.version += 1
        after["metadata"]["resourceVersion"] = str(self.version)
        change = Change(self.version, what, kind, before, after)
        self.history.append(change)
        for listener in tuple(self.listeners):
            listener(change)
        return after

    def since(self, version: int, kind: str) -> list[Change]:
        """Return the changes of a kind after a resource version. Raises Refusal (410) where they are forgotten."""
        if self.history and self.history[0].version > version + 1 and len(self.history) == self.history.maxlen:
            raise Refusal(410, "Expired", f"too old resource version: {version} ({self.history[0].version})")
        return [change for change in self.history if change.version > version and change.kind == kind]
