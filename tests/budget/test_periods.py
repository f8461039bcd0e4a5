"""Periods are what the calendar of their zone says, and cut time without gap or overlap."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar_pipeline.budget.periods import (
    SLOT,
    Cover,
    Period,
    Window,
    before,
    cover,
    day_of,
    leaves,
    slot_of,
    slots,
    window,
)

ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kathmandu",  # UTC+05:45
    "Asia/Kolkata",  # UTC+05:30
    "Australia/Lord_Howe",  # clocks change by half an hour
    "Pacific/Chatham",  # UTC+12:45, and clocks change
    "Pacific/Apia",  # had no 30 December 2011
    "Africa/Cairo",  # clocks change at midnight
    "America/Havana",  # midnight comes twice
    "America/St_Johns",  # UTC-03:30, and clocks went back from 00:01
    "America/Nuuk",
)
CALENDAR = (Period.DAY, Period.WEEK, Period.MONTH)

zones = st.sampled_from(ZONES)
moments = st.builds(
    lambda seconds, micros: datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=micros),
    st.integers(20 * 365 * 86400, 68 * 365 * 86400),
    st.sampled_from([0, 1, 500_000, 999_999]),
)
spans = st.timedeltas(timedelta(0), timedelta(days=40))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def hours(period: Period, timezone: str, moment: str) -> float:
    found = window(period, timezone, at(moment))
    assert found.end is not None
    return (found.end - found.start) / timedelta(hours=1)


@pytest.mark.parametrize(
    ("timezone", "moment", "length"),
    [
        ("Europe/Berlin", "2026-03-29T12:00", 23),
        ("Europe/Berlin", "2026-10-25T12:00", 25),
        ("Europe/Berlin", "2026-11-24T12:00", 24),
        ("Australia/Lord_Howe", "2026-10-03T20:00", 23.5),
        ("Australia/Lord_Howe", "2026-04-04T20:00", 24.5),
        ("America/Havana", "2026-11-01T12:00", 25),
        ("Africa/Cairo", "2026-04-24T12:00", 23),
    ],
)
def test_a_day_has_as_many_hours_as_the_clocks_give_it(timezone: str, moment: str, length: float) -> None:
    assert hours(Period.DAY, timezone, moment) == length


def test_a_day_begins_at_midnight_of_its_zone() -> None:
    now = at("2026-11-24T18:20")
    assert window(Period.DAY, "UTC", now).start == at("2026-11-24T00:00")
    assert window(Period.DAY, "Europe/Berlin", now).start == at("2026-11-23T23:00")
    assert window(Period.DAY, "Asia/Kathmandu", now) == Window(at("2026-11-24T18:15"), at("2026-11-25T18:15"))


def test_a_day_without_midnight_begins_when_the_clocks_jump_over_it() -> None:
    assert window(Period.DAY, "Africa/Cairo", at("2026-04-23T22:00")).start == at("2026-04-23T22:00")


def test_where_midnight_comes_twice_the_first_begins_the_day() -> None:
    assert window(Period.DAY, "America/Havana", at("2026-11-01T05:30")).start == at("2026-11-01T04:00")


def test_a_clock_that_goes_back_over_midnight_does_not_bring_yesterday_back() -> None:
    first, again = at("2010-11-07T02:30:30"), at("2010-11-07T02:50")  # 00:00:30 on Sunday, then 23:20 on Saturday
    assert again.astimezone(ZoneInfo("America/St_Johns")).day == 6
    assert window(Period.DAY, "America/St_Johns", again) == window(Period.DAY, "America/St_Johns", first)


def test_a_day_that_a_zone_left_out_lies_in_no_window() -> None:
    day = window(Period.DAY, "Pacific/Apia", at("2011-12-30T12:00"))
    assert day.start.astimezone(ZoneInfo("Pacific/Apia")).day == 31
    earlier = before(Period.DAY, "Pacific/Apia", day)
    assert earlier.end == day.start
    assert earlier.start.astimezone(ZoneInfo("Pacific/Apia")).day == 29


def test_a_week_runs_from_monday_to_monday_over_new_year() -> None:
    expected = Window(at("2026-12-28T00:00"), at("2027-01-04T00:00"))
    assert window(Period.WEEK, "UTC", at("2026-12-31T23:59")) == expected
    assert window(Period.WEEK, "UTC", at("2027-01-03T23:59")) == expected


@pytest.mark.parametrize(
    ("moment", "days"),
    [("2026-02-28T10:00", 28), ("2028-02-29T10:00", 29), ("2026-11-24T10:00", 30), ("2026-12-31T10:00", 31)],
)
def test_a_month_has_its_own_length(moment: str, days: int) -> None:
    assert hours(Period.MONTH, "UTC", moment) == days * 24


def test_the_last_24_hours_begin_with_a_whole_quarter_and_never_end() -> None:
    assert window(Period.ROLLING, "Europe/Berlin", at("2026-11-24T18:20:01")) == Window(at("2026-11-23T18:15"), None)
    assert before(Period.ROLLING, "UTC", Window(at("2026-11-23T18:15"), None)) == Window(
        at("2026-11-22T18:15"), at("2026-11-23T18:15")
    )


@given(moments)
def test_spending_leaves_the_last_24_hours_when_it_is_said_to(now: datetime) -> None:
    leaving = leaves(slot_of(now))
    assert window(Period.ROLLING, "UTC", leaving - timedelta(microseconds=1)).start <= slot_of(now)
    assert window(Period.ROLLING, "UTC", leaving).start > slot_of(now)


@given(moments, st.sampled_from(CALENDAR), zones)
def test_every_moment_lies_in_its_window_which_begins_and_ends_on_quarters(
    now: datetime, period: Period, timezone: str
) -> None:
    found = window(period, timezone, now)
    assert found.end is not None
    assert found.start <= now < found.end
    assert (slot_of(found.start), slot_of(found.end)) == (found.start, found.end)
    assert window(period, timezone, found.start) == found
    assert window(period, timezone, found.end - timedelta(microseconds=1)) == found


@given(moments, st.sampled_from(CALENDAR), zones)
def test_windows_follow_one_another_without_gap_or_overlap(now: datetime, period: Period, timezone: str) -> None:
    found = window(period, timezone, now)
    earlier = before(period, timezone, found)
    assert earlier.end == found.start
    assert earlier.start < found.start


@given(moments, st.timedeltas(timedelta(0), timedelta(days=2)))
def test_slots_sum_to_the_whole_to_the_microsecond(start: datetime, length: timedelta) -> None:
    found = slots(start, start + length)
    assert sum((seconds for _, seconds in found), Decimal(0)) == Decimal(length // timedelta(microseconds=1)) / 10**6
    assert all(0 < seconds <= 900 for _, seconds in found)
    starts = [slot for slot, _ in found]
    assert starts == [slot_of(start) + step * SLOT for step in range(len(found))]


@given(moments, st.lists(st.timedeltas(timedelta(0), timedelta(hours=3)), min_size=1, max_size=5))
def test_cutting_a_span_anywhere_gives_the_same_slots(start: datetime, lengths: list[timedelta]) -> None:
    whole: dict[datetime, Decimal] = {}
    moment = start
    for length in lengths:
        for slot, seconds in slots(moment, moment + length):
            whole[slot] = whole.get(slot, Decimal(0)) + seconds
        moment += length
    assert whole == dict(slots(start, moment))


def test_time_that_runs_backwards_has_no_slots() -> None:
    assert slots(at("2026-11-24T10:00"), at("2026-11-24T09:00")) == []


@given(moments, spans)
@settings(max_examples=50)
def test_a_cover_is_the_span_in_whole_quarters_each_once(start: datetime, length: timedelta) -> None:
    found = cover(start, start + length)
    counted: list[datetime] = []
    for first, last in (*found.quarters, *((found.days,) if found.days else ())):
        assert first < last
        counted += [first + step * SLOT for step in range((last - first) // SLOT)]
    assert sorted(counted) == [slot for slot, _ in slots(slot_of(start), start + length)]
    if found.days:
        assert (day_of(found.days[0]), day_of(found.days[1])) == found.days
    assert all((last - first) < timedelta(days=2) for first, last in found.quarters)


@given(moments, zones)
def test_a_month_is_at_most_31_days_and_twice_a_day_of_quarters(now: datetime, timezone: str) -> None:
    month = window(Period.MONTH, timezone, now)
    assert month.end is not None
    found = cover(month.start, month.end)
    assert found.days is not None
    assert (found.days[1] - found.days[0]).days <= 31
    assert len(found.quarters) <= 2
    assert all((last - first) // SLOT < 96 for first, last in found.quarters)


def test_a_utc_day_is_covered_by_itself() -> None:
    assert cover(at("2026-11-24T00:00"), at("2026-11-25T00:00")) == Cover(
        (), (at("2026-11-24T00:00"), at("2026-11-25T00:00"))
    )
    assert cover(at("2026-11-24T00:00"), at("2026-11-24T00:00")) == Cover((), None)


def test_a_slot_is_the_same_in_every_zone() -> None:
    moment = at("2026-11-24T10:07")
    assert slot_of(moment.astimezone(ZoneInfo("Asia/Kathmandu"))) == at("2026-11-24T10:00")
    assert day_of(moment.astimezone(ZoneInfo("Pacific/Chatham"))) == at("2026-11-24T00:00")
