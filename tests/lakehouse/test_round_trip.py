"""What is written is what DuckDB, Polars and Arrow read, for any schema and any values."""

from __future__ import annotations

import tempfile
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyiceberg.transforms import BucketTransform, DayTransform, IdentityTransform, MonthTransform
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
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
    TimeType,
    UUIDType,
)

from platform_resources.config import Settings
from platform_resources.contracts.iceberg import TableDefinition
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.conforming import arrow_schema_of
from platform_resources.lakehouse.reading import arrow_table
from platform_resources.lakehouse.staging import publish, stage_append
from platform_resources.lakehouse.stamp import Stamp
from tests.lakehouse.tables import define, read_by_duckdb, read_by_polars, table_of

_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
_instants = st.datetimes(datetime(1800, 1, 1), datetime(2200, 1, 1))
VALUES: dict[IcebergType, st.SearchStrategy[Any]] = {
    BooleanType(): st.booleans(),
    IntegerType(): st.integers(-(2**31), 2**31 - 1),
    LongType(): st.integers(-(2**63), 2**63 - 1),
    FloatType(): st.floats(width=32, allow_nan=False),
    DoubleType(): st.floats(allow_nan=False),
    DecimalType(9, 2): st.decimals(-9999999, 9999999, places=2),
    DecimalType(18, 0): st.integers(-(10**17), 10**17).map(Decimal),
    DecimalType(38, 10): st.decimals(-(10**20), 10**20, places=10),
    DateType(): st.dates(date(1800, 1, 1), date(2200, 1, 1)),
    TimeType(): st.times(),
    TimestampType(): _instants,
    TimestamptzType(): _instants.map(lambda at: at.replace(tzinfo=UTC)),
    StringType(): _text,
    UUIDType(): st.uuids(),
    BinaryType(): st.binary(max_size=20),
    FixedType(5): st.binary(min_size=5, max_size=5),
}
_KEYS = [StringType(), LongType(), DateType()]
_ids = count(1)


@st.composite
def _types(draw: st.DrawFn, depth: int = 2) -> IcebergType:
    shape = draw(st.sampled_from(["primitive", "primitive", "struct", "list", "map"] if depth else ["primitive"]))
    if shape == "primitive":
        return draw(st.sampled_from(list(VALUES)))
    inner = draw(_types(depth - 1))
    if shape == "list":
        return ListType(next(_ids), inner, element_required=draw(st.booleans()))
    if shape == "map":
        return MapType(next(_ids), draw(st.sampled_from(_KEYS)), next(_ids), inner, value_required=draw(st.booleans()))
    others = draw(st.lists(_types(depth - 1), max_size=2))
    return StructType(
        *(NestedField(next(_ids), f"f{index}", one, required=draw(st.booleans())) for index, one in enumerate([inner, *others]))
    )


def _values(kind: IcebergType, *, required: bool) -> st.SearchStrategy[Any]:
    if isinstance(kind, StructType):
        one: st.SearchStrategy[Any] = st.fixed_dictionaries({f.name: _values(f.field_type, required=f.required) for f in kind.fields})
    elif isinstance(kind, ListType):
        one = st.lists(_values(kind.element_type, required=kind.element_required), max_size=3)
    elif isinstance(kind, MapType):
        one = st.dictionaries(VALUES[kind.key_type], _values(kind.value_type, required=kind.value_required), max_size=3).map(
            lambda found: sorted(found.items())
        )
    else:
        one = VALUES[kind]
    return one if required else st.none() | one


def _loose(field: pa.Field) -> pa.Field:
    """The field as a caller may give it: optional, uuids as 16 bytes, since pa.array cannot make nested extension values."""
    kind = field.type
    if pa.types.is_struct(kind):
        kind = pa.struct([_loose(child) for child in kind])
    elif pa.types.is_map(kind):
        kind = pa.map_(_loose(kind.key_field).with_nullable(False), _loose(kind.item_field))
    elif pa.types.is_list(kind):
        kind = pa.list_(_loose(kind.value_field))
    return pa.field(field.name, pa.binary(16) if kind == pa.uuid() else kind)


def _bytes(value: Any) -> Any:
    if isinstance(value, UUID):
        return value.bytes
    if isinstance(value, dict):
        return {name: _bytes(one) for name, one in value.items()}
    return type(value)(_bytes(one) for one in value) if isinstance(value, list | tuple) else value


def given_rows(definition: TableDefinition, data: list[dict[str, Any]]) -> pa.Table:
    schema = pa.schema([_loose(field) for field in arrow_schema_of(definition.schema)])
    return pa.Table.from_pylist([_bytes(row) for row in data], schema=schema)


@st.composite
def _written(draw: st.DrawFn) -> tuple[TableDefinition, list[dict[str, Any]]]:
    kinds = draw(st.lists(st.tuples(_types(), st.booleans()), min_size=1, max_size=4))
    partition = draw(st.sampled_from([(), (("n", BucketTransform(4), "n_bucket"),), (("at", DayTransform(), "day"),)]))
    columns = [("n", LongType(), True), ("at", TimestamptzType()), *((f"c{i}", kind, required) for i, (kind, required) in enumerate(kinds))]
    definition = define(*columns, partition=partition)
    shape = st.fixed_dictionaries(
        {field.name: _values(field.field_type, required=field.required) for field in definition.schema.fields if field.name != "n"}
    )
    return definition, [{"n": n, **one} for n, one in enumerate(draw(st.lists(shape, max_size=6)))]


