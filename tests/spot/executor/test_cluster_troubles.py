"""What a cluster does to a run beside taking machines: no capacity, lost nodes, silence, broken images."""

from __future__ import annotations

import dagster as dg

from avatar_pipeline.spot.types import CapacityType, Ending
from tests.spot.executor.harness import Bench
from tests.spot.executor.test_interruptions import (
    FAILURE,
    ON_DEMAND,
    SPOT,
    SUCCESS,
    after_start,
    chunks_done,
    endings,
    result,
    undisturbed,
)


def test_without_spot_capacity_the_step_goes_on_demand_at_once(spot: Bench) -> None:
    spot.plan(chunks=3)
    spot.cluster.withhold({"karpenter.sh/capacity-type": "spot"})
    run = spot.launch(pending_seconds=1)
    assert spot.wait(run) is SUCCESS, spot.story()
    assert endings(spot, run) == [(Ending.NO_CAPACITY, SPOT), (Ending.SUCCEEDED, ON_DEMAND)]
    assert "no spot capacity" in spot.attempts(run)[1].placement.reason


def test_a_run_that_is_to_have_spot_only_waits_for_spot_and_pays_nothing_for_it(spot: Bench) -> None:
    spot.plan(chunks=3)
    spot.cluster.withhold({"karpenter.sh/capacity-type": "spot"})
    run = spot.launch(pending_seconds=1, interruption_budget=0, tags={"avatar/capacity": "spot"})
    spot.until(lambda: len(spot.attempts(run)) > 2, what="a third attempt")
    spot.cluster.restore({"karpenter.sh/capacity-type": "spot"})
    assert spot.wait(run) is SUCCESS, spot.story()
    *waits, last = endings(spot, run)
    assert set(waits) == {(Ending.NO_CAPACITY, SPOT)} and last == (Ending.SUCCEEDED, SPOT)
    assert "spot only (tag avatar/capacity); no capacity, tried again" in spot.attempts(run)[1].placement.reason


def test_a_run_whose_capacity_tag_means_nothing_fails_and_says_what_it_may_be(spot: Bench) -> None:
    spot.plan(chunks=3)
    run = spot.launch(tags={"avatar/capacity": "cheap"})
    assert spot.wait(run) is FAILURE
    assert "avatar/capacity is 'cheap'" in spot.failure(run)
    assert spot.step_jobs() == []


def test_a_node_that_is_lost_while_the_pod_starts_is_an_interruption(spot: Bench) -> None:
    spot.plan(chunks=3)
    spot.cluster.start_delay("gpu:1", 30)
    run = spot.launch()
    pod = spot.until(spot.starting_step_pods, what="a pod that starts")[0]
    spot.cluster.start_delay("gpu:1", 0)
    spot.cluster.kill(pod["spec"]["nodeName"])
    assert spot.wait(run) is SUCCESS, spot.story()
    assert [ending for ending, _ in endings(spot, run)] == [Ending.INTERRUPTED, Ending.SUCCEEDED]


def test_an_api_server_that_is_away_fails_nothing(spot: Bench) -> None:
    spot.plan(chunks=30, seconds=0.1)
    run = spot.launch()
    spot.until_saved(2)
    spot.cluster.outage(2.5)
    assert spot.wait(run) is SUCCESS, spot.story()
    assert endings(spot, run) == [(Ending.SUCCEEDED, SPOT)]
    assert any("cannot be reached" in message for message in spot.messages(run))


def test_a_step_that_is_interrupted_while_the_api_server_is_away_is_launched_when_it_is_back(spot: Bench) -> None:
    spot.plan(chunks=8, seconds=0.1)
    run = spot.launch()
    spot.until_saved(2)
    pod = spot.step_pod()["metadata"]["name"]
    spot.cluster.outage(3)
    spot.cluster.evict(pod)
    assert spot.wait(run) is SUCCESS, spot.story()
    assert [ending for ending, _ in endings(spot, run)] == [Ending.INTERRUPTED, Ending.SUCCEEDED]
    assert chunks_done(spot) == list(range(8))


def test_a_created_job_whose_answer_was_lost_is_not_created_twice(spot: Bench) -> None:
    spot.plan(chunks=3)
    run = spot.launch()
    spot.cluster.drop(1, method="POST", path="/jobs$")
    assert spot.wait(run) is SUCCESS, spot.story()
    assert len(spot.said("start")) == 1


def test_a_resumed_run_worker_takes_over_the_running_step(spot: Bench) -> None:
    spot.plan(chunks=30, seconds=0.1)
    run = spot.launch()
    spot.until_saved(3)
    spot.kill_run_worker(run)
    spot.start(run, resume=1)
    assert spot.wait(run) is SUCCESS, spot.story()
    assert len(spot.said("start")) == 1, "the step was not disturbed"
    assert endings(spot, run) == [(Ending.SUCCEEDED, SPOT)]


