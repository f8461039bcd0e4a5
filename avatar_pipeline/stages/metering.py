"""The meter of a step: what its machine costs is taken from who it works for, while it runs.

A step's attempt has a reservation of its own, its ticket: loading, publishing, and all work that is for no request pays
with it. A batch says for whom it works, and from there on they pay. At each boundary of long work the meter looks
whether what was put aside still lasts for a while; if not it asks for more, and where the budget says no the work stops
there, with its chunks saved.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from decimal import Decimal
from typing import Protocol

from sqlalchemy.exc import DatabaseError

from avatar_pipeline.budget.types import (
    MICRO,
    Amounts,
    AttemptEnd,
    AttemptStart,
    Demand,
    Remaining,
    Shares,
    cost,
)
from avatar_pipeline.clock import Clock
from avatar_pipeline.errors import BudgetHold, Conflict, NotFound
from avatar_pipeline.ledger.purse import hold_of
from avatar_pipeline.ledger.spend import SpendBook
from avatar_pipeline.spot.guard import Guard, Preempted
from avatar_pipeline.spot.notice import Notice
from avatar_pipeline.spot.types import CapacityType

INTERVAL_SECONDS = 10.0
"""A worker that is killed was metered so long ago at most; the rest is settled from what others observed."""
LEAST_MARGIN_SECONDS = 1.0
CHUNKS_AHEAD = 2
"""So many times the longest time between two boundaries is paid for: the next chunk ends inside the reservation."""
MORE_SECONDS = 10.0
"""How much more is asked for at least."""

_log = logging.getLogger(__name__)


class Meter(Protocol):
    """What work tells about whom it is for."""

    @property
    def price_per_hour(self) -> Decimal | None:
        """US dollars an hour of this machine, as far as is known; None: the settings' price."""

    @property
    def saved_per_hour(self) -> Decimal | None:
        """US dollars an hour that this machine costs less than on demand; None where it is not a spot machine."""

    @property
    def ticket(self) -> str | None:
        """The reservation of the step itself."""

    def pays(self, shares: Shares) -> None:
        """From now on these pay, by weight; empty: the step's own ticket."""

    def exhausted(self) -> Mapping[str, BudgetHold]:
        """Return those that pay now and have nothing left, and get no more: their work is to be put off."""

    def check(self) -> None:
        """See that the one who pays can pay for the next chunk.

        Raises:
            BudgetHold: it cannot, and its budgets have no room for more.
        """


class _NoMeter:
    """Work that nobody meters."""

    price_per_hour = None
    saved_per_hour = None
    ticket = None

    def pays(self, shares: Shares) -> None:
        """Do nothing."""

    def exhausted(self) -> Mapping[str, BudgetHold]:
        """Return nobody."""
        return {}

    def check(self) -> None:
        """Go on."""


NO_METER: Meter = _NoMeter()


class StepMeter:
    """The meter of one attempt. Its methods may be called from any thread."""

    def __init__(self, spend: SpendBook, attempt: AttemptStart, ticket: str, *, shown: Decimal, clock: Clock) -> None:
        self._spend = spend
        self._attempt = attempt
        self._clock = clock
        self._lock = threading.Lock()
        self._shares: dict[str, int] = {ticket: 1}
        self._left: dict[str, Remaining] = {}
        self._metered_at = self._checked_at = attempt.started_at
        self._longest_gap = LEAST_MARGIN_SECONDS
        self.ticket = ticket
        self.price_per_hour = shown
        on_demand = attempt.on_demand_price
        is_spot = attempt.capacity_type == CapacityType.SPOT and on_demand is not None
        self.saved_per_hour = max(Decimal(0), on_demand - shown) if is_spot and on_demand is not None else None

    def pays(self, shares: Shares) -> None:
        """From now on these pay; what went until now is charged to those before."""
        with self._lock:
            self._shares = dict(shares) or {self.ticket: 1}
            self._meter()
            self._checked_at = self._metered_at

    def tick(self) -> None:
        """Charge what went since the last time."""
        with self._lock:
            self._meter()

    def check(self) -> None:
        """See that whoever pays can pay for the next chunk; see `Meter.check`."""
        with self._lock:
            now = self._clock()
            self._longest_gap = max(self._longest_gap, (now - self._checked_at).total_seconds())
            self._checked_at = now
            if len(self._shares) != 1 or not self._is_short(next(iter(self._shares))):
                return
            self._meter()
            (key,) = self._shares
            if (refused := self._ask_for_more(key)) is not None:
                raise refused

    def exhausted(self) -> dict[str, BudgetHold]:
        """Return those that can pay no more; see `Meter.exhausted`."""
        with self._lock:
            found = {key: self._ask_for_more(key) for key in self._shares}
        return {key: error for key, error in found.items() if error is not None}

    def _meter(self) -> None:
        now = self._clock()
        self._left = self._spend.meter(self._attempt.key, now, shares=self._shares)
        self._metered_at = now

    def _is_short(self, key: str) -> bool:
        left = self._left.get(key)
        if left is None or self._attempt.price_per_hour <= 0 or left.closed:
            return False
        gone = max(0.0, (self._clock() - self._metered_at).total_seconds())
        weight = Decimal(self._shares[key]) / sum(self._shares.values())
        seconds = Decimal(str(gone + CHUNKS_AHEAD * self._longest_gap)) * weight
        return left.amounts.compute <= cost(seconds, self._attempt.price_per_hour)

    def _ask_for_more(self, key: str) -> BudgetHold | None:
        if not self._is_short(key):
            return None
        seconds = Decimal(str(max(MORE_SECONDS, 2 * CHUNKS_AHEAD * self._longest_gap)))
        more = max(MICRO, cost(seconds, self._attempt.price_per_hour))
        try:
            admission = self._spend.top_up(key, Amounts(compute=more))
        except (NotFound, Conflict):
            # Closed meanwhile: whoever did that (an avatar that was removed) ends the work in other ways.
            return None
        if not admission.admitted:
            return hold_of(admission)
        left = self._left[key]
        self._left[key] = Remaining(key, left.amounts + Amounts(compute=more))
        return None


