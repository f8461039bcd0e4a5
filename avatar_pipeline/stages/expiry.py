"""Reservations whose lease ran out: let go of if nobody needs them any more, else looked at again later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from avatar_pipeline.ledger.purse import CLIP
from avatar_pipeline.ledger.reconciling import RequestEnd, endings, request_ends, waits_for_providers
from avatar_pipeline.ledger.spend_views import ReservationView
from avatar_pipeline.stages.line import Line
from avatar_pipeline.stages.observed import named

LEASE = timedelta(minutes=30)
"""When a reservation that is still wanted is looked at again."""
UNCLEAR_FOR = timedelta(hours=1)
"""A call to a provider of which nobody knows what became for so long counts as billed."""
_STEP = "step/"
_PAGE = 1000


def look_at_expired(
    line: Line, runs: Mapping[str, datetime | None], last: Mapping[tuple[str, str], int]
) -> tuple[list[str], list[str]]:
    """Close the reservations that are wanted no longer, and extend the others; return the keys of both.

    `runs` are those that are there, with when they finished; `last` the latest attempt that is known of each step.
    """
    closed: list[str] = []
    extended: list[str] = []
    while expired := line.spend.expired(_PAGE):
        verdicts = _verdicts(line, expired, runs, last)
        keep = [reservation.key for reservation in expired if verdicts[reservation.key] is None]
        for reservation in expired:
            finished = verdicts[reservation.key]
            if finished is None:
                continue
            if line.spend.release(reservation.key, finished=finished):
                closed.append(reservation.key)
            # Where an attempt that it pays for is not settled, it stays open until that is.
            if reservation.open_attempts or reservation.closing:
                keep.append(reservation.key)
        line.spend.extend(keep, line.clock() + LEASE)
        extended += keep
        if len(expired) < _PAGE:
            break
    return closed, extended


def _verdicts(
    line: Line,
    expired: Sequence[ReservationView],
    runs: Mapping[str, datetime | None],
    last: Mapping[tuple[str, str], int],
) -> dict[str, bool | None]:
    """Say of each whether its work is done (True), or given up (False); None where it is still wanted."""
    engine = line.ledger.engine
    requests = request_ends(engine, {one.payer.request_id for one in expired if one.payer.request_id is not None})
    attempts = endings(engine, [one.key.removeprefix(_STEP) for one in expired if one.key.startswith(_STEP)])
    waiting = waits_for_providers(engine, [one.key for one in expired], line.clock() - UNCLEAR_FOR)
    found: dict[str, bool | None] = {}
    for one in expired:
        if one.key in waiting:
            found[one.key] = None
        elif one.key.startswith(_STEP):
            found[one.key] = _of_step(one.key.removeprefix(_STEP), attempts, runs, last)
        elif one.key.startswith(f"{CLIP}/"):
            found[one.key] = _of_clip(one.key, requests.get(one.payer.request_id or ""))
        else:
            found[one.key] = None
    return found


def _of_clip(key: str, request: RequestEnd | None) -> bool | None:
    """Judge what was put aside for a request: it is wanted until that is final, is held, or has another one."""
    if request is None or request.reservation != key or request.is_held:
        return False
    return request.is_done if request.is_final else None


def _of_step(
    attempt: str,
    attempts: Mapping[str, str | None],
    runs: Mapping[str, datetime | None],
    last: Mapping[tuple[str, str], int],
) -> bool | None:
    """Judge what was put aside for an attempt: it is wanted until that, or the run before it began, has ended."""
    if attempt in attempts:
        ending = attempts[attempt]
        return None if ending is None else ending == "succeeded"
    run_id, step_key, number = named(attempt) or (attempt, "", 0)
    followed = last.get((run_id, step_key), 0) > number
    in_flight = run_id in runs and runs[run_id] is None
    return None if in_flight and not followed else False
