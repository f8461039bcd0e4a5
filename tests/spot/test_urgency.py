"""Placement under a deadline: what the policy is told of spot, when an attempt moves, and that none is late."""

import random
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from avatar_pipeline.spot.deadline import DeadlineState, Decision, Mode
from avatar_pipeline.spot.offerings import Marks
from avatar_pipeline.spot.placement import (
    Fleet,
    PlacementPolicy,
    Situation,
    Strategy,
    Work,
    place,
    should_move,
    while_pending,
)
from avatar_pipeline.spot.types import Attempt, CapacityType, Ending, Offering, Placement, Progress
from avatar_pipeline.spot.urgency import spot_seen

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SPOT, ON_DEMAND = CapacityType.SPOT, CapacityType.ON_DEMAND
SPOTS = tuple(Offering(kind, "a", SPOT) for kind in ("g5.xlarge", "g6.xlarge"))
ON_DEMANDS = tuple(Offering(kind, "a", ON_DEMAND) for kind in ("g5.xlarge", "g6.xlarge"))
RESTART = 180.0
POLICY = PlacementPolicy(strategy=Strategy.DEADLINE, interruption_budget=1000)
TTL = POLICY.mark_ttl


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


def work(slack: float, left: float = 3600.0) -> Work:
    """Work with `slack` seconds more than it needs."""
    return Work(NOW + timedelta(seconds=left + slack), left, 3600.0, RESTART)


def situation(*history: Attempt, **changes: object) -> Situation:
    whole = Situation(history, SPOTS, ON_DEMANDS, "gpu", Marks(), Fleet(), None, NOW)
    return replace(whole, **changes)  # type: ignore[arg-type]


def attempt(
    capacity_type: CapacityType, began: float, ending: Ending | None = None, ended: float = 0.0, number: int = 0
) -> Attempt:
    """An attempt placed `began` minutes ago and ended `ended` minutes ago."""
    offerings = SPOTS if capacity_type is SPOT else ON_DEMANDS
    at = None if ending is None else NOW - minutes(ended)
    return Attempt(number, Placement(capacity_type, offerings, "gpu", ""), NOW - minutes(began), ending, at)


def saved(one: Attempt, minutes_ago: float = 0.5) -> Attempt:
    return replace(one, progress=Progress(1, 2, 3600.0, NOW - minutes(minutes_ago)))


def test_with_time_to_spare_it_is_spot_and_without_on_demand() -> None:
    assert place(situation(work=work(3600)), POLICY).reason == "spot: spot is there"
    late = place(situation(work=work(300)), POLICY)
    assert (late.capacity_type, late.offerings) == (ON_DEMAND, ON_DEMANDS)
    assert late.reason == "on-demand: 5 min to spare: an interruption of spot would make it late"


def test_many_interruptions_do_not_end_spot_while_there_is_time() -> None:
    interrupted = [attempt(SPOT, 30 - n, Ending.INTERRUPTED, 29 - n, n) for n in range(9)]
    assert place(situation(*interrupted, work=work(36000)), POLICY).capacity_type is SPOT
    assert place(situation(*interrupted, work=None), POLICY).capacity_type is ON_DEMAND


def test_without_spot_capacity_and_with_time_the_step_queues_for_spot() -> None:
    marks = Marks().failed(SPOTS, NOW)
    queued = place(situation(work=work(36000), marks=marks), POLICY)
    assert (queued.capacity_type, queued.offerings) == (SPOT, SPOTS)
    assert queued.reason.endswith("in reserve: wait")
    assert place(situation(work=work(415), marks=marks), POLICY).capacity_type is ON_DEMAND


def test_nothing_is_queued_that_would_be_given_up_at_the_next_look() -> None:
    marks = Marks().failed(SPOTS, NOW)
    for slack in range(0, 2400, 20):
        now = situation(work=work(float(slack), left=1800.0), marks=marks)
        placed = place(now, POLICY)
        if placed.capacity_type is SPOT:
            later = replace(now, now=NOW + timedelta(seconds=5))
            assert while_pending(later, Attempt(0, placed, NOW), POLICY) is None


def test_a_pending_attempt_has_the_time_that_a_launch_takes() -> None:
    pending = attempt(SPOT, began=1)
    assert while_pending(situation(pending, work=work(600)), pending, POLICY) is None
    assert while_pending(situation(pending, work=work(300)), pending, POLICY) is not None


def test_an_attempt_that_waits_too_long_for_its_deadline_goes_to_on_demand() -> None:
    waited = attempt(SPOT, began=20)
    assert while_pending(situation(waited, work=work(36000)), waited, POLICY) is None
    given_up = while_pending(situation(waited, work=work(400)), waited, POLICY)
    assert given_up is not None
    assert given_up.offerings == ON_DEMANDS
    nowhere = situation(waited, work=work(400), marks=Marks().failed(ON_DEMANDS, NOW))
    assert while_pending(nowhere, waited, POLICY) is None


