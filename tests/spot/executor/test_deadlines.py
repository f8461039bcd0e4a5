"""Steps with a deadline: spot as long as there is time for it, on-demand when there is not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from avatar_pipeline.spot.executor.launching import DEADLINE_TAG, EXPECTED_TAG
from avatar_pipeline.spot.types import Ending
from tests.spot.executor.harness import Bench
from tests.spot.executor.test_interruptions import FAILURE, ON_DEMAND, SPOT, SUCCESS, chunks_done, endings


def due(seconds: float, *, work: float) -> dict[str, str]:
    return {
        DEADLINE_TAG: (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(),
        EXPECTED_TAG: str(work),
    }


def test_with_time_to_spare_a_step_goes_to_spot_and_without_it_on_demand(spot: Bench) -> None:
    spot.plan(chunks=2)
    relaxed = spot.launch(tags=due(7200, work=600), strategy="deadline", restart_seconds=60)
    assert spot.wait(relaxed) is SUCCESS, spot.story()
    assert endings(spot, relaxed) == [(Ending.SUCCEEDED, SPOT)]
    (spot.folder / "checkpoint").unlink()
    hurried = spot.launch(tags=due(660, work=600), strategy="deadline", restart_seconds=60)
    assert spot.wait(hurried) is SUCCESS, spot.story()
    assert endings(spot, hurried) == [(Ending.SUCCEEDED, ON_DEMAND)]


def test_a_step_that_waits_for_spot_is_given_to_on_demand_before_it_is_too_late(spot: Bench) -> None:
    spot.plan(chunks=2)
    spot.cluster.withhold({"karpenter.sh/capacity-type": "spot"})
    run = spot.launch(tags=due(86, work=20), strategy="deadline", restart_seconds=2, pending_seconds=600)
    assert spot.wait(run) is SUCCESS, spot.story()
    assert endings(spot, run) == [(Ending.NO_CAPACITY, SPOT), (Ending.SUCCEEDED, ON_DEMAND)]
    waited = spot.attempts(run)[0]
    assert waited.ended_at is not None
    assert (waited.ended_at - waited.placed_at).total_seconds() < 20


def test_a_step_that_turns_out_to_have_time_leaves_on_demand_for_spot_at_a_chunks_end(spot: Bench) -> None:
    spot.plan(chunks=40, seconds=0.1)
    run = spot.launch(tags=due(655, work=600), strategy="deadline", restart_seconds=0.1)
    assert spot.wait(run) is SUCCESS, spot.story()
    assert endings(spot, run) == [(Ending.MOVED, ON_DEMAND), (Ending.SUCCEEDED, SPOT)]
    assert chunks_done(spot) == list(range(40))
    first, second = spot.said("start")
    assert second.at > max(said.at for said in spot.said("chunk") if said.attempt == first.attempt), (
        "one after the other"
    )


def test_a_share_of_the_steps_runs_on_demand_as_ec2_would_have_it(spot: Bench) -> None:
    spot.plan(chunks=2)
    run = spot.launch(on_demand_base=1)
    assert spot.wait(run) is SUCCESS, spot.story()
    assert endings(spot, run) == [(Ending.SUCCEEDED, ON_DEMAND)]
    assert "base 1" in spot.attempts(run)[0].placement.reason


def test_a_deadline_that_cannot_be_read_fails_the_step_with_its_name(spot: Bench) -> None:
    spot.plan(chunks=2)
    run = spot.launch(tags={DEADLINE_TAG: "tomorrow"}, strategy="deadline")
    assert spot.wait(run) is FAILURE
    assert DEADLINE_TAG in spot.failure(run) and "tomorrow" in spot.failure(run)
    assert spot.step_jobs() == []


def test_a_profile_that_is_not_there_fails_the_step_and_names_those_that_are(spot: Bench) -> None:
    spot.plan(chunks=2)
    run = spot.launch(profile="gpu-huge")
    assert spot.wait(run) is FAILURE
    assert "gpu-huge" in spot.failure(run) and "gpu-small" in spot.failure(run)
