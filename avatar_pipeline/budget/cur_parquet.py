"""Line items out of a Parquet file of an AWS cost and usage report, some at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from avatar_pipeline.budget.cur_files import ReportFile
from avatar_pipeline.budget.cur_lines import (
    CODE,
    COSTS,
    END,
    KIND,
    MACHINE,
    PRODUCT,
    START,
    USAGE,
    Columns,
    Extent,
    LineItem,
    Tag,
    bad,
    has_tag,
    item_of,
    time_of,
)
from avatar_pipeline.errors import EnvironmentProblem

_ROWS = 50_000
"""Rows in memory at once."""


def parquet_items(file: ReportFile, tag: Tag | None, extent: Extent) -> Iterator[LineItem]:
    """Read a Parquet file in batches of rows, and only the columns that are needed.

    Raises:
        InvalidInput: it is damaged, lacks a column, or a value in it cannot be read.
        EnvironmentProblem: pyarrow cannot be loaded.
    """
    pa, pq = _arrow()
    with file.path.open("rb") as raw:
        try:
            with pq.ParquetFile(raw) as source:
                yield from _batches(pa, source, file.name, tag, extent)
        except pa.ArrowException as error:
            bad(file.name, "all of it", f"it is damaged: {str(error)[:200]}")


def _batches(pa: Any, source: Any, name: str, tag: Tag | None, extent: Extent) -> Iterator[LineItem]:
    import pyarrow.compute as pc

    header = source.schema_arrow.names
    columns = Columns(name, header, tag)
    wanted = {column: header[place] for column, place in columns.at.items()}
    for batch in source.iter_batches(batch_size=_ROWS, columns=list(dict.fromkeys(wanted.values()))):
        table = pa.table({column: _readable(pa, batch.column(real)) for column, real in wanted.items()})
        used = table.filter(pc.is_in(table[KIND], pa.array(list(COSTS))))
        _see(used, name, extent)
        machines = pc.and_(
            pc.equal(used[CODE], PRODUCT), pc.fill_null(pc.match_substring_regex(used[USAGE], MACHINE), False)
        )
        for row in used.filter(machines).to_pylist():
            if tag is None or has_tag(columns, row, tag):
                yield item_of(name, row)


def _readable(pa: Any, column: Any) -> Any:
    """Times to the microsecond: finer ones, as Athena's files have, are no datetime of Python's. Words as words."""
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp("us", tz=column.type.tz), safe=False)
    if pa.types.is_dictionary(column.type):
        return column.dictionary_decode()
    return column


def _see(used: Any, name: str, extent: Extent) -> None:
    spans = used.select([START, END]).group_by([START, END]).aggregate([])
    for span in spans.to_pylist():
        extent.see(time_of(name, START, span[START]), time_of(name, END, span[END]))


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise EnvironmentProblem(
            f"pyarrow cannot be loaded: {error}.",
            remedy="Install pyarrow>=16,<26, or have AWS write the report as CSV.",
        ) from error
    return pyarrow, pyarrow.parquet
