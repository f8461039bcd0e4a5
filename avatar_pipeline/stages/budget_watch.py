"""The watch over budgets: how every limit stands, who is told of it, and where nothing more can begin.

It keeps nothing in mind. What was told already is in the ledger, so killed at any line, or run twice at once, it tells
each crossing once all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from avatar_pipeline.budget.changes import Change, raised_at
from avatar_pipeline.budget.config import Limit, Period
from avatar_pipeline.budget.figures import PER, figure, moment, percent, with_unit
from avatar_pipeline.budget.forecast import HISTORY, Crossing, Forecast, crossed, forecast
from avatar_pipeline.budget.gate import URGENT_PRIORITY, decide
from avatar_pipeline.budget.periods import Window
from avatar_pipeline.budget.types import ALL, Demand, Payer, Scope, Standing, Unit, lines
from avatar_pipeline.ledger.budget_alerts import Alert
from avatar_pipeline.ledger.database import reading
from avatar_pipeline.ledger.messages import ClipRequest
from avatar_pipeline.ledger.purse import count_held
from avatar_pipeline.stages.admission import LOOKED_AT
from avatar_pipeline.stages.build_budget import Builds, avatars_of, held_avatars
from avatar_pipeline.stages.line import Line
from avatar_pipeline.stages.paying import BATCH_ASSETS, look_amounts

MOST_FORECASTS = 50
"""Limits that are forecast at one look, the fullest first: each takes some milliseconds, and a tick has seconds."""
MOST_ALERTS = 100_000
SHOWN = 3
"""Limits in the line of figures, the fullest first."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """How a limit stands, and what will have been spent when its period ends; None where that was not worked out."""

    limit: Limit
    standing: Standing
    forecast: Forecast | None


@dataclass(frozen=True, slots=True)
class Stop:
    """A limit under which nothing more can begin.

    `least` is the smallest estimate that waits for it (None: nothing waits). `is_spent`: all of it is spent; else what
    is left is put aside, or is less than `least`.
    """

    standing: Standing
    least: Decimal | None
    is_spent: bool


@dataclass(frozen=True, slots=True)
class Watched:
    """What a look at the budgets found: every limit, the alerts that were raised just now, where nothing can begin.

    `figures` is one line for a person.
    """

    outlooks: tuple[Outlook, ...]
    alerts: tuple[Alert, ...]
    stops: tuple[Stop, ...]
    figures: str

    @property
    def stops_all(self) -> bool:
        """Whether nothing more can begin for anybody."""
        return any(stop.standing.scope == ALL for stop in self.stops)


def watch(line: Line) -> Watched:
    """Look at every limit, and raise an alert for each threshold that was crossed and not told of yet."""
    standings = line.spend.all_standings()
    if not standings:
        return Watched((), (), (), "There are no budgets, or nothing is spent under them.")
    outlooks = _outlooks(line, standings)
    alerts = _tell(line, outlooks)
    stops = hard_stops(line, standings)
    return Watched(outlooks, alerts, stops, _figures(line, standings, alerts, stops))


def hard_stops(line: Line, standings: Sequence[tuple[Limit, Standing]]) -> tuple[Stop, ...]:
    """Return those of these limits under which nothing more can begin."""
    least = _least(line)
    stops = []
    for _, standing in standings:
        smallest = least.get((standing.scope, standing.unit))
        is_spent = standing.settled >= standing.hard
        if is_spent or (smallest is not None and standing.left < smallest):
            stops.append(Stop(standing, smallest, is_spent))
    return tuple(stops)


def batch_refused(line: Line) -> str | None:
    """Say why a batch that began now could not go through its steps; None if it could.

    A batch's own steps are on nobody's account in particular, so only limits for all have a say.
    """
    if not line.plan.limits_of(ALL):
        return None
    standings = line.spend.standings(Payer())
    for asset in sorted(BATCH_ASSETS):
        demand = Demand(f"look/{asset}", asset, Payer(), look_amounts(line, asset), priority=URGENT_PRIORITY)
        admission = decide(demand, standings, line.clock(), timezone=line.plan.timezone)
        if not admission.admitted:
            return f"A batch would stop at {asset}: {admission.reason}"
    return None


def all_stopped(line: Line) -> str | None:
    """Say why no clip of anybody can begin now; None if some may."""
    if not line.plan.limits_of(ALL):
        return None
    for stop in hard_stops(line, line.spend.standings(Payer())):
        return f"{_share(stop.standing)}: nothing more can begin."
    return None


# What waits


def _least(line: Line) -> dict[tuple[Scope, Unit], Decimal]:
    """Return the smallest amount, by scope and unit, that anything which waits or is held by a budget asks for."""
    demands: list[Demand] = []
    if line.plan.rules:
        shortest: dict[tuple[str, str], ClipRequest] = {}
        held = [one for some in line.requests.first_held().values() for one in some]
        for one in (*line.requests.waiting_clips(LOOKED_AT), *held):
            pair = (one.request.tenant, one.request.avatar_id)
            if pair not in shortest or len(one.request.text) < len(shortest[pair].text):
                shortest[pair] = one.request
        voices = line.ledger.voices_of({request.avatar_id for request in shortest.values()})
        demands += [line.purse.demand(request, voices.get(request.avatar_id, "")) for request in shortest.values()]
        avatars = [*avatars_of(line.requests.waiting_avatars(LOOKED_AT)), *held_avatars(line)]
        builds = Builds(line)
        demands += [builds.demand(request) for request in avatars]
    least: dict[tuple[Scope, Unit], Decimal] = {}
    for demand in demands:
        for key, amount in lines(demand.payer, demand.amounts).items():
            if amount > 0:
                least[key] = min(amount, least.get(key, amount))
    return least


# Forecasts and alerts


def _outlooks(line: Line, standings: Sequence[tuple[Limit, Standing]]) -> tuple[Outlook, ...]:
    now = line.clock()
    fullest = sorted(standings, key=lambda each: -each[1].share)
    ending = [limit.id for limit, _ in fullest if limit.period is not Period.ROLLING]
    chosen = set(ending[:MOST_FORECASTS])
    hourly: dict[tuple[Scope, Unit], dict[datetime, Decimal]] = {}
    found = []
    for limit, standing in standings:
        expected = None
        if limit.id in chosen:
            key = (standing.scope, standing.unit)
            if key not in hourly:
                hourly[key] = line.spend.hourly(*key, now - HISTORY)
            window = Window(standing.starts_at, standing.ends_at)
            expected = forecast(hourly[key], window, now, spent=standing.settled)
        found.append(Outlook(limit, standing, expected))
    return tuple(found)


def _tell(line: Line, outlooks: Iterable[Outlook]) -> tuple[Alert, ...]:
    crossings = [(one, crossing) for one in outlooks for crossing in crossed(one.limit, one.standing, one.forecast)]
    if not crossings:
        return ()
    # Most were told long ago: to look costs nobody anything, while to write keeps others waiting.
    since = min(one.standing.starts_at for one, _ in crossings)
    told: dict[tuple[str, str, Decimal], list[Alert]] = {}
    for known in line.budgets.alerts(since, limit=MOST_ALERTS):
        told.setdefault((known.limit_id, known.kind, known.threshold), []).append(known)
    alerts = []
    raises = _Raises(line)
    for one, crossing in crossings:
        same = told.get((one.limit.id, crossing.kind, crossing.threshold), ())
        standing = one.standing
        since = raises.since(one, crossing) if same else standing.starts_at
        # The last 24 hours begin anew every quarter of an hour: told once within them is told.
        if any(known.at >= since for known in same):
            continue
        alert = Alert(
            limit_id=standing.limit_id,
            period_start=since,
            kind=crossing.kind,
            threshold=crossing.threshold,
            share=crossing.share,
            message=_message(one, crossing, line.plan.timezone),
            at=line.clock(),
        )
        if line.budgets.raise_alert(
            alert.limit_id,
            alert.period_start,
            alert.kind,
            alert.threshold,
            alert.share,
            alert.message,
            url=line.plan.alerts_url,
        ):
            alerts.append(alert)
    return tuple(alerts)


class _Raises:
    """When limits were raised, looked up as it is asked for."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._changes: dict[str, list[Change]] | None = None
        self._raised: dict[tuple[str, datetime], datetime | None] = {}

    def since(self, one: Outlook, crossing: Crossing) -> datetime:
        """Return since when a crossing is the same: the period's beginning, or a raise after which it was open again.

        Who raises a limit because of an alert wants to be told again when the new one is nearly spent, and not at once
        of what was spent before. That is known by the hour.
        """
        standing = one.standing
        raised = self._last(one.limit, standing.starts_at)
        if raised is None or crossing.kind != "actual":
            return raised or standing.starts_at
        hour = raised.replace(minute=0, second=0, microsecond=0)
        hourly = self._line.spend.hourly(standing.scope, standing.unit, standing.starts_at)
        before = sum((amount for at, amount in hourly.items() if at < hour), Decimal(0))
        return raised if before < crossing.threshold * standing.hard else standing.starts_at

    def _last(self, limit: Limit, since: datetime) -> datetime | None:
        if self._changes is None:
            self._changes = {}
            for change in self._line.budgets.changes():
                self._changes.setdefault(change.limit_id, []).append(change)
        own = self._changes.get(limit.id, []) if limit.id != limit.rule_id else []
        # Those without a change of their own share the rule's.
        name = limit.id if own else limit.rule_id
        if (name, since) not in self._raised:
            mine = [*own, *self._changes.get(limit.rule_id, [])]
            self._raised[name, since] = raised_at(limit, mine, since)
        return self._raised[name, since]


