"""NDJSON and JSON lists: every record with its place, exact values, refusals that name record and field."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.types import (
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    ListType,
    LongType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
)

from platform_resources.contracts.model import Column, Contract
from platform_resources.landing import json_columns, json_records
from platform_resources.landing.source import Block, Delivery, DeliveryRefused

DELIVERY = Delivery("a.ndjson", "0")


def contract(*columns: Column, closed: bool = True) -> Contract:
    return Contract("shop", "drop", Path("drop.yaml"), "1.0.0", "active", "", columns, closed=closed)


WHERE = Column(
    "where",
    StructType(NestedField(1, "wiki_id", StringType(), required=True)),
    fields=(Column("wiki_id", StringType(), required=True, physical_name="wiki"),),
)
ORDER = contract(
    Column("id", LongType(), required=True, physical_name="orderId"),
    Column("price", DecimalType(12, 2)),
    Column("dt", TimestamptzType()),
    WHERE,
    Column("tags", ListType(2, StringType()), element=Column("element", StringType())),
)


def lines(text: str | bytes, to: Contract = ORDER) -> list[Block]:
    return list(json_records.read_lines(io.BytesIO(text.encode() if isinstance(text, str) else text), DELIVERY, to))


def listed(text: str | bytes, to: Contract = ORDER, records: str | None = None) -> list[Block]:
    return list(json_records.read_list(io.BytesIO(text.encode() if isinstance(text, str) else text), DELIVERY, to, records))


def landed(blocks: Sequence[Block]) -> list[tuple[int, dict[str, Any]]]:
    return [pair for block in blocks for pair in zip(block.lines.to_pylist(), block.rows.to_pylist(), strict=True)]


def refused(blocks: Sequence[Block]) -> list[tuple[int | None, str, str, bytes | None]]:
    return [(one.line, one.reason, one.path, one.raw) for block in blocks for one in block.refused]


def test_records_become_rows_by_the_sources_names() -> None:
    full = '{"orderId": 7, "price": "1.10", "dt": "2026-01-02T03:04:05Z", "where": {"wiki": "enwiki"}, "tags": ["a", null]}'
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert landed(lines(full + '\n{"orderId": 8}')) == [
        (1, {"id": 7, "price": Decimal("1.10"), "dt": moment, "where": {"wiki_id": "enwiki"}, "tags": ["a", None]}),
        (2, {"id": 8, "price": None, "dt": None, "where": None, "tags": None}),
    ]


def test_bad_records_are_told_by_line_reason_and_field() -> None:
    text = '{"orderId": 1}\r\n\n{"orderId": 2\n[3]\n{"orderId": "4"}\n{}\n{"orderId": 5, "where": {}}\n'
    text += '{"orderId": 6, "new": 1}\n{"orderId": 7}\n'
    found = lines(text)
    assert [line for line, _ in landed(found)] == [1, 9]
    assert refused(found) == [
        (3, "not-json", "", b'{"orderId": 2'),
        (4, "not-an-object", "", b"[3]"),
        (5, "schema-violation", "orderId", b'{"orderId": "4"}'),
        (6, "schema-violation", "orderId", b"{}"),
        (7, "schema-violation", "where.wiki", b'{"orderId": 5, "where": {}}'),
        (8, "schema-violation", "", b'{"orderId": 6, "new": 1}'),
    ]


def test_an_open_contract_takes_records_with_more_fields() -> None:
    assert [row["id"] for _, row in landed(lines('{"orderId": 6, "new": 1}', replace(ORDER, closed=False)))] == [6]


def test_lines_count_over_chunks_and_long_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_records, "BLOCK_BYTES", 64)
    one = contract(Column("n", LongType()), Column("t", StringType()))
    text = "".join(json.dumps({"n": n, "t": "x" * (n * 7 % 300)}) + ("\n" if n % 3 else "\n\n") for n in range(100)).rstrip("\n")
    expected, line = [], 1
    for n in range(100):
        expected.append((line, n))
        line += 1 if n % 3 else 2
    assert [(at, row["n"]) for at, row in landed(lines(text, one))] == expected
    monkeypatch.setattr(json_records, "LINE_BYTES", 200)
    with pytest.raises(DeliveryRefused, match="no NDJSON"):
        lines(text, one)


@pytest.mark.parametrize("whole", [json_records.WHOLE_BYTES, 16])
@pytest.mark.parametrize(("text", "path"), [("[%s]", None), ('{"meta": [1], "query": {"pages": [%s]}}', "query.pages")])
def test_a_list_is_read_wherever_it_stands(monkeypatch: pytest.MonkeyPatch, whole: int, text: str, path: str | None) -> None:
    monkeypatch.setattr(json_records, "WHOLE_BYTES", whole)
    records = ",".join(json.dumps({"orderId": n if n != 3 else 0.5, "price": 1.25}) for n in range(6))
    found = listed(text % records, records=path)
    assert [(line, row["id"], row["price"]) for line, row in landed(found)] == [(n + 1, n, Decimal("1.25")) for n in (0, 1, 2, 4, 5)]
    assert refused(found) == [(4, "schema-violation", "orderId", b'{"orderId":0.5,"price":1.25}')]


@pytest.mark.parametrize("whole", [json_records.WHOLE_BYTES, 4])
@pytest.mark.parametrize("text", ['[{"orderId": 1}, {"order', '{"orderId": 1}', "", "[{} {}]", '[{"orderId": 1}] x'])
def test_what_is_no_list_refuses_the_file(monkeypatch: pytest.MonkeyPatch, whole: int, text: str) -> None:
    monkeypatch.setattr(json_records, "WHOLE_BYTES", whole)
    with pytest.raises(DeliveryRefused) as error:
        listed(text)
    assert error.value.code == "file-malformed"
    with pytest.raises(DeliveryRefused, match=r"there is no list at a\.b|cannot be read"):
        listed('{"a": {"c": []}}', records="a.b")


def test_many_records_are_given_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_records, "_BLOCK_RECORDS", 7)
    found = listed(orjson.dumps([{"orderId": n} for n in range(20)]))
    assert [len(block.rows) for block in found] == [7, 7, 6]
    assert [line for line, _ in landed(found)] == list(range(1, 21))


FLAT = contract(Column("a", LongType()), Column("b", StringType()), Column("c", DoubleType()), Column("d", BooleanType()))
RECORDS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "a": st.none() | st.integers(-(2**63), 2**63 - 1),
            "b": st.none() | st.text(st.characters(codec="utf-8"), max_size=8),
            "c": st.none() | st.floats(allow_nan=False, allow_infinity=False),
            "d": st.none() | st.booleans(),
        },
    )
)


@settings(deadline=None)
@given(RECORDS, st.booleans())
def test_what_python_writes_comes_back(records: list[dict[str, Any]], ascii_only: bool) -> None:
    text = "".join(json.dumps(record, ensure_ascii=ascii_only) + "\n" for record in records)
    found = lines(text, FLAT)
    assert not refused(found)
    assert [row for _, row in landed(found)] == [{name: record.get(name) for name in "abcd"} for record in records]


def test_real_recent_changes_read_as_pythons_json_reads_them(realdata: Path) -> None:
    text = gzip.decompress((realdata / "recentchange" / "wikiticker-2015-09-12-restored.json.gz").read_bytes())
    data = b"".join(text.splitlines(keepends=True)[::4])
    expected = [json.loads(line) for line in data.splitlines()]
    first = {name: next((one[name] for one in expected if one[name] is not None), None) for name in expected[0]}
    kinds = {bool: BooleanType(), int: LongType(), str: StringType(), type(None): StringType()}
    columns = [Column(f"c{index}", kinds[type(value)], physical_name=name) for index, (name, value) in enumerate(first.items())]
    found = lines(data, contract(*columns, closed=False))
    assert not refused(found)
    assert [(line, {c.physical_name: row[c.name] for c in columns}) for line, row in landed(found)] == [
        (number, {name: record.get(name) for name in first}) for number, record in enumerate(expected, start=1)
    ]


ODD = [
    "-0", "-0.0", "0.0", "1.0", "1e2", "1E400", "1e-400", "9223372036854775807", "9223372036854775808", "12345678901234567890123", "0.1",
    "1.7976931348623157e308", "123456789012345678.5", "true", "null", '""', '"x"', '"\\ud800"', '"\\u0000"', '"\\u00e9"', '"\\n"', '"\t"',
    '"2026-01-02"', '"2026-02-30"', '"0000-01-01"', '"2026-01-02T03:04:05Z"', '"2026-01-02 03:04:05.1234567Z"', '"2026-01-02T03:04:05"',
    '"2026-01-02T03:04:05.5+02:00"', '"2026-01-02T03:04:60Z"', '"0001-01-01T00:00:00+02:00"', "{}", "[]", "[1]", '{"a": 1}', "NaN", "01",
]  # fmt: skip
VALUES = st.sampled_from(ODD)
OBJECTS = st.lists(st.tuples(st.sampled_from(["a", "b", "c", "d", "e", "f", "g", "h"]), VALUES), max_size=3).map(
    lambda pairs: "{" + ", ".join(f'"{name}": {value}' for name, value in pairs) + "}"
)
LINES = OBJECTS | st.sampled_from(["", " {}", "{} {}", '{"a": 1}, {"a": 2}', '{"a": 1', '"b": 2}', "[]", "{}\r", '{"a":[{}', "{}]}", "1"])
LEAVES = (LongType(), StringType(), DoubleType(), BooleanType(), DateType(), TimestamptzType(), TimestampType())
EVERY = contract(*(Column(name, kind) for name, kind in zip("abcdefg", LEAVES, strict=True)))


@settings(max_examples=150, deadline=None)
@given(st.lists(LINES, max_size=4), st.booleans(), st.booleans(), st.sampled_from(["", "\n"]))
def test_chunks_are_read_as_their_lines_one_by_one(texts: list[str], closed: bool, required: bool, end: str) -> None:
    """The fast way over a chunk and the slow one over a value agree, whatever stands there."""
    columns = tuple(replace(column, required=required and column.name == "a") for column in EVERY.columns)
    to, text = replace(EVERY, columns=columns, closed=closed), "\n".join(texts) + end
    fast = lines(text, to)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_columns, "_TRIES", 0)
        slow = lines(text, to)
    assert repr(landed(fast)) == repr(landed(slow))
    assert refused(fast) == refused(slow)


def test_usual_chunks_are_read_by_arrow() -> None:
    record = '{"a": 1, "b": "x", "c": 0.5, "d": true, "e": "2026-01-02", "f": "2026-01-02T03:04:05.5Z", "g": "2026-01-02T03:04:05"}\n'
    found = json_columns.JsonColumns(EVERY).read(record.encode() * 3)
    assert found is not None
    assert found.to_pylist() == [row for _, row in landed(lines(f" {record}" * 3, EVERY))]
