"""The line items of one file of an AWS cost and usage report that are machines of EC2, as AWS bills them.

Counted are line items of EC2 instances by the hour, on spot or not, at what they really cost: a machine that a savings
plan or a reservation covers at its part of that plan (https://docs.aws.amazon.com/cur/latest/userguide/data-dictionary.html).
Taxes, fees, credits, disks and traffic are not: nobody here records them either.

Columns are found by their names whichever way these are written: `lineItem/UnblendedCost` (Cost and Usage Report, CSV),
`line_item_unblended_cost` (the same for Athena, and Data Exports), `resourceTags/user:project`,
`resource_tags_user_project`, or `project` within the map `resource_tags`.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

from avatar_pipeline.budget.cur_files import ReportFile
from avatar_pipeline.errors import InvalidInput

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
PRODUCT = "AmazonEC2"
MACHINE = r"(?:^|-)(?:BoxUsage|SpotUsage|DedicatedUsage)(?::|$)"
"""Usage types of instances by the hour, with or without a region before: `USE2-SpotUsage:g5.xlarge`."""
SPOT = "SpotUsage"
COSTS = {
    "Usage": "line_item_unblended_cost",
    "SavingsPlanCoveredUsage": "savings_plan_savings_plan_effective_cost",
    "DiscountedUsage": "reservation_effective_cost",
}
"""Kinds of line items that are use, and which of their columns is what they cost."""

KIND, CODE, USAGE = "line_item_line_item_type", "line_item_product_code", "line_item_usage_type"
START, END = "line_item_usage_start_date", "line_item_usage_end_date"
UNBLENDED = COSTS["Usage"]
CURRENCY = "line_item_currency_code"
TAGS = "resource_tags"
NEEDED = (KIND, CODE, USAGE, START, END, UNBLENDED)
OPTIONAL = (*(name for name in COSTS.values() if name != UNBLENDED), CURRENCY)

_MACHINE = re.compile(MACHINE)


@dataclass(frozen=True, slots=True)
class LineItem:
    """A machine's time from `start` to `end` (UTC) and what it cost, in US dollars."""

    start: datetime
    end: datetime
    cost: Decimal
    spot: bool


@dataclass(frozen=True, slots=True)
class Tag:
    """A cost allocation tag and the value that line items must have to count."""

    name: str
    value: str


@dataclass(slots=True)
class Extent:
    """From when up to when files tell of any use at all.

    A line item of an hour or less tells of that hour; one of a day is there before its day is over, and so tells only
    that the days before it are; longer ones tell nothing.
    """

    since: datetime | None = None
    until: datetime | None = None

    def see(self, start: datetime, end: datetime) -> None:
        """Note that there is a line item of this time."""
        if end - start <= DAY:
            known = end if end - start <= HOUR else start
            self.since = start if self.since is None else min(start, self.since)
            self.until = known if self.until is None else max(known, self.until)


Row = Mapping[str, Any]


