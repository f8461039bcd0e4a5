"""GPU steps whose machine is taken: they go on from their checkpoint, on spot at first and then on-demand."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from decimal import Decimal

import dagster as dg
import pytest

from avatar_pipeline.spot.catalog import TablePrices, by_name
from avatar_pipeline.spot.executor.events import EventLog
from avatar_pipeline.spot.prices import prices_of
from avatar_pipeline.spot.types import CapacityType, Ending
from tests.spot.executor.harness import Bench

SPOT, ON_DEMAND = CapacityType.SPOT, CapacityType.ON_DEMAND
SUCCESS, FAILURE = dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE


def endings(bench: Bench, run: dg.DagsterRun, step: str = "count") -> list[tuple[Ending | None, CapacityType]]:
    return [(attempt.ending, attempt.placement.capacity_type) for attempt in bench.attempts(run, step)]


def chunks_done(bench: Bench) -> list[int]:
    return [said.more["chunk"] for said in bench.said("chunk")]


def result(bench: Bench) -> str:
    return hashlib.sha256((bench.folder / "result").read_bytes()).hexdigest()


def undisturbed(chunks: int) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(str(chunk).encode()).digest() for chunk in range(chunks))).hexdigest()


def after_start(bench: Bench, number: int) -> None:
    bench.until(lambda: len(bench.said("start")) > number, what=f"attempt {number}")


def test_three_interruptions_with_notice_resume_each_time_and_go_on_demand_after_the_second(spot: Bench) -> None:
    spot.plan(chunks=12, seconds=0.1)
    run = spot.launch()
    for number in range(3):
        after_start(spot, number)
        spot.until_saved(3 * (number + 1))
        spot.cluster.evict(spot.step_pod()["metadata"]["name"])
    assert spot.wait(run) is SUCCESS, spot.story()
    assert endings(spot, run) == [
        (Ending.INTERRUPTED, SPOT),
        (Ending.INTERRUPTED, SPOT),
        (Ending.INTERRUPTED, ON_DEMAND),
        (Ending.SUCCEEDED, ON_DEMAND),
    ]
    assert chunks_done(spot) == list(range(12)), "a chunk that was saved is not done again"
    assert result(spot) == undisturbed(12)
    assert spot.orphans() == []
    ended = spot.attempts(run)
    assert [attempt.instance_type for attempt in ended[2:]] == ["g5.xlarge", "g5.xlarge"]
    assert all(attempt.price and attempt.seconds for attempt in ended[2:])


def test_a_pod_is_told_what_its_placement_costs_and_the_record_of_its_end_what_its_machine_does(spot: Bench) -> None:
    spot.plan(chunks=2)
    run = spot.launch()
    assert spot.wait(run) is SUCCESS, spot.story()
    (start,) = spot.said("start")
    (attempt,) = spot.attempts(run)
    told = prices_of(attempt.placement, TablePrices())
    assert start.more["prices"] == [str(told.first), str(told.on_demand), str(told.cap)]
    assert start.more["profile"] == "gpu-small"
    record = EventLog(spot.instance).records(run.run_id, "count")[-1]
    on_demand = by_name(str(attempt.instance_type))
    assert attempt.price is not None and on_demand is not None
    assert attempt.price < on_demand.on_demand == Decimal(record["on_demand_price"])
    assert record["capacity_type"] == "spot"
    assert (
        attempt.placed_at - timedelta(seconds=1) <= datetime.fromisoformat(record["machine_since"]) < attempt.ended_at
    )


def test_kills_without_notice_resume_each_time_and_lose_a_chunk_at_most(spot: Bench) -> None:
    spot.plan(chunks=12, seconds=0.1)
    run = spot.launch()
    for number, node in enumerate(("spot", "spot", "on-demand")):
        after_start(spot, number)
        spot.until_saved(3 * (number + 1))
        name = spot.step_pod()["spec"]["nodeName"]
        assert name.startswith(node)
        spot.cluster.kill(name)
        if node == "on-demand":
            spot.cluster.add_node(spot.on_demand_node("on-demand-b"))
    assert spot.wait(run) is SUCCESS, spot.story()
    assert [ending for ending, _ in endings(spot, run)] == [Ending.INTERRUPTED] * 3 + [Ending.SUCCEEDED]
    assert result(spot) == undisturbed(12)
    assert spot.orphans() == []


def test_a_reclaimed_spot_machine_is_left_before_its_notice_runs_out(spot: Bench) -> None:
    spot.plan(chunks=6, seconds=0.1)
    run = spot.launch()
    spot.until_saved(2)
    spot.cluster.reclaim(spot.step_pod()["spec"]["nodeName"], notice_seconds=3)
    assert spot.wait(run) is SUCCESS, spot.story()
    assert [ending for ending, _ in endings(spot, run)] == [Ending.INTERRUPTED, Ending.SUCCEEDED]
    assert chunks_done(spot) == list(range(6))
    first = spot.attempts(run)[0]
    assert first.lost_seconds is not None and first.lost_seconds < 1


def test_an_op_without_a_guard_is_retried_too(spot: Bench) -> None:
    spot.plan(chunks=6, seconds=0.1)
    run = spot.launch("counting_unguarded")
    spot.until_saved(2)
    spot.cluster.evict(spot.step_pod()["metadata"]["name"])
    assert spot.wait(run) is SUCCESS, spot.story()
    assert [ending for ending, _ in endings(spot, run, "count_unguarded")] == [Ending.INTERRUPTED, Ending.SUCCEEDED]


def test_interruptions_leave_the_ops_own_retry_policy_alone(spot: Bench) -> None:
    spot.plan(chunks=6, seconds=0.1, attempts={"2": "error"}, misbehave_at=0)
    run = spot.launch("counting_with_policy", interruptions_before_on_demand=5)
    for number in range(2):
        after_start(spot, number)
        spot.until_saved(2 * (number + 1))
        spot.cluster.evict(spot.step_pod()["metadata"]["name"])
    assert spot.wait(run) is SUCCESS, spot.story()
    assert [ending for ending, _ in endings(spot, run, "count_with_policy")] == [
        Ending.INTERRUPTED,
        Ending.INTERRUPTED,
        Ending.USER_ERROR,
        Ending.SUCCEEDED,
    ]
    assert [said.more["retry"] for said in spot.said("start")] == [0, 0, 0, 1]


def test_a_step_that_needs_no_gpu_runs_beside_the_runs_process(spot: Bench) -> None:
    spot.plan(chunks=2)
    run = spot.launch("counting_then_more")
    assert spot.wait(run) is SUCCESS, spot.story()
    assert [said.attempt for said in spot.said("after")] == [None]
    assert len(spot.step_jobs()) == 1


def test_an_error_of_the_op_without_a_retry_policy_fails_the_run_at_once(spot: Bench) -> None:
    spot.plan(chunks=3, attempts={"0": "error"})
    run = spot.launch()
    assert spot.wait(run) is FAILURE
    assert [ending for ending, _ in endings(spot, run)] == [Ending.USER_ERROR]
    assert spot.orphans() == []


def test_more_interruptions_than_the_budget_fail_the_step_and_say_so(spot: Bench) -> None:
    spot.plan(chunks=40, seconds=0.1)
    run = spot.launch(interruption_budget=1)
    for number in range(2):
        after_start(spot, number)
        spot.until_saved(2 * (number + 1))
        spot.cluster.evict(spot.step_pod()["metadata"]["name"])
    assert spot.wait(run) is FAILURE
    failure = spot.failure(run)
    assert "1" in failure and "nterrupted" in failure
    assert spot.orphans() == []


@pytest.mark.parametrize("how", ["exit_3", "exit_0"])
def test_a_process_that_dies_without_a_word_is_noticed(spot: Bench, how: str) -> None:
    spot.plan(chunks=4, attempts={"0": how}, misbehave_at=2)
    run = spot.launch()
    if how == "exit_3":
        assert spot.wait(run) is FAILURE
        assert endings(spot, run) == [(Ending.USER_ERROR, SPOT)]
        assert "exit code 3" in spot.failure(run)
    else:
        assert spot.wait(run) is SUCCESS, spot.story()
        assert endings(spot, run) == [(Ending.SILENT_EXIT, SPOT), (Ending.SUCCEEDED, SPOT)]
        assert chunks_done(spot) == list(range(4))
    assert spot.orphans() == []
