"""cost_report: what one day cost and whose it was, how the budgets stand, and whether the bill says the same."""

from __future__ import annotations

import hashlib
import json
from datetime import date, datetime, timedelta
from typing import Any

from avatar_pipeline.budget.bill import NO_BILL, Comparison, compare
from avatar_pipeline.budget.cur import parse_tag, read_bill
from avatar_pipeline.budget.outlook import Outlook, moments, outlooks
from avatar_pipeline.budget.periods import slot_of
from avatar_pipeline.errors import AvatarError, InvalidInput
from avatar_pipeline.ledger.budget_days import alerts_between, standings_at
from avatar_pipeline.ledger.costs import machines_by_day, read_costs, spent_by_day
from avatar_pipeline.ledger.report import bounds
from avatar_pipeline.preview.cost_figures import CostFigures
from avatar_pipeline.preview.cost_words import money
from avatar_pipeline.preview.images import jpeg
from avatar_pipeline.stages.clip_minutes import finished_minutes
from avatar_pipeline.stages.cost_facts import document, facts
from avatar_pipeline.stages.line import Line, StageResult, produce
from avatar_pipeline.store.artifacts import Draft, Recipe, Slot
from avatar_pipeline.store.checkpoints import Checkpoints

COST_REPORT_VERSION = "1"
BILLED_DAYS = 7
"""Days beside the bill: it lags behind, and what it said of a day may change."""
DAYS_BEFORE = 13
_DAY = timedelta(days=1)
_REMEMBERED = timedelta(days=4)
"""How budgets stood is told of days that began no longer ago: of others, the ledger keeps too little."""


def make_cost_report(line: Line, day: date) -> StageResult:
    """Report on a UTC day: `report.json`, `report.html` with its pictures inside, charts in `preview.jpg`.

    The key is made from the figures, so a report that would say the same is found and not made again, and one that
    says something new (an attempt was settled since, or billed) becomes the current one. A day that is not over is
    marked partial.

    Raises:
        InvalidInput: the day has not begun.
    """
    figures = cost_figures(line, day)
    told = document(figures)
    text = json.dumps(told, indent=1, sort_keys=True)

    def make(draft: Draft, _: Checkpoints) -> None:
        from avatar_pipeline.preview.cost_charts import cost_picture, page_charts
        from avatar_pipeline.stages.cost_page import cost_page

        (draft.folder / "report.json").write_text(text + "\n")
        (draft.folder / "report.html").write_text(cost_page(figures, page_charts(figures)))
        (draft.folder / "preview.jpg").write_bytes(jpeg(cost_picture(figures, title=_title(figures))))
        draft.facts |= facts(figures)

    params: dict[str, Any] = {"day": day.isoformat(), "figures": hashlib.sha256(text.encode()).hexdigest()}
    return produce(line, Recipe(Slot("reports", day.isoformat(), "cost_report"), COST_REPORT_VERSION, {}, params), make)


def cost_figures(line: Line, day: date) -> CostFigures:
    """Read all that the report of a day tells.

    Raises:
        InvalidInput: the day has not begun.
    """
    begin, end = bounds(day)
    now = line.clock()
    if now < begin:
        raise InvalidInput(f"{day} has not begun: it is {now:%Y-%m-%d %H:%M} UTC.", remedy="Ask for a day that has.")
    engine = line.ledger.engine
    costs = read_costs(engine, day)
    limits, stood = _outlooks(line, begin, now)
    return CostFigures(
        costs=costs,
        until=None if now >= end else slot_of(now),
        before=spent_by_day(engine, day - DAYS_BEFORE * _DAY, day - _DAY),
        minutes=finished_minutes(line.store, costs.clips_done),
        comparison=_bill(line, day),
        outlooks=stood,
        limits=limits,
        alerts=alerts_between(engine, begin, end),
        timezone=line.plan.timezone,
    )


def _outlooks(line: Line, begin: datetime, now: datetime) -> tuple[int, list[Outlook] | None]:
    """Return how many limits there are, and the outlook of those that most is spent of, None for days long past."""
    if now - begin > _REMEMBERED:
        return 0, None
    at = moments(line.plan.timezone, begin, now)
    # A report outlives the avatars that it tells of.
    standings = [each for each in standings_at(line.ledger.engine, line.plan, at) if not each[0].names_avatar]
    return len(standings), outlooks(standings, line.spend.hourly, at)


def _bill(line: Line, day: date) -> Comparison:
    """Compare with the bill, if there is one. One that cannot be read keeps nobody from knowing what was spent."""
    place, tag = line.settings.cur, line.settings.cur_tag
    if place is None:
        return NO_BILL
    first = day - (BILLED_DAYS - 1) * _DAY
    try:
        bill = read_bill(place, first, day, tag=parse_tag(tag) if tag else None)
    except AvatarError as error:
        return Comparison(configured=True, problem=str(error))
    return compare(bill, machines_by_day(line.ledger.engine, first, day))


def _title(figures: CostFigures) -> str:
    costs = figures.costs
    unfinished = "" if figures.until is None else f" (up to {figures.until:%H:%M})"
    saved = f", {money(costs.total.saved)} saved by spot" if costs.total.saved else ""
    return f"{costs.day}{unfinished}: US$ {money(costs.total.amount)}{saved}"
