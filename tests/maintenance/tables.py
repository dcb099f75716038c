"""Tables that need maintenance, and what is true of every maintained table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.table import Table
from pyiceberg.transforms import DayTransform
from pyiceberg.types import LongType, StringType, TimestamptzType

from platform_resources.contracts.iceberg import MergeRule, TableDefinition
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.files import live_tasks
from platform_resources.lakehouse.orphans import list_files, reached_files
from platform_resources.lakehouse.staging import Commit, publish, stage_append, stage_merge
from platform_resources.lakehouse.stamp import Stamp
from tests.lakehouse.tables import define, rows

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def events(*, by_day: bool = True, **options: Any) -> TableDefinition:
    """id long, dt timestamptz, text string; by day of dt."""
    partition = [("dt", DayTransform(), "dt_day")] if by_day else []
    columns = (("id", LongType(), True), ("dt", TimestamptzType()), ("text", StringType()))
    return define(*columns, partition=partition, **options)


def append(lakehouse: Lakehouse, definition: TableDefinition, *values: tuple[Any, ...], **stamp: Any) -> Commit:
    """One commit of these rows."""
    data = rows(definition, *values)
    return publish(stage_append(lakehouse, definition, data, Stamp(stamp.pop("run_id", "writer"), **stamp)))


def merge(lakehouse: Lakehouse, definition: TableDefinition, *values: tuple[Any, ...], mode: str = "merge-on-read") -> Commit:
    """Rows merged by id, deletes beside the files unless the mode is copy-on-write."""
    forced = replace(definition, merge=MergeRule(strategy=mode))
    return publish(stage_merge(lakehouse, forced, rows(definition, *values), Stamp("merger"), keys=("id",)))


def sizes(lakehouse: Lakehouse, identifier: str = "shop.orders") -> list[int]:
    """Bytes of the live data files."""
    table = lakehouse.table(identifier)
    assert table is not None
    return [task.data_file.file_size_in_bytes for task in live_tasks(table.io, table.current_snapshot(), identifier)]


def assert_whole(table: Table) -> None:
    """Everything that the metadata leads to is there."""
    stored = {location.partition("://")[2] if "://" in location else location for location, *_ in list_files(table)}
    assert {path.removeprefix("//") for path in reached_files(table)} <= stored


def stored_column(table: Table, column: str) -> list[Any]:
    """The values of a column in every data file that lies in the table's folder, whoever reaches it; dotted for nested ones."""
    found: list[Any] = []
    for location, *_ in list_files(table):
        if location.endswith(".parquet"):
            with table.io.new_input(location).open() as stream:
                rows = pq.read_table(stream)
            if column.split(".", maxsplit=1)[0] in rows.column_names:
                found += _flat(rows, column.split("."))
    return found


def _flat(rows: pa.Table, path: Sequence[str]) -> list[Any]:
    return [_value(row, path) for row in rows.select([path[0]]).to_pylist()]


def _value(row: Any, path: Sequence[str]) -> Any:
    for name in path:
        row = None if row is None else row[name]
    return row
