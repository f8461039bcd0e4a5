"""Signs of life of a worker, so that a run whose worker was killed is found by whoever looks after the runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy.exc import DatabaseError

from avatar_pipeline.ledger.beats import Beats

INTERVAL_SECONDS = 5.0


@contextmanager
def beating(beats: Beats, run_id: str, *, interval: float = INTERVAL_SECONDS) -> Iterator[None]:
    """Beat for the run now and every `interval` seconds, from a thread, for as long as the block runs."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(interval):
            # One beat that the database refused is made up for by the next; many, and the run counts as lost.
            with suppress(DatabaseError):
                beats.beat(run_id)

    beats.beat(run_id)
    thread = threading.Thread(target=beat, name=f"beat-{run_id[:8]}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
