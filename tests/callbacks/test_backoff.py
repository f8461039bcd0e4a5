"""When a webhook is tried again."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar_pipeline.callbacks.backoff import (
    LONGEST_RETRY_AFTER,
    SCHEDULE,
    SPREAD,
    chance_of,
    next_wait,
    retry_after,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
chances = st.floats(0, 1)
waits = st.one_of(st.none(), st.timedeltas(timedelta(0), timedelta(days=400)))


@given(st.integers(1, 50), chances, waits)
def test_a_wait_is_near_the_schedule_or_as_long_as_was_asked_for(
    failures: int, chance: float, asked: timedelta | None
) -> None:
    wait = next_wait(failures, chance, asked)
    if failures > len(SCHEDULE):
        assert wait is None
        return
    assert wait is not None
    planned = SCHEDULE[failures - 1]
    assert wait >= planned * (1 - SPREAD)
    assert wait <= max(planned * (1 + SPREAD), min(asked or timedelta(0), LONGEST_RETRY_AFTER))
    if asked is not None:
        assert wait >= min(asked, LONGEST_RETRY_AFTER)


@given(chances, chances)
def test_every_wait_is_longer_than_the_one_before_until_it_is_given_up(chance: float, other: float) -> None:
    steps = [next_wait(failures, chance) for failures in range(1, len(SCHEDULE) + 2)]
    assert steps[-1] is None
    known = [step for step in steps if step is not None]
    assert len(known) == len(SCHEDULE)
    assert known == sorted(known)
    assert timedelta(days=2) < sum(known, timedelta(0)) < timedelta(days=4)
    assert (chance < other) <= (next_wait(3, chance) <= next_wait(3, other))  # type: ignore[operator]


def test_chance_is_spread_evenly_and_the_same_on_every_machine() -> None:
    drawn = [chance_of(number, 1) for number in range(2000)]
    assert drawn == [chance_of(number, 1) for number in range(2000)]
    tenths = [sum(tenth <= 10 * one < tenth + 1 for one in drawn) for tenth in range(10)]
    assert sum(tenths) == 2000
    assert min(tenths) > 150
    assert chance_of(1, 1) != chance_of(1, 2)


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        ("120", timedelta(minutes=2)),
        (" 7 ", timedelta(seconds=7)),
        ("Sun, 01 Mar 2026 12:10:00 GMT", timedelta(minutes=10)),
        ("Sun, 01 Mar 2026 11:00:00 GMT", None),
        ("0", None),
        ("-5", None),
        ("1.5", None),
        ("١٢", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, wait: timedelta | None) -> None:
    assert retry_after(header, NOW) == wait


@given(st.one_of(st.text(), st.text("0123456789"), st.from_regex(r"[A-Z][a-z]{2}, \d+ [A-Z][a-z]{2} \d+ [\d:]+ \S+")))
def test_no_retry_after_can_do_harm(header: str) -> None:
    wait = retry_after(header, NOW)
    assert wait is None or wait > timedelta(0)
    assert (next_wait(1, 0.5, wait) or timedelta(0)) <= LONGEST_RETRY_AFTER
