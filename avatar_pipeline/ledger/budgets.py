"""The book of budgets: what people change about limits, and the alerts that went out. Append-only: an audit of both."""

from __future__ import annotations

import secrets
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from avatar_pipeline.budget.changes import Action, Change
from avatar_pipeline.budget.config import Plan
from avatar_pipeline.budget.types import MICRO
from avatar_pipeline.clock import Clock, utc_now
from avatar_pipeline.errors import Conflict, NotFound
from avatar_pipeline.ledger.budget_alerts import Alert, alert_body, alert_of
from avatar_pipeline.ledger.budget_checks import (
    require_addition,
    require_amount,
    require_end,
    require_limit,
    require_signature,
)
from avatar_pipeline.ledger.callbacks import CallbackBook
from avatar_pipeline.ledger.database import exclusively, insert_new, reading, writing
from avatar_pipeline.ledger.spend_schema import BudgetAlertRow, BudgetChangeRow


class BudgetBook:
    """Changes of limits, and alerts, in the ledger. Every method is one transaction; nothing is ever changed in place.

    `plan` says which limits there are.
    """

    def __init__(self, engine: Engine, plan: Plan, clock: Clock = utc_now) -> None:
        self._engine = engine
        self._plan = plan
        self._clock = clock

    # Changing limits

    def set(self, limit_id: str, amount: Decimal, *, who: str, reason: str) -> None:
        """Put `amount` (of the limit's unit) in the place of the file's, until it is set again or cleared.

        The id is that of a limit, of a rule for each (`tenants/day`), or of one of them (`tenants/day@tenant:acme`).

        Raises:
            NotFound: there is no such limit; names those there are.
            InvalidInput: the amount is no amount, or there is no reason.
        """
        require_limit(self._plan, limit_id)
        amount = require_amount(amount, "A limit")
        self._write(limit_id, Action.SET, who=who, reason=reason, amount=amount)

    def clear(self, limit_id: str, *, who: str, reason: str) -> bool:
        """Go back to what the file says; false, and nothing is written, where nothing was set.

        What was set for a limit that the file does not have any more can be cleared too. Overrides stay.

        Raises:
            NotFound: there is no such limit, and nothing was ever set for it.
            InvalidInput: there is no reason.
        """
        who, reason = require_signature(who, reason)
        with writing(self._engine, durable=True) as session:
            exclusively(session, "budgets", limit_id)
            lasting = (BudgetChangeRow.limit_id == limit_id, BudgetChangeRow.action.in_((Action.SET, Action.CLEAR)))
            last = session.scalar(
                select(BudgetChangeRow.action).where(*lasting).order_by(BudgetChangeRow.id.desc()).limit(1)
            )
            if last is None:
                require_limit(self._plan, limit_id)
            if last != Action.SET:
                return False
            self._add(session, limit_id, Action.CLEAR, who=who, reason=reason)
        return True

    def override(self, limit_id: str, add: Decimal, *, until: datetime, who: str, reason: str) -> str:
        """Allow `add` on top of a limit until a time; return the override's id, by which it can be revoked.

        Raises:
            NotFound: there is no such limit; names those there are.
            InvalidInput: the amount is none, the time is over or more than 90 days away, or there is no reason.
        """
        require_limit(self._plan, limit_id)
        add = require_addition(add)
        require_end(until, self._clock())
        override_id = secrets.token_hex(6)
        self._write(
            limit_id, Action.OVERRIDE, who=who, reason=reason, amount=add, override_id=override_id, expires_at=until
        )
        return override_id

    def revoke(self, override_id: str, *, who: str, reason: str) -> str:
        """End an override before its time; return the id of its limit.

        Raises:
            NotFound: there is no such override.
            Conflict: it has ended already.
            InvalidInput: there is no reason.
        """
        who, reason = require_signature(who, reason)
        with writing(self._engine, durable=True) as session:
            exclusively(session, "budgets", override_id)
            mine = (
                select(BudgetChangeRow).where(BudgetChangeRow.override_id == override_id).order_by(BudgetChangeRow.id)
            )
            rows = session.scalars(mine).all()
            if not rows:
                raise NotFound(
                    f"There is no override {override_id[:40]!r}.", remedy="See what there is: avatar budget changes."
                )
            first, last = rows[0], rows[-1]
            _require_running(first, last, self._clock())
            self._add(session, first.limit_id, Action.REVOKE, who=who, reason=reason, override_id=override_id)
            return first.limit_id

    def changes(self, limit_id: str | None = None) -> list[Change]:
        """Return every change ever made, oldest first: of one limit (and of the rule it comes from), or of all."""
        query = select(BudgetChangeRow).order_by(BudgetChangeRow.id)
        if limit_id is not None:
            query = query.where(BudgetChangeRow.limit_id.in_((limit_id, limit_id.partition("@")[0])))
        with reading(self._engine) as session:
            return [_change(row) for row in session.scalars(query)]

    # Alerts

    def raise_alert(
        self,
        limit_id: str,
        period_start: datetime,
        kind: str,
        threshold: Decimal,
        share: Decimal,
        message: str,
        *,
        url: str | None = None,
    ) -> bool:
        """Write down that a threshold was crossed; true for the one call that did, whoever else calls at the same time.

        With a `url`, a signed webhook (`budget.alert`) to it is put into the outbox in the same transaction: the
        callback sensor delivers it. So it is told exactly as often as it is written down.
        """
        now = self._clock()
        threshold, share = (value.quantize(MICRO, ROUND_HALF_EVEN) for value in (threshold, share))
        alert = Alert(limit_id, period_start, kind, threshold, share, message, now)
        with writing(self._engine) as session:
            new = insert_new(session, BudgetAlertRow).values(
                limit_id=limit_id,
                period_start=period_start,
                kind=kind,
                threshold=threshold,
                share=share,
                message=message,
                at=now,
            )
            if session.scalar(new.returning(BudgetAlertRow.at)) is None:
                return False
            if url is not None:
                CallbackBook.enqueue(session, request_id=alert.callback_name, url=url, body=alert_body(alert), now=now)
            return True

    def alerts(self, since: datetime | None = None, limit: int = 100) -> list[Alert]:
        """Return up to `limit` alerts that went out at `since` or later, the newest first."""
        query = select(BudgetAlertRow).order_by(BudgetAlertRow.at.desc(), BudgetAlertRow.threshold.desc())
        if since is not None:
            query = query.where(BudgetAlertRow.at >= since)
        with reading(self._engine) as session:
            return [alert_of(row) for row in session.scalars(query.limit(limit))]

    def _write(self, limit_id: str, action: Action, *, who: str, reason: str, **more: Any) -> None:
        who, reason = require_signature(who, reason)
        with writing(self._engine, durable=True) as session:
            # One at a time, so that their ids are in the order in which they came into force.
            exclusively(session, "budgets", limit_id)
            self._add(session, limit_id, action, who=who, reason=reason, **more)

    def _add(self, session: Session, limit_id: str, action: Action, **more: Any) -> None:
        values = {"amount": None, "override_id": None, "expires_at": None, "at": self._clock()} | more
        session.add(BudgetChangeRow(limit_id=limit_id, action=str(action), **values))


def _require_running(override: BudgetChangeRow, last: BudgetChangeRow, now: datetime) -> None:
    """Check that an override has not ended; `last` is the last that happened to it."""
    if last.action == Action.REVOKE:
        how, at = "was revoked", last.at
    elif override.expires_at is not None and override.expires_at <= now:
        how, at = "ended by itself", override.expires_at
    else:
        return
    raise Conflict(
        f"Override {override.override_id} of {override.limit_id} {how} at {at:%Y-%m-%d %H:%M} UTC.",
        remedy="Nothing is left to do.",
    )


def _change(row: BudgetChangeRow) -> Change:
    return Change(
        id=row.id,
        limit_id=row.limit_id,
        action=row.action,
        amount=row.amount,
        override_id=row.override_id,
        expires_at=row.expires_at,
        who=row.who,
        reason=row.reason,
        at=row.at,
    )
