"""The book of webhooks, on SQLite and on PostgreSQL: leases, and that every end is written once."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from avatar_pipeline.ledger import database
from avatar_pipeline.ledger.callbacks import CallbackBook, callback_body, host_of, shared_out
from avatar_pipeline.ledger.ledger import Ledger
from avatar_pipeline.ledger.schema import Base

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    on_sqlite = request.param == "sqlite"
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db" if on_sqlite else request.getfixturevalue("postgres_url"))
    Base.metadata.create_all(ledger.engine)
    yield ledger.engine
    ledger.close()


class Setting:
    """A book, and its clock."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.now = NOW
        self.book = CallbackBook(engine, clock=lambda: self.now)

    def enqueue(self, count: int, host: str = "receiver.test", *, prefix: str = "clip") -> None:
        with Session(self.engine) as session, session.begin():
            for number in range(count):
                self.book.enqueue(
                    session, request_id=f"{prefix}-{number}", url=f"https://{host}/{number}", body="{}", now=self.now
                )


@pytest.fixture
def setting(engine: Engine) -> Setting:
    return Setting(engine)


def test_a_callback_is_as_durable_as_the_transaction_it_is_written_in(setting: Setting) -> None:
    with Session(setting.engine) as session:
        setting.book.enqueue(session, request_id="clip-1", url="https://receiver.test/", body="{}", now=NOW)
        session.flush()
        session.rollback()
    assert setting.book.list() == []
    assert not setting.book.has_due()
    setting.enqueue(1)
    assert setting.book.has_due()
    (callback,) = setting.book.list(request_id="clip-0", states=["pending"])
    assert (callback.url, callback.body, callback.attempts, callback.next_attempt_at) == (
        "https://receiver.test/0", "{}", 0, NOW,
    )  # fmt: skip


def test_what_is_taken_is_hidden_until_its_lease_is_over(setting: Setting) -> None:
    setting.enqueue(3)
    taken = setting.book.take_due(2, MINUTE)
    assert [callback.request_id for callback in taken] == ["clip-0", "clip-1"]
    assert [callback.request_id for callback in setting.book.take_due(9, MINUTE)] == ["clip-2"]
    assert setting.book.take_due(9, MINUTE) == []
    assert not setting.book.has_due()
    setting.now += MINUTE
    assert len(setting.book.take_due(9, MINUTE)) == 3
    assert all(callback.attempts == 0 for callback in setting.book.list())


def test_a_delivered_callback_is_delivered_once_and_never_due_again(setting: Setting) -> None:
    setting.enqueue(1)
    (callback,) = setting.book.take_due(1, MINUTE)
    assert setting.book.delivered(callback.id)
    assert not setting.book.delivered(callback.id)
    assert not setting.book.abandon(callback.id, "too late")
    assert not setting.book.retry(callback, "too late", NOW)
    setting.now += 10 * MINUTE
    assert not setting.book.has_due()
    (after,) = setting.book.list()
    assert (after.state, after.attempts, after.last_error, after.finished_at) == ("delivered", 1, None, NOW)


def test_a_retry_is_due_when_it_says_and_counts_the_attempt(setting: Setting) -> None:
    setting.enqueue(1)
    (callback,) = setting.book.take_due(1, MINUTE)
    assert setting.book.retry(callback, "The receiver answered 503.", NOW + 5 * MINUTE)
    setting.now += 4 * MINUTE
    assert setting.book.take_due(1, MINUTE) == []
    setting.now += MINUTE
    (again,) = setting.book.take_due(1, MINUTE)
    assert (again.attempts, again.last_error) == (1, "The receiver answered 503.")


def test_whoever_lost_the_lease_cannot_change_the_plan_of_the_next(setting: Setting) -> None:
    setting.enqueue(1)
    (stale,) = setting.book.take_due(1, MINUTE)
    setting.now += 2 * MINUTE
    (fresh,) = setting.book.take_due(1, MINUTE)
    assert not setting.book.retry(stale, "late", setting.now)
    assert not setting.book.put_back(stale, setting.now)
    assert setting.book.retry(fresh, "in time", setting.now + MINUTE)
    assert not setting.book.retry(fresh, "twice", setting.now + MINUTE)
    (callback,) = setting.book.list()
    assert (callback.attempts, callback.last_error) == (1, "in time")


def test_a_delivery_counts_even_when_the_lease_ran_out_meanwhile(setting: Setting) -> None:
    setting.enqueue(1)
    (stale,) = setting.book.take_due(1, MINUTE)
    setting.now += 2 * MINUTE
    (fresh,) = setting.book.take_due(1, MINUTE)
    assert setting.book.delivered(stale.id)
    assert not setting.book.retry(fresh, "no answer", setting.now)
    assert setting.book.counts() == {"delivered": 1}


def test_what_is_put_back_costs_no_attempt(setting: Setting) -> None:
    setting.enqueue(1)
    (callback,) = setting.book.take_due(1, MINUTE)
    assert setting.book.put_back(callback, NOW)
    (again,) = setting.book.take_due(1, MINUTE)
    assert again.attempts == 0


