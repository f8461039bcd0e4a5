"""Writing requests into the ledger, once each, however often they are sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from pydantic import ValidationError
from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from avatar_pipeline.errors import Conflict, NotFound
from avatar_pipeline.ledger.database import chunks, insert_new
from avatar_pipeline.ledger.fairness import cost_of
from avatar_pipeline.ledger.messages import AvatarRequest, ClipRequest, Request
from avatar_pipeline.ledger.records import Arrival, RequestKind
from avatar_pipeline.ledger.schema import AvatarRow, RequestEventRow, RequestRow


@dataclass(frozen=True, slots=True)
class TakenIn:
    """The ids that were new, and for each arrival the conflict that kept it out, if one did."""

    new: list[str]
    conflicts: list[Conflict | None]


def kind_of(request: Request) -> RequestKind:
    """Return what is asked for."""
    return "clip" if isinstance(request, ClipRequest) else "avatar"


def parse(kind: str, payload: Mapping[str, Any]) -> Request:
    """Return the request that was written down."""
    return ClipRequest.model_validate(payload) if kind == "clip" else AvatarRequest.model_validate(payload)


def take_in(session: Session, arrivals: Sequence[Arrival], now: datetime, *, batch_id: str | None = None) -> TakenIn:
    """Write down what is new. What is known with the same content changes nothing; with another, it is a conflict."""
    known = _known(session, {arrival.request.request_id for arrival in arrivals})
    first: dict[str, Arrival] = {}
    for arrival in arrivals:
        if arrival.request.request_id not in known:
            first.setdefault(arrival.request.request_id, arrival)
    new = _insert(session, list(first.values()), now, batch_id)
    if raced := first.keys() - new:
        # Another consumer wrote them a moment ago.
        known |= _known(session, raced)
    known |= {name: (kind_of(arrival.request), arrival.request) for name, arrival in first.items() if name in new}
    conflicts = [
        None if _same(arrival.request, *known[arrival.request.request_id]) else _conflict(arrival.request)
        for arrival in arrivals
    ]
    return TakenIn([name for name in first if name in new], conflicts)


def require_avatars(session: Session, requests: Iterable[Request]) -> None:
    """Check that the avatars are there of which clips are asked.

    Raises:
        NotFound: one is not.
    """
    wanted = sorted({request.avatar_id for request in requests if isinstance(request, ClipRequest)})
    for some in chunks(wanted):
        known = set(session.scalars(select(AvatarRow.id).where(AvatarRow.id.in_(some))))
        for avatar_id in some:
            if avatar_id not in known:
                raise NotFound(f"There is no avatar {avatar_id!r}.", remedy="See what there is: avatar list.")


def _known(session: Session, ids: Iterable[str]) -> dict[str, tuple[str, Request | Mapping[str, Any]]]:
    known: dict[str, tuple[str, Request | Mapping[str, Any]]] = {}
    for some in chunks(sorted(ids)):
        rows = select(RequestRow.id, RequestRow.kind, RequestRow.payload).where(RequestRow.id.in_(some))
        known |= {row.id: (row.kind, row.payload) for row in session.execute(rows)}
    return known


def _insert(session: Session, arrivals: Sequence[Arrival], now: datetime, batch_id: str | None) -> set[str]:
    if not arrivals:
        return set()
    last = session.scalar(select(func.max(RequestRow.position))) or 0
    rows = [
        _row(arrival, now, position=last + number, batch_id=batch_id, place=number if batch_id else None)
        for number, arrival in enumerate(arrivals, 1)
    ]
    # In one order for all who write: two that bring the same ids then wait for each other in turn, not in a ring.
    rows.sort(key=lambda row: cast(str, row["id"]))
    new = set(session.scalars(insert_new(session, RequestRow).returning(RequestRow.id), rows))
    note = f"reserved for {batch_id}" if batch_id else ""
    written = [
        {"request_id": row["id"], "state": "queued", "note": note, "at": now} for row in rows if row["id"] in new
    ]
    if written:
        session.execute(insert(RequestEventRow), written)
    return new


def _row(arrival: Arrival, now: datetime, *, position: int, batch_id: str | None, place: int | None) -> dict[str, Any]:
    request = arrival.request
    return {
        "id": request.request_id,
        "kind": kind_of(request),
        "avatar_id": request.avatar_id,
        "tenant": request.tenant,
        "payload": request.model_dump(mode="json"),
        "state": "queued",
        "batch_id": batch_id,
        "position": position,
        "priority": request.priority,
        "cost": cost_of(request.text if isinstance(request, ClipRequest) else ""),
        "place": place,
        "deadline": request.deadline,
        "callback_url": request.callback_url,
        "attempts": 0,
        "sent_at": arrival.sent_at,
        "created_at": now,
    }


def _same(request: Request, kind: str, known: Request | Mapping[str, Any]) -> bool:
    if kind != kind_of(request):
        return False
    if not isinstance(known, Mapping):
        return known == request
    if known == request.model_dump(mode="json"):
        return True
    try:
        # What an earlier release wrote lacks the fields that came later, and a time may be written in another zone.
        return parse(kind, known) == request
    except ValidationError:
        return False


def _conflict(request: Request) -> Conflict:
    return Conflict(
        f"Request {request.request_id} exists already with other content.",
        remedy="A request id names one request for ever; choose another.",
    )
