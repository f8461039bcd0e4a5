"""One transaction on either database: who waits for whom, and what is safe when it ends."""

import traceback

import pytest
from sqlalchemy import text
from sqlalchemy.exc import StatementError

from avatar_pipeline.ledger.database import writing
from avatar_pipeline.ledger.records import Arrival
from tests.ledger.desk import NOW, Desk, clip
from tests.ledger.test_requests import statements


def test_who_only_looks_waits_for_no_writer(desk: Desk) -> None:
    desk.arrive(clip(1))
    with writing(desk.ledger.engine) as session:
        session.execute(text("UPDATE requests SET tenant = 'other'"))
        assert desk.book.backlog().waiting == 1
        assert desk.book.get("clip-1").request.tenant == "default"
        assert [known.id for known in desk.ledger.avatars()] == ["ada"]
    assert len(desk.book.list(tenant="other")) == 1


def test_a_transaction_that_raises_changes_nothing(desk: Desk) -> None:
    with pytest.raises(ZeroDivisionError), writing(desk.ledger.engine) as session:
        session.execute(text("DELETE FROM avatars"))
        raise ZeroDivisionError
    assert desk.ledger.has_avatar("ada")


@pytest.mark.parametrize(
    "statement",
    [
        # Of PostgreSQL's words, the detail quotes the whole row, and the context the value.
        "INSERT INTO callbacks (id, request_id, url, body) VALUES (1, 'clip-1', 'https://h/', :secret)",
        "INSERT INTO request_events (id, request_id, state, at, note) VALUES (1, :secret, NULL, NULL, NULL)",
        "SELECT nonsense FROM requests WHERE payload = :secret",
    ],
)
def test_what_the_database_refuses_is_not_quoted(desk: Desk, statement: str) -> None:
    values = {"secret": "A secret sentence."}
    with pytest.raises(StatementError) as raised, writing(desk.ledger.engine) as session:
        session.execute(text(statement), values)
    error = raised.value
    assert "secret sentence" not in f"{error} {error!r} {error.orig} {error.orig!r}"
    assert "secret sentence" not in "".join(traceback.format_exception(error))
    assert statement[:20] in str(error), "it says what was done"


def test_a_row_that_the_database_refuses_is_not_quoted(desk: Desk) -> None:
    wrong = Arrival(clip(1, text="A secret sentence."), NOW.replace(tzinfo=None))
    with pytest.raises(StatementError) as raised:
        desk.book.take_in([wrong])
    assert "secret sentence" not in f"{raised.value} {raised.value!r}"


def test_what_is_deleted_elsewhere_because_it_is_safe_here_is_on_the_disk(sqlite_url: str) -> None:
    desk = Desk(sqlite_url)
    desk.has("ada")
    seen = statements(desk.ledger.engine)
    desk.arrive(clip(1))
    assert seen[:2] == ["PRAGMA synchronous=FULL", "BEGIN IMMEDIATE"]
    seen.clear()
    desk.claim()
    assert seen[0] == "BEGIN", "it looks first"
    assert seen[2:4] == ["PRAGMA synchronous=NORMAL", "BEGIN IMMEDIATE"]
    with desk.ledger.engine.connect() as connection:
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 1
    desk.ledger.close()
