"""Who pays: requests are admitted by their budgets before anything is spent on them, and let go of at their end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from sqlalchemy import exists, func, select, update
from sqlalchemy.orm import Session

from avatar_pipeline.budget.types import MICRO, Admission, Amounts, Demand, Payer, ProviderCharge
from avatar_pipeline.errors import BudgetHold
from avatar_pipeline.ledger.charges import Charge
from avatar_pipeline.ledger.database import chunks
from avatar_pipeline.ledger.messages import ClipRequest
from avatar_pipeline.ledger.provider_schema import OPEN, ChargeRow
from avatar_pipeline.ledger.schema import HELD_BY, AvatarRow, RequestRow
from avatar_pipeline.ledger.spend import SpendBook
from avatar_pipeline.ledger.steps import not_found

_UNTOUCHED = {"synchronize_session": False}
CLIP = "clip"
SPEECH = "synthesized_speech"


class ClipEstimate(Protocol):
    """What a clip may cost at most: who speaks (empty: nobody that charges), and how much is to be put aside."""

    def __call__(self, request: ClipRequest, voice: str) -> tuple[str, Amounts]:
        """Estimate a request, spoken by an avatar whose voice is `voice`."""


class Purse:
    """The budgets' side of requests and of provider calls; each method works inside its caller's transaction.

    `prices` are US dollars per 1,000 credits of each provider that charges.
    """

    def __init__(self, spend: SpendBook, estimate: ClipEstimate, prices: Mapping[str, Decimal]) -> None:
        self._spend = spend
        self._estimate = estimate
        self._prices = dict(prices)

    # Requests

    def admit(self, session: Session, request_id: str, now: datetime) -> Admission:
        """Put aside what a clip request may cost, under a key of this admission; held, nothing is put aside.

        Raises:
            NotFound: there is no such request.
        """
        row = session.execute(
            select(RequestRow.payload, RequestRow.admissions, AvatarRow.voice)
            .outerjoin(AvatarRow, AvatarRow.id == RequestRow.avatar_id)
            .where(RequestRow.id == request_id)
        ).one_or_none()
        if row is None:
            raise not_found(request_id)
        demand = self.demand(ClipRequest.model_validate(row.payload), row.voice or "", row.admissions)
        admission = self._spend.admit_in(session, demand, now)
        if admission.admitted:
            admitted = update(RequestRow).where(RequestRow.id == request_id)
            admitted = admitted.values(reservation=admission.key, admissions=row.admissions + 1)
            session.execute(admitted, execution_options=_UNTOUCHED)
        return admission

    def demand(self, request: ClipRequest, voice: str, admissions: int = 0) -> Demand:
        """Return what a clip request asks of its budgets."""
        provider, amounts = self._estimate(request, voice)
        return Demand(
            key=f"{CLIP}/{request.request_id}/{admissions}",
            purpose=CLIP,
            payer=Payer(request.tenant, request.avatar_id, request.request_id, provider),
            amounts=amounts,
            units=Decimal(max(1, len(request.text))),
            deadline=request.deadline,
            priority=request.priority,
        )

    def secure(self, session: Session, request_id: str, now: datetime) -> Admission | None:
        """See that a request that the caller has locked has a reservation; None if it has one already."""
        key = session.scalar(select(RequestRow.reservation).where(RequestRow.id == request_id))
        if key is not None and self._spend.is_open_in(session, key):
            return None
        return self.admit(session, request_id, now)

    def give_back(self, session: Session, keys: Sequence[str], now: datetime) -> None:
        """Let go of reservations whose requests were not claimed after all."""
        for key in keys:
            self._spend.release_in(session, key, now)

    def let_go(self, session: Session, request_ids: Sequence[str], now: datetime, *, finished: bool) -> None:
        """Let go of what was put aside for requests that are at their end, or are held.

        `finished`: it was made, and what it took is worth learning from.
        """
        for names in chunks(sorted(request_ids)):
            of_these = select(RequestRow.id, RequestRow.reservation).where(
                RequestRow.id.in_(names), RequestRow.reservation.is_not(None)
            )
            for row in session.execute(of_these.order_by(RequestRow.reservation)).all():
                if in_flight_at_providers(session, str(row.reservation)):
                    # It may be billed yet: the reconciler lets go of it when that is known.
                    continue
                self._spend.release_in(session, str(row.reservation), now, finished=finished)

    # Providers

    def cover(self, session: Session, provider: str, reservation: str, credits: Decimal, now: datetime) -> None:
        """See that a reservation has the credits for a call that is about to be made, beside those in flight.

        Raises:
            BudgetHold: it has not, and its budgets have no room for more.
        """
        if not self._spend.is_open_in(session, reservation):
            raise BudgetHold(
                "What was put aside for this speech was let go of: its request was held, ended or removed meanwhile.",
                remedy="It goes on by itself if it is still wanted.",
            )
        # What is in flight is read first: a call that is settled in between counts twice then, and not never.
        in_flight = session.scalars(
            select(ChargeRow.reserved).where(ChargeRow.provider == provider, OPEN, ChargeRow.reservation == reservation)
        )
        wanted = sum(in_flight, credits)
        missing = wanted - self._spend.remaining_in(session, reservation).amounts.characters
        if missing <= 0:
            return
        more = Amounts(provider=self._usd(provider, missing), characters=missing)
        admission = self._spend.top_up_in(session, reservation, more, now)
        if not admission.admitted:
            raise hold_of(admission)

    def paid(self, session: Session, charge: Charge, now: datetime) -> None:
        """Write down what a provider billed, once a charge; of one that nobody knows the end of, what was reserved."""
        credits = charge.reserved if charge.settled is None else charge.settled
        self._spend.charge_in(
            session,
            ProviderCharge(
                key=f"{charge.provider}/{charge.item_key}",
                provider=charge.provider,
                reservation=charge.reservation,
                payer=Payer(tenant=charge.tenant, provider=charge.provider),
                asset=SPEECH,
                usd=self._usd(charge.provider, credits),
                characters=credits,
                at=charge.settled_at or now,
            ),
            now,
        )

    def _usd(self, provider: str, credits: Decimal) -> Decimal:
        return (credits * self._prices.get(provider, Decimal(0)) / 1000).quantize(MICRO)


def in_flight_at_providers(session: Session, reservation: str) -> bool:
    """Return whether a call was sent that this reservation is to pay for, and nobody knows what became of it."""
    sent = exists().where(OPEN, ChargeRow.reservation == reservation, ChargeRow.state == "sent")
    return bool(session.scalar(select(sent)))


def hold_of(admission: Admission) -> BudgetHold:
    """Return the error of an admission that was refused."""
    return BudgetHold(
        admission.reason,
        remedy="It goes on by itself then, or as soon as the limit is raised: avatar budget set, or override.",
        limit_id=admission.binding.limit_id if admission.binding else "",
        retry_at=admission.retry_at,
    )


def count_held(session: Session) -> dict[str, int]:
    """Count the requests that are held, by the limit that holds them."""
    held = (
        select(RequestRow.held_by, func.count()).where(HELD_BY, RequestRow.state == "held").group_by(RequestRow.held_by)
    )
    return {str(limit): number for limit, number in session.execute(held)}
