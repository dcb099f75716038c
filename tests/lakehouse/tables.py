"""Tables for the lakehouse suite: definitions by a few words, rows, and reading them back in a canonical form."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

import duckdb
import pyarrow as pa
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.sorting import SortOrder
from pyiceberg.transforms import Transform
from pyiceberg.types import IcebergType, LongType, NestedField, StringType

from platform_resources.contracts.iceberg import TableDefinition
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.conforming import Conformer, arrow_schema_of
from platform_resources.lakehouse.file_io import S3FileIO
from platform_resources.lakehouse.reading import arrow_table, duckdb_scan_sql, polars_scan


def define(
    *columns: tuple[str, IcebergType] | tuple[str, IcebergType, bool],
    partition: Iterable[tuple[str, Transform[Any, Any], str]] = (),
    properties: Mapping[str, str] | None = None,
    identifier: str = "shop.orders",
    sort_order: SortOrder | None = None,
) -> TableDefinition:
    """A definition; a third item of a column says that it is required."""
    fields = [
        NestedField(position, name, kind, required=bool(rest and rest[0])) for position, (name, kind, *rest) in enumerate(columns, start=1)
    ]
    schema = renumbered(Schema(*fields))
    spec = PartitionSpec(
        *(
            PartitionField(schema.find_field(path).field_id, 1000 + position, transform, name)
            for position, (path, transform, name) in enumerate(partition)
        )
    )
    return TableDefinition(identifier, schema, spec, sort_order or SortOrder(), dict(properties or {}), ("id",), "append")


def renumbered(schema: Schema) -> Schema:
    """Unique ids for nested fields, which tests write carelessly."""
    from pyiceberg.schema import assign_fresh_schema_ids

    return assign_fresh_schema_ids(schema)


def orders(partition: Iterable[tuple[str, Transform[Any, Any], str]] = (), **options: Any) -> TableDefinition:
    """id long required, shop string, amount long."""
    return define(("id", LongType(), True), ("shop", StringType()), ("amount", LongType()), partition=partition, **options)


def rows(definition: TableDefinition, *values: tuple[Any, ...]) -> pa.Table:
    """Arrow rows of a definition from tuples in column order."""
    names = [field.name for field in definition.schema.fields]
    return pa.Table.from_pylist([dict(zip(names, one, strict=True)) for one in values], schema=arrow_schema_of(definition.schema))


def read(table: Table | None) -> list[tuple[Any, ...]]:
    """Every row by our Arrow reader, sorted."""
    assert table is not None
    return sorted((tuple(row.values()) for row in arrow_table(table).to_pylist()), key=repr)


def read_by_duckdb(con: duckdb.DuckDBPyConnection, table: Table, relation: str | None = None) -> pa.Table:
    """Every row as DuckDB sees it, in the table's Arrow types."""
    result = con.sql(f"SELECT * FROM {relation or duckdb_scan_sql(table)}").to_arrow_table()
    return Conformer("duckdb", table.schema()).conform(result)


def read_by_polars(table: Table) -> pa.Table:
    """Every row as Polars sees it, in the table's Arrow types."""
    return Conformer("polars", table.schema()).conform(polars_scan(table).collect().to_arrow())


def files_on_disk(lakehouse: Lakehouse, identifier: str = "shop.orders") -> set[PurePath]:
    """Every file under the table's folder, wherever that is."""
    place = f"{lakehouse.settings.warehouse_uri}/{identifier.replace('.', '/')}"
    store = lakehouse.settings.object_store
    if store is None:
        return {path for path in Path(place.removeprefix("file://")).rglob("*") if path.is_file()}
    return {PurePosixPath(location) for location, _size, _time in S3FileIO(store.file_io()).list_prefix(place)}


def location_of(path: PurePath) -> str:
    """The location of one of `files_on_disk` in the table's words."""
    return f"file://{path}" if path.is_absolute() else str(path).replace("s3:/", "s3://", 1)


def table_of(lakehouse: Lakehouse, definition: TableDefinition) -> Table:
    """The table at its newest metadata; it must exist."""
    table = lakehouse.table(definition.identifier)
    assert table is not None
    return table


def reachable(table: Table) -> set[str]:
    """The names of every file that any snapshot reaches, read in full: what expiry may not touch."""
    found = {table.metadata_location, *(entry.metadata_file for entry in table.metadata.metadata_log)}
    for snapshot in table.metadata.snapshots:
        found.add(snapshot.manifest_list)
        for manifest in snapshot.manifests(table.io):
            found.add(manifest.manifest_path)
            found.update(entry.data_file.file_path for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True))
    return {Path(path).name for path in found}


def assert_only_reachable(lakehouse: Lakehouse, table: Table | None) -> None:
    """What lies under the table's folder is what its snapshots reach. Swift lists a deleted file for a moment longer."""
    assert table is not None
    wanted, tries = reachable(table), 1 if lakehouse.settings.object_store is None else 20
    for number in range(tries):
        found = {path.name for path in files_on_disk(lakehouse, ".".join(table.name()))}
        if found == wanted or number == tries - 1:
            break
        time.sleep(0.5)
    assert found == wanted
