"""Every test that asks for a desk runs on SQLite and on PostgreSQL. The tables are made once; each test finds none of
the rows of another."""

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from avatar_pipeline.ledger.ledger import Ledger
from avatar_pipeline.ledger.schema import Base
from tests.ledger.desk import Desk


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("migrated") / "ledger.db"
    Ledger(f"sqlite:///{file}").close()
    return file


@pytest.fixture(scope="session")
def migrated_database(postgres: str) -> str:
    import psycopg

    name = f"ledger_{uuid.uuid4().hex}"
    with psycopg.connect(postgres, autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}"')
        # No test here pulls the plug.
        server.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    url = postgres.replace("/postgres?", f"/{name}?")
    Ledger(url).close()
    return url


@pytest.fixture
def sqlite_url(migrated_file: Path, tmp_path: Path) -> str:
    shutil.copyfile(migrated_file, tmp_path / "ledger.db")
    return f"sqlite:///{tmp_path}/ledger.db"


@pytest.fixture
def empty_database(migrated_database: str) -> Iterator[str]:
    """A PostgreSQL database with empty tables."""
    yield migrated_database
    ledger = Ledger(migrated_database)
    with ledger.engine.begin() as connection:
        connection.execute(text(f"TRUNCATE {', '.join(Base.metadata.tables)}"))
    ledger.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """A ledger with empty tables, on either database."""
    return request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "empty_database")


@pytest.fixture
def desk(url: str) -> Iterator[Desk]:
    desk = Desk(url)
    desk.has("ada")
    yield desk
    desk.ledger.close()
