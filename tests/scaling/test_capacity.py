"""The capacity decision: enough batches for what waits, never more, and no dithering."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from avatar_pipeline.scaling.capacity import CapacityPolicy, CapacitySignals, decide

POLICY = CapacityPolicy(batch_size=20, max_batch_age=timedelta(seconds=10), backlog_per_worker=20, max_open=4)
IDLE = CapacitySignals(messages=0, waiting=0, oldest_age=None, open_batches=0, unclaimed_batches=0)
YOUNG, OLD = timedelta(seconds=1), timedelta(seconds=10)

ages = st.none() | st.timedeltas(timedelta(0), timedelta(days=1))
policies = st.builds(
    CapacityPolicy,
    batch_size=st.integers(1, 100),
    max_batch_age=st.timedeltas(timedelta(0), timedelta(minutes=5)),
    backlog_per_worker=st.integers(1, 200),
    max_open=st.integers(1, 50),
)


@st.composite
def measured(draw: st.DrawFn) -> CapacitySignals:
    unclaimed, at_work = draw(st.integers(0, 30)), draw(st.integers(0, 30))
    return CapacitySignals(
        messages=draw(st.integers(0, 2000)),
        waiting=draw(st.integers(0, 2000)),
        oldest_age=draw(ages),
        open_batches=unclaimed + at_work,
        unclaimed_batches=unclaimed,
    )


def test_nothing_is_opened_for_nothing() -> None:
    decision = decide(IDLE, POLICY)
    assert (decision.open, decision.desired, decision.reason) == (0, 0, "No clip waits.")


def test_a_lone_clip_waits_for_company_and_no_longer() -> None:
    young = decide(replace(IDLE, waiting=1, oldest_age=timedelta(seconds=4)), POLICY)
    assert (young.open, young.reason) == (0, "Backlog 1: waits for company, the oldest for 4.0 s of at most 10 s.")
    assert decide(replace(IDLE, waiting=1, oldest_age=OLD), POLICY).open == 1


def test_full_batches_do_not_wait() -> None:
    assert decide(replace(IDLE, waiting=47, oldest_age=YOUNG), POLICY).open == 2
    assert decide(replace(IDLE, waiting=47, oldest_age=OLD), POLICY).open == 3


def test_messages_that_are_still_in_the_queue_count_as_backlog() -> None:
    assert decide(replace(IDLE, messages=15, waiting=5, oldest_age=YOUNG), POLICY).open == 1


def test_what_open_batches_will_take_calls_for_no_other() -> None:
    decision = decide(replace(IDLE, waiting=40, oldest_age=OLD, open_batches=2, unclaimed_batches=2), POLICY)
    assert (decision.open, decision.reason) == (0, "Backlog 40: open batches that have yet to claim (2) will take it.")


def test_a_batch_at_work_takes_nothing_of_what_waits() -> None:
    assert decide(replace(IDLE, waiting=20, oldest_age=YOUNG, open_batches=1), POLICY).open == 1


def test_no_more_than_may_be_open_are_opened_and_the_reason_says_so() -> None:
    first = decide(replace(IDLE, waiting=500, oldest_age=OLD), POLICY)
    assert (first.open, first.reason) == (4, "Backlog 500: batches opened 4, open before 0, of at most 4.")
    full = decide(replace(IDLE, waiting=500, oldest_age=OLD, open_batches=4), POLICY)
    assert (full.open, full.reason) == (0, "Backlog 500: waits for a place, 4 batches are open of at most 4.")


def test_a_worker_is_to_have_its_share_of_the_backlog_before_another_is_called() -> None:
    patient = replace(POLICY, backlog_per_worker=100)
    decision = decide(replace(IDLE, waiting=60, oldest_age=OLD, open_batches=1), patient)
    assert (decision.open, decision.desired) == (0, 1)
    assert "a worker is to have 100" in decision.reason
    assert decide(replace(IDLE, waiting=81, oldest_age=OLD, open_batches=1), patient).open == 1


@given(measured(), policies)
def test_the_decision_is_within_its_bounds_and_the_same_every_time(
    signals: CapacitySignals, policy: CapacityPolicy
) -> None:
    decision = decide(signals, policy)
    assert decision == decide(signals, policy)
    assert 0 <= decision.desired <= policy.max_open
    assert 0 <= decision.open <= max(0, policy.max_open - signals.open_batches)
    assert decision.reason


@given(measured(), policies, st.integers(0, 500), st.booleans())
def test_more_backlog_never_opens_fewer(
    signals: CapacitySignals, policy: CapacityPolicy, more: int, in_queue: bool
) -> None:
    name = "messages" if in_queue else "waiting"
    grown = replace(signals, **{name: getattr(signals, name) + more})
    before, after = decide(signals, policy), decide(grown, policy)
    assert after.open >= before.open
    assert after.desired >= before.desired


@given(measured(), policies, ages)
def test_a_greater_age_or_none_known_never_opens_fewer(
    signals: CapacitySignals, policy: CapacityPolicy, other: timedelta | None
) -> None:
    def order(age: timedelta | None) -> timedelta:
        return timedelta.max if age is None else age

    younger, older = sorted([signals.oldest_age, other], key=order)
    young, old = (decide(replace(signals, oldest_age=age), policy) for age in (younger, older))
    assert old.open >= young.open
    assert old.desired == young.desired


@given(measured(), policies)
def test_a_smaller_target_never_opens_fewer(signals: CapacitySignals, policy: CapacityPolicy) -> None:
    halved = replace(policy, backlog_per_worker=max(1, policy.backlog_per_worker // 2))
    assert decide(signals, halved).open >= decide(signals, policy).open


@given(st.integers(1, 5000), policies, st.timedeltas(timedelta(0), timedelta(hours=1)), st.booleans())
def test_with_no_worker_and_old_backlog_there_is_always_one(
    backlog: int, policy: CapacityPolicy, beyond: timedelta, known: bool
) -> None:
    age = policy.max_batch_age + beyond if known else None
    assert decide(replace(IDLE, waiting=backlog, oldest_age=age), policy).open >= 1


@given(measured(), policies)
def test_every_batch_opened_finds_a_clip_that_no_other_batch_takes(
    signals: CapacitySignals, policy: CapacityPolicy
) -> None:
    opened = decide(signals, policy).open
    unassigned = max(0, signals.backlog - signals.unclaimed_batches * policy.batch_size)
    assert opened <= -(-unassigned // policy.batch_size)
    if signals.oldest_age is not None and signals.oldest_age < policy.max_batch_age:
        assert opened * policy.batch_size <= unassigned


@given(measured(), policies)
def test_asking_again_before_anything_has_happened_opens_nothing(
    signals: CapacitySignals, policy: CapacityPolicy
) -> None:
    opened = decide(signals, policy).open
    after = replace(
        signals,
        open_batches=signals.open_batches + opened,
        unclaimed_batches=signals.unclaimed_batches + opened,
    )
    assert decide(after, policy).open == 0


@given(measured(), policies)
def test_claiming_what_was_opened_calls_for_no_other(signals: CapacitySignals, policy: CapacityPolicy) -> None:
    """The same clips move from waiting to work: the load is the same, so the number of batches is too."""
    young = replace(signals, oldest_age=timedelta(0))
    policy = replace(policy, max_batch_age=timedelta(minutes=10))
    opened = young.open_batches + decide(young, policy).open
    unclaimed = opened - (young.open_batches - young.unclaimed_batches)
    claimed = min(unclaimed, young.backlog // policy.batch_size)
    after = replace(
        young,
        messages=0,
        waiting=young.backlog - claimed * policy.batch_size,
        open_batches=opened,
        unclaimed_batches=unclaimed - claimed,
    )
    assert decide(after, policy).open == 0
