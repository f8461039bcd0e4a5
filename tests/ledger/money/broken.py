"""Books of spending with a mistake that is easily made, to see that it is found out."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Barrier
from typing import Any

from sqlalchemy import Engine, update

from avatar_pipeline.budget.gate import decide
from avatar_pipeline.budget.types import Admission, Demand, lines
from avatar_pipeline.ledger import totals
from avatar_pipeline.ledger.database import writing
from avatar_pipeline.ledger.spend import SpendBook
from avatar_pipeline.ledger.spend_schema import ReservationRow
from tests.ledger.money.machine import AnyOrder


class ChecksFirst(SpendBook):
    """Looks how much is left, and puts it aside in another transaction: of two that look at once, both see it."""

    def __init__(self, engine: Engine, **options: Any) -> None:
        super().__init__(engine, **options)
        self.now = options["clock"]
        self.unlimited = SpendBook(engine, clock=options["clock"], lease=options["lease"])
        self.meeting = Barrier(1)

    def admit(self, demand: Demand) -> Admission:
        answer = decide(demand, self.standings(demand.payer), self.now(), timezone=self.plan.timezone)
        known = self.get(demand.key) is not None
        self.meeting.wait()
        return self.unlimited.admit(demand) if answer.admitted or known else answer


class MeetsBetween(AnyOrder):
    """All who ask at once have looked before the first puts anything aside."""

    make_book = ChecksFirst
    book: ChecksFirst

    def at_once(self, demands: Sequence[Demand]) -> list[Admission]:
        self.book.meeting = Barrier(len(demands))
        try:
            return super().at_once(demands)
        finally:
            # Replays come one by one.
            self.book.meeting = Barrier(1)


class FreesWhatRuns(SpendBook):
    """Frees what is put aside for work that is cancelled, though its machine still runs and costs."""

    def __init__(self, engine: Engine, **options: Any) -> None:
        super().__init__(engine, **options)
        self.engine = engine

    def release(self, key: str, *, finished: bool = False) -> bool:
        released = super().release(key, finished=finished)
        known = self.get(key)
        if known is not None and known.is_open:
            with writing(self.engine) as session:
                free = {line: -amount for line, amount in lines(known.payer, known.left).items()}
                totals.put_aside(session.connection(), free)
                closed = update(ReservationRow).where(ReservationRow.key == key)
                session.execute(closed.values(state="released", closing=False, closed_at=known.created_at))
        return released


class FreesByTime(SpendBook):
    """Frees what nobody spoke for in time, without asking what became of its work."""

    def expired(self, limit: int = 1000) -> list[Any]:
        due = super().expired(limit)
        for each in due:
            self.release(each.key)
        return due
