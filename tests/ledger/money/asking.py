"""Calls by which work is admitted, and let go of."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from itertools import permutations
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from avatar_pipeline.budget.types import Admission, Amounts, Demand
from avatar_pipeline.errors import Conflict
from avatar_pipeline.ledger.database import reading
from tests.ledger.money.audit import everything
from tests.ledger.money.ground import DEMANDS, NUMBER, Call, Ground, most, nonzero, pick
from tests.ledger.money.model import LEASE, Part, Reserved, Who
from tests.ledger.money.world import (
    COMPUTE,
    PEOPLE,
    PROVIDED,
    decimal,
    payer_of,
)


class Asking(Ground):
    """Work is admitted, topped up, given up or forgotten about."""

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
            assert nonzero(after) == nonzero(before), "something that was held left something behind"

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
        key = pick(self.books.reservations, number)
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
            part.add(most(known.amount, self.books.used(key)))
            known.amount, known.topped_up = part, self.books.now

    @rule(number=NUMBER)
    def cancel(self, number: int) -> None:
        if key := pick(self.books.reservations, number):
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
