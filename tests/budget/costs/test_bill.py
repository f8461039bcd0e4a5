"""Days beside the bill: compared once the bill has come to their end."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from avatar_pipeline.budget.bill import NO_BILL, compare
from avatar_pipeline.budget.cur import Bill, BilledDay

DAY = date(2026, 11, 10)
START = datetime(2026, 11, 10, tzinfo=UTC)
NEXT = DAY + timedelta(days=1)


def test_only_days_that_the_bill_has_come_to_the_end_of_are_compared() -> None:
    days = {DAY: BilledDay(Decimal(10)), NEXT: BilledDay(Decimal(1))}
    until = datetime(2026, 11, 11, 7, tzinfo=UTC)
    found = compare(Bill(days, START, until, 1, 2), {NEXT: Decimal(9), DAY: Decimal("9.4")})
    first, second = found.days
    assert (first.day, first.drift.difference, first.drift.alarm) == (DAY, Decimal("-0.6"), True)
    assert second.drift is None
    assert found.drifts == found.alarms == [(DAY, first.drift)]
    assert found.until == until


def test_without_a_bill_there_is_nothing_to_compare() -> None:
    assert (NO_BILL.configured, NO_BILL.drifts, list(NO_BILL.days)) == (False, [], [])


def test_the_last_three_billed_days_are_judged_each_by_itself() -> None:
    days = [DAY + timedelta(days=number) for number in range(6)]
    bill = Bill({day: BilledDay(Decimal(10)) for day in days}, START, datetime(2026, 11, 15, tzinfo=UTC), 1, 6)
    amounts = (8, 8, 10, 12, 10, 3)
    found = compare(bill, dict(zip(days, map(Decimal, amounts), strict=True)))
    assert [day for day, _ in found.drifts] == days[2:5]
    assert [(day, drift.difference) for day, drift in found.alarms] == [(days[3], 2)]
