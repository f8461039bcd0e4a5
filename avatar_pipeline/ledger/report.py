"""What one day brought, read out of the ledger: requests, latencies, failures, spend. Days are UTC and half-open."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Literal, get_args

from sqlalchemy import Engine, Executable, and_, func, select

from avatar_pipeline.ledger.database import reading
from avatar_pipeline.ledger.records import RequestKind
from avatar_pipeline.ledger.schema import ArtifactRow, AvatarRow, RequestRow, TimingRow

Outcome = Literal["done", "failed"]
Part = Literal["total", "waiting", "starting", "working"]

KINDS: tuple[RequestKind, ...] = get_args(RequestKind)
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
PARTS: dict[Part, tuple[str, str]] = {
    "total": ("sent_at", "finished_at"),
    "waiting": ("sent_at", "claimed_at"),
    "starting": ("claimed_at", "started_at"),
    "working": ("started_at", "finished_at"),
}
"""A request's time from sent to done, and its parts: until it is claimed, until it is begun, until it is done."""

HOURS = 24
PERCENTILES = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds, over the requests that were done: how many they were, and their percentiles by nearest rank."""

    count: int
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class DayFigures:
    """One day. A request belongs to the day on which it finished; `sent` is by when it was sent, finished or not.

    `sent` and `finished` count by hour, 24 of them. `latency` has a kind and part only where there is something to
    measure. `spend` is US dollars by asset, of attempts begun that day. `avatars_made` counts avatars that are ready
    whose first greeting was made that day; `clips_reused` the clips done that had been made for another request.
    """

    day: date
    sent: Mapping[RequestKind, Sequence[int]]
    finished: Mapping[RequestKind, Mapping[Outcome, Sequence[int]]]
    latency: Mapping[RequestKind, Mapping[Part, Latency]]
    failures: Mapping[RequestKind, Mapping[str, int]]
    spend: Mapping[str, Decimal]
    avatars_made: int
    clips_reused: int

    def total(self, kind: RequestKind, outcome: Outcome) -> int:
        """Return how many requests of a kind came to that end."""
        return sum(self.finished[kind][outcome])


def bounds(day: date) -> tuple[datetime, datetime]:
    """Return when a day begins and when the next does, UTC."""
    start = datetime.combine(day, time(), UTC)
    return start, start + timedelta(days=1)


def nearest_rank(ordered: Sequence[float], percent: int) -> float:
    """Return a percentile of sorted values: the least one that `percent` % of them do not exceed.

    It is always a value that occurred. https://en.wikipedia.org/wiki/Percentile#The_nearest-rank_method
    """
    return ordered[max(0, -(-percent * len(ordered) // 100) - 1)]


def read_day(engine: Engine, day: date) -> DayFigures:
    """Read the figures of a day. They are exact, and the same as often as they are read once the day is over.

    Removing an avatar takes its requests out of the figures of past days too: nothing is kept of it.
    """
    start, end = bounds(day)
    ended: defaultdict[tuple[str, str], list[Any]] = defaultdict(list)
    with reading(engine) as session:
        for row in session.execute(_finished(start, end)):
            ended[row.kind, row.state].append(row)
        sent = session.execute(_arrived(start, end)).all()
        attempts = session.execute(_attempts(start, end)).all()
        first_greetings = session.execute(_first_greetings(start, end)).all()
    return DayFigures(
        day=day,
        sent=_sent(sent),
        finished={
            kind: {outcome: _by_hour(row.finished_at for row in ended[kind, outcome]) for outcome in OUTCOMES}
            for kind in KINDS
        },
        latency={kind: _latency(ended[kind, "done"]) for kind in KINDS},
        failures={kind: _failures(row.error for row in ended[kind, "failed"]) for kind in KINDS},
        spend=_spend(attempts),
        avatars_made=len(first_greetings),
        clips_reused=_reused(ended["clip", "done"]),
    )


def _finished(start: datetime, end: datetime) -> Executable:
    """Return the requests that finished, with the time at which their clip was first there, if it is."""
    clip = and_(
        ArtifactRow.collection == "avatars",
        ArtifactRow.owner == RequestRow.avatar_id,
        ArtifactRow.asset == "clips",
        ArtifactRow.key == RequestRow.clip_key,
    )
    return (
        select(
            RequestRow.kind,
            RequestRow.state,
            RequestRow.avatar_id,
            RequestRow.clip_key,
            RequestRow.error,
            RequestRow.sent_at,
            RequestRow.claimed_at,
            RequestRow.started_at,
            RequestRow.finished_at,
            ArtifactRow.created_at.label("clip_made_at"),
        )
        .outerjoin(ArtifactRow, clip)
        .where(RequestRow.finished_at >= start, RequestRow.finished_at < end, RequestRow.state.in_(OUTCOMES))
    )


def _arrived(start: datetime, end: datetime) -> Executable:
    return select(RequestRow.kind, RequestRow.sent_at).where(RequestRow.sent_at >= start, RequestRow.sent_at < end)


def _sent(rows: Sequence[Any]) -> dict[RequestKind, list[int]]:
    return {kind: _by_hour(row.sent_at for row in rows if row.kind == kind) for kind in KINDS}


def _by_hour(times: Iterable[datetime]) -> list[int]:
    counts = Counter(moment.hour for moment in times)
    return [counts[hour] for hour in range(HOURS)]


def _latency(rows: Sequence[Any]) -> dict[Part, Latency]:
    found: dict[Part, Latency] = {}
    for part, (begin, end) in PARTS.items():
        spans = ((getattr(row, begin), getattr(row, end)) for row in rows)
        # The sender's clock is not ours, so a message may seem to come before it was sent.
        seconds = sorted(max(0.0, (b - a).total_seconds()) for a, b in spans if a is not None and b is not None)
        if seconds:
            p50, p95, p99 = (round(nearest_rank(seconds, percent), 3) for percent in PERCENTILES)
            found[part] = Latency(len(seconds), p50, p95, p99)
    return found


def _failures(errors: Iterable[dict[str, str] | None]) -> dict[str, int]:
    """Count by reason code, the most frequent first."""
    counts = Counter((error or {}).get("code", "unknown") for error in errors)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _attempts(start: datetime, end: datetime) -> Executable:
    # Reports are left out: making one would change the figures of the day it is made on.
    return select(TimingRow.asset, TimingRow.cost).where(
        TimingRow.started_at >= start, TimingRow.started_at < end, TimingRow.collection != "reports"
    )


def _spend(rows: Sequence[Any]) -> dict[str, Decimal]:
    sums: defaultdict[str, Decimal] = defaultdict(Decimal)
    for asset, cost in rows:
        sums[asset] += cost
    return dict(sorted(sums.items()))


def _first_greetings(start: datetime, end: datetime) -> Executable:
    """Select the avatars that are ready and whose first greeting was made in the time given."""
    first = func.min(ArtifactRow.created_at)
    return (
        select(ArtifactRow.owner)
        .join(AvatarRow, AvatarRow.id == ArtifactRow.owner)
        .where(ArtifactRow.collection == "avatars", ArtifactRow.asset == "greeting_clip", AvatarRow.state == "ready")
        .group_by(ArtifactRow.owner)
        .having(first >= start, first < end)
    )


def _reused(rows: Sequence[Any]) -> int:
    """Count the clips that were there already.

    Of the requests of one clip, one made it, unless it was there before the first of them was claimed. A clip that an
    attempt made which then died counts as made, not as reused.
    """
    claimed: dict[tuple[str, str], datetime] = {}
    made_at: dict[tuple[str, str], datetime | None] = {}
    for row in rows:
        clip = (row.avatar_id, row.clip_key)
        begun = row.claimed_at or row.finished_at
        claimed[clip] = min(begun, claimed.get(clip, begun))
        made_at[clip] = row.clip_made_at
    made = sum(moment is None or moment >= claimed[clip] for clip, moment in made_at.items())
    return len(rows) - made
