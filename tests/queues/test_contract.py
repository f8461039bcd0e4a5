"""What every queue does, whatever it is made of. SQS is moto's server, spoken to over HTTP."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.queues.limits import LARGEST_BODY
from avatar_pipeline.queues.sql import SqlQueue
from avatar_pipeline.queues.types import Depth, WorkQueue

MINUTE = timedelta(minutes=1)
NOW = timedelta(0)
# SQS rounds times to milliseconds, and a message that was given back is visible a moment later.
SHORTLY = timedelta(seconds=1)
MakeQueue = Callable[..., WorkQueue]


@pytest.fixture(params=["sqlite", "postgresql", "sqs"])
def make_queue(request: pytest.FixtureRequest) -> MakeQueue:
    if request.param == "sqs":
        return request.getfixturevalue("make_sqs")
    if request.param == "sqlite":
        engine = request.getfixturevalue("sqlite_engine")
    else:
        from avatar_pipeline.ledger.database import open_engine
        from avatar_pipeline.ledger.schema import Base

        engine = open_engine(request.getfixturevalue("postgres_url"))
        Base.metadata.create_all(engine)
        request.addfinalizer(engine.dispose)
    return lambda max_receives=3: SqlQueue(engine, "clip-requests", max_receives=max_receives)


@pytest.fixture
def queue(make_queue: MakeQueue) -> WorkQueue:
    return make_queue()


def take(queue: WorkQueue, limit: int = 10, visibility: timedelta = MINUTE) -> list:
    return queue.receive(limit, visibility=visibility, wait=SHORTLY)


def give_back(queue: WorkQueue, times: int) -> None:
    for _ in range(times):
        (message,) = take(queue)
        queue.extend([message], NOW)


def test_what_is_sent_is_received_with_its_id_and_time(queue: WorkQueue) -> None:
    before = datetime.now(UTC) - SHORTLY
    ids = queue.send(["one", "zwei — 二", '{"three": 3}'])
    messages = take(queue)
    assert {message.message_id: message.body for message in messages} == dict(
        zip(ids, ["one", "zwei — 二", '{"three": 3}'], strict=True)
    )
    assert all(message.receive_count == 1 and message.reason is None for message in messages)
    assert all(before <= message.sent_at <= datetime.now(UTC) + SHORTLY for message in messages)
    assert len({message.receipt for message in messages}) == 3


def test_nothing_in_nothing_out(queue: WorkQueue) -> None:
    assert queue.send([]) == []
    assert queue.receive(5, visibility=MINUTE) == []
    assert queue.depth() == Depth(0, 0, 0)
    assert queue.oldest_age() is None
    assert queue.redrive() == 0
    assert queue.peek(3) == []
    queue.delete([])
    queue.extend([], MINUTE)


def test_a_received_message_is_hidden_and_then_counted_as_in_flight(queue: WorkQueue) -> None:
    queue.send(["a", "b", "c"])
    assert len(take(queue, 2)) == 2
    assert queue.depth() == Depth(visible=1, in_flight=2, delayed=0)
    assert len(queue.receive(10, visibility=MINUTE)) == 1
    assert queue.receive(10, visibility=MINUTE) == []
    assert queue.depth().total == 3


def test_more_than_ten_are_sent_and_received_in_one_call(queue: WorkQueue) -> None:
    bodies = [f"message {number}" for number in range(37)]
    ids = queue.send(bodies)
    assert len(set(ids)) == 37
    messages = take(queue, 36)
    assert len(messages) == 36
    queue.delete(messages)
    assert queue.depth() == Depth(visible=1, in_flight=0, delayed=0)
    (last,) = take(queue, 36)
    assert {message.body for message in [*messages, last]} == set(bodies)
    assert dict(zip(ids, bodies, strict=True))[last.message_id] == last.body


def test_a_deleted_message_never_comes_again_and_deleting_twice_is_no_error(queue: WorkQueue) -> None:
    queue.send(["a", "b"])
    messages = take(queue)
    queue.delete(messages[:1])
    queue.delete(messages[:1] * 2)
    queue.extend(messages, NOW)
    assert [message.body for message in take(queue)] == [messages[1].body]


def test_a_message_given_back_is_received_again_with_another_receipt(queue: WorkQueue) -> None:
    queue.send(["a"])
    (first,) = take(queue)
    queue.extend([first], NOW)
    (second,) = take(queue)
    assert second.message_id == first.message_id
    assert second.receive_count == 2
    assert second.receipt != first.receipt
    assert abs(second.sent_at - first.sent_at) < timedelta(milliseconds=1)


def test_a_message_comes_again_when_its_visibility_timeout_has_passed(queue: WorkQueue) -> None:
    queue.send(["a"])
    take(queue, visibility=NOW)
    (again,) = take(queue)
    assert again.receive_count == 2


def test_an_extended_message_stays_hidden(queue: WorkQueue) -> None:
    queue.send(["a"])
    (message,) = take(queue, visibility=SHORTLY)
    queue.extend([message], MINUTE)
    assert queue.receive(1, visibility=MINUTE) == []
    assert queue.depth() == Depth(visible=0, in_flight=1, delayed=0)


def test_a_delayed_message_is_counted_and_not_received(queue: WorkQueue) -> None:
    queue.send(["later"], delay=timedelta(minutes=10))
    assert queue.receive(1, visibility=MINUTE) == []
    assert queue.depth() == Depth(visible=0, in_flight=0, delayed=1)
    assert queue.oldest_age() is not None


def test_peek_shows_messages_and_leaves_them(queue: WorkQueue) -> None:
    queue.send([f"message {number}" for number in range(13)])
    assert len({message.message_id for message in queue.peek(12)}) == 12
    assert len(take(queue, 13)) == 13


def test_a_message_never_finished_ends_in_the_dead_letter_queue(make_queue: MakeQueue) -> None:
    queue = make_queue(max_receives=2)
    (key,) = queue.send(["poison"])
    give_back(queue, 2)
    queue.send(["good"])
    assert [message.body for message in take(queue)] == ["good"]
    (letter,) = take(queue.dead)
    assert (letter.message_id, letter.body) == (key, "poison")
    assert "2 times without being finished" in letter.reason
    assert queue.depth().total == 1


def test_a_dead_letter_has_its_reason_its_id_and_its_time(queue: WorkQueue) -> None:
    queue.send(["bad", "good"])
    bad, good = sorted(take(queue), key=lambda message: message.body)
    queue.dead_letter(bad, "fps: Input should be at most 60 — \x00 nothing else")
    assert queue.depth() == Depth(visible=0, in_flight=1, delayed=0)
    assert queue.dead.depth() == Depth(visible=1, in_flight=0, delayed=0)
    (letter,) = take(queue.dead)
    assert letter.reason == "fps: Input should be at most 60 — ? nothing else"
    assert (letter.message_id, letter.body) == (bad.message_id, "bad")
    assert abs(letter.sent_at - bad.sent_at) < timedelta(milliseconds=1)
    queue.delete([good])
    assert queue.depth().total == 0


def test_a_dead_letter_that_cannot_be_named_keeps_a_reason(queue: WorkQueue) -> None:
    queue.send(["bad"])
    queue.dead_letter(*take(queue), "x" * 5000)
    (letter,) = take(queue.dead)
    assert letter.reason == "x" * 1000


def test_a_deleted_message_does_not_become_a_dead_letter(queue: WorkQueue) -> None:
    queue.send(["a"])
    (message,) = take(queue)
    queue.delete([message])
    queue.dead_letter(message, "too late")
    assert queue.dead.depth().total == 0


def test_a_dead_letter_queue_is_the_end(queue: WorkQueue) -> None:
    queue.send(["bad"])
    queue.dead_letter(*take(queue), "bad")
    assert queue.dead.dead is None
    assert queue.dead.name == f"{queue.name}-dead"
    give_back(queue.dead, 5)
    (letter,) = take(queue.dead)
    assert (letter.receive_count, letter.reason) == (6, "bad")
    with pytest.raises(InvalidInput, match="no dead-letter queue"):
        queue.dead.dead_letter(letter, "again")
    with pytest.raises(InvalidInput, match="no dead-letter queue"):
        queue.dead.redrive()


def test_a_dead_letter_can_be_deleted(queue: WorkQueue) -> None:
    queue.send(["bad"])
    queue.dead_letter(*take(queue), "bad")
    queue.dead.delete(take(queue.dead))
    assert queue.dead.depth().total == 0
    assert queue.redrive() == 0


def test_redriven_letters_are_received_as_if_new(queue: WorkQueue) -> None:
    ids = queue.send([f"bad {number}" for number in range(12)])
    messages = take(queue, 12)
    for message in messages:
        queue.dead_letter(message, "bad")
    assert queue.redrive(5) == 5
    assert (queue.depth().visible, queue.dead.depth().visible) == (5, 7)
    assert queue.redrive() == 7
    back = take(queue, 12)
    assert {(message.message_id, message.body) for message in back} == set(
        zip(ids, [f"bad {number}" for number in range(12)], strict=True)
    )
    assert all(message.receive_count == 1 and message.reason is None for message in back)
    assert queue.dead.depth().total == 0


def test_a_redriven_letter_keeps_the_time_when_it_was_first_sent(queue: WorkQueue) -> None:
    queue.send(["bad"])
    (first,) = take(queue)
    queue.dead_letter(first, "bad")
    queue.redrive()
    (again,) = take(queue)
    assert abs(again.sent_at - first.sent_at) < timedelta(milliseconds=1)


def test_the_age_is_of_the_oldest_however_often_it_was_received(make_queue: MakeQueue) -> None:
    queue = make_queue(max_receives=10)
    queue.send(["old"])
    give_back(queue, 4)
    (old,) = take(queue)
    queue.send(["new"])
    (new,) = take(queue)
    queue.delete([new])
    least = datetime.now(UTC) - old.sent_at
    age = queue.oldest_age()
    assert least <= age <= least + timedelta(seconds=5)
    queue.delete([old])
    assert queue.oldest_age() is None


def test_the_two_queues_do_not_see_each_other(make_queue: MakeQueue) -> None:
    queue = make_queue()
    queue.send(["a"])
    queue.dead.send(["b"])
    assert [message.body for message in take(queue)] == ["a"]
    assert [message.body for message in take(queue.dead)] == ["b"]


@pytest.mark.parametrize(
    ("body", "named"),
    [("", "empty"), ("a\x00", r"U\+0000"), ("\ud800", r"U\+D800"), ("é" * (LARGEST_BODY // 2 + 1), "262,146 bytes")],
)
def test_a_message_that_cannot_travel_is_refused_and_none_is_sent(queue: WorkQueue, body: str, named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        queue.send(["good", body])
    assert queue.depth().total == 0


def test_the_largest_message_travels_also_as_a_dead_letter(queue: WorkQueue) -> None:
    body = "x" * LARGEST_BODY
    queue.send([body, body, body])
    messages = take(queue)
    assert [message.body for message in messages] == [body] * 3
    queue.dead_letter(messages[0], "too large")
    (letter,) = take(queue.dead)
    assert letter.body == body
    assert letter.reason


def test_limits_are_those_of_sqs(queue: WorkQueue) -> None:
    for wrong in (
        lambda: queue.receive(0, visibility=MINUTE),
        lambda: queue.receive(1, visibility=timedelta(hours=13)),
        lambda: queue.receive(1, visibility=MINUTE, wait=timedelta(seconds=21)),
        lambda: queue.receive(1, visibility=-MINUTE),
        lambda: queue.extend([], timedelta(hours=13)),
        lambda: queue.send(["a"], delay=timedelta(minutes=16)),
        lambda: queue.peek(0),
        lambda: queue.redrive(0),
    ):
        with pytest.raises(InvalidInput):
            wrong()
