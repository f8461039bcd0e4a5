"""How budgets stand, with what a person asks of them: who set the limit, what is forecast, how many wait."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from avatar_pipeline.budget.changes import Action, Change, in_force, overrides
from avatar_pipeline.budget.config import Limit
from avatar_pipeline.budget.forecast import HISTORY, Forecast, forecast
from avatar_pipeline.budget.periods import Window
from avatar_pipeline.budget.types import NONE, Payer, Scope, Standing, Unit
from avatar_pipeline.ledger.database import reading
from avatar_pipeline.ledger.purse import count_held
from avatar_pipeline.stages.line import Line


@dataclass(frozen=True, slots=True)
class BudgetLine:
    """A limit, how it stands, and why.

    `set_by`: the change that is in force in the place of the file's value. `overrides`: those in force. `carried`: what
    the period before left to this one. `forecast` is None for the last 24 hours, which do not end. `held`: how many
    requests are held by it.
    """

    limit: Limit
    standing: Standing
    set_by: Change | None
    overrides: tuple[Change, ...]
    carried: Decimal
    forecast: Forecast | None
    held: int


def standings_of(line: Line, *, tenant: str | None = None, avatar: str | None = None) -> list[tuple[Limit, Standing]]:
    """Return how limits stand: all of them, or those that spending of a tenant, or on an avatar, counts against.

    The named ones come first, in the order of their scopes, then those for each one, the fullest first. All of the
    latter are those for whom anything is spent or reserved.
    """
    if tenant is None and avatar is None:
        found = line.spend.all_standings()
    else:
        found = line.spend.standings(Payer(tenant=tenant or "", avatar_id=avatar or ""))
    named = [each for each in found if each[0].id == each[0].rule_id]
    others = [each for each in found if each[0].id != each[0].rule_id]
    return named + sorted(others, key=lambda each: taken(each[1]), reverse=True)


def each_rules(line: Line) -> list[tuple[Limit, Decimal]]:
    """Return the rules for each one of a kind, and what is in force for those for whom nothing of their own is set."""
    changes = line.budgets.changes()
    return [(rule, in_force(rule, changes, line.clock())) for rule in line.plan.rules if rule.each]


def taken(standing: Standing) -> Decimal:
    """Return what is spent and reserved, over the limit; 1 where the limit is 0."""
    if standing.hard <= 0:
        return Decimal(1)
    return (standing.settled + standing.reserved) / standing.hard


def budget_lines(line: Line, standings: Sequence[tuple[Limit, Standing]]) -> list[BudgetLine]:
    """Return the lines of these limits; a forecast takes some milliseconds each."""
    changes = line.budgets.changes()
    with reading(line.ledger.engine) as session:
        held = count_held(session)
    now, outlook = line.clock(), _Outlook(line)
    found = []
    for limit, standing in standings:
        mine = [change for change in changes if change.limit_id in (limit.id, limit.rule_id)]
        found.append(
            BudgetLine(
                limit=limit,
                standing=standing,
                set_by=last_set(limit, mine),
                overrides=tuple(overrides(limit, mine, now)),
                carried=max(NONE, standing.hard - in_force(limit, mine, now)),
                forecast=outlook.of(standing, now),
                held=held.get(limit.id, 0),
            )
        )
    return found


def last_set(limit: Limit, changes: Sequence[Change]) -> Change | None:
    """Return the change whose amount takes the place of the file's (`in_force` says which does), None if none does."""
    for limit_id in dict.fromkeys((limit.id, limit.rule_id)):
        last = _last(change for change in changes if change.limit_id == limit_id)
        if last is not None and last.action == Action.SET:
            return last
    return None


class _Outlook:
    """Forecasts; what a scope spent by the hour is read once for all its periods."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._hourly: dict[tuple[Scope, Unit], dict[datetime, Decimal]] = {}

    def of(self, standing: Standing, now: datetime) -> Forecast | None:
        if standing.period == "rolling_24h" or standing.ends_at is None:
            return None
        key = (standing.scope, standing.unit)
        if key not in self._hourly:
            self._hourly[key] = self._line.spend.hourly(*key, now - HISTORY)
        window = Window(standing.starts_at, standing.ends_at)
        return forecast(self._hourly[key], window, now, spent=standing.settled)


def _last(changes: Iterable[Change]) -> Change | None:
    lasting = (change for change in changes if change.action in (Action.SET, Action.CLEAR))
    return max(lasting, key=lambda change: change.id, default=None)
