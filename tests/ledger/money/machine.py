"""Any order of calls to a book of spending, beside a plain model of what it should say; checked after every call.

Nothing that is drawn depends on what was answered, so that an order that goes wrong can be made shorter.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from fractions import Fraction

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule
from sqlalchemy import insert

from avatar_pipeline.budget.types import Payer, ProviderCharge
from avatar_pipeline.ledger.database import reading
from avatar_pipeline.ledger.spend_schema import BudgetChangeRow
from tests.ledger.money.audit import conserved
from tests.ledger.money.ground import (
    DEMANDS,
    NUMBER,
    Call,
    pick,
)
from tests.ledger.money.model import QUARTER, Bill, Change, Part, Reserved, Rule, window
from tests.ledger.money.working import Working
from tests.ledger.money.world import (
    BEGINNINGS,
    DOLLAR,
    LIMITS,
    PEOPLE,
    SECOND,
    decimal,
    payer_of,
)


class AnyOrder(Working):
    """All of it, with providers that bill, time that passes, people who change limits, and calls that are repeated."""

    @initialize(start=st.sampled_from(BEGINNINGS), demands=st.lists(DEMANDS, max_size=4))
    def begin_with_little(self, start: datetime, demands: list) -> None:
        self.begin_empty(start)
        for demand in demands:
            self.admit_all([demand])

    @rule(number=NUMBER, sparse=st.booleans(), share=st.sampled_from((Fraction(1), Fraction(1, 3), Fraction(3, 2))))
    def charge(self, number: int, sparse: bool, share: Fraction) -> None:
        """A provider bills a part of what is left for it, or more than that; now, or a while ago."""
        voiced = {key: each for key, each in self.books.reservations.items() if each.who.provider}
        key = pick(voiced, number)
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

    @rule(seconds=st.sampled_from((1, 7, 61, 300, 1234)), rest=st.sampled_from((0, 1, 333_333)))
    def time_passes(self, seconds: int, rest: int) -> None:
        self.run_until(self.books.now + timedelta(seconds=seconds, microseconds=rest))

    @rule(period=st.sampled_from(("day", "day", "month", "week", "quarter")), more=st.sampled_from((-30, 0, 1, 1800)))
    def a_period_turns(self, period: str, more: int) -> None:
        end = window(period, self.books.now)[1] if period != "quarter" else self.books.now + QUARTER
        self.run_until(max(self.books.now, end + more * SECOND))

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
