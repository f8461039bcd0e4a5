"""Where attempts go: the ladder, offerings without capacity, the fleet's share, budgets and profiles."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.spot.offerings import Marks
from avatar_pipeline.spot.placement import (
    Fleet,
    PlacementPolicy,
    Situation,
    Strategy,
    Work,
    budget_left,
    next_profile,
    over_budget,
    place,
    should_move,
    while_pending,
)
from avatar_pipeline.spot.types import Attempt, CapacityType, Ending, Offering, Placement, Progress

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SPOT, ON_DEMAND = CapacityType.SPOT, CapacityType.ON_DEMAND
SPOTS = tuple(Offering(kind, zone, SPOT) for kind in ("g5.xlarge", "g6.xlarge") for zone in ("a", "b"))
ON_DEMANDS = tuple(Offering(kind, "a", ON_DEMAND) for kind in ("g5.xlarge", "g6.xlarge"))
POLICY = PlacementPolicy()
TTL = POLICY.mark_ttl


def situation(*history: Attempt, **changes: object) -> Situation:
    whole = Situation(history, SPOTS, ON_DEMANDS, "gpu", Marks(), Fleet(), None, NOW)
    return replace(whole, **changes)  # type: ignore[arg-type]


def ended(
    ending: Ending,
    capacity_type: CapacityType = SPOT,
    offerings: tuple[Offering, ...] = (),
    number: int = 0,
    at: datetime = NOW,
) -> Attempt:
    placement = Placement(capacity_type, offerings, "gpu", "")
    return Attempt(number, placement, at - timedelta(minutes=10), ending, at)


def in_vain(*offerings: Offering, at: datetime = NOW) -> Attempt:
    return ended(Ending.NO_CAPACITY, offerings[0].capacity_type, offerings, at=at)


def test_the_first_attempt_is_on_spot_with_everything_to_choose_from() -> None:
    assert place(situation(), POLICY) == Placement(SPOT, SPOTS, "gpu", "spot: not interrupted so far")


def test_a_step_goes_to_on_demand_after_two_interruptions_on_spot_and_stays_there() -> None:
    once, twice = ended(Ending.INTERRUPTED), ended(Ending.INTERRUPTED, number=1)
    assert place(situation(once), POLICY).reason == "spot: interrupted once of 2"
    moved = place(situation(once, twice), POLICY)
    assert moved == Placement(ON_DEMAND, ON_DEMANDS, "gpu", "on-demand: interrupted twice on spot (the limit)")
    later = ended(Ending.INTERRUPTED, ON_DEMAND, number=2)
    assert place(situation(once, twice, later), POLICY).capacity_type is ON_DEMAND


@pytest.mark.parametrize(
    "ending", [each for each in Ending if each not in (Ending.INTERRUPTED, Ending.NO_CAPACITY, Ending.MOVED)]
)
def test_what_is_no_interruption_is_no_step_towards_on_demand(ending: Ending) -> None:
    assert place(situation(*[ended(ending)] * 5), POLICY).capacity_type is SPOT


def test_interruptions_on_on_demand_are_no_step_towards_on_demand() -> None:
    assert place(situation(*[ended(Ending.INTERRUPTED, ON_DEMAND)] * 3), POLICY).capacity_type is SPOT


def test_a_limit_of_no_interruption_means_on_demand_from_the_start() -> None:
    none = replace(POLICY, interruptions_before_on_demand=0)
    assert place(situation(), none).reason == "on-demand: no interruption on spot is allowed"


def test_the_last_interruption_that_is_survived_is_followed_by_on_demand() -> None:
    patient = replace(POLICY, interruptions_before_on_demand=9, interruption_budget=3)
    assert place(situation(*[ended(Ending.INTERRUPTED)] * 2), patient).capacity_type is SPOT
    last = place(situation(*[ended(Ending.INTERRUPTED)] * 3), patient)
    assert last.reason == "on-demand: the next interruption would be one too many"


def test_the_strategy_on_demand_never_takes_spot() -> None:
    only = replace(POLICY, strategy=Strategy.ON_DEMAND)
    assert place(situation(), only).reason == "on-demand: the strategy is on-demand only"
    assert place(situation(in_vain(*ON_DEMANDS)), only).capacity_type is ON_DEMAND
    with pytest.raises(InvalidInput, match="No on-demand offering suits the profile 'gpu'"):
        place(situation(on_demand=()), only)


def test_without_spot_capacity_the_next_attempt_is_on_on_demand_not_on_spot_again() -> None:
    placed = place(situation(in_vain(*SPOTS)), POLICY)
    assert placed == Placement(ON_DEMAND, ON_DEMANDS, "gpu", "on-demand: no spot capacity")


def test_spot_offerings_that_were_not_tried_yet_come_before_on_demand() -> None:
    assert place(situation(in_vain(*SPOTS[:3])), POLICY).offerings == SPOTS[3:]


def test_offerings_that_another_step_found_without_capacity_are_passed_over() -> None:
    marks = Marks().failed(SPOTS[:1], NOW)
    assert place(situation(marks=marks), POLICY).offerings == SPOTS[1:]
    assert place(situation(marks=marks.failed(SPOTS, NOW)), POLICY).capacity_type is ON_DEMAND
    assert place(situation(marks=marks, now=NOW + timedelta(minutes=4)), POLICY).offerings == SPOTS


def test_a_step_tries_everything_before_it_tries_anything_again_however_short_marks_last() -> None:
    """Where a wait is longer than a mark lasts, marks alone would send a step to and fro between two offerings."""
    one = replace(POLICY, max_offerings=1, mark_ttl=timedelta(seconds=60))
    history: list[Attempt] = []
    now = NOW
    for number in range(len(SPOTS) + len(ON_DEMANDS)):
        placement = place(situation(*history, now=now), one)
        now += timedelta(minutes=10)
        history.append(Attempt(number, placement, now - timedelta(minutes=10), Ending.NO_CAPACITY, now))
    tried = [attempt.placement.offerings for attempt in history]
    assert sorted(tried) == sorted((each,) for each in (*SPOTS, *ON_DEMANDS))
    assert [attempt.placement.capacity_type for attempt in history] == [SPOT] * 4 + [ON_DEMAND] * 2


def test_with_no_capacity_anywhere_the_offering_whose_mark_runs_out_first_is_next() -> None:
    marks = Marks().failed(ON_DEMANDS[1:], NOW - timedelta(seconds=100)).failed(SPOTS, NOW - timedelta(seconds=50))
    placed = place(situation(marks=marks.failed(ON_DEMANDS[:1], NOW)), POLICY)
    assert (placed.capacity_type, placed.offerings) == (ON_DEMAND, (ON_DEMANDS[1], ON_DEMANDS[0]))
    assert placed.reason == "on-demand: no capacity anywhere; tried again"


def test_an_interrupted_step_that_belongs_on_on_demand_waits_there_for_capacity() -> None:
    history = [ended(Ending.INTERRUPTED)] * 2
    placed = place(situation(*history, in_vain(*ON_DEMANDS)), POLICY)
    assert placed.capacity_type is ON_DEMAND
    assert placed.reason == "on-demand: interrupted twice on spot (the limit); no capacity, tried again"


def test_a_run_that_is_begun_again_the_next_day_tries_spot_again() -> None:
    yesterday = in_vain(*SPOTS, at=NOW - timedelta(days=1))
    assert place(situation(yesterday), POLICY).offerings == SPOTS


def test_capacity_that_was_had_since_ends_what_was_tried_in_vain() -> None:
    assert place(situation(in_vain(*SPOTS), ended(Ending.INTERRUPTED, ON_DEMAND)), POLICY).offerings == SPOTS


def test_where_a_profile_suits_only_one_capacity_type_that_is_taken() -> None:
    assert place(situation(spot=()), POLICY).reason == "on-demand: no spot offering suits the profile"
    interrupted = situation(*[ended(Ending.INTERRUPTED)] * 2, on_demand=())
    assert place(interrupted, POLICY).reason == "spot: no on-demand offering suits the profile"


def test_without_a_catalogue_any_machine_of_the_capacity_type_will_do() -> None:
    anything = situation(spot=(), on_demand=())
    assert place(anything, POLICY) == Placement(SPOT, (), "gpu", "spot: not interrupted so far")
    no_spot = replace(anything, history=(ended(Ending.NO_CAPACITY),))
    assert place(no_spot, POLICY).reason == "on-demand: no spot capacity"
    nothing = replace(anything, history=(*no_spot.history, ended(Ending.NO_CAPACITY, ON_DEMAND)))
    assert place(nothing, POLICY).capacity_type is SPOT


def test_few_offerings_are_spread_over_types() -> None:
    assert {each.instance_type for each in place(situation(), replace(POLICY, max_offerings=2)).offerings} == {
        "g5.xlarge",
        "g6.xlarge",
    }


def test_the_fleets_share_of_on_demand_is_filled_first() -> None:
    shared = replace(POLICY, on_demand_base=1, on_demand_percentage_above_base=25)
    assert place(situation(), shared).reason == "on-demand: of 1 GPU steps 1 are to be (base 1, 25 % above it)"
    assert place(situation(fleet=Fleet(on_demand=1, spot=0)), shared).capacity_type is ON_DEMAND
    assert place(situation(fleet=Fleet(on_demand=2, spot=1)), shared).capacity_type is SPOT


def test_a_bigger_profile_is_tried_once_after_running_out_of_memory() -> None:
    bigger = {"small": "large"}.get
    out = ended(Ending.OUT_OF_MEMORY)
    assert next_profile((), "small", bigger) == "small"
    assert next_profile((ended(Ending.INTERRUPTED),), "small", bigger) == "small"
    assert next_profile((out, ended(Ending.INTERRUPTED)), "small", bigger) == "large"
    assert next_profile((out, out), "small", bigger) is None
    assert next_profile((out,), "large", bigger) is None


def test_the_interruption_budget_pays_for_interruptions_and_for_waits_on_on_demand_only() -> None:
    paid = [ended(each) for each in (Ending.INTERRUPTED, Ending.VANISHED, Ending.SILENT_EXIT)]
    free = [
        ended(each)
        for each in (Ending.NO_CAPACITY, Ending.MOVED, Ending.OUT_OF_MEMORY, Ending.USER_ERROR, Ending.IMAGE_PULL)
    ]
    three = replace(POLICY, interruption_budget=3)
    assert budget_left((*free, *paid[:2]), three) == 1
    assert budget_left((*paid, ended(Ending.NO_CAPACITY, ON_DEMAND)), three) == 0
    assert not over_budget(tuple(paid), three)
    assert over_budget((*paid, ended(Ending.NO_CAPACITY, ON_DEMAND)), three)


@pytest.mark.parametrize(
    "wrong",
    [
        {"interruptions_before_on_demand": -1},
        {"interruption_budget": -1},
        {"on_demand_base": -1},
        {"on_demand_percentage_above_base": 101},
        {"on_demand_percentage_above_base": -1},
        {"max_offerings": 0},
        {"mark_ttl": timedelta(seconds=-1)},
        {"decision_seconds": float("nan")},
    ],
)
def test_a_policy_says_which_number_it_cannot_use(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        PlacementPolicy(**wrong)  # type: ignore[arg-type]


def test_only_the_deadline_strategy_moves_what_runs_or_waits() -> None:
    current = Attempt(0, Placement(ON_DEMAND, ON_DEMANDS, "gpu", ""), NOW)
    assert should_move(situation(current), current, POLICY) is None
    assert while_pending(situation(current), current, POLICY) is None


ONLY_SPOT = replace(POLICY, spot_only=True)


@pytest.mark.parametrize("strategy", Strategy)
def test_with_spot_only_no_strategy_limit_or_share_of_the_fleet_leads_to_on_demand(strategy: Strategy) -> None:
    only = replace(ONLY_SPOT, strategy=strategy, interruptions_before_on_demand=0, on_demand_base=9)
    placed = place(situation(*[ended(Ending.INTERRUPTED)] * POLICY.interruption_budget), only)
    assert placed == Placement(SPOT, SPOTS, "gpu", "spot: spot only (tag avatar/capacity)")


def test_with_spot_only_and_no_spot_capacity_spot_is_waited_for_and_the_reason_says_so() -> None:
    marks = Marks().failed(SPOTS[1:], NOW).failed(SPOTS[:1], NOW - timedelta(seconds=60))
    placed = place(situation(in_vain(*SPOTS), marks=marks), ONLY_SPOT)
    assert (placed.capacity_type, set(placed.offerings)) == (SPOT, set(SPOTS))
    assert placed.reason == "spot: spot only (tag avatar/capacity); no capacity, tried again"
    anything = situation(ended(Ending.NO_CAPACITY), spot=(), on_demand=())
    assert place(anything, ONLY_SPOT).reason == placed.reason


def test_with_spot_only_what_was_not_tried_lately_comes_before_what_was_tried_in_vain() -> None:
    assert place(situation(in_vain(*SPOTS[:3])), ONLY_SPOT).offerings == SPOTS[3:]


def test_with_spot_only_a_profile_that_no_spot_machine_suits_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"No spot offering suits the profile 'gpu'.*avatar/capacity"):
        place(situation(spot=()), ONLY_SPOT)


def test_with_spot_only_however_long_a_step_waits_the_interruption_budget_does_not_pay_for_it() -> None:
    history = tuple(in_vain(*SPOTS, at=NOW - timedelta(minutes=10 * number)) for number in range(50))
    assert budget_left(history, ONLY_SPOT) == ONLY_SPOT.interruption_budget
    assert place(situation(*history), ONLY_SPOT).capacity_type is SPOT


def test_with_spot_only_no_deadline_moves_what_runs_or_waits() -> None:
    late = Work(NOW + timedelta(minutes=1), 3600, 3600, 180)
    only = replace(ONLY_SPOT, strategy=Strategy.DEADLINE)
    current = Attempt(0, Placement(SPOT, SPOTS, "gpu", ""), NOW - timedelta(hours=1), progress=Progress(1, 2, 3, NOW))
    assert should_move(situation(current, work=late), current, replace(only, spot_only=False)) is None
    assert while_pending(situation(current, work=late), current, replace(only, spot_only=False)) is not None
    assert should_move(situation(current, work=late), current, only) is None
    assert while_pending(situation(current, work=late), current, only) is None


spots = st.lists(st.sampled_from(SPOTS), unique=True).map(tuple)
on_demands = st.lists(st.sampled_from(ON_DEMANDS), unique=True).map(tuple)
policies = st.builds(
    PlacementPolicy,
    interruptions_before_on_demand=st.integers(0, 3),
    interruption_budget=st.integers(0, 5),
    on_demand_base=st.integers(0, 2),
    on_demand_percentage_above_base=st.integers(0, 100),
    mark_ttl=st.timedeltas(timedelta(0), timedelta(hours=1)),
    max_offerings=st.none() | st.integers(1, 3),
)
histories = st.lists(
    st.builds(
        lambda ending, offerings, minutes: ended(
            ending, offerings[0].capacity_type, offerings, at=NOW - timedelta(minutes=minutes)
        ),
        st.sampled_from(Ending),
        st.sampled_from([SPOTS, SPOTS[:1], SPOTS[1:], ON_DEMANDS, ON_DEMANDS[:1]]),
        st.integers(0, 5),
    ),
    max_size=6,
).map(tuple)
fleets = st.builds(Fleet, st.integers(0, 5), st.integers(0, 5))


@given(history=histories, policy=policies, spot=spots, on_demand=on_demands, fleet=fleets, marked=spots)
def test_a_placement_is_always_of_one_capacity_type_and_of_what_there_is(
    history: tuple[Attempt, ...],
    policy: PlacementPolicy,
    spot: tuple[Offering, ...],
    on_demand: tuple[Offering, ...],
    fleet: Fleet,
    marked: tuple[Offering, ...],
) -> None:
    marks = Marks().failed(marked, NOW)
    placed = place(situation(*history, spot=spot, on_demand=on_demand, fleet=fleet, marks=marks), policy)
    assert set(placed.offerings) <= set(spot if placed.capacity_type is SPOT else on_demand)
    assert bool(placed.offerings) == bool(spot or on_demand)
    assert len(placed.offerings) <= (policy.max_offerings or len(SPOTS))
    assert placed.reason.startswith(f"{placed.capacity_type}: ")
    assert placed.profile == "gpu"


@given(history=histories, policy=policies, strategy=st.sampled_from(Strategy), fleet=fleets, marked=spots)
def test_with_spot_only_nothing_is_ever_placed_on_on_demand(
    history: tuple[Attempt, ...],
    policy: PlacementPolicy,
    strategy: Strategy,
    fleet: Fleet,
    marked: tuple[Offering, ...],
) -> None:
    only = replace(policy, strategy=strategy, spot_only=True)
    placed = place(situation(*history, fleet=fleet, marks=Marks().failed(marked, NOW)), only)
    assert placed.capacity_type is SPOT
    assert placed.offerings and set(placed.offerings) <= set(SPOTS)


@given(history=histories, more=histories, policy=policies)
def test_who_has_climbed_the_ladder_never_gets_spot_again(
    history: tuple[Attempt, ...], more: tuple[Attempt, ...], policy: PlacementPolicy
) -> None:
    climbed = (*history, *[ended(Ending.INTERRUPTED)] * policy.interruptions_before_on_demand, *more)
    assert place(situation(*climbed), policy).capacity_type is ON_DEMAND


@given(
    policy=policies,
    spot=spots,
    on_demand=st.sampled_from([ON_DEMANDS, ON_DEMANDS[1:]]),
    pending=st.integers(1, 3600),
    marks=st.booleans(),
)
def test_a_step_that_nobody_has_capacity_for_fails_in_the_end(
    policy: PlacementPolicy, spot: tuple[Offering, ...], on_demand: tuple[Offering, ...], pending: int, marks: bool
) -> None:
    now, history, known = NOW, (), Marks()
    rounds = (policy.interruption_budget + 1) * (len(SPOTS) + len(ON_DEMANDS) + 1)
    for number in range(rounds):
        placed = place(situation(*history, spot=spot, on_demand=on_demand, marks=known, now=now), policy)
        began, now = now, now + timedelta(seconds=pending)
        history = (*history, Attempt(number, placed, began, Ending.NO_CAPACITY, now))
        known = known.failed(placed.offerings, now) if marks else known
        if over_budget(history, policy):
            return
    pytest.fail(f"still trying after {rounds} attempts")
