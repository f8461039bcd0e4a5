"""The chaos, small enough for every run of the suite: a few scenarios that differ. `make spot-chaos` has all.

They run side by side: most of a scenario is waiting.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("kubernetes_validate", reason="the `lab` extra brings the simulated cluster")

from avatar_pipeline.lab.cluster import Zygote
from tests.spot.chaos.run import run_scenario
from tests.spot.chaos.scenario import scenario
from tests.spot.executor.conftest import zygote

__all__ = ["zygote"]

SEEDS = ((6, 12), (7, 26), (7, 37), (6, 39))


def test_the_scenarios_differ() -> None:
    plans = [scenario(*seed) for seed in SEEDS]
    assert len({plan.shape.job for plan in plans}) >= 4
    assert len({act.of.group for plan in plans for act in plan.acts}) >= 10


def test_whatever_is_done_to_a_run_it_ends_as_the_rules_say_and_leaves_nothing(zygote: Zygote) -> None:
    with ThreadPoolExecutor(3) as pool:
        outcomes = list(pool.map(lambda seed: run_scenario(scenario(*seed), zygote), SEEDS))
    for outcome in outcomes:
        assert outcome.wrong == [], f"{outcome.plan.name}: {outcome.wrong}\n{outcome.story}"
