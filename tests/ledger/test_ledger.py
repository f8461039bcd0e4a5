"""The ledger: registering, claiming and finishing, and what happens when it is done twice."""

import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlalchemy import create_engine, inspect, text

from avatar_pipeline.consent import ConsentRecord
from avatar_pipeline.errors import (
    Conflict,
    EnvironmentProblem,
    InvalidId,
    InvalidInput,
    InvalidMedia,
    InvalidText,
    NotFound,
)
from avatar_pipeline.ledger import migrate
from avatar_pipeline.ledger.ledger import Ledger
from avatar_pipeline.ledger.records import ClipRequest, Timing
from avatar_pipeline.ledger.schema import Base
from avatar_pipeline.store.artifacts import Artifact, Slot

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CONSENT = ConsentRecord(
    consent_id="consent-1",
    subject="A person",
    statement="I agree that my likeness and voice are used.",
    statement_version="1",
    scope=frozenset({"likeness", "voice"}),
    given_at=NOW,
)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(f"sqlite:///{tmp_path}/ledger.db", clock=lambda: NOW)


def register(ledger: Ledger, avatar_id: str = "ada", **changes: str):
    values = {"voice": "enrol:en", "greeting": "Hello.", "upload_key": "k1", "source_name": "ada.mp4"} | changes
    return ledger.register_avatar(avatar_id, consent=CONSENT, **values)


def request(number: int, text: str = "Hello.") -> ClipRequest:
    return ClipRequest(request_id=f"clip-{number}", avatar_id="ada", text=text)


def test_registering_the_same_avatar_twice_returns_the_first(ledger: Ledger) -> None:
    assert register(ledger) == register(ledger)
    assert [avatar.id for avatar in ledger.avatars()] == ["ada"]
    assert ledger.avatar("ada").consent == CONSENT


def test_an_id_that_is_taken_by_other_footage_is_a_conflict(ledger: Ledger) -> None:
    register(ledger)
    with pytest.raises(Conflict, match=r"avatar rm ada"):
        register(ledger, upload_key="k2")


def test_an_avatar_that_failed_may_be_tried_with_other_footage(ledger: Ledger) -> None:
    register(ledger)
    ledger.set_avatar_state("ada", "failed", InvalidMedia("Broken.", remedy="Mend it."))
    assert ledger.avatar("ada").error == {"code": "invalid_media", "message": "Broken.", "remedy": "Mend it."}
    assert register(ledger, upload_key="k2").upload_key == "k2"


def test_an_unknown_avatar_is_not_found(ledger: Ledger) -> None:
    with pytest.raises(NotFound, match="'nobody'"):
        ledger.avatar("nobody")
    with pytest.raises(NotFound, match="'nobody'"):
        ledger.submit([ClipRequest(request_id="c-1", avatar_id="nobody", text="Hi.")])


def test_a_request_sent_twice_is_one_request(ledger: Ledger) -> None:
    register(ledger)
    ledger.submit([request(1), request(2)])
    ledger.submit([request(2), request(3)])
    assert [record.request.request_id for record in ledger.requests()] == ["clip-1", "clip-2", "clip-3"]


def test_a_request_id_never_changes_its_text(ledger: Ledger) -> None:
    register(ledger)
    ledger.submit([request(1)])
    with pytest.raises(Conflict, match="clip-1"):
        ledger.submit([request(2), request(1, "Something else.")])
    assert len(ledger.requests()) == 1, "submitting is all or none"


def test_a_batch_that_claims_again_gets_the_same_requests(ledger: Ledger) -> None:
    register(ledger)
    ledger.submit([request(number) for number in range(5)])
    first = ledger.claim("batch-1", 3)
    ledger.submit([request(9)])
    assert [item.request_id for item in first] == ["clip-0", "clip-1", "clip-2"]
    assert ledger.claim("batch-1", 3) == first
    assert [item.request_id for item in ledger.claim("batch-2", 3)] == ["clip-3", "clip-4", "clip-9"]
    assert ledger.claim("batch-3", 3) == []


def test_requests_reserved_for_a_batch_go_to_no_other(ledger: Ledger) -> None:
    register(ledger)
    ledger.submit([request(1)], batch_id="batch-1")
    assert ledger.claim("batch-2", 10) == []
    assert [item.request_id for item in ledger.claim("batch-1", 10)] == ["clip-1"]