def _message(one: Outlook, crossing: Crossing, timezone: str) -> str:
    standing, unit = one.standing, one.standing.unit
    of = f"{with_unit(standing.hard, unit)} {PER[standing.period]}"
    if crossing.kind == "forecast" and one.forecast is not None and standing.ends_at is not None:
        expected = one.forecast
        return (
            f"{standing.limit_id}: {percent(crossing.share)} of {of} will be spent by "
            f"{moment(standing.ends_at, timezone)}, as it looks now: {figure(expected.expected, unit)} "
            f"({figure(expected.low, unit)} to {figure(expected.high, unit)}), of which "
            f"{figure(standing.settled, unit)} already is."
        )
    return (
        f"{standing.limit_id}: {percent(crossing.threshold)} of {of} is spent: {figure(standing.settled, unit)}, "
        f"and {figure(standing.reserved, unit)} is reserved."
    )


def _figures(
    line: Line, standings: Sequence[tuple[Limit, Standing]], alerts: Sequence[Alert], stops: Sequence[Stop]
) -> str:
    # Said at every tick, and kept by Dagster: no avatar is named.
    shown = (standing for limit, standing in standings if not limit.names_avatar)
    fullest = sorted(shown, key=lambda one: (-one.share, one.limit_id))
    told = [_share(standing) for standing in fullest[:SHOWN]]
    if len(fullest) > SHOWN:
        told.append(f"{len(fullest) - SHOWN} more limits")
    with reading(line.ledger.engine) as session:
        held = sum(count_held(session).values())
    return f"{'; '.join(told)}. {len(stops)} at a hard stop, {held} requests held, {len(alerts)} alerts now."


def _share(standing: Standing) -> str:
    unit = standing.unit
    return (
        f"{standing.limit_id} {percent(standing.share)} ({figure(standing.settled, unit)} of "
        f"{with_unit(standing.hard, unit)} spent, {figure(standing.reserved, unit)} reserved)"
    )