def test_a_resumed_run_worker_goes_on_with_the_same_ladder(spot: Bench) -> None:
    spot.plan(chunks=12, seconds=0.1)
    run = spot.launch()
    spot.until_saved(2)
    spot.cluster.evict(spot.step_pod()["metadata"]["name"])
    after_start(spot, 1)
    spot.until_saved(4)
    spot.kill_run_worker(run)
    spot.cluster.evict(spot.step_pod()["metadata"]["name"])
    spot.until(lambda: not spot.running_step_pods(), what="the end of the pod")
    spot.start(run, resume=1)
    assert spot.wait(run) is SUCCESS, spot.story()
    assert endings(spot, run) == [
        (Ending.INTERRUPTED, SPOT),
        (Ending.INTERRUPTED, SPOT),
        (Ending.SUCCEEDED, ON_DEMAND),
    ]
    assert chunks_done(spot) == list(range(12))


def test_a_run_that_replaces_a_lost_one_knows_its_attempts_and_leaves_no_second_worker(spot: Bench) -> None:
    spot.plan(chunks=30, seconds=0.1)
    run = spot.launch(interruptions_before_on_demand=1)
    spot.until_saved(2)
    spot.cluster.evict(spot.step_pod()["metadata"]["name"])
    after_start(spot, 1)
    spot.until_saved(6)
    spot.kill_run_worker(run)
    spot.instance.report_run_failed(run)
    new = spot.again(run)
    assert spot.wait(new) is SUCCESS, spot.story()
    capacity = [attempt.placement.capacity_type for attempt in spot.attempts(new)]
    assert capacity == [CapacityType.SPOT, CapacityType.ON_DEMAND, CapacityType.ON_DEMAND]
    assert result(spot) == undisturbed(30)
    spot.until(lambda: not spot.orphans(), what="no orphans")


def test_a_cancelled_run_leaves_no_job_and_does_not_ask_for_a_retry(spot: Bench) -> None:
    spot.plan(chunks=300, seconds=0.1)
    run = spot.launch()
    spot.until_saved(2)
    spot.cancel(run)
    assert spot.wait(run) is dg.DagsterRunStatus.CANCELED, spot.story()
    spot.until(lambda: not spot.orphans() and not spot.running_step_pods(), what="no orphans")
    assert len(spot.said("start")) == 1


def test_a_run_cancelled_while_the_api_server_is_away_leaves_no_job(spot: Bench) -> None:
    spot.plan(chunks=300, seconds=0.1)
    run = spot.launch()
    spot.until_saved(2)
    pid = spot.run_worker_pid(run)
    spot.instance.report_run_canceling(run)
    spot.cluster.outage(2)
    spot.terminate(pid)
    assert spot.wait(run) is dg.DagsterRunStatus.CANCELED, spot.story()
    spot.until(lambda: not spot.orphans() and not spot.running_step_pods(), what="no orphans")


def test_out_of_memory_takes_the_next_bigger_profile_once_and_then_fails(spot: Bench) -> None:
    spot.plan(chunks=300, seconds=0.1)
    spot.add_big_node()
    run = spot.launch()
    for number in range(2):
        after_start(spot, number)
        spot.cluster.oom(spot.step_pod()["metadata"]["name"])
    assert spot.wait(run) is FAILURE
    profiles = [(attempt.ending, attempt.placement.profile) for attempt in spot.attempts(run)]
    assert profiles == [(Ending.OUT_OF_MEMORY, "gpu-small"), (Ending.OUT_OF_MEMORY, "gpu-medium")]
    assert "memory" in spot.failure(run)


def test_an_image_that_cannot_be_pulled_fails_the_step_and_names_it(spot: Bench) -> None:
    spot.plan(chunks=3)
    spot.cluster.fail_pulls("gpu:1")
    run = spot.launch(image_pull_seconds=1)
    assert spot.wait(run) is FAILURE
    assert endings(spot, run) == [(Ending.IMAGE_PULL, SPOT)]
    assert "gpu:1" in spot.failure(run)
    assert spot.orphans() == []


def test_a_job_that_somebody_deleted_is_launched_again(spot: Bench) -> None:
    spot.plan(chunks=30, seconds=0.1)
    run = spot.launch()
    spot.until_saved(2)
    spot.kill_step_process()
    spot.cluster.delete_job(spot.step_jobs()[0]["metadata"]["name"], "Background")
    assert spot.wait(run) is SUCCESS, spot.story()
    assert endings(spot, run)[-1] == (Ending.SUCCEEDED, SPOT)
    assert len(endings(spot, run)) == 2
