"""The meter of a step: what its machine costs is taken from who it works for, while it runs.

A step of an avatar has a reservation of its own, its ticket. A step of a batch is paid by the requests that it works
for: by one while it works for that one, by all for loading, publishing and what is in between. At each boundary of long
work the meter looks whether what was put aside still lasts for a while; if not it asks for more, and where the budget
says no the work stops there, with its chunks saved.
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

    def of_all(self, shares: Shares) -> None:
        """These pay, by weight, for what is for nobody in particular; empty: the step's own ticket, if it has one."""

    def pays(self, shares: Shares) -> None:
        """From now on these pay, by weight; empty: those who pay for the whole."""

    def found(self) -> None:
        """What the step was to make was there already: what it took teaches nothing about making it."""

    def exhausted(self) -> Mapping[str, BudgetHold]:
        """Return those that pay now and have nothing left, and get no more: their work is to be put off."""

    def check(self) -> None:
        """See that somebody of those who pay can pay for the next chunk.

        Raises:
            BudgetHold: nobody can, and their budgets have no room for more.
        """


class _NoMeter:
    """Work that nobody meters."""

    price_per_hour = None
    saved_per_hour = None
    ticket = None

    def of_all(self, shares: Shares) -> None:
        """Do nothing."""

    def pays(self, shares: Shares) -> None:
        """Do nothing."""

    def found(self) -> None:
        """Do nothing."""

    def exhausted(self) -> Mapping[str, BudgetHold]:
        """Return nobody."""
        return {}

    def check(self) -> None:
        """Go on."""


NO_METER: Meter = _NoMeter()


class StepMeter:
    """The meter of one attempt. Its methods may be called from any thread."""

    def __init__(
        self,
        spend: SpendBook,
        attempt: AttemptStart,
        shares: Shares,
        *,
        ticket: str | None,
        shown: Decimal,
        clock: Clock,
    ) -> None:
        self._spend = spend
        self._attempt = attempt
        self._clock = clock
        self._lock = threading.Lock()
        self._whole: dict[str, int] = dict(shares)
        self._shares: dict[str, int] = dict(shares)
        self._left: dict[str, Remaining] = {}
        self._metered_at = self._checked_at = attempt.started_at
        self._longest_gap = LEAST_MARGIN_SECONDS
        self._given_up = False
        self.teaches = True
        self.ticket = ticket
        self.price_per_hour = shown
        on_demand = attempt.on_demand_price
        is_spot = attempt.capacity_type == CapacityType.SPOT and on_demand is not None
        self.saved_per_hour = max(Decimal(0), on_demand - shown) if is_spot and on_demand is not None else None

    def of_all(self, shares: Shares) -> None:
        """From now on these pay for the whole; what went until now is charged to those before."""
        with self._lock:
            self._whole = dict(shares) or ({} if self.ticket is None else {self.ticket: 1})
        self.pays({})

    def pays(self, shares: Shares) -> None:
        """From now on these pay; what went until now is charged to those before."""
        with self._lock:
            self._shares = dict(shares) or dict(self._whole)
            self._meter()
            self._checked_at = self._metered_at
            self._longest_gap = LEAST_MARGIN_SECONDS

    def found(self) -> None:
        """What the step was to make was there already."""
        self.teaches = False

    def tick(self) -> None:
        """Charge what went since the last time, and see whether somebody took this attempt for lost and settled it."""
        with self._lock:
            self._meter()
            # Work that waits for others, a provider say, may be long between two boundaries.
            for key in self._shares:
                self._ask_for_more(key)
        known = self._spend.attempt(self._attempt.key)
        self._given_up = known is not None and known.ended_at is not None

    def check(self) -> None:
        """See that whoever pays can pay for the next chunk; see `Meter.check`."""
        with self._lock:
            now = self._clock()
            self._longest_gap = max(self._longest_gap, (now - self._checked_at).total_seconds())
            self._checked_at = now
            if self._given_up:
                raise _let_go()
            if not self._shares or not all(self._is_short(key) for key in self._shares):
                return
            self._meter()
            refused = [self._ask_for_more(key) for key in self._shares]
            if refused[0] is not None and all(refused):
                raise refused[0]

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
        if left is None or self._attempt.price_per_hour <= 0:
            return False
        if left.closed:
            return True
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
            return _let_go()
        if not admission.admitted:
            return hold_of(admission)
        left = self._left[key]
        self._left[key] = Remaining(key, left.amounts + Amounts(compute=more))
        return None


def _let_go() -> BudgetHold:
    return BudgetHold(
        "What was put aside for this work was let go of: it was held, ended, removed or taken for lost meanwhile.",
        remedy="It goes on by itself if it is still wanted.",
    )


@contextmanager
def metered(
    spend: SpendBook,
    attempt: AttemptStart,
    demand: Demand | None,
    *,
    clock: Clock,
    settles: bool,
    shares: Shares | None = None,
    shown: Decimal | None = None,
    interval: float = INTERVAL_SECONDS,
) -> Iterator[StepMeter]:
    """Admit an attempt of a step, meter it while the block runs, and settle it.

    Args:
        spend: the ledger of spending.
        attempt: where it runs, since when, and the most that this costs an hour.
        demand: what is put aside for the step itself; None: others pay for it.
        clock: the time.
        settles: whether its end is settled here; else whoever observes the machine from outside does that, and knows
            its real price and when it was paid from.
        shares: who pays for the whole, where the step has nothing of its own.
        shown: the price an hour that is likely, for the costs that are shown.
        interval: seconds between two readings.

    Raises:
        BudgetHold: a budget has no room for it; nothing was begun.
    """
    ticket = None
    if demand is not None:
        admission = spend.admit(demand)
        if not admission.admitted:
            raise hold_of(admission)
        ticket = demand.key
    whole = dict(shares or {}) if ticket is None else {ticket: 1}
    meter = StepMeter(spend, attempt, whole, ticket=ticket, shown=shown or attempt.price_per_hour, clock=clock)
    spend.begin(attempt, whole)
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
            if ticket is not None:
                spend.release(ticket, finished=ending == "succeeded" and meter.teaches)
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
