"""Which files of an AWS cost and usage report hold some days: each billing period's latest version, and no other.

AWS writes a report anew several times a day, over the one before or beside it, under paths such as

    <report>/20261101-20261201/<version>/<report>-1.csv.gz              Cost and Usage Report
    <report>/year=2026/month=11/<report>-1.snappy.parquet               the same, for Athena
    <export>/data/BILLING_PERIOD=2026-11/<version>/<export>-00001.csv.gz    Data Exports (CUR 2.0)

Two versions read together would count everything twice, and so would two reports.
https://docs.aws.amazon.com/cur/latest/userguide/understanding-report-versions.html
https://docs.aws.amazon.com/cur/latest/userguide/dataexports-export-delivery.html
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from avatar_pipeline.errors import EnvironmentProblem, InvalidInput, package_missing

SUFFIXES = (".csv", ".csv.gz", ".parquet")
_REMEDY = "Set AVATAR_CUR to the folder, file or s3:// URI of one AWS cost and usage report (CSV or Parquet)."
_PERIODS = (
    re.compile(r"(?P<from>\d{8})-(?P<to>\d{8})"),
    re.compile(r"(?i:BILLING_PERIOD)=(?P<year>\d{4})-(?P<month>\d{2})(?:-\d{2})?"),
    re.compile(r"(?i:year)=(?P<year>\d{4})/(?i:month)=(?P<month>\d{1,2})"),
)
_STAMPED = re.compile(r"\d{8}T|\d{4}-\d{2}-\d{2}T")


@dataclass(frozen=True, slots=True)
class ReportFile:
    """One file of a report. `name` is its path below the report's folder; `size` is in bytes."""

    path: Any
    name: str
    modified: float
    size: int

    @property
    def is_parquet(self) -> bool:
        """Whether it is Parquet; else it is CSV."""
        return self.name.lower().endswith(".parquet")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a file lies: in which report, for which days (`end` not included), in which version."""

    report: str
    period: tuple[date, date] | None
    version: str


def report_files(place: str, first: date, last: date) -> list[ReportFile]:
    """Return the files that hold the days from `first` to `last`, in order of name.

    Raises:
        InvalidInput: the place is not there, or holds no report, or more than one.
        EnvironmentProblem: it cannot be reached.
    """
    with reaching(place):
        found = _listed(place)
    if not found:
        raise InvalidInput(
            f"{place} holds no cost and usage report: no file ends in {', '.join(SUFFIXES)}.", remedy=_REMEDY
        )
    by_period: defaultdict[tuple[date, date] | None, dict[str, dict[str, list[ReportFile]]]] = defaultdict(dict)
    for file in found:
        where = _place_of(file.name)
        if where.period is None or (where.period[0] <= last and first < where.period[1]):
            by_period[where.period].setdefault(where.report, {}).setdefault(where.version, []).append(file)
    chosen = [file for reports in by_period.values() for file in _latest(place, reports)]
    _require_one_format(place, chosen)
    return sorted(chosen, key=lambda file: file.name)


@contextmanager
def reaching(place: str) -> Iterator[None]:
    """Turn what goes wrong on the way to a file into an error that says so.

    Raises:
        InvalidInput: it is not there.
        EnvironmentProblem: it cannot be reached or read, or a package is missing.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise InvalidInput(f"{place} is not there.", remedy=_REMEDY) from error
    except ImportError as error:
        raise package_missing(error) from error
    except OSError as error:
        raise _unreachable(place, error) from error
    except Exception as error:
        # The SDK's own errors (no credentials, no region) are of no class that may be named here.
        if not type(error).__module__.startswith("botocore"):
            raise
        raise _unreachable(place, error) from error


def _unreachable(place: str, error: Exception) -> EnvironmentProblem:
    told = getattr(error, "strerror", None) or str(error)
    return EnvironmentProblem(
        f"{place} cannot be read: {told}.", remedy="Check AVATAR_CUR, the rights to it, and the credentials."
    )


def _listed(place: str) -> list[ReportFile]:
    from upath import UPath

    # A listing cache would hide what AWS has delivered since.
    root = UPath(place, use_listings_cache=False) if place.startswith("s3://") else UPath(place)
    if root.is_file():
        return [_file(root, root.name)]
    if not root.exists():
        raise FileNotFoundError(place)
    base = str(root).rstrip("/") + "/"
    paths = [path for path in root.rglob("*") if path.name.lower().endswith(SUFFIXES) and path.is_file()]
    return [_file(path, str(path).removeprefix(base)) for path in paths]


def _file(path: Any, name: str) -> ReportFile:
    about = path.stat()
    return ReportFile(path, Path(name).as_posix(), float(about.st_mtime or 0), int(about.st_size))


def _place_of(name: str) -> _Place:
    folder = name.rpartition("/")[0]
    for pattern in _PERIODS:
        if (match := pattern.search(folder)) is None:
            continue
        try:
            period = _period(match.groupdict())
        except ValueError:
            continue
        return _Place(folder[: match.start()].strip("/"), period, folder[match.end() :].strip("/"))
    return _Place(folder, None, "")


def _period(found: Mapping[str, str]) -> tuple[date, date]:
    if "from" in found:
        return _day(found["from"]), _day(found["to"])
    start = date(int(found["year"]), int(found["month"]), 1)
    return start, (start + timedelta(days=31)).replace(day=1)


def _day(text: str) -> date:
    return datetime.strptime(text + "+0000", "%Y%m%d%z").date()


def _latest(place: str, reports: Mapping[str, Mapping[str, Sequence[ReportFile]]]) -> Sequence[ReportFile]:
    if len(reports) > 1:
        raise InvalidInput(
            f"{place} holds more than one cost and usage report for the same time: {', '.join(sorted(reports))}.",
            remedy="Set AVATAR_CUR to the folder of one of them.",
        )
    (versions,) = reports.values()
    if all(_STAMPED.match(version) for version in versions):
        return versions[max(versions)]
    return versions[max(versions, key=lambda name: (max(file.modified for file in versions[name]), name))]


def _require_one_format(place: str, files: Sequence[ReportFile]) -> None:
    if len({file.is_parquet for file in files}) > 1:
        raise InvalidInput(
            f"{place} holds a report as CSV and as Parquet: {files[0].name}, {files[-1].name}, ...",
            remedy="Set AVATAR_CUR to the folder of one of them.",
        )
