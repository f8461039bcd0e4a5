"""Alerts of budgets, and what a webhook says of one."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from avatar_pipeline.ledger.spend_schema import BudgetAlertRow


@dataclass(frozen=True, slots=True)
class Alert:
    """A crossing that somebody was told of: once for a limit, a period, a kind (actual, forecast) and a threshold.

    `share` is spent over hard (or forecast over hard) at the time.
    """

    limit_id: str
    period_start: datetime
    kind: str
    threshold: Decimal
    share: Decimal
    message: str
    at: datetime

    @property
    def callback_name(self) -> str:
        """What its webhook is kept under in the callbacks' book, in the place of a request's id."""
        return callback_name(self.limit_id, self.period_start, self.kind, self.threshold)


def callback_name(limit_id: str, period_start: datetime, kind: str, threshold: Decimal) -> str:
    """Return the name of an alert's webhook. It has underscores, as no request's id has."""
    key = json.dumps([limit_id, period_start.astimezone(UTC).isoformat(), kind, _plain(threshold)])
    return f"budget_alert_{hashlib.sha256(key.encode()).hexdigest()[:20]}"


def alert_body(alert: Alert) -> str:
    """Return what a webhook says of an alert, in the shape of Standard Webhooks. Decimals are strings, to be exact."""
    data = {
        "limit_id": alert.limit_id,
        "period_start": alert.period_start.astimezone(UTC).isoformat(timespec="seconds"),
        "kind": alert.kind,
        "threshold": _plain(alert.threshold),
        "share": _plain(alert.share),
        "message": alert.message,
    }
    return json.dumps(
        {
            "type": "budget.alert",
            "timestamp": alert.at.astimezone(UTC).isoformat(timespec="milliseconds"),
            "data": data,
        },
        ensure_ascii=False,
        separators=(",", ":"),
    )


def alert_of(row: BudgetAlertRow) -> Alert:
    """Return a row of alerts."""
    return Alert(
        limit_id=row.limit_id,
        period_start=row.period_start,
        kind=row.kind,
        threshold=row.threshold,
        share=row.share,
        message=row.message,
        at=row.at,
    )


def _plain(value: Decimal) -> str:
    return format(value.normalize(), "f")
