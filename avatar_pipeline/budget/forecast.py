"""What will be spent by the end of a period: a level that follows the last days, by the hour of the week.

    profile    f(h): what hour h of the week is expected to cost (UTC, 168 of them). First all cost the mean; then, by
               the hour of the day, by the day of the week, and by the hour of the week, each is multiplied by
               (S + K) / (E + K): S what was spent in its hours, E what the step before expects of them
    level      L = Σ w·x / Σ w·f: exponential smoothing; w halves every 12, 48 or 192 hours
    bias       R: what the method missed days by on average, told from chance
    expected   spent + M,  M = R·L·F,  F: the sum of f over the hours that are left, the present one in part
    interval   M ± t·√V,  V = φ·M + M²·(b + c·(days left - 1)): 80 %, never below what is spent

K = σ²/τ² is the credibility of a step: the variance within its hours over that between them, both estimated from the
history, so that hours which differ by chance are pooled, and hours which differ are not (H. Bühlmann and A. Gisler, "A
Course in Credibility Theory and its Applications", Springer 2005, chapters 4 and 6). The profile is multiplicative as
in P. R. Winters, "Forecasting sales by exponentially weighted moving averages", Management Science 6 (1960).

All else is learnt by walking back: what would have been said a day ago, two, three..., at this hour and of what was
known then, up to two thirds of the history and four weeks, against what came (W. H. Williams and M. L. Goodman, "A
simple method for the construction of empirical confidence limits for economic forecasts", JASA 66, 1971). Of a day's
errors come the best half-life, R (shrunk to 1 as by W. James and C. Stein, 1961) and V: φ is noise that evens out over
time, b what is wrong with level and profile and does not, c how much more of that a week's errors have than a day's.
The fit is the same for every window, so that the interval of a longer one never ends lower. t is Student's, of as many
degrees of freedom as days were looked back on (M. Abramowitz and I. A. Stegun, "Handbook of Mathematical Functions",
26.7.5).

Only alerts are made of it: nothing is refused because of a forecast. It is a guess, and not money that anybody keeps,
so it is worked out in floats.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import accumulate
from operator import mul

from avatar_pipeline.budget.config import Limit
from avatar_pipeline.budget.periods import Window, seconds_of
from avatar_pipeline.budget.types import MICRO, NONE, Standing

HOUR = timedelta(hours=1)
HISTORY = timedelta(weeks=8)
"""What is older says nothing any more."""
HOURS_OF_WEEK = 168
ENOUGH_HOURS = 24
"""Hours of history before a forecast is told to anybody: of fewer, half a day's work looks like a month's."""
_DAY = 24
_HALF_LIVES = (12, 48, 192)
_USUAL = 1
"""Which half-life is used until there are days enough to choose by."""
_ENOUGH_DAYS = 7
"""Days looked back on before they choose the half-life and correct the bias: one of each day of the week."""
_FURTHEST = 4 * HOURS_OF_WEEK
"""How far is looked back: it is most of the work."""
_LEAST_CREDIBILITY = 0.5
"""K is at least what this many mean hours cost: a few hours that are alike by chance prove nothing."""
_UNKNOWN = 0.25
"""b before any day can be looked back on: as wrong as a half."""
_Z80 = 1.281551565545  # the 90th percentile of the normal distribution
_MONDAY = datetime(1970, 1, 5, tzinfo=UTC)
_STEPS = (
    [range(hour, HOURS_OF_WEEK, _DAY) for hour in range(_DAY)],
    [range(day * _DAY, (day + 1) * _DAY) for day in range(7)],
    [range(hour, hour + 1) for hour in range(HOURS_OF_WEEK)],
)
"""The hours of the week that share a factor: by the hour of the day, by the day of the week, each by itself."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What will have been spent when the window ends: expected, and meant to be from `low` to `high` in 80 %.

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


@dataclass(frozen=True, slots=True)
class _View:
    """What is known at an hour (`step` of the history): the profile, φ, and the level by each half-life."""

    step: int
    profile: list[float]
    noise: float
    levels: list[float]


