"""Prices in either database, and AWS as it speaks over HTTP."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from avatar_pipeline.ledger.database import open_engine
from avatar_pipeline.ledger.spend_schema import PriceRow
from tests.budget.prices.aws import Aws, serving

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "very-secret"}


@pytest.fixture(scope="module")
def postgres_engine(postgres: str) -> Iterator[Engine]:
    engine = open_engine(postgres)
    PriceRow.__table__.create(engine)
    yield engine
    PriceRow.__table__.drop(engine)
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A database with an empty table of prices, on SQLite and on PostgreSQL."""
    if request.param == "postgresql":
        engine = request.getfixturevalue("postgres_engine")
        with engine.begin() as connection:
            connection.execute(text("TRUNCATE prices"))
        yield engine
        return
    engine = open_engine(f"sqlite:///{tmp_path / 'ledger.db'}")
    PriceRow.__table__.create(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment in which boto3 finds nobody's keys."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION", "AWS_REGION", *CREDENTIALS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/nonexistent")


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, no_credentials: None) -> Iterator[Aws]:
    """AWS, where boto3 finds it by AWS's own variables."""
    with serving() as aws:
        for name, value in CREDENTIALS.items():
            monkeypatch.setenv(name, value)
        for service in ("EC2", "PRICING"):
            monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", aws.url)
        yield aws
