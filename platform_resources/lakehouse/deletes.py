"""Rows leave data files: named in a position delete file beside it, left out of a rewritten one, or together with the whole file.

Which of these is the cheapest is decided here, file by file. Which rows leave is decided by `merge` and `staging`; applying deletes on
reading is `files`'.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.conversions import from_bytes
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.locations import load_location_provider
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.types import DecimalType, PrimitiveType, UUIDType

from platform_resources.lakehouse import file_io
from platform_resources.lakehouse.conforming import arrow_schema_of
from platform_resources.lakehouse.files import (
    PATH_FIELD_ID,
    POSITION_FIELD_ID,
    FileTask,
    Positions,
    deleted_positions,
    kept_rows,
    read_task,
    referenced_path,
)
from platform_resources.lakehouse.keys import KeySet
from platform_resources.lakehouse.parquet import DataFileWriter
from platform_resources.lakehouse.partitions import partition_array, partition_name, path_of

Strategy: TypeAlias = Literal["auto", "merge-on-read", "copy-on-write"]

THREADS = max(1, min(4, pa.cpu_count()))
# Of a file's rows. With a tenth deleted a DuckDB aggregate over everything takes three times the processor time (0.15 s, not 0.05 s, of 3
# million rows) and rewriting 2 s: some twenty reads pay for it. Compaction rewrites from the same share on.
DELETED_SHARE = 0.1
SMALL_BYTES = 1 << 20  # a file as small as this is rewritten as quickly as a delete file for it is written

_SCHEMA = pa.schema(
    [
        pa.field("file_path", pa.dictionary(pa.int32(), pa.string()), nullable=False, metadata={"PARQUET:field_id": str(PATH_FIELD_ID)}),
        pa.field("pos", pa.int64(), nullable=False, metadata={"PARQUET:field_id": str(POSITION_FIELD_ID)}),
    ]
)


@dataclass(frozen=True)
class Edit:
    """How rows of one data file leave.

    `rewritten` is None when the file stays, with `delete` for its deleted rows; else the file goes and these files, perhaps none,
    have its other rows. `positions` are those asked for, sorted; none of them was deleted before.
    """

    task: FileTask
    positions: Positions
    rewritten: tuple[DataFile, ...] | None
    delete: DataFile | None

    @property
    def written(self) -> list[DataFile]:
        """Every file that was written for it."""
        return [*(self.rewritten or ()), *([self.delete] if self.delete is not None else [])]

    @property
    def replaced(self) -> list[DataFile]:
        """Delete files of the task that this edit makes useless: the new one says what they said."""
        if self.rewritten is not None:
            return list(self.task.deletes)
        return [file for file in self.task.deletes if referenced_path(file) is not None]

    @property
    def after(self) -> FileTask | None:
        """The task as a reader sees it afterwards; None when the file goes."""
        if self.rewritten is not None:
            return None
        kept = [file for file in self.task.deletes if referenced_path(file) is None]
        return FileTask(self.task.data_file, (*kept, *([self.delete] if self.delete is not None else [])), self.task.sequence_number)


class Edits:
    """The edits of one staged write. A restage asks again; what was written for a file that did not change meanwhile is used again."""

    def __init__(self, identifier: str, strategy: Strategy = "auto") -> None:
        self._identifier, self._strategy = identifier, strategy
        self._known: dict[str, Edit] = {}

    def apply(self, io: FileIO, metadata: TableMetadata, doomed: Mapping[str, tuple[FileTask, Positions]]) -> list[Edit]:
        """One edit per data file that has doomed rows. Files of earlier edits that are of no use any more are deleted.

        Args:
            io: file access of the table.
            metadata: the table's, with the schema and spec that rewritten rows shall have.
            doomed: by location of the data file: the task, and the positions of live rows that leave, sorted, at least one.
        """
        before, self._known = self._known, {}
        written: list[DataFile] = []
        try:
            for path, (task, positions) in doomed.items():
                known = before.get(path)
                if known is not None and known.task.deletes == task.deletes and np.array_equal(known.positions, positions):
                    self._known[path] = before.pop(path)
            missing = [pair for path, pair in doomed.items() if path not in self._known]
            with ThreadPoolExecutor(THREADS) as pool:
                for edit in pool.map(lambda pair: self._edit(io, metadata, pair[0], pair[1], written), missing):
                    self._known[edit.task.path] = edit
        except BaseException:
            delete_files(io, written)
            raise
        finally:
            delete_files(io, (file for edit in before.values() for file in edit.written))
        return [self._known[path] for path in doomed]

    @property
    def written(self) -> list[DataFile]:
        """Every file that stands written."""
        return [file for edit in self._known.values() for file in edit.written]

    def withdraw(self, io: FileIO) -> None:
        """Delete what was written."""
        delete_files(io, self.written)
        self._known.clear()

    def _edit(self, io: FileIO, metadata: TableMetadata, task: FileTask, positions: Positions, written: list[DataFile]) -> Edit:
        deleted = deleted_positions(io, task.path, task.deletes)
        rows = task.data_file.record_count
        gone = len(deleted) + len(positions)
        if gone == rows:
            return Edit(task, positions, (), None)
        if self._merge_on_read(task, gone):
            scoped = [file for file in task.deletes if referenced_path(file) is not None]
            own = np.union1d(deleted_positions(io, task.path, scoped), positions)
            delete = write_delete_file(io, metadata, task.data_file, own)
            written.append(delete)
            return Edit(task, positions, None, delete)
        kept = _without(io, metadata, self._identifier, task, np.union1d(deleted, positions))
        written.extend(kept)
        return Edit(task, positions, tuple(kept), None)

    def _merge_on_read(self, task: FileTask, gone: int) -> bool:
        if self._strategy != "auto":
            return self._strategy == "merge-on-read"
        return task.data_file.file_size_in_bytes > SMALL_BYTES and gone < DELETED_SHARE * task.data_file.record_count


def _without(io: FileIO, metadata: TableMetadata, identifier: str, task: FileTask, gone: Positions) -> list[DataFile]:
    schema = metadata.schema()

    def left() -> Iterator[pa.RecordBatch]:
        start = 0
        for block in read_task(io, FileTask(task.data_file), schema, identifier):
            keep = kept_rows(start, block.num_rows, gone)
            start += block.num_rows
            yield from (block if keep is None else block.filter(keep)).to_batches()

    writer = DataFileWriter(io, metadata, identifier, lenient=True)
    return writer.write(pa.RecordBatchReader.from_batches(arrow_schema_of(schema), left()))


def write_delete_file(io: FileIO, metadata: TableMetadata, data_file: DataFile, positions: Positions) -> DataFile:
    """A position delete file for one data file (Iceberg spec, "Position Delete Files"); `positions` are sorted.

    One per data file, not one per partition: its bounds then name that file, so that every engine reads it for that file alone. Polars'
    native reader refuses any other.
    """
    spec = metadata.specs()[data_file.spec_id]
    folder = partition_name(spec, metadata.schema(), data_file.partition)
    name = f"{uuid.uuid4()}-deletes.parquet"
    path = load_location_provider(metadata.location, metadata.properties).new_data_location(f"{folder}/{name}" if folder else name)
    indices = pa.array(np.zeros(len(positions), np.int32))
    paths = pa.DictionaryArray.from_arrays(indices, pa.array([data_file.file_path]))
    footer: list[pq.FileMetaData] = []
    try:
        with io.new_output(path).create(overwrite=True) as stream:
            with pq.ParquetWriter(stream, _SCHEMA, compression="zstd", store_schema=False, metadata_collector=footer) as writer:
                writer.write_table(pa.Table.from_arrays([paths, pa.array(positions)], schema=_SCHEMA))
            size = stream.tell()
    except BaseException:
        with suppress(OSError):
            io.delete(path)
        raise
    location = data_file.file_path.encode()
    file = DataFile.from_args(
        content=DataFileContent.POSITION_DELETES,
        file_path=path,
        file_format=FileFormat.PARQUET,
        partition=data_file.partition,
        file_size_in_bytes=size,
        record_count=len(positions),
        lower_bounds={PATH_FIELD_ID: location, POSITION_FIELD_ID: struct.pack("<q", positions[0])},
        upper_bounds={PATH_FIELD_ID: location, POSITION_FIELD_ID: struct.pack("<q", positions[-1])},
        **_counts(footer[0]),
    )
    file.spec_id = data_file.spec_id
    return file


def _counts(footer: pq.FileMetaData) -> dict[str, Any]:
    groups = [footer.row_group(index) for index in range(footer.num_row_groups)]
    ids = (PATH_FIELD_ID, POSITION_FIELD_ID)
    return {
        "column_sizes": {one: sum(group.column(index).total_compressed_size for group in groups) for index, one in enumerate(ids)},
        "value_counts": dict.fromkeys(ids, footer.num_rows),
        "null_value_counts": dict.fromkeys(ids, 0),
    }


def dangling(before: Sequence[FileTask], edits: Sequence[Edit], removed: Iterable[DataFile]) -> list[DataFile]:
    """Delete files that no data file needs any more once edits are done and files removed."""
    gone = {file.file_path for file in removed}
    replaced = {file.file_path for edit in edits for file in edit.replaced}
    edited = {edit.task.path for edit in edits}
    needed = {
        file.file_path
        for task in before
        if task.path not in gone
        for file in task.deletes
        if not (task.path in edited and file.file_path in replaced)
    }
    known = {file.file_path: file for task in before if task.path in gone or task.path in edited for file in task.deletes}
    return [file for path, file in known.items() if path not in needed]


def delete_files(io: FileIO, files: Iterable[DataFile]) -> None:
    """Delete files as far as they are there."""
    file_io.delete_files(io, (file.file_path for file in files))


def rows_in_partitions(
    io: FileIO, metadata: TableMetadata, identifier: str, tasks: Sequence[FileTask], partitions: Sequence[tuple[Any, ...]]
) -> dict[str, tuple[FileTask, Positions]]:
    """The live rows of files of older partition specs that lie in partitions (as `partition_key` gives them) of the table's own spec."""
    schema, spec = metadata.schema(), metadata.spec()
    tasks = [task for task in tasks if any(_may_hold(task.data_file, spec, schema, one) for one in partitions)]
    sources = [path_of(schema, one.source_id)[0] for one in spec.fields]
    wanted: KeySet | None = None

    def inside(task: FileTask) -> Positions:
        nonlocal wanted
        deleted = deleted_positions(io, task.path, task.deletes)
        found, start = [np.empty(0, np.int64)], 0
        for block in read_task(io, FileTask(task.data_file), schema, identifier, sources):
            values = pa.table([partition_array(block, one, schema) for one in spec.fields], names=[one.name for one in spec.fields])
            if wanted is None:
                columns = zip(*partitions, strict=True)
                wanted = KeySet(
                    pa.table(
                        [pa.array(list(one), kind) for one, kind in zip(columns, values.schema.types, strict=True)], values.column_names
                    )
                )
            found.append(wanted.find(values)[0] + start)
            start += block.num_rows
        return np.setdiff1d(np.concatenate(found), deleted, assume_unique=True)

    doomed = {task.path: (task, inside(task)) for task in tasks}
    return {path: pair for path, pair in doomed.items() if len(pair[1])}


def _may_hold(file: DataFile, spec: PartitionSpec, schema: Schema, partition: tuple[Any, ...]) -> bool:
    """Whether the file's bounds leave room for rows of a partition; only transforms that keep the order can tell."""
    for one, value in zip(spec.fields, partition, strict=True):
        low, high = (file.lower_bounds or {}).get(one.source_id), (file.upper_bounds or {}).get(one.source_id)
        kind = schema.find_type(one.source_id)
        if not isinstance(kind, PrimitiveType) or isinstance(kind, UUIDType | DecimalType) or not one.transform.preserves_order:
            continue
        if value is None or low is None or high is None:
            continue
        apply = one.transform.transform(kind)
        if not apply(from_bytes(kind, low)) <= value <= apply(from_bytes(kind, high)):
            return False
    return True
