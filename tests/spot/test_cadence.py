"""When finished chunks are saved: every one, or as often as is worth it."""

from __future__ import annotations

from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar_pipeline.spot.cadence import LONGEST_SECONDS, Cadence


class Watch:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def save(cadence: Cadence, watch: Watch, cost: float) -> None:
    watch.seconds += cost
    cadence.saved(cost)


def test_by_default_every_chunk_is_saved_at_once() -> None:
    cadence = Cadence()
    assert cadence.every_chunk and cadence.due()
    cadence.saved(60)
    assert cadence.every_chunk and cadence.due() and cadence.interval_seconds == 0


def test_a_fixed_interval_runs_from_one_save_to_the_next() -> None:
    watch = Watch()
    cadence = Cadence(30, stopwatch=watch)
    assert not cadence.every_chunk
    watch.seconds = 29
    assert not cadence.due()
    watch.seconds = 31
    assert cadence.due()
    save(cadence, watch, 2)
    watch.seconds += 29
    assert not cadence.due(), "what a save takes is no work that could be lost"
    watch.seconds += 1
    assert cadence.due()


def test_the_first_save_tells_what_one_costs_and_the_interval_follows() -> None:
    """Young's first order, sqrt(2 cost mtbf), is near enough where a save costs little."""
    watch = Watch()
    cadence = Cadence.learning(7200, stopwatch=watch)
    assert cadence.due() and not cadence.every_chunk
    save(cadence, watch, 0.25)
    assert not cadence.due()
    assert cadence.interval_seconds == pytest.approx(sqrt(2 * 0.25 * 7200), rel=0.05)
    watch.seconds += cadence.interval_seconds
    assert cadence.due()


def test_one_slow_save_changes_nothing_and_a_slow_store_does() -> None:
    watch = Watch()
    cadence = Cadence.learning(7200, stopwatch=watch)
    for _ in range(4):
        save(cadence, watch, 0.1)
    usual = cadence.interval_seconds
    save(cadence, watch, 20)
    assert cadence.interval_seconds == usual
    for _ in range(9):
        save(cadence, watch, 0.4)
    assert cadence.interval_seconds == pytest.approx(2 * usual, rel=0.05)


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=12), st.floats(1e-3, 1e7))
def test_no_rate_leaves_more_unsaved_than_is_bearable(costs: list[float], mtbf: float) -> None:
    watch = Watch()
    cadence = Cadence.learning(mtbf, stopwatch=watch)
    for cost in costs:
        save(cadence, watch, cost)
        assert 0 <= cadence.interval_seconds <= LONGEST_SECONDS
    watch.seconds += LONGEST_SECONDS
    assert cadence.due()
