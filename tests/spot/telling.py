"""A source of notices for tests: it says what it is told to say, when it is told to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from avatar_pipeline.spot.notice import Notice, NoticeKind, Tell

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
TAKEN = Notice(NoticeKind.INTERRUPTION, NOW, "EC2 will terminate this spot instance")
MAYBE = Notice(NoticeKind.REBALANCE, NOW, "EC2 recommends to leave this spot instance")


class Herald:
    """A notice source; `tell` is there while somebody watches."""

    tell: Tell | None = None

    @contextmanager
    def watch(self, tell: Tell) -> Iterator[None]:
        self.tell = tell
        yield
        self.tell = None

    def say(self, notice: Notice = TAKEN) -> None:
        assert self.tell is not None, "nobody watches"
        self.tell(notice)
