"""Partition values are PyIceberg's own, for every transform, whatever the order of the rows; people can name them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.sorting import NullOrder, SortDirection, SortField, SortOrder
from pyiceberg.transforms import (
    BucketTransform,
    DayTransform,
    HourTransform,
    IdentityTransform,
    MonthTransform,
    Transform,
    TruncateTransform,
    VoidTransform,
    YearTransform,
)
from pyiceberg.typedef import Record
from pyiceberg.types import IcebergType, LongType, NestedField, StringType, StructType, TimestamptzType, UUIDType

from platform_resources.errors import PlatformError
from platform_resources.lakehouse.conforming import Conformer
from platform_resources.lakehouse.partitions import parse_partition, split
from tests.lakehouse.tables import define
from tests.lakehouse.test_round_trip import VALUES, given_rows

TRANSFORMS: list[Transform[Any, Any]] = [
    IdentityTransform(), BucketTransform(7), TruncateTransform(3), YearTransform(), MonthTransform(), DayTransform(), HourTransform(),
    VoidTransform(),
]  # fmt: skip
PAIRS = [(kind, transform) for kind in VALUES for transform in TRANSFORMS if transform.can_transform(kind)]


def _expected(transform: Transform[Any, Any], kind: IcebergType, value: Any) -> Any:
    from pyiceberg.partitioning import _to_partition_representation

    if value is None:
        return None
    return transform.transform(kind)(
        value if isinstance(kind, UUIDType) and not isinstance(transform, IdentityTransform) else _to_partition_representation(kind, value)
    )


@pytest.mark.parametrize(("kind", "transform"), PAIRS, ids=str)
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_partition_values_are_pyicebergs(kind: IcebergType, transform: Transform[Any, Any], data: st.DataObject) -> None:
    values = data.draw(st.lists(st.none() | VALUES[kind], max_size=30))
    if kind in VALUES and isinstance(transform, TruncateTransform):  # Arrow's integers wrap where Python's grow
        values = [value for value in values if not isinstance(value, int) or abs(value) < 2**30]
    definition = define(("n", LongType()), ("s", StructType(NestedField(9, "v", kind))), partition=[("s.v", transform, "p")])
    rows = given_rows(definition, [{"n": n, "s": None if value is None and n % 2 else {"v": value}} for n, value in enumerate(values)])
    table = Conformer("t", definition.schema).conform(rows)
    parts = split(table, definition.partition_spec, definition.schema, SortOrder())
    for part in parts:
        for n in part.rows.column("n").to_pylist():
            assert part.partition[0] == _expected(transform, kind, values[n])
    assert sorted(n for part in parts for n in part.rows.column("n").to_pylist()) == list(range(len(values)))


def test_rows_in_runs_are_sliced_and_shuffled_rows_sorted_into_one_slice_each() -> None:
    definition = define(("n", LongType()), ("k", LongType()), partition=[("k", IdentityTransform(), "k")])
    runs = pa.table({"n": list(range(90)), "k": [n // 30 for n in range(90)]})
    mixed = pa.table({"n": list(range(900)), "k": [n % 30 for n in range(900)]})
    for table, partitions in ((runs, 3), (mixed, 30)):
        parts = split(Conformer("t", definition.schema).conform(table), definition.partition_spec, definition.schema, SortOrder())
        assert len(parts) == partitions
        for part in parts:  # the order within a partition stays
            assert part.rows.column("n").to_pylist() == sorted(part.rows.column("n").to_pylist())


def test_rows_of_a_partition_are_in_the_tables_sort_order() -> None:
    schema = Schema(NestedField(1, "k", LongType()), NestedField(2, "v", LongType()))
    spec = PartitionSpec(PartitionField(1, 1000, IdentityTransform(), "k"))
    order = SortOrder(SortField(2, IdentityTransform(), SortDirection.DESC, NullOrder.NULLS_LAST), order_id=1)
    table = Conformer("t", schema).conform(pa.table({"k": [1, 2, 1, 2, 1], "v": [3, 4, None, 6, 7]}))
    parts = {part.partition[0]: part.rows.column("v").to_pylist() for part in split(table, spec, schema, order)}
    assert parts == {1: [7, 3, None], 2: [6, 4]}


@pytest.mark.parametrize(
    ("transform", "kind", "text", "value"),
    [
        (DayTransform(), TimestamptzType(), "2026-01-01", 20454),
        (MonthTransform(), TimestamptzType(), "1969-12", -1),
        (HourTransform(), TimestamptzType(), "2026-01-01T05", 20454 * 24 + 5),
        (YearTransform(), TimestamptzType(), "2026", 56),
        (IdentityTransform(), StringType(), "enwiki", "enwiki"),
        (IdentityTransform(), LongType(), "-7", -7),
        (BucketTransform(16), StringType(), "3", 3),
        (IdentityTransform(), StringType(), "null", None),
    ],
    ids=str,
)
def test_a_partition_is_named_as_people_write_it(transform: Any, kind: Any, text: str, value: Any) -> None:
    definition = define(("s", StructType(NestedField(9, "v", kind))), partition=[("s.v", transform, "p")])
    assert parse_partition(definition, text) == Record(value)
    assert parse_partition(definition, f"p={text}") == parse_partition(definition, f"s.v={text}") == Record(value)


def test_a_partition_that_names_nothing_is_refused() -> None:
    two = define(("d", TimestamptzType()), ("w", StringType()), partition=[("d", DayTransform(), "day"), ("w", IdentityTransform(), "w")])
    assert parse_partition(two, "day=2026-01-01/w=a=b") == Record(20454, "a=b")
    for definition, text in ((two, "2026-01-01"), (two, "day=2026-13-01/w=x"), (define(("a", LongType())), "x")):
        with pytest.raises(PlatformError) as caught:
            parse_partition(definition, text)
        assert caught.value.code == "partition-unknown"


def test_utc_days_hold_for_any_zone_of_the_data() -> None:
    definition = define(("at", TimestamptzType()), partition=[("at", DayTransform(), "day")])
    late = pa.array([datetime(2026, 1, 1, 23, 30, tzinfo=UTC)], pa.timestamp("us", "America/Los_Angeles"))
    parts = split(
        Conformer("t", definition.schema).conform(pa.table({"at": late})), definition.partition_spec, definition.schema, SortOrder()
    )
    assert [part.partition[0] for part in parts] == [20454]