@dataclass(frozen=True, slots=True)
class _Errors:
    """What looking back has taught: which half-life, R, φ (None: nothing better is known), b, c, and t."""

    half_life: int = _USUAL
    bias: float = 1.0
    noise: float | None = None
    lasting: float = _UNKNOWN
    growing: float = 0.0
    days: int = 1

    def margin(self, more: float, hours: float, noise: float) -> float:
        """Return how far on either side of `more`, in so many hours, the 80 % lie."""
        noise = noise if self.noise is None else self.noise
        lasting = self.lasting + self.growing * max(0.0, hours / _DAY - 1)
        return _student(self.days) * math.sqrt(noise * more + more * more * lasting)


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
    if window.end is None or window.end <= now:
        return Forecast(spent, spent, spent, count)
    history = [float(hourly.get(first + step * HOUR, NONE)) for step in range(count)]
    offset = _of_week(first)
    *earlier, present = _views(history, offset)
    errors = _looked_back(earlier, history, offset)
    cost, hours = 0.0, 0.0
    for hour, share in _left(now, window.end):
        cost += share * present.profile[_of_week(hour)]
        hours += share
    more = errors.bias * present.levels[errors.half_life] * cost
    margin = errors.margin(more, hours, present.noise)
    return Forecast(_micro(spent, more), _micro(spent, max(0.0, more - margin)), _micro(spent, more + margin), count)


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


