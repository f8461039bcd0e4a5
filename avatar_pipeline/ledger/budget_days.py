"""How budgets stood at a moment that has passed, and who was told of it: for reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Engine, select

from avatar_pipeline.budget.config import Limit, Plan
from avatar_pipeline.budget.periods import Period
from avatar_pipeline.budget.types import NONE, Standing
from avatar_pipeline.ledger import totals
from avatar_pipeline.ledger.budget_alerts import Alert
from avatar_pipeline.ledger.database import reading
from avatar_pipeline.ledger.spend_schema import BudgetAlertRow
from avatar_pipeline.ledger.standings import stand_all


def standings_at(engine: Engine, plan: Plan, at: Mapping[Period, datetime]) -> list[tuple[Limit, Standing]]:
    """Return how limits stood: those of each period at its time of `at`.

    What was spent is that of the period that held the time, up to its quarter of an hour. It is exact as long as the
    ledger has the quarters of an hour of that period, which is while a limit looks at them. What is reserved is not
    told: nobody keeps what was reserved when.
    """
    found = []
    with reading(engine) as session:
        connection = session.connection()
        for moment in sorted(set(at.values())):
            for limit, standing in stand_all(connection, plan, moment, until=moment):
                if at[limit.period] != moment:
                    continue
                sums = totals.sums(connection, totals.spans(standing.starts_at, moment), [limit.scope])
                key = (str(limit.scope), str(limit.unit))
                settled = sum((rows[key].settled for rows in sums.values() if key in rows), NONE)
                found.append((limit, replace(standing, settled=settled, reserved=NONE)))
    return found


def alerts_between(engine: Engine, start: datetime, end: datetime) -> list[Alert]:
    """Return the crossings of thresholds that somebody was told of from `start` up to `end`, in order of time.

    Those of single avatars' limits are left out, for they name these.
    """
    query = select(BudgetAlertRow).where(BudgetAlertRow.at >= start, BudgetAlertRow.at < end)
    query = query.where(~BudgetAlertRow.limit_id.contains("@avatar:"))
    query = query.order_by(BudgetAlertRow.at, BudgetAlertRow.limit_id, BudgetAlertRow.threshold)
    with reading(engine) as session:
        return [
            Alert(row.limit_id, row.period_start, row.kind, row.threshold, row.share, row.message, row.at)
            for row in session.scalars(query)
        ]
