"""The verdict on made-up outcomes: each thing that may go wrong is told; what is right is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from avatar_pipeline.spot.types import CapacityType, Ending
from tests.spot.chaos.acts import KINDS
from tests.spot.chaos.model import EITHER, ON_DEMAND, SPOT, Next, Past, Rules, what_follows
from tests.spot.chaos.scenario import Act, Scenario, Shape
from tests.spot.chaos.verdict import AttemptSeen, Found, HitSeen, StepSeen, WorkerSeen, judge, undisturbed

INTERRUPTED, SUCCEEDED, MISTAKE = Ending.INTERRUPTED, Ending.SUCCEEDED, Ending.USER_ERROR
CHUNKS = 3


GUARDED = Shape("guarded")
USUAL = Rules()


def plan_of(*kinds: str, shape: Shape = GUARDED, ends: str = "SUCCESS") -> Scenario:
    lives = tuple((Act(kind, "running"),) for kind in kinds)
    return Scenario("0:0", shape, USUAL, "nodes", CHUNKS, 0.1, {"a": lives}, frozenset({ends}))


def step_of(
    *attempts: tuple[Ending | None, CapacityType], hits: tuple[str, ...] = (), begun: tuple[int, ...] = (0, 1, 2)
) -> StepSeen:
    """Return a step whose attempts came one after the other, the first of them with these hits."""
    return StepSeen(
        attempts=tuple(AttemptSeen(n, ending, where, "gpu-small") for n, (ending, where) in enumerate(attempts)),
        workers=tuple(WorkerSeen(number, 10.0 * number, 10.0 * number + 5, 0) for number in range(len(attempts))),
        begun=begun,
        result=undisturbed(CHUNKS),
        jobs=len(attempts),
        hits=tuple(HitSeen(KINDS[name], number) for number, name in enumerate(hits)),
    )


def found_of(step: StepSeen, status: str = "SUCCESS", **more: object) -> Found:
    return Found(status, 3.0, {"a": step}, **more)  # type: ignore[arg-type]


EVICTED = step_of((INTERRUPTED, SPOT), (SUCCEEDED, SPOT), hits=("evict",))
KILLED = step_of((INTERRUPTED, SPOT), (SUCCEEDED, SPOT), hits=("kill_pod",), begun=(0, 1, 1, 2))


@pytest.mark.parametrize(
    ("plan", "found"),
    [
        (plan_of(), found_of(step_of((SUCCEEDED, SPOT)))),
        (plan_of("evict"), found_of(EVICTED)),
        (plan_of("kill_pod"), found_of(KILLED)),
        (plan_of("outage"), found_of(step_of((SUCCEEDED, SPOT), hits=("outage",)))),
        (
            plan_of("error", ends="FAILURE"),
            found_of(replace(step_of((MISTAKE, SPOT), hits=("error",)), result=None), "FAILURE"),
        ),
        (
            plan_of("cancel", ends="CANCELED"),
            found_of(replace(step_of((Ending.CANCELLED, SPOT), hits=("cancel",)), result=None), "CANCELED"),
        ),
    ],
    ids=["undisturbed", "evicted", "killed", "outage", "error", "cancelled"],
)
def test_a_run_that_went_as_it_should_is_right(plan: Scenario, found: Found) -> None:
    assert judge(plan, found) == []


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (found_of(EVICTED, "FAILURE"), "the run ended as FAILURE, not SUCCESS"),
        (found_of(EVICTED, "STARTED", hung=True), "the run hung"),
        (found_of(EVICTED, orphans=["dagster-step-1"]), "the Job dagster-step-1 was left"),
        (found_of(EVICTED, processes=[17]), "1 processes were left"),
        (found_of(EVICTED, missed=["a: waited"]), "not as planned: a: waited"),
        (found_of(replace(EVICTED, result=b"another")), "its result is not that of an undisturbed run"),
        (found_of(replace(EVICTED, result=None)), "its result is not that of an undisturbed run"),
        (found_of(replace(EVICTED, begun=(0, 0, 1, 2))), "1 chunks were begun again, 0 may be"),
        (found_of(replace(EVICTED, jobs=3)), "3 Jobs for 2 attempts"),
        (found_of(replace(EVICTED, hits=())), "attempt 0 was interrupted after nothing, not succeeded"),
        (
            found_of(step_of((MISTAKE, SPOT), (SUCCEEDED, SPOT), hits=("evict",))),
            "attempt 0 was user_error after evict, not interrupted",
        ),
        (
            found_of(step_of((INTERRUPTED, SPOT), (SUCCEEDED, ON_DEMAND), hits=("evict",))),
            "attempt 1 was on on-demand, not spot",
        ),
        (
            found_of(
                replace(EVICTED, attempts=(EVICTED.attempts[0], replace(EVICTED.attempts[1], profile="gpu-medium")))
            ),
            "attempt 1 had the profile gpu-medium, not gpu-small",
        ),
        (
            found_of(step_of((INTERRUPTED, SPOT), hits=("evict",))),
            "no attempt follows interrupted, and the step is not over",
        ),
        (
            found_of(step_of((INTERRUPTED, SPOT), (SUCCEEDED, SPOT), (SUCCEEDED, SPOT), hits=("evict",))),
            "attempt 2 came after success",
        ),
        (
            found_of(replace(EVICTED, workers=(WorkerSeen(0, 0.0, 5.0, 0), WorkerSeen(1, 10.0, 15.0, 1)))),
            "attempt 1 was told that it is retry 1, not 0",
        ),
        (
            found_of(replace(EVICTED, workers=(WorkerSeen(0, 0.0, 11.0, 0), WorkerSeen(1, 10.0, 15.0, 0)))),
            "attempts 0 and 1 were at work side by side for 1.00 s",
        ),
        (
            found_of(replace(EVICTED, workers=(WorkerSeen(0, 0.0, None, 0), WorkerSeen(1, 10.0, 15.0, 0)))),
            "attempt 0 never ended, and attempt 1 began",
        ),
        (found_of(EVICTED, cpu=["digest"]), "the step after ran, and the run ended as SUCCESS"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_went_wrong_is_told(found: Found, told: str) -> None:
    wrong = judge(plan_of("evict"), found)
    assert any(told in sentence for sentence in wrong), wrong


def test_more_than_a_chunk_lost_by_a_kill_is_told() -> None:
    wrong = judge(plan_of("kill_pod"), found_of(replace(KILLED, begun=(0, 1, 0, 1, 2))))
    assert wrong == ["a: 2 chunks were begun again, 1 may be"]


def test_a_step_that_stays_on_spot_after_the_limit_is_told() -> None:
    step = step_of((INTERRUPTED, SPOT), (INTERRUPTED, SPOT), (SUCCEEDED, SPOT), hits=("evict", "evict"))
    assert judge(plan_of("evict", "evict"), found_of(step)) == ["a: attempt 2 was on spot, not on-demand"]


def test_a_retry_that_a_cancelled_run_makes_is_told() -> None:
    step = step_of((Ending.CANCELLED, SPOT), (Ending.CANCELLED, SPOT), hits=("cancel",))
    wrong = judge(plan_of("cancel", ends="CANCELED"), found_of(replace(step, result=None), "CANCELED"))
    assert wrong == ["a: attempt 0 was cancelled after nothing, not succeeded"]


def test_a_cpu_step_that_ran_twice_or_on_something_else_is_told() -> None:
    plan = plan_of(shape=Shape("then_cpu", cpu_step=True))
    wrong = judge(plan, found_of(step_of((SUCCEEDED, SPOT)), cpu=["x", "x"]))
    assert wrong == ["the step after got ['x', 'x']", "the step after ran 2 times"]


def past(*endings: tuple[Ending, CapacityType]) -> tuple[Past, ...]:
    return tuple(Past(ending, where) for ending, where in endings)


@pytest.mark.parametrize(
    ("history", "rules", "following"),
    [
        (past(), Rules(), Next(frozenset({SPOT}), "gpu-small")),
        (past(), Rules(ladder=0), Next(frozenset({ON_DEMAND}), "gpu-small")),
        (past((INTERRUPTED, SPOT)), Rules(ladder=1), Next(frozenset({ON_DEMAND}), "gpu-small")),
        (past((Ending.VANISHED, SPOT)), Rules(ladder=1), Next(frozenset({SPOT}), "gpu-small")),
        (past((Ending.SILENT_EXIT, SPOT)), Rules(budget=1), Next(frozenset({ON_DEMAND}), "gpu-small")),
        (past((Ending.OUT_OF_MEMORY, SPOT)), Rules(), Next(frozenset({SPOT}), "gpu-medium")),
        (past((Ending.NO_CAPACITY, SPOT)), Rules(), Next(frozenset({ON_DEMAND}), "gpu-small")),
        (past((Ending.NO_CAPACITY, SPOT), (Ending.NO_CAPACITY, ON_DEMAND)), Rules(), Next(EITHER, "gpu-small")),
        (past((MISTAKE, SPOT)), Rules(retries=1), Next(frozenset({SPOT}), "gpu-small")),
    ],
)
def test_what_follows_from_a_history(history: tuple[Past, ...], rules: Rules, following: Next) -> None:
    assert what_follows(history, rules) == following


@pytest.mark.parametrize(
    ("history", "rules", "why"),
    [
        (past((SUCCEEDED, SPOT)), Rules(), "success"),
        (past((MISTAKE, SPOT)), Rules(), "failure: the RetryPolicy is used up"),
        (past((MISTAKE, SPOT), (Ending.IMAGE_PULL, SPOT)), Rules(retries=1), "failure: the RetryPolicy is used up"),
        (past((Ending.OUT_OF_MEMORY, SPOT), (Ending.OUT_OF_MEMORY, SPOT)), Rules(), "failure: out of memory twice"),
        (past((INTERRUPTED, SPOT), (INTERRUPTED, ON_DEMAND)), Rules(budget=1), "failure: interrupted too often"),
        (past((Ending.NO_CAPACITY, ON_DEMAND)), Rules(budget=0), "failure: interrupted too often"),
    ],
)
def test_what_ends_a_step(history: tuple[Past, ...], rules: Rules, why: str) -> None:
    assert what_follows(history, rules).over == why


def test_a_run_that_replaces_another_has_budgets_of_its_own_and_the_same_place_on_the_ladder() -> None:
    history = past((INTERRUPTED, SPOT), (INTERRUPTED, SPOT), (MISTAKE, ON_DEMAND))
    assert what_follows(history, Rules(budget=1, retries=0)).over
    assert what_follows(history, Rules(budget=10), since=3) == Next(frozenset({ON_DEMAND}), "gpu-small")
