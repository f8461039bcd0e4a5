"""The attempts of a step, written into the event log as JSON and read back from it.

The executor writes one record when it places an attempt, one when it has ended, and one for each checkpoint it hears
of; what the worker itself says in the log (a retry it asks for, success) the executor turns into `reported` records as
it reads. `fold` makes attempts of them all. A log can hold a record twice, lack one because its writer died, or hold
some of a later version: a history is made of what can be read, never an error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from avatar_pipeline.spot.types import Attempt, CapacityType, Ending, Offering, Placement, Progress

VERSION = 1
Record = Mapping[str, Any]

PLACED, ENDED, REPORTED, CHECKPOINTED = "placed", "ended", "reported", "checkpointed"
_ABSENCE = frozenset({Ending.VANISHED, Ending.SILENT_EXIT})
"""Endings that say no more than that nobody saw how; the worker's own word is better."""


def placed(attempt: Attempt, **more: Any) -> dict[str, Any]:
    """Return the record of an attempt that is about to be created. `more` (JSON-safe) is not looked at by `fold`."""
    return {**more, **_head(PLACED, attempt.number, attempt.placed_at), **_place(attempt)}


def ended(attempt: Attempt, *, reason: str = "", **more: Any) -> dict[str, Any]:
    """Return the record of an attempt that has ended: it holds all of the attempt, its placement too.

    `attempt.ending` and `attempt.ended_at` are to be set (else: VANISHED, and its placement's time).
    """
    progress = attempt.progress
    return {
        **more,
        **_head(ENDED, attempt.number, attempt.ended_at or attempt.placed_at),
        **_place(attempt),
        "placed_at": attempt.placed_at.isoformat(),
        "ending": str(attempt.ending or Ending.VANISHED),
        "reason": reason,
        "instance_type": attempt.instance_type,
        "zone": attempt.zone,
        "seconds": attempt.seconds,
        "lost_seconds": attempt.lost_seconds,
        "price": None if attempt.price is None else str(attempt.price),
        "progress": None if progress is None else _saved(progress),
    }


def checkpointed(number: int, progress: Progress) -> dict[str, Any]:
    """Return the record of work that attempt `number` has saved."""
    return {**_head(CHECKPOINTED, number, progress.at), "progress": _saved(progress)}


def reported(number: int, ending: Ending, at: datetime, *, reason: str = "") -> dict[str, Any]:
    """Return the record of what the worker of attempt `number` said of its own end.

    INTERRUPTED (it was told to go), USER_ERROR, or SUCCEEDED. The executor's own record of the end outranks it, unless
    that says no more than that the attempt was gone.
    """
    return {**_head(REPORTED, number, at), "ending": str(ending), "reason": reason}


def fold(records: Iterable[Record]) -> tuple[Attempt, ...]:
    """Make attempts, in the order of their numbers, of the records of one step.

    Of several placements of one number the latest counts, of several records of its end the first. An attempt that
    nobody saw end and that another one followed counts as VANISHED, at the time at which the next was placed. Records
    that cannot be read are passed over; an ending that this version does not know counts as VANISHED.
    """
    attempts: dict[int, _Open] = {}
    for record in records:
        number = _number(record)
        if number is not None:
            attempts.setdefault(number, _Open()).take(record)
    made = [attempt for number in sorted(attempts) if (attempt := attempts[number].attempt(number)) is not None]
    following = [*made[1:], None][: len(made)]
    return tuple(
        attempt if attempt.ending is not None or later is None else _vanished(attempt, later)
        for attempt, later in zip(made, following, strict=True)
    )


def next_number(history: tuple[Attempt, ...]) -> int:
    """Return the number of the attempt after these."""
    return history[-1].number + 1 if history else 0


def work_lost(attempt: Attempt) -> float | None:
    """Return the seconds of work since the attempt's last checkpoint, where its time and end are known.

    All of it where it saved nothing; none of it where it succeeded.
    """
    if attempt.ending is Ending.SUCCEEDED:
        return 0.0
    if attempt.lost_seconds is not None or attempt.seconds is None or attempt.ended_at is None:
        return attempt.lost_seconds
    if attempt.progress is None:
        return attempt.seconds
    since = (attempt.ended_at - attempt.progress.at).total_seconds()
    return min(max(0.0, since), attempt.seconds)


