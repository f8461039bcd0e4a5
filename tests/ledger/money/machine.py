"""Any order of calls to a book of spending, beside a plain model of what it should say; checked after every call.

Nothing that is drawn depends on what was answered, so that an order that goes wrong can be made shorter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from itertools import permutations
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import Engine, insert, text

from avatar_pipeline.budget.types import Admission, Amounts, AttemptEnd, AttemptStart, Demand, Payer, ProviderCharge
from avatar_pipeline.errors import Conflict
from avatar_pipeline.ledger.database import reading
from avatar_pipeline.ledger.spend import SpendBook
from avatar_pipeline.ledger.spend_schema import BudgetChangeRow
from tests.ledger.money.audit import MONEY, audit, conserved, everything
from tests.ledger.money.model import LEASE, QUARTER, Bill, Books, Change, Machine, Part, Reserved, Rule, Who, window
from tests.ledger.money.world import (
    BEGINNINGS,
    COMPUTE,
    DOLLAR,
    LIMITS,
    MARGIN,
    PEOPLE,
    PRICES,
    PROVIDED,
    RULES,
    SECOND,
    decimal,
    micros,
    payer_of,
    plan_of,
)

NUMBER = st.integers(0, 11)
CHEAPER = st.sampled_from((None, 1, 207_000, 333_332))
"""What a machine turns out to have cost an hour, if that is less than was thought."""
BEGAN = st.sampled_from((None, 1, 1, -1))
"""Whether it is known that a machine began before its worker spoke; or somebody thinks that it was later."""
SHARES = st.lists(st.tuples(NUMBER, st.integers(1, 3)), max_size=3)
DEMANDS = st.tuples(st.integers(0, 40), st.sampled_from(PEOPLE), st.sampled_from(COMPUTE), st.sampled_from(PROVIDED))


@dataclass(frozen=True)
class Call:
    """A call that was made, and must not change anything when it is made again."""

    what: str
    again: Callable[[], Any]
    answer: Any
    """When it is called again."""
    attempt: str = ""


class AnyOrder(RuleBasedStateMachine):
    """Needs an `engine` with tables; `make_book` may be another's, to see it found out."""

    engine: ClassVar[Engine]
    make_book: ClassVar[Callable[..., SpendBook]] = SpendBook
    examples: ClassVar[int] = 0
    steps: ClassVar[int] = 0
    held: ClassVar[int] = 0
    admitted: ClassVar[int] = 0

    @initialize(start=st.sampled_from(BEGINNINGS), demands=st.lists(DEMANDS, max_size=4))
    def begin_with_little(self, start: datetime, demands: list) -> None:
        type(self).examples += 1
        with self.engine.begin() as connection:
            for table in MONEY:
                connection.execute(text(f"DELETE FROM {table}"))
        self.books = Books(RULES, start)
        self.book = type(self).make_book(self.engine, plan=plan_of(), clock=lambda: self.books.now, lease=LEASE)
        self.calls: list[Call] = []
        self.last_meter: dict[str, Call] = {}
        self.marks: dict[tuple[str, str], Fraction] = {}
        self.bounds: dict[tuple[Rule, str, datetime, datetime], Fraction] = {}
        self.serial = 0
        for demand in demands:
            self.admit_all([demand])

    # Work is admitted

    @rule(demands=st.lists(DEMANDS, min_size=1, max_size=3), twin=st.sampled_from((False, False, True)))
    def ask_at_once(self, demands: list, twin: bool) -> None:
        """Several ask for different work, or two workers that both have the same to do."""
        self.admit_all([demands[0]] * 2 if twin else demands)

    @rule(number=st.integers(0, 40), who=st.sampled_from(PEOPLE), compute=st.sampled_from(COMPUTE[3:6]))
    def ask_for_much_at_once(self, number: int, who: Who, compute: int) -> None:
        """Each might fit, and both might not."""
        self.admit_all([(number, who, compute, PROVIDED[1]), (number + 50, who, compute, PROVIDED[2])])

    def admit_all(self, wanted: list) -> None:
        demands = [self.demand(*each) for each in wanted]
        with reading(self.engine) as session:
            before = everything(session.connection())
        answers = self.at_once([demand for demand, _, _ in demands])
        orders = permutations(zip(demands, answers, strict=True))
        assert any(self.fits(order) for order in orders), f"in no order could it be {answers}"
        for (demand, who, amount), answer in zip(demands, answers, strict=True):
            type(self).admitted += answer.admitted
            type(self).held += not answer.admitted
            if answer.admitted and not answer.replayed:
                self.books.reservations[demand.key] = Reserved(who, amount, self.books.now, self.books.now + LEASE)
                first = (answer.decision, answer.degraded, True)
                self.calls.append(Call("admit", lambda demand=demand: self.admit_again(demand), first))
        if not any(answer.admitted and not answer.replayed for answer in answers):
            with reading(self.engine) as session:
                after = everything(session.connection())
            # Whoever asks for the first time has a row to wait at.
            assert _nonzero(after) == _nonzero(before), "something that was held left something behind"

    def admit_again(self, demand: Demand) -> tuple[Any, ...]:
        answer = self.book.admit(demand)
        return answer.decision, answer.degraded, answer.replayed

    def at_once(self, demands: Sequence[Demand]) -> list[Admission]:
        """Ask for all of these, each in a thread of its own."""
        if len(demands) == 1:
            return [self.book.admit(demands[0])]
        with ThreadPoolExecutor(len(demands)) as threads:
            return list(threads.map(self.book.admit, demands))

    def demand(self, number: int, who: Who, compute: int, provided: tuple[int, int]) -> tuple[Demand, Who, Part]:
        """A demand under one of some keys, and what the model makes of it: known keys are asked for again."""
        dollars, characters = provided if who.provider else (0, 0)
        key = f"clip/{number}/0"
        who = Who(who.tenant, who.avatar, f"request-{number}", who.provider)
        amounts = Amounts(decimal(compute), decimal(dollars), decimal(characters))
        part = Part(Fraction(compute), Fraction(dollars), Fraction(characters))
        return Demand(key, "clip", payer_of(who), amounts), who, part

    def fits(self, order: Sequence[tuple[tuple[Demand, Who, Part], Admission]]) -> bool:
        """Whether these answers could have been given one after the other in this order."""
        new: list[str] = []
        try:
            for (demand, who, amount), answer in order:
                known = demand.key in self.books.reservations
                if known != answer.replayed or (known and not answer.admitted):
                    return False
                if known:
                    continue
                room = self.books.room(who, amount)
                doubtful = room is not None and abs(room) <= self.tolerance
                if not doubtful and answer.admitted != (room is None or room >= 0):
                    return False
                if answer.admitted:
                    new.append(demand.key)
                    self.books.reservations[demand.key] = Reserved(who, amount, self.books.now, self.books.now)
            return True
        finally:
            for key in new:
                del self.books.reservations[key]

    @rule(number=NUMBER, compute=st.sampled_from(COMPUTE), provided=st.sampled_from(PROVIDED))
    def top_up(self, number: int, compute: int, provided: tuple[int, int]) -> None:
        key = _pick(self.books.reservations, number)
        if key is None:
            return
        known = self.books.reservations[key]
        dollars, characters = provided if known.who.provider else (0, 0)
        more = Amounts(decimal(compute), decimal(dollars), decimal(characters))
        if known.closed or known.closing:
            try:
                self.book.top_up(key, more)
            except Conflict:
                return
            raise AssertionError("what nobody needs was topped up")
        part = Part(Fraction(compute), Fraction(dollars), Fraction(characters))
        room = self.books.room(known.who, part)
        answer = self.book.top_up(key, more)
        if room is None or abs(room) > self.tolerance:
            assert answer.admitted == (room is None or room >= 0)
        if answer.admitted:
            part.add(_most(known.amount, self.books.used(key)))
            known.amount, known.topped_up = part, self.books.now

    # It is worked on

    @rule(shares=SHARES, price=st.sampled_from(PRICES), cold=st.sampled_from((0, 45, 290)))
    def begin(self, shares: list, price: int, cold: int) -> None:
        self.serial += 1
        key, now = f"run-{self.serial}/render/1", self.books.now
        paying = self.open_shares(shares)
        if self.books.allowance(_paying(paying), price, MARGIN) < timedelta(0):
            return
        before = min(cold * SECOND, self.books.allowance(_paying(paying), price, MARGIN))
        start = self.start(key, now, price)
        assert self.book.begin(start, paying)
        machine = Machine(price, now, now - before, now, now, _paying(paying))
        machine.joined = dict.fromkeys(_known(paying))
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
        key = _pick(self.running(), number)
        if key is None:
            return
        machine = self.books.machines[key]
        until = machine.told + _times(machine.true_end - machine.told, behind)
        self.metered(key, until, None)

    @rule(number=NUMBER, shares=st.one_of(st.just([]), SHARES))
    def share_out(self, number: int, shares: list) -> None:
        """From now on, others pay for the machine, as far as they have enough for what it has run for them."""
        key = _pick(self.running(), number)
        if key is None or self.books.machines[key].parked:
            return
        machine = self.books.machines[key]
        paying = self.open_shares(shares)
        due = machine.start - machine.true_start
        if not machine.payers():
            due += machine.true_end - machine.told
        if self.books.allowance(_paying(paying), machine.price, MARGIN) >= due:
            self.metered(key, machine.true_end, paying)

    def metered(self, key: str, until: datetime, shares: dict[str, int] | None) -> None:
        machine = self.books.machines[key]
        left = self.book.meter(key, until, shares=shares)
        machine.tell(until, next_ones=None if shares is None else _paying(shares))
        if shares is not None:
            machine.shares = _paying(shares)
            machine.joined |= dict.fromkeys(_known(shares))
        self.heard_of(machine)
        assert left.keys() == _known(machine.shares)
        for each, remaining in left.items():
            self.same(each, remaining.amounts, self.books.left(each))

        def again() -> None:
            self.book.meter(key, until, shares=shares)

        self.last_meter[key] = Call("meter", again, None, key)

    def heard_of(self, machine: Machine) -> None:
        """Those who pay for it are still wanted."""
        for key in _known(machine.shares):
            reservation = self.books.reservations[key]
            reservation.expires = max(reservation.expires, self.books.now + LEASE)

    @rule(number=NUMBER)
    def crash(self, number: int) -> None:
        """Nobody hears of the worker again."""
        if key := _pick(self.running(), number):
            self.books.machines[key].alive = False

    @rule(number=NUMBER, price=CHEAPER, began=BEGAN)
    def finish(self, number: int, price: int | None, began: int | None) -> None:
        """The worker ends it, and what it was for is done."""
        key = _pick(self.running(), number)
        if key is None:
            return
        paid = list(_known(self.books.machines[key].shares))
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
        key = _pick(self.lost(), number) or _pick(self.running(), number)
        if key is None:
            return
        machine = self.books.machines[key]
        machine.alive = False
        at = machine.told + _times(machine.true_end - machine.told, seen) if seen >= 0 else machine.told - 61 * SECOND
        self.settled(key, at, began, price)

    @rule(number=NUMBER, price=CHEAPER, began=BEGAN, told=st.booleans())
    def it_dies_at_night(self, number: int, price: int | None, began: int | None, told: bool) -> None:
        """What a machine did yesterday is known today, and that it was cheaper."""
        key = _pick(self.running(), number)
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

    @rule(number=NUMBER, sparse=st.booleans(), share=st.sampled_from((Fraction(1), Fraction(1, 3), Fraction(3, 2))))
    def charge(self, number: int, sparse: bool, share: Fraction) -> None:
        """A provider bills a part of what is left for it, or more than that; now, or a while ago."""
        voiced = {key: each for key, each in self.books.reservations.items() if each.who.provider}
        key = _pick(voiced, number)
        reservation = voiced[key] if key else Reserved(PEOPLE[0], Part(), self.books.now, self.books.now)
        left = self.books.left(key) if key else Part()
        dollars, characters = int(left.provider * share) + 7, int(left.characters * share) + DOLLAR
        bill = Part(provider=Fraction(dollars), characters=Fraction(characters))
        at = max(reservation.topped_up or reservation.at, self.books.now - number * 60 * SECOND)
        name = f"elevenlabs/{len(self.books.bills)}"
        payer = payer_of(reservation.who)
        charge = ProviderCharge(
            name,
            "elevenlabs",
            key,
            # Whoever is charged knows no more than that: whose it is says the reservation.
            Payer(tenant=payer.tenant, provider="elevenlabs") if key and sparse else payer,
            "speech",
            decimal(dollars),
            decimal(characters),
            at,
        )
        assert self.book.charge(charge)
        self.books.bills[name] = Bill(key or "", reservation.who, bill, at, bill.over(left))
        self.calls.append(Call("charge", lambda: self.book.charge(charge), False))

    # It is given up, or forgotten about

    @rule(number=NUMBER)
    def cancel(self, number: int) -> None:
        if key := _pick(self.books.reservations, number):
            self.released(key, finished=False)

    def released(self, key: str, *, finished: bool) -> None:
        known = self.books.reservations[key]
        was = (known.closing, known.closed)
        answer = self.book.release(key, finished=finished)
        if not known.closed:
            self.books.close(key)
        assert answer or was == (known.closing, known.closed)
        self.calls.append(Call("release", lambda: self.book.release(key, finished=finished), False))

    @rule(still_wanted=st.booleans())
    def expire(self, still_wanted: bool) -> None:
        """The reconciler looks at what nobody has spoken for in time; that alone frees nothing."""
        due = sorted(
            (each.expires, key)
            for key, each in self.books.reservations.items()
            if not each.closed and each.expires <= self.books.now
        )
        assert [view.key for view in self.book.expired()] == [key for _, key in due]
        wanted = [key for _, key in due if still_wanted or self.books.paying(key)]
        for _, key in due:
            if key not in wanted:
                self.released(key, finished=False)
        until = self.books.now + LEASE
        self.book.extend(wanted, until)
        self.calls.append(Call("extend", lambda: self.book.extend(wanted, until), None))
        for key in wanted:
            self.books.reservations[key].expires = until

    # The world goes on

    @rule(seconds=st.sampled_from((1, 7, 61, 300, 1234)), rest=st.sampled_from((0, 1, 333_333)))
    def time_passes(self, seconds: int, rest: int) -> None:
        self.run_until(self.books.now + timedelta(seconds=seconds, microseconds=rest))

    @rule(period=st.sampled_from(("day", "day", "month", "week", "quarter")), more=st.sampled_from((-30, 0, 1, 1800)))
    def a_period_turns(self, period: str, more: int) -> None:
        end = window(period, self.books.now)[1] if period != "quarter" else self.books.now + QUARTER
        self.run_until(max(self.books.now, end + more * SECOND))

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

    @rule(
        which=st.sampled_from(LIMITS),
        action=st.sampled_from(("set", "set", "clear", "override", "revoke")),
        amount=st.sampled_from((0, 300_000, 1_000_000, 2_500_000, 9_000_000)),
        hours=st.sampled_from((1, 30)),
    )
    def change_limit(self, which: Rule | str, action: str, amount: int, hours: int) -> None:
        limit = which if isinstance(which, str) else which.id
        if action == "revoke":
            known = [change for change in self.books.changes if change.action == "override"]
            if not known:
                return
            change = Change(known[-1].limit, action, override=known[-1].override, at=self.books.now)
        else:
            amount *= 1000 if limit == "voices/month" else 1
            expires = self.books.now + timedelta(hours=hours) if action == "override" else None
            override = f"override-{len(self.books.changes)}" if expires else ""
            change = Change(limit, action, amount, override, expires, self.books.now)
        self.books.changes.append(change)
        with self.engine.begin() as connection:
            connection.execute(
                insert(BudgetChangeRow).values(
                    limit_id=change.limit,
                    action=change.action,
                    amount=decimal(change.amount) if action in ("set", "override") else None,
                    override_id=change.override or None,
                    expires_at=change.expires,
                    who="a test",
                    reason="to see what happens",
                    at=change.at,
                )
            )

    @rule(number=st.integers(0, 500), meter=st.booleans())
    def replay(self, number: int, meter: bool) -> None:
        """What was called before is called again: a worker that lost its connection does."""
        calls = list(self.last_meter.values()) if meter else self.calls
        if not calls:
            return
        call = calls[number % len(calls)]
        before = self.rows(without_leases=meter)
        assert call.again() == call.answer, f"{call.what} again is answered differently"
        assert self.rows(without_leases=meter) == before, f"{call.what} again changed something"
        if meter and not self.books.machines[call.attempt].ended:
            self.heard_of(self.books.machines[call.attempt])

    @rule(number=NUMBER, shares=SHARES, hours=st.sampled_from((-1, 1)))
    def contradict(self, number: int, shares: list, hours: int) -> None:
        """Of what has ended, somebody tells something else: it is too late."""
        ended = {key: machine for key, machine in self.books.machines.items() if machine.ended}
        key = _pick(ended, number)
        if key is None:
            return
        at = ended[key].told + hours * 3600 * SECOND
        paying = self.open_shares(shares)
        before = self.rows(without_leases=False)
        assert not self.book.settle(key, AttemptEnd(at, "lost", at - 9000 * SECOND, price_per_hour=decimal(PRICES[-1])))
        self.book.meter(key, at, shares=paying)
        assert not self.book.begin(self.start(key, at, PRICES[0]), paying)
        assert self.rows(without_leases=False) == before, "what has ended was changed"

    # What must be true

    @invariant()
    def all_is_well(self) -> None:
        if not hasattr(self, "books"):
            return
        type(self).steps += 1
        with reading(self.engine) as session:
            assert not (wrong := audit(session.connection())), wrong
        self.within_limits()

    def within_limits(self) -> None:
        """As much was spent and is reserved as the model says, and no more than the limit. If that was lowered since,
        it is no more than it was then, and falls."""
        told = {limit.id: standing for limit, standing in self.book.all_standings()}
        for rule_, name in self.books.limits():
            start, end = window(rule_.period, self.books.now)
            hard = self.books.hard(rule_, name, self.books.now)
            settled = self.books.settled(rule_, name, start, end)
            reserved = self.books.reserved(rule_, name)
            standing = told.pop(rule_.instance(name), None)
            if standing is None:
                assert settled + reserved <= self.tolerance, f"{rule_.instance(name)} is not looked at"
            else:
                assert (standing.starts_at, standing.ends_at) == (start, end) or rule_.period == "rolling_24h"
                assert abs(micros(standing.hard) - hard) <= (self.tolerance if rule_.carry else 0), (standing, hard)
                assert abs(micros(standing.settled) - settled) <= self.tolerance, (standing, float(settled))
                assert abs(micros(standing.reserved) - reserved) <= self.tolerance, (standing, float(reserved))
                taken = micros(standing.settled + standing.reserved)
                taken -= self.books.unforeseen(rule_, name, start, end, over=False)
                most = max(hard, self.marks.get((rule_.id, name), hard))
                assert taken <= most + self.tolerance, f"{standing} is over {float(most)}"
                self.marks[rule_.id, name] = hard if taken <= hard else min(most, taken)
            if end is not None:
                bound = max(hard, self.marks.get((rule_.id, name), hard))
                here = (rule_, name, start, end)
                self.bounds[here] = max(self.bounds.get(here, bound), bound)
        assert not told, f"limits of nobody: {told}"

    def teardown(self) -> None:
        if not hasattr(self, "books"):
            return
        for key, machine in self.books.machines.items():
            if not machine.ended:
                self.settled(key, machine.true_end, None, None)
        for key in self.books.reservations:
            self.released(key, finished=False)
        self.all_is_well()
        with reading(self.engine) as session:
            assert not (wrong := conserved(session.connection())), wrong
        for (rule_, name, start, end), bound in self.bounds.items():
            settled = self.books.settled(rule_, name, start, end)
            settled -= self.books.unforeseen(rule_, name, start, end, over=True)
            assert settled <= bound + self.tolerance, f"{rule_.instance(name)} from {start} on was overdrawn"
        before = self.rows(without_leases=False)
        for call in self.calls:
            assert call.again() == call.answer, f"{call.what} again is answered differently at the end"
        assert self.rows(without_leases=False) == before, "what was called again at the end changed something"

    # Short ways

    @property
    def tolerance(self) -> Fraction:
        """Millionths by which the ledger may differ: what is exact here is rounded there, entry by entry."""
        slots = sum(
            2 + (end - start) // QUARTER for each in self.books.machines.values() for start, end, _ in each.spans
        )
        return Fraction(2 + 2 * 3 * slots) + sum((each.slack for each in self.books.machines.values()), Fraction(0))

    def rows(self, *, without_leases: bool) -> dict:
        with reading(self.engine) as session:
            if without_leases:
                return everything(session.connection(), leave_out="expires_at")
            return everything(session.connection())

    def running(self) -> dict[str, Machine]:
        return {key: each for key, each in self.books.machines.items() if each.alive and not each.ended}

    def lost(self) -> dict[str, Machine]:
        return {key: each for key, each in self.books.machines.items() if not each.alive and not each.ended}

    def open_shares(self, shares: list) -> dict[str, int]:
        """Shares of reservations that are open, or of one that is not there."""
        open_ = [key for key, each in self.books.reservations.items() if not each.closed and not each.closing]
        return {(open_[number % len(open_)] if number < 11 and open_ else "gone"): weight for number, weight in shares}

    def same(self, what: str, amounts: Amounts, part: Part) -> None:
        for is_, should in (
            (amounts.compute, part.compute),
            (amounts.provider, part.provider),
            (amounts.characters, part.characters),
        ):
            assert abs(micros(is_) - should) <= self.tolerance, (what, amounts, part)


def _pick(known: dict[str, Any], number: int) -> str | None:
    return list(known)[number % len(known)] if known else None


def _paying(shares: dict[str, int]) -> dict[str, int]:
    """Shares as the model has them: what is not there is nobody."""
    return {"" if key == "gone" else key: weight for key, weight in shares.items()}


def _known(shares: dict[str, int]) -> set[str]:
    return shares.keys() - {"", "gone"}


def _most(one: Part, other: Part) -> Part:
    return Part(
        max(one.compute, other.compute), max(one.provider, other.provider), max(one.characters, other.characters)
    )


def _times(span: timedelta, factor: Fraction) -> timedelta:
    return timedelta(microseconds=int((span // timedelta(microseconds=1)) * factor))


def _nonzero(tables: dict[str, list[tuple[object, ...]]]) -> dict[str, list[tuple[object, ...]]]:
    return tables | {"spend_accounts": [row for row in tables["spend_accounts"] if row[-1] != "0"]}
