"""Attempts written into the event log and read back from it, whatever became of the log or its writer."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar_pipeline.spot import history
from avatar_pipeline.spot.history import checkpointed, ended, fold, next_number, placed, reported, work_lost
from avatar_pipeline.spot.types import Attempt, CapacityType, Ending, Offering, Placement, Progress

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SPOT = Placement(CapacityType.SPOT, (Offering("g5.xlarge", "a", CapacityType.SPOT),), "gpu", "spot: not interrupted")
FIRST = Attempt(0, SPOT, NOW)
SECOND = Attempt(1, replace(SPOT, reason="spot: interrupted once of 2"), NOW + timedelta(minutes=5))
SAVED = Progress(done=3, total=9, seconds=180.5, at=NOW + timedelta(minutes=3))
OVER = replace(
    FIRST,
    ending=Ending.INTERRUPTED,
    ended_at=NOW + timedelta(minutes=4),
    instance_type="g5.xlarge",
    zone="a",
    seconds=200.0,
    lost_seconds=20.5,
    price=Decimal("0.4321"),
    progress=SAVED,
)


def test_an_attempt_that_runs_is_one_without_an_ending() -> None:
    assert fold([placed(FIRST)]) == (FIRST,)


def test_an_attempt_that_has_ended_comes_back_whole() -> None:
    assert fold([placed(FIRST), ended(OVER, reason="evicted")]) == (OVER,)


def test_the_record_of_an_end_is_enough() -> None:
    assert fold([ended(OVER)]) == (OVER,)


def test_checkpoints_are_the_attempts_progress_and_the_latest_counts() -> None:
    later = replace(SAVED, done=4, at=SAVED.at + timedelta(minutes=1))
    for records in ([SAVED, later], [later, SAVED]):
        (attempt,) = fold([placed(FIRST), *(checkpointed(0, each) for each in records)])
        assert attempt.progress == later


@pytest.mark.parametrize("ending", [Ending.INTERRUPTED, Ending.USER_ERROR, Ending.SUCCEEDED])
def test_what_a_worker_says_of_its_own_end_counts(ending: Ending) -> None:
    (attempt,) = fold([placed(FIRST), reported(0, ending, NOW)])
    assert (attempt.ending, attempt.ended_at) == (ending, NOW)


def test_the_executors_word_outranks_the_workers_unless_it_saw_nothing() -> None:
    """A worker that is moved takes it for an interruption; an executor that comes late sees nobody at all."""

    def ending(seen: Ending) -> Ending | None:
        said, saw = reported(0, Ending.INTERRUPTED, NOW), ended(replace(OVER, ending=seen))
        (attempt,) = fold([placed(FIRST), said, saw])
        assert fold([placed(FIRST), saw, said]) == (attempt,)
        return attempt.ending

    assert ending(Ending.MOVED) is Ending.MOVED
    assert ending(Ending.VANISHED) is Ending.INTERRUPTED
    assert ending(Ending.SILENT_EXIT) is Ending.INTERRUPTED


def test_an_attempt_that_nobody_saw_end_has_vanished_once_another_follows() -> None:
    """As when the run's own process died, and the one that took its place placed the step again."""
    lost, running = fold([placed(FIRST), checkpointed(0, SAVED), placed(SECOND)])
    assert lost == replace(FIRST, ending=Ending.VANISHED, ended_at=SECOND.placed_at, progress=SAVED)
    assert running == SECOND


def test_an_attempt_whose_worker_spoke_has_not_vanished_when_another_follows() -> None:
    said, _ = fold([placed(FIRST), reported(0, Ending.INTERRUPTED, NOW), placed(SECOND)])
    assert said.ending is Ending.INTERRUPTED


def test_of_two_placements_of_one_number_the_later_is_where_it_runs() -> None:
    again = replace(FIRST, placement=replace(SPOT, reason="again"), placed_at=NOW + timedelta(seconds=5))
    assert fold([placed(FIRST), placed(again)]) == (again,)
    assert fold([placed(again), placed(FIRST)]) == (again,)


