"""Delivery of webhooks: at least once, in the end, and nobody in the way of anybody."""

import base64
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.orm import Session
from standardwebhooks.webhooks import Webhook

from avatar_pipeline.callbacks.backoff import SCHEDULE
from avatar_pipeline.callbacks.deliver import HOST_PAUSE, Delivered, deliver_due
from avatar_pipeline.callbacks.post import GuardedPost
from avatar_pipeline.errors import EnvironmentProblem
from avatar_pipeline.ledger.callbacks import Callback, CallbackBook
from avatar_pipeline.ledger.ledger import Ledger
from avatar_pipeline.ledger.schema import Base
from avatar_pipeline.settings import Settings
from tests.callbacks.conftest import Receiver, receiving

SECRET = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes, ok").decode()
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ON = Settings(callbacks=True, callback_secret=SECRET, callback_private_addresses=True)
PUBLIC_ONLY = Settings(callbacks=True, callback_secret=SECRET)


class Outbox:
    """A book with its clock, and the deliverer on it."""

    def __init__(self, url: str) -> None:
        self.ledger = Ledger(url)
        Base.metadata.create_all(self.ledger.engine)
        self.now = NOW
        self.book = CallbackBook(self.ledger.engine, clock=self.clock)

    def clock(self) -> datetime:
        return self.now

    def enqueue(self, *urls: str, body: str = '{"type": "request.done"}') -> None:
        with Session(self.ledger.engine) as session, session.begin():
            for number, url in enumerate(urls):
                self.book.enqueue(session, request_id=f"clip-{number}", url=url, body=body, now=self.now)

    def deliver(self, settings: Settings = ON, **options: object) -> Delivered:
        return deliver_due(self.book, settings, clock=self.clock, **options)  # type: ignore[arg-type]

    def only(self) -> Callback:
        (callback,) = self.book.list()
        return callback


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/ledger.db"


@pytest.fixture
def outbox(database: str) -> Iterator[Outbox]:
    outbox = Outbox(database)
    yield outbox
    outbox.ledger.close()


