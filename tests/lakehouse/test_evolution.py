"""Another partitioning of a contract moves the table on in the same commit; files keep the spec they were written with."""

from __future__ import annotations

from typing import Any

import duckdb
import pytest
from pyiceberg.transforms import BucketTransform, DayTransform, IdentityTransform, Transform, TruncateTransform
from pyiceberg.types import LongType, StringType, TimestamptzType

from platform_resources.contracts.iceberg import TableDefinition
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.staging import PartitionScope, publish, stage_append, stage_overwrite
from platform_resources.lakehouse.stamp import Stamp
from tests.lakehouse.tables import define, read, read_by_duckdb, read_by_polars, rows, table_of

BY_SHOP: tuple[str, Transform[Any, Any], str] = ("shop", IdentityTransform(), "shop")
BY_BUCKET: tuple[str, Transform[Any, Any], str] = ("id", BucketTransform(4), "id_bucket")
BY_MORE_BUCKETS: tuple[str, Transform[Any, Any], str] = ("id", BucketTransform(8), "id_bucket")
BY_HUNDREDS: tuple[str, Transform[Any, Any], str] = ("id", TruncateTransform(100), "id_truncate")


def orders_by(*partition: tuple[str, Transform[Any, Any], str]) -> TableDefinition:
    return define(("id", LongType(), True), ("shop", StringType()), partition=partition)


def append(lakehouse: Lakehouse, definition: TableDefinition, *values: tuple[Any, ...]) -> None:
    publish(stage_append(lakehouse, definition, rows(definition, *values), Stamp(f"run-{values[0][0]}")))


def specs_of_files(lakehouse: Lakehouse, definition: TableDefinition) -> list[tuple[int, list[Any]]]:
    """Spec id and partition values of each file, in the order of their ids' first row."""
    files = [task.file for task in table_of(lakehouse, definition).scan().plan_files()]
    return sorted((file.spec_id, [file.partition[index] for index in range(len(file.partition))]) for file in files)


def test_every_file_keeps_its_spec_and_every_reader_reads_all(lakehouse: Lakehouse, con: duckdb.DuckDBPyConnection) -> None:
    for number, partition in enumerate(([], [BY_SHOP], [BY_SHOP, BY_BUCKET], [BY_HUNDREDS], [BY_SHOP])):
        append(lakehouse, orders_by(*partition), (number, "a"), (number + 100, "b"))
    definition = orders_by(BY_SHOP)
    table = table_of(lakehouse, definition)
    assert table.metadata.default_spec_id == 1  # the one it had before, taken up again
    assert len(table.metadata.partition_specs) == 4
    assert {spec_id for spec_id, _ in specs_of_files(lakehouse, definition)} == {0, 1, 2, 3}
    shop, shop_again = table.specs()[1].fields[0], table.specs()[2].fields[0]
    assert shop == shop_again  # the same field id for the same values
    expected = sorted((number + more, shop) for number in range(5) for more, shop in ((0, "a"), (100, "b")))
    found = [tuple(row.values()) for row in read_by_duckdb(con, table).to_pylist()]
    assert sorted(found) == expected == sorted(read(table))
    assert sorted(tuple(row.values()) for row in read_by_polars(table).to_pylist()) == expected
    assert sorted(tuple(row.values()) for row in table.scan().to_arrow().to_pylist()) == expected
    pruned = con.sql(f"SELECT count(*) FROM {_scan(table)} WHERE shop = 'a' AND id = 2").fetchone()
    assert pruned == (1,)
    assert table.scan(row_filter="shop == 'a' and id == 2").to_arrow().num_rows == 1


def test_another_number_of_buckets_is_another_field_with_another_name(lakehouse: Lakehouse) -> None:
    append(lakehouse, orders_by(BY_BUCKET), (1, "a"))
    append(lakehouse, orders_by(BY_MORE_BUCKETS), (2, "a"))
    few, more = (table_of(lakehouse, orders_by()).specs()[number].fields[0] for number in (0, 1))
    assert few.field_id != more.field_id and few.name != more.name
    assert read(table_of(lakehouse, orders_by())) == [(1, "a"), (2, "a")]


def test_the_order_of_fields_is_the_definitions(lakehouse: Lakehouse) -> None:
    append(lakehouse, orders_by(BY_SHOP, BY_HUNDREDS), (1, "a"))
    turned = orders_by(BY_HUNDREDS, BY_SHOP)
    append(lakehouse, turned, (2, "a"))
    assert specs_of_files(lakehouse, turned) == [(0, ["a", 0]), (1, [0, "a"])]
    written = stage_overwrite(lakehouse, turned, rows(turned, (3, "a")), Stamp("r3"), partitions=PartitionScope.named("id=0/shop=a"))
    publish(written)
    assert read(table_of(lakehouse, turned)) == [(3, "a")]  # rows of the older spec's file in that partition went too


def test_a_column_added_with_the_partitioning_may_be_its_source(lakehouse: Lakehouse) -> None:
    append(lakehouse, orders_by(), (1, "a"))
    wider = define(
        ("id", LongType(), True), ("shop", StringType()), ("at", TimestamptzType()), partition=[("at", DayTransform(), "at_day")]
    )
    append(lakehouse, wider, (2, "a", None))
    assert read(table_of(lakehouse, wider)) == [(1, "a", None), (2, "a", None)]
    assert specs_of_files(lakehouse, wider) == [(0, []), (1, [None])]


@pytest.mark.parametrize("theirs", [[BY_SHOP], [BY_SHOP, BY_HUNDREDS], []], ids=["the same", "another", "none"])
def test_a_write_staged_before_another_changed_the_partitioning_is_written_anew(
    lakehouse: Lakehouse, theirs: list[tuple[str, Transform[Any, Any], str]]
) -> None:
    append(lakehouse, orders_by(), (1, "a"))
    staged = stage_append(lakehouse, orders_by(BY_SHOP), rows(orders_by(), (2, "b")), Stamp("mine"))
    append(lakehouse, orders_by(*theirs), (3, "c"))
    publish(staged)
    table = table_of(lakehouse, orders_by())
    assert [field.name for field in table.spec().fields] == ["shop"]
    assert read(table) == [(1, "a"), (2, "b"), (3, "c")]
    for file in (task.file for task in table.scan().plan_files()):
        assert len(file.partition) == len(table.specs()[file.spec_id].fields)


def _scan(table: Any) -> str:
    from platform_resources.lakehouse.reading import duckdb_scan_sql

    return duckdb_scan_sql(table)
