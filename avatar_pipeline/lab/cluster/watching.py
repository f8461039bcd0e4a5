"""Watches: changes of objects as a stream of JSON lines."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from starlette.responses import Response, StreamingResponse

from avatar_pipeline.lab.cluster.refusals import Refusal
from avatar_pipeline.lab.cluster.store import Change, Object, Store

Chosen = Callable[[Object], bool]
Shown = Callable[[Object], Object]


def watch(store: Store, kind: str, query: Mapping[str, str], chosen: Chosen, shown: Shown) -> Response:
    """Return the stream of changes after a resource version; without one, of what there is and what comes."""
    return StreamingResponse(_lines(store, kind, query, chosen, shown), media_type="application/json")


async def _lines(
    store: Store, kind: str, query: Mapping[str, str], chosen: Chosen, shown: Shown
) -> AsyncIterator[bytes]:
    version = query.get("resourceVersion") or ""
    changes: asyncio.Queue[Change] = asyncio.Queue()

    def listen(change: Change) -> None:
        if change.kind == kind:
            changes.put_nowait(change)

    store.listeners.append(listen)
    try:
        if version in ("", "0"):
            for item in store.all(kind):
                if chosen(item):
                    yield _line("ADDED", shown(item))
        else:
            try:
                past = store.since(int(version), kind)
            except Refusal as refusal:
                yield _line("ERROR", refusal.as_status())
                return
            for change in past:
                if line := _told(change, chosen, shown):
                    yield line
        seconds = float(query.get("timeoutSeconds") or 3600)
        try:
            async with asyncio.timeout(seconds):
                while True:
                    if line := _told(await changes.get(), chosen, shown):
                        yield line
        except TimeoutError:
            return
    finally:
        store.listeners.remove(listen)


def _told(change: Change, chosen: Chosen, shown: Shown) -> bytes | None:
    """Return the line of a change: what leaves the selection is DELETED, what enters it is ADDED."""
    after = chosen(change.after)
    before = change.before is not None and chosen(change.before)
    if change.what == "DELETED":
        return _line("DELETED", shown(change.after)) if before else None
    if after:
        return _line("MODIFIED" if before else "ADDED", shown(change.after))
    return _line("DELETED", shown(change.after)) if before else None


def _line(what: str, item: Mapping[str, Any]) -> bytes:
    return json.dumps({"type": what, "object": item}).encode() + b"\n"
