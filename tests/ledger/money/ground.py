"""What any order of calls stands on: the book beside its model, and what must be true after every call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant
from sqlalchemy import Engine, event, text

from avatar_pipeline.budget.types import Amounts
from avatar_pipeline.ledger.database import reading
from avatar_pipeline.ledger.spend import SpendBook
from tests.ledger.money.audit import MONEY, audit, everything
from tests.ledger.money.books import Books
from tests.ledger.money.model import LEASE, QUARTER, Machine, Part, Rule, window
from tests.ledger.money.world import (
    COMPUTE,
    PEOPLE,
    PROVIDED,
    RULES,
    micros,
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


class Writes:
    """Counts what is written to a database, so that nobody looks twice at what is the same."""

    def __init__(self, engine: Engine) -> None:
        self.count = 0
        event.listen(engine, "before_cursor_execute", self._see)

    def _see(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        self.count += not statement.startswith(("SELECT", "PRAGMA", "BEGIN"))


class Ground(RuleBasedStateMachine):
    """A book of spending, a model of what it should say, and what must be true of both after every call.

    Needs an `engine` with tables; `make_book` may be another's, to see it found out.
    """

    engine: ClassVar[Engine]
    make_book: ClassVar[Callable[..., SpendBook]] = SpendBook
    writes: ClassVar[Writes | None] = None
    examples: ClassVar[int] = 0
    steps: ClassVar[int] = 0
    held: ClassVar[int] = 0
    admitted: ClassVar[int] = 0

    def begin_empty(self, start: datetime) -> None:
        """Nothing was ever spent."""
        type(self).examples += 1
        type(self).writes = self.writes or Writes(self.engine)
        self.seen: tuple[int, datetime] | None = None
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

    # What must be true

    @invariant()
    def all_is_well(self) -> None:
        if not hasattr(self, "books"):
            return
        type(self).steps += 1
        if (looked_at := (self.writes.count, self.books.now)) == self.seen:
            return
        self.seen = looked_at
        with reading(self.engine) as session:
            assert not (wrong := audit(session.connection())), wrong
        self.within_limits()

    def within_limits(self) -> None:
        """As much was spent and is reserved as the model says, and no more than the limit. If that was lowered since,
        it is no more than it was then, and falls."""
        tolerance = self.tolerance
        told = {limit.id: standing for limit, standing in self.book.all_standings()}
        for rule_, name in self.books.limits():
            start, end = window(rule_.period, self.books.now)
            hard = self.books.hard(rule_, name, self.books.now)
            settled = self.books.settled(rule_, name, start, end)
            reserved = self.books.reserved(rule_, name)
            standing = told.pop(rule_.instance(name), None)
            if standing is None:
                assert settled + reserved <= tolerance, f"{rule_.instance(name)} is not looked at"
            else:
                assert (standing.starts_at, standing.ends_at) == (start, end) or rule_.period == "rolling_24h"
                assert abs(micros(standing.hard) - hard) <= (tolerance if rule_.carry else 0), (standing, hard)
                assert abs(micros(standing.settled) - settled) <= tolerance, (standing, float(settled))
                assert abs(micros(standing.reserved) - reserved) <= tolerance, (standing, float(reserved))
                taken = micros(standing.settled + standing.reserved)
                taken -= self.books.unforeseen(rule_, name, start, end, over=False)
                most = max(hard, self.marks.get((rule_.id, name), hard))
                assert taken <= most + tolerance, f"{standing} is over {float(most)}"
                self.marks[rule_.id, name] = hard if taken <= hard else min(most, taken)
            if end is not None:
                bound = max(hard, self.marks.get((rule_.id, name), hard))
                here = (rule_, name, start, end)
                self.bounds[here] = max(self.bounds.get(here, bound), bound)
        assert not told, f"limits of nobody: {told}"

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


def pick(known: dict[str, Any], number: int) -> str | None:
    return list(known)[number % len(known)] if known else None


def as_paid(shares: dict[str, int]) -> dict[str, int]:
    """Shares as the model has them: what is not there is nobody."""
    return {"" if key == "gone" else key: weight for key, weight in shares.items()}


def payers_in(shares: dict[str, int]) -> set[str]:
    return shares.keys() - {"", "gone"}


def most(one: Part, other: Part) -> Part:
    return Part(
        max(one.compute, other.compute), max(one.provider, other.provider), max(one.characters, other.characters)
    )


def times(span: timedelta, factor: Fraction) -> timedelta:
    return timedelta(microseconds=int((span // timedelta(microseconds=1)) * factor))


def nonzero(tables: dict[str, list[tuple[object, ...]]]) -> dict[str, list[tuple[object, ...]]]:
    return tables | {"spend_accounts": [row for row in tables["spend_accounts"] if row[-1] != "0"]}