def test_more_that_is_written_beside_is_kept_and_changes_nothing() -> None:
    record = placed(FIRST, job="dagster-step-1", namespace="media", number=7)
    assert (record["job"], record["namespace"], record["number"]) == ("dagster-step-1", "media", 0)
    assert fold([record]) == (FIRST,)


def test_records_of_a_later_version_are_read_as_far_as_they_go() -> None:
    record = ended(OVER) | {"version": 9, "ending": "abducted", "mood": {"good": True}}
    assert fold([record]) == (replace(OVER, ending=Ending.VANISHED),)
    assert fold([placed(FIRST), {"version": 9, "kind": "dreamt", "number": 0, "at": NOW.isoformat()}]) == (FIRST,)


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"kind": "placed"},
        placed(FIRST) | {"number": "0"},
        placed(FIRST) | {"number": -1},
        placed(FIRST) | {"number": True},
        placed(FIRST) | {"at": "noon"},
        placed(FIRST) | {"at": "2026-11-24T12:00:00"},
        placed(FIRST) | {"placement": None},
        placed(FIRST) | {"placement": {"capacity_type": "reserved"}},
        reported(0, Ending.INTERRUPTED, NOW),
        checkpointed(0, SAVED),
    ],
)
def test_a_record_that_tells_of_no_placement_makes_no_attempt(record: dict[str, Any]) -> None:
    assert fold([record]) == ()
    assert fold([record, placed(SECOND)]) == (SECOND,)


def test_figures_that_cannot_be_are_left_out() -> None:
    odd = {"seconds": -1, "lost_seconds": "many", "price": "NaN", "progress": {"done": 1}, "zone": 4}
    (attempt,) = fold([ended(OVER) | odd])
    assert attempt == replace(OVER, seconds=None, lost_seconds=None, price=None, progress=None, zone=None)
    assert fold([ended(OVER) | {"price": "cheap"}])[0].price is None
    placement: dict[str, Any] = {"capacity_type": "spot", "offerings": [["g5.xlarge"], 5, ["g6.xlarge", "b", "new"]]}
    (attempt,) = fold([placed(FIRST) | {"placement": placement}])
    assert attempt.placement == Placement(CapacityType.SPOT, (Offering("g6.xlarge", "b", CapacityType.SPOT),), "", "")


def test_numbers_go_on_after_the_last() -> None:
    assert next_number(()) == 0
    assert next_number((replace(FIRST, number=4),)) == 5


def test_the_work_lost_is_that_since_the_last_checkpoint() -> None:
    told = replace(OVER, lost_seconds=None)
    assert work_lost(OVER) == 20.5
    assert work_lost(told) == 60
    assert work_lost(replace(told, progress=None)) == 200
    assert work_lost(replace(told, progress=replace(SAVED, at=NOW - timedelta(hours=1)))) == 200
    assert work_lost(replace(told, progress=replace(SAVED, at=NOW + timedelta(hours=1)))) == 0
    assert work_lost(replace(told, seconds=None)) is None
    assert work_lost(replace(told, ending=Ending.SUCCEEDED)) == 0


times = st.integers(0, 10**6).map(lambda seconds: NOW + timedelta(seconds=seconds / 7))
texts = st.text(max_size=6)
figures = st.none() | st.floats(0, 1e9)
progresses = st.builds(Progress, st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1e9), times)


