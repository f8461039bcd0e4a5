"""Budgets as `avatar budget --json` tells them. Amounts are text, to be exact."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from avatar_pipeline.budget.changes import Change
from avatar_pipeline.budget.forecast import Forecast
from avatar_pipeline.budget.types import Amounts, Standing
from avatar_pipeline.ledger.budget_alerts import Alert
from avatar_pipeline.ledger.callbacks import Callback
from avatar_pipeline.stages.budget_view import BudgetLine
from avatar_pipeline.stages.explaining import Cost, Explanation


def line_as_dict(one: BudgetLine) -> dict[str, Any]:
    """Return a budget for `--json`."""
    return _standing_as_dict(one.standing) | {
        "file_value": one.limit.hard,
        "carried": one.carried,
        "set_by": None if one.set_by is None else change_as_dict(one.set_by),
        "overrides": [change_as_dict(change) for change in one.overrides],
        "thresholds": list(one.limit.thresholds),
        "forecast": None if one.forecast is None else _forecast_as_dict(one.forecast),
        "held": one.held,
    }


def explanation_as_dict(explained: Explanation) -> dict[str, Any]:
    """Return an explanation for `--json`."""
    record, now, kept = explained.record, explained.now, explained.reservation
    asked = explained.asked_of
    return {
        "request_id": record.request.request_id,
        "state": record.state,
        "avatar_id": record.request.avatar_id,
        "tenant": record.request.tenant,
        "explanation": list(explained.sentences),
        "held_by": record.held_by,
        "held_at": record.held_at,
        "held_until": record.held_until,
        "binding": None if explained.binding is None else _standing_as_dict(explained.binding),
        "asked": explained.asked,
        "retry_at": explained.retry_at,
        "ahead": explained.ahead,
        "now": None if now is None else {"decision": str(now.decision), "reason": now.reason, "retry_at": now.retry_at},
        "budgets": [
            _standing_as_dict(standing) | {"asked": asked.get(limit.id)} for limit, standing in explained.standings
        ],
        "reservation": None
        if kept is None
        else {
            "key": kept.key,
            "state": kept.state,
            "reserved": _amounts_as_dict(kept.reserved),
            "used": _amounts_as_dict(kept.used),
            "left": _amounts_as_dict(kept.left),
        },
        "cost": _cost_as_dict(explained.cost),
    }


def alert_as_dict(alert: Alert, webhook: Callback | None) -> dict[str, Any]:
    """Return an alert for `--json`. Of its webhook's URL, which may hold a secret, only the host."""
    told = None
    if webhook is not None:
        told = {"host": webhook.host, "state": webhook.state, "attempts": webhook.attempts, "error": webhook.last_error}
    return {
        "at": alert.at,
        "budget": alert.limit_id,
        "period_start": alert.period_start,
        "kind": alert.kind,
        "threshold": alert.threshold,
        "share": alert.share,
        "message": alert.message,
        "webhook": told,
    }


def change_as_dict(change: Change) -> dict[str, Any]:
    """Return a change for `--json`."""
    return {
        "at": change.at,
        "budget": change.limit_id,
        "action": change.action,
        "amount": change.amount,
        "override_id": change.override_id,
        "expires_at": change.expires_at,
        "who": change.who,
        "reason": change.reason,
    }


def _standing_as_dict(standing: Standing) -> dict[str, Any]:
    return {
        "budget": standing.limit_id,
        "scope": str(standing.scope),
        "unit": str(standing.unit),
        "period": standing.period,
        "starts_at": standing.starts_at,
        "turns_at": standing.ends_at,
        "hard": standing.hard,
        "spent": standing.settled,
        "reserved": standing.reserved,
        "left": standing.left,
        "share": round(float(standing.share), 6),
    }


def _forecast_as_dict(forecast: Forecast) -> dict[str, Any]:
    return {
        "expected": forecast.expected,
        "low": forecast.low,
        "high": forecast.high,
        "hours_seen": forecast.hours_seen,
    }


def _amounts_as_dict(amounts: Amounts) -> dict[str, Decimal]:
    return {
        "usd": amounts.usd,
        "compute_usd": amounts.compute,
        "provider_usd": amounts.provider,
        "characters": amounts.characters,
    }


def _cost_as_dict(cost: Cost) -> dict[str, Any]:
    spent = cost.spent
    return {
        "usd": spent.amount,
        "spot_saved_usd": spent.saved,
        "machine_seconds": spent.seconds,
        "characters": spent.characters,
        "usd_by_asset": {name: one.amount for name, one in cost.by_asset.items()},
    }
