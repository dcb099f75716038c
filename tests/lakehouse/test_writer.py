"""The Parquet writer does what the table's properties say, in bounded memory, and leaves nothing behind when it fails."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyiceberg.table import Table
from pyiceberg.table.sorting import NullOrder, SortDirection, SortField, SortOrder
from pyiceberg.transforms import (
    BucketTransform,
    DayTransform,
    HourTransform,
    IdentityTransform,
    MonthTransform,
    TruncateTransform,
    VoidTransform,
    YearTransform,
)
from pyiceberg.types import DoubleType, LongType, NestedField, StringType, StructType, TimestamptzType

from platform_resources.config import SOURCE_ROOT, Settings
from platform_resources.contracts.iceberg import TableDefinition
from platform_resources.errors import PlatformError
from platform_resources.lakehouse import parquet
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.conforming import arrow_schema_of
from platform_resources.lakehouse.orphans import list_files
from platform_resources.lakehouse.parquet import DataFileWriter
from platform_resources.lakehouse.reading import arrow_table
from platform_resources.lakehouse.staging import publish, stage_append
from platform_resources.lakehouse.stamp import Stamp
from tests.lakehouse.tables import define, read_by_duckdb, read_by_polars, table_of

SIMPLE = (("id", LongType(), True), ("wiki", StringType()), ("note", StringType()))


def simple(rows: int) -> pa.Table:
    ids = pa.array(range(rows), pa.int64())
    return pa.table({"id": ids, "wiki": [f"w{n % 3}" for n in range(rows)], "note": pc.cast(pc.multiply(ids, 7919), pa.string())})


def written(lakehouse: Lakehouse, definition: TableDefinition, data: Any) -> list[pq.FileMetaData]:
    """The footers of the files of one append."""
    staged = stage_append(lakehouse, definition, data, Stamp("r"))
    publish(staged)
    return [footer(staged.table, file.file_path) for file in staged.written]


def footer(table: Table, path: str) -> pq.FileMetaData:
    with table.io.new_input(path).open() as stream:
        return pq.ParquetFile(stream).metadata


def groups(footers: list[pq.FileMetaData]) -> list[int]:
    return [one.row_group(index).num_rows for one in footers for index in range(one.num_row_groups)]


def test_codec_row_groups_and_pages_are_those_of_the_tables_properties(lakehouse: Lakehouse) -> None:
    properties = {
        "write.parquet.compression-codec": "gzip",
        "write.parquet.compression-level": "9",
        "write.parquet.row-group-limit": "1000",
        "write.parquet.page-row-limit": "100",
    }
    [one] = written(lakehouse, define(*SIMPLE, properties=properties), simple(3_500))
    assert sorted(groups([one])) == [500, 1000, 1000, 1000]
    assert {one.row_group(0).column(index).compression for index in range(3)} == {"GZIP"}
    plain = define(*SIMPLE, properties={**properties, "write.parquet.compression-codec": "snappy"}, identifier="shop.plain")
    [one] = written(lakehouse, plain, simple(10))  # a level that snappy does not have was left behind
    assert one.row_group(0).column(0).compression == "SNAPPY"


def test_a_file_ends_near_its_target_size(lakehouse: Lakehouse) -> None:
    definition = define(*SIMPLE, properties={"write.target-file-size-bytes": "100000"})
    staged = stage_append(lakehouse, definition, simple(200_000), Stamp("r"))
    sizes = [file.file_size_in_bytes for file in staged.written]
    assert len(sizes) > 5 and max(sizes) < 200_000
    publish(staged)
    assert sum(file.record_count for file in staged.written) == 200_000


def test_bloom_filters_stand_where_the_table_wants_them_and_duckdb_uses_them(lakehouse: Lakehouse) -> None:
    wanted = {"write.parquet.bloom-filter-enabled.column.note": "true", "write.parquet.bloom-filter-max-bytes": "4096"}
    with_filter, without = simple(5_000), define(*SIMPLE, identifier="shop.none")
    table = lakehouse.create(define(*SIMPLE, properties=wanted))
    [file] = DataFileWriter(table.io, table.metadata, "t").write(with_filter)
    found = column_filters(table, file.file_path)
    assert [length is not None for length in found] == [False, False, True]
    assert found[2] is not None and found[2] <= 4096 + 64  # and its header
    plain = lakehouse.create(without)
    [file] = DataFileWriter(plain.io, plain.metadata, "t").write(with_filter)
    assert column_filters(plain, file.file_path) == [None, None, None]


def column_filters(table: Table, path: str) -> list[int | None]:
    """Bytes of each column's bloom filter, as DuckDB reads them from the footer."""
    with table.io.new_input(path).open() as stream:
        content = stream.read()
    with tempfile.NamedTemporaryFile(suffix=".parquet") as copy:
        copy.write(content)
        copy.flush()
        found = duckdb.sql(f"SELECT bloom_filter_length FROM parquet_metadata('{copy.name}') ORDER BY column_id").fetchall()
    return [length for (length,) in found]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("write.parquet.compression-codec", "zip"), ("write.parquet.compression-level", "much"), ("write.target-file-size-bytes", "0"),
        ("write.parquet.row-group-limit", "-1"), ("write.parquet.bloom-filter-fpp.column.note", "2"),
    ],
)  # fmt: skip
def test_a_property_that_nobody_can_write_with_is_named(lakehouse: Lakehouse, name: str, value: str) -> None:
    definition = define(*SIMPLE, properties={"write.parquet.bloom-filter-enabled.column.note": "true", name: value})
    with pytest.raises(PlatformError) as caught:
        stage_append(lakehouse, definition, simple(1), Stamp("r"))
    assert caught.value.code == "table-property-invalid" and name in caught.value.message and value in caught.value.message


