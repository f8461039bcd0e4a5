"""What will be spent by the end of a period: a level that follows the last days, by the hour of the week.

With x(t) spent in hour t, f(h) the profile of the hour of the week h (UTC, 168 of them; 1 on average), and weights w
that halve every 48 hours:

    profile    f(h) = (spent in hours of h + 2·m) / ((hours of h + 2)·m)     m: the mean of all hours
    level      L(t) = Σ w·x / Σ w·f                                         exponential smoothing of x/f
    residual   e(t) = x(t) - L(t-1)·f(h(t)),   σ² = Σ w·e² / Σ w
    expected   spent + L·F,   F: the sum of f over the H hours that are left, the present one in part
    interval   expected ± 1.2816·σ·√(H·(1 + α(H-1) + α²(H-1)(2H-1)/6))      80 %;   α = 1 - 2^(-1/48)

The two hours of m shrink the profile of a short history to a flat one. The profile is multiplicative as in P. R.
Winters, "Forecasting sales by exponentially weighted moving averages", Management Science 6 (1960); the level's weights
are C. C. Holt's (1957). The variance of a sum of H steps ahead is the one of simple exponential smoothing (R. J.
Hyndman et al., "Forecasting with Exponential Smoothing", Springer 2008, lead-time demand of the local level model).

Only alerts are made of it: nothing is refused because of a forecast.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from avatar_pipeline.budget.config import Limit
from avatar_pipeline.budget.periods import Window, seconds_of
from avatar_pipeline.budget.types import MICRO, NONE, Standing

HOUR = timedelta(hours=1)
HISTORY = timedelta(weeks=8)
"""What is older says nothing any more."""
HOURS_OF_WEEK = 168
ENOUGH_HOURS = 24
"""Hours of history before a forecast is told to anybody: of fewer, half a day's work looks like a month's."""
_KEPT = Decimal(2) ** (Decimal(-1) / 48)
_ALPHA = 1 - _KEPT
_SHRINK = 2
_Z80 = Decimal("1.281551565545")  # the 90th percentile of the normal distribution
_MONDAY = datetime(1970, 1, 5, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Forecast:
    """What will have been spent when the window ends: expected, and 80 % sure to be from `low` to `high`.

    Never below what is spent already. `hours_seen`: how many hours of history it was made of; 0: it knows nothing.
    """

    expected: Decimal
    low: Decimal
    high: Decimal
    hours_seen: int


@dataclass(frozen=True, slots=True)
class Crossing:
    """A share of a limit that was reached: `actual` by what is spent, `forecast` by what will be. `share`: how far."""

    kind: str
    threshold: Decimal
    share: Decimal


def forecast(hourly: Mapping[datetime, Decimal], window: Window, now: datetime, *, spent: Decimal) -> Forecast:
    """Return what will have been spent at the end of `window`, of which `spent` is already.

    `hourly` is what was spent in each hour (its start, UTC); hours without a key, after the first with one, spent
    nothing. The present hour is not history yet, and later ones never are. The last 24 hours have no end, and so no
    forecast but what is spent.
    """
    this_hour = _hour_of(now)
    first = min((hour for hour in hourly if this_hour - HISTORY <= hour < this_hour), default=None)
    if first is None:
        return Forecast(spent, spent, spent, 0)
    count = (this_hour - first) // HOUR
    history = [hourly.get(first + step * HOUR, NONE) for step in range(count)]
    if window.end is None or window.end <= now:
        return Forecast(spent, spent, spent, count)
    offset = _of_week(first)
    profile = _profile(history, offset)
    level, variance = _smoothed(history, offset, profile)
    factors, hours = NONE, NONE
    for hour, share in _left(now, window.end):
        factors += share * profile[_of_week(hour)]
        hours += share
    further = max(NONE, hours - 1)
    sum_variance = variance * hours * (1 + _ALPHA * further + _ALPHA**2 * further * (2 * hours - 1) / 6)
    margin = _Z80 * max(NONE, sum_variance).sqrt()
    more = level * factors
    return Forecast(
        _micro(spent + more), _micro(spent + max(NONE, more - margin)), _micro(spent + more + margin), count
    )


def crossed(limit: Limit, standing: Standing, expected: Forecast | None = None) -> list[Crossing]:
    """Return which shares of a limit are reached, lowest first, then that of the forecast.

    The forecast counts once it rests on a day of history, and as long as what is spent has not got there itself. A
    limit of 0 is crossed by anything, but not by nothing.
    """
    if standing.settled <= 0 and (expected is None or standing.hard <= 0):
        return []
    found = [
        Crossing("actual", threshold, standing.share)
        for threshold in sorted(limit.thresholds)
        if standing.settled > 0 and standing.settled >= threshold * standing.hard
    ]
    if expected is None or limit.forecast is None or expected.hours_seen < ENOUGH_HOURS or standing.hard <= 0:
        return found
    if standing.settled < limit.forecast * standing.hard <= expected.expected:
        found.append(Crossing("forecast", limit.forecast, expected.expected / standing.hard))
    return found


def _profile(history: list[Decimal], offset: int) -> list[Decimal]:
    sums, counts = [NONE] * HOURS_OF_WEEK, [0] * HOURS_OF_WEEK
    for step, amount in enumerate(history):
        hour = (offset + step) % HOURS_OF_WEEK
        sums[hour] += amount
        counts[hour] += 1
    mean = sum(sums, NONE) / len(history)
    if mean <= 0:
        return [Decimal(1)] * HOURS_OF_WEEK
    return [(total + _SHRINK * mean) / ((count + _SHRINK) * mean) for total, count in zip(sums, counts, strict=True)]


def _smoothed(history: list[Decimal], offset: int, profile: list[Decimal]) -> tuple[Decimal, Decimal]:
    """Return the level after the last hour, and the variance of what it missed by."""
    amounts = factors = squares = weights = level = NONE
    for step, amount in enumerate(history):
        factor = profile[(offset + step) % HOURS_OF_WEEK]
        squares = squares * _KEPT + (amount - level * factor) ** 2
        weights = weights * _KEPT + 1
        amounts = amounts * _KEPT + amount
        factors = factors * _KEPT + factor
        level = amounts / factors
    return level, squares / weights


def _left(now: datetime, end: datetime) -> Iterator[tuple[datetime, Decimal]]:
    hour = _hour_of(now)
    while hour < end:
        yield hour, seconds_of(min(end, hour + HOUR) - max(now, hour)) / 3600
        hour += HOUR


def _hour_of(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _of_week(hour: datetime) -> int:
    return (hour - _MONDAY) // HOUR % HOURS_OF_WEEK


def _micro(amount: Decimal) -> Decimal:
    return amount.quantize(MICRO)
