"""A step's meter: whoever it works for pays for its machine, and work that cannot be paid for stops in time."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from avatar_pipeline.budget.types import Amounts, AttemptStart, Demand, Payer
from avatar_pipeline.errors import BudgetHold
from avatar_pipeline.spot.guard import NO_GUARD
from avatar_pipeline.stages.line import Line
from avatar_pipeline.stages.metering import MeteredGuard, metered
from tests.stages.benches import make_line

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
PRICE = Decimal("3.6")
"""A tenth of a cent a second."""
NEVER = 1e6
"""Seconds between two readings by the meter's own thread: these tests read it themselves."""


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def line(tmp_path: Path, clock: Clock) -> Iterator[Line]:
    budgets = tmp_path / "budgets.yaml"
    budgets.write_text('version: 1\nbudgets:\n  - {name: everything, scope: all, day: "1.00"}\n')
    line = make_line(tmp_path, clock, budgets=budgets)
    yield line
    line.ledger.close()


def attempt(clock: Clock) -> AttemptStart:
    return AttemptStart(
        key="run-1/landmarks/0",
        run_id="run-1",
        step_key="landmarks",
        number=0,
        asset="landmarks",
        partition="ada",
        started_at=clock(),
        price_per_hour=PRICE,
        price_source="test",
        on_demand_price=PRICE,
    )


def ticket(usd: str = "0.05") -> Demand:
    return Demand("step/run-1/landmarks/0", "landmarks", Payer("acme", "ada"), Amounts(Decimal(usd)))


def clip(line: Line, name: str, usd: str = "0.10") -> str:
    admission = line.spend.admit(Demand(f"clip/{name}/0", "clip", Payer("acme", "ada", name), Amounts(Decimal(usd))))
    assert admission.admitted
    return admission.key


def spent(line: Line) -> Decimal:
    return line.spend.standings(Payer())[0][1].settled


def reserved(line: Line) -> Decimal:
    return line.spend.standings(Payer())[0][1].reserved


def test_a_step_is_paid_by_its_ticket_and_what_is_left_of_it_is_free_again(line: Line, clock: Clock) -> None:
    with metered(line.spend, attempt(clock), ticket(), clock=clock, settles=True, interval=NEVER):
        assert reserved(line) == Decimal("0.05")
        clock.passes(12)
    assert spent(line) == Decimal("0.012")
    assert reserved(line) == 0
    assert line.spend.open_attempts() == []


def test_each_clip_pays_for_the_time_that_was_spent_on_it(line: Line, clock: Clock) -> None:
    first, second = clip(line, "one"), clip(line, "two")
    with metered(line.spend, attempt(clock), ticket(), clock=clock, settles=True, interval=NEVER) as meter:
        clock.passes(4)
        meter.pays({first: 1})
        clock.passes(10)
        meter.pays({second: 1})
        clock.passes(20)
        meter.pays({})
        clock.passes(1)
    left = {key: line.spend.remaining(key) for key in (first, second)}
    assert {key: one.amounts.compute for key, one in left.items() if one} == {
        first: Decimal("0.09"),
        second: Decimal("0.08"),
    }
    assert spent(line) == Decimal("0.035")


def test_work_that_is_nearly_out_of_money_gets_more_while_there_is_room(line: Line, clock: Clock) -> None:
    key = clip(line, "one", "0.03")
    with metered(line.spend, attempt(clock), ticket(), clock=clock, settles=True, interval=NEVER) as meter:
        meter.pays({key: 1})
        for _ in range(10):
            clock.passes(5)
            meter.check()
    assert spent(line) == Decimal("0.05")


def test_work_that_gets_no_more_stops_before_it_has_spent_what_was_put_aside(line: Line, clock: Clock) -> None:
    key = clip(line, "one", "0.03")
    clip(line, "rival", "0.92")
    guard = None
    with (
        pytest.raises(BudgetHold, match="everything/day"),
        metered(line.spend, attempt(clock), ticket(), clock=clock, settles=True, interval=NEVER) as meter,
    ):
        guard = MeteredGuard(NO_GUARD, meter.check)
        meter.pays({key: 1})
        for chunk in range(100):
            clock.passes(2)
            guard.boundary(chunk, 100)
    assert spent(line) <= Decimal("0.03")
    assert spent(line) >= Decimal("0.01")
    assert spent(line) + reserved(line) <= 1


def test_a_step_that_no_budget_has_room_for_does_not_begin(line: Line, clock: Clock) -> None:
    clip(line, "rival", "0.99")
    with (
        pytest.raises(BudgetHold) as refused,
        metered(line.spend, attempt(clock), ticket(), clock=clock, settles=True, interval=NEVER),
    ):
        pytest.fail("it began")
    assert refused.value.limit_id == "everything/day"
    assert line.spend.open_attempts() == []
    assert reserved(line) == Decimal("0.99")


def test_a_step_whose_machine_others_observe_keeps_its_ticket_until_they_settle_it(line: Line, clock: Clock) -> None:
    with metered(line.spend, attempt(clock), ticket(), clock=clock, settles=False, interval=NEVER):
        clock.passes(10)
    assert spent(line) == Decimal("0.01")
    assert reserved(line) == Decimal("0.04")
    assert [one.key for one in line.spend.open_attempts()] == ["run-1/landmarks/0"]


def test_the_time_of_work_that_fails_is_paid_too(line: Line, clock: Clock) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        metered(line.spend, attempt(clock), ticket(), clock=clock, settles=True, interval=NEVER),
    ):
        clock.passes(5)
        raise ZeroDivisionError
    assert spent(line) == Decimal("0.005")
    assert reserved(line) == 0
    assert line.spend.samples("landmarks") == [], "nothing is learnt from what failed"


def test_who_pays_for_a_step_without_a_ticket_pays_from_its_beginning_to_its_end(line: Line, clock: Clock) -> None:
    first, second = clip(line, "one"), clip(line, "two")
    whole = {first: 1, second: 3}
    with metered(line.spend, attempt(clock), None, clock=clock, settles=True, shares=whole, interval=NEVER) as meter:
        clock.passes(4)
        meter.pays({first: 1})
        clock.passes(10)
        meter.pays({})
        clock.passes(4)
    left = {key: line.spend.remaining(key) for key in (first, second)}
    assert {key: one.amounts.compute for key, one in left.items() if one} == {
        first: Decimal("0.088"),
        second: Decimal("0.094"),
    }


@pytest.mark.parametrize("who", ["alone", "with another"])
def test_work_whose_money_was_let_go_of_stops_when_it_is_spent(line: Line, clock: Clock, who: str) -> None:
    key, other = clip(line, "one"), clip(line, "other", "0.80")
    shares = {key: 1} if who == "alone" else {key: 1, other: 1}
    with metered(line.spend, attempt(clock), None, clock=clock, settles=True, shares=shares, interval=NEVER) as meter:
        line.spend.release(key)
        refused: set[str] = set()
        for _ in range(1000):
            clock.passes(2)
            meter.tick()
            try:
                meter.check()
                refused |= set(meter.exhausted())
            except BudgetHold:
                refused.add(key)
            if refused:
                break
        assert refused == {key}
    settled = line.spend.get(key)
    assert settled is not None
    assert settled.used.compute <= Decimal("0.10")