def _views(history: Sequence[float], offset: int) -> list[_View]:
    """Return what was known at this hour of each day, from a third of the history on, to now; of four weeks at most."""
    count = len(history)
    counts, sums, squares = [0] * HOURS_OF_WEEK, [0.0] * HOURS_OF_WEEK, [0.0] * HOURS_OF_WEEK
    # Weights that grow, not such that fade: nothing has to be weighed anew. 8 weeks are 112 half-lives at most.
    amounts = [0.0 for _ in _HALF_LIVES]
    weights = [[0.0] * HOURS_OF_WEEK for _ in _HALF_LIVES]
    earliest = max(_DAY, count // 3, count - _FURTHEST)
    found = []
    for step in range(count + 1):
        if step == count or (step >= earliest and (count - step) % _DAY == 0):
            profile, noise = _profile(counts, sums, squares)
            expected = [sum(map(mul, profile, each)) for each in weights]
            levels = [have / want if want > 0 else 0.0 for have, want in zip(amounts, expected, strict=True)]
            found.append(_View(step, profile, noise, levels))
        if step < count:
            amount, hour = history[step], (offset + step) % HOURS_OF_WEEK
            counts[hour] += 1
            sums[hour] += amount
            squares[hour] += amount * amount
            for index, half_life in enumerate(_HALF_LIVES):
                weight = 2.0 ** (step / half_life)
                amounts[index] += weight * amount
                weights[index][hour] += weight
    return found


def _profile(counts: Sequence[int], sums: Sequence[float], squares: Sequence[float]) -> tuple[list[float], float]:
    """Return what each hour of the week is expected to cost, and its variance per money expected (φ)."""
    mean = sum(sums) / sum(counts)
    profile, noise = [mean] * HOURS_OF_WEEK, 0.0
    if mean <= 0:
        return profile, noise
    for classes in _STEPS:
        spent, expected, inside, degrees = [], [], 0.0, 0
        for hours in classes:
            have = sum(sums[hour] for hour in hours)
            want = sum(counts[hour] * profile[hour] for hour in hours)
            spent.append(have)
            expected.append(want)
            if want > 0:
                squared = sum(squares[hour] / profile[hour] for hour in hours)
                inside += max(0.0, squared - have * have / want)
                degrees += sum(counts[hour] for hour in hours) - 1
        if degrees <= 0:
            break
        noise = inside / degrees
        between = _between(spent, expected, noise)
        if between <= 0:
            continue
        credibility = max(noise / between, _LEAST_CREDIBILITY * mean)
        for hours, have, want in zip(classes, spent, expected, strict=True):
            for hour in hours:
                profile[hour] *= (have + credibility) / (want + credibility)
    return profile, noise


def _between(spent: Sequence[float], expected: Sequence[float], inside: float) -> float:
    """Return the variance of true factors between classes (τ²), by Bühlmann and Straub's estimator; 0: only chance."""
    known = [(have, want) for have, want in zip(spent, expected, strict=True) if want > 0]
    whole = sum(want for _, want in known)
    room = whole - sum(want * want for _, want in known) / whole
    if room <= whole * 1e-9:
        return 0.0
    apart = sum(want * (have / want - 1) ** 2 for have, want in known)
    return max(0.0, (apart - (len(known) - 1) * inside) / room)


def _looked_back(earlier: Sequence[_View], history: Sequence[float], offset: int) -> _Errors:
    """Return what the days (and weeks) that each of the earlier views had before it teach about the method."""
    so_far = list(accumulate(history, initial=0.0))
    days = _trials(earlier, so_far, offset, _DAY)
    chosen, bias = _USUAL, 1.0
    if len(days) >= _ENOUGH_DAYS:
        chosen = min(range(len(_HALF_LIVES)), key=lambda each: _squares(days, each, 1.0)[0])
        bias = _bias(days, chosen)
    errors, total, squared = _squares(days, chosen, bias)
    if squared <= 0:
        return _Errors(chosen, bias)
    noise = min(earlier[-1].noise, errors / total)
    lasting = max(0.0, (errors - noise * total) / squared)
    growing = 0.0
    weeks = _trials(earlier, so_far, offset, HOURS_OF_WEEK)
    errors, total, squared = _squares(weeks, chosen, bias)
    if squared > 0:
        # The weeks overlap: they are as good as those that do not, and a wider t is due to so few.
        apart = max(1, (len(weeks) + 6) // 7)
        wider = max(1.0, _student(apart) / _student(len(days))) ** 2
        growing = max(0.0, (errors - noise * total) / squared - lasting) / 6 * wider
    return _Errors(chosen, bias, noise, lasting, growing, len(days))


_Trial = tuple[float, list[float]]
"""What was spent in a span, and what was expected of it by each half-life."""


def _trials(views: Sequence[_View], so_far: Sequence[float], offset: int, hours: int) -> list[_Trial]:
    found = []
    for view in views:
        if view.step + hours < len(so_far):
            begin = (offset + view.step) % HOURS_OF_WEEK
            cost = sum((view.profile * 2)[begin : begin + hours])
            came = so_far[view.step + hours] - so_far[view.step]
            found.append((came, [level * cost for level in view.levels]))
    return found


def _squares(trials: Sequence[_Trial], chosen: int, bias: float) -> tuple[float, float, float]:
    """Return the sums of the squared errors, of what was expected, and of its squares."""
    expected = [bias * said[chosen] for _, said in trials]
    errors = sum((came - said) ** 2 for (came, _), said in zip(trials, expected, strict=True))
    return errors, sum(expected), sum(said * said for said in expected)


def _bias(days: Sequence[_Trial], chosen: int) -> float:
    """Return what was spent over what was expected, nearer to 1 the more it may be by chance."""
    total = sum(said[chosen] for _, said in days)
    if total <= 0:
        return 1.0
    ratio = sum(came for came, _ in days) / total
    chance = _squares(days, chosen, ratio)[0] * len(days) / (len(days) - 1) / total**2
    away = (ratio - 1) ** 2
    return 1 + max(0.0, 1 - chance / away) * (ratio - 1) if away > 0 else 1.0


def _student(degrees: int) -> float:
    """Return the 90th percentile of Student's distribution, from the first terms of its expansion."""
    z, n = _Z80, degrees
    return z + (z**3 + z) / (4 * n) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n * n)


def _left(now: datetime, end: datetime) -> Iterator[tuple[datetime, float]]:
    hour = _hour_of(now)
    while hour < end:
        yield hour, float(seconds_of(min(end, hour + HOUR) - max(now, hour))) / 3600
        hour += HOUR


def _hour_of(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _of_week(hour: datetime) -> int:
    return (hour - _MONDAY) // HOUR % HOURS_OF_WEEK


def _micro(spent: Decimal, more: float) -> Decimal:
    return (spent + Decimal(more)).quantize(MICRO)
