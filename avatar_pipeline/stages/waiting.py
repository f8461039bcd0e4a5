"""What a request can wait out: no credits, a busy provider, an account that is refused, a voice to be verified."""

from __future__ import annotations

from datetime import datetime, timedelta

from avatar_pipeline.errors import (
    AccountRefused,
    AvatarError,
    BudgetHold,
    ProviderBusy,
    QuotaExhausted,
    VoiceNotReady,
)
from avatar_pipeline.stages.line import Line

WAITING = (QuotaExhausted, ProviderBusy, VoiceNotReady, AccountRefused, BudgetHold)
"""The provider of a voice cannot serve it now, or a budget has no room for it."""

BUSY_PAUSE = timedelta(minutes=1)
LONGEST_BUSY_PAUSE = timedelta(hours=1)
MOST_BUSY_PAUSES = 24
"""About a day in all: no outage of a provider lasts longer, so what is refused so often is refused for its own sake."""
QUOTA_PAUSE = timedelta(minutes=10)
"""Where nobody says when credits are renewed."""
ACCOUNT_PAUSE = timedelta(minutes=10)
VERIFICATION_PAUSE = timedelta(hours=1)
BUDGET_PAUSE = timedelta(days=1)
"""Where only a higher limit helps; whoever raises it does not wait so long, for the budget sensor releases it."""


def wait_until(error: AvatarError, now: datetime, *, pauses: int) -> datetime | None:
    """Return until when a request is to wait that met `error`; None if waiting does not help.

    `pauses` is how often it had to wait for a busy provider before: each pause is twice as long as the last, up to an
    hour, and after a day of them the request is given up.
    """
    if isinstance(error, QuotaExhausted):
        return error.resets_at if error.resets_at is not None and error.resets_at > now else now + QUOTA_PAUSE
    if isinstance(error, BudgetHold):
        return error.retry_at if error.retry_at is not None and error.retry_at > now else now + BUDGET_PAUSE
    if isinstance(error, VoiceNotReady):
        return now + VERIFICATION_PAUSE
    if isinstance(error, AccountRefused):
        return now + ACCOUNT_PAUSE
    if isinstance(error, ProviderBusy) and pauses < MOST_BUSY_PAUSES:
        return now + min(BUSY_PAUSE * (1 << min(pauses, 10)), LONGEST_BUSY_PAUSE)
    return None


def put_off(line: Line, request_id: str, error: AvatarError) -> bool:
    """Hold a request until what it met may be over; false, and nothing done, where waiting is of no use."""
    if not isinstance(error, WAITING):
        return False
    until = wait_until(error, line.clock(), pauses=times_put_off(line, request_id, because=ProviderBusy))
    if until is None:
        return False
    held_by = error.limit_id if isinstance(error, BudgetHold) else None
    line.requests.hold(request_id, f"{error.code}: {error.message}", until, held_by=held_by)
    return True


def times_put_off(line: Line, request_id: str, because: type[AvatarError] | None = None) -> int:
    """Count how often a request was put off, for one kind of error or for any."""
    codes = {kind.code for kind in WAITING} if because is None else {because.code}
    notes = [event.note for event in line.requests.history(request_id) if event.state == "held"]
    return sum(note.partition(":")[0] in codes for note in notes)