@contextmanager
def metered(
    spend: SpendBook,
    attempt: AttemptStart,
    demand: Demand,
    *,
    clock: Clock,
    settles: bool,
    shown: Decimal | None = None,
    interval: float = INTERVAL_SECONDS,
) -> Iterator[StepMeter]:
    """Admit an attempt of a step, meter it while the block runs, and settle it.

    Args:
        spend: the ledger of spending.
        attempt: where it runs, since when, and the most that this costs an hour.
        demand: what is put aside for the step itself.
        clock: the time.
        settles: whether its end is settled here; else whoever observes the machine from outside does that, and knows
            its real price and when it was paid from.
        shown: the price an hour that is likely, for the costs that are shown.
        interval: seconds between two readings.

    Raises:
        BudgetHold: a budget has no room for it; nothing was begun.
    """
    admission = spend.admit(demand)
    if not admission.admitted:
        raise hold_of(admission)
    meter = StepMeter(spend, attempt, demand.key, shown=shown or attempt.price_per_hour, clock=clock)
    spend.begin(attempt, {demand.key: 1})
    done = threading.Event()
    thread = threading.Thread(target=_tick, args=(meter, done, interval), name="meter", daemon=True)
    thread.start()
    ending = "user_error"
    try:
        meter.tick()
        yield meter
        ending = "succeeded"
    except Preempted:
        ending = "interrupted"
        raise
    finally:
        done.set()
        thread.join()
        try:
            meter.pays({})
            if settles:
                spend.settle(attempt.key, AttemptEnd(at=clock(), ending=ending))
            spend.release(demand.key, finished=ending == "succeeded")
        except DatabaseError as error:
            # The work is done all the same; the reconciler settles what was left open.
            _log.warning("The end of %s could not be written down: %s", attempt.key, error)


def _tick(meter: StepMeter, done: threading.Event, interval: float) -> None:
    while not done.wait(interval):
        # What one reading misses, the next one charges.
        with suppress(DatabaseError):
            meter.tick()


class MeteredGuard:
    """A guard whose boundaries look at the meter too."""

    def __init__(self, guard: Guard, check: Callable[[], None]) -> None:
        self._guard = guard
        self._check = check

    @property
    def notice(self) -> Notice | None:
        """The guard's."""
        return self._guard.notice

    def saved(self, done: float, total: float) -> None:
        """Record what is saved."""
        self._guard.saved(done, total)

    def boundary(self, done: float | None = None, total: float | None = None) -> None:
        """Record what is saved; stop the work if it has to leave the machine, or can no longer be paid for.

        Raises:
            Preempted: see `Guard.boundary`.
            BudgetHold: see `Meter.check`. Work that is finished is not stopped.
        """
        self._guard.boundary(done, total)
        if done is None or total is None or done < total:
            self._check()

    def part(self, done: float, size: float, total: float) -> Guard:
        """Return the guard of a part of this work."""
        return MeteredGuard(self._guard.part(done, size, total), self._check)


def attempt_key(run_id: str, step_key: str, number: int) -> str:
    """Return what an attempt of a step is known by."""
    return f"{run_id}/{step_key}/{number}"


def ticket_key(attempt: str) -> str:
    """Return the key of the reservation of an attempt itself."""
    return f"step/{attempt}"
