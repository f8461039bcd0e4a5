"""The rules of the simulator, on windows small enough to work out by hand."""

from dataclasses import dataclass

import pytest

from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.lab.spot.peers import GreedySpot, OnDemandOnly, UniformProgress
from avatar_pipeline.lab.spot.simulator import Setting, simulate
from avatar_pipeline.spot.deadline import DeadlineState, Decision, Mode

S, O, I = Mode.SPOT, Mode.ON_DEMAND, Mode.IDLE  # noqa: E741


@dataclass
class Script:
    """Asks for what it is told to, tick by tick, and remembers what it was shown."""

    modes: list[Mode]

    def __post_init__(self) -> None:
        self.shown: list[DeadlineState] = []

    def decide(self, state: DeadlineState) -> Decision:
        self.shown.append(state)
        return Decision(self.modes[len(self.shown) - 1], "as told")


def window(text: str) -> list[bool]:
    return [character == "1" for character in text]


def test_on_demand_alone_pays_every_tick_begun() -> None:
    # The papers' job: 48 h and one launch are 288.3 ticks, of which 289 are paid.
    outcome = simulate(OnDemandOnly(), [False] * 554, Setting(48 * 3600, 52 * 3600, 180))
    assert outcome.on_demand_ticks == 289
    assert outcome.cost(Setting(48 * 3600, 52 * 3600, 180)) == pytest.approx(147.39)
    assert (outcome.launches, outcome.restarting, outcome.finished) == (1, 180, 48 * 3600 + 180)


def test_an_interruption_costs_a_launch_and_no_work() -> None:
    script = Script([S, S, I, S])
    outcome = simulate(script, window("1101"), Setting(1000, 6000, 180))
    assert [state.work_left for state in script.shown] == [1000, 580]
    assert outcome.finished == 600 + 580
    script = Script([S, I, S, S])
    outcome = simulate(script, window("1011"), Setting(1000, 6000, 180))
    assert [state.mode for state in script.shown] == [I, I, I, S]
    assert [state.work_left for state in script.shown] == [1000, 580, 580, 160]
    assert (outcome.launches, outcome.spot_ticks, outcome.restarting) == (2, 3, 360)
    assert outcome.finished == 1800 + 160


def test_a_restart_longer_than_a_tick_reaches_into_the_next() -> None:
    script = Script([O, O, O])
    outcome = simulate(script, window("000"), Setting(900, 6000, 720))
    assert [(state.work_left, state.starting) for state in script.shown] == [(900, 0), (900, 120), (420, 0)]
    assert (outcome.finished, outcome.restarting) == (1200 + 420, 720)


def test_moving_from_on_demand_to_spot_is_a_launch_and_waiting_ends_what_ran() -> None:
    outcome = simulate(Script([O, S, I, O, O]), window("11111"), Setting(1500, 6000, 60))
    assert (outcome.launches, outcome.spot_ticks, outcome.on_demand_ticks) == (3, 1, 2)


def test_asking_for_spot_where_there_is_none_gets_nothing() -> None:
    outcome = simulate(Script([S, S]), window("01"), Setting(100, 6000, 60))
    assert (outcome.launches, outcome.spot_ticks, outcome.finished) == (1, 1, 760)


def test_a_job_that_ends_after_its_deadline_or_not_at_all_is_missed() -> None:
    assert simulate(Script([I, O]), window("00"), Setting(500, 1000, 60)).missed
    assert not simulate(Script([O]), window("00"), Setting(500, 600, 60)).missed
    never = simulate(Script([I, I]), window("00"), Setting(500, 1000, 60))
    assert (never.missed, never.finished) == (True, None)


def test_a_deadline_that_cannot_be_met_is_refused() -> None:
    with pytest.raises(InvalidInput, match="cannot be met: the work and one launch take 660 s"):
        Setting(600, 650, 60)


def test_greedy_waits_until_its_slack_is_used_up_then_stays_on_demand() -> None:
    outcome = simulate(GreedySpot(), window("0000111111"), Setting(2400, 4800, 180))
    # 2,400 s of slack less two restarts: it waits for three ticks, and spot that comes later is of no use to it.
    assert (outcome.spot_ticks, outcome.on_demand_ticks, outcome.missed) == (0, 5, False)


def test_uniform_progress_keeps_on_demand_until_it_is_ahead_and_spot_is_back() -> None:
    setting = Setting(work=6000, deadline=12_000, restart=60)
    shown = Script([])

    @dataclass
    class Watched:
        def decide(self, state: DeadlineState) -> Decision:
            shown.shown.append(state)
            decision = UniformProgress().decide(state)
            shown.modes.append(decision.mode)
            return decision

    simulate(Watched(), window("0000000100000000000000"), setting)
    # Nothing is behind at the start; at 600 s it is, and though ahead soon after, it goes on until spot is back.
    assert shown.modes[:9] == [I, O, O, O, O, O, O, S, I]
