"""Text to the contract's types: exact or refused, whole columns and single values by one law."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IntegerType,
    ListType,
    LongType,
    StringType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from platform_resources.contracts.iceberg import arrow_type
from platform_resources.contracts.model import Column, Contract
from platform_resources.landing.source import Block
from platform_resources.landing.text_columns import TextColumns


def contract(*columns: Column) -> Contract:
    return Contract("shop", "drop", Path("drop.yaml"), "1.0.0", "active", "", columns)


def read(column: Column, *texts: Any, nulls: tuple[str, ...] = ()) -> Block:
    array = pa.array(texts, pa.binary() if any(isinstance(text, bytes) for text in texts) else pa.string())
    lines = pa.array(range(1, len(texts) + 1), pa.int64())
    block = TextColumns(contract(column), nulls).typed({column.name: array}, lines, lambda row: f"row {row}".encode())
    assert block.rows.schema.field(column.name).type == arrow_type(column.type)
    assert len(block.rows) == len(block.lines)
    assert len(block.rows) + len(block.refused) == len(texts)
    return block


def values(column: Column, *texts: Any, **options: Any) -> list[Any]:
    block = read(column, *texts, **options)
    assert not block.refused
    found: list[Any] = block.rows.column(0).to_pylist()
    return found


GOOD: list[tuple[Column, Any, Any]] = [
    (Column("c", LongType()), "-9223372036854775808", -(2**63)),
    (Column("c", LongType()), " +7 ", 7),
    (Column("c", LongType()), "007", 7),
    (Column("c", LongType()), "12.0", 12),
    (Column("c", LongType()), "", None),
    (Column("c", LongType()), "  ", None),
    (Column("c", DoubleType()), "1.5e-3", 0.0015),
    (Column("c", DecimalType(38, 2)), "123456789012345678901234567890123456.78", Decimal("123456789012345678901234567890123456.78")),
    (Column("c", DecimalType(6, 2)), "1.500", Decimal("1.50")),
    (Column("c", DecimalType(6, 2)), " 1e2", Decimal("100.00")),
    (Column("c", BooleanType()), "Yes", True),
    (Column("c", BooleanType()), "0", False),
    (Column("c", BooleanType()), "f", False),
    (Column("c", StringType()), "", ""),
    (Column("c", StringType()), " NULL ", " NULL "),
    (Column("c", DateType()), "2024-02-29", date(2024, 2, 29)),
    (Column("c", DateType(), options={"format": "%d/%m/%Y"}), "29/02/2024", date(2024, 2, 29)),
    (Column("c", DateType(), options={"format": "%d %b %y"}), "29 Feb 24", date(2024, 2, 29)),
    (Column("c", TimeType()), "23:59", time(23, 59)),
    (Column("c", TimestamptzType()), "2024-01-02", datetime(2024, 1, 2, tzinfo=UTC)),
    (Column("c", TimestamptzType()), "2024-01-02 03:04:05", datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)),
    (Column("c", TimestamptzType()), "2024-01-02T03:04:05.123456+02:00", datetime(2024, 1, 2, 1, 4, 5, 123456, tzinfo=UTC)),
    (Column("c", TimestamptzType()), "2024-01-02 03:04:05.5 UTC", datetime(2024, 1, 2, 3, 4, 5, 500000, tzinfo=UTC)),
    (Column("c", TimestamptzType(), options={"format": "%Y%m%d%H%M%S"}), "20240102030405", datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)),
    (
        Column("c", TimestamptzType(), options={"format": "%d.%m.%Y %H:%M %z"}),
        "02.01.2024 03:04 +0200",
        datetime(2024, 1, 2, 1, 4, tzinfo=UTC),
    ),
    (Column("c", TimestampType()), "2024-01-02 03:04:05", datetime(2024, 1, 2, 3, 4, 5)),
    (Column("c", BinaryType()), "AP8=", b"\x00\xff"),
    (Column("c", BinaryType(), options={"format": "hex"}), "0x00ff", b"\x00\xff"),
    (Column("c", BinaryType()), b"\x00\xff", b"\x00\xff"),
    (Column("c", FixedType(2)), "AP8=", b"\x00\xff"),
    (Column("c", FixedType(2)), b"\x00\xff", b"\x00\xff"),
    (Column("c", LongType()), b"12", 12),
    (Column("c", StringType(), is_json=True), '{"b": 1.0, "a": [null]}', '{"a":[null],"b":1}'),
    (Column("c", ListType(1, LongType()), element=Column("element", LongType())), "[1, 2]", [1, 2]),
]

BAD: list[tuple[Column, Any, str]] = [
    (Column("c", LongType()), "0x1F", "type-mismatch"),
    (Column("c", LongType()), "1_000", "type-mismatch"),
    (Column("c", LongType()), "1.5", "type-mismatch"),
    (Column("c", LongType()), "9223372036854775808", "out-of-range"),
    (Column("c", IntegerType()), "2147483648", "out-of-range"),
    (Column("c", LongType()), "9" * 5000, "out-of-range"),
    (Column("c", DoubleType()), "nan", "type-mismatch"),
    (Column("c", DoubleType()), "1,5", "type-mismatch"),
    (Column("c", DoubleType()), "1e999", "out-of-range"),
    (Column("c", FloatType()), "4e38", "out-of-range"),
    (Column("c", DecimalType(6, 2)), "1.555", "out-of-range"),
    (Column("c", DecimalType(6, 2)), "12345", "out-of-range"),
    (Column("c", DecimalType(6, 2)), "NaN", "type-mismatch"),
    (Column("c", BooleanType()), "maybe", "type-mismatch"),
    (Column("c", DateType()), "2023-02-29", "unreadable-timestamp"),
    (Column("c", DateType()), "0000-01-01", "unreadable-timestamp"),
    (Column("c", DateType(), options={"format": "%Y%m%d"}), "2024-01-01", "unreadable-timestamp"),
    (Column("c", TimestamptzType()), "yesterday", "unreadable-timestamp"),
    (Column("c", TimestamptzType()), "0000-01-01T00:00:00Z", "unreadable-timestamp"),
    (Column("c", TimestamptzType()), "2024-01-01T24:00:00Z", "unreadable-timestamp"),
    (Column("c", TimestamptzType(), options={"format": "%Y%m%d%H%M%S"}), "20240231000000", "unreadable-timestamp"),
    (Column("c", TimestampType()), "2024-01-02T03:04:05+02:00", "unreadable-timestamp"),
    (Column("c", UUIDType()), "no", "unreadable-uuid"),
    (Column("c", BinaryType()), "A", "unreadable-bytes"),
    (Column("c", BinaryType(), options={"format": "hex"}), "0xg0", "unreadable-bytes"),
    (Column("c", FixedType(2)), "AA==", "unreadable-bytes"),
    (Column("c", FixedType(2)), b"\x00", "unreadable-bytes"),
    (Column("c", StringType()), b"ok\xff", "unreadable-text"),
    (Column("c", StringType(), is_json=True), "{", "type-mismatch"),
    (Column("c", ListType(1, LongType()), element=Column("element", LongType())), '["x"]', "schema-violation"),
    (Column("c", LongType(), required=True), "", "schema-violation"),
]


@pytest.mark.parametrize(("column", "text", "value"), GOOD, ids=lambda given: str(given)[:40])
def test_a_text_becomes_the_value_it_writes(column: Column, text: Any, value: Any) -> None:
    assert values(column, text, None) == [value, None]


@pytest.mark.parametrize(("column", "text", "reason"), BAD, ids=lambda given: str(given)[:40])
def test_a_text_that_is_no_value_refuses_its_row_alone(column: Column, text: Any, reason: str) -> None:
    filler = None if not column.required else "1"
    block = read(column, *[filler] * 40, text, *[filler] * 20)
    assert [(one.line, one.raw, one.reason, one.path) for one in block.refused] == [(41, b"row 40", reason, "c")]
    assert block.refused[0].detail
    assert 41 not in block.lines.to_pylist()


def test_a_token_is_null_whatever_the_column() -> None:
    assert values(Column("c", StringType()), "NULL", "", "null", nulls=("NULL", "")) == [None, None, "null"]
    assert values(Column("c", LongType()), r"\N", "1", nulls=(r"\N",)) == [None, 1]


def test_a_missing_column_is_null_and_refused_where_it_is_required() -> None:
    lines = pa.array([1, 2], pa.int64())
    columns = (Column("a", LongType()), Column("b", LongType(), required=True))
    block = TextColumns(contract(*columns)).typed({"a": pa.array(["1", "2"])}, lines, lambda row: None)
    assert [one.reason for one in block.refused] == ["schema-violation"] * 2
    block = TextColumns(contract(*columns)).typed({"b": pa.array(["1", "2"])}, lines, lambda row: None)
    assert block.rows.to_pylist() == [{"a": None, "b": 1}, {"a": None, "b": 2}]


def test_zoned_and_unzoned_moments_of_one_column_are_both_read() -> None:
    both = values(Column("c", TimestamptzType()), *["2024-01-01T00:00:00Z", "2024-01-01 00:00:00", "2024-01-01T02:00:00+0200"] * 20)
    assert set(both) == {datetime(2024, 1, 1, tzinfo=UTC)}


@settings(deadline=None)
@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)))
def test_whole_numbers_come_back(numbers: list[int | None]) -> None:
    assert values(Column("c", LongType()), *[None if n is None else str(n) for n in numbers]) == numbers


@settings(deadline=None)
@given(st.lists(st.none() | st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20, places=9)))
def test_decimals_come_back_digit_by_digit(numbers: list[Decimal | None]) -> None:
    assert values(Column("c", DecimalType(38, 9)), *[None if n is None else str(n) for n in numbers]) == numbers


@settings(deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)))
def test_doubles_come_back_bit_by_bit(numbers: list[float]) -> None:
    assert list(map(repr, values(Column("c", DoubleType()), *map(repr, numbers)))) == list(map(repr, numbers))


@settings(deadline=None)
@given(st.lists(st.datetimes(timezones=st.just(UTC)), min_size=1), st.sampled_from(["iso", "%Y%m%d%H%M%S%f", "%d/%m/%Y %H:%M:%S.%f%z"]))
def test_moments_come_back(moments: list[datetime], form: str) -> None:
    options = {} if form == "iso" else {"format": form}
    texts = [one.isoformat() if form == "iso" else one.strftime(form.replace("%Y", f"{one.year:04d}")) for one in moments]
    assert values(Column("c", TimestamptzType(), options=options), *texts) == moments


TEXTS = st.text("0123456789+-.eExX_, ainfNT:Z", max_size=12)


@settings(deadline=None)
@given(
    st.lists(TEXTS, max_size=40),
    st.sampled_from([LongType(), DoubleType(), DecimalType(9, 2), BooleanType(), DateType(), TimestamptzType()]),
)
def test_a_column_is_read_as_each_of_its_values_alone(texts: list[str], kind: Any) -> None:
    """The fast way over a column and the slow one over a value agree, whatever stands there."""
    column = Column("c", kind)
    whole = read(column, *texts)
    single = [read(column, text) for text in texts]
    assert whole.rows.column(0).to_pylist() == [value for one in single for value in one.rows.column(0).to_pylist()]
    assert [one.line - 1 for one in whole.refused if one.line] == [index for index, one in enumerate(single) if one.refused]
    slow = TextColumns(contract(column))
    slow._columns[0][1].fast = None
    lines = pa.array(range(len(texts)), pa.int64())
    again = slow.typed({"c": pa.array(texts, pa.string())}, lines, lambda row: None)
    assert again.rows.equals(whole.rows)
