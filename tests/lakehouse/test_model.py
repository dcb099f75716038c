"""Any sequence of writes leaves what the same sequence on plain Python lists leaves, and `changes_between` tells the difference.

Merges are copy-on-write or merge-on-read, with and without a declared sequence and deletion marks; the partition spec changes in between.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyiceberg.table import Table
from pyiceberg.transforms import BucketTransform, IdentityTransform
from pyiceberg.types import BooleanType, LongType, NestedField, StringType, StructType

from platform_resources.config import Settings
from platform_resources.contracts.iceberg import MergeRule, TableDefinition
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.changes import changes_between
from platform_resources.lakehouse.conforming import arrow_schema_of
from platform_resources.lakehouse.reading import duckdb_scan_sql, files_scan_sql, polars_scan
from platform_resources.lakehouse.staging import (
    PartitionScope,
    StagedWrite,
    publish,
    stage_append,
    stage_empty,
    stage_merge,
    stage_overwrite,
)
from platform_resources.lakehouse.stamp import Stamp
from tests.lakehouse.tables import define, read, table_of

Row: TypeAlias = tuple[int | None, str | None, int | None, bool | None]  # k.id, k.shop, amount, gone
Key: TypeAlias = tuple[int | None, str | None]
_ids = st.none() | st.integers(0, 8)
_shops = st.sampled_from(["a", "b", "c", None])
_rows = st.lists(st.tuples(_ids, _shops, st.none() | st.integers(0, 5), st.none() | st.booleans()), max_size=8)
_keys = st.lists(st.tuples(_ids, _shops), max_size=4)
_STRATEGIES = ("auto", "merge-on-read", "copy-on-write")
_strategies = st.sampled_from([*_STRATEGIES, "merge-on-read"])
_merges = st.tuples(st.sampled_from(["merge", "replace-keys", "newest"]), _rows, _keys, _strategies)
_OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), _rows),
        st.tuples(st.just("overwrite-table"), _rows),
        st.tuples(st.just("overwrite-present"), _rows, _strategies),
        st.tuples(st.just("overwrite-named"), _rows, st.sampled_from(["a", "b", "null"]), _strategies),
        _merges,
        _merges,
        _merges,
        st.tuples(st.just("spec"), st.sampled_from(["no", "shop", "both"])),
        st.tuples(st.just("empty")),
    ),
    min_size=1,
    max_size=8,
)
_PARTITIONS: dict[str, list[Any]] = {
    "no": [],
    "shop": [("k.shop", IdentityTransform(), "shop")],
    "both": [("k.shop", IdentityTransform(), "shop"), ("k.id", BucketTransform(3), "id_bucket")],
}
_PLAIN = MergeRule()
_NEWEST = MergeRule(sequence=("amount",), marker=("gone", None))


def _definition(partitioned: str, rule: MergeRule = _PLAIN) -> TableDefinition:
    key = StructType(NestedField(9, "id", LongType()), NestedField(10, "shop", StringType()))
    properties = {"write.metadata.metrics.column.k.id": "full", "write.metadata.metrics.column.k.shop": "truncate(1)"}
    columns = (("k", key), ("amount", LongType()), ("gone", BooleanType()))
    return dataclasses.replace(define(*columns, partition=_PARTITIONS[partitioned], properties=properties), merge=rule)


def _arrow(definition: TableDefinition, found: list[Row]) -> pa.Table:
    data = [{"k": {"id": one, "shop": shop}, "amount": amount, "gone": gone} for one, shop, amount, gone in found]
    return pa.Table.from_pylist(data, schema=arrow_schema_of(definition.schema))


def _partition(row: Row, partitioned: str) -> Any:
    return None if partitioned == "no" else row[1] if partitioned == "shop" else (row[1], BucketTransform(3).transform(LongType())(row[0]))


def _distinct(found: list[Row]) -> list[Row]:
    return list({row[:2]: row for row in found}.values())


def _age(row: Row) -> int:
    return -1 if row[2] is None else row[2]


def _newest(model: list[Row], batch: list[Row], forced: set[Key]) -> list[Row]:
    """The newest row of each key wins, the batch's where they are equally new; marked rows delete; forced keys lose all they had."""
    winners: dict[Key, Row] = {}
    for row in batch:
        if row[:2] not in winners or _age(row) >= _age(winners[row[:2]]):
            winners[row[:2]] = row
    standing = {key: max((_age(row) for row in model if row[:2] == key and key not in forced), default=-2) for key in winners}
    applied = {key: row for key, row in winners.items() if _age(row) >= standing[key]}
    return [row for row in model if row[:2] not in applied and row[:2] not in forced] + [row for row in applied.values() if not row[3]]


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
    if kind == "newest":
        return _newest(model, given_rows, set(rest[0]))
    if kind in ("merge", "replace-keys"):
        new = _distinct(given_rows) if kind == "merge" else given_rows
        gone = {row[:2] for row in new} | set(rest[0])
        return [row for row in model if row[:2] not in gone] + new
    return model


