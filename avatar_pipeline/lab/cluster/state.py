"""What the parts of the cluster share: the objects, the time, the journal, and a pen for Events."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avatar_pipeline.lab.cluster.defaults import now
from avatar_pipeline.lab.cluster.journal import Journal
from avatar_pipeline.lab.cluster.settings import Image, Settings
from avatar_pipeline.lab.cluster.store import Object, Store


@dataclass(slots=True)
class State:
    """Shared by all parts. Everything runs in `loop`, in one thread: no part needs a lock."""

    loop: asyncio.AbstractEventLoop
    settings: Settings
    folder: Path
    images: Mapping[str, Image] = field(default_factory=dict)
    config_maps: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    store: Store = field(default_factory=Store)
    journal: Journal = field(default_factory=Journal)

    def soon(self, call: Callable[..., object], *arguments: Any) -> None:
        """Call something as the next thing in the loop."""
        self.loop.call_soon(call, *arguments)

    def later(self, seconds: float, call: Callable[..., object], *arguments: Any) -> asyncio.TimerHandle:
        """Call something after a time."""
        return self.loop.call_later(max(seconds, 0), call, *arguments)

    def record(self, about: Object, kind: str, reason: str, message: str, *, by: str, warning: bool = False) -> None:
        """Write an Event about an object; the same one again is counted, as the API's clients do."""
        metadata = about["metadata"]
        namespace = metadata.get("namespace", "default")
        mark = zlib.crc32(f"{metadata['uid']}{reason}{message}{by}".encode())
        name = f"{metadata['name']}.{mark:016x}"
        if known := self.store.find("Event", namespace, name):
            self.store.update(known, "Event", _again)
            return
        self.store.create("Event", {
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": name, "namespace": namespace, "creationTimestamp": now()},
            "involvedObject": {
                "kind": kind, "namespace": namespace, "name": metadata["name"], "uid": metadata["uid"],
                "apiVersion": "batch/v1" if kind == "Job" else "v1", "resourceVersion": metadata["resourceVersion"],
            },
            "reason": reason, "message": message, "type": "Warning" if warning else "Normal", "count": 1,
            "firstTimestamp": now(), "lastTimestamp": now(), "source": {"component": by},
            "reportingComponent": by, "reportingInstance": "",
        })  # fmt: skip


def _again(event: Object) -> None:
    event["count"] += 1
    event["lastTimestamp"] = now()


def as_events_v1(event: Mapping[str, Any]) -> Object:
    """Return a core Event as `events.k8s.io/v1` shows it."""
    return {
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": event["metadata"],
        "regarding": event["involvedObject"], "reason": event["reason"], "note": event["message"],
        "type": event["type"], "eventTime": event["firstTimestamp"].replace("Z", ".000000Z"),
        "deprecatedCount": event["count"], "deprecatedFirstTimestamp": event["firstTimestamp"],
        "deprecatedLastTimestamp": event["lastTimestamp"], "deprecatedSource": event["source"],
        "reportingController": event["reportingComponent"], "reportingInstance": event["reportingInstance"],
    }  # fmt: skip


def set_condition(item: Object, kind: str, status: str, reason: str = "", message: str = "", **more: Any) -> None:
    """Set a condition in an object's status, in place; its transition time moves only with its status."""
    conditions: list[Object] = item["status"].setdefault("conditions", [])
    old = next((each for each in conditions if each["type"] == kind), None)
    moved = now() if old is None or old["status"] != status else old["lastTransitionTime"]
    new = {"type": kind, "status": status, "lastTransitionTime": moved, **more}
    if reason:
        new["reason"] = reason
    if message:
        new["message"] = message
    if old is None:
        conditions.append(new)
    else:
        old.clear()
        old.update(new)


def has_condition(item: Mapping[str, Any], kind: str, status: str = "True") -> bool:
    """Tell whether an object has a condition."""
    return any(each["type"] == kind and each["status"] == status for each in item["status"].get("conditions", ()))
