"""Signs of life, on SQLite and on PostgreSQL."""

import threading

from avatar_pipeline.ledger.beats import Beats
from tests.ledger.desk import NOW, SECOND, Desk


def test_the_last_beat_of_each_run_is_known_until_it_is_forgotten(desk: Desk) -> None:
    beats = Beats(desk.ledger.engine, clock=desk.clock)
    beats.beat("run-1")
    beats.beat("run-2")
    desk.now += SECOND
    beats.beat("run-2")
    assert beats.last(["run-1", "run-2", "run-3"]) == {"run-1": NOW, "run-2": NOW + SECOND}
    beats.forget(["run-1", "run-3"])
    assert beats.last(["run-1", "run-2"]) == {"run-2": NOW + SECOND}
    assert beats.last([]) == {}


def test_beats_of_runs_that_nobody_forgot_are_pruned(desk: Desk) -> None:
    beats = Beats(desk.ledger.engine, clock=desk.clock)
    beats.beat("run-1")
    desk.now += SECOND
    beats.beat("run-2")
    assert beats.prune(NOW) == 0
    assert beats.prune(NOW + SECOND) == 1
    assert beats.prune(NOW + SECOND) == 0
    assert set(beats.last(["run-1", "run-2"])) == {"run-2"}


def test_runs_by_the_thousand_are_looked_up_at_once(desk: Desk) -> None:
    beats = Beats(desk.ledger.engine, clock=desk.clock)
    beats.beat("run-1999")
    assert set(beats.last([f"run-{number}" for number in range(2000)])) == {"run-1999"}


def test_two_workers_of_one_run_may_beat_at_once(desk: Desk) -> None:
    beats = Beats(desk.ledger.engine, clock=desk.clock)
    failed: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(10):
                beats.beat("run-1")
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert beats.last(["run-1"]) == {"run-1": NOW}
