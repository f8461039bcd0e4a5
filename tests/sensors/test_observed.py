"""What is collected of attempts from a real Dagster instance, and that it is enough to settle them."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.events import EngineEventData
from dagster._core.execution.plan.objects import StepSuccessData

from avatar_pipeline.budget.types import Amounts, AttemptStart, Demand, Payer
from avatar_pipeline.observing import collect
from avatar_pipeline.settings import read_settings
from avatar_pipeline.spot import history
from avatar_pipeline.spot.types import Attempt, CapacityType, Ending, Offering, Placement
from avatar_pipeline.stages.line import Line, open_line
from avatar_pipeline.stages.observed import ObservedAttempt
from avatar_pipeline.stages.reconcile import reconcile
from tests.conftest import avatar_environment
from tests.stages.benches import make_line

SECOND = timedelta(seconds=1)
LATER = timedelta(minutes=5)
SAID = {"STEP_WORKER_STARTED": EngineEventData(), "STEP_SUCCESS": StepSuccessData(duration_ms=1.0)}
PLACEMENT = Placement(CapacityType.SPOT, (Offering("g5.xlarge", "a", CapacityType.SPOT),), "gpu-small", "spot: why")


class Clock:
    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def line(tmp_path: Path, clock: Clock) -> Iterator[Line]:
    line = make_line(tmp_path, clock)
    yield line
    line.ledger.close()


@pytest.fixture
def on_jobs(line: Line) -> Line:
    """The line where steps are Jobs."""
    return replace(line, settings=line.settings.model_copy(update={"executor": "k8s_spot"}))


@dg.op
def work() -> None:
    """Succeed."""


@dg.op(retry_policy=dg.RetryPolicy(max_retries=1))
def failing() -> None:
    """Fail, twice."""
    raise ValueError("no")


@dg.job
def working() -> None:
    """A step that succeeds."""
    work()


@dg.job
def failing_twice() -> None:
    """A step that has two attempts."""
    failing()


def begin(line: Line, run_id: str, step_key: str = "work", number: int = 0, **more: Any) -> str:
    key = f"{run_id}/{step_key}/{number}"
    price = Decimal("3.6")
    start = AttemptStart(key, run_id, step_key, number, step_key, "ada", line.clock(), price, "test", **more)
    line.spend.admit(Demand(f"step/{key}", step_key, Payer("acme", "ada"), Amounts(Decimal(1))))
    line.spend.begin(start, {f"step/{key}": 1})
    return key


def running(instance: dg.DagsterInstance, **tags: str) -> dg.DagsterRun:
    return instance.create_run_for_job(working, tags=tags, status=dg.DagsterRunStatus.STARTED)


def by_key(found: list[ObservedAttempt]) -> dict[str, ObservedAttempt]:
    return {one.key: one for one in found}


def record(instance: dg.DagsterInstance, run: dg.DagsterRun, written: dict[str, Any]) -> None:
    data = EngineEventData(metadata={"spot": dg.MetadataValue.json(written)})
    instance.report_engine_event("An attempt.", run, data, step_key="work")


def placed(number: int, at: datetime) -> Attempt:
    return Attempt(number, PLACEMENT, at)


def ended(number: int, at: datetime, **more: Any) -> Attempt:
    seen = {"instance_type": "g5.xlarge", "zone": "us-east-1a", "seconds": 30.0, "price": Decimal("0.4")} | more
    return replace(placed(number, at - 60 * SECOND), ending=Ending.INTERRUPTED, ended_at=at, **seen)


def test_an_attempt_at_work_is_seen_with_its_run_and_its_last_sign(line: Line, instance: dg.DagsterInstance) -> None:
    run, other = running(instance), running(instance)
    key = begin(line, run.run_id)
    line.beats.beat(run.run_id)
    (found,) = collect(instance, line)
    assert (found.key, found.asset, found.partition) == (key, "work", "ada")
    assert (found.ended_at, found.run_finished_at, found.profile) == (None, None, None)
    assert found.last_sign == line.beats.last([run.run_id])[run.run_id]
    assert other.run_id not in found.key


def test_an_attempt_of_a_run_that_is_gone_is_not_seen(line: Line, instance: dg.DagsterInstance) -> None:
    begin(line, "no-such-run")
    assert collect(instance, line) == []


def test_the_end_of_a_run_is_seen(line: Line, instance: dg.DagsterInstance) -> None:
    run = running(instance)
    begin(line, run.run_id)
    instance.report_run_failed(run)
    (found,) = collect(instance, line)
    assert found.run_finished_at is not None
    assert abs(found.run_finished_at - datetime.now(UTC)) < 10 * SECOND


def test_a_silent_steps_end_is_read_in_the_event_log(line: Line, clock: Clock, instance: dg.DagsterInstance) -> None:
    done = working.execute_in_process(instance=instance)
    failed = failing_twice.execute_in_process(instance=instance, raise_on_error=False)
    keys = [begin(line, done.run_id), *(begin(line, failed.run_id, "failing", number) for number in range(2))]
    assert all(one.ended_at is None for one in collect(instance, line)), "they are metered"
    clock.ahead = LATER
    found = by_key(collect(instance, line))
    assert [found[key].ending for key in keys] == ["succeeded", "user_error", "user_error"]
    ends = [found[key].ended_at for key in keys]
    assert None not in ends and ends[1] < ends[2]  # type: ignore[operator]
    assert set(reconcile(line, list(found.values())).settled) == set(keys)


def test_what_the_executor_recorded_is_seen(line: Line, instance: dg.DagsterInstance) -> None:
    run = running(instance, **{"dagster/partition": "batch-1"})
    now = datetime.now(UTC)
    key = begin(line, run.run_id, profile="gpu-small")
    since = (now - 50 * SECOND).isoformat()
    end = history.ended(
        ended(0, now),
        asset="rendered_clips",
        capacity_type="on-demand",
        on_demand_price="1.006",
        machine_since=since,
    )
    for written in (history.placed(placed(0, now - 60 * SECOND)), end, history.placed(placed(1, now))):
        record(instance, run, written)
    found = by_key(collect(instance, line))
    assert found[key] == ObservedAttempt(
        run_id=run.run_id,
        step_key="work",
        number=0,
        asset="rendered_clips",
        partition="batch-1",
        started_at=now - 50 * SECOND,
        ended_at=now,
        ending="interrupted",
        capacity_type="on-demand",
        instance_type="g5.xlarge",
        zone="us-east-1a",
        price=Decimal("0.4"),
        on_demand_price=Decimal("1.006"),
        profile="gpu-small",
        offerings=PLACEMENT.offerings,
    )
    second = found[f"{run.run_id}/work/1"]
    assert (second.ended_at, second.started_at, second.capacity_type) == (None, None, "spot")


def test_records_of_an_earlier_version_tell_the_start_by_the_seconds(line: Line, instance: dg.DagsterInstance) -> None:
    run, now = running(instance), datetime.now(UTC)
    begin(line, run.run_id, profile="gpu-small")
    record(instance, run, history.ended(ended(0, now)))
    (found,) = collect(instance, line)
    assert (found.started_at, found.asset, found.on_demand_price) == (now - 30 * SECOND, "work", None)


def test_a_workers_last_word_is_provisional_until_the_executor_has_written_its_own(
    line: Line, instance: dg.DagsterInstance
) -> None:
    done, now = working.execute_in_process(instance=instance), datetime.now(UTC)
    run = instance.get_run_by_id(done.run_id)
    assert run is not None
    key = begin(line, run.run_id, profile="gpu-small")
    record(instance, run, history.placed(placed(0, now)))
    for kind in ("STEP_WORKER_STARTED", "STEP_SUCCESS"):
        said = dg.DagsterEvent(kind, "working", step_key="work", event_specific_data=SAID[kind])
        instance.report_dagster_event(said, run.run_id)
    (found,) = collect(instance, line)
    assert (found.ending, found.provisional) == ("succeeded", True)
    record(instance, run, history.ended(replace(ended(0, now), ending=Ending.SUCCEEDED)))
    (found,) = collect(instance, line)
    assert (found.key, found.ending, found.provisional) == (key, "succeeded", False)


def test_an_attempt_that_nobody_saw_end_has_no_end_though_another_followed(
    line: Line, instance: dg.DagsterInstance
) -> None:
    run, now = running(instance), datetime.now(UTC)
    key = begin(line, run.run_id, profile="gpu-small")
    for number in range(2):
        record(instance, run, history.placed(placed(number, now + number * SECOND)))
    found = by_key(collect(instance, line))
    assert found[key].ended_at is None
    assert reconcile(line, list(found.values())).settled == (key,)


def test_a_pod_that_died_before_its_worker_began_is_found_within_the_hour(
    on_jobs: Line, line: Line, clock: Clock, instance: dg.DagsterInstance
) -> None:
    run, now = running(instance), datetime.now(UTC)
    record(instance, run, history.ended(ended(0, now)))
    assert collect(instance, on_jobs) == [], "its run is at work; it is looked at when that is over"
    instance.report_run_failed(run)
    assert collect(instance, line) == [], "without Jobs there are no pods"
    found = collect(instance, on_jobs)
    assert reconcile(on_jobs, found).found == (f"{run.run_id}/work/0",)
    assert reconcile(on_jobs, collect(instance, on_jobs)).found == ()
    clock.ahead = timedelta(hours=2)
    assert collect(instance, on_jobs) == []


def test_a_step_that_money_was_put_aside_for_and_that_never_began_is_seen_with_its_run(
    line: Line, clock: Clock, instance: dg.DagsterInstance
) -> None:
    run = running(instance)
    key = f"step/{run.run_id}/work/0"
    line.spend.admit(Demand(key, "work", Payer("acme", "ada"), Amounts(Decimal(1))))
    assert collect(instance, line) == []
    clock.ahead = timedelta(minutes=31)
    assert reconcile(line, collect(instance, line)).extended == (key,)
    instance.report_run_failed(run)
    clock.ahead = timedelta(minutes=62)
    assert reconcile(line, collect(instance, line)).closed == (key,)


def test_a_step_that_was_killed_is_settled_up_to_its_last_sign(home: Path, tmp_path: Path) -> None:
    """A real run in a process of its own, killed without notice; its run is closed as the recovery sensor does it."""
    dagster_home = tmp_path / "dagster"
    dagster_home.mkdir()
    environment = {**avatar_environment(home), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "tests.sensors.killed_step", str(dagster_home)]
    worker = subprocess.Popen(command, env=environment, cwd=Path(__file__).parents[2])
    try:
        with open_line(read_settings()) as line:
            patience = time.monotonic() + 60
            while not (attempts := line.spend.open_attempts()):
                assert worker.poll() is None and time.monotonic() < patience, "the step never began"
                time.sleep(0.1)
            worker.kill()
            worker.wait()
            killed_at = datetime.now(UTC)
            (attempt,) = attempts
            with dg.DagsterInstance.local_temp(str(dagster_home)) as instance:
                run = instance.get_run_by_id(attempt.run_id)
                assert run is not None
                assert reconcile(line, collect(instance, line)).settled == (), "its run is not closed yet"
                instance.report_run_failed(run)
                late = replace(line, clock=lambda: killed_at + LATER)
                assert reconcile(late, collect(instance, late)).settled == (attempt.key,)
                assert reconcile(late, collect(instance, late)).settled == ()
            settled = line.spend.attempt(attempt.key)
            assert settled is not None and settled.ended_at is not None
            assert settled.started_at <= settled.ended_at <= killed_at
            assert (settled.ending, line.spend.open_attempts()) == ("vanished", [])
    finally:
        worker.kill()
