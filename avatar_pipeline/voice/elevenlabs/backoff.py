"""How long to wait before a call is tried again: pure functions of what happened so far."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses in seconds: `first`, then twice as long each time up to `longest`; given up after `attempts` tries."""

    first: float = 1.0
    longest: float = 60.0
    attempts: int = 8

    def pause(self, attempt: int, chance: float, asked: float | None = None) -> float:
        """Return the pause after the attempt of that number (1 or more). `chance` in 0..1 spreads it by half.

        `asked` is what the provider asked for; it can make the pause longer, up to `longest`, never shorter.
        """
        pause = min(self.longest, self.first * 2.0 ** min(attempt - 1, 30)) * (0.5 + chance / 2)
        return pause if asked is None else max(pause, min(asked, self.longest))


FIRST_HOLD = timedelta(seconds=1)
LONGEST_HOLD = timedelta(seconds=60)
FORGIVEN = timedelta(seconds=120)
"""A refusal this long ago no longer counts."""


@dataclass(frozen=True, slots=True)
class Refusals:
    """Calls that were refused for being one too many: how many, in a row, and when the last one was."""

    count: int = 0
    at: datetime | None = None

    def another(self, now: datetime) -> Refusals:
        """Return this with one more. All that were in flight together may be refused together: that is one refusal."""
        if self.at is not None and now - self.at < FIRST_HOLD:
            return self
        forgiven = self.at is None or now - self.at > FORGIVEN
        return Refusals(1 if forgiven else self.count + 1, now)

    def holds(self, now: datetime) -> bool:
        """Whether nobody is to try more calls at once yet: for 1, 2, 4, ... up to 60 seconds after a refusal."""
        hold = min(FIRST_HOLD * 2 ** min(max(self.count - 1, 0), 10), LONGEST_HOLD)
        return self.at is not None and now - self.at < hold


def lowered(learnt: int, maximum: int | None) -> int:
    """Return how many calls may be in flight after one was refused, at least 1.

    `learnt` is what held until now and `maximum` what the answer's header says, if anything. An account may be shared
    with programs that we do not see: then less is allowed than the header says.
    """
    return max(1, min(learnt - 1, learnt if maximum is None else maximum))


def raised(learnt: int, maximum: int | None, refusals: Refusals, now: datetime) -> int:
    """Return how many calls may be in flight after one went through, at least 1.

    It follows the header at once, down always and up if there was no refusal; after one, one at a time.
    """
    if maximum is None or maximum <= learnt:
        return max(1, learnt if maximum is None else maximum)
    if refusals.at is None or now - refusals.at > FORGIVEN:
        return maximum
    return learnt if refusals.holds(now) else learnt + 1
