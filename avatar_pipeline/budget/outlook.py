"""How budgets stand and where they are going, the ones to look at first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from avatar_pipeline.budget.config import Limit
from avatar_pipeline.budget.forecast import HISTORY, Forecast, forecast
from avatar_pipeline.budget.periods import DAY, Period, Window, window
from avatar_pipeline.budget.types import Scope, Standing, Unit

MOST = 100
"""Of more limits than this only the ones of which most is spent are looked at further."""

CLOSE = Decimal("0.8")
"""A limit of which so much is spent is to be looked at."""
_JUST = timedelta(microseconds=1)

Hourly = Callable[[Scope, Unit, datetime], Mapping[datetime, Decimal]]
"""What was spent in a scope and unit in each hour since a time."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """A limit, how much of it was spent at a moment, and how much will be when its period ends."""

    limit: Limit
    standing: Standing
    forecast: Forecast

    @property
    def expected_share(self) -> Decimal:
        """What is expected over the limit; 1 where that is 0."""
        return self.forecast.expected / self.standing.hard if self.standing.hard > 0 else Decimal(1)

    @property
    def is_close(self) -> bool:
        """Whether it is to be looked at: almost spent, or expected to be."""
        return self.standing.share >= CLOSE or (self.forecast.hours_seen > 0 and self.expected_share >= 1)

    @property
    def worst(self) -> Decimal:
        """The greater one of what is spent and what is expected, over the limit."""
        return max(self.standing.share, self.expected_share)


def moments(timezone: str, day: datetime, now: datetime) -> dict[Period, datetime]:
    """Return when to look at limits of each period, for a report on the UTC day that begins at `day`.

    That is the end of the day, or now if it comes first. But where a period in `timezone` turns within the UTC day it
    is its end: a budget that has just begun anew says nothing of the day. And a limit of a day is looked at up to the
    end of that zone's day, which may come after UTC's.
    """
    ends = day + DAY
    found = {}
    for period in Period:
        turns = window(period, timezone, day + DAY / 2).end
        last = ends if turns is None else turns if period is Period.DAY else min(ends, turns)
        found[period] = min(now, last - _JUST)
    return found


def outlooks(
    standings: Sequence[tuple[Limit, Standing]], hourly: Hourly, at: Mapping[Period, datetime]
) -> list[Outlook]:
    """Return the outlook of limits as they stood at `at`, the worst first; of the `MOST` that are spent most of."""
    known: dict[tuple[Scope, Unit], Mapping[datetime, Decimal]] = {}
    found = []
    for limit, standing in sorted(standings, key=lambda each: (-each[1].share, each[0].id))[:MOST]:
        key = (limit.scope, limit.unit)
        if key not in known:
            known[key] = hourly(*key, min(at.values()) - HISTORY)
        span = Window(standing.starts_at, None if limit.period is Period.ROLLING else standing.ends_at)
        expected = forecast(known[key], span, at[limit.period], spent=standing.settled)
        found.append(Outlook(limit, standing, expected))
    return sorted(found, key=lambda each: (not each.is_close, -each.worst, each.limit.id))
