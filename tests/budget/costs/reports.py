"""Cost and usage reports as AWS writes them, for tests."""

import csv
import gzip
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

HOUR = timedelta(hours=1)
START = datetime(2026, 11, 10, tzinfo=UTC)

LEGACY = {
    "id": "identity/LineItemId",
    "kind": "lineItem/LineItemType",
    "start": "lineItem/UsageStartDate",
    "end": "lineItem/UsageEndDate",
    "code": "lineItem/ProductCode",
    "usage": "lineItem/UsageType",
    "currency": "lineItem/CurrencyCode",
    "cost": "lineItem/UnblendedCost",
    "plan": "savingsPlan/SavingsPlanEffectiveCost",
    "reserved": "reservation/EffectiveCost",
    "tag": "resourceTags/user:project",
}
"""Column names of the Cost and Usage Report as CSV."""
ATHENA = {
    "id": "identity_line_item_id",
    "kind": "line_item_line_item_type",
    "start": "line_item_usage_start_date",
    "end": "line_item_usage_end_date",
    "code": "line_item_product_code",
    "usage": "line_item_usage_type",
    "currency": "line_item_currency_code",
    "cost": "line_item_unblended_cost",
    "plan": "savings_plan_savings_plan_effective_cost",
    "reserved": "reservation_effective_cost",
    "tag": "resource_tags_user_project",
}
"""Those of the same as Parquet, for Athena."""
EXPORT = ATHENA | {"tag": "resource_tags"}
"""Those of CUR 2.0, whose tags are one column: a map in Parquet, JSON in CSV."""


def item(cost: str = "0.50", hour: int = 0, **values: Any) -> dict[str, Any]:
    """A line item: an hour of a machine on demand."""
    start = START + hour * HOUR
    return {
        "id": "x",
        "kind": "Usage",
        "start": start,
        "end": values.get("start", start) + HOUR if "end" not in values else None,
        "code": "AmazonEC2",
        "usage": "USE2-BoxUsage:g5.xlarge",
        "currency": "USD",
        "cost": cost,
        "plan": "",
        "reserved": "",
        "tag": "",
    } | values


def other_use(day: int = 0) -> list[dict[str, Any]]:
    """A whole day of something else: it says that the report has come to the end of that day."""
    return [item("9", 24 * day + hour, code="AmazonS3", usage="TimedStorage-ByteHrs") for hour in range(24)]


def write_csv(
    path: Path, items: Sequence[Mapping[str, Any]], names: Mapping[str, str] = LEGACY, *, leave: Sequence[str] = ()
) -> Path:
    """Write a report as CSV, gzipped where the name ends in .gz; `leave` names columns that it is to lack."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = [name for name in names if name not in leave]
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([names[name] for name in columns])
        for one in items:
            writer.writerow([_written(name, one[name], names) for name in columns])
    return path


def _written(name: str, value: Any, names: Mapping[str, str]) -> str:
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    if name == "tag" and names["tag"] == "resource_tags":
        return json.dumps({"user_project": value} if value else {})
    return str(value)


def write_parquet(
    path: Path, items: Sequence[Mapping[str, Any]], names: Mapping[str, str] = ATHENA, *, unit: str = "ms"
) -> Path:
    """Write a report as Parquet, costs as double and times without a zone, as AWS does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {}
    for name, real in names.items():
        values: list[Any] = [one[name] for one in items]
        if name in {"start", "end"}:
            columns[real] = pa.array([value.replace(tzinfo=None) for value in values], pa.timestamp(unit))
        elif name in {"cost", "plan", "reserved"}:
            columns[real] = pa.array([float(value) if value != "" else None for value in values], pa.float64())
        elif real == "resource_tags":
            tags = [[("user_project", value)] if value else [] for value in values]
            columns[real] = pa.array(tags, pa.map_(pa.string(), pa.string()))
        else:
            columns[real] = pa.array(values, pa.string())
    pq.write_table(pa.table(columns), path)
    return path
