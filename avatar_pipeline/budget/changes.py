"""Changes of a limit by people: what is set for good, and what is allowed on top for a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from avatar_pipeline.budget.config import Limit
from avatar_pipeline.budget.types import MICRO, NONE


class Action(StrEnum):
    """What a change does to a limit."""

    SET = "set"
    CLEAR = "clear"
    OVERRIDE = "override"
    REVOKE = "revoke"


@dataclass(frozen=True, slots=True)
class Change:
    """One change: who, when, why. `id` counts them: of two, the one with the higher is the later.

    A `set` takes the place of the file's limit by `amount`, until a `clear`. An `override` adds `amount` until
    `expires_at`, or until a `revoke` of its `override_id`.
    """

    id: int
    limit_id: str
    action: str
    amount: Decimal | None
    override_id: str | None
    expires_at: datetime | None
    who: str
    reason: str
    at: datetime


def in_force(limit: Limit, changes: Sequence[Change], now: datetime) -> Decimal:
    """Return the hard limit at `now`; changes of other limits may be among `changes`, in any order.

    What is set for the limit itself counts before what is set for the rule that it comes from (`tenants/day` of
    `tenants/day@tenant:acme`), and that before the file. Clearing one leaves the next. Overrides of both are added.

    What is set to 0 is 0: of the overrides, only those count that were made after it, in the knowledge of it.
    """
    base, since = limit.hard, 0
    for limit_id in dict.fromkeys((limit.id, limit.rule_id)):
        own = (change for change in changes if change.limit_id == limit_id)
        last = max((change for change in own if change.action in _LASTING), key=lambda change: change.id, default=None)
        if last is not None and last.action == Action.SET and last.amount is not None:
            base, since = last.amount, last.id if last.amount == 0 else 0
            break
    added = (change.amount or NONE for change in overrides(limit, changes, now) if change.id > since)
    return max(NONE, base + sum(added, NONE))


def raised_at(limit: Limit, changes: Sequence[Change], since: datetime) -> datetime | None:
    """Return when, after `since`, a person last raised a limit; None if nobody did."""
    mine = sorted((one for one in changes if one.limit_id in (limit.id, limit.rule_id)), key=lambda one: one.id)
    raised, before = None, limit.hard
    for number, change in enumerate(mine, start=1):
        after = in_force(limit, mine[:number], change.at)
        if change.at > since and after > before:
            raised = change.at
        before = after
    return raised


def overrides(limit: Limit, changes: Iterable[Change], now: datetime) -> list[Change]:
    """Return the overrides that raise a limit at `now`: neither expired nor revoked, oldest first.

    One without an end does not count: it would be a limit set for good that no `clear` takes back.
    """
    mine = [change for change in changes if change.limit_id in (limit.id, limit.rule_id)]
    revoked = {change.override_id for change in mine if change.action == Action.REVOKE}
    found = {
        change.override_id: change
        for change in sorted(mine, key=lambda change: change.id)
        if change.action == Action.OVERRIDE
        and change.override_id not in revoked
        and change.expires_at is not None
        and change.expires_at > now
    }
    return list(found.values())


def next_expiry(limit: Limit, changes: Iterable[Change], now: datetime) -> datetime | None:
    """Return when the next override of a limit ends by itself, and the limit falls; None without any."""
    return min((change.expires_at for change in overrides(limit, changes, now) if change.expires_at), default=None)


def carried(limit: Limit, hard: Decimal, settled: Decimal) -> Decimal:
    """Return what a period leaves to the next: what was not `settled` of `hard`, up to the share that may be carried.

    `hard` and `settled` are those of the period that is over, without what it had been left itself. Rounded down to a
    millionth.
    """
    most = limit.carry_over * hard
    return (max(NONE, min(hard - settled, most)) // MICRO) * MICRO


_LASTING = (Action.SET, Action.CLEAR)
