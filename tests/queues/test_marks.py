"""The age of a queue that does not tell it: what is known of the oldest message, with times in hand."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine, delete, func, select
from sqlalchemy.pool import StaticPool

from avatar_pipeline.ledger.schema import Base, QueueMarkRow
from avatar_pipeline.queues.marks import AgeMark
from avatar_pipeline.queues.types import Message

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def sent(minutes: float, *, receives: int = 1, name: str | None = None) -> Message:
    return Message(name or f"sent-at-{minutes}", "body", "receipt", receives, at(minutes))


@pytest.fixture
def mark(engine: Engine) -> AgeMark:
    return AgeMark(engine, "clips", max_receives=5)


def age(mark: AgeMark, minutes: float) -> float | None:
    span = mark.observed(empty=False, now=at(minutes))
    return None if span is None else span / MINUTE


def rows(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(QueueMarkRow)).scalar_one()


def test_the_first_observation_is_the_beginning(mark: AgeMark) -> None:
    assert age(mark, 3) == 0
    assert age(mark, 5) == 2


def test_what_is_received_lowers_the_mark_and_never_raises_it(mark: AgeMark) -> None:
    age(mark, 10)
    mark.received([sent(4), sent(7)], now=at(10), visibility=MINUTE)
    assert age(mark, 10) == 6
    mark.received([sent(9)], now=at(10), visibility=MINUTE)
    assert age(mark, 10) == 6


@pytest.mark.parametrize("receives", [2, 3, 4])
def test_receiving_again_makes_no_queue_younger(mark: AgeMark, receives: int) -> None:
    for count in range(1, receives + 1):
        mark.received([sent(0, receives=count)], now=at(count), visibility=MINUTE)
        assert age(mark, count) == count


def test_deleting_moves_the_mark_to_the_latest_that_is_gone(mark: AgeMark) -> None:
    messages = [sent(0), sent(3), sent(5)]
    mark.received(messages, now=at(10), visibility=MINUTE)
    mark.gone(messages, now=at(10))
    assert age(mark, 10) == 5


def test_deleting_out_of_order_does_not_move_the_mark_back(mark: AgeMark) -> None:
    mark.received([sent(0)], now=at(1), visibility=MINUTE)
    mark.gone([sent(5)], now=at(10))
    mark.gone([sent(3)], now=at(10))
    assert age(mark, 10) == 5


def test_the_mark_does_not_pass_what_is_held_here(mark: AgeMark) -> None:
    mark.received([sent(0), sent(3), sent(5)], now=at(10), visibility=MINUTE)
    mark.gone([sent(5)], now=at(10))
    assert age(mark, 10) == 10
    mark.gone([sent(0)], now=at(10))
    assert age(mark, 10) == 10
    mark.gone([sent(6)], now=at(10))
    assert age(mark, 10) == 7


def test_what_somebody_else_finished_does_not_hold_the_mark_for_ever(mark: AgeMark) -> None:
    mark.received([sent(0), sent(3)], now=at(10), visibility=MINUTE)
    mark.gone([sent(3)], now=at(11))
    assert age(mark, 11) == 8


def test_a_poison_message_holds_the_mark_in_every_process(mark: AgeMark, engine: Engine) -> None:
    mark.received([sent(0, receives=3)], now=at(10), visibility=MINUTE)
    other = AgeMark(engine, "clips", max_receives=5)
    other.received([sent(8)], now=at(10), visibility=MINUTE)
    other.gone([sent(8)], now=at(20))
    assert age(mark, 20) == age(other, 20) == 20
    other.gone([sent(0, receives=4)], now=at(20))
    other.gone([sent(8)], now=at(20))
    assert age(mark, 20) == 12


def test_an_empty_queue_has_no_mark_and_no_pin(mark: AgeMark, engine: Engine) -> None:
    elsewhere = AgeMark(engine, "avatars", max_receives=5)
    elsewhere.received([sent(0, receives=2)], now=at(1), visibility=MINUTE)
    mark.received([sent(0, receives=2), sent(1)], now=at(10), visibility=MINUTE)
    assert rows(engine) == 4
    assert mark.observed(empty=True, now=at(10)) is None
    assert rows(engine) == 2
    assert age(elsewhere, 9) == 9


def test_the_last_delivery_leaves_no_pin(mark: AgeMark, engine: Engine) -> None:
    for count in range(1, 6):
        mark.received([sent(0, receives=count)], now=at(count), visibility=MINUTE)
    assert rows(engine) == 1


def test_a_dead_letter_queue_has_no_last_delivery(engine: Engine) -> None:
    mark = AgeMark(engine, "clips-dead", max_receives=None)
    mark.received([sent(0, receives=500)], now=at(1), visibility=MINUTE)
    assert rows(engine) == 2


def test_ids_may_be_as_long_as_sqs_allows(mark: AgeMark) -> None:
    mark.received([sent(0, receives=2, name="x" * 100)], now=at(1), visibility=MINUTE)
    assert age(mark, 1) == 1


MEMORY = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
Base.metadata.create_all(MEMORY)
STEPS = st.lists(
    st.tuples(st.sampled_from(["send", "receive", "finish", "restart"]), st.integers(0, 5), st.integers(0, 2)),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_no_message_received_twice_is_ever_older_than_the_age(steps: list[tuple[str, int, int]]) -> None:
    with MEMORY.begin() as connection:
        connection.execute(delete(QueueMarkRow))
    mark = AgeMark(MEMORY, "clips", max_receives=None)
    waiting: dict[str, Message] = {}
    minute = 0
    for step, which, later in steps:
        minute += later
        keys = list(waiting)
        if step == "send":
            message = sent(minute, receives=0, name=f"{minute}-{len(waiting)}-{which}")
            waiting.setdefault(message.message_id, message)
        elif step == "restart":
            mark = AgeMark(MEMORY, "clips", max_receives=None)
        elif keys:
            old = waiting[keys[which % len(keys)]]
            if step == "finish":
                del waiting[old.message_id]
                mark.gone([old], now=at(minute))
            else:
                again = sent((old.sent_at - NOON) / MINUTE, receives=old.receive_count + 1, name=old.message_id)
                waiting[again.message_id] = again
                mark.received([again], now=at(minute), visibility=MINUTE)
        told = mark.observed(empty=not waiting, now=at(minute))
        repeated = [message.sent_at for message in waiting.values() if message.receive_count > 1]
        assert (told is None) == (not waiting)
        if repeated and told is not None:
            assert told >= at(minute) - min(repeated)
