"""Periods of a budget as spans of time: calendar days, weeks and months in a time zone, and the last 24 hours.

Spending is kept by quarters of an hour (`slot_of`), and by UTC days. Every zone in use is a whole number of quarters
away from UTC, so its days begin on one. (Offsets of before 1972 that are not, such as Liberia's of 44.5 minutes, do not
matter to money that is spent now; a period begins with the quarter that its first moment lies in.)
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from zoneinfo import ZoneInfo

SLOT = timedelta(minutes=15)
DAY = timedelta(days=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MICROSECONDS = Decimal(1_000_000)


class Period(StrEnum):
    """How long a limit holds before it begins anew."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    ROLLING = "rolling_24h"


@dataclass(frozen=True, slots=True)
class Window:
    """From `start` up to, not including, `end`, in UTC. `end` is None for the last 24 hours: they never end."""

    start: datetime
    end: datetime | None


@dataclass(frozen=True, slots=True)
class Cover:
    """Spans of time that make up a longer one: `days` of whole UTC days, `quarters` of whole quarters of an hour."""

    quarters: tuple[tuple[datetime, datetime], ...]
    days: tuple[datetime, datetime] | None


def window(period: Period, timezone: str, now: datetime) -> Window:
    """Return the window of `period` that holds `now`. Weeks begin on Monday.

    A calendar period begins with the first moment of its first day in `timezone`, whatever the clocks do: a day has 23
    or 25 hours when they change, and one that has no midnight begins when they jump over it. The window of the last 24
    hours begins with the quarter of an hour that lies 24 hours back, and so counts up to a quarter too much, never too
    little.
    """
    if period is Period.ROLLING:
        return Window(slot_of(now - DAY), None)
    zone = ZoneInfo(timezone)
    first = _first_day(period, now.astimezone(zone).date())
    # Two turns suffice: a clock that goes back over midnight shows yesterday's date after today has begun.
    while (end := _begins(following := _next(period, first), zone)) <= now:
        first = following
    return Window(_begins(first, zone), end)


def before(period: Period, timezone: str, current: Window) -> Window:
    """Return the window before `current`: the calendar period that it follows, or 24 hours up to its start."""
    if period is Period.ROLLING:
        return Window(current.start - DAY, current.start)
    return window(period, timezone, current.start - _MICROSECOND)


def slot_of(moment: datetime) -> datetime:
    """Return the start of the quarter of an hour, in UTC, that holds `moment`."""
    return moment.astimezone(UTC) - (moment - _EPOCH) % SLOT


def day_of(moment: datetime) -> datetime:
    """Return the start of the UTC day that holds `moment`."""
    return moment.astimezone(UTC) - (moment - _EPOCH) % DAY


def leaves(slot: datetime) -> datetime:
    """Return when the last 24 hours no longer hold what was spent in the quarter of an hour that begins at `slot`."""
    return slot + DAY + SLOT


def slots(start: datetime, end: datetime) -> list[tuple[datetime, Decimal]]:
    """Return the quarters of an hour that [start, end) touches, and its seconds in each: in order, never 0.

    The seconds are exact to a microsecond and sum to the whole. Nothing where `end` is not after `start`.
    """
    found: list[tuple[datetime, Decimal]] = []
    slot = slot_of(start)
    while slot < end:
        span = min(end, slot + SLOT) - max(start, slot)
        if span > timedelta(0):
            found.append((slot, seconds_of(span)))
        slot += SLOT
    return found


def seconds_of(span: timedelta) -> Decimal:
    """Return the seconds of a span, exactly."""
    return Decimal(span // _MICROSECOND) / _MICROSECONDS


def cover(start: datetime, end: datetime) -> Cover:
    """Return whole UTC days, and quarters of an hour before and after them, that make up [start, end).

    A start or end within a quarter counts the whole quarter. A month is at most 31 days and twice 95 quarters.
    """
    start = slot_of(start)
    if end > (floor := slot_of(end)):
        end = floor + SLOT
    first, last = day_of(start + DAY - _MICROSECOND), day_of(end)
    if first >= last:
        return Cover(_spans((start, end)), None)
    return Cover(_spans((start, first), (last, end)), (first, last))


def _spans(*spans: tuple[datetime, datetime]) -> tuple[tuple[datetime, datetime], ...]:
    return tuple(span for span in spans if span[0] < span[1])


def _first_day(period: Period, day: date) -> date:
    if period is Period.WEEK:
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if period is Period.MONTH else day


def _next(period: Period, first: date) -> date:
    if period is Period.MONTH:
        return (first + timedelta(days=31)).replace(day=1)
    return first + timedelta(days=7 if period is Period.WEEK else 1)


def _begins(day: date, zone: ZoneInfo) -> datetime:
    # Where midnight comes twice, fold=0 is the first; where there is none, it is the moment when the clocks jump.
    return slot_of(datetime.combine(day, time.min, zone))
