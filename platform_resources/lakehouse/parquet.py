"""Our own Parquet writer: blocks of rows become Iceberg data files with field ids, column metrics and partition values.

PyIceberg's writer turns a null `list<struct>` or `map<_, struct>` into an empty one and filters the table once per partition; DuckDB's
takes 40 s for 10 million rows by day. Nothing here knows snapshots or transactions.
"""

from __future__ import annotations

import math
import struct
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import (
    MetricModeTypes,
    MetricsMode,
    compute_statistics_plan,
    match_metrics_mode,
    parquet_path_to_id_mapping,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.schema import Schema
from pyiceberg.table import TableProperties
from pyiceberg.table.locations import load_location_provider
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.typedef import Record
from pyiceberg.types import BinaryType, DecimalType, DoubleType, FixedType, FloatType, PrimitiveType, StringType, UUIDType
from pyiceberg.utils.truncate import truncate_upper_bound_binary_string, truncate_upper_bound_text_string

from platform_resources.lakehouse.conforming import Conformer, arrow_schema_of
from platform_resources.lakehouse.partitions import column_at, partition_name, path_of, split

Data: TypeAlias = "pa.Table | pa.RecordBatchReader"

BLOCK_ROWS = 1 << 20
BLOCK_BYTES = 128 << 20
_LANE_ROWS = 200_000  # a table smaller than this is one file: two would only be twice the opening and closing
_OPEN_FILES = 200
_INT_WIDTH = {"int": "<i", "date": "<i", "long": "<q", "time": "<q", "timestamp": "<q", "timestamptz": "<q"}


def blocks(data: Data) -> Iterator[pa.Table]:
    """The input in blocks of about BLOCK_BYTES, at most BLOCK_ROWS rows; a reader is never wholly in memory."""
    if isinstance(data, pa.Table):
        if data.num_rows:
            yield from _sliced(data)
        return
    held: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in data:
        held.append(batch)
        rows, size = rows + batch.num_rows, size + batch.nbytes
        if rows >= BLOCK_ROWS or size >= BLOCK_BYTES:
            yield from _sliced(pa.Table.from_batches(held, schema=data.schema))
            held, rows, size = [], 0, 0
    if rows:
        yield from _sliced(pa.Table.from_batches(held, schema=data.schema))


def _sliced(table: pa.Table) -> Iterator[pa.Table]:
    step = max(1, min(BLOCK_ROWS, int(BLOCK_BYTES / max(1.0, table.nbytes / table.num_rows))))
    if table.num_rows <= step * 1.25:  # no crumbs
        yield table
        return
    yield from (table.slice(start, step) for start in range(0, table.num_rows, step))


@dataclass
class _OpenFile:
    """A data file that is being written."""

    path: str
    partition: Record
    stream: Any
    writer: pq.ParquetWriter
    footer: list[pq.FileMetaData]
    nan_counts: dict[int, int] = field(default_factory=dict)
    row_groups: int = 0


class DataFileWriter:
    """Writes the data files of one staged write.

    Args:
        io: file access of the table.
        metadata: the table's metadata with the schema that the files shall have (its default spec, sort order, properties).
        identifier: the table, for error messages.
        lenient: see `Conformer`.
    """

    def __init__(self, io: FileIO, metadata: TableMetadata, identifier: str, *, lenient: bool = False) -> None:
        self._io, self._metadata = io, metadata
        self._schema, self._spec, self._order = metadata.schema(), metadata.spec(), metadata.sort_order()
        self._conformer = Conformer(identifier, self._schema, lenient=lenient)
        self._arrow = arrow_schema_of(self._schema)
        self._locations = load_location_provider(metadata.location, metadata.properties)
        self._statistics = FileStatistics(self._schema, metadata)
        self._id = uuid.uuid4()
        self._sequence = 0
        self._open: dict[Any, _OpenFile] = {}
        self._done: list[DataFile] = []
        self._paths: list[str] = []
        self._threads = max(1, min(4, pa.cpu_count()))
        self._pool: ThreadPoolExecutor | None = None
        self._pending: list[Future[None]] = []
        properties = metadata.properties
        self._target_bytes = int(properties.get("write.target-file-size-bytes", TableProperties.WRITE_TARGET_FILE_SIZE_BYTES_DEFAULT))
        self._group_rows = int(properties.get("write.parquet.row-group-limit", TableProperties.PARQUET_ROW_GROUP_LIMIT_DEFAULT))
        self.rows = 0

    def write(self, data: Data) -> list[DataFile]:
        """Write all rows and close the files. On any failure nothing stays on disk.

        Raises:
            PlatformError: the rows break the contract (see `Conformer.conform`).
        """
        try:
            self._conformer.check(data.schema)
            for block in blocks(data):
                self._write_block(self._conformer.conform(block))
            self._settle()
            for key in list(self._open):
                self._close(key)
        except BaseException:
            self.abort()
            raise
        finally:
            if self._pool is not None:
                self._pool.shutdown(wait=True, cancel_futures=True)
        return self._done

    def abort(self) -> None:
        """Close and delete every file of this writer."""
        with suppress(Exception):
            self._settle()
        for file in self._open.values():
            with suppress(Exception):
                file.writer.close()
            with suppress(Exception):
                file.stream.close()
        self._open.clear()
        for path in self._paths:
            with suppress(OSError):
                self._io.delete(path)

    def _write_block(self, block: pa.Table) -> None:
        self.rows += block.num_rows
        slices = split(block, self._spec, self._schema, self._order)
        tasks: dict[Any, list[pa.Table]] = {}
        for part in slices:
            if self._spec.fields:
                tasks.setdefault((part.partition, 0), []).append(part.rows)
            else:
                lanes = self._threads if part.rows.num_rows >= _LANE_ROWS else 1
                step = math.ceil(part.rows.num_rows / lanes)
                for lane in range(lanes):
                    tasks.setdefault((part.partition, lane), []).append(part.rows.slice(lane * step, step))
        self._settle()  # while the last block is compressed by the pool, this one was cast and split
        for key, tables in tasks.items():
            if key not in self._open:
                self._make_room(set(tasks))
                self._open[key] = self._new_file(key[0])
            self._submit(key, pa.concat_tables(tables))

    def _submit(self, key: Any, rows: pa.Table) -> None:
        if rows.num_rows < _LANE_ROWS // 10 and self._pool is None:
            self._append(key, rows)
            return
        self._pool = self._pool or ThreadPoolExecutor(self._threads)
        self._pending.append(self._pool.submit(self._append, key, rows))

    def _settle(self) -> None:
        pending, self._pending = self._pending, []
        for future in pending:
            future.result()
        for key in [key for key, file in self._open.items() if file.stream.tell() >= self._target_bytes]:
            self._close(key)

    def _make_room(self, needed: set[Any]) -> None:
        idle = [key for key in self._open if key not in needed]
        while len(self._open) >= _OPEN_FILES and idle:
            self._close(idle.pop(0))

    def _new_file(self, partition: Record) -> _OpenFile:
        name = f"{self._sequence:05d}-{self._id}.parquet"
        self._sequence += 1
        folder = partition_name(self._spec, self._schema, partition)
        path = self._locations.new_data_location(f"{folder}/{name}" if folder else name)
        properties = self._metadata.properties
        codec = properties.get("write.parquet.compression-codec", TableProperties.PARQUET_COMPRESSION_DEFAULT)
        level = properties.get("write.parquet.compression-level")
        self._paths.append(path)
        stream = self._io.new_output(path).create(overwrite=True)
        footer: list[pq.FileMetaData] = []
        writer = pq.ParquetWriter(
            stream,
            self._arrow,
            version="2.6",
            compression="none" if codec == "uncompressed" else codec,
            compression_level=int(level) if level else None,
            store_schema=False,
            metadata_collector=footer,
        )
        return _OpenFile(path, partition, stream, writer, footer)

    def _append(self, key: Any, rows: pa.Table) -> None:
        file = self._open[key]
        self._statistics.count_nans(rows, file.nan_counts)
        file.writer.write_table(rows, row_group_size=self._group_rows)
        file.row_groups += 1

    def _close(self, key: Any) -> None:
        file = self._open.pop(key)
        file.writer.close()
        size = file.stream.tell()
        file.stream.close()
        sorted_by = self._metadata.default_sort_order_id if self._order.fields and file.row_groups == 1 else None
        self._done.append(
            DataFile.from_args(
                content=DataFileContent.DATA,
                file_path=file.path,
                file_format=FileFormat.PARQUET,
                partition=file.partition,
                file_size_in_bytes=size,
                sort_order_id=sorted_by,
                spec_id=self._metadata.default_spec_id,
                equality_ids=None,
                key_metadata=None,
                **self._statistics.of(file.footer[0], file.nan_counts),
            )
        )


class FileStatistics:
    """Iceberg's column metrics of a written file, read from its footer, as the table's metrics modes allow.

    Bounds are given for top-level columns; in structs only where the mode is set for the column itself or it is a partition source,
    since a wide event would otherwise fill the manifests. Bounds of a float column with NaN are left out: engines disagree on its order.
    """

    def __init__(self, schema: Schema, metadata: TableMetadata) -> None:
        properties = metadata.properties
        self._ids = parquet_path_to_id_mapping(schema)
        self._types: dict[int, PrimitiveType] = {}
        self._modes: dict[int, MetricsMode] = {}
        sources = {part.source_id for part in metadata.spec().fields}
        for field_id, plan in compute_statistics_plan(schema, dict(properties)).items():
            self._types[field_id] = plan.iceberg_type
            mode = plan.mode
            explicit = properties.get(f"{TableProperties.METRICS_MODE_COLUMN_CONF_PREFIX}.{plan.column_name}")
            if mode.type == MetricModeTypes.COUNTS and (explicit or field_id in sources) and _in_structs(schema, field_id):
                mode = _mode(explicit or "truncate(16)", plan.iceberg_type)
            self._modes[field_id] = mode
        floats = (FloatType, DoubleType)
        self._floats = {
            field_id: path_of(schema, field_id)
            for field_id, kind in self._types.items()
            if isinstance(kind, floats) and self._bounded(field_id) and _in_structs(schema, field_id)
        }

    def _bounded(self, field_id: int) -> bool:
        return self._modes[field_id].type in {MetricModeTypes.FULL, MetricModeTypes.TRUNCATE}

    def count_nans(self, rows: pa.Table, counts: dict[int, int]) -> None:
        """Add the NaNs of some rows to `counts`, which is by field id."""
        for field_id, path in self._floats.items():
            counts[field_id] = counts.get(field_id, 0) + (pc.sum(pc.is_nan(column_at(rows, path))).as_py() or 0)

    def of(self, footer: pq.FileMetaData, nan_counts: dict[int, int]) -> dict[str, Any]:
        """The arguments of `DataFile` that describe the content."""
        sizes, values, nulls = dict[int, int](), dict[int, int](), dict[int, int]()
        bounds: dict[int, tuple[Any, ...] | None] = {}
        groups = [footer.row_group(index) for index in range(footer.num_row_groups)]
        for group in groups:
            for index in range(footer.num_columns):
                column = group.column(index)
                field_id = self._ids[column.path_in_schema]
                sizes[field_id] = sizes.get(field_id, 0) + column.total_compressed_size
                if self._modes[field_id].type == MetricModeTypes.NONE:
                    continue
                values[field_id] = values.get(field_id, 0) + column.num_values
                statistics = column.statistics if column.is_stats_set else None
                if statistics is not None and statistics.has_null_count:
                    nulls[field_id] = nulls.get(field_id, 0) + statistics.null_count
                if self._bounded(field_id) and not nan_counts.get(field_id):
                    bounds[field_id] = _widened(bounds.get(field_id, ()), statistics, column.num_values, self._types[field_id])
        lower, upper = dict[int, bytes](), dict[int, bytes]()
        for field_id, pair in bounds.items():
            if pair:
                low, high = _serialised(pair, self._types[field_id], self._modes[field_id].length)
                lower[field_id] = low
                if high is not None:
                    upper[field_id] = high
        return {
            "record_count": footer.num_rows,
            "column_sizes": sizes,
            "value_counts": values,
            "null_value_counts": nulls,
            "nan_value_counts": dict(nan_counts),
            "lower_bounds": lower,
            "upper_bounds": upper,
            "split_offsets": sorted(_offset(group) for group in groups) or None,
        }


def _mode(text: str, kind: PrimitiveType) -> MetricsMode:
    mode = match_metrics_mode(text)
    cut = mode.type == MetricModeTypes.TRUNCATE and not isinstance(kind, StringType | BinaryType)
    return MetricsMode(MetricModeTypes.FULL) if cut else mode


def _in_structs(schema: Schema, field_id: int) -> bool:
    try:
        return bool(path_of(schema, field_id))
    except ValueError:
        return False


def _offset(group: pq.RowGroupMetaData) -> int:
    first = group.column(0)
    return int(min(first.data_page_offset, first.dictionary_page_offset) if first.has_dictionary_page else first.data_page_offset)


def _widened(known: tuple[Any, ...] | None, statistics: Any, values: int, kind: PrimitiveType) -> tuple[Any, ...] | None:
    """Bounds so far, widened by one row group's; () is none yet, None is unknown for good."""
    if known is None or statistics is None:
        return None
    if not statistics.has_min_max:
        only_nulls = statistics.has_null_count and statistics.null_count == values
        return known if only_nulls else None
    low, high = _comparable(statistics.min_raw, kind), _comparable(statistics.max_raw, kind)
    return (min(known[0], low), max(known[1], high)) if known else (low, high)


def _comparable(raw: Any, kind: PrimitiveType) -> Any:
    if isinstance(kind, DecimalType) and isinstance(raw, bytes):
        return int.from_bytes(raw, "big", signed=True)
    return raw.encode() if isinstance(raw, str) else raw


def _serialised(pair: Sequence[Any], kind: PrimitiveType, length: int | None) -> tuple[bytes, bytes | None]:
    """Lower and upper bound as Iceberg's single-value binary (spec, appendix D); the upper is None where no shorter one exists."""
    low, high = pair
    if isinstance(kind, DecimalType):
        return _minimal(low), _minimal(high)
    if isinstance(kind, StringType):
        if length is None:
            return low, high
        cut = truncate_upper_bound_text_string(high.decode(), length)
        return low.decode()[:length].encode(), None if cut is None else cut.encode()
    if isinstance(kind, BinaryType):
        return (low, high) if length is None else (low[:length], truncate_upper_bound_binary_string(high, length))
    if isinstance(kind, FixedType | UUIDType):
        return low, high
    form = _INT_WIDTH.get(str(kind)) or {"boolean": "?", "float": "<f", "double": "<d"}[str(kind)]
    return struct.pack(form, low), struct.pack(form, high)


def _minimal(unscaled: int) -> bytes:
    return unscaled.to_bytes((unscaled + (unscaled < 0)).bit_length() // 8 + 1, "big", signed=True)


def total_rows(files: Iterable[DataFile]) -> int:
    """Rows in data files."""
    return sum(file.record_count for file in files)
