"""Reading tables with the engines' native readers: SQL text for DuckDB, a LazyFrame for Polars, Arrow. Never PyIceberg's scan.

PyIceberg's scan turns a null `list<struct>` into an empty one. Sessions are made elsewhere; only SQL text and frames come from here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.types import (
    DecimalType,
    FixedType,
    IcebergType,
    ListType,
    MapType,
    StructType,
)

from platform_resources.errors import PlatformError
from platform_resources.lakehouse.conforming import arrow_schema_of, empty_rows
from platform_resources.lakehouse.file_io import object_store_of
from platform_resources.lakehouse.files import DeletedRows, FileTask, live_tasks, read_task, referenced_path
from platform_resources.lakehouse.stamp import ROLLED_BACK_FROM, summary_of

if TYPE_CHECKING:
    import polars as pl

NEWEST = 3  # branches that a sentence or a page names

_DUCKDB_TYPES = {
    "boolean": "BOOLEAN",
    "int": "INTEGER",
    "long": "BIGINT",
    "float": "FLOAT",
    "double": "DOUBLE",
    "date": "DATE",
    "time": "TIME",
    "timestamp": "TIMESTAMP",
    "timestamptz": "TIMESTAMPTZ",
    "string": "VARCHAR",
    "uuid": "UUID",
    "binary": "BLOB",
}


def duckdb_type(kind: IcebergType) -> str:
    """The DuckDB type, as SQL text, of an Iceberg type as `iceberg_scan` gives it."""
    if isinstance(kind, StructType):
        return "STRUCT(" + ", ".join(f"{quoted(one.name)} {duckdb_type(one.field_type)}" for one in kind.fields) + ")"
    if isinstance(kind, ListType):
        return duckdb_type(kind.element_type) + "[]"
    if isinstance(kind, MapType):
        return f"MAP({duckdb_type(kind.key_type)}, {duckdb_type(kind.value_type)})"
    if isinstance(kind, DecimalType):
        return f"DECIMAL({kind.precision}, {kind.scale})"
    return "BLOB" if isinstance(kind, FixedType) else _DUCKDB_TYPES[str(kind)]


def quoted(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal_text(text: str) -> str:
    """An SQL string."""
    return "'" + text.replace("'", "''") + "'"


def empty_relation_sql(schema: Schema) -> str:
    """Text usable in FROM: no rows, with the columns and types of a schema."""
    columns = ", ".join(f"CAST(NULL AS {duckdb_type(one.field_type)}) AS {quoted(one.name)}" for one in schema.fields)
    return f"(SELECT {columns} WHERE false)"


def duckdb_scan_sql(table: Table | None, snapshot_id: int | None = None, *, schema: Schema | None = None) -> str:
    """Text usable in FROM: the table at a snapshot (default: the head of main).

    A table that was never created (None) is an empty relation with the columns of `schema`, the contract's.

    Raises:
        ValueError: neither a table nor a schema is given.
        PlatformError: `snapshot-unknown`.
    """
    if table is None or (snapshot_id is None and table.metadata.current_snapshot_id is None):
        if table is None and schema is None:
            raise ValueError("a table that does not exist needs a schema")
        return empty_relation_sql(schema or table.schema())  # type: ignore[union-attr]
    return metadata_scan_sql(table.metadata_location, None if snapshot_id is None else snapshot_at(table, snapshot_id))


def metadata_scan_sql(metadata_location: str, snapshot_id: int | None = None) -> str:
    """Text usable in FROM: what a metadata file says, at a snapshot."""
    pin = "" if snapshot_id is None else f", snapshot_from_id = {snapshot_id}"
    return f"iceberg_scan({literal_text(metadata_location)}{pin})"


def files_scan_sql(table: Table, parts: Sequence[FileTask | DeletedRows]) -> str:
    """Text usable in FROM: just these rows, in the table's current schema; columns added since are null."""
    return files_relation_sql(table.schema(), parts)