@pytest.fixture
def dead() -> Iterator[str]:
    """The URL of a port that nobody listens on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/hook"


def test_a_receiver_gets_what_was_written_signed_and_once(outbox: Outbox, receiver: Receiver) -> None:
    outbox.now = datetime.now(UTC)
    outbox.enqueue(receiver.url, body='{"id": "ü"}')
    assert outbox.deliver() == Delivered(delivered=1)
    assert outbox.deliver() == Delivered()
    ((_, headers, body),) = receiver.received
    assert Webhook(SECRET).verify(body, headers) == {"id": "ü"}
    assert headers["content-type"] == "application/json"
    assert headers["webhook-id"] == "msg_clip-0_1"
    assert outbox.only().state == "delivered"


def test_a_receiver_that_fails_twice_gets_it_the_third_time_under_the_same_id(
    outbox: Outbox, receiver: Receiver
) -> None:
    receiver.answers = [(500, {}), (404, {}), (200, {})]
    outbox.enqueue(receiver.url)
    assert outbox.deliver() == Delivered(retried=1)
    assert outbox.deliver() == Delivered()
    for step, outcome in zip(SCHEDULE, [Delivered(retried=1), Delivered(delivered=1)], strict=False):
        outbox.now += 0.7 * step
        assert outbox.deliver() == Delivered()
        outbox.now += 0.6 * step
        assert outbox.deliver() == outcome
    assert outbox.only().attempts == 3
    assert len(set(receiver.ids)) == 1
    assert len({headers["webhook-timestamp"] for _, headers, _ in receiver.received}) == 3
    for _, headers, body in receiver.received:
        at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
        assert headers["webhook-signature"] == Webhook(SECRET).sign(headers["webhook-id"], at, body)


def test_after_the_last_attempt_it_is_abandoned_with_the_reason(outbox: Outbox, receiver: Receiver) -> None:
    receiver.answers = [(500, {})]
    outbox.enqueue(receiver.url)
    outcomes = []
    for _ in range(len(SCHEDULE) + 1):
        outcomes.append(outbox.deliver())
        outbox.now += timedelta(days=2)
    assert outcomes == [Delivered(retried=1)] * len(SCHEDULE) + [Delivered(abandoned=1)]
    assert outbox.only().last_error == "The receiver answered 500. Given up after 10 attempts."
    assert outbox.deliver() == Delivered()
    assert outbox.book.redrive() == 1
    receiver.answers = [(200, {})]
    assert outbox.deliver() == Delivered(delivered=1)


def test_a_receiver_that_is_gone_is_asked_no_more(outbox: Outbox, receiver: Receiver) -> None:
    receiver.answers = [(410, {})]
    outbox.enqueue(receiver.url)
    assert outbox.deliver() == Delivered(abandoned=1)
    assert outbox.only().last_error == "The receiver answered 410 Gone."


@pytest.mark.parametrize("url", ["https://localhost:1/", "https://169.254.169.254/latest", "http://127.0.0.1/"])
def test_an_address_that_is_refused_is_abandoned_at_once(outbox: Outbox, url: str) -> None:
    outbox.enqueue(url)
    assert outbox.deliver(PUBLIC_ONLY) == Delivered(abandoned=1)
    assert "not" in (outbox.only().last_error or "")


def test_a_redirect_to_an_inner_address_is_a_failure_and_not_followed(outbox: Outbox, receiver: Receiver) -> None:
    with receiving() as inner:
        receiver.answers = [(307, {"Location": inner.url})]
        outbox.enqueue(receiver.url)
        assert outbox.deliver() == Delivered(retried=1)
        assert inner.received == []


@pytest.mark.parametrize(("asked", "granted"), [("3600", 3600), ("9999999", 86400), ("1", 4), ("later", 4)])
def test_a_receiver_may_ask_for_more_time_up_to_a_limit(
    outbox: Outbox, receiver: Receiver, asked: str, granted: float
) -> None:
    receiver.answers = [(503, {"Retry-After": asked})]
    outbox.enqueue(receiver.url)
    outbox.deliver()
    wait = (outbox.only().next_attempt_at - NOW).total_seconds()
    assert granted <= wait <= max(granted, 6)


def test_callbacks_are_off_until_somebody_turns_them_on(outbox: Outbox, receiver: Receiver) -> None:
    outbox.enqueue(receiver.url)
    done = outbox.deliver(Settings(callback_secret=SECRET, callback_private_addresses=True))
    assert (done, str(done)) == (Delivered(off=True), "Callbacks are off (AVATAR_CALLBACKS).")
    assert receiver.received == []
    assert outbox.deliver() == Delivered(delivered=1)


def test_without_a_secret_nothing_is_taken(outbox: Outbox, receiver: Receiver) -> None:
    outbox.enqueue(receiver.url)
    with pytest.raises(EnvironmentProblem):
        outbox.deliver(Settings(callbacks=True, callback_private_addresses=True))
    assert outbox.book.has_due()


def test_a_dead_host_with_many_due_holds_nobody_up(outbox: Outbox, receiver: Receiver, dead: str) -> None:
    outbox.enqueue(*[dead] * 200)
    outbox.now += timedelta(seconds=1)
    outbox.enqueue(*[receiver.url] * 5)
    assert outbox.deliver(limit=50) == Delivered(delivered=5, retried=1, put_back=44)
    tried = [callback for callback in outbox.book.list(states=["pending"]) if callback.attempts]
    assert len(tried) == 1
    paused = [c for c in outbox.book.list(states=["pending"]) if c.next_attempt_at == outbox.now + HOST_PAUSE]
    assert len(paused) == 44
    assert "cannot be reached" in (paused[0].last_error or "")


def test_a_url_that_does_not_answer_in_time_does_not_put_off_the_others_of_its_host(
    outbox: Outbox, receiver: Receiver
) -> None:
    over = threading.Event()

    def hang() -> None:
        if receiver.received[-1][0] == "/slow":
            over.wait(60)

    receiver.on_request = hang
    outbox.enqueue(f"http://127.0.0.1:{receiver.port}/slow", *[receiver.url] * 3)
    assert outbox.deliver(post=GuardedPost(private=True, total_seconds=1.0)) == Delivered(delivered=3, retried=1)
    over.set()
    (slow,) = outbox.book.list(states=["pending"])
    assert (slow.request_id, slow.last_error) == ("clip-0", "The receiver 127.0.0.1 gave no answer within 1 s.")


def test_a_host_is_asked_by_one_at_first_and_by_four_once_it_answers(outbox: Outbox, receiver: Receiver) -> None:
    barrier = threading.Barrier(4)
    at_once = []

    def meet() -> None:
        if len(receiver.received) > 1:
            barrier.wait(timeout=20)  # breaks, unless four are here together
            at_once.append(1)

    receiver.on_request = meet
    outbox.enqueue(*[receiver.url] * 9)
    assert outbox.deliver() == Delivered(delivered=9)
    assert len(at_once) == 8


def test_when_the_time_is_up_the_rest_is_due_again_at_once(outbox: Outbox, receiver: Receiver) -> None:
    def take_time() -> None:
        outbox.now += timedelta(seconds=8)

    receiver.on_request = take_time
    outbox.enqueue(*[receiver.url] * 20)
    done = outbox.deliver(budget=timedelta(seconds=20))
    assert done.delivered + done.put_back == 20
    assert done.put_back > 10
    assert str(done).endswith(f"{done.put_back} put back.")
    receiver.on_request = lambda: None
    assert outbox.deliver() == Delivered(delivered=done.put_back)
    assert sorted(receiver.ids) == sorted(set(receiver.ids))


KILLED = """
import sys
from avatar_pipeline.callbacks.deliver import deliver_due
from avatar_pipeline.ledger.callbacks import CallbackBook
from avatar_pipeline.ledger.ledger import Ledger
from avatar_pipeline.settings import Settings
settings = Settings(callbacks=True, callback_secret=sys.argv[2], callback_private_addresses=True)
deliver_due(CallbackBook(Ledger(sys.argv[1]).engine), settings)
"""


def test_what_a_killed_deliverer_had_taken_is_delivered_by_the_next(
    outbox: Outbox, receiver: Receiver, database: str
) -> None:
    arrived, answer = threading.Event(), threading.Event()

    def hold() -> None:
        arrived.set()
        answer.wait(60)

    receiver.on_request = hold
    outbox.enqueue(receiver.url, receiver.url)
    deliverer = subprocess.Popen([sys.executable, "-c", KILLED, database, SECRET])
    assert arrived.wait(60)
    deliverer.kill()
    deliverer.wait()
    answer.set()
    receiver.on_request = lambda: None

    outbox.now = datetime.now(UTC)
    assert outbox.deliver() == Delivered()
    outbox.now += timedelta(seconds=81)
    assert outbox.deliver() == Delivered(delivered=2)
    assert sorted(receiver.ids) == ["msg_clip-0_1", "msg_clip-0_1", "msg_clip-1_2"]
    assert outbox.book.counts() == {"delivered": 2}


def test_two_deliverers_at_once_send_nothing_twice(postgres_url: str, receiver: Receiver) -> None:
    outbox = Outbox(postgres_url)
    outbox.enqueue(*[receiver.url] * 40, body=json.dumps({"type": "request.failed"}))
    threads = [threading.Thread(target=outbox.deliver) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outbox.deliver()
    assert len(receiver.ids) == len(set(receiver.ids)) == 40
    assert outbox.book.counts() == {"delivered": 40}
    outbox.ledger.close()
