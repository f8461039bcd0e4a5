"""What is particular to Amazon SQS: attributes, partial failures, errors, and the age that SQS does not tell."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from sqlalchemy import Engine, func, select

from avatar_pipeline.clock import utc_now
from avatar_pipeline.ledger.schema import QueueMarkRow
from avatar_pipeline.queues.sqs import SqsQueue, create_queues, sqs_client
from avatar_pipeline.queues.types import Message, QueueUnavailable
from avatar_pipeline.settings import Settings
from tests.queues.conftest import HandClock

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)


def attributes_of(sqs: Any, name: str) -> dict[str, str]:
    url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    return sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]


def test_queues_are_created_with_their_dead_letter_queues(sqs: Any, sqs_settings: Callable[..., Settings]) -> None:
    settings = sqs_settings(max_receives=7, visibility_seconds=90)
    names = create_queues(settings)
    assert names == [
        settings.avatar_queue,
        f"{settings.avatar_queue}-dead",
        settings.clip_queue,
        f"{settings.clip_queue}-dead",
    ]
    source, dead = attributes_of(sqs, settings.clip_queue), attributes_of(sqs, f"{settings.clip_queue}-dead")
    assert json.loads(source["RedrivePolicy"]) == {"deadLetterTargetArn": dead["QueueArn"], "maxReceiveCount": 7}
    assert int(dead["MessageRetentionPeriod"]) == 14 * 86400 > int(source["MessageRetentionPeriod"]) == 4 * 86400
    assert source["VisibilityTimeout"] == "90"
    for attributes in (source, dead):
        assert attributes["ReceiveMessageWaitTimeSeconds"] == "20"
        assert attributes["SqsManagedSseEnabled"].lower() == "true"


def test_creating_again_brings_the_attributes_up_to_date(sqs: Any, sqs_settings: Callable[..., Settings]) -> None:
    settings = sqs_settings(max_receives=3)
    create_queues(settings)
    create_queues(settings.model_copy(update={"max_receives": 9}))
    assert json.loads(attributes_of(sqs, settings.avatar_queue)["RedrivePolicy"])["maxReceiveCount"] == 9


def test_there_is_nothing_to_create_in_the_ledger() -> None:
    assert create_queues(Settings(queue="sql")) == []


def test_a_foreign_message_with_attributes_is_taken_as_it_is(make_sqs: Callable[..., SqsQueue], sqs: Any) -> None:
    queue = make_sqs()
    url = sqs.get_queue_url(QueueName=queue.name)["QueueUrl"]
    notes = {"sent_at": "yesterday", "message_id": "../../etc", "reason": "made up"}
    attributes = {name: {"DataType": "String", "StringValue": note} for name, note in notes.items()}
    key = sqs.send_message(QueueUrl=url, MessageBody="theirs", MessageAttributes=attributes)["MessageId"]
    (message,) = queue.receive(1, visibility=MINUTE, wait=SECOND)
    assert (message.message_id, message.body, message.reason) == (key, "theirs", None)


@pytest.mark.parametrize(
    "noted",
    [
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "0001-01-01T00:00:00+00:00",
        "1970-01-01T00:00:00+00:00",
        "9999-12-31T23:59:59+00:00",
        "2026-01-01T00:00:00",
        "yesterday",
        "",
    ],
)
def test_a_time_of_sending_that_cannot_be_is_not_believed(
    make_sqs: Callable[..., SqsQueue], sqs: Any, noted: str
) -> None:
    queue = make_sqs()
    url = sqs.get_queue_url(QueueName=queue.name)["QueueUrl"]
    note = {"sent_at": {"DataType": "String", "StringValue": noted}} if noted else {}
    sqs.send_message(QueueUrl=url, MessageBody="{}", MessageAttributes=note)
    (message,) = queue.receive(1, visibility=MINUTE)
    assert abs(utc_now() - message.sent_at) < MINUTE
    assert message.sent_at.utcoffset() == timedelta(0)
    age = queue.oldest_age()
    assert age is not None
    assert age < MINUTE


def test_a_message_shows_no_body(make_sqs: Callable[..., SqsQueue]) -> None:
    queue = make_sqs()
    queue.send(["A secret sentence."])
    (message,) = queue.receive(1, visibility=MINUTE)
    assert message.body == "A secret sentence."
    assert "secret" not in repr(message)


def test_an_extended_message_outlives_its_first_timeout(make_sqs: Callable[..., SqsQueue]) -> None:
    queue = make_sqs()
    queue.send(["a"])
    queue.extend(queue.receive(1, visibility=SECOND, wait=SECOND), MINUTE)
    assert queue.receive(1, visibility=MINUTE, wait=2 * SECOND) == []


# The age


@pytest.fixture
def aged(make_sqs: Callable[..., SqsQueue], clock: HandClock) -> SqsQueue:
    """A queue whose own clock is in hand; messages are sent now by moto's clock, so the hand starts there."""
    clock.now = utc_now()
    return make_sqs(max_receives=10, clock=clock, sleep=clock.sleep)


