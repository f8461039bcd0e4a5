"""How a step is paid for: what is put aside for it, at which price it is metered, and who waits if it may not begin."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal

from avatar_pipeline.budget.gate import URGENT_PRIORITY
from avatar_pipeline.budget.types import MICRO, Amounts, AttemptStart, Demand, Payer, cost
from avatar_pipeline.errors import BudgetHold
from avatar_pipeline.ledger.messages import ClipRequest
from avatar_pipeline.spot.attempt import SpotAttempt
from avatar_pipeline.stages.admission import hold_all
from avatar_pipeline.stages.line import Line
from avatar_pipeline.stages.metering import MeteredGuard, attempt_key, metered, ticket_key
from avatar_pipeline.store.artifacts import Slot

BATCH_WORK = frozenset({"synthesized_speech", "rendered_clips"})
"""The steps of a batch that its requests pay for."""
BATCH_ASSETS = BATCH_WORK | {"clip_batch_manifest"}
DAY_ASSETS = frozenset({"daily_report", "cost_report"})
LOOK_SECONDS = Decimal(2)
"""What a step of a batch takes that finds nothing to do, or has yet to see its requests paid for."""
SPEAKS = "greeting_clip"
"""The step of an avatar that speaks a text, which a provider may charge for."""
SETTING = "AVATAR_WORKER_PRICE_PER_HOUR"


@dataclass(frozen=True, slots=True)
class Step:
    """An attempt of a step: in which run, the how many-th (from 0), of which asset, for which partition."""

    run_id: str
    step_key: str
    number: int
    asset: str
    partition: str

    @property
    def is_of_avatar(self) -> bool:
        """Whether its partition is an avatar."""
        return bool(self.partition) and self.asset not in BATCH_ASSETS | DAY_ASSETS


@contextmanager
def paid_step(line: Line, step: Step, told: SpotAttempt | None) -> Iterator[Line]:
    """Give the line with a meter that runs: the step is admitted before, and settled afterwards.

    `told` is what a spot executor told this process of its attempt; then the executor's record settles it.

    Raises:
        BudgetHold: a budget has no room for the step, or, at a boundary, for the rest of it.
    """
    attempt = _attempt(line, step, told)
    shares = batch_shares(line, step.partition) if step.asset in BATCH_WORK else {}
    with metered(
        line.spend,
        attempt,
        None if shares else _demand(line, step, attempt.key),
        clock=line.clock,
        settles=told is None,
        shares=shares,
        shown=None if told is None else told.price,
    ) as meter:
        yield replace(line, meter=meter, guard=MeteredGuard(line.guard, meter.check))


def hold_step(line: Line, step: Step, error: BudgetHold) -> int:
    """Hold the requests that a step was for and that are not finished; return how many."""
    if step.asset in BATCH_ASSETS:
        records = line.requests.list(batch_id=step.partition, states=("queued", "claimed", "running"))
    elif step.is_of_avatar:
        records = line.requests.list(kind="avatar", avatar_id=step.partition, states=("queued", "claimed", "running"))
    else:
        return 0
    return hold_all(line, [record.request.request_id for record in records], error)


def batch_shares(line: Line, batch_id: str) -> dict[str, int]:
    """Return who pays for a batch: the unfinished requests for which money is put aside, by their texts' lengths."""
    return {
        record.reservation: len(record.request.text)
        for record in line.requests.list(batch_id=batch_id, states=("claimed", "running"))
        if record.reservation is not None and isinstance(record.request, ClipRequest)
    }


def look_amounts(line: Line, asset: str) -> Amounts:
    """Return what is put aside for a step of a batch beside what is put aside for its requests."""
    return Amounts(compute=max(MICRO, cost(LOOK_SECONDS, line.estimates.price(asset))))


def tenant_of(line: Line, avatar_id: str) -> str:
    """Return on whose behalf an avatar is built: the tenant of the latest request for it."""
    asked = line.requests.list(kind="avatar", avatar_id=avatar_id, limit=1, newest_first=True)
    return asked[0].request.tenant if asked else "default"


def _demand(line: Line, step: Step, attempt: str) -> Demand:
    if step.asset in BATCH_ASSETS:
        return Demand(
            ticket_key(attempt), step.asset, Payer(), look_amounts(line, step.asset), priority=URGENT_PRIORITY
        )
    payer, speech = Payer(), Amounts()
    units = Decimal(1)
    if step.is_of_avatar:
        payer = Payer(tenant_of(line, step.partition), step.partition)
        units = _upload_seconds(line, step)
        if step.asset == SPEAKS and line.ledger.has_avatar(step.partition):
            avatar = line.ledger.avatar(step.partition)
            provider, speech = line.estimates.speech(avatar.greeting, avatar.voice)
            payer = replace(payer, provider=provider)
    amounts = line.estimates.work(step.asset, units, speech)
    # Whether work waits for off-peak hours is decided once, where it is begun: a step goes on with what has begun.
    return Demand(ticket_key(attempt), step.asset, payer, amounts, units, priority=URGENT_PRIORITY)


def _upload_seconds(line: Line, step: Step) -> Decimal:
    source = None if step.asset == "source_video" else line.store.current(Slot.avatar(step.partition, "source_video"))
    seconds = Decimal(str(source.facts.get("seconds", 1))) if source is not None else Decimal(1)
    return max(Decimal(1), seconds.quantize(MICRO))


def _attempt(line: Line, step: Step, told: SpotAttempt | None) -> AttemptStart:
    number = step.number if told is None else told.number
    # A step that runs again under a number that has ended (it was taken for lost, or Dagster runs it anew) is another.
    while (known := line.spend.attempt(attempt_key(step.run_id, step.step_key, number))) is not None and known.ended_at:
        number += 1
    price = line.settings.worker_price_per_hour.quantize(MICRO)
    start = AttemptStart(
        key=attempt_key(step.run_id, step.step_key, number),
        run_id=step.run_id,
        step_key=step.step_key,
        number=number,
        asset=step.asset,
        partition=step.partition,
        started_at=line.clock(),
        price_per_hour=price,
        price_source=SETTING,
        on_demand_price=price,
    )
    if told is None:
        return start
    return replace(
        start,
        price_per_hour=price if told.price_cap is None else told.price_cap.quantize(MICRO),
        price_source="placement",
        on_demand_price=None if told.on_demand_price is None else told.on_demand_price.quantize(MICRO),
        capacity_type="" if told.capacity is None else str(told.capacity),
        profile=told.profile or "",
    )
