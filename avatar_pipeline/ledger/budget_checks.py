"""What a change of a budget must be: of a limit that there is, an amount, an end, signed and with a reason."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from avatar_pipeline.budget.config import Limit, Plan
from avatar_pipeline.budget.types import MICRO, Scope, ScopeKind
from avatar_pipeline.errors import InvalidId, InvalidInput, NotFound
from avatar_pipeline.ids import require_slug

LONGEST_OVERRIDE = timedelta(days=90)
"""What is to hold for longer is set, and so shown as what it is."""
HIGHEST = Decimal(10**12)
"""As in the file of budgets."""
_LONGEST_REASON = 1000
_LONGEST_WHO = 200
_MOST_NAMED = 20


def require_limit(plan: Plan, limit_id: str) -> Limit:
    """Return the limit, or the rule for each, of this id.

    Raises:
        NotFound: there is none; names those there are.
    """
    known = {rule.id: rule for rule in plan.rules}
    if limit_id in known:
        return known[limit_id]
    scope = _scope_of(limit_id)
    own = () if scope is None else plan.limits_of(scope)
    for limit in own:
        if limit.id == limit_id:
            return limit
    if not known:
        raise NotFound(
            f"There is no budget {limit_id[:80]!r}: there are none at all.",
            remedy="Write a file of budgets and name it in AVATAR_BUDGETS; see docs/budget.md.",
        )
    raise NotFound(f"There is no budget {limit_id[:80]!r}.", remedy=f"There are: {_named(own or plan.rules)}.")


def _scope_of(limit_id: str) -> Scope | None:
    """Return the scope in the id of one of each, `tenants/day@tenant:acme`."""
    kind, _, name = limit_id.partition("@")[2].partition(":")
    if kind not in set(ScopeKind):
        return None
    try:
        return Scope(ScopeKind(kind), require_slug(name))
    except InvalidId:
        return None


def _named(limits: Sequence[Limit]) -> str:
    shown = [f"{one.id} (or {one.id}@{one.scope.kind}:NAME)" if one.each else one.id for one in limits[:_MOST_NAMED]]
    more = len(limits) - len(shown)
    return ", ".join(shown) + (f", and {more} more: avatar budget show" if more else "")


def require_amount(amount: Decimal, what: str) -> Decimal:
    """Return the amount, to a millionth.

    Raises:
        InvalidInput: it is below 0, too high, no number, or more exact than a millionth.
    """
    remedy = "Give it as digits, such as 250 or 0.5."
    if not amount.is_finite() or not 0 <= amount <= HIGHEST:
        raise InvalidInput(f"{what} is 0 to {HIGHEST:,}, not {str(amount)[:40]}.", remedy=remedy)
    if amount != (exact := amount.quantize(MICRO)):
        raise InvalidInput(f"{what} has at most 6 places; {str(amount)[:40]} has more.", remedy=remedy)
    return exact


def require_addition(amount: Decimal) -> Decimal:
    """Return what an override adds, to a millionth.

    Raises:
        InvalidInput: it is no amount, or nothing.
    """
    amount = require_amount(amount, "An override")
    if amount == 0:
        raise InvalidInput("An override adds more than 0.", remedy="Say how much may be spent on top of the limit.")
    return amount


def require_end(until: datetime, now: datetime) -> None:
    """Check when an override ends.

    Raises:
        InvalidInput: it is over already, or longer than 90 days.
    """
    if until.tzinfo is None:
        raise ValueError("an override was to end at a naive time")
    if now < until <= now + LONGEST_OVERRIDE:
        return
    wrong = "is over" if until <= now else f"is more than {LONGEST_OVERRIDE.days} days away"
    raise InvalidInput(
        f"The override's end, {until.astimezone(UTC):%Y-%m-%d %H:%M} UTC, {wrong}.",
        remedy=f"Give a time within {LONGEST_OVERRIDE.days} days; what is to hold for longer is set.",
    )


def require_signature(who: str, reason: str) -> tuple[str, str]:
    """Return who changes something and why, without spaces around.

    Raises:
        InvalidInput: one of them is missing, or too long.
    """
    who, reason = who.strip(), reason.strip()
    if not 0 < len(who) <= _LONGEST_WHO:
        raise InvalidInput(f"Who changes a budget has a name of 1 to {_LONGEST_WHO} characters.", remedy="Use --who.")
    if not 0 < len(reason) <= _LONGEST_REASON:
        raise InvalidInput(
            f"A change of a budget has a reason of 1 to {_LONGEST_REASON:,} characters.",
            remedy="Say why, for those who look at it later.",
        )
    for text in (who, reason):
        if not text.replace("\n", " ").isprintable():
            raise InvalidInput(
                "A name or a reason holds characters that cannot be shown.", remedy="Use letters, digits, signs."
            )
    return who, reason
