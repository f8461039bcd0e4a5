"""Plans: the same from the same seed, all kinds in them, and nothing planned that could not come to pass."""

from __future__ import annotations

from avatar_pipeline.spot.types import Ending
from tests.spot.chaos.acts import GAP, KINDS, PHASES
from tests.spot.chaos.scenario import CANCELED, FAILURE, SUCCESS, Scenario, scenario

PLANS = [scenario(3, number) for number in range(3 * len(KINDS))]


def test_a_seed_gives_the_same_plan_again_and_another_one_another() -> None:
    assert [scenario(3, number) for number in range(len(KINDS))] == PLANS[: len(KINDS)]
    assert [scenario(4, number) for number in range(len(KINDS))] != PLANS[: len(KINDS)]


def test_every_kind_is_done_in_a_row_of_as_many_scenarios() -> None:
    done = {act.kind for plan in PLANS[: len(KINDS)] for act in plan.acts}
    assert done == set(KINDS)


def test_every_way_to_end_an_attempt_is_in_the_table_but_those_that_nothing_outside_brings_about() -> None:
    endings = {ending for kind in KINDS.values() for ending in kind.endings}
    assert endings == set(Ending) - {Ending.MOVED, Ending.CANCELLED}


def test_a_plan_can_come_to_pass() -> None:
    for plan in PLANS:
        can_come_to_pass(plan)


def can_come_to_pass(plan: Scenario) -> None:
    assert 1 <= len(plan.acts) <= 5
    assert plan.ends and plan.ends <= {SUCCESS, FAILURE, CANCELED}
    for lives in plan.lives.values():
        for life in lives:
            assert all(act.phase in act.of.phases for act in life)
            moments = [PHASES.index(act.phase) for act in life]
            assert moments == sorted(moments), "the moments of an attempt come in their order"
            assert not any(act.ends for act in life[:-1]), "an attempt ends once"
        assert all(life[-1].ends for life in lives[:-1]), "another attempt follows from an end"
        assert not any(act.kind == "cancel" for life in lives for act in life[:-1])
        assert not (lives and lives[0][0].phase == GAP and lives[0][0].of.of_run)


def test_the_ends_follow_from_the_rules() -> None:
    single = {plan.acts[0].kind: plan for plan in PLANS if len(plan.acts) == 1 and not plan.shape.retries}
    assert {kind: plan.ends for kind, plan in single.items() if kind in ("image", "error", "exit_3")} == {
        kind: frozenset({FAILURE}) for kind in ("image", "error", "exit_3") if kind in single
    }
    assert all(single[kind].ends == {SUCCESS} for kind in ("evict", "outage", "kill_node") if kind in single)
    assert any(plan.ends == {CANCELED} for plan in PLANS)