def received(queue: SqsQueue, limit: int = 10) -> list:
    return sorted(queue.receive(limit, visibility=timedelta(hours=1), wait=SECOND), key=lambda message: message.body)


def about(span: timedelta) -> Any:
    return pytest.approx(span.total_seconds(), abs=5)


def seconds(age: timedelta | None) -> float:
    assert age is not None
    return age.total_seconds()


def test_a_message_received_four_times_keeps_its_age(aged: SqsQueue, clock: HandClock) -> None:
    aged.send(["old"])
    for turn in range(1, 5):
        (old,) = received(aged)
        assert old.receive_count == turn
        clock.now += MINUTE
        assert seconds(aged.oldest_age()) == about(turn * MINUTE)
        aged.extend([old], timedelta(0))
    assert seconds(aged.oldest_age()) == about(4 * MINUTE)


def test_other_messages_do_not_hide_one_that_is_never_finished(
    aged: SqsQueue, clock: HandClock, sqs: Any, sqlite_engine: Engine
) -> None:
    aged.send(["a poison"])
    for _ in range(2):
        aged.extend(received(aged), timedelta(0))
    (poison,) = received(aged)
    clock.now += MINUTE
    # Another process, which has never seen the poison, deletes what came later.
    other = SqsQueue(lambda: sqs, aged.name, engine=sqlite_engine, max_receives=10, clock=clock)
    aged.send(["b good"])
    other.delete(received(other))
    assert seconds(other.oldest_age()) == about(MINUTE)
    assert seconds(aged.oldest_age()) == about(MINUTE)
    aged.delete([poison])
    assert aged.oldest_age() is None


def test_what_is_held_in_this_process_holds_the_age(aged: SqsQueue, clock: HandClock) -> None:
    aged.send(["a", "b", "c"])
    a, b, c = received(aged)
    clock.now += MINUTE
    aged.delete([b, c])
    assert seconds(aged.oldest_age()) == about(MINUTE)
    assert aged._mark._held.keys() == {a.message_id}


def test_the_mark_moves_forward_when_the_oldest_is_gone(
    aged: SqsQueue, clock: HandClock, sqlite_engine: Engine
) -> None:
    clock.now -= timedelta(hours=1)
    aged._mark.observed(empty=False, now=clock.now)
    clock.now += timedelta(hours=1)
    aged.send(["a", "b"])
    assert seconds(aged.oldest_age()) == about(timedelta(hours=1))
    a, b = received(aged)
    aged.delete([a])
    assert seconds(aged.oldest_age()) == about(timedelta(0))
    aged.dead_letter(b, "bad")
    assert aged.oldest_age() is None
    with sqlite_engine.connect() as connection:
        marks = select(func.count()).select_from(QueueMarkRow).where(QueueMarkRow.queue == aged.name)
        assert connection.execute(marks).scalar_one() == 0


def test_a_queue_first_seen_with_messages_is_as_old_as_that(aged: SqsQueue, clock: HandClock) -> None:
    aged.send(["a"])
    assert aged.oldest_age() == timedelta(0)
    clock.now += MINUTE
    assert seconds(aged.oldest_age()) == about(MINUTE)


def test_a_redriven_letter_brings_its_age_with_it(aged: SqsQueue, clock: HandClock) -> None:
    aged.send(["a"])
    aged.dead_letter(*received(aged), "bad")
    clock.now += MINUTE
    assert seconds(aged.dead.oldest_age()) == about(MINUTE)
    assert aged.redrive() == 1
    assert seconds(aged.oldest_age()) == about(MINUTE)


def test_no_pin_stays_behind(aged: SqsQueue, sqlite_engine: Engine) -> None:
    aged.send(["a"])
    for _ in range(10):
        messages = received(aged)
        aged.extend(messages, timedelta(0))
    pins = select(func.count()).select_from(QueueMarkRow).where(QueueMarkRow.queue.contains(":"))
    with sqlite_engine.connect() as connection:
        # After its last delivery SQS moves it away without a word.
        assert connection.execute(pins).scalar_one() == 0


# Failures, spoken by a server that fails as SQS does