def canonical(name: str) -> str:
    """Return a column's name in the one way of writing in which both formats agree: letters and digits only."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def bad(file: str, where: str, told: str) -> NoReturn:
    """Refuse a file.

    Raises:
        InvalidInput: always; names the file, and the line or column.
    """
    raise InvalidInput(
        f"{file}, {where}: {told}.", remedy="Export the report again; see that AVATAR_CUR names an AWS report."
    )


class Columns:
    """Where the columns are that we need, by our names for them; `at` gives each its place in the header."""

    def __init__(self, file: str, header: Sequence[str], tag: Tag | None) -> None:
        self.file = file
        known = {canonical(name): place for place, name in reversed(list(enumerate(header)))}
        self.at = {name: known[key] for name in (*NEEDED, *OPTIONAL) if (key := canonical(name)) in known}
        for name in NEEDED:
            if name not in self.at:
                found = ", ".join(list(header)[:5]) or "nothing"
                bad(file, f"column {name}", f"it is not there (the file has {found}, ...)")
        self.tag_column = TAGS
        if tag is not None:
            names = [f"{TAGS}_{key}" for key in tag_keys(tag.name)]
            self.tag_column = next((name for name in names if canonical(name) in known), TAGS)
            place = known.get(canonical(self.tag_column))
            if place is None:
                bad(
                    file,
                    f"column {TAGS}_user_{tag.name}",
                    "there is no such tag; activate it as a cost allocation tag in AWS Billing",
                )
            self.at[self.tag_column] = place


def tag_keys(name: str) -> tuple[str, ...]:
    """Return the keys that a tag may have in a report: AWS puts `user` before those that people gave."""
    return name, f"user_{name}"


def csv_items(file: ReportFile, tag: Tag | None, extent: Extent) -> Iterator[LineItem]:
    """Read a CSV file, gzipped or not, line by line.

    Raises:
        InvalidInput: it is damaged, lacks a column, or a value in it cannot be read.
    """
    with file.path.open("rb") as raw:
        plain = gzip.GzipFile(fileobj=raw) if file.name.lower().endswith(".gz") else raw
        try:
            yield from _csv_rows(file.name, io.TextIOWrapper(plain, "utf-8-sig", newline=""), tag, extent)
        except (csv.Error, EOFError, gzip.BadGzipFile, zlib.error) as error:
            bad(file.name, "all of it", f"it is damaged: {error}")
        except UnicodeDecodeError:
            bad(file.name, "all of it", "it is no text in UTF-8")


def _csv_rows(name: str, lines: io.TextIOWrapper, tag: Tag | None, extent: Extent) -> Iterator[LineItem]:
    reader = csv.reader(lines)
    header = next(reader, None)
    if header is None:
        bad(name, "all of it", "it is empty")
    columns = Columns(name, header, tag)
    at = columns.at
    seen: set[tuple[str, str]] = set()
    for values in reader:
        if not values:
            continue
        if len(values) < len(header):
            bad(name, f"line {reader.line_num}", f"it has {len(values)} of {len(header)} values")
        if values[at[KIND]] not in COSTS:
            continue
        # Thousands of lines share each hour.
        if (span := (values[at[START]], values[at[END]])) not in seen:
            seen.add(span)
            extent.see(time_of(name, START, span[0]), time_of(name, END, span[1]))
        if values[at[CODE]] != PRODUCT or not _MACHINE.search(values[at[USAGE]]):
            continue
        row = {column: values[place] for column, place in at.items()}
        if tag is None or has_tag(columns, row, tag):
            yield item_of(columns.file, row)


def has_tag(columns: Columns, row: Row, tag: Tag) -> bool:
    """Return whether a row has a tag's value."""
    held = row[columns.tag_column]
    if columns.tag_column != TAGS:
        return bool(held == tag.value)
    if isinstance(held, str):
        try:
            held = json.loads(held) if held else {}
        except ValueError:
            bad(columns.file, f"column {TAGS}", f"{held[:40]!r} is no JSON")
    wanted = {canonical(key) for key in tag_keys(tag.name)}
    return any(canonical(str(key)) in wanted and value == tag.value for key, value in dict(held or {}).items())


def item_of(file: str, row: Row) -> LineItem:
    """Return a row of a machine as a line item.

    Raises:
        InvalidInput: a value cannot be read, or the currency is another one.
    """
    if (currency := row.get(CURRENCY)) and currency != "USD":
        bad(file, f"column {CURRENCY}", f"it is in {currency}, and we reckon in USD")
    column = COSTS[row[KIND]]
    if column not in row:
        bad(file, f"column {column}", f"it is not there, and a line item is {row[KIND]}")
    start, end = time_of(file, START, row[START]), time_of(file, END, row[END])
    if end < start:
        bad(file, f"column {END}", f"{row[END]} is before {row[START]}")
    return LineItem(start, end, _amount(file, column, row[column]), SPOT in row[USAGE])


def time_of(file: str, column: str, value: Any) -> datetime:
    """Return a time as UTC; reports tell them in it.

    Raises:
        InvalidInput: it is none.
    """
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    except (TypeError, ValueError):
        bad(file, f"column {column}", f"{str(value)[:40]!r} is no time")
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _amount(file: str, column: str, value: Any) -> Decimal:
    if value in (None, ""):
        return Decimal(0)
    try:
        amount = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    except (InvalidOperation, TypeError, ValueError):
        amount = Decimal("NaN")
    if not amount.is_finite():
        bad(file, f"column {column}", f"{str(value)[:40]!r} is no amount")
    return amount
