"""Readers are pinned to a snapshot, see the current schema, and are told when changes cannot be followed."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyiceberg.io.pyarrow import compute_statistics_plan, data_file_statistics_from_parquet_metadata, parquet_path_to_id_mapping
from pyiceberg.table.snapshots import Operation
from pyiceberg.transforms import DayTransform, IdentityTransform
from pyiceberg.types import DoubleType, IntegerType, ListType, LongType, NestedField, StringType, StructType, TimestamptzType

from platform_resources.errors import PlatformError
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.changes import changes_between
from platform_resources.lakehouse.conforming import arrow_schema_of
from platform_resources.lakehouse.file_io import StoreError
from platform_resources.lakehouse.files import live_files, live_tasks
from platform_resources.lakehouse.reading import arrow_table, duckdb_scan_sql, files_scan_sql, polars_scan, snapshot_at
from platform_resources.lakehouse.staging import publish, stage_append, stage_empty, stage_merge
from platform_resources.lakehouse.stamp import Stamp
from platform_resources.lakehouse.transaction import Replace, StagingTransaction
from tests.lakehouse.tables import define, orders, read, rows, table_of
from tests.lakehouse.test_round_trip import VALUES, given_rows

ORDERS = orders()


def test_a_past_snapshot_is_read_by_id_and_by_time(lakehouse: Lakehouse, con: duckdb.DuckDBPyConnection) -> None:
    first = publish(stage_append(lakehouse, ORDERS, rows(ORDERS, (1, "a", 1)), Stamp("r1")))
    time.sleep(0.01)
    between = datetime.now(UTC)
    time.sleep(0.01)
    publish(stage_append(lakehouse, ORDERS, rows(ORDERS, (2, "b", 1)), Stamp("r2")))
    table = table_of(lakehouse, ORDERS)
    assert snapshot_at(table, between) == snapshot_at(table, between.replace(tzinfo=None)) == snapshot_at(table, first.snapshot_id)
    assert con.sql(f"SELECT id FROM {duckdb_scan_sql(table, first.snapshot_id)}").fetchall() == [(1,)]
    assert polars_scan(table, first.snapshot_id).collect()["id"].to_list() == [1]
    assert arrow_table(table, first.snapshot_id)["id"].to_pylist() == [1]
    for gone in (between - timedelta(days=1), 42):
        with pytest.raises(PlatformError) as caught:
            snapshot_at(table, gone)
        assert caught.value.code == "snapshot-unknown"


def test_a_table_that_was_never_created_is_an_empty_relation_of_its_contract(con: duckdb.DuckDBPyConnection) -> None:
    definition = define(
        *[(f"c{index}", kind) for index, kind in enumerate(VALUES)], ("l", ListType(99, StructType(NestedField(98, "x", LongType()))))
    )
    empty = con.sql(f"SELECT * FROM {duckdb_scan_sql(None, schema=definition.schema)}")
    assert empty.fetchall() == [] and len(empty.columns) == len(VALUES) + 1
    with pytest.raises(ValueError, match="needs a schema"):
        duckdb_scan_sql(None)


def test_old_files_are_read_in_the_current_schema_without_hive_columns(lakehouse: Lakehouse, con: duckdb.DuckDBPyConnection) -> None:
    inner = StructType(NestedField(20, "x", IntegerType()))
    partition = [("at", DayTransform(), "hive_day"), ("w", IdentityTransform(), "hive_w")]
    old = define(("at", TimestamptzType()), ("w", StringType()), ("s", inner), ("l", ListType(30, inner)), partition=partition)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    publish(stage_append(lakehouse, old, rows(old, (at, "e", {"x": 1}, [{"x": 2}])), Stamp("r1")))
    more = StructType(NestedField(20, "x", LongType()), NestedField(21, "y", StringType()))
    new = define(
        ("at", TimestamptzType()), ("w", StringType()), ("n", LongType()), ("s", more), ("l", ListType(30, more)), partition=partition
    )
    publish(stage_append(lakehouse, new, rows(new, (at, "f", 7, {"x": 3, "y": "z"}, None)), Stamp("r2")))
    table = table_of(lakehouse, new)
    tasks = live_tasks(table.io, table.current_snapshot(), "t")
    found = con.sql(f"SELECT * FROM {files_scan_sql(table, tasks)} ORDER BY w")
    assert found.columns == ["at", "w", "s", "l", "n"]
    assert found.fetchall() == [(at, "e", {"x": 1, "y": None}, [{"x": 2, "y": None}], None), (at, "f", {"x": 3, "y": "z"}, None, 7)]
    whole = con.sql(f"SELECT * FROM {duckdb_scan_sql(table)} ORDER BY w").fetchall()
    assert whole == con.sql(f"SELECT * FROM {files_scan_sql(table, tasks)} ORDER BY w").fetchall() == read(table)
    only_old = con.sql(f"SELECT n, s FROM {files_scan_sql(table, [task for task in tasks if 'hive_w=e' in task.path])}").fetchall()
    assert only_old == [(None, {"x": 1, "y": None})]


def test_changes_tell_appends_rewrites_and_nothing_apart(lakehouse: Lakehouse) -> None:
    start = lakehouse.create(ORDERS).metadata.current_snapshot_id
    one = publish(stage_append(lakehouse, ORDERS, rows(ORDERS, (1, "a", 1)), Stamp("r1")))
    beat = publish(stage_empty(lakehouse, ORDERS, Stamp("beat")))
    table = table_of(lakehouse, ORDERS)
    assert changes_between(table, None).kind == "recompute"
    assert changes_between(table, start).kind == "append" and len(changes_between(table, start).added) == 1
    assert changes_between(table, one.snapshot_id).kind == "none" == changes_between(table, beat.snapshot_id).kind
    publish(stage_merge(lakehouse, ORDERS, rows(ORDERS, (1, "b", 1)), Stamp("r2"), keys=("id",)))
    table = table_of(lakehouse, ORDERS)
    assert changes_between(table, beat.snapshot_id).kind == "rewrite"
    assert changes_between(table, start, one.snapshot_id).kind == "append"


def test_compaction_is_no_change(lakehouse: Lakehouse) -> None:
    for n in (1, 2):
        publish(stage_append(lakehouse, ORDERS, rows(ORDERS, (n, "a", 1)), Stamp(f"r{n}")))
    table = table_of(lakehouse, ORDERS)
    before = table.metadata.current_snapshot_id
    _compact(table)
    publish(stage_append(lakehouse, ORDERS, rows(ORDERS, (3, "a", 1)), Stamp("r3")))
    changes = changes_between(table_of(lakehouse, ORDERS), before)
    assert changes.kind == "append" and len(changes.added) == 1 and not changes.removed


def _compact(table) -> None:  # type: ignore[no-untyped-def]
    """What a maintenance job does: the same rows in one file, as a REPLACE snapshot."""
    from platform_resources.lakehouse.parquet import DataFileWriter

    gone = [file.file_path for file in live_files(table.io, table.current_snapshot(), "t")]
    transaction = StagingTransaction(table)
    new = DataFileWriter(table.io, table.metadata, "t").write(arrow_table(table))
    with Replace(operation=Operation.REPLACE, gone=gone, transaction=transaction, io=table.io) as producer:
        for file in new:
            producer.append_data_file(file)
    table._do_commit(*transaction.staged)


def test_a_store_that_is_away_is_no_reason_to_recompute(lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    since = publish(stage_append(lakehouse, ORDERS, rows(ORDERS, (1, "a", 1)), Stamp("r1"))).snapshot_id
    publish(stage_append(lakehouse, ORDERS, rows(ORDERS, (2, "a", 1)), Stamp("r2")))
    table = table_of(lakehouse, ORDERS)

    def away(_io: Any, location: str) -> Any:
        raise StoreError("store-unreachable", f"The object store could not serve {location} (503).")

    monkeypatch.setattr(type(table.io), "new_input", away)
    with pytest.raises(StoreError, match="503"):
        changes_between(table, since)


def test_an_expired_or_rolled_back_position_means_recompute(lakehouse: Lakehouse) -> None:
    first = publish(stage_append(lakehouse, ORDERS, rows(ORDERS, (1, "a", 1)), Stamp("r1")))
    second = publish(stage_append(lakehouse, ORDERS, rows(ORDERS, (2, "a", 1)), Stamp("r2")))
    third = publish(stage_append(lakehouse, ORDERS, rows(ORDERS, (3, "a", 1)), Stamp("r3")))
    table = table_of(lakehouse, ORDERS)
    table.manage_snapshots().rollback_to_snapshot(second.snapshot_id).commit()
    rolled = changes_between(table_of(lakehouse, ORDERS), third.snapshot_id)
    assert rolled.kind == "recompute" and "rolled back" in rolled.reason
    table_of(lakehouse, ORDERS).maintenance.expire_snapshots().by_id(first.snapshot_id).commit()
    expired = changes_between(table_of(lakehouse, ORDERS), first.snapshot_id)
    assert expired.kind == "recompute" and "expired" in expired.reason


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    drawn=st.lists(st.fixed_dictionaries({f"c{index}": strategy for index, strategy in enumerate(VALUES.values())}), min_size=1, max_size=6)
)
def test_column_metrics_are_pyicebergs_and_obey_the_modes(lakehouse: Lakehouse, drawn: list[dict[str, Any]]) -> None:
    properties = {"write.metadata.metrics.column.c1": "none", "write.metadata.metrics.column.c2": "counts"}
    columns = [(f"c{index}", kind) for index, kind in enumerate(VALUES)]
    definition = define(*columns, properties=properties)
    data = given_rows(definition, [*drawn, dict.fromkeys(drawn[0])])
    staged = stage_append(lakehouse, definition, data, Stamp("r1"))
    (file,) = staged.written
    schema = staged.schema
    theirs = data_file_statistics_from_parquet_metadata(
        pq.ParquetFile(staged.table.io.new_input(file.file_path).open()).metadata,
        compute_statistics_plan(schema, properties),
        parquet_path_to_id_mapping(schema),
    ).to_serialized_dict()
    for name in ("record_count", "column_sizes", "value_counts", "null_value_counts", "split_offsets"):
        assert getattr(file, name) == theirs[name], name
    for name in ("lower_bounds", "upper_bounds"):
        found, expected = getattr(file, name), theirs[name]
        assert {field: found[field] for field in expected if field in found} == expected, name
        assert set(found) - set(expected) <= {13, 16}  # a uuid and fixed have bounds here, PyIceberg's writer may leave them out
    assert 2 not in file.value_counts and 3 not in file.lower_bounds


def test_nan_takes_a_columns_bounds_away(lakehouse: Lakehouse) -> None:
    definition = define(("v", DoubleType()), ("w", DoubleType()))
    staged = stage_append(lakehouse, definition, rows(definition, (1.0, 1.0), (float("nan"), 2.0)), Stamp("r1"))
    (file,) = staged.written
    assert set(file.lower_bounds) == {2} and file.nan_value_counts == {1: 1, 2: 0}


def test_nested_columns_have_bounds_where_they_are_asked_for(lakehouse: Lakehouse) -> None:
    inner = StructType(NestedField(9, "id", StringType()), NestedField(10, "other", StringType()), NestedField(11, "at", TimestamptzType()))
    definition = define(
        ("m", inner), partition=[("m.at", DayTransform(), "d")], properties={"write.metadata.metrics.column.m.id": "truncate(2)"}
    )
    staged = stage_append(
        lakehouse, definition, rows(definition, ({"id": "abc", "other": "x", "at": datetime(2026, 1, 1, tzinfo=UTC)},)), Stamp("r")
    )
    (file,) = staged.written
    names = {staged.schema.find_column_name(field): (file.lower_bounds[field], file.upper_bounds[field]) for field in file.lower_bounds}
    assert names["m.id"] == (b"ab", b"ac") and set(names) == {"m.id", "m.at"}
    assert arrow_schema_of(staged.schema).field("m").type.num_fields == 3
