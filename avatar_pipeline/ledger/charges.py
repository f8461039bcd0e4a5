"""Credits at a provider: put aside before anything is sent, settled once when it is known what it cost."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from types import EllipsisType
from typing import Any, Literal, Protocol, cast

from sqlalchemy import ColumnElement, Engine, Select, select, union_all, update
from sqlalchemy.orm import Session

from avatar_pipeline.clock import Clock, utc_now
from avatar_pipeline.errors import Conflict, NotFound, QuotaExhausted
from avatar_pipeline.ledger.database import exclusively, reading, writing
from avatar_pipeline.ledger.provider_schema import OPEN, ChargeRow

ChargeState = Literal["reserved", "sent", "settled", "released"]
_UNTOUCHED = {"synchronize_session": False}
_NONE = Decimal(0)
_FORGOTTEN = timedelta(hours=1)
"""What has been open for longer is a worker's that died or gave up: if it was billed, the provider has counted it."""


@dataclass(frozen=True, slots=True)
class Charge:
    """The credits of one piece of work.

    `reserved`: put aside, nothing is sent yet. `sent`: it is being sent, or was; if nobody knows what became of it, it
    may have been billed. `settled`: it cost `settled` credits. `released`: nothing was billed.
    """

    provider: str
    item_key: str
    tenant: str
    reserved: Decimal
    settled: Decimal | None
    state: ChargeState
    request_id: str | None
    created_at: datetime
    sent_at: datetime | None
    settled_at: datetime | None
    reservation: str | None = None


class Purse(Protocol):
    """What a budget has put aside for work at providers. Both are called inside the transaction of the charge."""

    def cover(self, session: Session, provider: str, reservation: str, credits: Decimal, now: datetime) -> None:
        """See that a reservation has so many credits for what is about to be sent.

        Raises:
            BudgetHold: it has not, and its budgets have no room for more.
        """
        ...

    def paid(self, session: Session, charge: Charge, now: datetime) -> None:
        """Take what was billed from its reservation, once a charge."""
        ...


class Charges:
    """What work at providers costs. `item_key` names the work: who does it again finds what it cost already.

    Every method is one transaction. Credits are the provider's own unit, exact, and never below zero. With a `purse`,
    what is settled is written down as spent in the same transaction.
    """

    def __init__(self, engine: Engine, *, clock: Clock = utc_now, purse: Purse | None = None) -> None:
        self._engine = engine
        self._clock = clock
        self._purse = purse

    def reserve(
        self,
        provider: str,
        item_key: str,
        credits: Decimal,
        *,
        tenant: str,
        available: Decimal | None,
        available_at: datetime | None = None,
        reservation: str | None = None,
    ) -> Charge:
        """Put credits aside for one piece of work, before it is sent.

        What is reserved or sent already is returned as it is, and so is what is settled: look at its state, for then
        it was paid for, and is not to be sent again. What was released is reserved anew.

        `available` is what the provider says is left, None if it has no end. With `available_at`, the time at which it
        said so, what was settled since counts as gone too. What has been open for more than an hour by then counts no
        more: it is in what the provider says, or came to nothing.

        Raises:
            QuotaExhausted: with what is reserved and sent, it would be more than is available. Nothing was reserved.
            BudgetHold: the budget's `reservation` has no room for it. Nothing was reserved.
        """
        _require_amount(credits)
        with writing(self._engine) as session:
            # Two that look how much is left must not both take the last of it.
            exclusively(session, "charges", provider)
            known = session.get(ChargeRow, (provider, item_key), with_for_update=True)
            if known is not None and known.state != "released":
                return _charge(known)
            if available is not None:
                at = self._clock() if available_at is None else min(available_at, self._clock())
                _require_room(session, provider, credits, available, available_at, since=at - _FORGOTTEN)
            if self._purse is not None and reservation is not None:
                self._purse.cover(session, provider, reservation, credits, self._clock())
            row = known or ChargeRow(provider=provider, item_key=item_key)
            row.tenant, row.reserved, row.settled, row.state = tenant, credits, None, "reserved"
            row.reservation = reservation
            row.request_id, row.created_at, row.sent_at, row.settled_at = None, self._clock(), None, None
            session.add(row)
            session.flush()
            return _charge(row)

    def sent(self, provider: str, item_key: str) -> bool:
        """Record that the work is about to be sent: from here on it may be billed.

        True for the one call that did: of several workers with the same work, only that one may send it.

        Raises:
            NotFound: nothing was reserved for it.
            Conflict: it is settled already, or was released: reserve first, and see what comes back.
        """
        with writing(self._engine) as session:
            going = (
                update(ChargeRow)
                .where(*_is(provider, item_key), ChargeRow.state == "reserved")
                .values(state="sent", sent_at=self._clock())
                .returning(ChargeRow.item_key)
            )
            if session.scalar(going, execution_options=_UNTOUCHED) is not None:
                return True
            state = _require(session, provider, item_key).state
        if state not in ("reserved", "sent"):
            raise Conflict(
                f"Work {item_key} at {provider} is {state}, and was to be sent.",
                remedy="Nothing was sent. Reserve credits for it first; what is settled is not sent again.",
            )
        return False

    def settle(self, provider: str, item_key: str, credits: Decimal, *, request_id: str | None) -> bool:
        """Record what the work cost; true for the one call that did. Later ones change nothing.

        What was released can be settled too: the provider billed it after all. `request_id` is the provider's.

        Raises:
            NotFound: nothing was ever reserved for it.
        """
        _require_amount(credits)
        with writing(self._engine) as session:
            settled = (
                update(ChargeRow)
                .where(*_is(provider, item_key), ChargeRow.state != "settled")
                .values(state="settled", settled=credits, request_id=request_id, settled_at=self._clock())
                .returning(ChargeRow.item_key)
            )
            if session.scalar(settled, execution_options=_UNTOUCHED) is not None:
                if self._purse is not None:
                    self._purse.paid(session, _charge(_require(session, provider, item_key)), self._clock())
                return True
            _require(session, provider, item_key)
            return False

    def release(self, provider: str, item_key: str, *, sent_at: datetime | EllipsisType | None = ...) -> None:
        """Record that nothing was billed. What is settled stays so; what is not known, or released, needs nothing.

        With `sent_at` only if that is when it was sent, None for not sent yet: others may have sent it meanwhile.
        """
        released = update(ChargeRow).where(*_is(provider, item_key), OPEN).values(state="released")
        if sent_at is not ...:
            released = released.where(ChargeRow.sent_at.is_(None) if sent_at is None else ChargeRow.sent_at == sent_at)
        with writing(self._engine) as session:
            session.execute(released, execution_options=_UNTOUCHED)

    def get(self, provider: str, item_key: str) -> Charge | None:
        """Return the charge for one piece of work, None if there never was one."""
        with reading(self._engine) as session:
            row = session.get(ChargeRow, (provider, item_key))
            return _charge(row) if row else None

    def of_request(self, provider: str, request_id: str) -> Charge | None:
        """Return the charge that one of the provider's requests was settled for, None if there is none.

        So that what is found in the provider's history is not taken for the outcome of other work.
        """
        settled = select(ChargeRow).where(ChargeRow.provider == provider, ChargeRow.request_id == request_id)
        with reading(self._engine) as session:
            row = session.scalar(settled.order_by(ChargeRow.settled_at).limit(1))
            return _charge(row) if row else None

    def open_credits(self, provider: str) -> Decimal:
        """Sum up what is reserved or sent, and not settled yet."""
        with reading(self._engine) as session:
            return sum(session.scalars(_open(provider)), _NONE)

    def spent(self, provider: str, since: datetime) -> Decimal:
        """Sum up what was settled at `since` and later."""
        with reading(self._engine) as session:
            return sum(session.scalars(_settled_since(provider, since)), _NONE)


