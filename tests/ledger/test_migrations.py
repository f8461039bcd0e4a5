"""Migrations, on SQLite and on PostgreSQL: they make the declared tables, keep what is there, and run once."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection, Engine, inspect, text

from avatar_pipeline.budget.types import Amounts, Demand, Payer
from avatar_pipeline.ledger import migrate
from avatar_pipeline.ledger.consents import ConsentBook
from avatar_pipeline.ledger.database import open_engine
from avatar_pipeline.ledger.ledger import Ledger
from avatar_pipeline.ledger.requests import RequestBook
from avatar_pipeline.ledger.schema import Base, UtcDateTime
from avatar_pipeline.ledger.spend import SpendBook
from tests.ledger.desk import CONSENT, NOW, SECOND, Desk, avatar, clip


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database with nothing in it at all."""
    on_sqlite = request.param == "sqlite"
    return f"sqlite:///{tmp_path}/ledger.db" if on_sqlite else request.getfixturevalue("postgres_url")


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = open_engine(url)
    yield engine
    engine.dispose()


def alembic(engine: Engine, direction: str, revision: str) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        getattr(command, direction)(config, revision)


def differences(connection: Connection) -> list[Any]:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    return compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), Base.metadata)


def partial_indexes(connection: Connection) -> dict[str, str]:
    """The condition of each partial index, as the database has it; alembic does not compare them."""
    if connection.dialect.name == "sqlite":
        found = connection.execute(
            text("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql LIKE '%WHERE%'")
        )
        return {row.name: row.sql.split("WHERE")[1] for row in found}
    found = connection.execute(text("SELECT indexname, indexdef FROM pg_indexes WHERE indexdef LIKE '%WHERE%'"))
    return {row.indexname: row.indexdef.split("WHERE")[1] for row in found}


OLD_AVATAR = text(
    "INSERT INTO avatars (id, state, voice, greeting, upload_key, source_name, consent, created_at, updated_at) "
    "VALUES ('ada', 'ready', 'enrol:en', 'Hello.', 'k1', 'ada.mp4', :consent, :now, :now)"
)
OLD_REQUEST = text(
    "INSERT INTO requests (id, avatar_id, text, state, batch_id, position, clip_key, error, created_at, claimed_at, "
    "started_at, finished_at) VALUES (:id, 'ada', :text, :state, :batch_id, :position, :clip_key, :error, :created_at, "
    ":claimed_at, :started_at, :finished_at)"
)
NAMES = ("queued", "reserved", "claimed", "running", "done", "failed")


def fill(engine: Engine) -> None:
    """Rows as release 0001 left them: a request in each state, a second between any two steps."""
    error = json.dumps({"code": "invalid_text", "message": "Nothing to say.", "remedy": "Say something."})
    with engine.begin() as connection:
        sqlite = connection.dialect.name == "sqlite"

        def time(seconds: int) -> Any:
            moment = NOW + SECOND * seconds
            return moment.strftime("%Y-%m-%d %H:%M:%S.%f") if sqlite else moment

        connection.execute(OLD_AVATAR, {"consent": CONSENT.model_dump_json(), "now": time(0)})
        for position, name in enumerate(NAMES, 1):
            how_far = {"queued": 0, "reserved": 0, "claimed": 1, "running": 2, "done": 3, "failed": 3}[name]
            values = {
                "id": f"clip-{name}",
                "text": f"I am “{name}”.",
                "state": "queued" if name == "reserved" else name,
                "batch_id": None if name == "queued" else "batch-1",
                "position": position,
                "clip_key": "abc" if name == "done" else None,
                "error": error if name == "failed" else None,
                "created_at": time(0),
                "claimed_at": time(1) if how_far >= 1 else None,
                "started_at": time(2) if how_far >= 2 else None,
                "finished_at": time(3) if how_far >= 3 else None,
            }
            connection.execute(OLD_REQUEST, values)


def test_migrations_make_exactly_the_declared_tables(engine: Engine) -> None:
    migrate.migrate(engine)
    with engine.connect() as connection:
        assert differences(connection) == []
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == migrate.HEAD
        made = partial_indexes(connection)
    names = sorted(path.name[:4] for path in (Path(migrate.__file__).parent / "migrations/versions").glob("0*.py"))
    assert names[-1] == migrate.HEAD
    with engine.begin() as connection:
        Base.metadata.drop_all(connection)
        Base.metadata.create_all(connection)
        assert partial_indexes(connection) == made
        assert len(made) == 11


