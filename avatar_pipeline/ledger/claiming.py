"""Giving a batch its requests: fair over tenants, company for whoever shares an avatar, all in a few statements."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import chain, islice, zip_longest
from typing import Any, Protocol, TypeVar

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Executable,
    Integer,
    Select,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    union_all,
    update,
)
from sqlalchemy.orm import Session

from avatar_pipeline.budget.types import Admission
from avatar_pipeline.ledger.database import chunks, insert_new, insert_or_update
from avatar_pipeline.ledger.fairness import Choice, Flow, Waiting, choose, room_for, turn
from avatar_pipeline.ledger.schema import AT_WORK, WAITING, AvatarRow, BatchRow, FlowRow, RequestEventRow, RequestRow
from avatar_pipeline.ledger.states import stamp
from avatar_pipeline.ledger.steps import hold_refused

T = TypeVar("T")

_KIND = "clip"
_CLOCK = ""
_NOBODY = ""
_MOST_REFUSED = 20
_STEPS = (1, 4, 16)
"""How many flows, or avatars, are looked up in one statement: one is often enough; if not, more may be needed yet."""


def anything_waits(session: Session) -> bool:
    """Return whether any clip could be claimed. To look for it costs no writer anything; claiming keeps all waiting."""
    waiting = exists().where(RequestRow.avatar_id == AvatarRow.id, WAITING)
    return bool(session.scalar(select(exists().where(AvatarRow.state == "ready", waiting))))


class Purse(Protocol):
    """Who pays for what is claimed. All of it happens in the transaction of the claim."""

    def admit(self, session: Session, request_id: str, now: datetime) -> Admission:
        """Put aside what a request may cost; or say why not, and nothing is put aside."""
        ...

    def give_back(self, session: Session, keys: Sequence[str], now: datetime) -> None:
        """Let go of reservations whose requests were not claimed after all."""
        ...


def claim(
    session: Session,
    batch_id: str,
    limit: int,
    now: datetime,
    weights: Mapping[str, float],
    purse: Purse | None = None,
) -> None:
    """Give a batch that has not claimed some of those that wait; one that has keeps just what it got, even nothing.

    Two runs of one batch may be at this at once, and each writes what it got into the batch's manifest: it must be the
    same. With a `limit` of 0 it gets only what is reserved for it.

    With a `purse`, what is claimed is paid for in the same transaction: a request for which its budgets have no room
    is held, costs its tenant nothing of its share, and the next one is tried, `_MOST_REFUSED` times at most.
    """
    clock = _lock(session)
    claimed = session.scalar(select(exists().where(BatchRow.id == batch_id)))
    if not claimed:
        session.execute(insert_new(session, BatchRow).values(id=batch_id, claimed_at=now))
    if claimed or session.scalar(select(exists().where(RequestRow.batch_id == batch_id))):
        _claim_reserved(session, batch_id, now)
        return
    room = room_for(limit, _remaining(session))
    served: list[tuple[Waiting, float]] = []
    till = _Till(session, purse, now)
    for priority in _priorities(session):
        if len(served) >= room or till.is_shut:
            break
        backlog = _Backlog(session, priority, room - len(served), now)
        choice = backlog.choose(clock.get(priority, 0.0), weights, till.accept)
        if choice.served:
            served += choice.served
            _move_on(session, priority, choice)
    taken = _write(session, batch_id, served, now, till.keys)
    till.close(taken)


class _Till:
    """What the purse said to the requests of one claim."""

    def __init__(self, session: Session, purse: Purse | None, now: datetime) -> None:
        self._session = session
        self._purse = purse
        self._now = now
        self.keys: dict[str, str] = {}
        self._refused: dict[str, Admission] = {}

    @property
    def is_shut(self) -> bool:
        """Whether so many were refused that the rest waits for the next claim."""
        return len(self._refused) >= _MOST_REFUSED

    def accept(self, waiting: Waiting) -> bool:
        """Have a request paid for."""
        if self._purse is None:
            return True
        if self.is_shut or not self._is_free(waiting.request_id):
            return False
        admission = self._purse.admit(self._session, waiting.request_id, self._now)
        if admission.admitted:
            self.keys[waiting.request_id] = admission.key
        else:
            self._refused[waiting.request_id] = admission
        return admission.admitted

    def _is_free(self, request_id: str) -> bool:
        """Lock a request, unless somebody has it: waiting for it here, with money locked, could go round in a ring."""
        row = select(RequestRow.id).where(RequestRow.id == request_id, WAITING)
        return self._session.scalar(row.with_for_update(skip_locked=True)) is not None

    def close(self, taken: Sequence[str]) -> None:
        """Give back what was put aside for requests that somebody else took away, and hold those that were refused."""
        if self._purse is not None:
            lost = [key for request_id, key in self.keys.items() if request_id not in set(taken)]
            self._purse.give_back(self._session, lost, self._now)
        hold_refused(self._session, self._refused, self._now)


class _Backlog:
    """The requests of one priority that may be claimed, looked up as they are needed, several flows at a time."""

    def __init__(self, session: Session, priority: int, room: int, now: datetime) -> None:
        self._session = session
        self._priority = priority
        self._room = room
        self._now = now
        self._tenants: list[str] = []
        self._flows: dict[str, list[Waiting]] = {}
        self._company: dict[tuple[str, str], list[Waiting]] = {}

    def choose(self, clock: float, weights: Mapping[str, float], accept: Callable[[Waiting], bool]) -> Choice:
        """Choose who is next."""
        flows = [
            Flow(tenant, finish or 0.0, oldest)
            for tenant, oldest, finish in self._session.execute(_tenants(), {"priority": self._priority})
        ]
        flows.sort(key=lambda flow: turn(flow, clock))
        self._tenants = [flow.tenant for flow in flows]
        return choose(flows, clock, self._room, weights, of_flow=self._of_flow, company=self._company_of, accept=accept)

    def _of_flow(self, tenant: str) -> list[Waiting]:
        if tenant not in self._flows:
            likely = (name for name in self._tenants if name != tenant and name not in self._flows)
            names = self._some(tenant, likely, known=len(self._flows))
            self._flows |= {name: [] for name in names}
            for waiting in self._look_up(_of_flows, [{"tenant": name} for name in names]):
                self._flows[waiting.tenant].append(waiting)
        return self._flows[tenant]

    def _company_of(self, head: Waiting) -> list[Waiting]:
        flow = self._flows[head.tenant]
        if len(flow) < self._room or all(waiting.avatar_id == head.avatar_id for waiting in flow):
            # That is the whole flow, or as much of this avatar as there is room for.
            return [waiting for waiting in flow if waiting.avatar_id == head.avatar_id]
        pair = (head.tenant, head.avatar_id)
        if pair not in self._company:
            likely = (
                (waiting.tenant, waiting.avatar_id)
                for waiting in chain.from_iterable(zip_longest(*self._flows.values()))
                if waiting is not None
            )
            others = (other for other in dict.fromkeys(likely) if other != pair and other not in self._company)
            pairs = self._some(pair, others, known=len(self._company))
            self._company |= {one: [] for one in pairs}
            whose = [{"tenant": tenant, "avatar": avatar_id} for tenant, avatar_id in pairs]
            for waiting in self._look_up(_of_pairs, whose):
                self._company[waiting.tenant, waiting.avatar_id].append(waiting)
        return self._company[pair]

    def _some(self, wanted: T, likely: Iterable[T], *, known: int) -> list[T]:
        """Return what is wanted, and more of what is likely to be; the more of it, the more was needed before."""
        size = next((step for step in _STEPS if step > known), _STEPS[-1])
        return [wanted, *islice(likely, size - 1)]

    def _look_up(self, query: Callable[[int], Executable], whose: Sequence[Mapping[str, str]]) -> list[Waiting]:
        """Return who waits, in order, of each tenant (and avatar) that is named."""
        # Queries of few sizes are all prepared soon; to prepare one takes longer than to run it.
        size = next(step for step in _STEPS if step >= len(whose))
        values: dict[str, Any] = {"priority": self._priority, "room": self._room, "now": self._now}
        for number in range(size):
            one = whose[number] if number < len(whose) else {"tenant": _NOBODY, "avatar": _NOBODY}
            values |= {f"{name}_{number}": value for name, value in one.items()}
        rows = self._session.execute(query(size), values)
        return [Waiting(*row[:-1]) for row in sorted(rows, key=lambda row: row.position)]


@lru_cache
def _tenants() -> Select[Any]:
    """Return each tenant with work waiting: a seek in the index for each, however much work it is."""
    priority = bindparam("priority", type_=Integer())
    at = and_(RequestRow.priority == priority, WAITING)
    # Not MIN(): PostgreSQL, where it has no statistics yet, may work that out over any index, from all that is waiting.
    first = select(RequestRow.tenant).where(at).order_by(RequestRow.tenant).limit(1)
    tenants = select(first.scalar_subquery().label("tenant")).cte("tenants", recursive=True)
    following = first.where(RequestRow.tenant > tenants.c.tenant).correlate(tenants)
    tenants = tenants.union_all(select(following.scalar_subquery()).where(tenants.c.tenant.is_not(None)))
    oldest = select(RequestRow.position).where(at, RequestRow.tenant == tenants.c.tenant)
    oldest = oldest.order_by(RequestRow.position).limit(1)
    flow = and_(FlowRow.kind == _KIND, FlowRow.priority == priority, FlowRow.tenant == tenants.c.tenant)
    return (
        select(tenants.c.tenant, oldest.correlate(tenants).scalar_subquery(), FlowRow.virtual_time)
        .select_from(tenants)
        .outerjoin(FlowRow, flow)
        .where(tenants.c.tenant.is_not(None))
    )


@lru_cache
def _of_flows(count: int) -> CompoundSelect[Any]:
    """Return the query for the first requests of each of so many tenants."""
    return union_all(*(_first(RequestRow.tenant == bindparam(f"tenant_{number}")) for number in range(count)))


@lru_cache
def _of_pairs(count: int) -> CompoundSelect[Any]:
    """Return the query for the first requests of each of so many tenants, for one avatar each."""
    return union_all(
        *(
            _first(
                and_(
                    RequestRow.tenant == bindparam(f"tenant_{number}"),
                    RequestRow.avatar_id == bindparam(f"avatar_{number}"),
                )
            )
            for number in range(count)
        )
    )


def _first(whose: ColumnElement[bool]) -> Select[Any]:
    in_time = or_(RequestRow.deadline.is_(None), RequestRow.deadline > bindparam("now"))
    first = (
        select(RequestRow.id, RequestRow.tenant, RequestRow.avatar_id, RequestRow.cost, RequestRow.position)
        .join(AvatarRow, AvatarRow.id == RequestRow.avatar_id)
        .where(RequestRow.priority == bindparam("priority"), WAITING, whose)
        .where(in_time, AvatarRow.state == "ready")
        .order_by(RequestRow.position)
        .limit(bindparam("room"))
    )
    return select(first.subquery())


def _lock(session: Session) -> dict[int, float]:
    """Keep other claims waiting, for each must see what the one before it took; return virtual time by priority."""
    gate = select(FlowRow.virtual_time).where(FlowRow.kind == _KIND, FlowRow.priority == 0, FlowRow.tenant == _CLOCK)
    if session.scalar(gate.with_for_update()) is None:
        session.execute(insert_new(session, FlowRow).values(kind=_KIND, priority=0, tenant=_CLOCK, virtual_time=0.0))
        session.scalar(gate.with_for_update())
    clocks = select(FlowRow.priority, FlowRow.virtual_time).where(FlowRow.kind == _KIND, FlowRow.tenant == _CLOCK)
    return {row.priority: row.virtual_time for row in session.execute(clocks)}


def _remaining(session: Session) -> list[int]:
    at_work = select(func.count()).where(AT_WORK).group_by(RequestRow.batch_id)
    return list(session.scalars(at_work))


def _priorities(session: Session) -> Iterator[int]:
    """Return the priorities at which anything waits, highest first."""
    highest = select(RequestRow.priority).where(WAITING).order_by(RequestRow.priority.desc()).limit(1)
    priority = session.scalar(highest)
    while priority is not None:
        yield priority
        priority = session.scalar(highest.where(RequestRow.priority < priority))


def _claim_reserved(session: Session, batch_id: str, now: datetime) -> None:
    reserved = select(RequestRow.id).where(RequestRow.batch_id == batch_id, RequestRow.state == "queued")
    names = list(session.scalars(reserved.order_by(RequestRow.id).with_for_update()))
    for some in chunks(names):
        claimed = update(RequestRow).where(RequestRow.id.in_(some)).values(**stamp("claimed", now))
        session.execute(claimed.execution_options(synchronize_session=False))
    _record(session, names, batch_id, now)


def _move_on(session: Session, priority: int, choice: Choice) -> None:
    """Write down virtual time, and who is ahead of it; whoever is not, starts from it anyway."""
    of_priority = {"kind": _KIND, "priority": priority}
    ends = choice.finishes | {_CLOCK: choice.clock}
    session.execute(
        insert_or_update(session, FlowRow, keys=("kind", "priority", "tenant"), changes=("virtual_time",)),
        [of_priority | {"tenant": name, "virtual_time": time} for name, time in ends.items()],
    )
    session.execute(
        delete(FlowRow)
        .where(FlowRow.kind == _KIND, FlowRow.priority == priority, FlowRow.tenant != _CLOCK)
        .where(FlowRow.virtual_time < choice.clock)
    )


def _write(
    session: Session,
    batch_id: str,
    served: Sequence[tuple[Waiting, float]],
    now: datetime,
    keys: Mapping[str, str],
) -> list[str]:
    """Claim what was served, but what somebody else took away meanwhile; return the ids."""
    starts = {waiting.request_id: start for waiting, start in served}
    free: set[str] = set()
    for some in chunks(list(starts)):
        # One that is locked is being taken away by somebody; waiting for it here could go round in a ring.
        rows = select(RequestRow.id, RequestRow.state, RequestRow.batch_id).where(RequestRow.id.in_(some))
        for row in session.execute(rows.with_for_update(skip_locked=True)):
            if row.state == "queued" and row.batch_id is None:
                free.add(row.id)
    taken = [request_id for request_id in starts if request_id in free]
    if not taken:
        return []
    table = RequestRow.__table__
    session.connection().execute(
        update(table)  # type: ignore[arg-type]  # declared wider than it is
        .where(table.c.id == bindparam("request"))
        .values(
            batch_id=batch_id,
            place=bindparam("number"),
            virtual_start=bindparam("start"),
            reservation=bindparam("key"),
            **stamp("claimed", now),
        ),
        [
            {"request": request_id, "number": number, "start": starts[request_id], "key": keys.get(request_id)}
            for number, request_id in enumerate(taken, 1)
        ],
    )
    _record(session, taken, batch_id, now)
    return taken


def _record(session: Session, request_ids: Sequence[str], batch_id: str, now: datetime) -> None:
    if request_ids:
        events = [{"request_id": name, "state": "claimed", "note": batch_id, "at": now} for name in request_ids]
        session.execute(insert(RequestEventRow), events)
