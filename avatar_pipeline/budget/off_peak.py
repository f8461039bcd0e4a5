"""Hours of the day that what can wait is put off to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

_SYNTAX = re.compile(r"([01]\d|2[0-3]):([0-5]\d)\s*-\s*([01]\d|2[0-3]):([0-5]\d)")
_MOST_TURNS = 32


@dataclass(frozen=True, slots=True)
class OffPeak:
    """Local hours from `start` up to `end`; over midnight where `end` is the earlier. Never all day."""

    start: time
    end: time

    @classmethod
    def parse(cls, text: str) -> OffPeak:
        """Return the hours of a text such as `20:00-07:00`.

        Raises:
            ValueError: it is no such text, or both times are the same.
        """
        match = _SYNTAX.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"{text[:40]!r} is not two times of a day")
        hours = [int(part) for part in match.groups()]
        start, end = time(hours[0], hours[1]), time(hours[2], hours[3])
        if start == end:
            raise ValueError(f"{text[:40]!r} begins when it ends")
        return cls(start, end)

    def __str__(self) -> str:
        return f"{self.start:%H:%M}-{self.end:%H:%M}"

    def holds(self, timezone: str, moment: datetime) -> bool:
        """Return whether `moment` is within the hours."""
        local = moment.astimezone(ZoneInfo(timezone)).time()
        if self.start < self.end:
            return self.start <= local < self.end
        return local >= self.start or local < self.end

    def opens(self, timezone: str, now: datetime) -> datetime:
        """Return `now` if it is within the hours, else when they begin next (UTC).

        Hours that the clocks jump over are left out on that day; a beginning that they jump over is as much later.
        """
        if self.holds(timezone, now):
            return now
        zone = ZoneInfo(timezone)
        day = now.astimezone(zone).date()
        while True:
            moment = datetime.combine(day, self.start, zone).astimezone(UTC)
            if moment > now and self.holds(timezone, moment):
                return moment
            day += timedelta(days=1)


def all_open(hours: Sequence[OffPeak], timezone: str, now: datetime) -> datetime:
    """Return when all of some hours are open together, `now` included.

    Hours that never are would keep work back for ever: of those, any one that opens will do.
    """
    moment = now
    for _ in range(_MOST_TURNS):
        later = max((each.opens(timezone, moment) for each in hours), default=moment)
        if later == moment:
            return moment
        moment = later
    return min(each.opens(timezone, now) for each in hours)
