"""Our own Parquet writer: a stream of rows becomes Iceberg data files with field ids, column metrics and partition values.

PyIceberg's writer turns a null `list<struct>` or `map<_, struct>` into an empty one and filters the table once per partition; DuckDB's
takes 40 s for 10 million rows by day. Nothing here knows snapshots or transactions.

Rows of a partition are held back until a row group is worth writing; what is held and what is being encoded is bounded, however many
rows and partitions come. The calling thread reads, conforms and splits while the others sort, encode and upload.
"""

from __future__ import annotations

import itertools
import math
import threading
import uuid
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import PyArrowFile
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table.locations import load_location_provider
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER
from pyiceberg.typedef import Record

from platform_resources.failpoints import failpoint
from platform_resources.lakehouse.column_metrics import FileStatistics
from platform_resources.lakehouse.conforming import Conformer, arrow_schema_of
from platform_resources.lakehouse.encoding import ParquetEncoding
from platform_resources.lakehouse.file_io import PART_BYTES
from platform_resources.lakehouse.partitions import in_sort_order, partition_name, sort_keys, sorted_rows, split

Data: TypeAlias = "pa.Table | pa.RecordBatchReader"

BLOCK_ROWS = 1 << 20
BLOCK_BYTES = 16 << 20
HELD_BYTES = 80 << 20  # rows of all partitions that wait for their row group
IN_FLIGHT_BYTES = 96 << 20  # rows handed to the encoding threads
_LANE_ROWS = 200_000  # a table smaller than this is one file: two would only be twice the opening and closing
_INLINE_ROWS = 20_000  # fewer are written sooner than a thread is started
_OPEN_FILES = 200
UNSENT_BYTES = 128 << 20  # of open files in an object store, which keep what has not made an upload's part yet
_STREAM_BYTES = 128 << 10  # buffer of an open local file; PyIceberg's megabyte each is 200 MB for 200 of them
_IDLE_BLOCKS = 4  # a partition that so many blocks had no rows of is taken for complete
_MANY_FILES = 16  # open at once: pages are then small, since each open file keeps the buffers of its last column's pages
_REMOTE_THREADS = 8  # an upload waits more than it works


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
    """A data file that is being written. `last` are the sort keys of its last row, None once a row group broke the order."""

    number: int
    path: str
    stream: Any
    writer: pq.ParquetWriter
    footer: list[pq.FileMetaData]
    nan_counts: dict[int, int] = field(default_factory=dict)
    last: pa.Table | None = None
    in_order: bool = True


@dataclass(eq=False)
class _Lane:
    """Row groups of one partition that go one after another into the same file: rows and their bytes; no rows close the file."""

    partition: Record
    queue: deque[tuple[pa.Table | None, int]] = field(default_factory=deque)
    busy: bool = False
    written: int = 0
    file: _OpenFile | None = None

    @property
    def unsent(self) -> int:
        """Bytes that an open upload keeps in memory."""
        return self.written % PART_BYTES if self.file is not None else 0


@dataclass(eq=False)
class _Part:
    """The rows of one partition that wait for their row group, and the lanes that its earlier ones took."""

    partition: Record
    held: list[pa.Table] = field(default_factory=list)
    rows: int = 0
    bytes: float = 0.0
    touched: int = 0
    full_groups: int = 0
    lanes: list[_Lane] = field(default_factory=list)