def test_a_done_request_is_not_reopened_by_a_late_attempt(ledger: Ledger) -> None:
    register(ledger)
    ledger.submit([request(1)])
    ledger.mark_request("clip-1", "done", clip_key="abc")
    ledger.mark_request("clip-1", "failed", error=InvalidInput("Late.", remedy="None."))
    (record,) = ledger.requests(avatar_id="ada")
    assert (record.state, record.clip_key, record.error) == ("done", "abc", None)


def test_parallel_claims_share_no_request(ledger: Ledger) -> None:
    register(ledger)
    ledger.submit([request(number) for number in range(40)])
    claimed: dict[str, list[str]] = {}

    def claim(batch: str) -> None:
        claimed[batch] = [item.request_id for item in ledger.claim(batch, 7)]

    threads = [threading.Thread(target=claim, args=(f"batch-{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    everything = [item for batch in claimed.values() for item in batch]
    assert len(everything) == len(set(everything)) == 40


def test_deleting_an_avatar_leaves_nothing_of_it(ledger: Ledger) -> None:
    register(ledger)
    register(ledger, "bob")
    ledger.submit([request(1)])
    artifact = Artifact(Slot.avatar("ada", "mesh"), "k1", "1", {}, {}, {"a": (3, "x")}, {}, "file:///a")
    timing = Timing("avatars", "ada", "mesh", "k1", None, False, 2.5, Decimal("0.526"), Decimal("0.000365"), NOW)
    ledger.record(artifact, timing)
    ledger.record(artifact, timing)
    assert ledger.timings("avatars", "ada") == [timing, timing]
    ledger.delete_avatar("ada")
    assert ledger.timings("avatars", "ada") == []
    assert ledger.requests() == []
    assert [avatar.id for avatar in ledger.avatars()] == ["bob"]


def test_a_naive_time_is_refused(tmp_path: Path) -> None:
    naive = Ledger(f"sqlite:///{tmp_path}/l.db", clock=lambda: datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(Exception, match="naive datetime"):
        register(naive)


def test_migrations_make_exactly_the_declared_tables(tmp_path: Path) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    ledger = Ledger(f"sqlite:///{tmp_path}/l.db")
    with ledger.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == migrate.HEAD
    assert migrate.HEAD in {path.name[:4] for path in (Path(migrate.__file__).parent / "migrations/versions").iterdir()}


def test_processes_that_start_together_migrate_once(tmp_path: Path) -> None:
    errors: list[BaseException] = []

    def open_ledger() -> None:
        try:
            Ledger(f"sqlite:///{tmp_path}/together.db").close()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=open_ledger) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert inspect(create_engine(f"sqlite:///{tmp_path}/together.db")).has_table("avatars")


@pytest.mark.parametrize("url", ["not a url", ""])
def test_a_bad_ledger_url_is_a_clear_error_that_does_not_repeat_it(url: str) -> None:
    with pytest.raises(InvalidInput, match="AVATAR_LEDGER_URL"):
        Ledger(url)


def test_a_database_that_cannot_be_opened_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").mkdir()
    with pytest.raises(EnvironmentProblem, match="unable to open database file"):
        Ledger(f"sqlite:///{tmp_path}/ledger.db")


@pytest.mark.parametrize("text_", ["", "   ", "word " * 1001])
def test_text_that_cannot_be_a_script_is_refused(text_: str) -> None:
    with pytest.raises(InvalidText):
        request(1, text_)


def test_an_id_that_is_no_slug_is_refused() -> None:
    with pytest.raises((InvalidId, ValidationError)):
        ClipRequest(request_id="../../etc", avatar_id="ada", text="Hi.")


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=6), queued=st.integers(0, 20))
def test_every_request_is_claimed_at_most_once_and_in_order(sizes: list[int], queued: int) -> None:
    ledger = Ledger("sqlite://", clock=lambda: NOW + timedelta(seconds=1))
    register(ledger)
    ledger.submit([request(number) for number in range(queued)])
    taken = [item.request_id for batch, size in enumerate(sizes) for item in ledger.claim(f"batch-{batch}", size)]
    assert taken == [f"clip-{number}" for number in range(min(queued, sum(sizes)))]
