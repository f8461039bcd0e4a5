"""Moving requests from state to state: each step happens once, is written down, and tells whoever asked to be told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol, cast

from sqlalchemy import bindparam, case, func, insert, or_, select, update
from sqlalchemy.orm import Session

from avatar_pipeline.budget.types import Admission
from avatar_pipeline.errors import AvatarError, AvatarFailed, DeadlinePassed, NotFound, WorkerLost
from avatar_pipeline.ledger.callbacks import CallbackBook, callback_body
from avatar_pipeline.ledger.database import chunks
from avatar_pipeline.ledger.records import RequestKind, RequestState
from avatar_pipeline.ledger.schema import HELD_BY, PUT_OFF, UNBEGUN, WAITING, AvatarRow, RequestEventRow, RequestRow
from avatar_pipeline.ledger.states import FINAL, before, stamp

_UNTOUCHED = {"synchronize_session": False}
_RELEASED: dict[str, Any] = {
    "state": case((RequestRow.batch_id.is_(None), "queued"), else_="claimed"),
    "held_until": None,
    "held_by": None,
}
FOR_A_DAY = timedelta(days=1)
"""How long a request is held that only a higher limit would help. Whoever raises the limit does not wait so long."""
_WHERE_IT_IS = (RequestRow.id, RequestRow.state)
_WHOM_TO_TELL = (RequestRow.kind, RequestRow.avatar_id, RequestRow.tenant, RequestRow.callback_url)


@dataclass(frozen=True, slots=True)
class Finished:
    """What a finished request came to: a clip (its key and where it is), or an error."""

    clip_key: str | None = None
    uri: str | None = None
    error: AvatarError | None = None

    @property
    def state(self) -> RequestState:
        """The state that it ends in."""
        return "done" if self.error is None else "failed"

    @property
    def note(self) -> str:
        """What its history says."""
        return (self.clip_key or "") if self.error is None else self.error.message


def begin(session: Session, request_id: str, now: datetime, *, max_attempts: int) -> bool | AvatarError:
    """Begin a request; false if there is nothing to begin, an error if this is what made it fail."""
    values = {"attempts": RequestRow.attempts + 1, "started_at": func.coalesce(RequestRow.started_at, now)}
    begun = (
        update(RequestRow)
        .where(
            RequestRow.id == request_id,
            RequestRow.state.in_(before("running")),
            RequestRow.attempts < max_attempts,
            or_(RequestRow.deadline.is_(None), RequestRow.deadline > now, RequestRow.attempts > 0),
        )
        .values(**stamp("running", now), **values)
        .returning(RequestRow.attempts)
    )
    attempt = session.scalar(begun, execution_options=_UNTOUCHED)
    if attempt is not None:
        _write_down(session, request_id, "running", f"attempt {attempt}", now)
        return True
    row = session.execute(
        select(RequestRow.state, RequestRow.attempts, RequestRow.deadline).where(RequestRow.id == request_id)
    ).one_or_none()
    if row is None:
        raise not_found(request_id)
    if row.state in FINAL or row.state == "held":
        return False
    if row.attempts >= max_attempts:
        error: AvatarError = _used_up(request_id, row.attempts)
    elif row.attempts == 0 and row.deadline is not None and row.deadline <= now:
        error = _too_late(row.deadline)
    else:
        # Released by somebody else between the two statements.
        return begin(session, request_id, now, max_attempts=max_attempts)
    return error if finish(session, request_id, Finished(error=error), now) else False


def finish(session: Session, request_id: str, end: Finished, now: datetime) -> bool:
    """Bring a request to its end; true for the one call that does."""
    values: dict[str, Any] = {**stamp(end.state, now), "held_by": None}
    if end.error is None:
        values["clip_key"] = end.clip_key
    else:
        values["error"] = end.error.as_dict()
    ended = (
        update(RequestRow)
        .where(RequestRow.id == request_id, RequestRow.state.in_(before(end.state)))
        .values(**values)
        .returning(*_WHOM_TO_TELL)
    )
    row = session.execute(ended, execution_options=_UNTOUCHED).one_or_none()
    if row is None:
        return False
    _write_down(session, request_id, end.state, end.note, now)
    _tell(session, request_id, row, end, now)
    return True


def hold(
    session: Session,
    request_id: str,
    note: str,
    now: datetime,
    until: datetime | None,
    held_by: str | None = None,
) -> bool:
    """Keep a request from being worked on, until a time or until it is released; true if it was held just now.

    Of two holds the longer one is in force. `held_by` names the limit of a budget that has no room for it.
    """
    # Whoever puts a request off lives: that attempt does not count among those that kill their workers.
    wasted = 0 if until is None else case((RequestRow.state == "running", 1), else_=0)
    held = (
        update(RequestRow)
        .where(RequestRow.id == request_id, RequestRow.state.in_(before("held")))
        .values(**stamp("held", now), held_until=until, held_by=held_by, attempts=RequestRow.attempts - wasted)
        .returning(RequestRow.id)
    )
    if session.scalar(held, execution_options=_UNTOUCHED) is not None:
        _write_down(session, request_id, "held", note, now)
        return True
    longer = update(RequestRow).where(RequestRow.id == request_id, PUT_OFF)
    if until is not None:
        longer = longer.where(RequestRow.held_until < until)
    session.execute(longer.values(held_until=until, held_by=held_by), execution_options=_UNTOUCHED)
    return False


def hold_otherwise(session: Session, request_id: str, note: str, now: datetime, until: datetime, held_by: str) -> bool:
    """Put a request that a budget holds under another of its limits; true if a budget holds it."""
    other = (
        update(RequestRow)
        .where(RequestRow.id == request_id, RequestRow.state == "held", HELD_BY)
        .values(held_by=held_by, held_until=until)
        .returning(RequestRow.id)
    )
    if session.scalar(other, execution_options=_UNTOUCHED) is None:
        return False
    _write_down(session, request_id, "held", note, now)
    return True


def hold_refused(session: Session, refused: Mapping[str, Admission], now: datetime) -> int:
    """Hold requests that a budget has no room for, but those that somebody else is just about; return how many."""
    free: list[str] = []
    for names in chunks(sorted(refused)):
        # Waiting for one here could go round in a ring: whoever has it may wait for the money that we hold.
        rows = select(RequestRow.id).where(RequestRow.id.in_(names), RequestRow.state.in_(before("held")))
        free += session.scalars(rows.with_for_update(skip_locked=True))
    for name in free:
        admission = refused[name]
        limit = admission.binding.limit_id if admission.binding else ""
        hold(session, name, f"budget_hold: {admission.reason}", now, admission.retry_at or now + FOR_A_DAY, limit)
        forget_reservation(session, name)
    return len(free)


def release(session: Session, request_id: str, now: datetime) -> bool:
    """Let a held request go on: in the batch that it belongs to, or waiting for one; true if it was released just now.

    A batch's manifest holds it for ever, so no other batch may have it.
    """
    released = (
        update(RequestRow)
        .where(RequestRow.id == request_id, RequestRow.state == "held")
        .values(**_RELEASED)
        .returning(RequestRow.state)
    )
    state = session.scalar(released, execution_options=_UNTOUCHED)
    if state is None:
        return False
    _write_down(session, request_id, cast(RequestState, state), "released", now)
    return True


def release_due(session: Session, now: datetime, *, limit: int) -> int:
    """Let the requests go on whose time has come, those first that have been due for longest; return how many."""
    due = select(RequestRow.id).where(PUT_OFF, RequestRow.held_until <= now, ~HELD_BY)
    due = due.order_by(RequestRow.held_until, RequestRow.id).limit(limit)
    names = list(session.scalars(due.with_for_update(skip_locked=True)))
    events: list[dict[str, Any]] = []
    for some in chunks(names):
        released = update(RequestRow).where(RequestRow.id.in_(some)).values(**_RELEASED)
        for name, state in session.execute(released.returning(*_WHERE_IT_IS), execution_options=_UNTOUCHED):
            events.append({"request_id": name, "state": state, "note": "its time has come", "at": now})
    if events:
        session.execute(insert(RequestEventRow), events)
    return len(events)


def lock(session: Session, request_id: str) -> str | None:
    """Keep others from taking a step with a request until the transaction ends; return its state, None: it is gone."""
    return session.scalar(select(RequestRow.state).where(RequestRow.id == request_id).with_for_update())


def forget_reservation(session: Session, request_id: str) -> None:
    """Let a request be admitted anew when it goes on."""
    session.execute(
        update(RequestRow).where(RequestRow.id == request_id).values(reservation=None), execution_options=_UNTOUCHED
    )


class Purse(Protocol):
    """Who pays for requests."""

    def let_go(self, session: Session, request_ids: Sequence[str], now: datetime, *, finished: bool) -> None:
        """Let go of what was put aside for requests that are at their end."""


def refuse_avatar(
    session: Session, avatar_id: str, error: AvatarError, now: datetime, *, limit: int, purse: Purse | None = None
) -> int:
    """Fail up to `limit` unfinished requests of an avatar, wherever they are; return how many."""
    unfinished = select(RequestRow.id).where(RequestRow.avatar_id == avatar_id, RequestRow.state.not_in(FINAL))
    # Whoever takes a step with one of them is waited for, and after it the request is looked at again.
    names = session.scalars(unfinished.order_by(RequestRow.id).limit(limit).with_for_update())
    return _finish_all(session, {name: Finished(error=error) for name in names}, now, purse)


def expire(
    session: Session, now: datetime, *, unknown_avatar: timedelta, limit: int, purse: Purse | None = None
) -> int:
    """Fail requests that are of no use any more, in bulk; return how many."""
    ends: dict[str, Finished] = {}
    late = (
        select(RequestRow.id, RequestRow.deadline)
        .where(UNBEGUN, RequestRow.deadline <= now, RequestRow.attempts == 0)
        .limit(limit)
    )
    for row in session.execute(late.with_for_update(skip_locked=True)):
        ends[row.id] = Finished(error=_too_late(row.deadline))
    hopeless = _hopeless_avatars(session)
    for avatar_ids in chunks(sorted(hopeless)):
        if len(ends) >= limit:
            break
        lost = (
            select(RequestRow.id, RequestRow.avatar_id)
            .join(AvatarRow, AvatarRow.id == RequestRow.avatar_id, isouter=True)
            .where(WAITING, RequestRow.avatar_id.in_(avatar_ids))
            .where(RequestRow.avatar_id.not_in(_on_their_way(session, avatar_ids)))
            .where(or_(AvatarRow.id.is_not(None), RequestRow.created_at <= now - unknown_avatar))
            .limit(limit - len(ends))
        )
        for request_id, avatar_id in session.execute(lost.with_for_update(skip_locked=True, of=RequestRow)):
            ends.setdefault(request_id, Finished(error=hopeless[avatar_id]))
    return _finish_all(session, ends, now, purse)


def not_found(request_id: str) -> NotFound:
    """Return the error for a request that the ledger does not know."""
    return NotFound(f"There is no request {request_id!r}.", remedy="See what there is: avatar requests.")


def _hopeless_avatars(session: Session) -> dict[str, AvatarError]:
    """Return the avatars that clips wait for and that failed, or are not known."""
    wanted = (select(RequestRow.avatar_id).where(WAITING).group_by(RequestRow.avatar_id)).subquery()
    rows = session.execute(
        select(wanted.c.avatar_id, AvatarRow.id, AvatarRow.error)
        .select_from(wanted)
        .join(AvatarRow, AvatarRow.id == wanted.c.avatar_id, isouter=True)
        .where(or_(AvatarRow.id.is_(None), AvatarRow.state == "failed"))
    )
    return {name: _no_avatar(name) if known is None else _no_luck(name, error) for name, known, error in rows}


def _on_their_way(session: Session, avatar_ids: Sequence[str]) -> list[str]:
    """Return those of these avatars that an unfinished request asks for: they may be ready yet."""
    unfinished = select(RequestRow.avatar_id).where(
        RequestRow.avatar_id.in_(avatar_ids), RequestRow.kind == "avatar", RequestRow.state.not_in(FINAL)
    )
    return list(session.scalars(unfinished.distinct()))


def _finish_all(session: Session, ends: dict[str, Finished], now: datetime, purse: Purse | None) -> int:
    if not ends:
        return 0
    table = RequestRow.__table__
    session.connection().execute(
        update(table)  # type: ignore[arg-type]  # declared wider than it is
        .where(table.c.id == bindparam("request"))
        .values(**stamp("failed", now), held_by=None, error=bindparam("reason", type_=table.c.error.type)),
        [{"request": name, "reason": cast(AvatarError, end.error).as_dict()} for name, end in ends.items()],
    )
    events = [{"request_id": name, "state": "failed", "note": end.note, "at": now} for name, end in ends.items()]
    session.execute(insert(RequestEventRow), events)
    for names in chunks(list(ends)):
        told = select(RequestRow.id, *_WHOM_TO_TELL).where(
            RequestRow.id.in_(names), RequestRow.callback_url.is_not(None)
        )
        for row in session.execute(told).all():
            _tell(session, row.id, row, ends[row.id], now)
    if purse is not None:
        purse.let_go(session, list(ends), now, finished=False)
    return len(ends)


def _tell(session: Session, request_id: str, row: Any, end: Finished, now: datetime) -> None:
    if row.callback_url is None:
        return
    body = callback_body(
        kind=cast(RequestKind, row.kind),
        request_id=request_id,
        avatar_id=row.avatar_id,
        tenant=row.tenant,
        at=now,
        uri=end.uri,
        error=end.error.as_dict() if end.error else None,
    )
    CallbackBook.enqueue(session, request_id=request_id, url=row.callback_url, body=body, now=now)


def _write_down(session: Session, request_id: str, state: RequestState, note: str, now: datetime) -> None:
    # On the connection, not the session: at a step a clip, the session's own work would be a fifth of it all.
    row = {"request_id": request_id, "state": state, "note": note, "at": now}
    session.connection().execute(insert(RequestEventRow.__table__), row)  # type: ignore[arg-type]  # declared wider


def _too_late(deadline: datetime) -> DeadlinePassed:
    return DeadlinePassed(
        f"The deadline, {deadline.isoformat(timespec='seconds')}, passed before the request was begun.",
        remedy="Send it again, under another request id, with a later deadline or a higher priority.",
    )


def _used_up(request_id: str, attempts: int) -> WorkerLost:
    return WorkerLost(
        f"Request {request_id} was begun {attempts} times, and each time its worker died or broke off.",
        remedy="See the logs of its runs, then send it again under another request id.",
    )


def _no_avatar(avatar_id: str) -> NotFound:
    return NotFound(f"There is no avatar {avatar_id!r}, and none came.", remedy="Send an avatar request for it first.")


def _no_luck(avatar_id: str, error: dict[str, str] | None) -> AvatarFailed:
    told = error or {}
    return AvatarFailed(
        f"Avatar {avatar_id} failed: {told.get('message', 'nothing more is known')}",
        remedy=told.get("remedy", "Make the avatar again, then send the request again under another id."),
    )