@st.composite
def attempts(draw: st.DrawFn) -> Attempt:
    capacity_type = draw(st.sampled_from(CapacityType))
    offerings = draw(st.lists(st.builds(Offering, texts, texts, st.just(capacity_type)), max_size=3))
    return Attempt(
        number=draw(st.integers(0, 4)),
        placement=Placement(capacity_type, tuple(offerings), draw(texts), draw(texts)),
        placed_at=draw(times),
        ending=draw(st.sampled_from(Ending)),
        ended_at=draw(times),
        instance_type=draw(st.none() | texts),
        zone=draw(st.none() | texts),
        seconds=draw(figures),
        lost_seconds=draw(figures),
        price=draw(st.none() | st.decimals(0, 100, places=4)),
        progress=draw(st.none() | progresses),
    )


@st.composite
def logs(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A log in the order in which things happen, with some of it missing."""
    log: list[dict[str, Any]] = []
    for number in range(draw(st.integers(0, 4))):
        attempt = replace(draw(attempts()), number=number)
        ending = draw(st.sampled_from([Ending.INTERRUPTED, Ending.USER_ERROR, Ending.SUCCEEDED]))
        log += [placed(replace(attempt, ending=None))] * draw(st.integers(0, 2))
        log += [checkpointed(number, each) for each in draw(st.lists(progresses, max_size=2))]
        log += [reported(number, ending, draw(times))] * draw(st.integers(0, 1))
        log += [ended(attempt, reason=draw(texts))] * draw(st.integers(0, 1))
    return log


@given(attempt=attempts())
def test_an_attempt_survives_being_written_as_json(attempt: Attempt) -> None:
    record = json.loads(json.dumps(ended(attempt, reason="why", job="j"), allow_nan=False))
    assert fold([record]) == (attempt,)
    assert record["version"] == history.VERSION


@settings(max_examples=40)
@given(log=logs(), data=st.data())
def test_a_log_that_holds_records_twice_tells_the_same(log: list[dict[str, Any]], data: st.DataObject) -> None:
    twice = list(log)
    for record in data.draw(st.lists(st.sampled_from(log), max_size=5) if log else st.just([]), label="again"):
        twice.insert(data.draw(st.integers(log.index(record) + 1, len(twice)), label="where"), record)
    assert fold(twice) == fold(log)
    assert fold([*log, *log]) == fold(log)


@settings(max_examples=40)
@given(log=logs(), data=st.data())
def test_the_order_of_different_attempts_records_does_not_matter(
    log: list[dict[str, Any]], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(range(len(log))), label="order")
    by_kind = sorted(shuffled, key=lambda index: (log[index]["number"], log[index]["kind"]))
    stable = [log[index] for index in by_kind]
    assert [a.number for a in fold(stable)] == [a.number for a in fold(log)]
    assert [a.ending for a in fold(stable)] == [a.ending for a in fold(log)]
    assert [a.progress for a in fold(stable)] == [a.progress for a in fold(log)]


@settings(max_examples=40)
@given(log=logs(), cut=st.integers(0, 20))
def test_a_history_only_grows(log: list[dict[str, Any]], cut: int) -> None:
    before, after = fold(log[:cut]), {attempt.number: attempt for attempt in fold(log)}
    for attempt in before:
        now = after[attempt.number]
        assert (now.placement, now.placed_at) == (attempt.placement, attempt.placed_at)
        assert attempt.ending is None or now.ending is not None
    assert [attempt.number for attempt in after.values()] == sorted(after)
    assert all(attempt.ending is not None for attempt in list(after.values())[:-1])


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["placed", "ended", "spot", "x"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(list(ended(OVER))), inner, max_size=4),
    max_leaves=6,
)


@given(
    base=st.sampled_from([placed(FIRST), ended(OVER), checkpointed(0, SAVED), reported(0, Ending.USER_ERROR, NOW)]),
    odd=st.dictionaries(st.sampled_from([*ended(OVER), "done", "at"]), junk, max_size=3),
)
def test_no_record_whatever_is_in_it_stops_a_step(base: dict[str, Any], odd: dict[str, Any]) -> None:
    folded = fold([base | odd, placed(SECOND)])
    assert folded[-1].number >= 1
    json.dumps([str(attempt) for attempt in folded])