def test_only_columns_whose_values_repeat_have_a_dictionary(lakehouse: Lakehouse) -> None:
    [one] = written(lakehouse, define(*SIMPLE), simple(20_000))
    has = {one.row_group(0).column(i).path_in_schema: one.row_group(0).column(i).has_dictionary_page for i in range(3)}
    assert has == {"id": False, "wiki": True, "note": False}


ORDER = SortOrder(SortField(1, IdentityTransform(), SortDirection.DESC, NullOrder.NULLS_LAST), order_id=1)


def sorted_by_id(properties: dict[str, str] | None = None) -> TableDefinition:
    partition = [("wiki", IdentityTransform(), "wiki")]
    return define(("id", LongType()), ("wiki", StringType()), partition=partition, sort_order=ORDER, properties=properties)


def test_rows_of_many_blocks_are_sorted_into_one_row_group(lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "BLOCK_ROWS", 10)
    data = pa.table({"id": [None, *((n * 37) % 101 for n in range(100))], "wiki": ["a", "b", None, "a"] * 25 + ["a"]})
    staged = stage_append(lakehouse, sorted_by_id(), data.to_reader(max_chunksize=7), Stamp("r"))
    assert len(staged.written) == 3
    for file in staged.written:
        assert file.sort_order_id == 1
        with staged.table.io.new_input(file.file_path).open() as stream:
            ids = pq.read_table(stream).column("id").to_pylist()
        assert ids == sorted(ids, key=lambda one: (one is None, -(one or 0)))


def test_a_file_is_called_sorted_only_if_it_is_as_a_whole(lakehouse: Lakehouse) -> None:
    small = {"write.parquet.row-group-limit": "50"}
    falling = pa.table({"id": list(range(200, 0, -1)), "wiki": ["a"] * 200})
    jumping = pa.table({"id": list(range(100, 0, -1)) * 2, "wiki": ["a"] * 200})
    for data, said in ((falling, 1), (jumping, None)):
        [file] = stage_append(lakehouse, sorted_by_id(small), data, Stamp("r")).written
        assert file.sort_order_id == said


def test_a_reader_that_breaks_leaves_no_file(lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "HELD_BYTES", 1)  # every block goes to its file at once
    definition = define(*SIMPLE, partition=[("wiki", IdentityTransform(), "wiki")])
    table = lakehouse.create(definition)
    before = sorted(path for path, *_ in list_files(table))
    seen: list[int] = []

    def batches() -> Iterator[pa.RecordBatch]:
        for number in range(5):
            yield from simple(30_000).cast(arrow_schema_of(definition.schema)).to_batches()
            seen.append(number)
        raise KeyboardInterrupt

    reader = pa.RecordBatchReader.from_batches(arrow_schema_of(definition.schema), batches())
    monkeypatch.setattr(parquet, "BLOCK_ROWS", 30_000)
    with pytest.raises(BaseException) as caught:  # Arrow wraps what a generator raises
        stage_append(lakehouse, definition, reader, Stamp("r"))
    assert len(seen) == 5 and "KeyboardInterrupt" in repr(caught.value)
    assert sorted(path for path, *_ in list_files(table)) == before


