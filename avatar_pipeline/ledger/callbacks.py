"""The book of webhooks: a transactional outbox, so that none is forgotten, with leases, so that none is stuck."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, cast

from sqlalchemy import CursorResult, Engine, func, select, update
from sqlalchemy.orm import Session

from avatar_pipeline.clock import Clock, utc_now
from avatar_pipeline.ledger.database import delete_in_pages
from avatar_pipeline.ledger.records import RequestKind
from avatar_pipeline.ledger.schema import CallbackRow

CallbackState = Literal["pending", "delivered", "abandoned"]
_PAGE = 1000
_LONGEST_ERROR = 300


@dataclass(frozen=True, slots=True)
class Callback:
    """One webhook. While it is pending, nobody may take it before `next_attempt_at`: that is its lease, too.

    `attempts` counts the posts that came to an end. Neither URL, which may hold a secret, nor body is in its repr.
    """

    id: int
    request_id: str
    url: str = field(repr=False)
    body: str = field(repr=False)
    state: CallbackState
    attempts: int
    last_error: str | None
    created_at: datetime
    next_attempt_at: datetime
    finished_at: datetime | None

    @property
    def host(self) -> str:
        """The receiver's host, with its port where it has one."""
        return host_of(self.url)


def host_of(url: str) -> str:
    """Return the host of a URL, with its port where it has one: whose callbacks wait for one another."""
    rest = url.partition("://")[2]
    for mark in "/?#":
        rest = rest.partition(mark)[0]
    return rest.lower()


def callback_body(
    *,
    kind: RequestKind,
    request_id: str,
    avatar_id: str,
    tenant: str,
    at: datetime,
    uri: str | None = None,
    error: Mapping[str, str] | None = None,
) -> str:
    """Return what a webhook says of a finished request; with an `error` it failed, without one it is done.

    The shape is that of Standard Webhooks: type, timestamp, data. What a clip says is not in it: a webhook passes
    through logs on its way.
    """
    about: dict[str, Any] = {"request_id": request_id, "avatar_id": avatar_id, "tenant": tenant}
    about |= {"uri": uri} if error is None else {"error": dict(error)}
    kind_of_event = f"{kind}.{'done' if error is None else 'failed'}"
    return json.dumps(
        {"type": kind_of_event, "timestamp": at.astimezone(UTC).isoformat(timespec="milliseconds"), "data": about},
        ensure_ascii=False,
        separators=(",", ":"),
    )


