"""The contract's types at the write: what fits without loss is converted, what does not is refused in one sentence."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.types import (
    BooleanType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
    UUIDType,
)

from platform_resources.errors import PlatformError
from platform_resources.lakehouse.conforming import Conformer
from tests.lakehouse.tables import define

ID = uuid.UUID("f79c3e09-677c-4bbd-a479-3f349cb785e7")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def conformed(kind: IcebergType, values: pa.Array, *, required: bool = False) -> list[Any]:
    definition = define(("c", kind, required))
    return Conformer("shop.orders", definition.schema).conform(pa.table({"c": values})).column("c").to_pylist()


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        (LongType(), pa.array([Decimal(5), None], pa.decimal128(38, 0)), [5, None]),
        (LongType(), pa.array([7], pa.uint64()), [7]),
        (IntegerType(), pa.array([7], pa.int64()), [7]),
        (DecimalType(9, 2), pa.array([7], pa.int64()), [Decimal("7.00")]),
        (DecimalType(9, 2), pa.array([Decimal("1.5")], pa.decimal128(38, 1)), [Decimal("1.50")]),
        (DoubleType(), pa.array([Decimal("1.5")], pa.decimal128(4, 1)), [1.5]),
        (DoubleType(), pa.array([1.5], pa.float32()), [1.5]),
        (TimestamptzType(), pa.array([NOON], pa.timestamp("ns", "UTC")), [NOON]),
        (TimestamptzType(), pa.array([NOON], pa.timestamp("ms", "Asia/Tokyo")), [NOON]),
        (UUIDType(), pa.array([str(ID), None, str(ID).upper(), "{" + ID.hex + "}"]), [ID, None, ID, ID]),
        (UUIDType(), pa.array([ID.bytes, None], pa.binary()), [ID, None]),
        (UUIDType(), pa.array([ID.bytes], pa.binary(16)), [ID]),
        (StringType(), pa.array(["a", None], pa.large_string()), ["a", None]),
        (StringType(), pa.array(["a", None], pa.string_view()), ["a", None]),
        (StringType(), pa.array(["a", None, "a"]).dictionary_encode(), ["a", None, "a"]),
        (StringType(), pa.nulls(2), [None, None]),
        (FixedType(2), pa.array([b"ab", None], pa.large_binary()), [b"ab", None]),
        (MapType(1, StringType(), 2, LongType()), pa.array([[{"key": "a", "value": 1}], None]), [[("a", 1)], None]),
        (ListType(1, LongType()), pa.array([[1], None], pa.list_(pa.int64(), -1)), [[1], None]),
        (ListType(1, LongType()), pa.array([[0], [1, 2], None, [3]], pa.large_list(pa.int32())).slice(1), [[1, 2], None, [3]]),
    ],
    ids=str,
)
def test_lossless_values_are_converted(kind: IcebergType, given: pa.Array, expected: list[Any]) -> None:
    assert conformed(kind, given) == expected


@pytest.mark.parametrize(
    ("kind", "given", "code", "says"),
    [
        (LongType(), pa.array([Decimal(2**70)], pa.decimal128(38, 0)), "column-value", "1 of 1 values in the column c"),
        (LongType(), pa.array([Decimal("1.5"), Decimal(2)], pa.decimal128(38, 1)), "column-value", "1 of 2 values"),
        (IntegerType(), pa.array([2**40, 1, 2**41], pa.int64()), "column-value", "2 of 3 values"),
        (TimestamptzType(), pa.array([1, 1000], pa.timestamp("ns", "UTC")), "column-value", "1 of 2 values"),
        (UUIDType(), pa.array(["no", str(ID)]), "column-value", "1 of 2 values"),
        (FixedType(2), pa.array([b"abc"]), "column-value", "values in the column c"),
        (TimestamptzType(), pa.array([NOON], pa.timestamp("us")), "column-type", "timestamp"),
        (TimestampType(), pa.array([NOON], pa.timestamp("us", "UTC")), "column-type", "timestamp"),
        (LongType(), pa.array(["1"]), "column-type", "the type string in the column c, not int64"),
        (LongType(), pa.array([1.0]), "column-type", "double"),
        (FloatType(), pa.array([1.0]), "column-type", "double"),
        (StringType(), pa.array([1]), "column-type", "int64"),
        (BooleanType(), pa.array([1]), "column-type", "int64"),
        (StructType(NestedField(1, "x", LongType())), pa.array([[1]]), "column-type", "list"),
        (StructType(NestedField(1, "x", LongType())), pa.array([{"x": 1, "y": 2}]), "column-undeclared", "c.y"),
        (StructType(NestedField(1, "x", LongType(), required=True)), pa.array([{"y": 1}]), "column-undeclared", "c.y"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_in_one_sentence(kind: IcebergType, given: pa.Array, code: str, says: str) -> None:
    with pytest.raises(PlatformError) as caught:
        conformed(kind, given)
    assert caught.value.code == code
    assert "shop/orders" in caught.value.message and says in caught.value.message
    assert caught.value.remedy


def test_nulls_of_a_required_column_are_counted() -> None:
    with pytest.raises(PlatformError, match="2 nulls in 3 rows of the required column c"):
        conformed(LongType(), pa.array([1, None, None]), required=True)
    with pytest.raises(PlatformError, match=r"required column c\.x"):
        conformed(StructType(NestedField(1, "x", LongType(), required=True)), pa.array([{"x": None}, {"x": 1}]))
    with pytest.raises(PlatformError, match=r"required column c\.element"):
        conformed(ListType(1, LongType(), element_required=True), pa.array([[1, None]]))


def test_a_null_parent_excuses_its_required_fields() -> None:
    inner = StructType(NestedField(2, "y", ListType(3, StringType()), required=True))
    kind = StructType(NestedField(1, "x", LongType(), required=True), NestedField(4, "z", inner, required=True))
    values = [None, {"x": 1, "z": {"y": ["a"]}}]
    assert conformed(kind, pa.array(values)) == values


def test_columns_missing_undeclared_or_doubled_are_refused() -> None:
    schema = define(("id", LongType(), True), ("v", LongType())).schema
    conformer = Conformer("shop.orders", schema)
    assert conformer.conform(pa.table({"id": [1]})).to_pylist() == [{"id": 1, "v": None}]
    assert conformer.conform(pa.table({"v": [1], "id": [2]})).to_pylist() == [{"id": 2, "v": 1}]
    for given, code in (
        (pa.table({"v": [1]}), "column-missing"),
        (pa.table({"id": [1], "w": [1]}), "column-undeclared"),
        (pa.table([pa.array([1]), pa.array([2])], names=["id", "id"]), "column-twice"),
    ):
        with pytest.raises(PlatformError) as caught:
            conformer.conform(given)
        assert caught.value.code == code


def test_a_null_parent_excuses_a_required_map_and_uuid() -> None:
    fields = NestedField(1, "m", MapType(2, StringType(), 3, LongType()), required=True), NestedField(4, "u", UUIDType(), required=True)
    given = pa.array([None, {"m": [("a", 1)], "u": ID.bytes}], pa.struct([("m", pa.map_(pa.string(), pa.int64())), ("u", pa.binary(16))]))
    assert conformed(StructType(*fields), given) == [None, {"m": [("a", 1)], "u": ID}]
