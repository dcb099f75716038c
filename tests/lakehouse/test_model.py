"""Any sequence of writes leaves what the same sequence on plain Python lists leaves, and `changes_between` tells the difference."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyiceberg.transforms import BucketTransform, IdentityTransform
from pyiceberg.types import LongType, NestedField, StringType, StructType

from platform_resources.config import Settings
from platform_resources.contracts.iceberg import TableDefinition
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.changes import changes_between
from platform_resources.lakehouse.conforming import arrow_schema_of
from platform_resources.lakehouse.reading import duckdb_scan_sql, files_scan_sql
from platform_resources.lakehouse.staging import PartitionScope, publish, stage_append, stage_empty, stage_merge, stage_overwrite
from platform_resources.lakehouse.stamp import Stamp
from tests.lakehouse.tables import define, read, table_of

Row = tuple[int | None, str | None, int]  # k.id, k.shop, amount
_rows = st.lists(st.tuples(st.none() | st.integers(0, 8), st.sampled_from(["a", "b", "c", None]), st.integers(0, 99)), max_size=8)
_keys = st.lists(st.tuples(st.none() | st.integers(0, 8), st.sampled_from(["a", "b", "c", None])), max_size=4)
_OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), _rows),
        st.tuples(st.just("overwrite-table"), _rows),
        st.tuples(st.just("overwrite-present"), _rows),
        st.tuples(st.just("overwrite-named"), _rows, st.sampled_from(["a", "b", "null"])),
        st.tuples(st.just("merge"), _rows, _keys),
        st.tuples(st.just("replace-keys"), _rows, _keys),
        st.tuples(st.just("empty")),
    ),
    min_size=1,
    max_size=8,
)


def _definition(partitioned: str) -> TableDefinition:
    key = StructType(NestedField(9, "id", LongType()), NestedField(10, "shop", StringType()))
    partitions: dict[str, list[Any]] = {
        "no": [],
        "shop": [("k.shop", IdentityTransform(), "shop")],
        "both": [("k.shop", IdentityTransform(), "shop"), ("k.id", BucketTransform(3), "id_bucket")],
    }
    properties = {"write.metadata.metrics.column.k.id": "full", "write.metadata.metrics.column.k.shop": "truncate(1)"}
    return define(("k", key), ("amount", LongType()), partition=partitions[partitioned], properties=properties)


def _arrow(definition: TableDefinition, found: list[Row]) -> pa.Table:
    data = [{"k": {"id": one, "shop": shop}, "amount": amount} for one, shop, amount in found]
    return pa.Table.from_pylist(data, schema=arrow_schema_of(definition.schema))


def _partition(row: Row, partitioned: str) -> Any:
    return None if partitioned == "no" else row[1] if partitioned == "shop" else (row[1], BucketTransform(3).transform(LongType())(row[0]))


def _distinct(found: list[Row]) -> list[Row]:
    return list({row[:2]: row for row in found}.values())


def _apply(model: list[Row], operation: tuple[Any, ...], partitioned: str) -> list[Row]:
    kind, given_rows, *rest = *operation, []
    if kind == "append":
        return model + given_rows
    if kind == "overwrite-table":
        return list(given_rows)
    if kind == "overwrite-present":
        replaced = {_partition(row, partitioned) for row in given_rows}
        return [row for row in model if _partition(row, partitioned) not in replaced] + given_rows
    if kind == "overwrite-named":
        name = None if rest[0] == "null" else rest[0]
        return [row for row in model if row[1] != name] + [row for row in given_rows if row[1] == name]
    if kind in ("merge", "replace-keys"):
        new = _distinct(given_rows) if kind == "merge" else given_rows
        gone = {row[:2] for row in new} | set(rest[0])
        return [row for row in model if row[:2] not in gone] + new
    return model


def _stage(lakehouse: Lakehouse, definition: TableDefinition, operation: tuple[Any, ...], run: str) -> Any:
    kind, given_rows, *rest = *operation, []
    stamp = Stamp(run)
    if kind == "empty":
        return stage_empty(lakehouse, definition, stamp)
    if kind == "append":
        return stage_append(lakehouse, definition, _arrow(definition, given_rows), stamp)
    if kind == "overwrite-named":
        own = [row for row in given_rows if row[1] == (None if rest[0] == "null" else rest[0])]
        return stage_overwrite(lakehouse, definition, _arrow(definition, own), stamp, partitions=PartitionScope.named(rest[0]))
    if kind.startswith("overwrite"):
        scope = PartitionScope.table() if kind == "overwrite-table" else PartitionScope.present()
        return stage_overwrite(lakehouse, definition, _arrow(definition, given_rows), stamp, partitions=scope)
    deleted = pa.table(
        {"k.id": pa.array([key[0] for key in rest[0]], pa.int64()), "k.shop": pa.array([key[1] for key in rest[0]], pa.string())}
    )
    replace = kind == "replace-keys"
    data = _arrow(definition, given_rows if replace else _distinct(given_rows))
    keys = ("k.id", "k.shop")
    return stage_merge(lakehouse, definition, data, stamp, keys=keys, delete_keys=deleted if rest[0] else None, replace_keys=replace)


def _plain(found: list[tuple[Any, ...]]) -> Counter[Row]:
    return Counter((row[0]["id"], row[0]["shop"], row[1]) for row in found)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(operations=_OPERATIONS, partitioned=st.sampled_from(["no", "shop", "both"]))
def test_any_sequence_of_writes_is_what_plain_python_says(
    con: duckdb.DuckDBPyConnection, operations: list[tuple[Any, ...]], partitioned: str
) -> None:
    definition = _definition(partitioned)
    with tempfile.TemporaryDirectory() as folder:
        lakehouse = Lakehouse(Settings(home=Path(folder)))
        model: list[Row] = []
        states = {lakehouse.create(definition).metadata.current_snapshot_id: Counter(model)}
        for number, drawn in enumerate(operations):
            unfit = (drawn[0] == "overwrite-named" and partitioned != "shop") or (drawn[0] == "overwrite-present" and partitioned == "no")
            operation = ("overwrite-table", drawn[1]) if unfit else drawn
            model = _apply(model, operation, partitioned)
            commit = publish(_stage(lakehouse, definition, operation, f"r{number}"))
            states[commit.snapshot_id] = Counter(model)
            assert commit.table_rows == len(model)
        table = table_of(lakehouse, definition)
        assert _plain(read(table)) == Counter(model)
        assert _plain(con.sql(f"SELECT * FROM {duckdb_scan_sql(table)}").fetchall()) == Counter(model)
        for since, before in states.items():
            changes = changes_between(table, since)
            added, removed = (
                _plain(con.sql(f"SELECT * FROM {files_scan_sql(table, paths)}").fetchall()) for paths in (changes.added, changes.removed)
            )
            assert before + added == Counter(model) + removed
            assert changes.kind != "recompute" and (changes.kind != "append" or not changes.removed)
