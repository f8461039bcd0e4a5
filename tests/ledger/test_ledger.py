"""The ledger: avatars, artifacts and timings, on SQLite and on PostgreSQL, and what happens when it is done twice."""

import threading
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import ValidationError
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from avatar_pipeline.errors import (
    Conflict,
    EnvironmentProblem,
    InvalidId,
    InvalidInput,
    InvalidText,
    NotFound,
)
from avatar_pipeline.ledger.callbacks import CallbackBook
from avatar_pipeline.ledger.database import open_engine
from avatar_pipeline.ledger.ledger import Ledger
from avatar_pipeline.ledger.messages import ClipRequest
from avatar_pipeline.ledger.records import AvatarRecord, Timing
from avatar_pipeline.ledger.schema import RequestEventRow
from avatar_pipeline.store.artifacts import Artifact, Slot
from tests.ledger.desk import BROKEN, CONSENT, NOW, Desk, avatar, clip, register


def test_registering_the_same_avatar_twice_returns_the_first(desk: Desk) -> None:
    assert register(desk.ledger, "bob") == register(desk.ledger, "bob")
    assert [known.id for known in desk.ledger.avatars()] == ["ada", "bob"]
    assert desk.ledger.avatar("bob").consent == CONSENT


def test_an_id_that_is_taken_by_other_footage_is_a_conflict(desk: Desk) -> None:
    with pytest.raises(Conflict, match=r"avatar rm ada"):
        register(desk.ledger, upload_key="k2")


def test_an_avatar_that_failed_may_be_tried_with_other_footage(desk: Desk) -> None:
    desk.has("bob", "failed")
    assert desk.ledger.avatar("bob").error == BROKEN.as_dict()
    again = register(desk.ledger, "bob", upload_key="k2")
    assert (again.upload_key, again.state, again.error) == ("k2", "new", None)


def test_registering_a_ready_avatar_again_leaves_it_ready(desk: Desk) -> None:
    assert register(desk.ledger).state == "ready"


def test_an_unknown_avatar_is_not_found(desk: Desk) -> None:
    with pytest.raises(NotFound, match="'nobody'"):
        desk.ledger.avatar("nobody")


def test_many_who_register_the_same_avatar_at_once_all_get_it(desk: Desk) -> None:
    start = threading.Barrier(8)
    found: list[AvatarRecord] = []

    def one() -> None:
        start.wait()
        found.append(register(desk.ledger, "bob"))

    together(one, 8)
    assert len(found) == 8
    assert len(set(found)) == 1


def test_deleting_an_avatar_leaves_nothing_of_it(desk: Desk) -> None:
    desk.has("bob")
    desk.arrive(clip(1, callback_url="https://example.com/"), avatar("ada"), clip(2, "bob"))
    desk.book.fail("clip-1", BROKEN)
    artifact = Artifact(Slot.avatar("ada", "mesh"), "k1", "1", {}, {}, {"a": (3, "x")}, {}, "file:///a")
    timing = Timing("avatars", "ada", "mesh", "k1", None, False, 2.5, Decimal("0.526"), Decimal("0.000365"), NOW)
    desk.ledger.record(artifact, timing)
    desk.ledger.record(artifact, timing)
    assert desk.ledger.timings("avatars", "ada") == [timing, timing]
    desk.ledger.delete_avatar("ada")
    assert desk.ledger.timings("avatars", "ada") == []
    assert [record.request for record in desk.book.list()] == [clip(2, "bob")]
    assert [known.id for known in desk.ledger.avatars()] == ["bob"]
    assert CallbackBook(desk.ledger.engine).list() == []
    with Session(desk.ledger.engine) as session:
        assert session.scalar(select(func.count()).select_from(RequestEventRow)) == 1


def test_a_naive_time_is_refused(tmp_path: Path) -> None:
    naive = Ledger(f"sqlite:///{tmp_path}/l.db", clock=lambda: datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(Exception, match="naive datetime"):
        register(naive)


@pytest.mark.parametrize("url_", ["not a url", "", "postgresql://user:s3cret@word@host:port/db"])
def test_a_bad_ledger_url_is_a_clear_error_that_does_not_repeat_it(url_: str) -> None:
    with pytest.raises(InvalidInput, match="AVATAR_LEDGER_URL") as raised:
        Ledger(url_)
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_a_postgresql_url_means_psycopg_3(scheme: str) -> None:
    assert open_engine(f"{scheme}://user@host/db").url.drivername == "postgresql+psycopg"


def test_a_database_that_cannot_be_opened_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").mkdir()
    with pytest.raises(EnvironmentProblem, match="unable to open database file"):
        Ledger(f"sqlite:///{tmp_path}/ledger.db")


def test_a_server_that_is_not_there_is_a_clear_error_without_the_password() -> None:
    with pytest.raises(EnvironmentProblem, match="cannot be opened") as raised:
        Ledger("postgresql://user:secret@127.0.0.1:1/db")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("text_", ["", "   ", "word " * 1001])
def test_text_that_cannot_be_a_script_is_refused(text_: str) -> None:
    with pytest.raises((InvalidText, ValidationError)):
        clip(1, text=text_)


def test_an_id_that_is_no_slug_is_refused() -> None:
    with pytest.raises((InvalidId, ValidationError)):
        ClipRequest(request_id="../../etc", avatar_id="ada", text="Hi.")


def together(work, count: int) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
