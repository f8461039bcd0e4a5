"""Requests as the ledger has them: found, followed until they are final, and told in the terms of the command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from avatar_pipeline.errors import NotFound
from avatar_pipeline.ledger.messages import ClipRequest
from avatar_pipeline.ledger.records import RequestKind, RequestRecord, RequestState
from avatar_pipeline.stages.line import Line
from avatar_pipeline.store.artifacts import Slot

FINAL = frozenset[RequestState]({"done", "failed"})
LOOK_SECONDS = 1.0
_PATIENCE = 10
"""Looks at an empty queue after which a request that the ledger does not know is taken for one that was never sent.
SQS counts its messages only roughly, and some seconds late."""


@dataclass(frozen=True, slots=True)
class Wish:
    """Which requests are wanted: one, or the newest that fit."""

    request_id: str | None = None
    kind: RequestKind | None = None
    avatar_id: str | None = None
    tenant: str | None = None
    batch_id: str | None = None
    states: Sequence[RequestState] = ()
    limit: int = 50


def find(line: Line, wish: Wish) -> list[RequestRecord]:
    """Return the requests that are wanted, the newest first.

    Raises:
        NotFound: one was asked for, and the ledger does not know it.
    """
    if wish.request_id is not None:
        return [line.requests.get(wish.request_id)]
    return line.requests.list(
        kind=wish.kind,
        avatar_id=wish.avatar_id,
        batch_id=wish.batch_id,
        tenant=wish.tenant,
        states=wish.states,
        limit=wish.limit,
        newest_first=True,
    )


def follow(
    line: Line, wish: Wish, *, show: Callable[[list[RequestRecord]], None], sleep: Callable[[float], None]
) -> list[RequestRecord]:
    """Look at the requests once a second until all are final and none can come any more; return them.

    `show` is given all at each look. A request that was seen once is followed to its end, even if it does not fit the
    wish any more.

    Raises:
        NotFound: one was asked for, and is neither in the ledger nor in a queue.
    """
    followed: dict[str, RequestRecord] = {}
    patience = _PATIENCE
    while True:
        # The queue first: what is taken in between the two looks is seen by the second.
        arriving = _messages(line, wish) > 0
        try:
            found = {record.request.request_id: record for record in find(line, wish)}
        except NotFound:
            patience -= not arriving
            if not patience:
                raise
            found, arriving = {}, True
        for request_id in [name for name, old in followed.items() if name not in found and old.state not in FINAL]:
            try:
                found[request_id] = line.requests.get(request_id)
            except NotFound:
                # Its avatar was removed, and it with it.
                del followed[request_id]
        followed |= found
        records = list(followed.values())
        show(records)
        if not arriving and all(record.state in FINAL for record in records):
            return records
        sleep(LOOK_SECONDS)


def waited(record: RequestRecord, now: datetime) -> timedelta:
    """Return how long the request waited to be begun, or has waited so far."""
    return (record.started_at or record.finished_at or now) - record.sent_at


def took(record: RequestRecord, now: datetime) -> timedelta | None:
    """Return how long the request was worked on, or has been so far; None if it was never begun."""
    return None if record.started_at is None else (record.finished_at or now) - record.started_at


def reason(line: Line, record: RequestRecord) -> str:
    """Return why the request failed or is held, in a sentence."""
    if record.state == "failed" and record.error:
        return record.error.get("message", "")
    if record.state == "held":
        return next((event.note for event in reversed(line.requests.history(record.request.request_id))), "")
    return ""


def as_dict(line: Line, record: RequestRecord) -> dict[str, Any]:
    """Return a request for `--json`. What is to be said is left out: only its length is told."""
    request, now = record.request, line.clock()
    return {
        "request_id": request.request_id,
        "kind": "clip" if isinstance(request, ClipRequest) else "avatar",
        "avatar_id": request.avatar_id,
        "tenant": request.tenant,
        "priority": request.priority,
        "deadline": request.deadline,
        "characters": len(request.text) if isinstance(request, ClipRequest) else None,
        "state": record.state,
        "batch_id": record.batch_id,
        "attempts": record.attempts,
        "sent_at": record.sent_at,
        "created_at": record.created_at,
        "claimed_at": record.claimed_at,
        "started_at": record.started_at,
        "held_at": record.held_at,
        "held_until": record.held_until,
        "finished_at": record.finished_at,
        "waited_seconds": waited(record, now),
        "took_seconds": took(record, now),
        "reason": reason(line, record),
        "error": record.error,
        "clip_key": record.clip_key,
    }


def details(line: Line, record: RequestRecord) -> dict[str, Any]:
    """Return a request for `--json`, with its history, its clip's URI and how far its callbacks are."""
    request_id = record.request.request_id
    return as_dict(line, record) | {
        "clip": clip_uri(line, record),
        "history": [
            {"at": event.at, "state": event.state, "note": event.note} for event in line.requests.history(request_id)
        ],
        "callbacks": [
            {
                # The host only: a callback's path or query may be a secret.
                "host": callback.host,
                "state": callback.state,
                "attempts": callback.attempts,
                "last_error": callback.last_error,
                "next_attempt_at": callback.next_attempt_at if callback.state == "pending" else None,
                "finished_at": callback.finished_at,
            }
            for callback in line.callbacks.list(request_id=request_id)
        ],
    }


def clip_uri(line: Line, record: RequestRecord) -> str | None:
    """Return where the finished clip (or an avatar's greeting) is in the store; None if it is not there."""
    if record.clip_key is None:
        return None
    asset = "clips" if isinstance(record.request, ClipRequest) else "greeting_clip"
    clip = line.store.find(Slot.avatar(record.request.avatar_id, asset), record.clip_key)
    return None if clip is None else f"{clip.uri}/clip.mp4"


def _messages(line: Line, wish: Wish) -> int:
    """Return how many messages there are that may be of a wanted request."""
    if wish.batch_id is not None:
        return 0
    queues = {"clip": line.queues.clips, "avatar": line.queues.avatars}
    return sum(queue.depth().total for kind, queue in queues.items() if wish.kind in {None, kind})
