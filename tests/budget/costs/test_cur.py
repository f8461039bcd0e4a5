"""The bill: the same machines' cost out of every format that AWS writes, and clear words where a file is none."""

import gzip
import os
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar_pipeline.budget.cur import Bill, BilledDay, by_day, parse_tag, read_bill
from avatar_pipeline.budget.cur_lines import LineItem, Tag
from avatar_pipeline.errors import EnvironmentProblem, InvalidInput
from tests.budget.costs.reports import (
    ATHENA,
    EXPORT,
    HOUR,
    LEGACY,
    START,
    item,
    other_use,
    write_csv,
    write_parquet,
)

DAY = date(2026, 11, 10)
NEXT = DAY + timedelta(days=1)
OURS = Tag("project", "avatars")

Write = Callable[[Path, list[dict[str, Any]]], Path]
FORMATS: dict[str, Write] = {
    "CUR, CSV": lambda folder, items: write_csv(folder / "r-1.csv", items),
    "CUR, gzipped CSV": lambda folder, items: write_csv(folder / "r-1.csv.gz", items),
    "CUR, Parquet": lambda folder, items: write_parquet(folder / "r-1.snappy.parquet", items),
    "CUR, Parquet as Athena reads it": lambda folder, items: write_parquet(folder / "r.parquet", items, unit="ns"),
    "CUR 2.0, gzipped CSV": lambda folder, items: write_csv(folder / "r-00001.csv.gz", items, EXPORT),
    "CUR 2.0, Parquet": lambda folder, items: write_parquet(folder / "r-00001.snappy.parquet", items, EXPORT),
}


@pytest.fixture(params=FORMATS)
def write(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[list[dict[str, Any]]], Path]:
    """Write a report in each of the formats."""
    return lambda items: FORMATS[request.param](tmp_path, items)


def bill(path: Path, first: date = DAY, last: date = DAY, tag: Tag | None = None) -> Bill:
    return read_bill(str(path), first, last, tag=tag)


def test_machines_are_added_up_by_day_and_nothing_else(write: Callable[[list[dict[str, Any]]], Path]) -> None:
    path = write(
        [
            item("0.1"),
            item("0.2", 23, usage="SpotUsage:g4dn.xlarge"),
            item("0.4", 3, usage="BoxUsage"),
            item("0.8", 24, usage="EUC1-SpotUsage:g6.xlarge"),
            item("1.6", -1),
            item("100", 1, kind="SavingsPlanCoveredUsage", plan="0.01"),
            item("0", 2, kind="DiscountedUsage", reserved="0.02"),
            item("-100", 1, kind="SavingsPlanNegation"),
            item("50", 1, kind="Tax"),
            item("50", 1, kind="Credit"),
            item("50", 1, usage="EBS:VolumeUsage.gp3"),
            item("50", 1, usage="USE2-DataTransfer-Out-Bytes"),
            item("50", 1, code="AmazonEKS", usage="USE2-AmazonEKS-Hours:perCluster"),
            item("50", 1, code="AmazonRDS", usage="USE2-BoxUsage:db.m5.large"),
        ]
    )
    found = bill(path, DAY, NEXT)
    assert found.days == {
        DAY: BilledDay(Decimal("0.73"), Decimal("0.2")),
        NEXT: BilledDay(Decimal("0.8"), Decimal("0.8")),
    }
    assert (found.files, found.items) == (1, 7)


def test_with_a_tag_only_what_has_it_counts(write: Callable[[list[dict[str, Any]]], Path]) -> None:
    path = write([item("0.1", tag="avatars"), item("0.2"), item("0.4", tag="else"), item("0.8", 2, tag="avatars")])
    assert bill(path, tag=OURS).days[DAY].amount == Decimal("0.9")
    assert bill(path, tag=Tag("project", "nobody")).days[DAY].amount == 0
    assert bill(path).days[DAY].amount == Decimal("1.5")