def test_what_the_first_release_wrote_is_kept(engine: Engine, url: str) -> None:
    alembic(engine, "upgrade", "0001")
    fill(engine)
    ledger = Ledger(url)
    book = RequestBook(ledger.engine, clock=lambda: NOW)
    with ledger.engine.connect() as connection:
        assert differences(connection) == []
        assert "requests_before" not in inspect(connection).get_table_names()
    records = {record.request.request_id.removeprefix("clip-"): record for record in book.list(kind="clip")}
    assert set(records) == set(NAMES)
    for name, record in records.items():
        assert record.request == clip(name, text=f"I am “{name}”.")
        assert (record.sent_at, record.created_at) == (NOW, NOW)
        (entry,) = book.history(f"clip-{name}")
        assert entry.state == record.state
        assert entry.at == NOW + SECOND * {"claimed": 1, "running": 2, "done": 3, "failed": 3}.get(name, 0)
    assert [records[name].attempts for name in NAMES] == [0, 0, 0, 1, 1, 1]
    assert (records["done"].clip_key, records["done"].error) == ("abc", None)
    assert records["done"].finished_at == NOW + SECOND * 3
    assert records["failed"].error == {
        "code": "invalid_text",
        "message": "Nothing to say.",
        "remedy": "Say something.",
    }
    assert [record.request.request_id for record in book.list(batch_id="batch-1")] == [
        f"clip-{name}" for name in NAMES[1:]
    ]
    assert [request.request_id for request in book.claim("batch-2", 10)] == ["clip-queued"]
    assert book.submit([clip("done", text="I am “done”.")]) == [], "it is known"
    assert book.begin("clip-running", max_attempts=2)
    ledger.close()


HELD = ("waits", "is-held", "is-held-in-a-batch", "is-done")


def fill_the_second(engine: Engine) -> None:
    """Rows as release 0002 left them."""
    requests = sa.table(
        "requests",
        *(sa.column(name) for name in ("id", "kind", "avatar_id", "tenant", "state", "batch_id", "clip_key")),
        *(sa.column(name) for name in ("position", "priority", "cost", "attempts")),
        sa.column("payload", sa.JSON()),
        *(sa.column(name, UtcDateTime) for name in ("sent_at", "created_at", "held_at", "finished_at")),
    )
    with engine.begin() as connection:
        for position, name in enumerate(HELD, 1):
            held, done = name.startswith("is-held"), name == "is-done"
            connection.execute(
                requests.insert().values(
                    id=f"clip-{name}",
                    kind="clip",
                    avatar_id="ada",
                    tenant="default",
                    state="held" if held else "done" if done else "queued",
                    batch_id=None if name in ("waits", "is-held") else "batch-1",
                    clip_key="abc" if done else None,
                    position=position,
                    priority=0,
                    cost=6,
                    attempts=int(done),
                    payload=clip(name).model_dump(mode="json"),
                    sent_at=NOW,
                    created_at=NOW,
                    held_at=NOW + SECOND if held else None,
                    finished_at=NOW + SECOND if done else None,
                )
            )


def test_what_the_second_release_wrote_is_kept_and_what_it_held_waits_for_a_person(engine: Engine, url: str) -> None:
    alembic(engine, "upgrade", "0002")
    fill_the_second(engine)
    desk = Desk(url)
    with engine.connect() as connection:
        assert differences(connection) == []
    records = {record.request.request_id.removeprefix("clip-"): record for record in desk.book.list()}
    assert [(name, record.state, record.batch_id, record.held_at) for name, record in records.items()] == [
        ("waits", "queued", None, None),
        ("is-held", "held", None, NOW + SECOND),
        ("is-held-in-a-batch", "held", "batch-1", NOW + SECOND),
        ("is-done", "done", "batch-1", None),
    ]
    assert all(record.held_until is None for record in records.values())
    assert records["is-done"].clip_key == "abc"
    desk.now += timedelta(days=1000)
    assert desk.book.release_due() == 0
    assert desk.book.release("clip-is-held-in-a-batch")
    assert desk.state("is-held-in-a-batch") == "claimed"
    desk.book.hold("clip-waits", "quota", desk.now)
    assert desk.book.release_due() == 1
    desk.ledger.close()


def test_going_back_to_the_second_release_keeps_its_rows(engine: Engine, url: str) -> None:
    desk = Desk(url)
    desk.has("ada")
    desk.arrive(clip(1), clip(2))
    desk.book.hold("clip-1", "quota", NOW + SECOND)
    ConsentBook(desk.ledger.engine).revoke("consent-1", reason="")
    desk.ledger.close()
    alembic(engine, "downgrade", "0002")
    with engine.connect() as connection:
        assert "held_until" not in {column["name"] for column in inspect(connection).get_columns("requests")}
        assert not {"charges", "revocations"} & set(inspect(connection).get_table_names())
        assert len(partial_indexes(connection)) == 6
        rows = connection.execute(text("SELECT id, state FROM requests ORDER BY id")).all()
    assert [tuple(row) for row in rows] == [("clip-1", "held"), ("clip-2", "queued")]
    alembic(engine, "upgrade", "head")
    with engine.connect() as connection:
        assert differences(connection) == []


