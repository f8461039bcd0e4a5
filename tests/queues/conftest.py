"""Queues of every kind behind one door: SQLite, PostgreSQL, and SQS as moto's server speaks it over HTTP."""

import json
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from avatar_pipeline.ledger.database import open_engine
from avatar_pipeline.ledger.schema import Base
from avatar_pipeline.queues.types import WorkQueue
from avatar_pipeline.settings import Settings

MakeQueue = Callable[..., WorkQueue]


class HandClock:
    """A clock that stands until it is moved; sleeping moves it."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def sqlite_engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(f"sqlite:///{tmp_path / 'ledger.db'}")
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def engine(kind: str, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """The ledger's database: a file of SQLite, or a database of a PostgreSQL server."""
    if kind == "sqlite":
        yield request.getfixturevalue("sqlite_engine")
        return
    engine = open_engine(request.getfixturevalue("postgres_url"))
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def sqs_endpoint() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    with pytest.MonkeyPatch.context() as environment:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
            environment.delenv(name, raising=False)
        environment.setenv("AWS_DEFAULT_REGION", "eu-central-1")
        environment.setenv("AWS_ACCESS_KEY_ID", "testing")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
        server.stop()


@pytest.fixture(scope="module")
def sqs(sqs_endpoint: str):
    from avatar_pipeline.queues.sqs import sqs_client

    return sqs_client(sqs_endpoint)


@pytest.fixture
def sqs_settings(sqs_endpoint: str) -> Callable[..., Settings]:
    def make(**values: object) -> Settings:
        name = f"q-{uuid.uuid4().hex[:12]}"
        names = {"avatar_queue": f"{name}-avatars", "clip_queue": f"{name}-clips"}
        return Settings(queue="sqs", sqs_endpoint=sqs_endpoint, **names, **values)

    return make


@pytest.fixture
def make_sqs(sqs, sqlite_engine: Engine) -> MakeQueue:
    """Make a queue in SQS, of a name of its own."""
    from avatar_pipeline.queues.sqs import SqsQueue

    def make(*, max_receives: int = 3, **extra: object) -> SqsQueue:
        name = f"q-{uuid.uuid4().hex[:12]}"
        dead = sqs.create_queue(QueueName=f"{name}-dead")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": max_receives})
        sqs.create_queue(QueueName=name, Attributes={"RedrivePolicy": policy})
        return SqsQueue(lambda: sqs, name, engine=sqlite_engine, max_receives=max_receives, **extra)

    return make