def files_relation_sql(schema: Schema, parts: Sequence[FileTask | DeletedRows]) -> str:
    """`files_scan_sql` for a schema. The typed empty part gives order, types and missing columns, nested ones too."""
    whole = [part for part in parts if isinstance(part, FileTask) and not part.deletes]
    kept = [part for part in parts if isinstance(part, FileTask) and part.deletes]
    gone = [part for part in parts if isinstance(part, DeletedRows)]
    selects = []
    if whole:
        selects.append(f"SELECT * FROM {_parquet_sql(whole, 'union_by_name = true')}")  # noqa: S608
    if kept:
        selects.append(_joined_sql(kept, "ANTI", _positions_sql([(part, part.deletes) for part in kept])))
    if gone:
        before = _positions_sql([(part, part.before) for part in gone])
        deleted = f"({_positions_sql([(part, part.deletes) for part in gone])})" + (f" EXCEPT ({before})" if before else "")
        selects.append(_joined_sql(gone, "SEMI", deleted))
    if not selects:
        return empty_relation_sql(schema)
    return "(" + " UNION ALL BY NAME ".join([f"SELECT * FROM {empty_relation_sql(schema)}", *selects]) + ")"  # noqa: S608


_FILE = "__file"


def _parquet_sql(parts: Sequence[FileTask | DeletedRows], options: str) -> str:
    """The whole files, as they are."""
    files = "[" + ", ".join(literal_text(path) for path in dict.fromkeys(part.path for part in parts)) + "]"
    return f"read_parquet({files}, {options}, hive_partitioning = false)"


def _joined_sql(parts: Sequence[FileTask | DeletedRows], kind: str, positions: str) -> str:
    """The rows of files that stand (SEMI) or do not stand (ANTI) at some positions. DuckDB gives a local path without its scheme."""
    rows = _parquet_sql(parts, f"union_by_name = true, file_row_number = true, filename = '{_FILE}'")
    on = f"rows_.{_FILE} = gone_.file AND rows_.file_row_number = gone_.pos"
    return f"SELECT rows_.* EXCLUDE (file_row_number, {_FILE}) FROM {rows} AS rows_ {kind} JOIN ({positions}) AS gone_ ON {on}"  # noqa: S608


def _positions_sql(pairs: Sequence[tuple[FileTask | DeletedRows, Sequence[DataFile]]]) -> str:
    """SELECT of file and position from delete files; one that is about several data files counts only for its part's."""
    scoped = dict.fromkeys(delete.file_path for _, deletes in pairs for delete in deletes if referenced_path(delete) is not None)
    groups = [(list(scoped), "true")] if scoped else []
    for part, deletes in pairs:
        if wide := [delete.file_path for delete in deletes if referenced_path(delete) is None]:
            groups.append((wide, f"file_path = {literal_text(part.path)}"))
    return " UNION ALL ".join(
        "(SELECT regexp_replace(file_path, '^file:(//(localhost)?)?', '') AS file, pos "  # noqa: S608
        f"FROM read_parquet([{', '.join(map(literal_text, paths))}], hive_partitioning = false) WHERE {where})"
        for paths, where in groups
    )


def polars_scan(table: Table, snapshot_id: int | None = None) -> pl.LazyFrame:
    """The table as a LazyFrame, by Polars' native reader; a uuid is binary there."""
    import polars as pl

    os.environ.setdefault("POLARS_ICEBERG_PLANNER", "pyiceberg")  # else each scan warns that polars_iceberg is not installed
    pinned = None if snapshot_id is None else snapshot_at(table, snapshot_id)
    store = object_store_of(table.io)
    options = store.polars() if store is not None else None
    return pl.scan_iceberg(table, snapshot_id=pinned, reader_override="native", storage_options=options)


def arrow_table(table: Table, snapshot_id: int | None = None) -> pa.Table:
    """The table in memory, with the table's exact Arrow types (a uuid is `arrow.uuid`).

    A past snapshot is given in the table's current schema; one that is not of main (a refused write) in the schema it was written with.
    """
    snapshot = table.metadata.snapshot_by_id(snapshot_at(table, snapshot_id)) if snapshot_id is not None else table.current_snapshot()
    identifier = ".".join(table.name())
    schema = table.schema()
    if snapshot is not None and snapshot.schema_id is not None and all(one.snapshot_id != snapshot.snapshot_id for one in table.history()):
        schema = table.schemas()[snapshot.schema_id]
    parts = [block for task in live_tasks(table.io, snapshot, identifier) for block in read_task(table.io, task, schema, identifier)]
    return pa.concat_tables([empty_rows(arrow_schema_of(schema)), *parts])