def test_what_the_third_release_wrote_is_kept_and_has_no_budget(engine: Engine, url: str) -> None:
    alembic(engine, "upgrade", "0003")
    fill_the_second(engine)
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO charges (provider, item_key, tenant, reserved, state, created_at) "
                "VALUES ('acme', 'item-1', 'default', '10', 'reserved', '2026-03-01 12:00:00.000000')"
            )
        )
    migrate.migrate(engine)
    with engine.connect() as connection:
        assert differences(connection) == []
        rows = connection.execute(text("SELECT id, held_by, reservation, admissions FROM requests ORDER BY position"))
        assert [tuple(row) for row in rows] == [(f"clip-{name}", None, None, 0) for name in HELD]
        assert connection.execute(text("SELECT item_key, reservation FROM charges")).all() == [("item-1", None)]
    with open_book(url) as book:
        assert book.admit(DEMAND).admitted


def test_going_back_to_the_third_release_keeps_its_rows_and_forgets_money(engine: Engine, url: str) -> None:
    desk = Desk(url)
    desk.has("ada")
    desk.arrive(clip(1), clip(2))
    desk.book.hold("clip-1", "quota", NOW + SECOND)
    desk.ledger.close()
    with open_book(url) as book:
        assert book.admit(DEMAND).admitted
    alembic(engine, "downgrade", "0003")
    with engine.connect() as connection:
        known = {column["name"] for column in inspect(connection).get_columns("requests")}
        assert not {"held_by", "reservation", "admissions"} & known
        assert not {"reservations", "spend_entries", "prices"} & set(inspect(connection).get_table_names())
        assert len(partial_indexes(connection)) == 8
        rows = connection.execute(text("SELECT id, state FROM requests ORDER BY id")).all()
    assert [tuple(row) for row in rows] == [("clip-1", "held"), ("clip-2", "queued")]
    alembic(engine, "upgrade", "head")
    with engine.connect() as connection:
        assert differences(connection) == []


DEMAND = Demand("clip/clip-1/0", "clip", Payer(tenant="default"), Amounts(compute=Decimal(1)))


@contextmanager
def open_book(url: str) -> Iterator[SpendBook]:
    ledger = Ledger(url)
    yield SpendBook(ledger.engine, clock=lambda: NOW)
    ledger.close()


def test_going_back_keeps_what_the_first_release_can_know(engine: Engine, url: str) -> None:
    desk = Desk(url)
    desk.has("ada")
    desk.arrive(clip(1, text="I stay."), clip(2), clip(3, "nobody"), avatar("bob"), clip(4))
    desk.book.hold("clip-4", "over budget")
    desk.claim("batch-1", 1)
    desk.book.finish("clip-1", clip_key="abc")
    desk.ledger.close()
    alembic(engine, "downgrade", "0001")
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT id, text, state, clip_key FROM requests ORDER BY id")).all()
        assert set(inspect(connection).get_table_names()) == {
            "alembic_version",
            "artifacts",
            "avatars",
            "requests",
            "timings",
        }
    assert [tuple(row) for row in rows] == [
        ("clip-1", "I stay.", "done", "abc"),
        ("clip-2", "Hello.", "queued", None),
        ("clip-4", "Hello.", "queued", None),
    ]
    alembic(engine, "upgrade", "head")
    with engine.connect() as connection:
        assert differences(connection) == []


def test_a_migration_that_breaks_off_leaves_everything_as_it_was(engine: Engine, url: str) -> None:
    alembic(engine, "upgrade", "0001")
    fill(engine)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE queue_marks (nobody INTEGER)"))
    with pytest.raises(Exception, match="already exists"):
        migrate.migrate(engine)
    with engine.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM requests WHERE text IS NOT NULL")).scalar() == len(NAMES)
        assert not inspect(connection).has_table("flows")
        connection.execute(text("DROP TABLE queue_marks"))
    migrate.migrate(engine)
    assert RequestBook(engine, clock=lambda: NOW).counts()["clip", "queued"] == 2


OPEN = "import sys; from avatar_pipeline.ledger.ledger import Ledger; Ledger(sys.argv[1]).close()"


def test_processes_that_start_together_migrate_once(engine: Engine, url: str) -> None:
    alembic(engine, "upgrade", "0001")
    fill(engine)
    processes = [
        subprocess.Popen([sys.executable, "-c", OPEN, url], stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    assert [process.communicate(timeout=60)[1] for process in processes] == ["", ""]
    book = RequestBook(engine, clock=lambda: NOW + timedelta(hours=1))
    assert len(book.list()) == len(NAMES)
    assert len(book.history("clip-done")) == 1
