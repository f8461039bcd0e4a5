"""The deadline-aware policy: never late, and what it spends slack on."""

from dataclasses import dataclass, replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.spot.deadline import DeadlinePolicy, DeadlineState, Mode, SpotSeen

HOUR = 3600.0
START = DeadlineState(
    elapsed=0.0,
    time_left=20 * HOUR,
    work_left=10 * HOUR,
    total_work=10 * HOUR,
    restart=600.0,
    mode=Mode.IDLE,
    spot_available=True,
    spot_price=Decimal("0.97"),
    on_demand_price=Decimal("3.06"),
)


@dataclass(frozen=True)
class Stretch:
    """What the world does after a decision: the next one comes after `part` of a step, or spot is taken by then."""

    part: float
    spot: bool
    taken: bool
    lost: float


stretches = st.builds(
    Stretch, part=st.floats(0.01, 1.0), spot=st.booleans(), taken=st.booleans(), lost=st.floats(0.0, 1.0)
)
# From timid to reckless: what keeps the deadline must not hang on the parameters.
policies = st.builds(
    DeadlinePolicy,
    wait=st.sampled_from([1e-6, 0.09, 5.0]),
    wait_restarts=st.sampled_from([0.1, 6.0]),
    persistence=st.sampled_from([0.1, 5.0, 1e9]),
    slack_price=st.sampled_from([1e-6, 0.75]),
)


def finish(policy: DeadlinePolicy, state: DeadlineState, world: list[Stretch]) -> float:
    """Run the job in `world`, over and over, and return how many seconds after the start it ends.

    An interruption comes at any moment, takes back work not yet saved, up to `at_risk`, and is a decision point.
    """
    now, deadline, work, unsaved = 0.0, state.time_left, state.work_left, 0.0
    mode, starting, seen, index, passed = Mode.IDLE, 0.0, SpotSeen(), 0, 0.0
    while work > 1e-6:
        stretch = world[index % len(world)]
        index += 1
        if index > 20_000:
            return float("inf")
        seen = seen.observe(stretch.spot, passed)
        known = replace(
            state,
            elapsed=now,
            time_left=deadline - now,
            work_left=work,
            mode=mode,
            starting=starting,
            spot_available=stretch.spot,
            seen=seen,
        )
        wanted = policy.decide(known).mode
        assert wanted is not Mode.SPOT or stretch.spot or mode is Mode.SPOT
        if wanted is not mode:
            mode, starting, unsaved = wanted, state.restart if wanted is not Mode.IDLE else 0.0, 0.0
        passed = max(stretch.part * state.step, 1.0)
        if mode is not Mode.IDLE:
            begun = min(starting, passed)
            starting -= begun
            done = min(work, passed - begun)
            passed = begun + done
            work -= done
            unsaved = min(state.at_risk, unsaved + done)
            if mode is Mode.SPOT and stretch.taken and work > 1e-6:
                work += unsaved * stretch.lost
                mode, starting, unsaved = Mode.IDLE, 0.0, 0.0
        now += passed
    return now


@settings(max_examples=300)
@given(
    policies,
    st.lists(stretches, min_size=1, max_size=12),
    st.floats(60.0, 5 * HOUR),
    st.floats(0.0, 2 * HOUR),
    st.floats(0.0, 4.0),
    st.floats(0.0, 4.0),
    st.floats(60.0, 1200.0),
    st.floats(0.0, 900.0),
)
def test_no_sequence_of_interruptions_makes_a_feasible_job_late(
    policy: DeadlinePolicy,
    world: list[Stretch],
    work: float,
    restart: float,
    restarts_to_spare: float,
    steps_to_spare: float,
    step: float,
    at_risk: float,
) -> None:
    step = max(step, work / 100)
    limit = work + restart * (1 + restarts_to_spare) + step * steps_to_spare
    state = replace(
        START, time_left=limit, work_left=work, total_work=work, restart=restart, step=step, at_risk=at_risk
    )
    assert finish(policy, state, world) <= limit + 1e-3


@given(policies, st.booleans(), st.floats(1.0, 10 * HOUR))
def test_what_cannot_be_in_time_any_more_goes_to_on_demand_at_once(
    policy: DeadlinePolicy, spot: bool, time_left: float
) -> None:
    state = replace(START, time_left=time_left, spot_available=spot)
    assert policy.decide(state).mode is Mode.ON_DEMAND


def test_work_that_is_done_needs_nothing() -> None:
    assert DeadlinePolicy().decide(replace(START, work_left=0.0, mode=Mode.SPOT)).mode is Mode.IDLE


