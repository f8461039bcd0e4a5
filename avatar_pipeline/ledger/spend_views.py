"""What the ledger of spend tells of a reservation and of an attempt."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, cast

from sqlalchemy import RowMapping

from avatar_pipeline.budget.types import NONE, Amounts, Degraded, Payer

ReservationState = Literal["reserved", "committed", "settled", "released"]
OPEN_STATES = ("reserved", "committed")


@dataclass(frozen=True, slots=True)
class ReservationView:
    """A reservation as it is. `left` is what of it is still put aside: nothing once it is closed."""

    key: str
    state: ReservationState
    purpose: str
    payer: Payer
    units: Decimal
    reserved: Amounts
    used: Amounts
    seconds: Decimal
    attempts: int
    open_attempts: int
    degraded: Degraded | None
    closing: bool
    finished: bool
    created_at: datetime
    expires_at: datetime
    closed_at: datetime | None

    @property
    def is_open(self) -> bool:
        """Whether money is put aside by it."""
        return self.state in OPEN_STATES

    @property
    def left(self) -> Amounts:
        """What may yet be spent from it."""
        return left_of(self.reserved, self.used) if self.is_open else Amounts()


@dataclass(frozen=True, slots=True)
class AttemptView:
    """An attempt as it is. `shares`: who pays for it now."""

    key: str
    run_id: str
    step_key: str
    number: int
    asset: str
    partition: str
    profile: str
    capacity_type: str
    instance_type: str | None
    zone: str | None
    price_per_hour: Decimal
    on_demand_price: Decimal | None
    price_source: str
    shares: dict[str, int]
    started_at: datetime
    metered_until: datetime
    ended_at: datetime | None
    ending: str | None
    seconds: Decimal
    cost: Decimal


def left_of(reserved: Amounts, used: Amounts) -> Amounts:
    """Return what is left, of each part by itself: characters that were not spoken pay for no machine."""
    return Amounts(
        max(reserved.compute - used.compute, NONE),
        max(reserved.provider - used.provider, NONE),
        max(reserved.characters - used.characters, NONE),
    )


def reservation_view(row: RowMapping) -> ReservationView:
    """Return a row of reservations."""
    return ReservationView(
        key=row["key"],
        state=cast(ReservationState, row["state"]),
        purpose=row["purpose"],
        payer=Payer(row["tenant"], row["avatar_id"], row["request_id"], row["provider"]),
        units=row["units"],
        reserved=Amounts(row["compute_reserved"], row["provider_reserved"], row["characters_reserved"]),
        used=Amounts(row["compute_used"], row["provider_used"], row["characters_used"]),
        seconds=row["seconds"],
        attempts=row["attempts"],
        open_attempts=row["open_attempts"],
        degraded=degraded_of(row["degraded"]),
        closing=row["closing"],
        finished=row["finished"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        closed_at=row["closed_at"],
    )


def attempt_view(row: RowMapping) -> AttemptView:
    """Return a row of attempts."""
    known: dict[str, Any] = dict(row)
    known["shares"] = {key: weight for key, weight in row["shares"].items() if key and weight > 0}
    return AttemptView(**known)


def written(degraded: Degraded | None) -> dict[str, Any] | None:
    """Return how degraded work is written down in a reservation."""
    if degraded is None:
        return None
    not_before = degraded.not_before.isoformat() if degraded.not_before else None
    return {"spot_only": degraded.spot_only, "priority": degraded.priority, "not_before": not_before}


def degraded_of(kept: dict[str, Any] | None) -> Degraded | None:
    """Return what `written` wrote down."""
    if kept is None:
        return None
    not_before = datetime.fromisoformat(kept["not_before"]) if kept["not_before"] else None
    return Degraded(kept["spot_only"], kept["priority"], not_before)