def test_what_waits_on_on_demand_is_not_given_up() -> None:
    waiting = attempt(ON_DEMAND, began=20)
    assert while_pending(situation(waiting, work=work(100)), waiting, POLICY) is None


def test_spot_that_has_been_back_for_long_enough_is_worth_a_move() -> None:
    lost = attempt(SPOT, 90, Ending.INTERRUPTED, 60)
    running = saved(attempt(ON_DEMAND, 60, number=1))
    moved = should_move(situation(lost, running, work=work(7200)), running, POLICY)
    assert moved is not None
    assert (moved.capacity_type, moved.offerings) == (SPOT, SPOTS)
    assert moved.reason.startswith("spot: spot is back, and likely to stay")


@pytest.mark.parametrize(
    ("why", "change"),
    [
        ("it has just begun", {"began": 8.0}),
        ("little is left", {"left": 500.0}),
        ("time is short", {"slack": 300.0}),
        ("spot has no capacity", {"marks": Marks().failed(SPOTS, NOW)}),
        ("on-demand is to have its share", {"policy": replace(POLICY, on_demand_base=1)}),
        ("no interruption is left", {"policy": replace(POLICY, interruption_budget=1)}),
        ("nothing was saved", {"saved": False}),
        ("spot was away a moment ago", {"lost": 3.2}),
        ("there is no deadline", {"work": False}),
    ],
)
def test_an_attempt_stays_on_on_demand_where_a_move_does_not_pay(why: str, change: dict[str, object]) -> None:
    lost = attempt(SPOT, 90, Ending.INTERRUPTED, float(change.get("lost", 60.0)))  # type: ignore[arg-type]
    running = attempt(ON_DEMAND, float(change.get("began", 60.0)), number=1)  # type: ignore[arg-type]
    running = saved(running) if change.get("saved", True) else running
    slack, left = float(change.get("slack", 7200.0)), float(change.get("left", 3600.0))  # type: ignore[arg-type]
    now = situation(
        lost,
        running,
        work=work(slack, left) if change.get("work", True) else None,
        marks=change.get("marks", Marks()),
        fleet=Fleet(on_demand=1),
    )
    assert should_move(now, running, change.get("policy", POLICY)) is None, why  # type: ignore[arg-type]


def test_a_dear_spot_market_is_no_place_to_move_to() -> None:
    lost, running = attempt(SPOT, 90, Ending.INTERRUPTED, 60), saved(attempt(ON_DEMAND, 60, number=1))
    dear = situation(lost, running, work=work(7200), spot_price=Decimal("1.2"), on_demand_price=Decimal("1.1"))
    assert should_move(dear, running, POLICY) is None


def test_a_running_attempt_leaves_spot_while_an_interruption_would_make_it_late() -> None:
    running = saved(attempt(SPOT, 60))
    assert should_move(situation(running, work=work(600)), running, POLICY) is None
    moved = should_move(situation(running, work=work(230)), running, POLICY)
    assert moved is not None
    assert moved.offerings == ON_DEMANDS


def test_a_running_attempt_stays_on_spot_where_the_move_itself_would_make_it_late() -> None:
    running = saved(attempt(SPOT, 60))
    assert should_move(situation(running, work=work(100)), running, POLICY) is None
    without = situation(running, work=work(230), marks=Marks().failed(ON_DEMANDS, NOW))
    assert should_move(without, running, POLICY) is None


def test_work_since_the_last_checkpoint_is_done_but_at_risk() -> None:
    """Ten minutes ago 100 s were missing; these ten minutes would be lost with the machine."""
    running = saved(attempt(SPOT, 60), minutes_ago=10)
    moved = should_move(situation(running, work=work(-100)), running, POLICY)
    assert moved is not None
    assert should_move(situation(saved(running, 0), work=work(500)), saved(running, 0), POLICY) is None


def test_what_left_spot_for_its_deadline_goes_to_on_demand_even_if_its_work_was_saved() -> None:
    left = saved(attempt(SPOT, 60, Ending.MOVED))
    assert place(situation(left, work=work(2000)), POLICY).reason == "on-demand: moved off spot for its deadline"
    back = saved(attempt(ON_DEMAND, 60, Ending.MOVED))
    assert place(situation(back, work=work(2000)), POLICY).capacity_type is SPOT


