"""The book of requests: every wish for a clip or an avatar, from queued to its end."""

from __future__ import annotations

import builtins
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import ColumnElement, Engine, Select, and_, exists, func, or_, select
from sqlalchemy.orm import Session, aliased

from avatar_pipeline.clock import Clock, utc_now
from avatar_pipeline.errors import AvatarError, BudgetHold, Conflict, InvalidInput
from avatar_pipeline.ledger import arrivals, claiming, steps
from avatar_pipeline.ledger.database import chunks, delete_in_pages, reading, writing
from avatar_pipeline.ledger.messages import ClipRequest, Request
from avatar_pipeline.ledger.purse import Purse
from avatar_pipeline.ledger.records import (
    Arrival,
    Backlog,
    Candidate,
    OpenBatch,
    RequestEvent,
    RequestKind,
    RequestRecord,
    RequestState,
    Secured,
)
from avatar_pipeline.ledger.schema import (
    AT_WORK,
    AVATARS,
    HELD_BY,
    PUT_OFF,
    WAITING,
    AvatarRow,
    BatchRow,
    RequestEventRow,
    RequestRow,
)

__all__ = ["Arrival", "RequestBook"]

_HELD_CLIP: ColumnElement[bool] = and_(RequestRow.state == "held", RequestRow.kind == "clip")


