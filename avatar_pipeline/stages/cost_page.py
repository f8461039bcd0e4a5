"""The page of a day's costs: one HTML file with its pictures inside, to be understood at a glance."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from avatar_pipeline.budget.figures import PER, moment, with_unit
from avatar_pipeline.budget.outlook import Outlook
from avatar_pipeline.budget.periods import Period
from avatar_pipeline.budget.types import NONE, Unit
from avatar_pipeline.ledger.cost_sums import Spent
from avatar_pipeline.preview import cost_words as words
from avatar_pipeline.preview.cost_figures import CostFigures

_MOST_ROWS = 25
_FEW = 4
"""Budgets that are shown at once even if all is well with them."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that is to be known first. `level`: bad, warn or note."""

    level: str
    text: str


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure, large, and what it is."""

    name: str
    value: str
    told: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a breakdown; `width` is its share of the greatest, in per cent."""

    name: str
    amount: str
    width: float
    told: str = ""


def cost_page(figures: CostFigures, charts: Sequence[tuple[str, bytes]]) -> str:
    """Return the page. `charts` are PNGs with what each shows."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("avatar_pipeline.stages", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    budgets = [_budget(each, figures.timezone) for each in figures.outlooks or ()]
    shown = max(_FEW, sum(budget["level"] != "good" for budget in budgets))
    told = {
        "figures": figures,
        "total": words.money(figures.costs.total.amount),
        "notices": notices(figures),
        "tiles": _tiles(figures),
        "charts": [(name, base64.b64encode(png).decode()) for name, png in charts],
        "breakdowns": _breakdowns(figures),
        "budgets": budgets[:shown],
        "more_budgets": budgets[shown:],
        "bill": _bill(figures),
    }
    return environment.get_template("cost_report.html.j2").render(told)


def notices(figures: CostFigures) -> list[Notice]:
    """Return what a person has to know first, the worst first."""
    found = [*_of_bill(figures), *_of_budgets(figures), *_of_day(figures)]
    order = ("bad", "warn", "note")
    return sorted(found, key=lambda notice: order.index(notice.level))


def _of_budgets(figures: CostFigures) -> Iterable[Notice]:
    for each in figures.outlooks or ():
        name, hard = each.limit.id, with_unit(each.standing.hard, each.limit.unit)
        if each.standing.share >= 1:
            yield Notice("bad", f"Budget {name} is used up: {words.share(each.standing.share)} of {hard}.")
        elif each.is_close and each.expected_share >= 1:
            yield Notice("warn", f"Budget {name} is expected to come to {words.share(each.expected_share)} of {hard}.")
        elif each.is_close:
            yield Notice("warn", f"Budget {name} is at {words.share(each.standing.share)} of {hard}.")


def _of_bill(figures: CostFigures) -> Iterable[Notice]:
    compared = figures.comparison
    if compared.problem is not None:
        yield Notice("bad", f"The bill could not be read: {compared.problem}")
    for day, found in compared.alarms:
        less = "less" if found.difference < 0 else "more"
        yield Notice(
            "bad",
            f"{day}: we recorded {words.share(found.share)} {less} for machines than AWS billed: "
            f"US$ {words.money(found.ours)}, and the bill says {words.money(found.theirs)}.",
        )


def _of_day(figures: CostFigures) -> Iterable[Notice]:
    costs = figures.costs
    if figures.until is not None:
        yield Notice("note", f"The day is not over: this is up to {moment(figures.until, 'UTC')}.")
    if costs.unsettled:
        yield Notice("note", f"Attempts without an end yet: {costs.unsettled}. What they cost may change.")
    if costs.lost:
        count = sum(costs.attempts[name] for name in costs.lost)
        yield Notice(
            "note",
            f"Attempts that did not end well: {count}; they cost US$ {words.money(_amount(costs.lost.values()))}.",
        )
    if costs.unattributed.amount:
        yield Notice("warn", f"Spent without a reservation: US$ {words.money(costs.unattributed.amount)}.")


def _tiles(figures: CostFigures) -> list[Tile]:
    costs, tiles = figures.costs, []
    yesterday = list(figures.before.values())[-1] if figures.before else NONE
    if yesterday:
        change = costs.total.amount / yesterday - 1
        tiles.append(Tile("against the day before", f"{change * 100:+,.0f} %", f"US$ {words.money(yesterday)}"))
    machines = [each for name, each in costs.by_capacity.items() if name == "spot"]
    if machines:
        saved, whole = costs.total.saved, _amount(machines) + costs.total.saved
        told = f"{words.share(saved / whole)} of on demand" if whole else ""
        tiles.append(Tile("saved by spot", f"US$ {words.money(saved)}", told))
    for name, each, state in (("an avatar", costs.avatars, "ready"), ("a clip", costs.clips, "done")):
        if each.average is not None:
            told = f"{words.count(each.count)} {state}; 95 % cost at most {words.money(each.p95)}"
            tiles.append(Tile(name, f"US$ {words.money(each.average)}", told))
    minutes = figures.minutes
    if minutes.per_minute is not None:
        told = f"{minutes.seconds / 60:,.1f} minutes"
        if minutes.known < minutes.clips:
            told += f"; {words.count(minutes.known)} of {words.count(minutes.clips)} clips looked up"
        tiles.append(Tile("a finished minute", f"US$ {words.money(minutes.per_minute)}", told))
    if costs.total.characters:
        tiles.append(Tile("spoken", words.count(costs.total.characters), "characters"))
    return tiles


def _breakdowns(figures: CostFigures) -> list[tuple[str, list[Row]]]:
    costs = figures.costs

    def machine(each: Spent) -> str:
        saved = f", saved {words.money(each.saved)}" if each.saved else ""
        return f"{words.hours(each.seconds)}{saved}" if each.seconds else ""

    return [
        ("By tenant", _rows(costs.by_tenant, lambda name: name or words.NOBODY)),
        ("By asset", _rows(costs.by_asset, str, machine)),
        ("By capacity", _rows(costs.by_capacity, words.capacity_name, machine)),
        ("By voice provider", _rows(costs.providers, str, lambda each: f"{words.count(each.characters)} characters")),
        (
            "By how the attempt ended",
            _rows(costs.by_ending, words.ending_name, counts=costs.attempts),
        ),
    ]


def _rows(
    spent: Mapping[str, Spent],
    name: Callable[[str], str],
    told: Callable[[Spent], str] = lambda _: "",
    *,
    counts: Mapping[str, int] | None = None,
) -> list[Row]:
    greatest = max((each.amount for each in spent.values()), default=NONE)
    every = list(spent.items())
    shown, rest = (every, []) if len(every) <= _MOST_ROWS else (every[: _MOST_ROWS - 1], every[_MOST_ROWS - 1 :])
    rows = []
    for key, each in shown:
        words_of = told(each) if counts is None else _attempts(counts.get(key))
        rows.append(Row(name(key), words.money(each.amount), _width(each.amount, greatest), words_of))
    if rest:
        amount = _amount(each for _, each in rest)
        rows.append(Row(f"{len(rest)} others", words.money(amount), _width(amount, greatest)))
    return rows


def _attempts(count: int | None) -> str:
    return "" if count is None else f"{words.count(count)} attempt{'' if count == 1 else 's'}"


def _budget(each: Outlook, timezone: str) -> dict[str, Any]:
    standing, spent = each.standing, each.standing.share
    level = "bad" if spent >= 1 else "warn" if each.is_close else "good"
    return {
        "id": each.limit.id,
        "level": level,
        "share": words.share(spent),
        "spent": _figure(standing.settled, each),
        "hard": with_unit(standing.hard, each.limit.unit),
        "per": PER[each.limit.period],
        "width": min(100.0, float(spent) * 100),
        "expected_width": min(100.0, float(each.expected_share) * 100),
        "expected": _expected(each, timezone),
    }


def _expected(each: Outlook, timezone: str) -> str:
    expected, ends = each.forecast, each.standing.ends_at
    if not expected.hours_seen or each.limit.period is Period.ROLLING or ends is None:
        return ""
    low, high = _figure(expected.low, each), _figure(expected.high, each)
    if low == high:
        # The period is over, or as good as.
        return ""
    return f"expected {words.share(each.expected_share)} ({low} to {high}) by {moment(ends, timezone)}"


def _figure(amount: Decimal, each: Outlook) -> str:
    return words.money(amount) if each.limit.unit is Unit.USD else words.count(amount)


def _bill(figures: CostFigures) -> list[dict[str, str]]:
    rows = []
    for one in reversed(figures.comparison.days):
        found = one.drift
        rows.append(
            {
                "day": one.day.isoformat(),
                "ours": words.money(one.ours),
                "theirs": "" if found is None else words.money(found.theirs),
                "drift": "not in the bill" if found is None else words.signed(found),
                "level": "" if found is None else "bad" if found.alarm else "good",
            }
        )
    return rows


def _amount(spent: Iterable[Spent]) -> Decimal:
    return sum((each.amount for each in spent), NONE)


def _width(amount: Decimal, greatest: Decimal) -> float:
    return float(round(100 * amount / greatest, 1)) if greatest > 0 else 0.0