def test_abandoned_callbacks_can_be_sent_once_more(setting: Setting) -> None:
    setting.enqueue(3)
    first, second, _ = setting.book.take_due(3, MINUTE)
    setting.book.abandon(first.id, "x" * 5000)
    setting.book.abandon(second.id, "The receiver answered 410 Gone.")
    assert setting.book.counts() == {"abandoned": 2, "pending": 1}
    assert len(setting.book.list(states=["abandoned"])[0].last_error or "") <= 300
    assert setting.book.redrive("clip-1") == 1
    (again,) = setting.book.take_due(9, MINUTE)
    assert (again.id, again.attempts, again.finished_at) == (second.id, 0, None)
    assert setting.book.redrive() == 1


def test_callbacks_that_ended_long_ago_are_pruned_and_pending_ones_never(setting: Setting) -> None:
    setting.enqueue(4)
    first, second, third, _ = setting.book.list()
    setting.book.delivered(first.id)
    setting.book.abandon(second.id, "gone")
    setting.now += MINUTE
    setting.book.delivered(third.id)
    assert setting.book.prune(NOW) == 0
    assert setting.book.prune(NOW + MINUTE) == 2
    assert setting.book.prune(NOW + MINUTE) == 0
    assert [callback.state for callback in setting.book.list()] == ["delivered", "pending"]


def test_more_than_a_page_is_pruned_in_one_call(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "PAGE", 3)
    setting.enqueue(7)
    for callback in setting.book.list():
        setting.book.delivered(callback.id)
    assert setting.book.prune(NOW + MINUTE) == 7
    assert setting.book.list() == []


def test_a_callback_shows_neither_url_nor_body(setting: Setting) -> None:
    setting.enqueue(1, "receiver.test")
    (callback,) = setting.book.list()
    assert "receiver.test" not in repr(callback)
    assert "body" not in repr(callback)
    assert callback.host == "receiver.test"


def test_many_deliverers_at_once_take_every_callback_once(setting: Setting) -> None:
    setting.enqueue(120)
    taken: list[int] = []
    barrier = threading.Barrier(4)

    def take() -> None:
        barrier.wait()
        misses = 0
        while misses < 3:
            got = setting.book.take_due(7, MINUTE)
            taken.extend(callback.id for callback in got)
            misses = 0 if got else misses + 1

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(Counter(taken).values()) == 1
    taken += [callback.id for callback in setting.book.take_due(120, MINUTE)]
    assert sorted(taken) == [callback.id for callback in setting.book.list()]


def test_a_host_with_thousands_due_leaves_room_for_the_others(setting: Setting) -> None:
    setting.enqueue(3000, "busy.test", prefix="busy")
    setting.now += MINUTE
    setting.enqueue(5, "late.test", prefix="late")
    hosts = Counter(callback.host for callback in setting.book.take_due(50, MINUTE))
    assert hosts == {"late.test": 5, "busy.test": 45}


def test_the_limit_of_a_list_is_kept(setting: Setting) -> None:
    setting.enqueue(3)
    assert [callback.request_id for callback in setting.book.list(limit=2)] == ["clip-0", "clip-1"]


@given(st.lists(st.sampled_from("abcdefgh"), max_size=200), st.integers(0, 60))
def test_the_limit_is_filled_and_no_host_gets_more_than_a_share_that_others_need(hosts: list[str], limit: int) -> None:
    chosen = shared_out(enumerate(hosts), limit)
    assert len(chosen) == len(set(chosen)) == min(limit, len(hosts))
    got, wanted = Counter(hosts[place] for place in chosen), Counter(hosts)
    for host, number in got.items():
        assert (
            sorted(place for place in chosen if hosts[place] == host)
            == [place for place, other in enumerate(hosts) if other == host][:number]
        )
    share = max(1, limit // 4)
    for host in wanted:
        if got[host] < min(wanted[host], share):
            assert all(number <= share for number in got.values())


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://Receiver.test/hook?x=1", "receiver.test"),
        ("http://receiver.test:8080", "receiver.test:8080"),
        ("https://receiver.test?x=/", "receiver.test"),
        ("https://[2001:4860::1]/", "[2001:4860::1]"),
        ("not a url", ""),
    ],
)
def test_the_host_of_a_url(url: str, host: str) -> None:
    assert host_of(url) == host


def test_the_body_says_what_happened_to_which_request() -> None:
    ids = {"request_id": "clip-1", "avatar_id": "ada", "tenant": "acme"}
    done = json.loads(callback_body(kind="clip", **ids, at=NOW, uri="s3://clips/clip-1.mp4"))
    assert done == {
        "type": "clip.done",
        "timestamp": "2026-03-01T12:00:00.000+00:00",
        "data": {**ids, "uri": "s3://clips/clip-1.mp4"},
    }
    error = {"code": "not_found", "message": "There is no avatar ada.", "remedy": "Send it first."}
    failed = json.loads(callback_body(kind="avatar", **ids, at=NOW, error=error))
    assert (failed["type"], failed["data"]) == ("avatar.failed", {**ids, "error": error})
