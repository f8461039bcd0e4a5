"""Charts of what a day cost: its hours, the days before, whose and what for, and how the budgets stand."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from avatar_pipeline.preview.cost_words import NOBODY, capacity_name, money

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from avatar_pipeline.budget.outlook import Outlook
    from avatar_pipeline.ledger.cost_sums import Spent
    from avatar_pipeline.preview.cost_figures import CostFigures

_BLUE, _PALE, _RED, _AMBER, _GREY = "#3b7dd8", "#9ec5f0", "#d1495b", "#e09f3e", "#8a8f98"
_COLOURS = {"on-demand": _BLUE, "spot": "#2f9e7d", "provider": "#8f6fc4"}
_MOST_BARS = 8
"""More names than this are summed up in one bar, so that each can be read."""


def cost_picture(figures: CostFigures, *, title: str) -> NDArray[np.uint8]:
    """Draw a day's costs as one RGB image (H, W, 3): hours, days before, tenants, assets, capacity, budgets."""
    import numpy as np
    from PIL import Image

    figure = _figure(8, 7.6)
    figure.suptitle(title, fontsize=10)
    # Row by row, so that long names in one do not make the charts of another narrow.
    rows: Any = figure.subfigures(3, 1)
    first, second, third = (row.subplots(1, 2) for row in rows)
    costs = figures.costs
    _hours(first[0], figures)
    _days(first[1], figures)
    _names(second[0], costs.by_tenant, "By tenant, US$")
    _names(second[1], costs.by_asset, "By asset, US$")
    _capacity(third[0], costs.by_capacity)
    _budgets(third[1], figures.outlooks)
    return np.asarray(Image.open(_png(figure, 80)).convert("RGB"))


def page_charts(figures: CostFigures) -> list[tuple[str, bytes]]:
    """Draw what a page shows as pictures: what each is called, and the PNG."""
    drawn = []
    for name, draw in (("US dollars by hour of the day", _hours), ("US dollars by day", _days)):
        figure = _figure(5.6, 2.5)
        draw(figure.subplots(), figures)
        drawn.append((name, _png(figure, 120).getvalue()))
    return drawn


def _figure(width: float, height: float) -> Figure:
    # Figure and not pyplot: pyplot keeps global state, and picks a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Figure, dpi: int) -> io.BytesIO:
    buffer = io.BytesIO()
    # Without the version of matplotlib in it, so that the same figures give the same bytes.
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer


def _hours(axes: Axes, figures: CostFigures) -> None:
    """What each hour cost, by what was paid for, on each other."""
    hours = figures.costs.hours_by_capacity
    if not figures.costs.total.amount:
        _empty(axes, "By hour, US$", "nothing spent")
        return
    bottom = [0.0] * 24
    for name, amounts in sorted(hours.items(), key=lambda item: _rank(item[0])):
        values = [float(amount) for amount in amounts]
        axes.bar(range(24), values, 0.9, bottom=bottom, align="edge", color=_colour(name), label=capacity_name(name))
        bottom = [low + value for low, value in zip(bottom, values, strict=True)]
    axes.set(title="By hour (UTC), US$", xlim=(0, 24), xticks=range(0, 25, 3))
    axes.set_ylim(0, max(bottom) * 1.25)
    axes.legend(fontsize=8, loc="upper left", ncols=4, frameon=False, columnspacing=1, handlelength=1)
    _quiet(axes)


def _days(axes: Axes, figures: CostFigures) -> None:
    """What each of the days before cost, and this one."""
    days = {**figures.before, figures.costs.day: figures.costs.total.amount}
    values = [float(amount) for amount in days.values()]
    if not any(values):
        _empty(axes, "By day, US$", "nothing spent")
        return
    colours = [_PALE] * (len(values) - 1) + [_BLUE]
    axes.bar(range(len(values)), values, 0.85, color=colours)
    axes.text(len(values) - 1, values[-1], money(figures.costs.total.amount), ha="center", va="bottom", fontsize=8)
    # Every third one, this day among them.
    ticks = range((len(values) - 1) % 3, len(values), 3)
    names = [f"{day.day} {day:%b}" for day in days]
    axes.set(title="By day, US$", xticks=ticks, xticklabels=[names[tick] for tick in ticks])
    axes.set_ylim(0, max(values) * 1.2)
    _quiet(axes)


