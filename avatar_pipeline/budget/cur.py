"""What AWS bills for EC2 machines, day by day, out of a cost and usage report (CUR, or CUR 2.0 of Data Exports)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, localcontext

from avatar_pipeline.budget.cur_files import reaching, report_files
from avatar_pipeline.budget.cur_lines import Extent, LineItem, Tag, csv_items
from avatar_pipeline.budget.cur_parquet import parquet_items
from avatar_pipeline.budget.types import NONE
from avatar_pipeline.errors import InvalidInput

_DAY = timedelta(days=1)
_MICROSECOND = timedelta(microseconds=1)
_PLACES = Decimal("1e-12")
"""As fine as AWS gives costs."""


@dataclass(frozen=True, slots=True)
class BilledDay:
    """What one UTC day's machines cost, in US dollars; `spot` of it for spot machines."""

    amount: Decimal = NONE
    spot: Decimal = NONE


@dataclass(frozen=True, slots=True)
class Bill:
    """Days of a report, each one that was asked for.

    `since` and `until`: from when up to when the report tells of any use of AWS at all; it begins when somebody asked
    for it, and lags behind by a day or more. `files` and `items`: how much was read, and how many line items counted.
    """

    days: Mapping[date, BilledDay]
    since: datetime | None
    until: datetime | None
    files: int
    items: int

    def covers(self, day: date) -> bool:
        """Whether the report tells of all of a day."""
        if self.since is None or self.until is None:
            return False
        return self.since <= _begins(day) and self.until >= _begins(day + _DAY)


def parse_tag(text: str) -> Tag:
    """Return a tag that is given as `name=value`.

    Raises:
        InvalidInput: it is not.
    """
    name, equals, value = text.partition("=")
    if not name or not equals or not value:
        raise InvalidInput(f"AVATAR_CUR_TAG is {text!r}.", remedy="Give a cost allocation tag as name=value.")
    return Tag(name, value)


def read_bill(place: str, first: date, last: date, *, tag: Tag | None = None) -> Bill:
    """Add up what EC2 machines cost on each UTC day from `first` to `last`.

    A line item that lasts over midnight is split between its days by time; the parts sum to the whole, to 10⁻¹². Files
    are read line by line, or in batches, and only those of the billing periods in question.

    Args:
        place: a file, a folder, or an `s3://` URI (with the `aws` extra); CSV, gzipped CSV or Parquet.
        first: the first day.
        last: the last day.
        tag: only machines with it count; without one, all that the report has.

    Raises:
        InvalidInput: the place or a file is not what it should be; names it, and the column.
        EnvironmentProblem: the place cannot be reached, or a package is missing.
    """
    amounts: defaultdict[date, Decimal] = defaultdict(Decimal)
    spot: defaultdict[date, Decimal] = defaultdict(Decimal)
    extent, items = Extent(), 0
    files = report_files(place, first, last)
    for file in files:
        with reaching(f"{place}: {file.name}"):
            read = parquet_items if file.is_parquet else csv_items
            for item in read(file, tag, extent):
                items += 1
                for day, amount in by_day(item):
                    amounts[day] += amount
                    if item.spot:
                        spot[day] += amount
    wanted = [first + count * _DAY for count in range((last - first).days + 1)]
    return Bill(
        {day: BilledDay(amounts[day], spot[day]) for day in wanted}, extent.since, extent.until, len(files), items
    )


def by_day(item: LineItem) -> Iterator[tuple[date, Decimal]]:
    """Split a line item between the UTC days that it lasts over; one without a length is its first day's."""
    last = (item.end - _MICROSECOND).date() if item.end > item.start else item.start.date()
    if last == item.start.date():
        yield last, item.cost
        return
    day, before = item.start.date(), NONE
    while day <= last:
        # Each day is what is reached at its end less what was at its beginning, so that nothing is lost in rounding.
        reached = item.cost if day == last else _part(item, _begins(day + _DAY))
        yield day, reached - before
        day, before = day + _DAY, reached


def _part(item: LineItem, moment: datetime) -> Decimal:
    with localcontext(prec=60):
        gone, lasts = (moment - item.start) // _MICROSECOND, (item.end - item.start) // _MICROSECOND
        return (item.cost * gone / lasts).quantize(_PLACES)


def _begins(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
