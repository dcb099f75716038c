"""Parquet files: columns by name, casts that lose nothing, the file refused where it is of another kind."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.types import (
    BinaryType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
    UUIDType,
)

from platform_resources.contracts.iceberg import arrow_type
from platform_resources.contracts.model import Column, Contract
from platform_resources.landing import parquet_files
from platform_resources.landing.source import Block, Delivery, DeliveryRefused


def contract(*columns: Column) -> Contract:
    return Contract("shop", "drop", Path("drop.yaml"), "1.0.0", "active", "", columns)


def read(table: pa.Table, *columns: Column, **options: Any) -> list[Block]:
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    file.seek(0)
    return list(parquet_files.read(file, Delivery("a.parquet", "0"), contract(*columns)))


def test_columns_are_found_by_name_whatever_their_order() -> None:
    table = pa.table({"The B": ["x", None], "a": pa.array([1, 2], pa.int32())})
    columns = (Column("a", LongType()), Column("b", StringType(), physical_name="The B"), Column("c", DateType()))
    [block] = read(table, *columns)
    assert block.rows.to_pylist() == [{"a": 1, "b": "x", "c": None}, {"a": 2, "b": None, "c": None}]
    assert block.lines.to_pylist() == [1, 2]


PLACE = StructType(NestedField(1, "x", LongType()), NestedField(2, "y", StringType()))
CASTS: list[tuple[IcebergType, pa.Array, list[Any]]] = [
    (LongType(), pa.array([1, None], pa.uint8()), [1, None]),
    (IntegerType(), pa.array([1, -(2**31)], pa.int64()), [1, -(2**31)]),
    (LongType(), pa.array([1.0, 2.0]), [1, 2]),
    (LongType(), pa.array([Decimal("5")]), [5]),
    (DoubleType(), pa.array([1, 2], pa.int32()), [1.0, 2.0]),
    (DecimalType(12, 4), pa.array([Decimal("1.5")]), [Decimal("1.5000")]),
    (DecimalType(20, 2), pa.array([7], pa.int64()), [Decimal("7.00")]),
    (StringType(), pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"]),
    (StringType(), pa.array(["a"], pa.large_string()), ["a"]),
    (TimestamptzType(), pa.array([datetime(2026, 1, 1)], pa.timestamp("ms")), [datetime(2026, 1, 1, tzinfo=UTC)]),
    (TimestamptzType(), pa.array([datetime(2026, 1, 1, tzinfo=UTC)], pa.timestamp("ns", "Asia/Tokyo")), [datetime(2026, 1, 1, tzinfo=UTC)]),
    (DateType(), pa.array([date(2026, 1, 1)], pa.date64()), [date(2026, 1, 1)]),
    (BinaryType(), pa.array([b"\x00"], pa.large_binary()), [b"\x00"]),
    (UUIDType(), pa.array([b"0123456789abcdef"], pa.binary(16)), ["30313233-3435-3637-3839-616263646566"]),
    (StringType(), pa.nulls(2), [None, None]),
    (ListType(1, LongType()), pa.array([[1], None, []], pa.list_(pa.int32())), [[1], None, []]),
    (PLACE, pa.array([{"y": "b", "x": 1}, None], pa.struct([("y", pa.string()), ("x", pa.int16())])), [{"x": 1, "y": "b"}, None]),
    (PLACE, pa.array([{"x": 1}], pa.struct([("x", pa.int64())])), [{"x": 1, "y": None}]),
]


@pytest.mark.parametrize(("kind", "given", "expected"), CASTS, ids=lambda one: str(one)[:30])
def test_values_that_fit_are_cast(kind: IcebergType, given: pa.Array, expected: list[Any]) -> None:
    [block] = read(pa.table({"c": given}), Column("c", kind))
    assert not block.refused
    assert block.rows.schema.field("c").type == arrow_type(kind)
    assert [str(one) if isinstance(kind, UUIDType) else one for one in block.rows.column("c").to_pylist()] == expected


LOSSES: list[tuple[IcebergType, pa.Array]] = [
    (IntegerType(), pa.array([1, 2**31, 3], pa.int64())),
    (LongType(), pa.array([1.0, 1.5, 2.0])),
    (LongType(), pa.array([1.0, float("nan"), 2.0])),
    (DecimalType(6, 2), pa.array([Decimal("1.00"), Decimal("1.005"), Decimal("2.00")], pa.decimal128(9, 3))),
    (TimestamptzType(), pa.array([0, 1, 1000], pa.timestamp("ns", "UTC"))),
    (FloatType(), pa.array([0.5, 0.1, float("nan")])),
    (DoubleType(), pa.array([1, 2**53 + 1, 2])),
]


@pytest.mark.parametrize(("kind", "given"), LOSSES, ids=lambda one: str(one)[:30])
def test_a_value_that_would_lose_something_refuses_its_row(kind: IcebergType, given: pa.Array) -> None:
    [block] = read(pa.table({"c": given}), Column("c", kind))
    assert [(one.line, one.reason, one.path) for one in block.refused] == [(2, "type-mismatch", "c")]
    assert block.lines.to_pylist() == [1, 3]
    assert len(block.rows) == 2


KINDS: list[tuple[IcebergType, pa.Array]] = [
    (LongType(), pa.array(["1"])),
    (StringType(), pa.array([1])),
    (StringType(), pa.array([b"a"])),
    (DateType(), pa.array([datetime(2026, 1, 1)])),
    (TimestampType(), pa.array(["2026-01-01"])),
    (LongType(), pa.array([True])),
    (ListType(1, LongType()), pa.array([["a"]])),
    (PLACE, pa.array([{"x": 1, "z": 2}])),
    (DecimalType(6, 2), pa.array([1.5])),
    (FloatType(), pa.array([Decimal("1.5")])),
]


@pytest.mark.parametrize(("kind", "given"), KINDS, ids=lambda one: str(one)[:30])
def test_a_column_of_another_kind_refuses_the_file(kind: IcebergType, given: pa.Array) -> None:
    with pytest.raises(DeliveryRefused, match="has 'c' as") as error:
        read(pa.table({"c": given}), Column("c", kind))
    assert error.value.code == "file-columns"


def test_columns_that_are_not_the_contracts_refuse_the_file() -> None:
    a, b = Column("a", LongType()), Column("b", LongType(), required=True)
    with pytest.raises(DeliveryRefused, match="has 'x', which the contract does not declare and lacks 'b'"):
        read(pa.table({"a": [1], "x": [1]}), a, b)
    with pytest.raises(DeliveryRefused, match="lacks 'b'"):
        read(pa.table({"a": [1]}), a, b)
    with pytest.raises(DeliveryRefused, match="has 'a' more than once"):
        read(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]), a)


def test_a_null_where_a_value_is_required_refuses_its_row() -> None:
    [block] = read(pa.table({"a": [1, None, 3]}), Column("a", LongType(), required=True))
    assert [(one.line, one.reason, one.raw) for one in block.refused] == [(2, "schema-violation", b'{"a":null}')]


def test_rows_are_given_in_blocks_and_counted_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_files, "_BATCH_ROWS", 4)
    found = read(pa.table({"a": list(range(10))}), Column("a", LongType()), row_group_size=6)
    assert [line for block in found for line in block.lines.to_pylist()] == list(range(1, 11))
    assert max(len(block.rows) for block in found) == 4


HARMS: list[Callable[[bytes], bytes]] = [
    lambda data: data[:-1],
    lambda data: b"a,b",
    lambda data: b"",
    lambda data: data[:4] + b"x" * 40 + data[44:],
]


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_file_is_refused_whole(harm: Callable[[bytes], bytes]) -> None:
    file = io.BytesIO()
    pq.write_table(pa.table({"a": list(range(1000))}), file)
    with pytest.raises(DeliveryRefused) as error:
        list(parquet_files.read(io.BytesIO(harm(file.getvalue())), Delivery("a.parquet", "0"), contract(Column("a", LongType()))))
    assert error.value.code == "file-damaged"