def test_spot_is_taken_when_nothing_runs_and_kept_while_it_runs() -> None:
    policy = DeadlinePolicy()
    assert policy.decide(START).mode is Mode.SPOT
    # Kept even where a launch of spot could not be afforded any more, and whatever other offerings have.
    tight = replace(START, mode=Mode.SPOT, spot_available=False, time_left=10 * HOUR + 700)
    assert policy.decide(tight).mode is Mode.SPOT
    assert policy.decide(replace(tight, mode=Mode.IDLE, spot_available=True)).mode is Mode.ON_DEMAND


def test_spot_that_runs_is_left_when_an_interruption_would_make_it_late() -> None:
    tight = replace(START, mode=Mode.SPOT, time_left=10 * HOUR + 700)
    assert DeadlinePolicy().decide(replace(tight, at_risk=101.0)).mode is Mode.ON_DEMAND


def test_spot_as_dear_as_on_demand_is_neither_taken_nor_waited_for() -> None:
    for available in (True, False):
        dear = replace(START, spot_price=START.on_demand_price, spot_available=available)
        assert DeadlinePolicy().decide(dear).mode is Mode.ON_DEMAND


def test_a_young_outage_is_waited_out_and_an_old_one_is_not_when_slack_is_scarce() -> None:
    scarce = replace(START, spot_available=False, time_left=11.7 * HOUR, seen=SpotSeen(available=False))
    assert DeadlinePolicy().decide(scarce).mode is Mode.IDLE
    old = replace(scarce, seen=SpotSeen(available=False, lasted=2 * HOUR))
    assert DeadlinePolicy().decide(old).mode is Mode.ON_DEMAND


def test_on_demand_runs_on_until_spot_is_back() -> None:
    assert DeadlinePolicy().decide(replace(START, mode=Mode.ON_DEMAND, spot_available=False)).mode is Mode.ON_DEMAND


def test_on_demand_is_left_for_spot_that_has_lasted_not_for_spot_that_just_came() -> None:
    running = replace(START, mode=Mode.ON_DEMAND, time_left=11.5 * HOUR, seen=SpotSeen(available=True))
    assert DeadlinePolicy().decide(running).mode is Mode.ON_DEMAND
    lasting = replace(running, seen=SpotSeen(available=True, lasted=HOUR))
    assert DeadlinePolicy().decide(lasting).mode is Mode.SPOT


def test_a_restless_pool_must_last_longer_before_it_is_trusted() -> None:
    calm = restless = SpotSeen(available=True, lasted=1800.0)
    for _ in range(20):
        restless = restless.observe(False, 60.0).observe(True, 60.0)
    restless = replace(restless, lasted=1800.0)
    running = replace(START, mode=Mode.ON_DEMAND, time_left=11.5 * HOUR)
    policy = DeadlinePolicy()
    assert policy.restlessness(restless) > 2 > 1 >= policy.restlessness(calm)
    assert policy.decide(replace(running, seen=calm)).mode is Mode.SPOT
    assert policy.decide(replace(running, seen=restless)).mode is Mode.ON_DEMAND


@given(
    st.sampled_from([Mode.IDLE, Mode.ON_DEMAND]),
    st.booleans(),
    st.floats(0.0, 10 * HOUR),
    st.floats(0.0, 10 * HOUR),
    st.floats(0.0, 10 * HOUR),
)
def test_more_work_left_in_the_same_time_never_makes_it_bolder(
    mode: Mode, spot: bool, lasted: float, work: float, more: float
) -> None:
    state = replace(START, mode=mode, spot_available=spot, seen=SpotSeen(spot, lasted), work_left=work + 1.0)
    policy = DeadlinePolicy()
    if policy.decide(replace(state, work_left=work + 1.0 + more)).mode is not Mode.ON_DEMAND:
        assert policy.decide(state).mode is not Mode.ON_DEMAND


def test_spells_are_counted_when_they_end_and_their_length_is_what_was_seen() -> None:
    seen = SpotSeen()
    for available in (True, True, False, False, True):
        seen = seen.observe(available, 600.0)
    assert (seen.available, seen.lasted, seen.ended) == (True, 0.0, 1)
    # One spell of 20 minutes: β · ln(1 + 1200 / 600).
    assert seen.expected == pytest.approx(0.4 * 1.0986, rel=1e-4)
    assert seen.observe(True, 600.0).expected_by_now == pytest.approx(0.4 * (1.0986 + 0.6931), rel=1e-4)


def test_reasons_say_what_is_to_spare_in_words() -> None:
    waiting = DeadlinePolicy().decide(replace(START, spot_available=False))
    assert waiting.reason == "no spot; 10 h 0 min to spare, more than the 1 h 48 min in reserve: wait"
    late = DeadlinePolicy().decide(replace(START, time_left=9 * HOUR))
    assert late.reason == "1 h 0 min too few left: an interruption of spot would make it late"


def test_parameters_must_be_positive() -> None:
    with pytest.raises(InvalidInput, match="wait is 0"):
        DeadlinePolicy(wait=0.0)
