"""Many at once: threads on PostgreSQL, processes on SQLite. Every request comes to one end, and nobody is in a ring."""

import random
import subprocess
import sys
import threading
from collections import Counter

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from avatar_pipeline.errors import AvatarError
from avatar_pipeline.ledger.records import Arrival
from avatar_pipeline.ledger.schema import RequestEventRow
from tests.ledger.desk import BROKEN, NOW, Desk, clip

COUNT = 120
REQUESTS = [clip(number, tenant=f"tenant-{number % 3}", callback_url="https://example.com/") for number in range(COUNT)]


def work(desk: Desk, seed: int) -> None:
    """What a consumer, a worker and a sensor do, all in one, in an order of chance: each step again and again."""
    chance = random.Random(seed)
    for turn in range(12):
        some = chance.sample(REQUESTS, 40)
        assert desk.book.take_in([Arrival(request, NOW) for request in some]) == [None] * 40
        # Batches are shared between two workers each: the second thinks that the first is lost.
        for request in desk.book.claim(f"batch-{seed // 2}-{turn}", 10):
            name = request.request_id
            try:
                if chance.random() < 0.1:
                    desk.book.hold(name, "over budget")
                    desk.book.release(name)
                elif chance.random() < 0.1:
                    desk.book.hold(name, "quota", NOW)
                    desk.book.release_due(3)
                if desk.book.begin(name, max_attempts=5):
                    desk.book.fail(name, BROKEN) if chance.random() < 0.2 else desk.book.finish(name, clip_key="abc")
            except AvatarError as error:
                assert error.code == "worker_lost"


def check(desk: Desk) -> None:
    """Finish what is left, then look: one batch and one end for each."""
    desk.book.release_due()
    for turn in range(40):
        for request in desk.book.claim(f"last-{turn}", 100):
            desk.book.finish(request.request_id, clip_key="abc")
    for batch in desk.book.open_batches():
        for record in desk.book.list(batch_id=batch.batch_id, states=("claimed", "running")):
            desk.book.finish(record.request.request_id, clip_key="abc")
    records = desk.book.list()
    assert len(records) == COUNT
    assert {record.state for record in records} <= {"done", "failed"}
    ends: Counter[str] = Counter()
    with Session(desk.ledger.engine) as session:
        for entry in session.scalars(select(RequestEventRow).where(RequestEventRow.state.in_(("done", "failed")))):
            ends[entry.request_id] += 1
    assert ends == Counter({request.request_id: 1 for request in REQUESTS})
    from avatar_pipeline.ledger.callbacks import CallbackBook

    told = Counter(callback.request_id for callback in CallbackBook(desk.ledger.engine).list())
    assert told == ends


def test_threads_on_postgresql_bring_every_request_to_one_end(empty_database: str) -> None:
    desk = Desk(empty_database)
    desk.has("ada")
    failed: list[BaseException] = []

    def one(seed: int) -> None:
        try:
            work(desk, seed)
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=one, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
        assert not thread.is_alive(), "somebody waits in a ring"
    assert failed == []
    check(desk)
    desk.ledger.close()


PROGRAM = "import sys; from tests.ledger import test_at_once as t; t.work(t.Desk(sys.argv[1]), int(sys.argv[2]))"


def test_processes_on_sqlite_bring_every_request_to_one_end(sqlite_url: str, request: pytest.FixtureRequest) -> None:
    desk = Desk(sqlite_url)
    desk.has("ada")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, sqlite_url, str(seed)],
            cwd=request.config.rootpath,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in range(3)
    ]
    assert [process.communicate(timeout=120)[1] for process in processes] == [""] * 3
    check(desk)
    desk.ledger.close()
