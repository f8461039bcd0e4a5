"""Signs of life: a run's worker writes down now and then that it lives, so that a dead one is noticed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Engine, delete, select

from avatar_pipeline.clock import Clock, utc_now
from avatar_pipeline.ledger.database import chunks, delete_in_pages, insert_or_update, reading, writing
from avatar_pipeline.ledger.schema import BeatRow


class Beats:
    """The last beat of every run that is at work. Every method but `prune` is one transaction."""

    def __init__(self, engine: Engine, *, clock: Clock = utc_now) -> None:
        self._engine = engine
        self._clock = clock

    def beat(self, run_id: str) -> None:
        """Write down that the worker of this run lives now."""
        now = self._clock()
        with writing(self._engine) as session:
            session.execute(
                insert_or_update(session, BeatRow, keys=("run_id",), changes=("at",)), [{"run_id": run_id, "at": now}]
            )

    def last(self, run_ids: Sequence[str]) -> dict[str, datetime]:
        """Return the last beat of each of these runs that has had one."""
        found: dict[str, datetime] = {}
        with reading(self._engine) as session:
            for some in chunks(run_ids):
                beats = select(BeatRow.run_id, BeatRow.at).where(BeatRow.run_id.in_(some))
                found |= {row.run_id: row.at for row in session.execute(beats)}
        return found

    def forget(self, run_ids: Sequence[str]) -> None:
        """Delete the beats of these runs: they are over."""
        with writing(self._engine) as session:
            for some in chunks(run_ids):
                session.execute(delete(BeatRow).where(BeatRow.run_id.in_(some)))

    def prune(self, before: datetime) -> int:
        """Delete the beats from before `before`, of runs that nobody forgot; return how many."""
        return delete_in_pages(self._engine, BeatRow.run_id, BeatRow.at < before)
