"""The daily report: every request on one day and on one only, exact figures, the same report for the same figures."""

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from avatar_pipeline.errors import InvalidInput, InvalidText, WorkerLost
from avatar_pipeline.ledger.ledger import Ledger
from avatar_pipeline.ledger.report import Latency, nearest_rank, read_day
from avatar_pipeline.ledger.schema import Base
from avatar_pipeline.preview.images import MAX_BYTES
from avatar_pipeline.stages.line import Line, StageResult
from avatar_pipeline.stages.report import make_daily_report
from avatar_pipeline.store.artifacts import Slot
from tests.stages.benches import add, artifact_row, avatar_row, make_line, request_row, timing_row

DAY = date(2026, 3, 1)
START = datetime(2026, 3, 1, tzinfo=UTC)
NOON = START + timedelta(hours=12)
NEXT = START + timedelta(days=1)
INSTANT = timedelta(microseconds=1)
SECOND = timedelta(seconds=1)


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    """A line whose clock stands on the morning after."""
    line = make_line(tmp_path, lambda: NEXT + timedelta(hours=6))
    yield line
    line.ledger.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """A ledger on each of the databases."""
    url = f"sqlite:///{tmp_path}/ledger.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    ledger = Ledger(url)
    yield ledger
    ledger.close()


def report_of(line: Line, result: StageResult) -> dict:
    return json.loads(line.store.local(result.artifact, "report.json").read_text())


def done(request_id: str, at: datetime = NOON, **columns):
    """A request that waited 10 s, whose run took 2 s to begin it and 30 s to do it."""
    times = {"sent_at": at - 42 * SECOND, "claimed_at": at - 32 * SECOND, "started_at": at - 30 * SECOND}
    return request_row(request_id, finished_at=at, **(times | columns))


def test_a_day_on_which_nothing_happened_has_a_report(line: Line) -> None:
    result = make_daily_report(line, DAY)
    assert result.facts == {
        "day": "2026-03-01",
        "partial": False,
        "clips_sent": 0,
        "clips_done": 0,
        "clips_failed": 0,
        "avatars_sent": 0,
        "avatars_done": 0,
        "avatars_failed": 0,
        "avatars_made": 0,
        "dead_letters": 0,
        "spend_usd": 0.0,
        "failures": [],
    }
    picture = line.store.local(result.artifact, "preview.jpg").read_bytes()
    assert len(picture) <= MAX_BYTES
    assert Image.open(io.BytesIO(picture)).format == "JPEG"


def test_a_request_belongs_to_the_day_on_which_it_finished(ledger: Ledger) -> None:
    add(ledger, *(done(f"r-{n}", at) for n, at in enumerate([START - INSTANT, START, NEXT - INSTANT, NEXT])))
    figures = read_day(ledger.engine, DAY)
    assert figures.total("clip", "done") == 2
    assert (figures.finished["clip"]["done"][0], figures.finished["clip"]["done"][23]) == (1, 1)


def test_arrivals_are_counted_by_when_they_were_sent_finished_or_not(ledger: Ledger) -> None:
    add(
        ledger,
        request_row("early", sent_at=START - INSTANT),
        request_row("waits", sent_at=START),
        done("late", NEXT + SECOND, sent_at=NEXT - INSTANT),
        request_row("avatar", sent_at=NOON, kind="avatar"),
        request_row("tomorrow", sent_at=NEXT),
    )
    figures = read_day(ledger.engine, DAY)
    assert (sum(figures.sent["clip"]), sum(figures.sent["avatar"])) == (2, 1)
    assert (figures.sent["clip"][0], figures.sent["clip"][23], figures.sent["avatar"][12]) == (1, 1, 1)