class CallbackBook:
    """The callbacks in the ledger. Every method but `enqueue` and `prune` is one transaction."""

    def __init__(self, engine: Engine, *, clock: Clock = utc_now) -> None:
        self._engine = engine
        self._clock = clock

    @staticmethod
    def enqueue(session: Session, *, request_id: str, url: str, body: str, now: datetime) -> None:
        """Write a callback, due at once, in the transaction that finishes its request: both happen, or neither.

        `body` (see `callback_body`) is sent, and signed, exactly as it is here.
        """
        session.add(
            CallbackRow(
                request_id=request_id,
                url=url,
                body=body,
                state="pending",
                attempts=0,
                last_error=None,
                created_at=now,
                next_attempt_at=now,
                finished_at=None,
            )
        )

    def take_due(self, limit: int, lease: timedelta) -> list[Callback]:
        """Take up to `limit` due callbacks, the longest due first, and hide them from others for `lease`.

        Hosts share the limit: one that has thousands due gets more than a quarter of it only where others leave it.
        Whoever took them and dies loses nothing: they are due again after the lease. One that was taken stands in the
        answer with the end of its lease as `next_attempt_at`; that is the proof asked for by `retry`.
        """
        with Session(self._engine) as session, session.begin():
            now = self._clock()
            due = (CallbackRow.state == "pending", CallbackRow.next_attempt_at <= now)
            found = session.execute(
                select(CallbackRow.id, CallbackRow.url)
                .where(*due)
                .order_by(CallbackRow.next_attempt_at, CallbackRow.id)
                .execution_options(yield_per=_PAGE)
            )
            with found:
                chosen = shared_out(((row.id, host_of(row.url)) for row in found), limit)
            rows = session.scalars(
                select(CallbackRow).where(CallbackRow.id.in_(chosen), *due).with_for_update(skip_locked=True)
            ).all()
            for row in rows:
                row.next_attempt_at = now + lease
            rank = {callback_id: place for place, callback_id in enumerate(chosen)}
            return [_callback(row) for row in sorted(rows, key=lambda row: rank[row.id])]

    def delivered(self, callback_id: int) -> bool:
        """Record that its receiver took it; true for the one call that did it."""
        return self._end(callback_id, "delivered", None)

    def abandon(self, callback_id: int, error: str) -> bool:
        """Give it up, with the reason; true for the one call that did it."""
        return self._end(callback_id, "abandoned", error)

    def retry(self, callback: Callback, error: str, at: datetime) -> bool:
        """Record a post that failed, and when to try again.

        False, and nothing is changed, if its lease ran out and somebody else took it, or it is finished.
        """
        values = {
            "attempts": CallbackRow.attempts + 1,
            "last_error": error[:_LONGEST_ERROR],
            "next_attempt_at": at,
        }
        return self._change(_held(callback), values)

    def put_back(self, callback: Callback, at: datetime, note: str | None = None) -> bool:
        """Give back a callback that was taken and not posted, to be taken from `at` on; no attempt is counted."""
        values: dict[str, Any] = {"next_attempt_at": at}
        if note is not None:
            values["last_error"] = note[:_LONGEST_ERROR]
        return self._change(_held(callback), values)

    def redrive(self, request_id: str | None = None) -> int:
        """Make abandoned callbacks (of one request, or all) due again, with all their attempts; return how many."""
        which = [CallbackRow.state == "abandoned"]
        if request_id is not None:
            which.append(CallbackRow.request_id == request_id)
        with Session(self._engine) as session, session.begin():
            changed = session.execute(
                update(CallbackRow)
                .where(*which)
                .values(state="pending", attempts=0, next_attempt_at=self._clock(), finished_at=None)
            )
            return cast(CursorResult[Any], changed).rowcount

    def prune(self, before: datetime) -> int:
        """Delete the callbacks that were delivered or abandoned before `before`; return how many."""
        over = (CallbackRow.state.in_(("delivered", "abandoned")), CallbackRow.finished_at < before)
        return delete_in_pages(self._engine, CallbackRow.id, *over)

    def list(
        self, *, request_id: str | None = None, states: Sequence[CallbackState] = (), limit: int | None = None
    ) -> list[Callback]:
        """Return callbacks, oldest first."""
        query = select(CallbackRow).order_by(CallbackRow.id).limit(limit)
        if request_id is not None:
            query = query.where(CallbackRow.request_id == request_id)
        if states:
            query = query.where(CallbackRow.state.in_(states))
        with Session(self._engine) as session, session.begin():
            return [_callback(row) for row in session.scalars(query)]

    def has_due(self) -> bool:
        """Return whether any callback may be taken now."""
        query = select(CallbackRow.id).where(
            CallbackRow.state == "pending", CallbackRow.next_attempt_at <= self._clock()
        )
        with Session(self._engine) as session, session.begin():
            return session.scalar(query.limit(1)) is not None

    def counts(self) -> dict[CallbackState, int]:
        """Count the callbacks in each state that any is in."""
        query = select(CallbackRow.state, func.count()).group_by(CallbackRow.state)
        with Session(self._engine) as session, session.begin():
            return {cast(CallbackState, state): number for state, number in session.execute(query)}

    def _end(self, callback_id: int, state: CallbackState, error: str | None) -> bool:
        # A post that came to its end is a fact, whoever holds the lease by now.
        values = {
            "state": state,
            "attempts": CallbackRow.attempts + 1,
            "last_error": None if error is None else error[:_LONGEST_ERROR],
            "finished_at": self._clock(),
        }
        return self._change([CallbackRow.id == callback_id, CallbackRow.state == "pending"], values)

    def _change(self, which: Sequence[Any], values: dict[str, Any]) -> bool:
        with Session(self._engine) as session, session.begin():
            changed = session.execute(update(CallbackRow).where(*which).values(**values))
            return cast(CursorResult[Any], changed).rowcount == 1


def _held(callback: Callback) -> list[Any]:
    return [
        CallbackRow.id == callback.id,
        CallbackRow.state == "pending",
        CallbackRow.next_attempt_at == callback.next_attempt_at,
        CallbackRow.attempts == callback.attempts,
    ]


def shared_out(due: Iterable[tuple[int, str]], limit: int) -> Sequence[int]:
    """Choose up to `limit` ids from (id, host), in turn from each host; read on only until there is enough choice."""
    share = max(1, limit // 4)
    waiting: dict[str, list[int]] = defaultdict(list)
    within = 0
    for callback_id, host in due:
        line = waiting[host]
        if len(line) < limit:
            line.append(callback_id)
            within += len(line) <= share
        if within >= limit:
            break
    rounds = (
        line[turn]
        for turn in range(max(map(len, waiting.values()), default=0))
        for line in waiting.values()
        if turn < len(line)
    )
    return [callback_id for callback_id, _ in zip(rounds, range(limit), strict=False)]


def _callback(row: CallbackRow) -> Callback:
    return Callback(
        id=row.id,
        request_id=row.request_id,
        url=row.url,
        body=row.body,
        state=cast(CallbackState, row.state),
        attempts=row.attempts,
        last_error=row.last_error,
        created_at=row.created_at,
        next_attempt_at=row.next_attempt_at,
        finished_at=row.finished_at,
    )
