"""The reconciler: what nobody wrote down as spent is, and what nobody needs any more is let go of.

A worker that is killed settles nothing. What it was metered up to is spent already; the rest follows from what others
saw of it: the executor that looked after its machine, or the end of its run. Nothing is kept in mind from call to call:
called twice, or by two at once, it changes what it would have changed once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from avatar_pipeline.budget.types import AttemptEnd, AttemptStart, Shares
from avatar_pipeline.ledger.database import writing
from avatar_pipeline.ledger.messages import ClipRequest
from avatar_pipeline.ledger.reconciling import endings, unwritten_charges
from avatar_pipeline.ledger.spend_views import AttemptView
from avatar_pipeline.stages.estimates import ELEVENLABS
from avatar_pipeline.stages.expiry import UNCLEAR_FOR, look_at_expired
from avatar_pipeline.stages.line import Line
from avatar_pipeline.stages.metering import INTERVAL_SECONDS, ticket_key
from avatar_pipeline.stages.observed import ObservedAttempt
from avatar_pipeline.stages.paying import BATCH_ASSETS
from avatar_pipeline.stages.repricing import Priced, Repricing

__all__ = ["ObservedAttempt", "Reconciled", "end_of", "reconcile"]

RECORD_GRACE = timedelta(minutes=2)
"""How long after the end of a run the executor's record of an attempt is waited for: only it knows the machine."""
QUIET = timedelta(seconds=3 * INTERVAL_SECONDS)
"""A worker that was not metered for so long is not at work any more, if its run is over."""
BILLED_SINCE = timedelta(days=1)
"""How far back bills of providers are looked for that were not written down."""
SUCCEEDED = "succeeded"
UNSEEN = "vanished"
"""The ending of what nobody saw end."""


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What was put right, by key.

    Attempts: `settled` (known, and open until now), `found` (of which the ledger knew nothing), and those of the two
    that are `unpriced`: nobody saw their machine, so they stay at the most that they can have cost. Reservations:
    `closed` and `extended`. `charged`: bills of providers.
    """

    settled: tuple[str, ...] = ()
    found: tuple[str, ...] = ()
    unpriced: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()
    extended: tuple[str, ...] = ()
    charged: tuple[str, ...] = ()

    def __str__(self) -> str:
        return (
            f"{len(self.settled)} attempts settled, {len(self.found)} found ({len(self.unpriced)} at their price cap), "
            f"{len(self.closed)} reservations let go of, {len(self.extended)} extended, {len(self.charged)} bills added"
        )


def reconcile(line: Line, observed: Sequence[ObservedAttempt]) -> Reconciled:
    """Settle attempts that have ended, let go of reservations whose work is over, write down bills that are missing.

    `observed`: every attempt that is open in the ledger and whose run is there, and whatever else was seen. An open
    attempt that is not among them is of a run that is gone.
    """
    attempts = line.spend.open_attempts()
    last = _last_numbers([*attempts, *observed])
    settled, unpriced = _settle_open(line, attempts, {one.key: one for one in observed}, last)
    found, unpriced_too = _settle_unknown(line, attempts, observed)
    closed, extended = look_at_expired(line, {one.run_id: one.run_finished_at for one in observed}, last)
    return Reconciled(
        settled=tuple(settled),
        found=tuple(found),
        unpriced=(*unpriced, *unpriced_too),
        closed=tuple(closed),
        extended=tuple(extended),
        charged=tuple(_charge_unwritten(line)),
    )


def end_of(
    attempt: AttemptView, seen: ObservedAttempt | None, *, followed: bool, now: datetime, lost_after: timedelta
) -> AttemptEnd | None:
    """Say when and how an open attempt ended; None while it may be at work, or more will be known soon. Pure.

    - Somebody saw its end: then, but not before it was last metered. Where that is its worker's word alone
      (`provisional`), the executor's record is waited for: it knows the machine.
    - A later attempt of its step is there (`followed`): when it was last metered.
    - Its run is over, and it was metered since: its worker lived on without it, and is believed gone after `lost_after`
      of silence. The same where the run is not there at all.
    - Its run is over, and it was not: it ended with the run or the last sign of the run's workers, whichever came
      first. One that was placed (`profile`) is given time for the record of its executor; without one it ended when it
      was last metered, for those signs are not its own alone.
    """
    until = attempt.metered_until
    silence = now - until
    at, over = until, followed
    if seen is not None and seen.ended_at is not None and not _is_awaited(seen, followed=followed, now=now):
        return AttemptEnd(at=max(seen.ended_at, until), ending=seen.ending or UNSEEN)
    if not followed and (seen is None or (seen.run_finished_at is not None and until > seen.run_finished_at)):
        over = silence >= lost_after
    elif not followed and seen is not None and seen.run_finished_at is not None:
        if attempt.profile or seen.profile is not None:
            over = now - seen.run_finished_at >= RECORD_GRACE
        else:
            over = silence >= QUIET
            at = max(until, min(seen.run_finished_at, seen.last_sign or seen.run_finished_at))
    return AttemptEnd(at=at, ending=UNSEEN) if over else None


def _is_awaited(seen: ObservedAttempt, *, followed: bool, now: datetime) -> bool:
    """Say whether the record of an attempt's end may yet come: not after the next one's, nor long after its run."""
    late = seen.run_finished_at is not None and now - seen.run_finished_at >= RECORD_GRACE
    return seen.provisional and not followed and not late


class _Numbered(Protocol):
    """An attempt, by its run, step and number."""

    @property
    def run_id(self) -> str: ...
    @property
    def step_key(self) -> str: ...
    @property
    def number(self) -> int: ...


def _last_numbers(attempts: Iterable[_Numbered]) -> dict[tuple[str, str], int]:
    last: dict[tuple[str, str], int] = {}
    for attempt in attempts:
        step = (attempt.run_id, attempt.step_key)
        last[step] = max(last.get(step, 0), attempt.number)
    return last


def _settle_open(
    line: Line,
    attempts: Sequence[AttemptView],
    seen: Mapping[str, ObservedAttempt],
    last: Mapping[tuple[str, str], int],
) -> tuple[list[str], list[str]]:
    """Settle the open attempts that have ended; return their keys, and those of which nobody saw the machine."""
    now = line.clock()
    lost_after = timedelta(seconds=line.settings.lost_after_seconds)
    ends: list[tuple[AttemptView, AttemptEnd]] = []
    for attempt in attempts:
        followed = last[attempt.run_id, attempt.step_key] > attempt.number
        end = end_of(attempt, seen.get(attempt.key), followed=followed, now=now, lost_after=lost_after)
        if end is not None:
            ends.append((attempt, end))
    prices = Repricing(line, [attempt.started_at for attempt, _ in ends])
    settled, unpriced = [], []
    for attempt, end in ends:
        told = seen.get(attempt.key)
        priced = None if told is None else prices.of(told, attempt.started_at, attempt.capacity_type)
        if line.spend.settle(attempt.key, end if told is None else _with_machine(end, told, priced, attempt)):
            settled.append(attempt.key)
            line.spend.release(ticket_key(attempt.key), finished=end.ending == SUCCEEDED)
            if priced is None and attempt.profile:
                unpriced.append(attempt.key)
    return settled, unpriced


def _with_machine(end: AttemptEnd, told: ObservedAttempt, priced: Priced | None, attempt: AttemptView) -> AttemptEnd:
    """Add what is known of the machine: what it is, what it costs, and that it was paid for before the worker began."""
    earlier = told.started_at is not None and told.started_at < attempt.started_at
    end = replace(
        end,
        started_at=told.started_at if earlier else None,
        capacity_type=told.capacity_type,
        profile=told.profile,
        instance_type=told.instance_type,
        zone=told.zone,
    )
    if priced is None:
        return end
    return replace(end, price_per_hour=priced.per_hour, price_source=priced.source, on_demand_price=priced.on_demand)


def _settle_unknown(
    line: Line, attempts: Sequence[AttemptView], observed: Sequence[ObservedAttempt]
) -> tuple[list[str], list[str]]:
    """Write down attempts that had a machine, and whose worker died before it could say so."""
    over = [one for one in observed if one.started_at is not None and one.ended_at is not None]
    known = endings(line.ledger.engine, [one.key for one in over])
    unknown = [one for one in over if one.key not in known]
    prices = Repricing(line, [one.started_at for one in unknown if one.started_at is not None])
    found, unpriced = [], []
    for one in unknown:
        if one.started_at is None or one.ended_at is None:
            continue
        priced = prices.of(one, one.started_at)
        line.spend.begin(
            _start_of(one, one.started_at, priced or prices.highest(one, one.started_at)),
            _shares(line, attempts, one),
        )
        if line.spend.settle(one.key, AttemptEnd(max(one.started_at, one.ended_at), one.ending or UNSEEN)):
            found.append(one.key)
            if priced is None:
                unpriced.append(one.key)
    return found, unpriced


def _start_of(one: ObservedAttempt, at: datetime, price: Priced) -> AttemptStart:
    return AttemptStart(
        key=one.key,
        run_id=one.run_id,
        step_key=one.step_key,
        number=one.number,
        asset=one.asset,
        partition=one.partition,
        started_at=at,
        price_per_hour=price.per_hour,
        price_source=price.source,
        on_demand_price=price.on_demand,
        capacity_type=one.capacity_type or "",
        profile=one.profile or "",
        instance_type=one.instance_type,
        zone=one.zone,
    )


def _shares(line: Line, attempts: Sequence[AttemptView], one: ObservedAttempt) -> Shares:
    """Say who pays for an attempt that never said for whom it works.

    What its batch has yet to make, each by its length; else the attempt that works at the same step now; else nobody.
    """
    if one.asset in BATCH_ASSETS and one.partition:
        paying: dict[str, int] = {}
        for record in line.requests.list(batch_id=one.partition, states=("queued", "claimed", "running")):
            if record.reservation is not None and isinstance(record.request, ClipRequest):
                paying[record.reservation] = max(1, len(record.request.text))
        if paying:
            return paying
    tickets = [ticket_key(other.key) for other in attempts if (other.run_id, other.step_key) == one.step]
    left = {ticket: line.spend.remaining(ticket) for ticket in tickets}
    return {ticket: 1 for ticket, remaining in left.items() if remaining is not None and not remaining.closed}


def _charge_unwritten(line: Line) -> list[str]:
    """Write down as spent what a provider billed and was not, or may have billed: its worker died, and nobody asked."""
    charged = []
    now = line.clock()
    for provider, item_key in unwritten_charges(
        line.ledger.engine, [ELEVENLABS], now - BILLED_SINCE, now - UNCLEAR_FOR
    ):
        charge = line.charges.get(provider, item_key)
        if charge is not None:
            with writing(line.ledger.engine) as session:
                line.purse.paid(session, charge, now)
            charged.append(f"{provider}/{item_key}")
    return charged
