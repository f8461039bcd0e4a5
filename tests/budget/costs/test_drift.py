"""Drift: how far our figures are from the bill."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar_pipeline.budget.drift import drift

MONEY = st.decimals(0, 1_000_000, places=6)


@pytest.mark.parametrize(
    ("ours", "theirs", "share", "alarm"),
    [
        ("100", "100", "0", False),
        ("95", "100", "0.05", False),
        ("94.999999", "100", "0.05000001", True),
        ("105.000001", "100", "0.05000001", True),
        ("0", "0", "0", False),
        ("1", "0", "1", True),
        ("0", "1", "1", True),
    ],
)
def test_more_than_five_per_cent_of_the_bill_is_an_alarm(ours: str, theirs: str, share: str, alarm: bool) -> None:
    found = drift(Decimal(ours), Decimal(theirs))
    assert (found.share, found.alarm) == (Decimal(share), alarm)
    assert found.difference == Decimal(ours) - Decimal(theirs)


@given(MONEY, MONEY)
def test_the_alarm_is_exact_however_odd_the_amounts(ours: Decimal, theirs: Decimal) -> None:
    found = drift(ours, theirs)
    assert found.alarm == (20 * abs(ours - theirs) > theirs)
    assert found.share >= 0