def _in_order(table: pa.Table) -> list[dict[str, Any]]:
    return sorted(table.to_pylist(), key=lambda row: row["n"])


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(written=_written())
def test_any_schema_and_values_come_back_equal_from_every_reader(con: duckdb.DuckDBPyConnection, written: Any) -> None:
    definition, data = written
    with tempfile.TemporaryDirectory() as folder:
        lakehouse = Lakehouse(Settings(home=Path(folder)))
        publish(stage_append(lakehouse, definition, given_rows(definition, data), Stamp("r1")))
        table = table_of(lakehouse, definition)
        for reader in (arrow_table(table), read_by_duckdb(con, table), read_by_polars(table)):
            assert _in_order(reader) == data


@pytest.mark.storm
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(written=_written())
def test_the_same_for_many_examples(con: duckdb.DuckDBPyConnection, written: Any) -> None:
    test_any_schema_and_values_come_back_equal_from_every_reader.hypothesis.inner_test(con, written)


def test_null_lists_maps_and_structs_stay_null(lakehouse: Lakehouse, con: duckdb.DuckDBPyConnection) -> None:
    inner = StructType(NestedField(10, "x", IntegerType()))
    definition = define(
        ("id", LongType(), True),
        ("l", ListType(11, inner, element_required=False)),
        ("m", MapType(12, StringType(), 13, inner)),
        ("s", inner),
    )
    data = [
        {"id": 1, "l": None, "m": None, "s": None},
        {"id": 2, "l": [], "m": [], "s": {"x": None}},
        {"id": 3, "l": [None, {"x": None}, {"x": 1}], "m": [("k", {"x": 2})], "s": {"x": 3}},
    ]
    publish(stage_append(lakehouse, definition, pa.Table.from_pylist(data, schema=arrow_schema_of(definition.schema)), Stamp("r1")))
    table = table_of(lakehouse, definition)
    assert read_by_duckdb(con, table).to_pylist() == data
    assert read_by_polars(table).to_pylist() == data


@pytest.mark.parametrize("as_reader", [False, True])
def test_a_reader_in_many_small_batches_is_written_like_a_table(
    lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch, *, as_reader: bool
) -> None:
    monkeypatch.setattr("platform_resources.lakehouse.parquet.BLOCK_ROWS", 100)
    definition = define(
        ("id", LongType(), True), ("at", TimestampType()), ("wiki", StringType()),
        partition=[("at", MonthTransform(), "month"), ("wiki", IdentityTransform(), "wiki")],
    )  # fmt: skip
    start = datetime(2026, 1, 1)
    data = pa.Table.from_pylist(
        [{"id": i, "at": start + timedelta(days=i % 70), "wiki": ["en", "de", None][i % 3]} for i in range(1_000)],
        schema=arrow_schema_of(definition.schema),
    )
    given_data = pa.RecordBatchReader.from_batches(data.schema, data.to_batches(max_chunksize=7)) if as_reader else data
    staged = stage_append(lakehouse, definition, given_data, Stamp("r1"))
    assert len(staged.written) == 9  # one file per partition, however many blocks it came in
    publish(staged)
    assert sorted(arrow_table(table_of(lakehouse, definition)).to_pylist(), key=lambda row: row["id"]) == data.to_pylist()


def test_a_map_of_uuids_under_an_absent_struct_comes_back_absent(lakehouse: Lakehouse) -> None:
    uuids = MapType(21, StringType(), 22, UUIDType(), value_required=True)
    definition = define(("id", LongType(), True), ("s", StructType(NestedField(20, "m", uuids))))
    schema = arrow_schema_of(definition.schema)
    data = pa.Table.from_arrays([pa.array([1], pa.int64()), pa.nulls(1, schema.field("s").type)], schema=schema)
    publish(stage_append(lakehouse, definition, data, Stamp("r1")))
    assert arrow_table(table_of(lakehouse, definition)).to_pylist() == [{"id": 1, "s": None}]


def test_times_at_the_edges_of_the_day_and_before_1970_keep_their_partition(lakehouse: Lakehouse, con: duckdb.DuckDBPyConnection) -> None:
    definition = define(("seen", TimestamptzType()), ("t", TimeType()), partition=[("seen", DayTransform(), "day")])
    data = [
        {"seen": datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC), "t": time(23, 59, 59, 999_999)},
        {"seen": datetime(1970, 1, 1, tzinfo=UTC), "t": time(0)},
        {"seen": None, "t": None},
    ]
    publish(stage_append(lakehouse, definition, pa.Table.from_pylist(data, schema=arrow_schema_of(definition.schema)), Stamp("r1")))
    table = table_of(lakehouse, definition)
    found = con.sql(f"SELECT count(*) FROM {_scan(table)} WHERE seen >= '1970-01-01'").fetchone()
    assert found == (1,)
    assert {str(Path(file.file.file_path).parent.name) for file in table.scan().plan_files()} == {
        "day=1969-12-31",
        "day=1970-01-01",
        "day=null",
    }


def _scan(table: Any) -> str:
    from platform_resources.lakehouse.reading import duckdb_scan_sql

    return duckdb_scan_sql(table)
