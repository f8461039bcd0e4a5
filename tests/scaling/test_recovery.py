"""Recovery: what died is found and run again, what lives or was called off is left alone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar_pipeline.scaling.recovery import (
    BatchRecovery,
    BatchSeen,
    RunSeen,
    RunStatus,
    batches_to_run,
    is_parked,
    lost_runs,
    next_turn,
    prunable,
    run_key,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PATIENCE = timedelta(seconds=60)
GRACE = timedelta(seconds=60)
MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class Open:
    batch_id: str = "batch-1"
    claimed_at: datetime = NOW - timedelta(hours=1)
    requests: int = 0


def run(status: RunStatus, *, ended: timedelta | None = None, run_id: str = "r-1", will_retry: bool = False) -> RunSeen:
    started_at = None if status in ("queued", "starting") else NOW - timedelta(minutes=30)
    ended_at = None if ended is None else NOW - ended
    return RunSeen(run_id, "batch-1", status, started_at, ended_at, will_retry)


def plan(*runs: RunSeen, now: datetime = NOW, max_attempts: int = 3, batch: Open | None = None) -> BatchRecovery:
    batch = batch or Open()
    return batches_to_run([batch], {batch.batch_id: runs}, now, grace=GRACE, max_attempts=max_attempts)


# Lost runs


def test_a_started_run_is_lost_when_start_and_beat_are_longer_ago_than_patience() -> None:
    started = run("started")
    assert lost_runs([started], {}, NOW, PATIENCE) == ["r-1"]
    assert lost_runs([started], {"r-1": NOW - 2 * MINUTE}, NOW, PATIENCE) == ["r-1"]
    assert lost_runs([started], {"r-1": NOW - MINUTE}, NOW, PATIENCE) == []


def test_a_run_that_just_started_has_yet_to_beat() -> None:
    started = replace(run("started"), started_at=NOW - timedelta(seconds=5))
    assert lost_runs([started], {}, NOW, PATIENCE) == []
    assert lost_runs([started], {"r-1": NOW - timedelta(hours=1)}, NOW, PATIENCE) == []


def test_a_run_of_which_nothing_is_known_is_not_called_lost() -> None:
    assert lost_runs([replace(run("started"), started_at=None)], {}, NOW, PATIENCE) == []


times = st.none() | st.timedeltas(timedelta(hours=-12), timedelta(hours=12)).map(lambda offset: NOW + offset)
statuses = st.sampled_from(["queued", "starting", "started", "succeeded", "failed", "canceled", "withdrawn"])
seen_runs = st.lists(
    st.builds(
        RunSeen,
        run_id=st.uuids().map(str),
        partition=st.just("batch-1"),
        status=statuses,
        started_at=times,
        ended_at=times,
        will_retry=st.booleans(),
    ),
    max_size=6,
    unique_by=lambda run: run.run_id,
)


@given(seen_runs, st.data(), st.timedeltas(timedelta(0), timedelta(hours=2)))
def test_only_started_runs_are_lost_and_a_fresh_beat_saves_each(
    runs: list[RunSeen], data: st.DataObject, patience: timedelta
) -> None:
    beats = {run.run_id: beat for run in runs if (beat := data.draw(times)) is not None}
    lost = lost_runs(runs, beats, NOW, patience)
    by_id = {run.run_id: run for run in runs}
    assert all(by_id[run_id].status == "started" for run_id in lost)
    assert set(lost_runs(runs, beats, NOW + MINUTE, patience)) >= set(lost), "the lost come back by waiting"
    assert lost_runs(runs, {run.run_id: NOW for run in runs}, NOW, patience) == []


# Batches


@pytest.mark.parametrize("status", ["queued", "starting", "started"])
def test_a_batch_with_a_run_in_flight_is_left_alone(status: RunStatus) -> None:
    assert plan(run("failed", ended=MINUTE), run(status, run_id="r-2")) == BatchRecovery([], [], [])


def test_a_batch_whose_run_died_is_run_again_at_once() -> None:
    assert plan(run("failed", ended=timedelta(0))).rerun == [("batch-1", 1)]


def test_a_retry_that_was_announced_is_waited_for_but_not_for_ever() -> None:
    announced = run("failed", ended=timedelta(0), will_retry=True)
    assert plan(announced) == BatchRecovery([], [], [])
    assert plan(announced, now=NOW + GRACE).rerun == [("batch-1", 1)]


def test_the_last_of_its_announced_retries_is_waited_for_before_a_batch_is_given_up() -> None:
    announced = run("failed", ended=timedelta(0), will_retry=True)
    assert plan(announced, max_attempts=1) == BatchRecovery([], [], [])
    assert plan(announced, max_attempts=1, now=NOW + GRACE).give_up == ["batch-1"]


def test_a_batch_read_as_open_while_its_run_was_ending_is_looked_at_again_later() -> None:
    ended = run("succeeded", ended=timedelta(seconds=1))
    assert plan(ended) == BatchRecovery([], [], [])
    assert plan(ended, now=NOW + GRACE).rerun == [("batch-1", 1)]


def test_a_batch_without_any_run_is_run_after_a_while() -> None:
    assert plan().rerun == [("batch-1", 0)]
    assert plan(batch=Open(claimed_at=NOW)) == BatchRecovery([], [], [])


def test_a_batch_that_a_person_called_off_waits_for_a_person() -> None:
    canceled = run("canceled", ended=timedelta(days=2))
    assert plan(canceled) == BatchRecovery([], [], ["batch-1"])
    again = run("failed", ended=MINUTE, run_id="r-2")
    assert plan(canceled, again).rerun == [("batch-1", 2)]
    assert plan(replace(again, run_id="r-0"), canceled).rerun == [("batch-1", 2)], "what ended last counts"


def test_a_batch_is_given_up_when_its_attempts_are_used_up() -> None:
    failed = [run("failed", ended=number * MINUTE, run_id=f"r-{number}") for number in range(3)]
    assert plan(*failed[:2]).rerun == [("batch-1", 2)]
    assert plan(*failed).give_up == ["batch-1"]


def test_runs_that_a_person_called_off_use_up_no_attempts() -> None:
    canceled = [run("canceled", ended=number * MINUTE, run_id=f"c-{number}") for number in range(1, 9)]
    assert plan(*canceled, run("failed", ended=timedelta(0))).rerun == [("batch-1", 9)]


def test_runs_that_a_budget_withdrew_park_nothing_and_use_up_nothing() -> None:
    withdrawn = [run("withdrawn", ended=number * MINUTE, run_id=f"w-{number}") for number in range(9)]
    assert plan(*withdrawn) == BatchRecovery([("batch-1", 0)], [], [])
    failed = [run("failed", ended=number * MINUTE, run_id=f"r-{number}") for number in range(3)]
    assert plan(*failed[:2], *withdrawn).rerun == [("batch-1", 2)]
    assert plan(*failed, *withdrawn).give_up == ["batch-1"]


def test_a_withdrawn_run_does_not_hide_that_a_person_called_off_the_one_before() -> None:
    canceled, withdrawn = run("canceled", ended=MINUTE), run("withdrawn", ended=timedelta(0), run_id="w-1")
    assert plan(canceled, withdrawn).parked == ["batch-1"]
    assert is_parked([canceled, withdrawn])
    assert not is_parked([withdrawn])


def test_the_run_after_a_withdrawn_one_has_a_key_of_its_own() -> None:
    """The key of the withdrawn run is known to the orchestrator, which would never run it again."""
    failed, withdrawn = run("failed", ended=MINUTE), run("withdrawn", ended=timedelta(0), run_id="w-1")
    assert run_key("batch-1", [failed, withdrawn]) == "batch-1:w-1"
    assert run_key("batch-1", [withdrawn]) == "batch-1:w-1"


batches = st.lists(
    st.builds(Open, batch_id=st.sampled_from(["batch-1", "batch-2", "batch-3"]), claimed_at=times.filter(bool)),
    unique_by=lambda batch: batch.batch_id,
    max_size=3,
)


@given(batches, st.data(), st.integers(1, 5))
def test_every_batch_gets_at_most_one_verdict_and_none_is_forgotten(
    open_batches: list[Open], data: st.DataObject, max_attempts: int
) -> None:
    runs = {batch.batch_id: data.draw(seen_runs) for batch in open_batches}

    def decided(now: datetime) -> BatchRecovery:
        return batches_to_run(open_batches, runs, now, grace=GRACE, max_attempts=max_attempts)

    def named(recovery: BatchRecovery) -> list[str]:
        return sorted([name for name, _ in recovery.rerun] + recovery.give_up + recovery.parked)

    idle = sorted(name for name, seen in runs.items() if not any(run.in_flight for run in seen))
    assert set(named(decided(NOW))) <= set(idle)
    assert named(decided(datetime(2026, 3, 3, tzinfo=UTC))) == idle, "in the end each has one verdict, and only one"


@given(batches, st.data())
def test_the_attempt_is_new_with_every_run_and_so_is_the_key_made_of_it(
    open_batches: list[Open], data: st.DataObject
) -> None:
    runs = {batch.batch_id: data.draw(seen_runs) for batch in open_batches}
    recovery = batches_to_run(open_batches, runs, NOW, grace=GRACE, max_attempts=3)
    assert all(attempt == sum(run.status != "withdrawn" for run in runs[name]) for name, attempt in recovery.rerun)


@given(seen_runs.filter(lambda runs: len(runs) <= 4))
def test_the_order_in_which_runs_are_listed_does_not_matter(runs: Sequence[RunSeen]) -> None:
    plans = [plan(*order) for order in permutations(runs)]
    assert all(other == plans[0] for other in plans)


# Old partitions

KEEP = timedelta(days=14)
seen_batches = st.lists(
    st.builds(
        BatchSeen,
        batch_id=st.uuids().map(str),
        changed_at=st.none() | st.timedeltas(timedelta(0), timedelta(days=60)).map(lambda age: NOW - age),
        unfinished=st.booleans(),
        in_flight=st.booleans(),
    ),
    unique_by=lambda batch: batch.batch_id,
)


def test_a_finished_batch_goes_when_its_time_is_over() -> None:
    old = BatchSeen("old", NOW - KEEP - MINUTE, unfinished=False, in_flight=False)
    young = replace(old, batch_id="young", changed_at=NOW - KEEP)
    assert prunable([old, young], NOW, KEEP) == ["old"]


@given(seen_batches, st.timedeltas(timedelta(0), timedelta(days=40)))
def test_no_batch_goes_that_is_at_work_unfinished_young_or_of_unknown_age(
    batches: list[BatchSeen], keep: timedelta
) -> None:
    gone = set(prunable(batches, NOW, keep))
    for batch in batches:
        kept = batch.in_flight or batch.unfinished or batch.changed_at is None or batch.changed_at >= NOW - keep
        assert (batch.batch_id in gone) == (not kept)


@given(seen_batches)
def test_what_may_go_today_may_go_tomorrow(batches: list[BatchSeen]) -> None:
    assert set(prunable(batches, NOW, KEEP)) <= set(prunable(batches, NOW + timedelta(days=1), KEEP))


@given(left=st.integers(1, 20), max_attempts=st.integers(1, 8))
def test_every_request_that_is_left_may_use_up_its_attempts_before_its_batch_is_given_up(
    left: int, max_attempts: int
) -> None:
    """One that kills its workers is given up by itself; its batch must not take the innocent with it before."""
    batch = Open(requests=left)
    failed = [
        RunSeen(f"run-{number}", "batch-1", "failed", NOW - timedelta(hours=2), NOW - timedelta(hours=1))
        for number in range(max_attempts * (1 + left))
    ]
    assert plan(*failed[:-1], batch=batch, max_attempts=max_attempts).rerun
    assert plan(*failed, batch=batch, max_attempts=max_attempts).give_up == ["batch-1"]


def test_pauses_double_and_a_success_ends_them() -> None:
    def runs(*statuses: RunStatus) -> list[RunSeen]:
        return [
            RunSeen(f"run-{number}", "batch-1", status, None, NOW + timedelta(seconds=number))
            for number, status in enumerate(statuses)
        ]

    def pause(*statuses: RunStatus) -> int:
        """How many seconds after the last run's end the next is due."""
        seen = runs(*statuses)
        end = seen[-1].ended_at or NOW
        for second in range(2000):
            after = end + timedelta(seconds=second)
            if next_turn(seen, after, grace=GRACE, max_attempts=99, backoff=timedelta(seconds=10)) != "wait":
                return second
        raise AssertionError

    assert [pause(*["failed"] * number) for number in (1, 2, 3, 4, 8)] == [0, 10, 20, 40, 300]
    assert pause("failed", "failed", "succeeded", "failed") == 0


def test_a_key_names_the_run_before_so_that_a_deleted_run_repeats_none() -> None:
    first, second = (
        RunSeen(f"run-{number}", "batch-1", "failed", None, NOW + timedelta(seconds=number)) for number in range(2)
    )
    keys = [run_key("batch-1", seen) for seen in ([], [first], [second, first], [second])]
    assert keys == ["batch-1:first", "batch-1:run-0", "batch-1:run-1", "batch-1:run-1"]
