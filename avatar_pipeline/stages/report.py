"""daily_report: what one day brought, in figures and in one picture."""

from __future__ import annotations

import hashlib
import json
from datetime import date
from typing import Any

from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.ledger.report import KINDS, OUTCOMES, PERCENTILES, DayFigures, bounds, read_day
from avatar_pipeline.preview.images import jpeg
from avatar_pipeline.stages.line import Line, StageResult, produce
from avatar_pipeline.store.artifacts import Draft, Recipe, Slot
from avatar_pipeline.store.checkpoints import Checkpoints

REPORT_VERSION = "1"


def make_daily_report(line: Line, day: date) -> StageResult:
    """Report on a UTC day: `report.json`, and its charts in `preview.jpg`.

    The key is made from the figures, so a report that would say the same is found and not made again, and one that
    says something new becomes the current one. A day that is not over is marked partial. Dead letters are those that
    lie in the queues now, on whatever day they were sent.

    Raises:
        InvalidInput: the day has not begun.
    """
    begin, end = bounds(day)
    now = line.clock()
    if now < begin:
        raise InvalidInput(f"{day} has not begun: it is {now:%Y-%m-%d %H:%M} UTC.", remedy="Ask for a day that has.")
    figures = read_day(line.ledger.engine, day)
    partial = now < end
    document = _document(figures) | {"partial": partial, "dead_letters": _dead_letters(line)}
    text = json.dumps(document, indent=1, sort_keys=True)

    def make(draft: Draft, _: Checkpoints) -> None:
        from avatar_pipeline.preview.charts import day_picture

        (draft.folder / "report.json").write_text(text + "\n")
        (draft.folder / "preview.jpg").write_bytes(jpeg(day_picture(figures, title=_title(figures, document))))
        draft.facts |= _facts(figures, document)

    params: dict[str, Any] = {"day": day.isoformat(), "figures": hashlib.sha256(text.encode()).hexdigest()}
    return produce(line, Recipe(Slot("reports", day.isoformat(), "daily_report"), REPORT_VERSION, {}, params), make)


def _dead_letters(line: Line) -> dict[str, int]:
    """Count what lies in the dead-letter queues."""
    queues = {"avatar": line.queues.avatars.dead, "clip": line.queues.clips.dead}
    return {kind: queue.depth().total for kind, queue in queues.items() if queue is not None}


def _document(figures: DayFigures) -> dict[str, Any]:
    """Return the figures as JSON: seconds and US dollars, money as text so that it stays exact."""
    return {
        "version": 1,
        "day": figures.day.isoformat(),
        "sent_by_hour": {kind: list(counts) for kind, counts in figures.sent.items()},
        "finished_by_hour": {
            kind: {outcome: list(counts) for outcome, counts in ends.items()} for kind, ends in figures.finished.items()
        },
        "latency_seconds": {
            kind: {
                part: {"count": value.count} | {f"p{percent}": getattr(value, f"p{percent}") for percent in PERCENTILES}
                for part, value in parts.items()
            }
            for kind, parts in figures.latency.items()
        },
        "failures": {kind: dict(counts) for kind, counts in figures.failures.items()},
        "spend_usd": {asset: str(cost) for asset, cost in figures.spend.items()},
        "avatars_made": figures.avatars_made,
        "clips_reused": figures.clips_reused,
    }


def _facts(figures: DayFigures, document: dict[str, Any]) -> dict[str, Any]:
    """Return the figures that are worth a line over the days; a latency only where something was done."""
    facts: dict[str, Any] = {"day": document["day"], "partial": document["partial"]}
    for kind in KINDS:
        facts[f"{kind}s_sent"] = sum(figures.sent[kind])
        facts |= {f"{kind}s_{outcome}": figures.total(kind, outcome) for outcome in OUTCOMES}
        for part, value in figures.latency[kind].items():
            name = f"{kind}_seconds" if part == "total" else f"{kind}_seconds_{part}"
            chosen = PERCENTILES if part == "total" else (95,)
            facts |= {f"{name}_p{percent}": getattr(value, f"p{percent}") for percent in chosen}
    done = figures.total("clip", "done")
    if done:
        facts["clips_reused_share"] = round(figures.clips_reused / done, 4)
    return facts | {
        "avatars_made": figures.avatars_made,
        "dead_letters": sum(document["dead_letters"].values()),
        "spend_usd": float(sum(figures.spend.values())),
        "failures": [f"{code} ({kind}): {n}" for kind in KINDS for code, n in figures.failures[kind].items()],
    }


def _title(figures: DayFigures, document: dict[str, Any]) -> str:
    ends = "; ".join(
        f"{kind}s: {figures.total(kind, 'done')} done, {figures.total(kind, 'failed')} failed" for kind in KINDS
    )
    unfinished = " (not over yet)" if document["partial"] else ""
    return f"{figures.day}{unfinished}. {ends}; US$ {sum(figures.spend.values()):.2f}"
