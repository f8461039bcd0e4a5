"""The SQL queue with a clock in hand: what depends on time, on both databases."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, event

from avatar_pipeline.ledger.database import open_engine
from avatar_pipeline.queues.sql import SqlQueue
from avatar_pipeline.queues.types import Depth, QueueUnavailable
from tests.queues.conftest import HandClock

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def queue(engine: Engine, clock: HandClock) -> SqlQueue:
    return SqlQueue(engine, "clips", max_receives=3, clock=clock, sleep=clock.sleep)


def bodies(messages: list) -> list[str]:
    return [message.body for message in messages]


def test_messages_come_in_the_order_in_which_they_became_visible(queue: SqlQueue, clock: HandClock) -> None:
    queue.send(["a", "b"])
    clock.now += SECOND
    queue.send(["c"])
    queue.send(["early"], delay=timedelta(0))
    assert bodies(queue.receive(4, visibility=MINUTE)) == ["a", "b", "c", "early"]


def test_a_hidden_message_comes_back_exactly_when_its_time_has_passed(queue: SqlQueue, clock: HandClock) -> None:
    queue.send(["a"])
    queue.receive(1, visibility=MINUTE)
    clock.now += MINUTE - timedelta(microseconds=1)
    assert queue.receive(1, visibility=MINUTE) == []
    clock.now += timedelta(microseconds=1)
    assert queue.depth() == Depth(visible=1, in_flight=0, delayed=0)
    assert bodies(queue.receive(1, visibility=MINUTE)) == ["a"]


def test_a_delayed_message_comes_when_its_delay_has_passed(queue: SqlQueue, clock: HandClock) -> None:
    queue.send(["a"], delay=MINUTE)
    clock.now += MINUTE - SECOND
    assert queue.receive(1, visibility=MINUTE) == []
    clock.now += SECOND
    assert bodies(queue.receive(1, visibility=MINUTE)) == ["a"]


def test_extending_counts_from_now(queue: SqlQueue, clock: HandClock) -> None:
    queue.send(["a"])
    messages = queue.receive(1, visibility=MINUTE)
    clock.now += 50 * SECOND
    queue.extend(messages, MINUTE)
    clock.now += MINUTE - SECOND
    assert queue.receive(1, visibility=MINUTE) == []
    clock.now += SECOND
    assert len(queue.receive(1, visibility=MINUTE)) == 1


def test_an_expired_receipt_extends_nothing(queue: SqlQueue, clock: HandClock) -> None:
    queue.send(["a"])
    messages = queue.receive(1, visibility=MINUTE)
    clock.now += MINUTE
    queue.extend(messages, 10 * MINUTE)
    assert queue.depth().visible == 1


def test_a_receipt_of_an_earlier_delivery_does_nothing(queue: SqlQueue, clock: HandClock) -> None:
    queue.send(["a"])
    old = queue.receive(1, visibility=MINUTE)
    clock.now += MINUTE
    (new,) = queue.receive(1, visibility=MINUTE)
    queue.extend(old, timedelta(0))
    queue.delete(old)
    queue.dead_letter(old[0], "the other has it")
    assert queue.depth() == Depth(visible=0, in_flight=1, delayed=0)
    assert queue.dead.depth().total == 0
    queue.dead_letter(new, "bad")
    queue.dead_letter(new, "bad")
    assert queue.dead.depth().total == 1


def test_a_late_receiver_may_still_delete_what_nobody_else_has(queue: SqlQueue, clock: HandClock) -> None:
    queue.send(["a"])
    messages = queue.receive(1, visibility=MINUTE)
    clock.now += 2 * MINUTE
    queue.delete(messages)
    assert queue.depth().total == 0


def test_a_long_poll_ends_with_the_first_message(queue: SqlQueue, clock: HandClock) -> None:
    queue.send(["a"], delay=5 * SECOND)
    start = clock.now
    assert bodies(queue.receive(1, visibility=MINUTE, wait=20 * SECOND)) == ["a"]
    assert 5 * SECOND <= clock.now - start <= 5.5 * SECOND


def test_a_long_poll_gives_up_when_its_wait_is_over(queue: SqlQueue, clock: HandClock) -> None:
    start = clock.now
    assert queue.receive(1, visibility=MINUTE, wait=20 * SECOND) == []
    assert clock.now - start == 20 * SECOND


def test_exhausted_messages_do_not_use_up_the_limit(engine: Engine, clock: HandClock) -> None:
    queue = SqlQueue(engine, "clips", max_receives=1, clock=clock)
    queue.send(["p1", "p2", "p3"])
    queue.receive(3, visibility=SECOND)
    clock.now += SECOND
    queue.send(["a", "b"])
    assert bodies(queue.receive(2, visibility=MINUTE)) == ["a", "b"]
    assert {letter.reason for letter in queue.dead.peek(5)} == {"received 1 times without being finished"}


def test_the_age_counts_from_the_sending_over_death_and_redrive(queue: SqlQueue, clock: HandClock) -> None:
    queue.send(["a"])
    sent = clock.now
    for _ in range(3):
        queue.receive(1, visibility=MINUTE)
        clock.now += MINUTE
        assert queue.oldest_age() == clock.now - sent
    assert queue.receive(1, visibility=MINUTE) == []
    assert queue.oldest_age() is None
    clock.now += MINUTE
    assert queue.dead.oldest_age() == clock.now - sent == 4 * MINUTE
    assert queue.redrive() == 1
    assert queue.oldest_age() == 4 * MINUTE


def test_a_dead_letter_that_somebody_looks_at_is_not_redriven(queue: SqlQueue) -> None:
    queue.send(["a"])
    queue.dead_letter(*queue.receive(1, visibility=MINUTE), "bad")
    queue.dead.receive(1, visibility=MINUTE)
    assert queue.redrive() == 0
    assert queue.redrive(5) == 0


def test_a_thousand_messages_take_a_handful_of_statements(queue: SqlQueue, engine: Engine) -> None:
    statements: list[str] = []

    @event.listens_for(engine, "before_cursor_execute")
    def note(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if not statement.startswith(("BEGIN", "PRAGMA")):
            statements.append(statement)

    queue.send([f"message {number}" for number in range(1000)])
    assert len(statements) == 1
    messages = queue.receive(1000, visibility=MINUTE)
    assert len({message.receipt for message in messages}) == 1000
    queue.extend(messages, 2 * MINUTE)
    queue.delete(messages)
    assert queue.depth().total == 0
    assert len(statements) <= 15


@pytest.mark.parametrize(
    "call",
    [
        lambda queue: queue.send(["a"]),
        lambda queue: queue.receive(1, visibility=MINUTE),
        lambda queue: queue.depth(),
        lambda queue: queue.oldest_age(),
    ],
)
def test_a_database_without_tables_is_told_plainly(tmp_path, call: Callable[[SqlQueue], object]) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'empty.db'}")
    with pytest.raises(QueueUnavailable, match=r"Queue clips in the ledger sqlite:.*empty\.db") as raised:
        call(SqlQueue(engine, "clips", max_receives=3))
    assert (raised.value.code, raised.value.exit_code) == ("queue_unavailable", 3)
    engine.dispose()


def test_a_password_is_in_no_message() -> None:
    engine = open_engine("postgresql://me:hush@127.0.0.1:1/none")
    with pytest.raises(QueueUnavailable) as raised:
        SqlQueue(engine, "clips", max_receives=3).depth()
    assert "hush" not in str(raised.value)
    assert "127.0.0.1:1/none" in str(raised.value)
