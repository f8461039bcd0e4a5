"""What was seen of an attempt from outside of its worker: by whoever orchestrates it, or looks after its machine."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from avatar_pipeline.spot.types import Offering
from avatar_pipeline.stages.metering import attempt_key


def named(attempt: str) -> tuple[str, str, int] | None:
    """Return run, step and number of an attempt's key; None if it is none."""
    run_id, _, rest = attempt.partition("/")
    step_key, _, number = rest.rpartition("/")
    return (run_id, step_key, int(number)) if run_id and step_key and number.isdigit() else None


@dataclass(frozen=True, slots=True)
class ObservedAttempt:
    """An attempt of a step whose run is there. What is None, or empty, was not seen.

    Args:
        run_id, step_key, number, asset, partition: which attempt, of what.
        started_at: when its machine began to be paid for, if somebody saw the machine.
        ended_at, ending: when it ended, and how.
        provisional: that is its worker's word alone; whoever looks after its machine is about to say more.
        capacity_type, instance_type, zone: the machine, and how it is paid for.
        price, on_demand_price: US dollars an hour of it, by those who looked after it; the price list knows better.
        profile: the compute profile that it was placed by; None for a step that nobody placed.
        offerings: what it was placed on.
        run_finished_at: when its run ended; None while that is queued or at work.
        last_sign: the last sign of life of its run's workers.
    """

    run_id: str
    step_key: str
    number: int
    asset: str
    partition: str
    started_at: datetime | None = None
    ended_at: datetime | None = None
    ending: str | None = None
    provisional: bool = False
    capacity_type: str | None = None
    instance_type: str | None = None
    zone: str | None = None
    price: Decimal | None = None
    on_demand_price: Decimal | None = None
    profile: str | None = None
    offerings: tuple[Offering, ...] = ()
    run_finished_at: datetime | None = None
    last_sign: datetime | None = None

    @property
    def key(self) -> str:
        """What the ledger knows it by."""
        return attempt_key(self.run_id, self.step_key, self.number)

    @property
    def step(self) -> tuple[str, str]:
        """The step that it is an attempt of."""
        return self.run_id, self.step_key