def test_latency_is_of_what_was_done_and_falls_into_its_parts(line: Line) -> None:
    failed = request_row("bad", sent_at=START, finished_at=NOON, error=InvalidText("Empty.", remedy="Write."))
    slow = done("slow", sent_at=NOON - 142 * SECOND, claimed_at=NOON - 132 * SECOND, started_at=NOON - 130 * SECOND)
    add(line.ledger, failed, slow, *(done(f"r-{n}") for n in range(9)), done("face", kind="avatar"))
    latency = read_day(line.ledger.engine, DAY).latency
    assert latency["clip"] == {
        "total": Latency(10, 42.0, 142.0, 142.0),
        "waiting": Latency(10, 10.0, 10.0, 10.0),
        "starting": Latency(10, 2.0, 2.0, 2.0),
        "working": Latency(10, 30.0, 130.0, 130.0),
    }
    assert latency["avatar"]["total"] == Latency(1, 42.0, 42.0, 42.0)
    facts = make_daily_report(line, DAY).facts
    assert (facts["clip_seconds_p50"], facts["clip_seconds_p99"], facts["clip_seconds_working_p95"]) == (
        42.0,
        142.0,
        130,
    )


def test_a_senders_clock_that_is_ahead_makes_no_negative_latency(ledger: Ledger) -> None:
    add(ledger, done("ahead", sent_at=NOON + SECOND))
    assert read_day(ledger.engine, DAY).latency["clip"]["total"] == Latency(1, 0.0, 0.0, 0.0)


def test_failures_are_counted_by_reason_the_most_frequent_first(line: Line) -> None:
    lost, empty = WorkerLost("Died.", remedy="Look."), InvalidText("Empty.", remedy="Write.")
    errors = [lost, empty, lost]
    add(line.ledger, *(request_row(f"r-{n}", sent_at=START, finished_at=NOON, error=e) for n, e in enumerate(errors)))
    result = make_daily_report(line, DAY)
    assert result.facts["failures"] == ["worker_lost (clip): 2", "invalid_text (clip): 1"]
    assert result.facts["clips_failed"] == 3
    assert report_of(line, result)["failures"] == {"avatar": {}, "clip": {"invalid_text": 1, "worker_lost": 2}}


def test_spend_is_exact_by_asset_and_by_when_the_work_began(ledger: Ledger) -> None:
    add(
        ledger,
        *(timing_row("clips", "0.000001", NOON) for _ in range(3)),
        timing_row("speech", "0.1", START),
        timing_row("speech", "0.2", NEXT - INSTANT),
        timing_row("clips", "5", START - INSTANT),
        timing_row("clips", "7", NEXT),
        timing_row("daily_report", "9", NOON, collection="reports"),
    )
    assert read_day(ledger.engine, DAY).spend == {"clips": Decimal("0.000003"), "speech": Decimal("0.3")}


def test_money_stays_exact_in_the_file(line: Line) -> None:
    add(line.ledger, timing_row("speech", "0.1", NOON), timing_row("speech", "0.2", NOON))
    result = make_daily_report(line, DAY)
    assert report_of(line, result)["spend_usd"] == {"speech": "0.3"}
    assert result.facts["spend_usd"] == 0.3


def test_a_clip_that_was_there_before_or_was_made_for_another_request_counts_as_reused(ledger: Ledger) -> None:
    add(
        ledger,
        artifact_row("ada", "clips", "old", START - SECOND),
        artifact_row("ada", "clips", "new", NOON - SECOND),
        artifact_row("bob", "clips", "new", NOON - SECOND),
        artifact_row("ada", "greeting_clip", "new", START - SECOND),
        done("served", clip_key="old"),
        done("first", clip_key="new"),
        done("second", clip_key="new"),
        done("other", clip_key="new", avatar_id="bob"),
    )
    assert read_day(ledger.engine, DAY).clips_reused == 2


def test_the_share_of_reused_clips_is_told_where_there_are_any(line: Line) -> None:
    assert "clips_reused_share" not in make_daily_report(line, DAY).facts
    add(line.ledger, done("first", clip_key="key"), done("second", clip_key="key"))
    assert make_daily_report(line, DAY).facts["clips_reused_share"] == 0.5


