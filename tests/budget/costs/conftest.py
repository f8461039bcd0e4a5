"""A studio on each of the databases: tables are made by the schema, not by migrations, which is quicker."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine

from avatar_pipeline.ledger.database import open_engine
from avatar_pipeline.ledger.schema import Base
from tests.budget.costs.days import Studio

START = datetime(2026, 11, 10, tzinfo=UTC)


@pytest.fixture(scope="session")
def empty_engines(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Engine]]:
    """A database of each kind, with tables."""
    import psycopg

    name = f"costs_{uuid.uuid4().hex}"
    with psycopg.connect(postgres, autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}"')
        server.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    urls = {
        "sqlite": f"sqlite:///{tmp_path_factory.mktemp('costs')}/ledger.db",
        "postgresql": postgres.replace("/postgres?", f"/{name}?"),
    }
    engines = {kind: open_engine(url) for kind, url in urls.items()}
    for engine in engines.values():
        Base.metadata.create_all(engine)
    yield engines
    for engine in engines.values():
        engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, empty_engines: dict[str, Engine]) -> Iterator[Engine]:
    """A database with empty tables."""
    engine = empty_engines[request.param]
    yield engine
    with engine.begin() as connection:
        for table in reversed(Base.metadata.sorted_tables):
            connection.execute(table.delete())


@pytest.fixture
def studio(engine: Engine) -> Studio:
    return Studio(engine, START)
