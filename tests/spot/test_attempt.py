"""What a pod is told of its attempt."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.spot.attempt import SpotAttempt, attempt_from_environment
from avatar_pipeline.spot.types import CapacityType

FULL = {
    "AVATAR_SPOT_ATTEMPT": "3",
    "AVATAR_SPOT_INTERRUPTIONS": "2",
    "AVATAR_SPOT_BUDGET": "10",
    "AVATAR_SPOT_CAPACITY": "on-demand",
    "AVATAR_SPOT_DEADLINE_AT": "2026-11-24T12:00:00Z",
    "AVATAR_SPOT_MTBF_SECONDS": "7200",
    "AVATAR_SPOT_SECONDS_BEFORE": "12.5",
    "AVATAR_SPOT_PRICE": "0.4886",
    "AVATAR_SPOT_PRICE_CAP": "3.713",
    "AVATAR_SPOT_ON_DEMAND_PRICE": "1.006",
    "AVATAR_SPOT_PROFILE": "gpu-small",
}


def test_the_whole_of_it_is_read() -> None:
    deadline = datetime(2026, 11, 24, 12, tzinfo=UTC)
    assert attempt_from_environment(FULL) == SpotAttempt(
        number=3,
        interruptions=2,
        budget=10,
        capacity=CapacityType.ON_DEMAND,
        deadline=deadline,
        mtbf_seconds=7200.0,
        seconds_before=12.5,
        price=Decimal("0.4886"),
        price_cap=Decimal("3.713"),
        on_demand_price=Decimal("1.006"),
        profile="gpu-small",
    )


def test_the_first_attempt_needs_no_more_than_its_number() -> None:
    assert attempt_from_environment({"AVATAR_SPOT_ATTEMPT": "0"}) == SpotAttempt(0)


def test_elsewhere_there_is_none() -> None:
    assert attempt_from_environment({}) is None
    assert attempt_from_environment(FULL | {"AVATAR_SPOT_ATTEMPT": ""}) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ATTEMPT", "-1"),
        ("ATTEMPT", "first"),
        ("BUDGET", "1.5"),
        ("CAPACITY", "Spot"),
        ("DEADLINE_AT", "2026-11-24T12:00:00"),
        ("DEADLINE_AT", "noon"),
        ("MTBF_SECONDS", "nan"),
        ("MTBF_SECONDS", "0"),
        ("MTBF_SECONDS", "inf"),
        ("SECONDS_BEFORE", "-3"),
        ("PRICE", "0"),
        ("PRICE", "cheap"),
        ("PRICE_CAP", "-0.5"),
        ("PRICE_CAP", "Infinity"),
        ("ON_DEMAND_PRICE", "NaN"),
    ],
)
def test_what_is_not_as_the_executor_writes_it_is_named(name: str, value: str) -> None:
    with pytest.raises(InvalidInput, match=f"AVATAR_SPOT_{name} is '{value}'"):
        attempt_from_environment(FULL | {f"AVATAR_SPOT_{name}": value})


@given(st.dictionaries(st.sampled_from(sorted(FULL)), st.text(max_size=12)))
def test_any_environment_is_read_or_refused(environment: dict[str, str]) -> None:
    try:
        attempt = attempt_from_environment(FULL | environment)
    except InvalidInput as error:
        assert any(name in str(error) for name in FULL)
    else:
        assert attempt is None or attempt.number >= 0