class _Open:
    """What is known of one attempt so far."""

    def __init__(self) -> None:
        self._placed: tuple[datetime, Placement] | None = None
        self._ended: Record | None = None
        self._reported: Record | None = None
        self._progress: Progress | None = None

    def take(self, record: Record) -> None:
        kind, at, placement = record.get("kind"), _time(record.get("at")), _placement(record.get("placement"))
        if at is None:
            return
        if kind == PLACED and placement is not None:
            self._place(at, placement)
        elif kind == ENDED:
            self._ended = self._ended or record
            self._save(_progress(record.get("progress")))
            placed_at = _time(record.get("placed_at"))
            if placement is not None and placed_at is not None and self._placed is None:
                self._placed = (placed_at, placement)
        elif kind == REPORTED:
            self._reported = self._reported or record
        elif kind == CHECKPOINTED:
            self._save(_progress(record.get("progress")))

    def attempt(self, number: int) -> Attempt | None:
        if self._placed is None:
            return None
        placed_at, placement = self._placed
        end: Record = self._ended or self._reported or {}
        ending = _ending(end) if end else None
        if ending in _ABSENCE and self._reported is not None:
            ending = _ending(self._reported)
        return Attempt(
            number=number,
            placement=placement,
            placed_at=placed_at,
            ending=ending,
            ended_at=_time(end.get("at")),
            instance_type=_text(end.get("instance_type")),
            zone=_text(end.get("zone")),
            seconds=_seconds(end.get("seconds")),
            lost_seconds=_seconds(end.get("lost_seconds")),
            price=_price(end.get("price")),
            progress=self._progress,
        )

    def _place(self, at: datetime, placement: Placement) -> None:
        if self._placed is None or at >= self._placed[0]:
            self._placed = (at, placement)

    def _save(self, progress: Progress | None) -> None:
        if progress is None:
            return
        saved = self._progress
        if saved is None or (progress.at, progress.done) > (saved.at, saved.done):
            self._progress = progress


def _vanished(attempt: Attempt, later: Attempt) -> Attempt:
    return Attempt(
        number=attempt.number,
        placement=attempt.placement,
        placed_at=attempt.placed_at,
        ending=Ending.VANISHED,
        ended_at=max(attempt.placed_at, later.placed_at),
        progress=attempt.progress,
    )


def _head(kind: str, number: int, at: datetime) -> dict[str, Any]:
    return {"version": VERSION, "kind": kind, "number": number, "at": at.isoformat()}


def _place(attempt: Attempt) -> dict[str, Any]:
    placement = attempt.placement
    return {
        "placement": {
            "capacity_type": str(placement.capacity_type),
            "offerings": [[offering.instance_type, offering.zone] for offering in placement.offerings],
            "profile": placement.profile,
            "reason": placement.reason,
        }
    }


def _saved(progress: Progress) -> dict[str, Any]:
    return {
        "done": progress.done,
        "total": progress.total,
        "seconds": progress.seconds,
        "at": progress.at.isoformat(),
    }


def _number(record: Any) -> int | None:
    number = record.get("number") if isinstance(record, Mapping) else None
    return number if isinstance(number, int) and not isinstance(number, bool) and number >= 0 else None


def _ending(record: Record) -> Ending:
    try:
        return Ending(record.get("ending", ""))
    except ValueError:
        return Ending.VANISHED


def _placement(value: Any) -> Placement | None:
    if not isinstance(value, Mapping):
        return None
    try:
        capacity_type = CapacityType(value.get("capacity_type", ""))
    except ValueError:
        return None
    offerings = value.get("offerings")
    return Placement(
        capacity_type=capacity_type,
        offerings=tuple(
            Offering(pair[0], pair[1], capacity_type)
            for pair in (offerings if isinstance(offerings, list | tuple) else ())
            if isinstance(pair, list | tuple) and len(pair) >= 2 and all(isinstance(each, str) for each in pair[:2])
        ),
        profile=_text(value.get("profile")) or "",
        reason=_text(value.get("reason")) or "",
    )


def _progress(value: Any) -> Progress | None:
    if not isinstance(value, Mapping):
        return None
    done, total, seconds = (_seconds(value.get(key)) for key in ("done", "total", "seconds"))
    at = _time(value.get("at"))
    if done is None or total is None or seconds is None or at is None:
        return None
    return Progress(done, total, seconds, at)


def _time(value: Any) -> datetime | None:
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return time if time is not None and time.tzinfo is not None else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _seconds(value: Any) -> float | None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and math.isfinite(value) and value >= 0 else None


def _price(value: Any) -> Decimal | None:
    try:
        price = Decimal(value) if isinstance(value, str) else None
    except InvalidOperation:
        return None
    return price if price is not None and price.is_finite() else None
