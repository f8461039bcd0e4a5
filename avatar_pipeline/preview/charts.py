"""Charts of a day's figures, as one picture."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from avatar_pipeline.ledger.records import RequestKind
    from avatar_pipeline.ledger.report import DayFigures

_DONE, _FAILED, _SENT = "#3b7dd8", "#d1495b", "#333333"
_PERCENTILES = {"p50": "#9ec5f0", "p95": "#3b7dd8", "p99": "#16407a"}
_MOST_BARS = 8
"""More kinds of failure or asset than this are summed up in one bar, so that each can be read."""


def day_picture(figures: DayFigures, *, title: str) -> NDArray[np.uint8]:
    """Draw the figures of a day as one RGB image (H, W, 3): requests by hour, latency, failures, spend."""
    import numpy as np

    # Figure and not pyplot: pyplot keeps global state, and picks a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator
    from PIL import Image

    figure = Figure(figsize=(8, 7.6), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=10)
    axes = figure.subplots(3, 2)
    _hours(axes[0, 0], figures, "clip")
    _hours(axes[0, 1], figures, "avatar")
    _latency(axes[1, 0], figures, "clip")
    _latency(axes[1, 1], figures, "avatar")
    failures: dict[str, float] = {}
    for kind, counts in figures.failures.items():
        failures |= {f"{code} ({kind})": count for code, count in counts.items()}
    _bars(axes[2, 0], failures, "Failures by reason", _FAILED, "{:.0f}", nothing="no failures")
    axes[2, 0].xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    spend = {asset: float(cost) for asset, cost in figures.spend.items() if cost}
    _bars(axes[2, 1], spend, "Spend by asset, US$", _DONE, "{:.3g}", nothing="no spend")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    return np.asarray(Image.open(buffer).convert("RGB"))


def _hours(axes: Axes, figures: DayFigures, kind: RequestKind) -> None:
    """Requests by hour: finished ones as bars on each other, arrivals as a line of steps."""
    from matplotlib.ticker import MaxNLocator

    done, failed = figures.finished[kind]["done"], figures.finished[kind]["failed"]
    hours = range(len(done))
    axes.bar(hours, done, 0.9, align="edge", color=_DONE, label="done")
    axes.bar(hours, failed, 0.9, bottom=done, align="edge", color=_FAILED, label="failed")
    axes.stairs(figures.sent[kind], range(len(done) + 1), color=_SENT, linewidth=1.2, label="sent")
    axes.set(title=f"{kind.capitalize()} requests by hour", xlim=(0, 24), xticks=range(0, 25, 3), xlabel="hour, UTC")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    axes.set_ylim(0, max(1, axes.get_ylim()[1]) * 1.15)
    axes.legend(fontsize=8, loc="upper left", ncols=3, frameon=False, columnspacing=1, handlelength=1.2)
    _quiet(axes)


def _latency(axes: Axes, figures: DayFigures, kind: RequestKind) -> None:
    """Percentiles of the time from sent to done and of its parts."""
    latency = figures.latency[kind]
    title = f"{kind.capitalize()} latency, seconds"
    if not latency:
        _empty(axes, title, "nothing done")
        return
    parts = list(latency)[::-1]
    longest = max(value.p99 for value in latency.values())
    for number, (name, colour) in enumerate(_PERCENTILES.items()):
        values = [getattr(latency[part], name) for part in parts]
        places = [place + 0.27 * (1 - number) for place in range(len(parts))]
        axes.barh(places, values, 0.25, color=colour, label=name)
        _values(axes, places, values, longest, "{:.4g}")
    axes.set(title=title, yticks=range(len(parts)), yticklabels=parts, xlim=(0, max(longest, 1e-3) * 1.2))
    # Below the lowest bars, which is the one place where there are none.
    axes.set_ylim(-1.0, len(parts) - 0.5)
    axes.legend(fontsize=8, loc="lower right", ncols=3, frameon=False, columnspacing=1, handlelength=1.2)
    _quiet(axes)


def _bars(axes: Axes, values: Mapping[str, float], title: str, colour: str, form: str, *, nothing: str) -> None:
    """Named values, the greatest on top."""
    if not values:
        _empty(axes, title, nothing)
        return
    ordered = sorted(values.items(), key=lambda item: (-item[1], item[0]))
    if len(ordered) > _MOST_BARS:
        rest = ordered[_MOST_BARS - 1 :]
        ordered = [*ordered[: _MOST_BARS - 1], (f"{len(rest)} others", sum(value for _, value in rest))]
    names, numbers = [name for name, _ in ordered][::-1], [value for _, value in ordered][::-1]
    axes.barh(range(len(names)), numbers, 0.7, color=colour)
    _values(axes, range(len(names)), numbers, max(numbers), form)
    axes.set(title=title, yticks=range(len(names)), yticklabels=names, xlim=(0, max(numbers) * 1.2))
    axes.set_ylim(min(-0.6, len(names) - 4.6), len(names) - 0.4)
    _quiet(axes)


def _values(axes: Axes, places: Sequence[float], values: Sequence[float], longest: float, form: str) -> None:
    for place, value in zip(places, values, strict=True):
        axes.text(value + longest * 0.01, place, form.format(value), va="center", fontsize=8)


def _empty(axes: Any, title: str, told: str) -> None:
    axes.set(title=title, xticks=[], yticks=[])
    axes.text(0.5, 0.5, told, ha="center", va="center", color="#777777", transform=axes.transAxes)
    _quiet(axes)


def _quiet(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.title.set_size(10)
    axes.xaxis.label.set_size(8)
    axes.tick_params(labelsize=8)
