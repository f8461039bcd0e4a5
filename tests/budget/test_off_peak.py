"""Off-peak hours are hours of the local clock, and nothing waits for them for ever."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar_pipeline.budget.off_peak import OffPeak, all_open

NIGHT = OffPeak.parse("20:00-07:00")
times = st.builds(time, st.integers(0, 23), st.integers(0, 59))
hours = st.builds(OffPeak, times, times).filter(lambda each: each.start != each.end)
zones = st.sampled_from(["UTC", "Europe/Berlin", "America/Havana", "Asia/Kathmandu", "Australia/Lord_Howe"])
moments = st.integers(1_600_000_000, 1_900_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_hours_over_midnight_hold_on_both_sides_of_it() -> None:
    assert [
        NIGHT.holds("UTC", at(f"2026-11-24T{clock}")) for clock in ("19:59", "20:00", "00:30", "06:59", "07:00")
    ] == [
        False,
        True,
        True,
        True,
        False,
    ]


def test_they_open_at_their_local_time() -> None:
    assert NIGHT.opens("Europe/Berlin", at("2026-11-24T12:00")) == at("2026-11-24T19:00")
    assert NIGHT.opens("Europe/Berlin", at("2026-07-24T12:00")) == at("2026-07-24T18:00")
    inside = at("2026-11-24T22:00")
    assert NIGHT.opens("Europe/Berlin", inside) == inside
    assert OffPeak.parse("02:00-04:00").opens("UTC", at("2026-11-24T05:00")) == at("2026-11-25T02:00")


def test_hours_that_the_clocks_jump_over_are_left_out_on_that_day() -> None:
    opens = OffPeak.parse("02:15-02:45").opens("Europe/Berlin", at("2026-03-28T23:00"))
    assert opens == at("2026-03-30T00:15")


@given(hours, zones, moments)
def test_they_open_within_two_days_and_are_open_then(each: OffPeak, timezone: str, now: datetime) -> None:
    opens = each.opens(timezone, now)
    assert now <= opens <= now + timedelta(days=2, hours=1)
    assert each.holds(timezone, opens)


@given(hours, zones, moments)
def test_they_are_closed_until_they_open(each: OffPeak, timezone: str, now: datetime) -> None:
    opens = each.opens(timezone, now)
    changing = now.astimezone(ZoneInfo(timezone)).utcoffset() != opens.astimezone(ZoneInfo(timezone)).utcoffset()
    if opens > now and not changing:
        assert not any(each.holds(timezone, now + (opens - now) * step / 8) for step in range(8))


@given(hours)
def test_they_are_read_as_they_are_written(each: OffPeak) -> None:
    assert OffPeak.parse(str(each)) == each


@pytest.mark.parametrize("text", ["", "20:00", "20-07", "25:00-07:00", "20:00-07:60", "07:00-07:00", "20:00-07:00 UTC"])
def test_what_is_no_hours_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"two times|begins when"):
        OffPeak.parse(text)


def test_several_hours_are_waited_for_together() -> None:
    late = OffPeak.parse("23:00-05:00")
    assert all_open([NIGHT, late], "UTC", at("2026-11-24T12:00")) == at("2026-11-24T23:00")
    assert all_open([], "UTC", at("2026-11-24T12:00")) == at("2026-11-24T12:00")


@given(st.lists(hours, min_size=1, max_size=4), zones, moments)
def test_nothing_waits_for_ever(several: list[OffPeak], timezone: str, now: datetime) -> None:
    opens = all_open(several, timezone, now)
    assert now <= opens <= now + timedelta(days=8)
    assert all_open(several, timezone, opens) == opens  # whoever comes back then may begin