class Failing(ThreadingHTTPServer):
    """Speaks the JSON protocol of SQS and refuses entries as told: `refuse` maps a body or receipt to how often."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.refuse: dict[str, int] = {}
        self.sender_fault = False
        self.code = "InternalError"
        self.accepted: list[str] = []
        self.denied = False


class Answer(BaseHTTPRequestHandler):
    server: Failing

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        operation = self.headers["X-Amz-Target"].partition(".")[2]
        if self.server.denied:
            self._reply({"__type": "AccessDenied", "message": "AKIATESTING may not, signature abc"}, status=403)
        elif operation == "GetQueueUrl":
            self._reply({"QueueUrl": f"http://127.0.0.1:{self.server.server_port}/1/{asked['QueueName']}"})
        else:
            self._reply(self._batch(asked["Entries"]))

    def _batch(self, entries: list[dict[str, Any]]) -> dict[str, Any]:
        done, failed = [], []
        for entry in entries:
            content = entry.get("MessageBody") or entry["ReceiptHandle"]
            if self.server.refuse.get(content, 0) > 0:
                self.server.refuse[content] -= 1
                failed.append({"Id": entry["Id"], "Code": self.server.code, "SenderFault": self.server.sender_fault})
            else:
                self.server.accepted.append(content)
                done.append({"Id": entry["Id"], "MessageId": f"id-of-{content}"})
        return {"Successful": done, "Failed": failed}

    def _reply(self, values: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(values).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.0")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def failing(sqs_endpoint: str) -> Iterator[Failing]:
    server = Failing()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def shaky(failing: Failing, sqlite_engine: Engine, clock: HandClock) -> SqsQueue:
    client = sqs_client(f"http://127.0.0.1:{failing.server_port}")
    return SqsQueue(lambda: client, "clips", engine=sqlite_engine, max_receives=3, clock=clock, sleep=clock.sleep)


def test_refused_messages_are_sent_again_alone_and_ids_stay_in_order(
    shaky: SqsQueue, failing: Failing, clock: HandClock
) -> None:
    failing.refuse = {"b": 1, "m": 3}
    start = clock.now
    bodies = list("abcdefghijklmn")
    assert shaky.send(bodies) == [f"id-of-{body}" for body in bodies]
    assert sorted(failing.accepted) == bodies
    assert clock.now - start == timedelta(seconds=0.2 + 0.2 + 0.4 + 0.8)


def test_messages_refused_for_good_are_an_error(shaky: SqsQueue, failing: Failing) -> None:
    failing.refuse = {"b": 99}
    with pytest.raises(QueueUnavailable, match=r"Queue clips refused 1 of 3 messages 4 times \(InternalError\)"):
        shaky.send(["a", "b", "c"])
    assert failing.accepted == ["a", "c"]


@pytest.mark.parametrize("code", ["ReceiptHandleIsInvalid", "AWS.SimpleQueueService.MessageNotInflight"])
def test_stale_receipts_are_passed_over_and_others_tried_again(shaky: SqsQueue, failing: Failing, code: str) -> None:
    def message(receipt: str) -> Message:
        return Message(receipt, "body", receipt, 1, HandClock().now)

    failing.refuse, failing.code = {"stale": 99}, code
    shaky.delete([message("stale"), message("good")])
    shaky.extend([message("stale"), message("good")], MINUTE)
    shaky.dead_letter(message("stale"), "too late")
    assert failing.accepted == ["good", "good"]
    failing.refuse, failing.code = {"busy": 99}, "InternalError"
    with pytest.raises(QueueUnavailable, match="InternalError"):
        shaky.delete([message("busy")])


def test_a_refusal_names_queue_and_region_and_no_secret(shaky: SqsQueue, failing: Failing) -> None:
    failing.denied = True
    with pytest.raises(QueueUnavailable) as raised:
        shaky.depth()
    said = str(raised.value)
    assert "Queue clips in Amazon SQS, region eu-central-1: GetQueueUrl was refused (AccessDenied)" in said
    assert not re.search("AKIA|signature|secret", said)


def test_a_queue_that_is_not_there_is_told(sqs: Any, sqlite_engine: Engine) -> None:
    queue = SqsQueue(lambda: sqs, "nowhere", engine=sqlite_engine, max_receives=3)
    with pytest.raises(QueueUnavailable, match=r"Queue nowhere .*NonExistentQueue.*avatar queue create"):
        queue.receive(1, visibility=MINUTE)


def test_without_a_region_or_credentials_it_says_so(
    sqs_endpoint: str, sqlite_engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    for name in ("AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    with pytest.raises(QueueUnavailable, match=r"NoRegionError.*AWS_DEFAULT_REGION"):
        sqs_client(None)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    client = sqs_client(sqs_endpoint)
    with pytest.raises(QueueUnavailable, match="NoCredentialsError"):
        SqsQueue(lambda: client, "clips", engine=sqlite_engine, max_receives=3).depth()


def test_an_endpoint_that_is_no_url_is_told(sqs_endpoint: str) -> None:
    with pytest.raises(QueueUnavailable, match="AVATAR_SQS_ENDPOINT"):
        sqs_client("not a url")
