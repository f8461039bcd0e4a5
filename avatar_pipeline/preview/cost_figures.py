"""What a day's cost report is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from avatar_pipeline.budget.bill import Comparison
from avatar_pipeline.budget.outlook import Outlook
from avatar_pipeline.ledger.budget_alerts import Alert
from avatar_pipeline.ledger.costs import DayCosts


@dataclass(frozen=True, slots=True)
class Minutes:
    """Finished clips of which it was looked up how long they are: `known` of `clips`, their seconds and their cost."""

    clips: int
    known: int
    seconds: Decimal
    cost: Decimal

    @property
    def per_minute(self) -> Decimal | None:
        """US dollars for a finished minute; None where nothing was finished."""
        return self.cost * 60 / self.seconds if self.seconds > 0 else None


@dataclass(frozen=True, slots=True)
class CostFigures:
    """One day's costs, and what stands beside them.

    `until`: a day that is not over is told of up to then; None: it is over. `before` is what was spent on each of the
    days before, the latest last. `outlooks` is how budgets stood at the end of the day, None where nobody knows any
    more; `limits`: how many there are, of which `outlooks` holds those to look at. `timezone` is the one that
    budgets are reckoned in.
    """

    costs: DayCosts
    until: datetime | None
    before: Mapping[date, Decimal]
    minutes: Minutes
    comparison: Comparison
    outlooks: Sequence[Outlook] | None
    limits: int
    alerts: Sequence[Alert]
    timezone: str
