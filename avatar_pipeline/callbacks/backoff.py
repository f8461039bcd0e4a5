"""When a webhook is tried again: pure functions of what happened so far."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from hashlib import sha256

SCHEDULE = tuple(timedelta(seconds=seconds) for seconds in (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400))
"""Waits after the first, second, ... failure: three days in all.

As https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md recommends.
"""
SPREAD = 0.2
"""Share of a wait by which chance makes it longer or shorter, so that what failed together does not return together."""
LONGEST_RETRY_AFTER = timedelta(hours=24)
"""A receiver may ask for no more than this."""


def next_wait(failures: int, chance: float, asked: timedelta | None = None) -> timedelta | None:
    """Return how long to wait after so many failures (1 or more), or None: give up.

    `chance` is in 0..1; `asked` is what the receiver's Retry-After says. It can make a wait longer, never shorter.
    """
    if failures > len(SCHEDULE):
        return None
    wait = SCHEDULE[failures - 1] * (1 - SPREAD + 2 * SPREAD * chance)
    return wait if asked is None else max(wait, min(asked, LONGEST_RETRY_AFTER))


def chance_of(callback_id: int, failures: int) -> float:
    """Return a number in 0..1, even over callbacks and failures, and always the same for the same ones."""
    return int.from_bytes(sha256(f"{callback_id}:{failures}".encode()).digest()[:6], "big") / 2**48


def retry_after(value: str | None, now: datetime) -> timedelta | None:
    """Read a Retry-After header (RFC 9110, 10.2.3), seconds or a date; None if it is neither, or not in the future."""
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        # Whoever asks for more than nine digits of seconds asks for more than is granted anyway.
        wait = timedelta(seconds=int(text[:10]))
    else:
        try:
            until = parsedate_to_datetime(text)
            wait = (until if until.tzinfo else until.replace(tzinfo=UTC)) - now
        except (ValueError, OverflowError):
            return None
    return wait if wait > timedelta(0) else None