def _require_amount(credits: Decimal) -> None:
    if not credits.is_finite() or credits < 0:
        raise ValueError(f"{credits} is no amount of credits")


def _require_room(
    session: Session,
    provider: str,
    credits: Decimal,
    available: Decimal,
    available_at: datetime | None,
    *,
    since: datetime,
) -> None:
    # In one statement, or what is settled between two would be counted in neither.
    is_open = _open(provider).where(ChargeRow.created_at > since)
    all_gone = union_all(is_open, *([] if available_at is None else [_settled_since(provider, available_at)]))
    taken = sum(session.scalars(all_gone), _NONE)
    if taken + credits > available:
        raise QuotaExhausted(
            f"{provider} has {available} credits left, of which {taken} are taken; this takes {credits}.",
            remedy="What is asked for waits until the provider's credits are renewed, or more are bought.",
        )


def _open(provider: str) -> Select[Any]:
    return select(ChargeRow.reserved).where(ChargeRow.provider == provider, OPEN)


def _settled_since(provider: str, since: datetime) -> Select[Any]:
    query = select(ChargeRow.settled).where(ChargeRow.provider == provider)
    return query.where(ChargeRow.settled_at >= since)


def _require(session: Session, provider: str, item_key: str) -> ChargeRow:
    row = session.get(ChargeRow, (provider, item_key))
    if row is None:
        raise NotFound(
            f"No credits were reserved at {provider} for work {item_key}.",
            remedy="Reserve credits before anything is sent.",
        )
    return row


def _is(provider: str, item_key: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return ChargeRow.provider == provider, ChargeRow.item_key == item_key


def _charge(row: ChargeRow) -> Charge:
    return Charge(
        provider=row.provider,
        item_key=row.item_key,
        tenant=row.tenant,
        reserved=row.reserved,
        settled=row.settled,
        state=cast(ChargeState, row.state),
        request_id=row.request_id,
        created_at=row.created_at,
        sent_at=row.sent_at,
        settled_at=row.settled_at,
        reservation=row.reservation,
    )
