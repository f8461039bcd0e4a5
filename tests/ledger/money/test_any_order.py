"""Whatever is called in whatever order, and again: no budget is overdrawn, every sum adds up, and all money comes back.

`python -m tests.ledger.money --examples 10000` looks much further.
"""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import Engine

from avatar_pipeline.ledger.database import open_engine
from avatar_pipeline.ledger.spend import SpendBook
from tests.ledger.money.broken import FreesByTime, FreesWhatRuns, MeetsBetween
from tests.ledger.money.machine import AnyOrder

STEPS = 40


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = open_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture
def sqlite_engine(sqlite_url: str) -> Iterator[Engine]:
    engine = open_engine(sqlite_url)
    yield engine
    engine.dispose()


def run(machine: type[AnyOrder], examples: int, phases: tuple[Phase, ...] = tuple(Phase)) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=phases,
            report_multiple_bugs=False,
        ),
    )


def test_in_any_order_of_calls_no_budget_is_overdrawn_and_all_money_comes_back(engine: Engine) -> None:
    run(type("Machine", (AnyOrder,), {"engine": engine}), 20)


def test_a_gate_that_checks_before_it_locks_is_found_out(sqlite_engine: Engine) -> None:
    machine = type("Machine", (MeetsBetween,), {"engine": sqlite_engine})
    with pytest.raises(AssertionError):
        run(machine, 100, (Phase.generate,))


@pytest.mark.parametrize("broken", [FreesWhatRuns, FreesByTime])
def test_a_book_that_frees_what_is_still_spent_is_found_out(sqlite_engine: Engine, broken: type[SpendBook]) -> None:
    machine = type("Machine", (AnyOrder,), {"engine": sqlite_engine, "make_book": broken})
    with pytest.raises(AssertionError):
        run(machine, 100, (Phase.generate,))
