"""The optimum against all there is to try, and against every policy."""

from dataclasses import dataclass, field
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar_pipeline.lab.spot.comparison import policies
from avatar_pipeline.lab.spot.optimum import optimal_costs
from avatar_pipeline.lab.spot.simulator import Setting, simulate
from avatar_pipeline.spot.deadline import DeadlineState, Decision, Mode


@dataclass
class Script:
    modes: tuple[Mode, ...]
    at: int = field(default=0)

    def decide(self, state: DeadlineState) -> Decision:
        self.at += 1
        return Decision(self.modes[self.at - 1], "as told")


def cheapest(window: list[bool], setting: Setting) -> float:
    """Try every sequence of modes."""
    costs = []
    for modes in product(Mode, repeat=setting.ticks):
        outcome = simulate(Script(modes), window[: setting.ticks], setting)
        if not outcome.missed:
            costs.append(outcome.cost(setting))
    return min(costs)


@settings(max_examples=40)
@given(
    st.lists(st.booleans(), min_size=5, max_size=5),
    st.integers(2, 24),
    st.sampled_from([0, 60, 180, 300, 600, 720, 1260]),
    st.integers(0, 20),
)
def test_it_is_the_cheapest_of_all_sequences(window: list[bool], work: int, restart: int, spare: int) -> None:
    work = min(120 * work, 3000 - restart)
    setting = Setting(work=work, deadline=min(3000, work + restart + spare * 120), restart=restart)
    assert optimal_costs([window], setting)[0] == pytest.approx(cheapest(window, setting))


windows = st.lists(st.booleans(), min_size=40, max_size=40) | st.lists(
    st.tuples(st.booleans(), st.integers(1, 12)), min_size=10, max_size=40
).map(lambda spells: (([up for up, length in spells for _ in range(length)]) * 40)[:40])


@settings(max_examples=60)
@given(windows, st.integers(10, 36), st.sampled_from([0, 60, 180, 720, 1440]), st.integers(0, 24))
def test_no_policy_is_cheaper_and_none_is_late(window: list[bool], ticks: int, restart: int, spare: int) -> None:
    work = ticks * 600
    deadline = -(-(work + restart) // 600) * 600 + spare * 600
    setting = Setting(work=work, deadline=min(deadline, 24_000), restart=restart)
    least = optimal_costs([window], setting)[0]
    for name, policy in policies().items():
        outcome = simulate(policy, window, setting)
        assert not outcome.missed, name
        assert outcome.cost(setting) >= least - 1e-9, name


def test_a_restart_finer_than_the_programme_gives_a_bound_from_below() -> None:
    window = [True, False, True, True, False, True, True, True]
    fine, rounded = Setting(2400, 4800, 37), Setting(2400, 4800, 30)
    assert optimal_costs([window], fine)[0] == optimal_costs([window], rounded)[0]
    assert optimal_costs([window], fine)[0] <= min(
        simulate(policy, window, fine).cost(fine) for policy in policies().values()
    )