class DataFileWriter:
    """Writes the data files of one staged write.

    Args:
        io: file access of the table.
        metadata: the table's metadata with the schema that the files shall have (its default spec, sort order, properties).
        identifier: the table, for error messages.
        lenient: see `Conformer`.
        lanes: how many files of one partition are written side by side at most; default: as many as there are threads.
    """

    def __init__(self, io: FileIO, metadata: TableMetadata, identifier: str, *, lenient: bool = False, lanes: int | None = None) -> None:
        self._io, self._metadata = io, metadata
        self._schema, self._spec, self._order = metadata.schema(), metadata.spec(), metadata.sort_order()
        self._conformer = Conformer(identifier, self._schema, lenient=lenient)
        self._arrow = arrow_schema_of(self._schema)
        self._locations = load_location_provider(metadata.location, metadata.properties)
        self._encoding = ParquetEncoding(self._schema, metadata.properties, identifier)
        self._statistics = FileStatistics(self._schema, metadata)
        self._id, self._numbers = uuid.uuid4(), itertools.count()
        self._parts: dict[tuple[Any, ...], _Part] = {}
        self._fresh: list[_Part] = []  # hold slices of the last block
        self._held_bytes, self._clock = 0.0, 0
        self._lanes: OrderedDict[_Lane, _Part] = OrderedDict()  # with a file that may be open, the least recently used first
        self._done: list[tuple[int, DataFile]] = []
        self._paths: list[str] = []
        self._turn = threading.Condition()  # guards the lanes' queues and the three below
        self._in_flight = self._working = 0
        self._fault: BaseException | None = None
        self._threads = max(1, min(4, pa.cpu_count()))
        self._most_lanes = min(self._threads, lanes or self._threads)
        self._remote = not metadata.location.startswith(("file:", "/"))
        self._pool: ThreadPoolExecutor | None = None
        self.rows = 0

    def write(self, data: Data) -> list[DataFile]:
        """Write all rows and close the files. On any failure nothing stays on disk.

        Raises:
            PlatformError: the rows break the contract (see `Conformer.conform`).
        """
        try:
            self._conformer.check(data.schema)
            for block in blocks(data):
                self._take(self._conformer.conform(block))
            self._finish()
        except BaseException as error:
            self._fault = self._fault or error  # what the threads still have in their queues is dropped
            self.abort()
            raise
        finally:
            if self._pool is not None:
                self._pool.shutdown(wait=True)
                pa.default_memory_pool().release_unused()
        return [file for _, file in sorted(self._done, key=lambda one: one[0])]

    def abort(self) -> None:
        """Close and delete every file of this writer."""
        if self._pool is not None:
            self._pool.shutdown(wait=True)
        for lane in self._lanes:
            if lane.file is not None:
                with suppress(Exception):
                    lane.file.writer.close()
                with suppress(Exception):  # an upload that is given up is never visible
                    getattr(lane.file.stream, "abort", lane.file.stream.close)()
        self._lanes.clear()
        for path in self._paths:
            with suppress(OSError):
                self._io.delete(path)

    # ---- the calling thread: which rows become a row group, and when ----

    def _take(self, block: pa.Table) -> None:
        self.rows += block.num_rows
        self._clock += 1
        width = block.nbytes / block.num_rows
        touched: list[_Part] = []
        for piece in split(block, self._spec, self._schema, UNSORTED_SORT_ORDER):
            part = self._parts.setdefault(_key(piece.partition), _Part(piece.partition))
            part.held.append(piece.rows)
            part.rows += piece.rows.num_rows
            part.bytes += piece.rows.num_rows * width
            part.touched = self._clock
            touched.append(part)
            self._held_bytes += piece.rows.num_rows * width
            while part.rows >= self._encoding.group_rows or part.bytes >= 1.5 * self._encoding.group_bytes:  # the rest is no crumb
                most = int(self._encoding.group_bytes * part.rows / max(1.0, part.bytes))
                self._flush(part, max(1, min(self._encoding.group_rows, most, part.rows)))
                part.full_groups += 1
        for part in self._fresh:
            if part.touched != self._clock and part.rows:
                part.held = [_copied(pa.concat_tables(part.held))]
        self._fresh = [part for part in touched if part.rows]
        if self._held_bytes > HELD_BYTES:
            self._relieve()

    def _relieve(self) -> None:
        """Write out half of what is held: partitions that the last blocks had no rows of, then the largest.

        What stays is copied, since a slice keeps the whole block in memory that it was cut from.
        """
        waiting = sorted((part for part in self._parts.values() if part.rows), key=lambda one: (one.touched == self._clock, -one.bytes))
        for part in waiting:
            if self._held_bytes > HELD_BYTES / 2:
                self._flush(part, part.rows)
                if part.touched < self._clock - _IDLE_BLOCKS:
                    for lane in list(part.lanes):
                        self._retire(lane)
            else:
                part.held = [_copied(pa.concat_tables(part.held))]

    def _flush(self, part: _Part, rows: int) -> None:
        """Send the first rows of a partition to be written as one row group."""
        table = pa.concat_tables(part.held)
        group, rest = table.slice(0, rows), table.slice(rows)
        size = part.bytes * rows / part.rows
        part.held, part.rows, part.bytes = [rest] if rest.num_rows else [], rest.num_rows, part.bytes - size
        self._held_bytes -= size
        lane = self._lane(part)
        self._lanes[lane] = part
        self._lanes.move_to_end(lane)
        self._submit(lane, group, int(size))
        if len(self._lanes) > _OPEN_FILES or (self._remote and sum(one.unsent for one in self._lanes) > UNSENT_BYTES):
            self._retire(next(iter(self._lanes)))

    def _lane(self, part: _Part) -> _Lane:
        """The lane with least to do; another one where all are busy and the partition is large enough for another file."""
        lane = min(part.lanes, key=lambda one: (one.busy, len(one.queue)), default=None)
        if lane is None or (lane.busy and len(part.lanes) < self._most_lanes and part.full_groups >= len(part.lanes)):
            lane = _Lane(part.partition)
            part.lanes.append(lane)
        return lane

    def _finish(self) -> None:
        """Write what is held, close every file, wait for the threads."""
        self._start_threads()
        waiting = [part for part in self._parts.values() if part.rows]
        for part in waiting:
            pieces = self._most_lanes if part.rows >= _LANE_ROWS and len(waiting) < self._threads else 1
            step = math.ceil(part.rows / pieces)
            while part.rows:
                self._flush(part, min(step, part.rows))
            for lane in list(part.lanes):
                self._retire(lane)
        for lane in list(self._lanes):
            self._retire(lane)
        with self._turn:
            self._turn.wait_for(lambda: not self._working)
        self._raise_fault()

    def _retire(self, lane: _Lane) -> None:
        self._lanes.pop(lane).lanes.remove(lane)
        self._submit(lane, None, 0)

    # ---- handing over ----

    def _start_threads(self) -> None:
        if self._pool is not None:
            return
        if self._clock > 1 or len(self._parts) > self._threads or sum(part.rows for part in self._parts.values()) > _INLINE_ROWS:
            self._pool = ThreadPoolExecutor(max(self._threads, _REMOTE_THREADS) if self._remote else self._threads)

    def _submit(self, lane: _Lane, group: pa.Table | None, size: int) -> None:
        self._raise_fault()
        self._start_threads()
        with self._turn:
            self._turn.wait_for(lambda: not self._in_flight or self._in_flight + size <= IN_FLIGHT_BYTES or self._fault)
            self._in_flight += size
            lane.queue.append((group, size))
            if lane.busy:
                return
            lane.busy = True
            self._working += 1
        if self._pool is None:
            self._work(lane)
        else:
            self._pool.submit(self._work, lane)

    def _raise_fault(self) -> None:
        if self._fault is not None:
            raise self._fault

    def _work(self, lane: _Lane) -> None:
        """Write a lane's row groups until its queue is empty."""
        while True:
            with self._turn:
                if not lane.queue:
                    lane.busy = False
                    self._working -= 1
                    self._turn.notify_all()
                    return
                group, size = lane.queue.popleft()
            try:
                if self._fault is None:
                    self._write_group(lane, group)
            except BaseException as error:  # noqa: BLE001 - the calling thread raises it
                self._fault = error
            del group
            with self._turn:
                self._in_flight -= size
                self._turn.notify_all()

    # ---- the encoding threads ----

    def _write_group(self, lane: _Lane, rows: pa.Table | None) -> None:
        if rows is not None:
            if self._order.fields:
                rows = sorted_rows(rows, self._schema, self._order)
            if lane.file is None:
                lane.file = self._new_file(lane.partition, rows)
            self._statistics.count_nans(rows, lane.file.nan_counts)
            self._note_order(lane.file, rows)
            lane.file.writer.write_table(rows, row_group_size=rows.num_rows)
            lane.written = lane.file.stream.tell()
            failpoint("after-row-group")
        if lane.file is not None and (rows is None or lane.written >= self._encoding.target_bytes):
            self._done.append((lane.file.number, self._closed(lane.file, lane.partition)))
            lane.file = None

    def _note_order(self, file: _OpenFile, rows: pa.Table) -> None:
        """Whether the file is sorted as a whole: each row group is, and begins where the last one ended or after."""
        if not self._order.fields or not file.in_order:
            return
        ends = sort_keys(pa.concat_tables([rows.slice(0, 1), rows.slice(rows.num_rows - 1)]), self._schema, self._order)
        if file.last is not None:
            file.in_order = in_sort_order(pa.concat_tables([file.last, ends.slice(0, 1)]), self._order)
        file.last = ends.slice(1)

    def _new_file(self, partition: Record, rows: pa.Table) -> _OpenFile:
        with self._turn:
            number = next(self._numbers)
        name, folder = f"{number:05d}-{self._id}.parquet", partition_name(self._spec, self._schema, partition)
        path = self._locations.new_data_location(f"{folder}/{name}" if folder else name)
        self._paths.append(path)
        output = self._io.new_output(path)
        if isinstance(output, PyArrowFile):
            output._buffer_size = _STREAM_BYTES  # noqa: SLF001 - a property of the table's file access, but then of its reads too
        stream = output.create(overwrite=True)
        footer: list[pq.FileMetaData] = []
        options = self._encoding.arguments(rows, small_pages=len(self._lanes) > _MANY_FILES)
        writer = pq.ParquetWriter(stream, self._arrow, version="2.6", store_schema=False, metadata_collector=footer, **options)
        return _OpenFile(number, path, stream, writer, footer)

    def _closed(self, file: _OpenFile, partition: Record) -> DataFile:
        file.writer.close()
        size = file.stream.tell()
        file.stream.close()
        return DataFile.from_args(
            content=DataFileContent.DATA,
            file_path=file.path,
            file_format=FileFormat.PARQUET,
            partition=partition,
            file_size_in_bytes=size,
            sort_order_id=self._metadata.default_sort_order_id if self._order.fields and file.in_order else None,
            spec_id=self._metadata.default_spec_id,
            equality_ids=None,
            key_metadata=None,
            **self._statistics.of(file.footer[0], file.nan_counts),
        )


def _key(record: Record) -> tuple[Any, ...]:
    """A partition as a key: a record hashes its text, which takes longer than writing a small row group; NaN must equal itself."""
    values = (record[index] for index in range(len(record)))
    return tuple("nan" if isinstance(value, float) and math.isnan(value) else value for value in values)


def _copied(table: pa.Table) -> pa.Table:
    """The rows in memory of their own."""
    if all(column.num_chunks > 1 for column in table.columns):
        return table.combine_chunks()
    return table.take(pa.array(np.arange(table.num_rows)))


def total_rows(files: Iterable[DataFile]) -> int:
    """Rows in data files."""
    return sum(file.record_count for file in files)