def branches(table: Table) -> list[tuple[str, Snapshot]]:
    """Branches and tags beside main with the snapshots they point to, the newest first."""
    named = [(name, table.snapshot_by_id(ref.snapshot_id)) for name, ref in table.metadata.refs.items() if name != MAIN_BRANCH]
    known = [(name, snapshot) for name, snapshot in named if snapshot is not None]
    return sorted(known, key=lambda one: one[1].timestamp_ms, reverse=True)


def parse_when(text: str) -> datetime | int | str:
    """What a person types for a snapshot: an id, an ISO-8601 time, or else the name of a branch or tag."""
    with suppress(ValueError):
        return int(text) if text.isdigit() and len(text) > 8 else datetime.fromisoformat(text)
    return text


def snapshot_at(table: Table, when: datetime | int | str) -> int:
    """The snapshot that a branch or tag points to, the one of main that was current at a time (UTC when it has no zone), or the id
    itself when the table has it.

    Raises:
        PlatformError: `snapshot-unknown`, `branch-unknown` when there is none.
    """
    identifier = ".".join(table.name())
    if isinstance(when, str):
        if when not in table.metadata.refs:
            raise branch_unknown(when, [table], "neither a snapshot id, nor an ISO-8601 time, nor a branch or tag")
        return table.metadata.refs[when].snapshot_id
    if isinstance(when, int):
        if table.metadata.snapshot_by_id(when) is None:
            raise PlatformError(
                "snapshot-unknown",
                f"{identifier} has no snapshot {when}; it may have expired.",
                "Name a snapshot that the table still keeps.",
            )
        return when
    instant = when if when.tzinfo else when.replace(tzinfo=UTC)
    milliseconds = (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    found = _main_at(table, milliseconds)
    if found is not None:
        return found
    raise PlatformError(
        "snapshot-unknown",
        f"{identifier} keeps no snapshot of {instant.astimezone(UTC).isoformat()}: it is older than the table, or has expired.",
        "Ask for a later time; `sdp table history` lists what is kept.",
    )


def _main_at(table: Table, milliseconds: int) -> int | None:
    """The snapshot that main showed at a time, None when that one has expired.

    Expiry takes its snapshots out of the log without a trace. So the entry found counts only if the next one was made upon it, or
    moved main itself: between others there was one that is gone.
    """
    log = table.metadata.snapshot_log
    index = next((index for index in reversed(range(len(log))) if log[index].timestamp_ms <= milliseconds), None)
    if index is None or table.metadata.snapshot_by_id(log[index].snapshot_id) is None:
        return None
    later = table.metadata.snapshot_by_id(log[index + 1].snapshot_id) if index + 1 < len(log) else None
    if later is not None and later.timestamp_ms == log[index + 1].timestamp_ms:  # it was new then
        rolled_back_from = summary_of(later).get(ROLLED_BACK_FROM)
        if log[index].snapshot_id != (int(rolled_back_from) if rolled_back_from else later.parent_snapshot_id):
            return None
    return log[index].snapshot_id


def branch_unknown(name: str, tables: Sequence[Table], what: str = "no branch or tag") -> PlatformError:
    """The sentence for a branch or tag that none of the tables has, with the newest ones that there are."""
    found = sorted(((snapshot.timestamp_ms, branch) for table in tables for branch, snapshot in branches(table)), reverse=True)
    newest = list(dict.fromkeys(branch for _, branch in found))[:NEWEST]
    where = " or ".join(".".join(table.name()) for table in tables) or "any product"
    return PlatformError(
        "branch-unknown",
        f"{name!r} is {what} of {where}.",
        f"The newest {'is' if len(newest) == 1 else 'are'} {', '.join(newest)}." if newest else "There is none but main.",
    )
