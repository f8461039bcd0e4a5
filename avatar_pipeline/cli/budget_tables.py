"""Budgets as `avatar budget` shows them: tables and sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal

from rich.table import Table

from avatar_pipeline.budget.changes import Action, Change
from avatar_pipeline.budget.config import Limit
from avatar_pipeline.budget.figures import PER, figure, moment, percent, with_unit
from avatar_pipeline.budget.types import NONE, Standing, Unit
from avatar_pipeline.cli import console
from avatar_pipeline.ledger.budget_alerts import Alert
from avatar_pipeline.ledger.callbacks import Callback
from avatar_pipeline.stages.budget_view import BudgetLine, taken
from avatar_pipeline.stages.explaining import Explanation

_BAR = 20


def lines_table(found: Iterable[BudgetLine], timezone: str) -> Table:
    """Return a table of budgets."""
    table = Table("budget", "period", box=None)
    for title in ("limit", "spent", "reserved", "left"):
        table.add_column(title, justify="right")
    for title in ("", "forecast (80 %)", "turns at", "held", "set by"):
        table.add_column(title)
    for one in found:
        standing = one.standing
        unit = standing.unit
        table.add_row(
            one.limit.id,
            f"{unit} {PER[standing.period]}",
            figure(standing.hard, unit),
            *(figure(amount, unit) for amount in (standing.settled, standing.reserved, standing.left)),
            bar(standing),
            _forecast(one),
            moment(standing.ends_at, timezone) if standing.ends_at else "",
            f"{one.held:,}" if one.held else "",
            _set_by(one),
        )
    return table


def bar(standing: Standing) -> str:
    """Return how full a limit is: `#` spent, `+` reserved."""
    hard = standing.hard
    if hard <= 0:
        return f"[{'#' * _BAR}]"
    spent = min(_BAR, int(standing.settled / hard * _BAR))
    both = min(_BAR, int(taken(standing) * _BAR))
    return f"[{'#' * spent}{'+' * (both - spent)}{' ' * (_BAR - both)}] {percent(standing.share)}"


def line_sentence(one: BudgetLine) -> str:
    """Return one sentence about what is in force."""
    unit = one.standing.unit
    more = f" (the file says {figure(one.limit.hard, unit)})" if one.standing.hard != one.limit.hard else ""
    return (
        f"{one.limit.id}: {with_unit(one.standing.hard, unit)} {PER[one.standing.period]}{more}, "
        f"{figure(one.standing.settled, unit)} spent, {figure(one.standing.reserved, unit)} reserved, "
        f"{figure(one.standing.left, unit)} left."
    )


def rule_sentence(rule: Limit, hard: Decimal) -> str:
    """Return one sentence about a rule for each."""
    return (
        f"{rule.id}: {with_unit(hard, rule.unit)} {PER[rule.period]} for each {rule.scope.kind}; "
        "those are listed that have spent or reserved any."
    )


def override_sentence(change: Change, unit: Unit, timezone: str) -> str:
    """Return one sentence about an override that is in force."""
    until = f" until {moment(change.expires_at, timezone)}" if change.expires_at else ""
    amount = with_unit(change.amount or NONE, unit)
    who, reason = console.printable(change.who), console.printable(change.reason)
    return f"{change.limit_id}: override {change.override_id} adds {amount}{until} ({who}: {reason})"


def standings_table(explained: Explanation, timezone: str) -> Table:
    """Return a table of the limits that a request counts against, the binding one marked."""
    table = Table("budget", "period", box=None)
    for title in ("limit", "spent", "reserved", "left", "asked"):
        table.add_column(title, justify="right")
    table.add_column("turns at")
    table.add_column("")
    asked = explained.asked_of
    for limit, standing in explained.standings:
        unit = standing.unit
        amount = asked.get(limit.id)
        binding = explained.binding is not None and explained.binding.limit_id == limit.id
        table.add_row(
            limit.id,
            f"{unit} {PER[standing.period]}",
            *(figure(one, unit) for one in (standing.hard, standing.settled, standing.reserved, standing.left)),
            "" if amount is None else figure(amount, unit),
            moment(standing.ends_at, timezone) if standing.ends_at else "",
            "holds it" if binding else "",
        )
    return table


def alerts_table(webhooks: Mapping[Alert, Callback | None], timezone: str) -> Table:
    """Return a table of alerts, each with its webhook where it has one."""
    table = Table("at", "budget", "kind", "threshold", "webhook", box=None)
    table.add_column("message", overflow="fold")
    for alert, webhook in webhooks.items():
        sent = "" if webhook is None else f"{webhook.state} ({webhook.host})"
        table.add_row(
            moment(alert.at, timezone),
            alert.limit_id,
            alert.kind,
            percent(alert.threshold),
            console.printable(sent),
            console.printable(alert.message),
        )
    return table


def changes_table(found: Iterable[Change], timezone: str, now: datetime) -> Table:
    """Return a table of changes, oldest first."""
    table = Table("at", "budget", "what", "who", box=None)
    table.add_column("why", overflow="fold")
    known = list(found)
    revoked = {change.override_id for change in known if change.action == Action.REVOKE}
    for change in known:
        table.add_row(
            moment(change.at, timezone),
            change.limit_id,
            _what(change, timezone, now, revoked=change.override_id in revoked),
            console.printable(change.who),
            console.printable(change.reason),
        )
    return table


def _forecast(one: BudgetLine) -> str:
    expected = one.forecast
    if expected is None or not expected.hours_seen:
        return ""
    unit = one.standing.unit
    return f"{_short(expected.expected, unit)} ({_short(expected.low, unit)} to {_short(expected.high, unit)})"


def _short(amount: Decimal, unit: Unit) -> str:
    places = Decimal("0.01") if amount < 1000 else Decimal(1)
    return figure(amount.quantize(places), unit)


def _set_by(one: BudgetLine) -> str:
    unit = one.standing.unit
    parts = []
    if one.set_by is not None:
        parts.append(f"{console.printable(one.set_by.who, 40)} (file: {figure(one.limit.hard, unit)})")
    if one.overrides:
        added = sum((change.amount or NONE for change in one.overrides), NONE)
        parts.append(f"overrides +{figure(added, unit)}")
    if one.carried:
        parts.append(f"carried over {figure(one.carried, unit)}")
    return ", ".join(parts) or "file"


def _what(change: Change, timezone: str, now: datetime, *, revoked: bool) -> str:
    amount = f"{change.amount.normalize():,f}" if change.amount is not None else ""
    if change.action == Action.OVERRIDE:
        end = f" until {moment(change.expires_at, timezone)}" if change.expires_at else ""
        over = change.expires_at is not None and change.expires_at <= now
        state = ", revoked" if revoked else ", over" if over else ""
        return f"override {change.override_id}: +{amount}{end}{state}"
    if change.action == Action.REVOKE:
        return f"revoke {change.override_id}"
    return f"set to {amount}" if change.action == Action.SET else "clear"