class RequestBook:
    """Requests in the ledger. Every method is one transaction, if it does not say otherwise.

    `weights` are tenants' shares beside the others', 1 for one that is not named. With a `purse`, nothing is claimed
    that its budgets do not pay for, and what was put aside is let go of in the transaction that ends or holds it.

    Raises:
        InvalidInput: a weight is not above zero.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        clock: Clock = utc_now,
        weights: Mapping[str, float] | None = None,
        purse: Purse | None = None,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._purse = purse
        self._weights = dict(weights or {})
        for tenant, weight in self._weights.items():
            if not 0 < weight < float("inf"):
                raise InvalidInput(
                    f"AVATAR_TENANT_WEIGHTS gives {tenant} the weight {weight:g}; a weight is above zero.",
                    remedy="Give it a small weight, such as 0.1, to let the others go first.",
                )

    # Arriving

    def submit(self, requests: Sequence[Request], *, batch_id: str | None = None) -> builtins.list[str]:
        """Queue requests, all or none, and return the ids that are new; one that is known already changes nothing.

        `batch_id` reserves them for that batch; without it the next batch that claims may take them.

        Raises:
            NotFound: a clip's avatar does not exist.
            Conflict: a request id is known with other content.
        """
        now = self._clock()
        with writing(self._engine, durable=True) as session:
            arrivals.require_avatars(session, requests)
            taken = arrivals.take_in(session, [Arrival(request, now) for request in requests], now, batch_id=batch_id)
            for conflict in filter(None, taken.conflicts):
                raise conflict
            return taken.new

    def take_in(self, entries: Sequence[Arrival]) -> builtins.list[Conflict | None]:
        """Queue what came out of a queue; when this returns, the messages may be deleted.

        What is known already changes nothing. Where an id is known with other content, the conflict is returned in the
        entry's place; it does not hold up the others. The avatar need not be there yet.
        """
        now = self._clock()
        with writing(self._engine, durable=True) as session:
            return arrivals.take_in(session, entries, now).conflicts

    # Working

    def claim(self, batch_id: str, limit: int) -> builtins.list[ClipRequest]:
        """Give a batch its requests, in the order in which to work on them, those of one avatar together.

        Claiming again returns the same: a batch that died before its manifest was written gets its requests back. It
        may be fewer than `limit` although more wait: see `fairness.room_for`.
        """
        now = self._clock()
        with reading(self._engine) as session:
            # A hundred thousand clips that wait for their avatars are not searched under the write lock for nothing.
            most = limit if claiming.anything_waits(session) else 0
        with writing(self._engine) as session:
            claiming.claim(session, batch_id, most, now, self._weights, self._purse)
            mine = select(RequestRow.payload).where(RequestRow.batch_id == batch_id)
            rows = session.scalars(mine.order_by(RequestRow.place, RequestRow.position))
            return [ClipRequest.model_validate(payload) for payload in rows]

    def begin(self, request_id: str, *, max_attempts: int) -> bool:
        """Begin (or begin again) to work on a request. False if there is nothing to do: it is final, or held.

        Raises:
            NotFound: there is no such request; perhaps its avatar was removed.
            WorkerLost: it was begun `max_attempts` times already; it has failed now.
            DeadlinePassed: it was never begun, and now it is too late; it has failed now.
        """
        now = self._clock()
        with writing(self._engine) as session:
            begun = steps.begin(session, request_id, now, max_attempts=max_attempts)
            if isinstance(begun, AvatarError):
                self._let_go(session, request_id, now)
        if isinstance(begun, AvatarError):
            raise begun
        return begun

    def finish(self, request_id: str, *, clip_key: str | None, uri: str | None = None, learn: bool = True) -> bool:
        """Record that a request is done; true for the one call that did it. `uri` is told to its callback.

        `learn`: what it took is worth learning from, for it was made just now.
        """
        now = self._clock()
        with writing(self._engine) as session:
            ended = steps.finish(session, request_id, steps.Finished(clip_key, uri), now)
            if ended:
                self._let_go(session, request_id, now, finished=learn)
            return ended

    def fail(self, request_id: str, error: AvatarError) -> bool:
        """Record that a request failed for good; true for the one call that did it."""
        now = self._clock()
        with writing(self._engine) as session:
            ended = steps.finish(session, request_id, steps.Finished(error=error), now)
            if ended:
                self._let_go(session, request_id, now)
            return ended

    def hold(
        self,
        request_id: str,
        note: str,
        until: datetime | None = None,
        *,
        held_by: str | None = None,
        keep_reservation: bool = False,
    ) -> bool:
        """Keep a request that is not final from being worked on, until it is released; true if it was not held yet.

        With `until` it is released by itself then (see `release_due`), and if it was being worked on, that attempt is
        not counted: its worker lives, and puts it off. Held again, it is held for the longer of the two. `held_by` is
        the limit of a budget that has no room for it. What was put aside for it is let go of, unless it is only laid
        down for a moment (`keep_reservation`).
        """
        now = self._clock()
        with writing(self._engine) as session:
            held = steps.hold(session, request_id, note, now, until, held_by)
            if held and not keep_reservation:
                self._let_go(session, request_id, now)
                steps.forget_reservation(session, request_id)
            return held

    def secure(self, request_id: str) -> Secured:
        """See that a request of a batch that is to be worked on is paid for.

        One that was held in its batch and goes on is admitted anew here; one that is refused is held. One that is held,
        has ended or was removed since it was looked at is not to be worked on.
        """
        now = self._clock()
        with writing(self._engine) as session:
            state = steps.lock(session, request_id)
            if state not in ("claimed", "running"):
                return Secured(may_begin=False)
            admission = None if self._purse is None else self._purse.secure(session, request_id, now)
            if admission is None or admission.admitted:
                return Secured(may_begin=True)
            steps.hold_refused(session, {request_id: admission}, now)
            return Secured(may_begin=False, refused=admission)

    def release(self, request_id: str) -> bool:
        """Let a held request go on: in its batch if it has one, else it waits for one. True if it was held."""
        now = self._clock()
        with writing(self._engine) as session:
            return steps.release(session, request_id, now)

    def release_due(self, limit: int = 1000) -> int:
        """Release up to `limit` requests that are held until a time which has come, and return how many.

        Those that a budget holds are none of them: they go on when it has room, which is for `stages.admission` to say.
        """
        now = self._clock()
        with reading(self._engine) as session:
            # Sensors ask every few seconds, and mostly in vain.
            if not session.scalar(select(exists().where(PUT_OFF, RequestRow.held_until <= now, ~HELD_BY))):
                return 0
        with writing(self._engine) as session:
            return steps.release_due(session, now, limit=limit)

    def refuse_avatar(self, avatar_id: str, error: AvatarError, *, page: int = 1000) -> int:
        """Fail every unfinished request of an avatar: queued, held, in a batch or at work. Return how many.

        They are failed `page` in each transaction, so that others get their turn. Breaking off between two loses
        nothing: the next call goes on.
        """
        total = 0
        while True:
            now = self._clock()
            with writing(self._engine) as session:
                failed = steps.refuse_avatar(session, avatar_id, error, now, limit=page, purse=self._purse)
            total += failed
            if failed < page:
                return total

    def expire(self, *, unknown_avatar: timedelta, limit: int = 1000) -> int:
        """Fail up to `limit` requests that are of no use any more, and return how many.

        These are: those that wait and were not begun before their deadline; clips of an avatar that failed; and clips
        that have waited for `unknown_avatar` for an avatar that nobody knows. An avatar that is asked for and not made
        yet is known, and has not failed.
        """
        now = self._clock()
        with writing(self._engine) as session:
            return steps.expire(session, now, unknown_avatar=unknown_avatar, limit=limit, purse=self._purse)

    # Looking

    def get(self, request_id: str) -> RequestRecord:
        """Return one request.

        Raises:
            NotFound: there is none of that id.
        """
        with reading(self._engine) as session:
            row = session.get(RequestRow, request_id)
            if row is None:
                raise steps.not_found(request_id)
            return _record(row)

    def list(
        self,
        *,
        kind: RequestKind | None = None,
        avatar_id: str | None = None,
        batch_id: str | None = None,
        tenant: str | None = None,
        states: Sequence[RequestState] = (),
        limit: int | None = None,
        newest_first: bool = False,
    ) -> builtins.list[RequestRecord]:
        """Return the requests that fit all that is given, as they came; those of one batch in the batch's order."""
        query = select(RequestRow)
        wanted = {"kind": kind, "avatar_id": avatar_id, "batch_id": batch_id, "tenant": tenant}
        query = query.filter_by(**{name: value for name, value in wanted.items() if value is not None})
        if states:
            query = query.where(RequestRow.state.in_(states))
        order = (RequestRow.position, RequestRow.id)
        if newest_first:
            query = query.order_by(*(column.desc() for column in order))
        elif batch_id is not None:
            query = query.order_by(RequestRow.place, *order)
        else:
            query = query.order_by(*order)
        return self._records(query.limit(limit))

    def reservations(self, request_ids: Sequence[str]) -> dict[str, str]:
        """Return what is put aside for each of these requests that is in a batch's hands, and has anything."""
        found: dict[str, str] = {}
        with reading(self._engine) as session:
            for some in chunks(list(request_ids)):
                query = select(RequestRow.id, RequestRow.reservation).where(
                    RequestRow.id.in_(some), RequestRow.state.in_(("claimed", "running"))
                )
                found |= {name: key for name, key in session.execute(query) if key is not None}
        return found

    def waiting_clips(self, limit: int) -> builtins.list[Candidate]:
        """Return up to `limit` clips that are in no batch: by priority, then as they came."""
        return self._candidates(WAITING, limit)

    def held_by_budget(self, limit_id: str, limit: int) -> builtins.list[Candidate]:
        """Return up to `limit` clips that a budget's limit holds: by priority, then as they came."""
        return self._candidates(and_(_HELD_CLIP, RequestRow.held_by == limit_id), limit)

    def first_held(self, *, but: Collection[str] = ()) -> dict[str, builtins.list[Candidate]]:
        """Return, for each limit of a budget that holds clips, the first of them and the shortest.

        If there is room for neither, there is for none. `but`: limits that need not be asked.
        """
        order = (RequestRow.priority.desc(), RequestRow.position)
        ranked = (
            select(
                RequestRow.id,
                func.row_number().over(partition_by=RequestRow.held_by, order_by=order).label("place"),
                func.row_number()
                .over(partition_by=RequestRow.held_by, order_by=(RequestRow.cost, RequestRow.position))
                .label("size"),
            )
            .where(HELD_BY, _HELD_CLIP)
            .subquery()
        )
        query = (
            select(RequestRow.held_by, RequestRow.payload, RequestRow.position)
            .join(ranked, ranked.c.id == RequestRow.id)
            .where(or_(ranked.c.place == 1, ranked.c.size == 1))
        )
        found: dict[str, builtins.list[Candidate]] = {}
        with reading(self._engine) as session:
            for row in session.execute(query):
                if row.held_by not in but:
                    one = Candidate(ClipRequest.model_validate(row.payload), row.position, row.held_by)
                    found.setdefault(row.held_by, []).append(one)
        return found

    def hold_for_budget(self, request_id: str, error: BudgetHold, now: datetime) -> bool:
        """Hold a request that a budget has no room for until it is to be asked again; true if it was not held yet."""
        until = error.retry_at or now + steps.FOR_A_DAY
        return self.hold(request_id, f"{error.code}: {error.message}", until, held_by=error.limit_id)

    def hold_otherwise(self, request_id: str, error: BudgetHold, now: datetime) -> bool:
        """Note that another limit holds a request now than the one that did; true if a budget holds it at all."""
        with writing(self._engine) as session:
            note = f"{error.code}: {error.message}"
            until = error.retry_at or now + steps.FOR_A_DAY
            return steps.hold_otherwise(session, request_id, note, now, until, error.limit_id)

    def waiting_avatars(self, limit: int) -> builtins.list[RequestRecord]:
        """Return up to `limit` avatar requests that are neither final nor held, by priority, then as they came."""
        query = select(RequestRow).where(AVATARS)
        return self._records(query.order_by(RequestRow.priority.desc(), RequestRow.position).limit(limit))

    def history(self, request_id: str) -> builtins.list[RequestEvent]:
        """Return the steps of a request, first to last; none if it is not known."""
        steps_ = select(RequestEventRow).where(RequestEventRow.request_id == request_id).order_by(RequestEventRow.id)
        with reading(self._engine) as session:
            return [RequestEvent(cast(RequestState, row.state), row.note, row.at) for row in session.scalars(steps_)]

    def counts(self) -> dict[tuple[RequestKind, RequestState], int]:
        """Count the requests of each kind in each state that any is in."""
        query = select(RequestRow.kind, RequestRow.state, func.count())
        found: dict[tuple[RequestKind, RequestState], int] = {}
        with reading(self._engine) as session:
            # Two queries, for each is then read out of an index.
            for part in (RequestRow.finished_at.is_(None), RequestRow.finished_at.is_not(None)):
                for kind, state, number in session.execute(
                    query.where(part).group_by(RequestRow.kind, RequestRow.state)
                ):
                    found[cast(RequestKind, kind), cast(RequestState, state)] = number
        return found

    def backlog(self) -> Backlog:
        """Measure the clip requests that a batch could claim now: queued, in no batch, of an avatar that is ready."""
        by_avatar = (
            select(RequestRow.avatar_id, func.count().label("waiting"), func.min(RequestRow.sent_at).label("oldest"))
            .where(WAITING)
            .group_by(RequestRow.avatar_id)
            .subquery()
        )
        query = (
            select(func.sum(by_avatar.c.waiting), func.min(by_avatar.c.oldest))
            .join(AvatarRow, AvatarRow.id == by_avatar.c.avatar_id)
            .where(AvatarRow.state == "ready")
        )
        now = self._clock()
        with reading(self._engine) as session:
            waiting, oldest = session.execute(query).one()
        return Backlog(int(waiting or 0), None if oldest is None else max(now - oldest, timedelta(0)))

    # Batches

    def open_batches(self) -> builtins.list[OpenBatch]:
        """Return the batches that have something to do, the first claimed first.

        That is a request which is claimed or running, or reserved for the batch and never claimed: whoever reserved it
        may have been killed in between, and no other batch may have it.
        """
        since = func.coalesce(func.min(RequestRow.claimed_at), func.min(RequestRow.created_at))
        query = (
            select(RequestRow.batch_id, func.count(), since)
            .where(AT_WORK)
            .group_by(RequestRow.batch_id)
            .order_by(since, RequestRow.batch_id)
        )
        with reading(self._engine) as session:
            return [OpenBatch(str(name), number, cast(datetime, at)) for name, number, at in session.execute(query)]

    def batches_of(self, avatar_id: str) -> builtins.list[str]:
        """Return the ids of the batches that hold requests of this avatar and of no other."""
        other = aliased(RequestRow)
        shared = select(other.id).where(other.batch_id == RequestRow.batch_id, other.avatar_id != avatar_id).exists()
        query = select(RequestRow.batch_id).where(
            RequestRow.avatar_id == avatar_id, RequestRow.batch_id.is_not(None), ~shared
        )
        with reading(self._engine) as session:
            return [str(name) for name in session.scalars(query.distinct().order_by(RequestRow.batch_id))]

    def finished_batches_of(self, avatar_id: str) -> builtins.list[str]:
        """Return the ids of the batches that hold requests of this avatar, others' too, and have nothing left to do."""
        other = aliased(RequestRow)
        unfinished = select(other.id).where(other.batch_id == RequestRow.batch_id, other.finished_at.is_(None)).exists()
        query = select(RequestRow.batch_id).where(
            RequestRow.avatar_id == avatar_id, RequestRow.batch_id.is_not(None), ~unfinished
        )
        with reading(self._engine) as session:
            return [str(name) for name in session.scalars(query.distinct().order_by(RequestRow.batch_id))]

    def batches_with_claims(self, batch_ids: Iterable[str | None]) -> set[str]:
        """Return those of these batches that have claimed, so claim no more of what waits."""
        found: set[str] = set()
        with reading(self._engine) as session:
            for some in chunks([batch_id for batch_id in batch_ids if batch_id is not None]):
                found |= set(session.scalars(select(BatchRow.id).where(BatchRow.id.in_(some))))
        return found

    def unfinished_batches(self) -> set[str]:
        """Return the batches with requests that are neither done nor failed, in whatever state these are."""
        query = select(RequestRow.batch_id).distinct().where(RequestRow.finished_at.is_(None))
        with reading(self._engine) as session:
            return {name for name in session.scalars(query.where(RequestRow.batch_id.is_not(None))) if name}

    def last_change_of_batches(self, batch_ids: Sequence[str]) -> dict[str, datetime]:
        """Return, for those of these batches that have requests, when last anything happened to one of them."""
        times = [
            getattr(RequestRow, name) for name in ("created_at", "claimed_at", "started_at", "held_at", "finished_at")
        ]
        changed: dict[str, datetime] = {}
        with reading(self._engine) as session:
            for some in chunks(batch_ids):
                query = select(RequestRow.batch_id, *map(func.max, times)).where(RequestRow.batch_id.in_(some))
                for name, *latest in session.execute(query.group_by(RequestRow.batch_id)):
                    changed[str(name)] = max(moment for moment in latest if moment is not None)
        return changed

    def prune_batches(self, before: datetime) -> int:
        """Forget the batches that claimed before `before` and have no unfinished request; return how many.

        Their requests stay. A batch that is forgotten and got nothing could claim again, so `before` lies further back
        than anybody runs a batch.
        """
        unfinished = exists().where(RequestRow.batch_id == BatchRow.id, RequestRow.finished_at.is_(None))
        return delete_in_pages(self._engine, BatchRow.id, BatchRow.claimed_at < before, ~unfinished)

    def _candidates(self, which: ColumnElement[bool], limit: int) -> builtins.list[Candidate]:
        order = (RequestRow.priority.desc(), RequestRow.position)
        query = select(RequestRow.payload, RequestRow.position, RequestRow.held_by).where(which).order_by(*order)
        with reading(self._engine) as session:
            return [
                Candidate(ClipRequest.model_validate(row.payload), row.position, row.held_by)
                for row in session.execute(query.limit(limit))
            ]

    def _let_go(self, session: Session, request_id: str, now: datetime, *, finished: bool = False) -> None:
        if self._purse is not None:
            self._purse.let_go(session, [request_id], now, finished=finished)

    def _records(self, query: Select[Any]) -> builtins.list[RequestRecord]:
        with reading(self._engine) as session:
            return [_record(row) for row in session.scalars(query)]


def _record(row: RequestRow) -> RequestRecord:
    return RequestRecord(
        request=arrivals.parse(row.kind, row.payload),
        state=cast(RequestState, row.state),
        batch_id=row.batch_id,
        attempts=row.attempts,
        clip_key=row.clip_key,
        error=row.error,
        sent_at=row.sent_at,
        created_at=row.created_at,
        claimed_at=row.claimed_at,
        started_at=row.started_at,
        held_at=row.held_at,
        finished_at=row.finished_at,
        held_until=row.held_until,
        held_by=row.held_by,
        reservation=row.reservation,
        admissions=row.admissions,
    )
