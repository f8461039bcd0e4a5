"""Calls by which machines are paid for."""

from __future__ import annotations

from datetime import datetime, timedelta
from fractions import Fraction

from hypothesis import strategies as st
from hypothesis.stateful import rule

from avatar_pipeline.budget.types import AttemptEnd, AttemptStart
from tests.ledger.money.asking import Asking
from tests.ledger.money.ground import (
    BEGAN,
    CHEAPER,
    NUMBER,
    SHARES,
    Call,
    as_paid,
    payers_in,
    pick,
    times,
)
from tests.ledger.money.model import LEASE, Machine, window
from tests.ledger.money.world import (
    MARGIN,
    PRICES,
    SECOND,
    decimal,
)


class Working(Asking):
    """Machines run, are metered, die, and are settled by who has seen their end."""

    @rule(shares=SHARES, price=st.sampled_from(PRICES), cold=st.sampled_from((0, 45, 290)))
    def begin(self, shares: list, price: int, cold: int) -> None:
        self.serial += 1
        key, now = f"run-{self.serial}/render/1", self.books.now
        paying = self.open_shares(shares)
        if self.books.allowance(as_paid(paying), price, MARGIN) < timedelta(0):
            return
        before = min(cold * SECOND, self.books.allowance(as_paid(paying), price, MARGIN))
        start = self.start(key, now, price)
        assert self.book.begin(start, paying)
        machine = Machine(price, now, now - before, now, now, as_paid(paying))
        machine.joined = dict.fromkeys(payers_in(paying))
        self.books.machines[key] = machine
        self.calls.append(Call("begin", lambda: self.book.begin(start, paying), False))

    def start(self, key: str, at: datetime, price: int) -> AttemptStart:
        run, step, number = key.split("/")
        return AttemptStart(
            key=key,
            run_id=run,
            step_key=step,
            number=int(number),
            asset="clips",
            partition="batch",
            started_at=at,
            price_per_hour=decimal(price),
            price_source="cap",
            on_demand_price=decimal(price),
        )

    @rule(seconds=st.sampled_from((5, 40, 400)), late=st.booleans())
    def work_goes_on(self, seconds: int, late: bool) -> None:
        """All workers tell how far they are; a message that is late says what everybody knows."""
        self.run_until(self.books.now + seconds * SECOND)
        for key, machine in self.running().items():
            self.metered(key, machine.true_end, None)
            if late:
                self.metered(key, machine.start + (machine.told - machine.start) / 2, None)

    @rule(number=NUMBER, behind=st.sampled_from((Fraction(1), Fraction(1), Fraction(1, 2), Fraction(-1))))
    def meter(self, number: int, behind: Fraction) -> None:
        """Its worker tells how far it is: all of it, half of what is new, or what it told long ago."""
        key = pick(self.running(), number)
        if key is None:
            return
        machine = self.books.machines[key]
        until = machine.told + times(machine.true_end - machine.told, behind)
        self.metered(key, until, None)

    @rule(number=NUMBER, shares=st.one_of(st.just([]), SHARES))
    def share_out(self, number: int, shares: list) -> None:
        """From now on, others pay for the machine, as far as they have enough for what it has run for them."""
        key = pick(self.running(), number)
        if key is None or self.books.machines[key].parked:
            return
        machine = self.books.machines[key]
        paying = self.open_shares(shares)
        due = machine.start - machine.true_start
        if not machine.payers():
            due += machine.true_end - machine.told
        if self.books.allowance(as_paid(paying), machine.price, MARGIN) >= due:
            self.metered(key, machine.true_end, paying)

    def metered(self, key: str, until: datetime, shares: dict[str, int] | None) -> None:
        machine = self.books.machines[key]
        left = self.book.meter(key, until, shares=shares)
        machine.tell(until, next_ones=None if shares is None else as_paid(shares))
        if shares is not None:
            machine.shares = as_paid(shares)
            machine.joined |= dict.fromkeys(payers_in(shares))
        self.heard_of(machine)
        assert left.keys() == payers_in(machine.shares)
        for each, remaining in left.items():
            self.same(each, remaining.amounts, self.books.left(each))

        def again() -> None:
            self.book.meter(key, until, shares=shares)

        self.last_meter[key] = Call("meter", again, None, key)

    def heard_of(self, machine: Machine) -> None:
        """Those who pay for it are still wanted."""
        for key in payers_in(machine.shares):
            reservation = self.books.reservations[key]
            reservation.expires = max(reservation.expires, self.books.now + LEASE)

    @rule(number=NUMBER)
    def crash(self, number: int) -> None:
        """Nobody hears of the worker again."""
        if key := pick(self.running(), number):
            self.books.machines[key].alive = False

    @rule(number=NUMBER, price=CHEAPER, began=BEGAN)
    def finish(self, number: int, price: int | None, began: int | None) -> None:
        """The worker ends it, and what it was for is done."""
        key = pick(self.running(), number)
        if key is None:
            return
        paid = list(payers_in(self.books.machines[key].shares))
        self.settled(key, self.books.machines[key].true_end, began, price)
        for each in paid:
            self.released(each, finished=True)

    @rule(
        number=NUMBER,
        price=CHEAPER,
        began=BEGAN,
        seen=st.sampled_from((Fraction(1), Fraction(1, 3), Fraction(0), Fraction(-1))),
    )
    def reconcile(self, number: int, price: int | None, began: int | None, seen: Fraction) -> None:
        """Somebody else has seen when a machine ran that nobody hears of: all of it, or less; and what it cost."""
        key = pick(self.lost(), number) or pick(self.running(), number)
        if key is None:
            return
        machine = self.books.machines[key]
        machine.alive = False
        at = machine.told + times(machine.true_end - machine.told, seen) if seen >= 0 else machine.told - 61 * SECOND
        self.settled(key, at, began, price)

    @rule(number=NUMBER, price=CHEAPER, began=BEGAN, told=st.booleans())
    def it_dies_at_night(self, number: int, price: int | None, began: int | None, told: bool) -> None:
        """What a machine did yesterday is known today, and that it was cheaper."""
        key = pick(self.running(), number)
        if key is None:
            return
        machine = self.books.machines[key]
        self.run_until(self.books.now + 300 * SECOND)
        if told:
            self.metered(key, machine.true_end, None)
        machine.alive = False
        self.run_until(window("day", self.books.now)[1] + SECOND)
        self.all_is_well()
        self.settled(key, machine.true_end, began, price)

    def settled(self, key: str, at: datetime, began: int | None, price: int | None) -> None:
        machine = self.books.machines[key]
        began_at = None if began is None else machine.start - (machine.start - machine.true_start) * began
        price = None if price is None else min(price, machine.price)
        end = AttemptEnd(at, "ended", began_at, None if price is None else decimal(price), price_source="spot")
        assert self.book.settle(key, end)
        self.books.settle(machine, at, began_at, price or machine.price)
        self.calls.append(Call("settle", lambda: self.book.settle(key, end), False))

    @rule(number=NUMBER, shares=SHARES, hours=st.sampled_from((-1, 1)))
    def contradict(self, number: int, shares: list, hours: int) -> None:
        """Of what has ended, somebody tells something else: it is too late."""
        ended = {key: machine for key, machine in self.books.machines.items() if machine.ended}
        key = pick(ended, number)
        if key is None:
            return
        at = ended[key].told + hours * 3600 * SECOND
        paying = self.open_shares(shares)
        before = self.rows(without_leases=False)
        assert not self.book.settle(key, AttemptEnd(at, "lost", at - 9000 * SECOND, price_per_hour=decimal(PRICES[-1])))
        self.book.meter(key, at, shares=paying)
        assert not self.book.begin(self.start(key, at, PRICES[0]), paying)
        assert self.rows(without_leases=False) == before, "what has ended was changed"

    def run_until(self, now: datetime) -> None:
        """Machines go on as long as what they have will pay for; then they stop."""
        self.books.now = now
        for machine in self.running().values():
            wanted = now - machine.true_end
            if machine.parked or wanted <= timedelta(0):
                continue
            runs = min(wanted, max(timedelta(0), self.books.allowance(machine.payers(), machine.price, MARGIN)))
            machine.true_end += runs
            machine.parked = runs < wanted
