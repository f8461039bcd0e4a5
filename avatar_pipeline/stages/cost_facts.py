"""A day's costs as JSON, as figures to plot over the days, and as a verdict on the bill."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from decimal import Decimal
from typing import Any

from avatar_pipeline.budget.bill import Comparison
from avatar_pipeline.budget.drift import ALARM
from avatar_pipeline.budget.outlook import Outlook
from avatar_pipeline.budget.types import MICRO, NONE
from avatar_pipeline.ledger.cost_sums import PROVIDER, Spent
from avatar_pipeline.ledger.costs import Each
from avatar_pipeline.preview.cost_figures import CostFigures
from avatar_pipeline.preview.cost_words import NOBODY, money, share, signed
from avatar_pipeline.stages.checks import Verdict

_MOST_NAMES = 10


def document(figures: CostFigures) -> dict[str, Any]:
    """Return all figures as JSON. Amounts are text, so that they stay exact: US dollars, seconds, characters."""
    costs, minutes = figures.costs, figures.minutes
    return {
        "version": 1,
        "day": costs.day.isoformat(),
        "partial": figures.until is not None,
        "until": None if figures.until is None else figures.until.isoformat(),
        "total": _spent(costs.total),
        "by_tenant": _all(costs.by_tenant),
        "by_asset": _all(costs.by_asset),
        "by_capacity": _all(costs.by_capacity),
        "by_ending": _all(costs.by_ending),
        "by_provider": _all(costs.providers),
        "by_hour": [_spent(each) for each in costs.by_hour],
        "hours_by_capacity": {name: [str(amount) for amount in each] for name, each in costs.hours_by_capacity.items()},
        "days_before": {day.isoformat(): str(amount) for day, amount in figures.before.items()},
        "unattributed": _spent(costs.unattributed),
        "attempts": dict(costs.attempts),
        "unsettled": costs.unsettled,
        "avatars": _each(costs.avatars),
        "clips": _each(costs.clips),
        "minutes": {
            "clips": minutes.clips,
            "known": minutes.known,
            "seconds": str(minutes.seconds),
            "usd": str(minutes.cost),
            "usd_per_minute": _text(minutes.per_minute),
        },
        "bill": _bill(figures.comparison),
        "budgets": None if figures.outlooks is None else [_budget(each) for each in figures.outlooks],
        "limits": figures.limits,
        "alerts": [
            {"at": alert.at.isoformat(), "limit_id": alert.limit_id, "kind": alert.kind, "message": alert.message}
            for alert in figures.alerts
        ],
    }


def facts(figures: CostFigures) -> dict[str, Any]:
    """Return the figures that are worth a line over the days; those of what there was none of are left out."""
    costs = figures.costs
    lost = sum((each.amount for each in costs.lost.values()), NONE)
    told: dict[str, Any] = {
        "day": costs.day.isoformat(),
        "partial": figures.until is not None,
        "spend_usd": float(costs.total.amount),
        "saved_usd": float(costs.total.saved),
        "machine_hours": _rounded(costs.total.seconds / 3600),
        "characters": float(costs.total.characters),
        "provider_usd": float(costs.by_capacity.get(PROVIDER, Spent()).amount),
        "unattributed_usd": float(costs.unattributed.amount),
        "attempts_lost": sum(costs.attempts[name] for name in costs.lost),
        "lost_usd": float(lost),
        "unsettled": costs.unsettled,
        "clips_done": costs.clips.count,
        "avatars_ready": costs.avatars.count,
    }
    for name, each in costs.by_capacity.items():
        if name != PROVIDER:
            told[f"{(name or 'untold').replace('-', '_')}_usd"] = float(each.amount)
    for name, all_of in (("clip", costs.clips), ("avatar", costs.avatars)):
        if all_of.average is not None:
            told |= {f"{name}_usd": _rounded(all_of.average), f"{name}_usd_p95": float(all_of.p95)}
    if figures.minutes.per_minute is not None:
        told["minute_usd"] = _rounded(figures.minutes.per_minute)
    if whole := costs.total.saved + costs.by_capacity.get("spot", Spent()).amount:
        told["saved_share"] = _rounded(costs.total.saved / whole)
    return told | _budget_facts(figures) | bill_facts(figures.comparison) | _lists(figures)


def bill_facts(comparison: Comparison) -> dict[str, Any]:
    """Return what the bill says, as facts that `matches_the_bill` judges; figures to plot are those of the day."""
    if not comparison.configured:
        return {"bill": "not configured"}
    if comparison.problem is not None:
        return {"bill": "not readable", "bill_problem": comparison.problem}
    told: dict[str, Any] = {
        "bill": "not there yet" if not comparison.drifts else "drifts" if comparison.alarms else "matches",
        "bill_until": "nothing" if comparison.until is None else f"{comparison.until:%Y-%m-%d %H:%M} UTC",
        "drifts": [
            f"{day}: US$ {money(found.ours)} recorded, {money(found.theirs)} billed ({signed(found)})"
            for day, found in comparison.drifts
        ],
        "worst_drift_share": _rounded(max((found.share for _, found in comparison.drifts), default=NONE)),
    }
    today = comparison.days[-1].drift if comparison.days else None
    if today is not None:
        told |= {
            "billed_usd": _rounded(today.theirs),
            "recorded_usd": float(today.ours),
            "drift_share": _rounded(today.share),
        }
    return told


def matches_the_bill(facts: Mapping[str, Any]) -> Verdict:
    """What we recorded for machines is within 5 % of what AWS billed for them, on each of the last billed days."""
    state = facts["bill"]
    figures: dict[str, float] = {}
    if state == "not configured":
        told = "Not compared: no cost and usage report is configured (AVATAR_CUR)."
    elif state == "not readable":
        told = f"The bill could not be read. {facts['bill_problem']}"
    elif state == "not there yet":
        told = f"Not compared: the bill is not so far yet; it tells of {facts['bill_until']}."
    else:
        figures = {"worst_drift_share": facts["worst_drift_share"]}
        within = "Within" if state == "matches" else "Not within"
        told = f"{within} {float(ALARM):.0%} of the bill. {'; '.join(facts['drifts'])}."
    return Verdict("matches_the_bill", state not in {"drifts", "not readable"}, told, figures, warns=True)


def _budget_facts(figures: CostFigures) -> dict[str, Any]:
    if not figures.outlooks:
        return {}
    spent = max(figures.outlooks, key=lambda each: each.standing.share)
    expected = max(figures.outlooks, key=lambda each: each.expected_share)
    return {
        "budget_share": _rounded(spent.standing.share),
        "budget_share_of": spent.limit.id,
        "forecast_share": _rounded(expected.expected_share),
        "forecast_share_of": expected.limit.id,
        "alerts": len(figures.alerts),
    }


def _lists(figures: CostFigures) -> dict[str, Any]:
    costs = figures.costs
    return {
        "tenants": [f"{name or NOBODY}: US$ {money(each.amount)}" for name, each in _first(costs.by_tenant)],
        "assets": [f"{name}: US$ {money(each.amount)}" for name, each in _first(costs.by_asset)],
        "budgets": [
            f"{each.limit.id}: {share(each.standing.share)} spent, {share(each.expected_share)} expected"
            for each in (figures.outlooks or ())[:_MOST_NAMES]
        ],
    }


def _first(spent: Mapping[str, Spent]) -> list[tuple[str, Spent]]:
    return list(spent.items())[:_MOST_NAMES]


def _bill(comparison: Comparison) -> dict[str, Any]:
    return {
        "configured": comparison.configured,
        "problem": comparison.problem,
        "until": None if comparison.until is None else comparison.until.isoformat(),
        "days": [
            {
                "day": one.day.isoformat(),
                "ours": str(one.ours),
                "theirs": None if one.drift is None else str(one.drift.theirs),
                "share": None if one.drift is None else _text(one.drift.share),
                "alarm": one.drift is not None and one.drift.alarm,
            }
            for one in comparison.days
        ],
    }


def _budget(each: Outlook) -> dict[str, Any]:
    standing, expected = each.standing, each.forecast
    return {
        "limit_id": each.limit.id,
        "scope": str(each.limit.scope),
        "unit": str(each.limit.unit),
        "period": str(each.limit.period),
        "from": standing.starts_at.isoformat(),
        "to": None if standing.ends_at is None else standing.ends_at.isoformat(),
        "hard": str(standing.hard),
        "settled": str(standing.settled),
        "expected": str(expected.expected),
        "low": str(expected.low),
        "high": str(expected.high),
        "hours_seen": expected.hours_seen,
    }


def _each(costs: Each) -> dict[str, Any]:
    return {"count": costs.count, "usd": str(costs.total), "average": _text(costs.average), "p95": str(costs.p95)}


def _all(spent: Mapping[str, Spent]) -> dict[str, dict[str, str]]:
    return {name: _spent(each) for name, each in spent.items()}


def _spent(each: Spent) -> dict[str, str]:
    names = {"amount": "usd", "saved": "saved_usd", "seconds": "seconds", "characters": "characters"}
    return {names[name]: str(value) for name, value in asdict(each).items()}


def _text(value: Decimal | None) -> str | None:
    """What was divided is told to a millionth."""
    return None if value is None else str(value.quantize(MICRO))


def _rounded(value: Decimal) -> float:
    return float(value.quantize(MICRO))
