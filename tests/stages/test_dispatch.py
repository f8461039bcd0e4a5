"""Out of the queues into the ledger: one message that cannot be stored is alone, and few messages are all found."""

import json
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from avatar_pipeline.queues.open import Queues
from avatar_pipeline.queues.sqs import SqsQueue, sqs_client
from avatar_pipeline.stages.dispatch import LONG_POLL, drain
from avatar_pipeline.stages.line import Line
from tests.stages.benches import make_line

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECRET = "A secret sentence."


@pytest.fixture(params=["sqlite", "postgresql"])
def line(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Line]:
    url = {} if request.param == "sqlite" else {"ledger_url": request.getfixturevalue("postgres_url")}
    line = make_line(tmp_path, lambda: NOW, **url)
    yield line
    line.ledger.close()


def clip(number: int, **more: object) -> str:
    return json.dumps({"request_id": f"clip-{number}", "avatar_id": "ada", "text": SECRET} | more)


def known(line: Line) -> list[str]:
    return [record.request.request_id for record in line.requests.list(kind="clip")]


def letters(line: Line) -> list[str]:
    dead = line.queues.clips.dead
    assert dead is not None
    return [str(letter.reason) for letter in dead.peek(100)]


def refuse_long_texts(line: Line) -> None:
    """Have the database itself refuse texts of over 50 characters, which get through all checks."""
    statement = "ALTER TABLE requests ADD CHECK (cost <= 50)"
    if line.ledger.engine.dialect.name == "sqlite":
        refusal = "SELECT RAISE(ABORT, 'too costly')"
        statement = f"CREATE TRIGGER costly BEFORE INSERT ON requests WHEN NEW.cost > 50 BEGIN {refusal}; END"
    with line.ledger.engine.begin() as connection:
        connection.exec_driver_sql(statement)


def test_a_url_with_a_nul_is_a_dead_letter_and_its_page_is_taken_in(line: Line) -> None:
    line.queues.clips.send([clip(1), clip(2, callback_url="https://a.example/h\x00"), clip(3)])
    drained = drain(line, "clip")
    assert (drained.received, drained.new, drained.refused) == (3, 2, 1)
    assert known(line) == ["clip-1", "clip-3"]
    (reason,) = letters(line)
    assert reason.startswith("callback_url holds the character U+0000 at position 19")


def test_only_what_the_database_cannot_store_is_refused(line: Line) -> None:
    refuse_long_texts(line)
    line.queues.clips.send([clip(1), clip(2, text=SECRET * 10), clip(3), clip(1, text="Another."), "{"])
    drained = drain(line, "clip")
    assert (drained.received, drained.new, drained.refused) == (5, 2, 3)
    assert known(line) == ["clip-1", "clip-3"]
    assert line.queues.clips.depth().total == 0
    reasons = letters(line)
    assert "The ledger's database cannot store this request (IntegrityError)." in reasons
    assert len(reasons) == 3
    assert not any("secret" in reason for reason in reasons)


def test_a_database_that_is_away_is_no_message_s_fault(line: Line) -> None:
    line.queues.clips.send([clip(1), clip(2)])

    def away(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("INSERT INTO requests"):
            raise OperationalError(statement, None, ConnectionError("away"))

    event.listen(line.ledger.engine, "before_cursor_execute", away)
    with pytest.raises(OperationalError):
        drain(line, "clip")
    event.remove(line.ledger.engine, "before_cursor_execute", away)
    assert letters(line) == []
    assert line.queues.clips.depth().in_flight == 2, "they come again"


@pytest.fixture
def sqs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of moto's server, which speaks SQS over HTTP."""
    from moto.server import ThreadedMotoServer

    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield sqs_client(f"http://{host}:{port}")
    server.stop()


def test_sqs_is_given_time_to_find_the_first_message_and_asked_shortly_after(sqs: Any, tmp_path: Path) -> None:
    line = make_line(tmp_path, lambda: datetime.now(UTC), queue="sqs")
    name = f"q-{uuid.uuid4().hex[:12]}"
    sqs.create_queue(QueueName=name)
    queue = SqsQueue(lambda: sqs, name, engine=line.ledger.engine, max_receives=5)
    line = replace(line, queues=Queues(queue, queue))
    waits: list[int] = []
    sqs.meta.events.register(
        "provide-client-params.sqs.ReceiveMessage", lambda params, **_: waits.append(params["WaitTimeSeconds"])
    )
    queue.send([clip(number) for number in range(25)])
    assert drain(line, "clip").new == 25
    assert waits[0] == LONG_POLL.total_seconds()
    assert set(waits[1:]) == {0}
    line.ledger.close()


def test_a_queue_in_the_ledger_that_is_empty_keeps_nobody_waiting(line: Line) -> None:
    """The clock of this line stands still: a wait would never end."""
    assert drain(line, "clip").received == 0
    assert drain(line, "clip").oldest_age == timedelta(0)