def _stage(lakehouse: Lakehouse, partitioned: str, operation: tuple[Any, ...], run: str) -> StagedWrite:
    kind, given_rows, *rest = *operation, []
    strategy = operation[-1] if isinstance(operation[-1], str) and operation[-1] in _STRATEGIES else "auto"
    rule = dataclasses.replace(_NEWEST if kind == "newest" else _PLAIN, strategy=strategy)
    definition, stamp = _definition(partitioned, rule), Stamp(run)
    if kind in {"empty", "spec"}:
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
    data: Any = _arrow(definition, _distinct(given_rows) if kind == "merge" else given_rows)
    if kind == "newest":
        data = data.to_reader(max_chunksize=3)
    gone = deleted if rest[0] else None
    return stage_merge(lakehouse, definition, data, stamp, keys=("k.id", "k.shop"), delete_keys=gone, replace_keys=kind == "replace-keys")


def _evolve_spec(table: Table, partitioned: str) -> None:
    with table.update_spec() as update:
        for field in table.spec().fields:
            update.remove_field(field.name)
    with table.update_spec() as update:
        for path, transform, name in _PARTITIONS[partitioned]:
            update.add_field(path, transform, name)


def _plain(found: list[tuple[Any, ...]]) -> Counter[Row]:
    return Counter((row[0]["id"], row[0]["shop"], row[1], row[2]) for row in found)


_SPECS = st.sampled_from(["no", "shop", "both"])
_Operations: TypeAlias = list[tuple[Any, ...]]


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(operations=_OPERATIONS, partitioned=_SPECS)
def test_any_sequence_of_writes_is_what_plain_python_says(
    con: duckdb.DuckDBPyConnection, operations: _Operations, partitioned: str
) -> None:
    _hold(con, operations, partitioned)


@pytest.mark.storm
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(operations=_OPERATIONS, partitioned=_SPECS)
def test_the_same_for_many_examples(con: duckdb.DuckDBPyConnection, operations: _Operations, partitioned: str) -> None:
    _hold(con, operations, partitioned)


def _hold(con: duckdb.DuckDBPyConnection, operations: _Operations, partitioned: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lakehouse = Lakehouse(Settings(home=Path(folder)))
        model: list[Row] = []
        table = lakehouse.create(_definition(partitioned))
        states = {table.metadata.current_snapshot_id: Counter(model)}
        for number, drawn in enumerate(operations):
            if drawn[0] == "spec" and drawn[1] != partitioned:
                partitioned = drawn[1]
                _evolve_spec(table_of(lakehouse, _definition(partitioned)), partitioned)
            unfit = (drawn[0] == "overwrite-named" and partitioned != "shop") or (drawn[0] == "overwrite-present" and partitioned == "no")
            operation = ("overwrite-table", drawn[1]) if unfit else drawn
            model = _apply(model, operation, partitioned)
            commit = publish(_stage(lakehouse, partitioned, operation, f"r{number}"))
            states[commit.snapshot_id] = Counter(model)
            assert commit.table_rows == len(model)
        table = table_of(lakehouse, _definition(partitioned))
        for reader in (read, _by_duckdb(con), _by_polars, _by_pyiceberg):
            assert _plain(reader(table)) == Counter(model), reader
        for since, before in states.items():
            changes = changes_between(table, since)
            added, removed = (
                _plain(con.sql(f"SELECT * FROM {files_scan_sql(table, parts)}").fetchall()) for parts in (changes.added, changes.removed)
            )
            assert before + added == Counter(model) + removed
            assert changes.kind != "recompute" and (changes.kind != "append" or not changes.removed)


def _by_duckdb(con: duckdb.DuckDBPyConnection) -> Callable[[Table], list[tuple[Any, ...]]]:
    return lambda table: con.sql(f"SELECT * FROM {duckdb_scan_sql(table)}").fetchall()


def _by_polars(table: Table) -> list[tuple[Any, ...]]:
    return polars_scan(table).collect().rows()


def _by_pyiceberg(table: Table) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in table.scan().to_arrow().to_pylist()]
