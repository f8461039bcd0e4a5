"""Time, injected: everything that asks for the time takes a `Clock`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the time now, timezone-aware, UTC."""
    return datetime.now(UTC)