def _names(axes: Axes, spent: Mapping[str, Spent], title: str) -> None:
    """What each name spent, the greatest on top."""
    named = [(name or NOBODY, float(each.amount)) for name, each in spent.items() if each.amount]
    if not named:
        _empty(axes, title, "nothing spent")
        return
    if len(named) > _MOST_BARS:
        rest = named[_MOST_BARS - 1 :]
        named = [*named[: _MOST_BARS - 1], (f"{len(rest)} others", sum(amount for _, amount in rest))]
    _bars(axes, named, [_BLUE] * len(named), title)


def _capacity(axes: Axes, spent: Mapping[str, Spent]) -> None:
    """What each kind of capacity cost; behind spot, what it would have cost on demand."""
    title = "By capacity, US$; pale: saved by spot"
    named = [(name, each) for name, each in spent.items() if each.amount]
    if not named:
        _empty(axes, title, "nothing spent")
        return
    whole = [(capacity_name(name), float(each.amount + max(each.saved, Decimal(0)))) for name, each in named]
    axes.barh(range(len(whole)), [value for _, value in whole][::-1], 0.7, color="#d7dde6")
    amounts = [(capacity_name(name), float(each.amount)) for name, each in named]
    _bars(axes, amounts, [_colour(name) for name, _ in named], title, ends=[value for _, value in whole])


def _budgets(axes: Axes, outlooks: Sequence[Outlook] | None) -> None:
    """How much of each limit is spent, and (pale) will be; the line is the limit."""
    title = "Budgets, %; pale: expected"
    if not outlooks:
        _empty(axes, title, "no budgets" if outlooks is not None else "not known any more")
        return
    shown = list(outlooks[:_MOST_BARS])[::-1]
    spent = [min(float(each.standing.share), 1.5) * 100 for each in shown]
    expected = [min(float(each.expected_share), 1.5) * 100 for each in shown]
    places = range(len(shown))
    axes.barh(places, [max(pair) for pair in zip(spent, expected, strict=True)], 0.7, color=_PALE)
    axes.barh(places, spent, 0.7, color=[_RED if share >= 100 else _AMBER if share >= 80 else _BLUE for share in spent])
    axes.axvline(100, color=_RED, linewidth=1)
    for place, each in zip(places, shown, strict=True):
        axes.text(2, place, f"{each.standing.share:.0%}", va="center", fontsize=8, color="#222222")
    axes.set(title=title, yticks=places, yticklabels=[_short(each.limit.id) for each in shown])
    axes.set(xlim=(0, max(110.0, *spent, *expected)), xticks=[0, 50, 100])
    _fewest(axes, len(shown))
    _quiet(axes)


def _bars(
    axes: Axes,
    named: Sequence[tuple[str, float]],
    colours: Sequence[str],
    title: str,
    *,
    ends: Iterable[float] | None = None,
) -> None:
    """Draw values with their names, the first on top; each value is written behind its bar, or at `ends`."""
    values = [value for _, value in named][::-1]
    labels = list(ends)[::-1] if ends is not None else values
    longest = max(labels)
    axes.barh(range(len(values)), values, 0.7, color=list(colours)[::-1])
    for place, (value, end) in enumerate(zip(values, labels, strict=True)):
        axes.text(end + longest * 0.01, place, money(Decimal(repr(value))), va="center", fontsize=8)
    axes.set(title=title, yticks=range(len(values)), yticklabels=[_short(name) for name, _ in named][::-1])
    axes.set_xlim(0, longest * 1.3)
    _fewest(axes, len(values))
    _quiet(axes)


def _rank(name: str) -> tuple[int, str]:
    """Return the place of a kind of capacity in a stack: always the same, whatever it cost."""
    known = list(_COLOURS)
    return (known.index(name) if name in known else len(known), name)


def _colour(name: str) -> str:
    return _COLOURS.get(name, _GREY)


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:22]}…"


def _fewest(axes: Axes, count: int) -> None:
    """A single bar is not to fill its chart."""
    axes.set_ylim(min(-0.6, count - 4.6), count - 0.4)


def _empty(axes: Axes, title: str, told: str) -> None:
    axes.set(title=title, xticks=[], yticks=[])
    axes.text(0.5, 0.5, told, ha="center", va="center", color="#777777", transform=axes.transAxes)
    _quiet(axes)


def _quiet(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.title.set_size(10)
    axes.xaxis.label.set_size(8)
    axes.tick_params(labelsize=8)
