"""Whether work may begin: admitted, admitted under conditions, or held. The ledger makes it one atomic step.

A limit has room when what is settled in its period, what is reserved by all open work, and what is asked are together
not above it. All limits that the work counts against must have room, or nothing is reserved.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from avatar_pipeline.budget.config import Limit
from avatar_pipeline.budget.figures import PER, figure, moment, percent, with_unit
from avatar_pipeline.budget.off_peak import all_open
from avatar_pipeline.budget.types import NONE, Admission, Decision, Degraded, Demand, Standing, lines

SOON = timedelta(minutes=1)
"""When to ask again where only reservations are in the way: work ends at any time, and gives back what it did not need.
"""
URGENT_PRIORITY = 5
"""Requests of this priority (of 0 to 9) or a higher one do not wait for off-peak hours."""


def decide(
    demand: Demand, standings: Sequence[tuple[Limit, Standing]], now: datetime, *, timezone: str = "UTC"
) -> Admission:
    """Return the gate's answer to a demand; `standings` are all limits that its payer counts against.

    A limit that nothing is asked of has no say. Of several that have no room, the one that lacks most, measured by what
    is asked of it, is named. `timezone` is the plan's: off-peak hours are in it, and times in the reason.

    Raises:
        ValueError: an amount is below 0, or no number. That would make room rather than take it.
    """
    wanted = lines(demand.payer, demand.amounts)
    if any(not amount.is_finite() or amount < 0 for amount in wanted.values()):
        raise ValueError(f"{demand.key}: {demand.amounts} is no amount to reserve")
    asked = [
        (limit, standing, amount)
        for limit, standing in standings
        if (amount := wanted.get((standing.scope, standing.unit), NONE)) > 0
    ]
    full = [(standing, amount) for _, standing, amount in asked if standing.left < amount]
    if full:
        standing, amount = min(full, key=lambda each: (each[0].left / each[1], each[0].limit_id))
        return _hold(demand, standing, amount, now, timezone)
    return _degrade(demand, asked, now, timezone) or Admission(Decision.ADMIT, demand.key, _room(asked))


def _hold(demand: Demand, standing: Standing, amount: Decimal, now: datetime, timezone: str) -> Admission:
    retry_at = _retry_at(standing, amount, now)
    then = f"it is tried again at {moment(retry_at, timezone)}" if retry_at else "it waits until the limit is raised"
    if retry_at and standing.settled + amount <= standing.hard:
        then += ", or as soon as reservations are settled"
    return Admission(
        Decision.HOLD,
        demand.key,
        f"{_figures(standing, amount)}; {then}.",
        binding=standing,
        asked=amount,
        retry_at=retry_at,
    )


def _retry_at(standing: Standing, amount: Decimal, now: datetime) -> datetime | None:
    if amount > standing.hard:
        return None
    if standing.settled + amount <= standing.hard or standing.ends_at is None:
        return now + SOON
    return max(standing.ends_at, now + SOON)


def _degrade(
    demand: Demand, asked: Sequence[tuple[Limit, Standing, Decimal]], now: datetime, timezone: str
) -> Admission | None:
    strict = [
        (limit.degrade, standing, amount)
        for limit, standing, amount in asked
        if limit.degrade is not None and standing.share >= limit.degrade.at
    ]
    if not strict:
        return None
    hours = [rule.off_peak for rule, _, _ in strict if rule.off_peak is not None]
    opens = all_open(hours, timezone, now) if hours else now
    urgent = demand.priority >= URGENT_PRIORITY or (demand.deadline is not None and demand.deadline <= opens)
    degraded = Degraded(
        spot_only=any(rule.spot_only for rule, _, _ in strict),
        priority=min(rule.priority for rule, _, _ in strict),
        not_before=opens if opens > now and not urgent else None,
    )
    if degraded == Degraded():
        return None
    waits = degraded.not_before is not None
    _, standing, amount = max(
        (each for each in strict if each[0].off_peak is not None or not waits),
        key=lambda each: (each[1].share, each[1].limit_id),
    )
    return Admission(
        Decision.HOLD if waits else Decision.DEGRADE,
        demand.key,
        f"{standing.limit_id}: {percent(standing.share)} of {with_unit(standing.hard, standing.unit)} "
        f"{PER[standing.period]} spent, this takes up to {figure(amount, standing.unit)}; "
        f"{_conditions(degraded, timezone)}.",
        degraded=degraded,
        binding=standing if waits else None,
        asked=amount if waits else NONE,
        retry_at=degraded.not_before,
    )


def _conditions(degraded: Degraded, timezone: str) -> str:
    if degraded.not_before is not None:
        return f"what can wait begins off-peak: it is tried again at {moment(degraded.not_before, timezone)}"
    changes = [
        "it runs on spot machines only" if degraded.spot_only else "",
        f"its priority is {-degraded.priority} lower" if degraded.priority else "",
    ]
    return " and ".join(change for change in changes if change)


def _room(asked: Sequence[tuple[Limit, Standing, Decimal]]) -> str:
    if not asked:
        return "No budget limits this."
    _, standing, amount = min(asked, key=lambda each: (each[1].left / each[2], each[1].limit_id))
    return f"{_figures(standing, amount)}."


def _figures(standing: Standing, amount: Decimal) -> str:
    unit = standing.unit
    return (
        f"{standing.limit_id}: {with_unit(standing.hard, unit)} {PER[standing.period]}, "
        f"{figure(standing.settled, unit)} spent, {figure(standing.reserved, unit)} reserved, "
        f"this takes up to {figure(amount, unit)}"
    )