def test_a_report_covers_a_day_once_it_tells_of_its_last_hour(write: Callable[[list[dict[str, Any]]], Path]) -> None:
    path = write([item(), *other_use()])
    found = bill(path)
    assert found.until == START + timedelta(days=1)
    assert [found.covers(day) for day in (DAY - timedelta(days=1), DAY, NEXT)] == [False, True, False]


def test_a_day_on_which_a_report_begins_is_not_covered(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", other_use()[1:] + other_use(1))
    assert [bill(path).covers(day) for day in (DAY, NEXT)] == [False, True]


def test_a_report_by_days_covers_a_day_once_the_next_one_is_there(tmp_path: Path) -> None:
    today = item("1", start=START, end=START + timedelta(days=1))
    assert not bill(write_csv(tmp_path / "a.csv", [today])).covers(DAY)
    tomorrow = today | {"start": today["end"], "end": today["end"] + timedelta(days=1)}
    assert bill(write_csv(tmp_path / "b.csv", [today, tomorrow])).covers(DAY)


def test_what_is_told_of_whole_months_covers_no_day(tmp_path: Path) -> None:
    month = item("30", start=datetime(2026, 11, 1, tzinfo=UTC), end=datetime(2026, 12, 1, tzinfo=UTC))
    found = bill(write_csv(tmp_path / "a.csv", [month]))
    assert (found.until, found.days[DAY].amount) == (None, 1)


def test_a_line_item_of_several_days_is_split_over_them(write: Callable[[list[dict[str, Any]]], Path]) -> None:
    path = write([item("4.8", start=START - 12 * HOUR, end=START + 36 * HOUR)])
    days = bill(path, DAY - timedelta(days=1), NEXT).days
    assert [day.amount for day in days.values()] == [Decimal("1.2"), Decimal("2.4"), Decimal("1.2")]


@given(
    start=st.timedeltas(timedelta(0), timedelta(days=40)).map(lambda later: START + later),
    seconds=st.decimals(0, 40 * 86400, places=6),
    cost=st.decimals(-1000, 1_000_000, places=10),
)
def test_the_parts_of_a_line_item_sum_to_the_whole(start: datetime, seconds: Decimal, cost: Decimal) -> None:
    end = start + timedelta(microseconds=int(seconds * 1_000_000))
    parts = dict(by_day(LineItem(start, end, cost, spot=False)))
    assert sum(parts.values()) == cost
    assert list(parts) == [start.date() + timedelta(days=n) for n in range(len(parts))]
    lasts = Decimal(seconds) or Decimal(1)
    for day, part in parts.items():
        begins = max(start, datetime(day.year, day.month, day.day, tzinfo=UTC))
        ends = min(end, datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1))
        expected = cost * Decimal((ends - begins) // timedelta(microseconds=1)) / 1_000_000 / lasts if seconds else cost
        assert abs(part - expected) <= Decimal("1e-11")


def test_costs_keep_all_their_places(write: Callable[[list[dict[str, Any]]], Path]) -> None:
    assert bill(write([item("0.0000000123")] * 3)).days[DAY].amount == Decimal("0.0000000369")


# Which files


def test_only_the_latest_version_of_a_period_is_read(tmp_path: Path) -> None:
    for version, cost in (("20261111T010203Z", "5"), ("20261112T010203Z", "0.5")):
        write_csv(tmp_path / "report/20261101-20261201" / version / "report-1.csv.gz", [item(cost)])
    assert bill(tmp_path).days[DAY].amount == Decimal("0.5")


def test_versions_without_a_time_in_their_names_go_by_when_they_were_written(tmp_path: Path) -> None:
    for age, version, cost in ((1000, "ffff-uuid", "5"), (10, "0000-uuid", "0.5")):
        path = write_csv(tmp_path / "report/20261101-20261201" / version / "report-1.csv.gz", [item(cost)])
        os.utime(path, (1_800_000_000 - age, 1_800_000_000 - age))
    assert bill(tmp_path).days[DAY].amount == Decimal("0.5")


def test_all_files_of_a_version_and_of_both_months_count_and_of_no_other_month(tmp_path: Path) -> None:
    last = date(2026, 10, 31)
    data = tmp_path / "export/data"
    night = START.replace(month=10, day=31)
    write_csv(data / "BILLING_PERIOD=2026-10/e-00001.csv.gz", [item("1", start=night)], EXPORT)
    write_csv(data / "BILLING_PERIOD=2026-10/e-00002.csv.gz", [item("2", start=night + HOUR)], EXPORT)
    write_csv(
        data / "BILLING_PERIOD=2026-11/2026-11-03T12:00:00.000Z-uuid/e-00001.csv.gz",
        [item("4", start=START.replace(day=1))],
        EXPORT,
    )
    (data / "BILLING_PERIOD=2026-09").mkdir()
    (data / "BILLING_PERIOD=2026-09/e-00001.csv.gz").write_bytes(b"is not looked at")
    (tmp_path / "export/metadata").mkdir()
    (tmp_path / "export/metadata/e-Manifest.json").write_text("{}")
    found = bill(tmp_path / "export", last, date(2026, 11, 1))
    assert [day.amount for day in found.days.values()] == [3, 4]
    assert found.files == 3


def test_the_folders_of_athena_are_months_too(tmp_path: Path) -> None:
    write_parquet(tmp_path / "r/year=2026/month=11/r-00001.snappy.parquet", [item("1")])
    write_parquet(tmp_path / "r/year=2026/month=9/r-00001.snappy.parquet", [item("2")])
    assert bill(tmp_path).days[DAY].amount == 1


def test_a_report_that_has_nothing_of_these_days_yet_is_a_bill_that_covers_none(tmp_path: Path) -> None:
    write_csv(tmp_path / "report/20261001-20261101/v/report-1.csv.gz", [item("1")])
    found = bill(tmp_path)
    assert (found.days, found.until, found.files) == ({DAY: BilledDay()}, None, 0)


def test_two_reports_are_not_added_up(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_csv(tmp_path / name / "20261101-20261201/v/report-1.csv.gz", [item()])
    with pytest.raises(InvalidInput, match=r"more than one cost and usage report for the same time: first, second\."):
        bill(tmp_path)


def test_one_report_in_two_formats_is_not_added_up(tmp_path: Path) -> None:
    write_csv(tmp_path / "r.csv", [item()])
    write_parquet(tmp_path / "r.parquet", [item()])
    with pytest.raises(InvalidInput, match="as CSV and as Parquet"):
        bill(tmp_path)


def test_a_place_that_is_not_there_or_holds_no_report_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="nowhere is not there"):
        bill(tmp_path / "nowhere")
    (tmp_path / "report.csv.zip").write_bytes(b"")
    with pytest.raises(InvalidInput, match=r"no file ends in \.csv, \.csv\.gz, \.parquet"):
        bill(tmp_path)


# What is no report


@pytest.mark.parametrize("names", [LEGACY, ATHENA], ids=["CSV", "Parquet"])
@pytest.mark.parametrize("left", ["kind", "start", "end", "code", "usage", "cost"])
def test_a_missing_column_is_named(tmp_path: Path, left: str, names: dict[str, str]) -> None:
    if names is LEGACY:
        path = write_csv(tmp_path / "r.csv", [item()], leave=[left])
    else:
        path = write_parquet(tmp_path / "r.parquet", [item()], {k: v for k, v in names.items() if k != left})
    with pytest.raises(InvalidInput, match=rf"{path.name}, column {ATHENA[left]}: it is not there"):
        bill(path)


def test_a_tag_that_is_not_activated_is_named(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "r.csv", [item()], leave=["tag"])
    with pytest.raises(InvalidInput, match=r"r\.csv, column resource_tags_user_project: there is no such tag"):
        bill(path, tag=OURS)


def test_costs_of_a_savings_plan_need_their_column(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "r.csv", [item(kind="SavingsPlanCoveredUsage")], leave=["plan"])
    with pytest.raises(InvalidInput, match="savings_plan_savings_plan_effective_cost: it is not there"):
        bill(path)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"cost": "much"}, "column line_item_unblended_cost: 'much' is no amount"),
        ({"cost": "NaN"}, "column line_item_unblended_cost: 'NaN' is no amount"),
        ({"start": "yesterday", "end": START}, "column line_item_usage_start_date: 'yesterday' is no time"),
        ({"end": START - HOUR}, "column line_item_usage_end_date: .* is before"),
        ({"currency": "CNY"}, "column line_item_currency_code: it is in CNY"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(tmp_path: Path, values: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        bill(write_csv(tmp_path / "r.csv", [item(**values)]))


def test_a_line_that_breaks_off_is_named(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "r.csv", [item(), item()])
    path.write_text(path.read_text().rstrip()[:-30])
    with pytest.raises(InvalidInput, match=r"r\.csv, line 3: it has . of 11 values"):
        bill(path)


@pytest.mark.parametrize("name", ["r.csv", "r.csv.gz", "r.parquet"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00 nonsense", b"PAR1 nonsense PAR1"])
def test_a_file_that_is_something_else_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=name.replace(".", r"\.")):
        bill(path)


def test_a_gzipped_file_that_was_cut_off_is_damaged(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "r.csv.gz", [item(str(n / 7), id=os.urandom(8).hex()) for n in range(2000)])
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InvalidInput, match="it is damaged"):
        bill(path)
    path.write_bytes(gzip.compress(b"")[:6])
    with pytest.raises(InvalidInput, match="it is damaged"):
        bill(path)


# In a bucket


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Point everything at an address of S3; what was opened at another one is forgotten."""
    import s3fs

    def use(address: str) -> None:
        s3fs.S3FileSystem.clear_instance_cache()
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
        for name, value in ({"AWS_ENDPOINT_URL": address, "AWS_MAX_ATTEMPTS": "1"} | keys).items():
            monkeypatch.setenv(name, value)

    yield use
    s3fs.S3FileSystem.clear_instance_cache()


def test_a_report_is_read_where_aws_puts_it(s3: Callable[[str], None], tmp_path: Path) -> None:
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    try:
        s3("http://{}:{}".format(*server.get_host_and_port()))
        client = boto3.client("s3")
        client.create_bucket(Bucket="bills")
        texts = write_csv(tmp_path / "r.csv.gz", [item("1")], EXPORT)
        table = write_parquet(tmp_path / "r.parquet", [item("2")], EXPORT)
        older = write_csv(tmp_path / "older.csv.gz", [item("5")], EXPORT)
        for version, path in (("2026-11-11T00:00:00.000Z-b", older), ("2026-11-12T00:00:00.000Z-a", texts)):
            name = f"cur/e/data/BILLING_PERIOD=2026-11/{version}/e-00001.csv.gz"
            client.put_object(Bucket="bills", Key=name, Body=path.read_bytes())
        client.put_object(
            Bucket="bills", Key="tables/BILLING_PERIOD=2026-11/e-00001.snappy.parquet", Body=table.read_bytes()
        )
        assert read_bill("s3://bills/cur", DAY, DAY).days[DAY].amount == 1
        assert read_bill("s3://bills/tables/", DAY, DAY).days[DAY].amount == 2
        with pytest.raises(InvalidInput, match="s3://bills/nothing is not there"):
            read_bill("s3://bills/nothing", DAY, DAY)
        with pytest.raises(InvalidInput, match="s3://no-such-bucket/cur is not there"):
            read_bill("s3://no-such-bucket/cur", DAY, DAY)
    finally:
        server.stop()


def test_a_bucket_that_cannot_be_reached_is_told(s3: Callable[[str], None]) -> None:
    s3("http://127.0.0.1:9")
    with pytest.raises(EnvironmentProblem, match="s3://bills/cur cannot be read"):
        read_bill("s3://bills/cur", DAY, DAY)


def test_a_tag_is_given_as_name_and_value() -> None:
    assert parse_tag("project=a=b") == Tag("project", "a=b")
    for text in ("project", "=x", "project="):
        with pytest.raises(InvalidInput, match="AVATAR_CUR_TAG"):
            parse_tag(text)