def test_a_fault_in_an_encoding_thread_is_raised_and_leaves_no_file(lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    definition = define(*SIMPLE, partition=[("wiki", IdentityTransform(), "wiki")])
    table = lakehouse.create(definition)
    before = sorted(path for path, *_ in list_files(table))
    monkeypatch.setenv("SDP_FAILPOINTS", "after-row-group:raise@2")
    with pytest.raises(RuntimeError):
        stage_append(lakehouse, definition, simple(100_000), Stamp("r"))
    assert sorted(path for path, *_ in list_files(table)) == before
    monkeypatch.delenv("SDP_FAILPOINTS")
    assert len(written(lakehouse, definition, simple(100_000))) == 3


def test_more_partitions_than_files_may_be_open_lose_no_row(lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("_OPEN_FILES", 4), ("HELD_BYTES", 20_000), ("BLOCK_ROWS", 500), ("IN_FLIGHT_BYTES", 10_000)):
        monkeypatch.setattr(parquet, name, value)
    definition = define(*SIMPLE, partition=[("id", BucketTransform(30), "id_bucket")])
    data = simple(5_000)
    written(lakehouse, definition, data.to_reader(max_chunksize=100))
    assert arrow_table(table_of(lakehouse, definition)).sort_by("id").to_pylist() == data.to_pylist()


# ---- properties --------------------------------------------------------------------------------------------------------------------

_TIMES = [YearTransform(), MonthTransform(), DayTransform(), HourTransform()]
_FIELDS = [
    *((("s.at", transform, f"at_{transform}")) for transform in _TIMES),
    ("k", IdentityTransform(), "k"), ("k", BucketTransform(3), "k_bucket"), ("k", TruncateTransform(10), "k_truncate"),
    ("s.word", IdentityTransform(), "word"), ("s.word", TruncateTransform(1), "word_truncate"), ("s.word", VoidTransform(), "word_void"),
]  # fmt: skip
_instants = st.integers(-(10**15), 2 * 10**15)


@st.composite
def _scattered(draw: st.DrawFn) -> tuple[TableDefinition, list[dict[str, Any]], dict[str, int]]:
    partition = draw(st.lists(st.sampled_from(_FIELDS), max_size=3, unique_by=(lambda one: (one[0], type(one[1])), lambda one: one[0])))
    columns = [
        ("n", LongType(), True), ("k", LongType()), ("x", DoubleType()),
        ("s", StructType(NestedField(20, "at", TimestamptzType()), NestedField(21, "word", StringType()))),
    ]  # fmt: skip
    by_k = SortOrder(SortField(2, IdentityTransform(), SortDirection.ASC, NullOrder.NULLS_FIRST), order_id=1)
    order = draw(st.sampled_from([SortOrder(), by_k]))
    tight = {"HELD_BYTES": [1, 2_000, 1 << 20], "BLOCK_ROWS": [1, 3, 1000], "_OPEN_FILES": [1, 3, 200]}
    limits = {name: draw(st.sampled_from(values)) for name, values in tight.items()}
    inner = st.none() | st.fixed_dictionaries({"at": st.none() | _instants, "word": st.none() | st.sampled_from(["", "a", "äb", "b/c=d"])})
    row = st.fixed_dictionaries({"k": st.none() | st.integers(-25, 25), "x": st.none() | st.sampled_from([0.5, -1.0]), "s": inner})
    rows = [{"n": n, **one} for n, one in enumerate(draw(st.lists(row, max_size=25)))]
    limit = {"write.parquet.row-group-limit": draw(st.sampled_from(["2", "1000"]))}
    return define(*columns, partition=partition, sort_order=order, properties=limit), rows, limits


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=_scattered())
def test_any_spec_and_any_order_of_rows_read_alike_in_pyiceberg_duckdb_and_polars(
    con: duckdb.DuckDBPyConnection, tmp_path_factory: pytest.TempPathFactory, case: Any
) -> None:
    definition, data, limits = case
    lakehouse = Lakehouse(Settings(home=tmp_path_factory.mktemp("home")))
    given_rows = pa.Table.from_pylist(data, schema=arrow_schema_of(definition.schema))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in limits.items():
            patch.setattr(parquet, name, value)
        publish(stage_append(lakehouse, definition, given_rows.to_reader(max_chunksize=4), Stamp("r")))
    table = table_of(lakehouse, definition)
    expected = given_rows.to_pylist()
    for reader in (table.scan().to_arrow(), read_by_duckdb(con, table), read_by_polars(table)):
        assert sorted(reader.to_pylist(), key=lambda row: row["n"]) == expected


# ---- memory ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.storm
@pytest.mark.parametrize(
    ("product", "order"),
    [
        ("edits", "clustered"), ("edits_by_day", "clustered"), ("edits_by_day", "shuffled"), ("edits_by_day_and_bucket", "clustered"),
        ("edits_by_day_and_bucket", "shuffled"),
    ],
)  # fmt: skip
@pytest.mark.folder_only("it measures the writer, not the store")
def test_ten_million_rows_are_written_in_600_mb(lakehouse: Lakehouse, tmp_path: Path, product: str, order: str) -> None:
    """1.07 GB of rows through Dagster and the IO manager. The process has about 300 MB before the work: Python, Dagster, DuckDB, Arrow."""
    given = json.dumps([str(tmp_path), "folder", product, order, 10_000_000])
    done = subprocess.run([sys.executable, "-m", "bench.cases.writing", given], cwd=SOURCE_ROOT, capture_output=True, text=True, check=True)
    measured = json.loads(done.stdout.splitlines()[-1])
    assert measured["peak_mb"] - measured["baseline_mb"] <= 600