def test_an_avatar_is_made_on_the_day_of_its_first_greeting(ledger: Ledger) -> None:
    add(
        ledger,
        *(
            avatar_row(name, START, state=state)
            for name, state in [("ada", "ready"), ("bob", "ready"), ("c", "failed")]
        ),
    )
    add(
        ledger,
        artifact_row("ada", "greeting_clip", "k1", NOON),
        artifact_row("ada", "greeting_clip", "k2", NOON + SECOND),
        artifact_row("bob", "greeting_clip", "k1", START - SECOND),
        artifact_row("bob", "greeting_clip", "k2", NOON),
        artifact_row("c", "greeting_clip", "k1", NOON),
    )
    assert read_day(ledger.engine, DAY).avatars_made == 1


def test_dead_letters_are_those_that_lie_there_now(line: Line) -> None:
    line.queues.clips.send(["not a request"])
    (message,) = line.queues.clips.receive(1, visibility=timedelta(minutes=1))
    line.queues.clips.dead_letter(message, "Not JSON.")
    result = make_daily_report(line, DAY)
    assert result.facts["dead_letters"] == 1
    assert report_of(line, result)["dead_letters"] == {"avatar": 0, "clip": 1}


def test_a_past_day_is_reported_once_and_again_only_when_the_ledger_says_something_else(line: Line) -> None:
    add(line.ledger, done("r-1"))
    first, again = make_daily_report(line, DAY), make_daily_report(line, DAY)
    assert (first.reused, again.reused, again.artifact) == (False, True, first.artifact)
    add(line.ledger, done("r-2"))
    changed = make_daily_report(line, DAY)
    assert not changed.reused
    assert line.store.current(Slot("reports", "2026-03-01", "daily_report")) == changed.artifact


def test_a_day_that_is_not_over_is_partial(line: Line) -> None:
    add(line.ledger, done("r-1"))
    partial = make_daily_report(replace(line, clock=lambda: NOON), DAY)
    whole = make_daily_report(line, DAY)
    assert (partial.facts["partial"], whole.facts["partial"]) == (True, False)
    assert partial.artifact.key != whole.artifact.key
    assert line.store.current(Slot("reports", "2026-03-01", "daily_report")) == whole.artifact


def test_a_report_made_on_its_own_day_does_not_change_what_the_next_one_says(line: Line) -> None:
    today = replace(line, clock=lambda: NOON)
    assert make_daily_report(today, DAY).artifact == make_daily_report(today, DAY).artifact


def test_a_day_that_has_not_begun_has_no_report(line: Line) -> None:
    with pytest.raises(InvalidInput, match="2026-03-02 has not begun"):
        make_daily_report(replace(line, clock=lambda: NOON), date(2026, 3, 2))


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200), st.integers(1, 100))
def test_the_percentile_is_numpys_by_nearest_rank(values: list[float], percent: int) -> None:
    ordered = sorted(values)
    assert nearest_rank(ordered, percent) == np.percentile(ordered, percent, method="inverted_cdf")


moments = st.timedeltas(timedelta(0), timedelta(days=3) - INSTANT).map(lambda offset: START + offset)


@settings(max_examples=30)
@given(st.lists(st.tuples(moments, moments, st.sampled_from(["clip", "avatar"]), st.booleans()), max_size=12))
def test_over_the_days_every_request_is_counted_once(requests: list[tuple[datetime, datetime, str, bool]]) -> None:
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    error = InvalidText("Empty.", remedy="Write.")
    with Session(engine) as session, session.begin():
        for number, (sent, finished, kind, bad) in enumerate(requests):
            columns = {"kind": kind, "error": error if bad else None}
            session.add(request_row(f"r-{number}", sent_at=sent, finished_at=finished, **columns))
    days = [read_day(engine, DAY + timedelta(days=number)) for number in range(3)]
    for kind in ("clip", "avatar"):
        of_kind = [request for request in requests if request[2] == kind]
        assert sum(sum(day.sent[kind]) for day in days) == len(of_kind)
        assert sum(day.total(kind, "done") for day in days) == sum(not request[3] for request in of_kind)
        assert sum(day.total(kind, "failed") for day in days) == sum(request[3] for request in of_kind)
        assert sum(sum(day.failures[kind].values()) for day in days) == sum(request[3] for request in of_kind)