def test_what_attempts_met_is_what_is_known_of_spot() -> None:
    ran = attempt(SPOT, 60, Ending.INTERRUPTED, 40)
    waited = attempt(SPOT, 40, Ending.NO_CAPACITY, 30)
    on_demand = attempt(ON_DEMAND, 30, Ending.INTERRUPTED, 10)
    gone = spot_seen((ran, waited, on_demand), NOW, False, TTL)
    assert (gone.available, gone.lasted, gone.ended) == (False, 40 * 60.0, 1)
    back = spot_seen((ran, waited, on_demand), NOW, True, TTL)
    assert (back.available, back.lasted, back.ended) == (True, 27 * 60.0, 1)
    untried = spot_seen((on_demand,), NOW, True, TTL)
    assert (untried.available, untried.lasted) == (True, 30 * 60.0)
    assert spot_seen((), NOW, True, TTL).lasted == 0


def test_the_policy_is_told_the_step_as_it_is() -> None:
    told: list[DeadlineState] = []

    @dataclass(frozen=True)
    class Listening:
        def decide(self, state: DeadlineState) -> Decision:
            told.append(state)
            return Decision(Mode.SPOT, "listening")

    listening = replace(POLICY, deadline=Listening())
    lost, running = attempt(SPOT, 90, Ending.INTERRUPTED, 60), saved(attempt(SPOT, 60, number=1), minutes_ago=2)
    should_move(situation(lost, running, work=work(600), spot_price=Decimal(1)), running, listening)
    (state,) = told
    assert (state.mode, state.spot_available, state.restart, state.step) == (Mode.SPOT, True, RESTART, 60.0)
    assert (state.elapsed, state.time_left, state.work_left, state.total_work) == (5400, 4200, 3480, 3600)
    assert (state.at_risk, state.starting, state.spot_price) == (180, 0, Decimal(1))


STEP = 20.0


@dataclass
class Cluster:
    """Spot comes and goes by chance; on-demand is always there. A launch takes `RESTART`; a checkpoint a minute."""

    seed: int
    work_seconds: float
    deadline_seconds: float

    def run(self, policy: PlacementPolicy) -> tuple[float, float, int]:
        """Return how many seconds before the deadline the work was done, the share done on spot, and the attempts."""
        chance = random.Random(self.seed)
        there, until, now = chance.random() < 0.5, 0.0, 0.0
        done = saved = on_spot = 0.0
        history: tuple[Attempt, ...] = ()
        marks, current, launched = Marks(), None, None
        while done < self.work_seconds:
            assert now < 3 * self.deadline_seconds, "it never ends"
            if now >= until:
                there, until = not there, now + chance.expovariate(1 / chance.choice([300.0, 1500.0, 6000.0]))
            time = NOW + timedelta(seconds=now)
            left = Work(
                NOW + timedelta(seconds=self.deadline_seconds), self.work_seconds - saved, self.work_seconds, RESTART
            )
            shown = Situation(history, SPOTS, ON_DEMANDS, "gpu", marks, Fleet(), left, time)
            if current is None:
                current, launched = Attempt(len(history), place(shown, policy), time), None
            on_it = current.placement.capacity_type
            ending = None
            if launched is None and (on_it is ON_DEMAND or there):
                launched = now
            if launched is None:
                late = (time - current.placed_at).total_seconds() >= 600
                if late or while_pending(shown, current, policy) is not None:
                    ending = Ending.NO_CAPACITY
                    marks = marks.failed(current.placement.offerings, time)
            elif on_it is SPOT and not there:
                ending, done = Ending.INTERRUPTED, saved
            elif should_move(shown, current, policy) is not None:
                ending, saved = Ending.MOVED, done
            elif now - launched >= RESTART:
                done += STEP
                on_spot += STEP if on_it is SPOT else 0.0
                if done - saved >= 60:
                    saved = done
                    current = replace(current, progress=Progress(saved, self.work_seconds, saved, time))
            if ending is not None:
                history = (*history, replace(current, ending=ending, ended_at=time))
                current = None
            now += STEP
        return self.deadline_seconds - now, on_spot / self.work_seconds, len(history) + 1


def test_no_step_is_late_whatever_spot_does_and_spot_does_most_of_the_work_where_there_is_time() -> None:
    """An hour and a half of work, with a seventh to all of it to spare, 90 times. A look a minute may cost a minute."""
    shares: dict[float, list[float]] = {}
    for seed in range(90):
        spare = (0.15, 0.4, 1.0)[seed % 3]
        early, share, attempts = Cluster(seed, 5400.0, 5400.0 * (1 + spare) + RESTART).run(POLICY)
        assert early >= 0, f"seed {seed}: {-early:.0f} s late"
        assert attempts < 60
        shares.setdefault(spare, []).append(share)
    mean = {spare: sum(each) / len(each) for spare, each in shares.items()}
    assert mean[0.15] < mean[0.4] < mean[1.0]
    assert mean[1.0] > 0.5
