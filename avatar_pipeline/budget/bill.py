"""Days of ours beside the same days of the bill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from avatar_pipeline.budget.cur import Bill
from avatar_pipeline.budget.drift import Drift, drift

JUDGED = 3
"""Days that are judged together: a bill may come to the end of several at once, and each is to be heard of."""


@dataclass(frozen=True, slots=True)
class ComparedDay:
    """One day: what we recorded for machines, and how far that is from the bill. None: the bill is not so far yet."""

    day: date
    ours: Decimal
    drift: Drift | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Days beside the bill, the latest last. `until`: up to when the bill tells of anything.

    `configured`: whether there is a bill at all. `problem`: why it could not be read.
    """

    configured: bool = False
    days: Sequence[ComparedDay] = ()
    until: datetime | None = None
    problem: str | None = None

    @property
    def drifts(self) -> list[tuple[date, Drift]]:
        """The latest days that could be compared, `JUDGED` at most, the latest last."""
        return [(one.day, one.drift) for one in self.days if one.drift is not None][-JUDGED:]

    @property
    def alarms(self) -> list[tuple[date, Drift]]:
        """Those of them that are too far from the bill."""
        return [(day, found) for day, found in self.drifts if found.alarm]


NO_BILL = Comparison()


def compare(bill: Bill, ours: Mapping[date, Decimal]) -> Comparison:
    """Put days of ours beside those of a bill; what a bill has not come to the end of is not compared."""
    days = [
        ComparedDay(day, amount, drift(amount, bill.days[day].amount) if bill.covers(day) else None)
        for day, amount in sorted(ours.items())
    ]
    return Comparison(configured=True, days=days, until=bill.until)
