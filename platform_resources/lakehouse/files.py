"""The files of a snapshot: data files with the deletes that apply to them, what a snapshot changed, and reading one in the current schema.

A data file is read together with its position deletes (Iceberg spec, "Scan planning"); equality deletes and deletion vectors are
refused. By-name reading is right here because a rename never happens: evolution refuses it. Writing deletes is `deletes`'.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat, ManifestContent, ManifestEntry, ManifestEntryStatus, ManifestFile
from pyiceberg.schema import Schema
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.typedef import Record

from platform_resources.errors import PlatformError
from platform_resources.lakehouse.conforming import Conformer

PATH_FIELD_ID = 2147483546
POSITION_FIELD_ID = 2147483545

Positions = npt.NDArray[np.int64]

_BATCH_ROWS = 1 << 17


@dataclass(frozen=True)
class FileTask:
    """A data file and the position deletes that apply to it: together they are rows of the table.

    `sequence_number` is the data sequence number: a delete applies to files that are not newer than itself.
    """

    data_file: DataFile
    deletes: tuple[DataFile, ...] = ()
    sequence_number: int = 0

    @property
    def path(self) -> str:
        """Where the data file lies."""
        return self.data_file.file_path


@dataclass(frozen=True)
class DeletedRows:
    """Rows of a data file that stays in the table: those which `deletes` took away and `before` had not already."""

    data_file: DataFile
    deletes: tuple[DataFile, ...]
    before: tuple[DataFile, ...] = ()

    @property
    def path(self) -> str:
        """Where the data file lies."""
        return self.data_file.file_path


def live_files(io: FileIO, snapshot: Snapshot | None, identifier: str) -> list[DataFile]:
    """The data files of a snapshot, for callers that look at files only: rows of theirs may be deleted, see `live_tasks`.

    Raises:
        PlatformError: `table-has-deletes` as `live_tasks`.
    """
    return [task.data_file for task in live_tasks(io, snapshot, identifier)]


def live_tasks(io: FileIO, snapshot: Snapshot | None, identifier: str) -> list[FileTask]:
    """The data files whose rows are the table at a snapshot, each with its position deletes.

    Raises:
        PlatformError: `table-has-deletes` when another engine wrote equality deletes or deletion vectors, which are not applied here.
    """
    if snapshot is None:
        return []
    deletes = live_deletes(io, snapshot, identifier)
    data = (entry for manifest in _live_manifests(io, snapshot, ManifestContent.DATA) for entry in manifest.fetch_manifest_entry(io))
    numbered = ((entry.data_file, entry.sequence_number or 0) for entry in data)
    return [FileTask(file, deletes.of(file, number), number) for file, number in numbered]


def live_deletes(io: FileIO, snapshot: Snapshot | None, identifier: str) -> DeleteIndex:
    """The delete files of a snapshot; raises as `live_tasks`."""
    deletes = DeleteIndex(identifier)
    for manifest in _live_manifests(io, snapshot, ManifestContent.DELETES):
        for entry in manifest.fetch_manifest_entry(io):
            deletes.add(entry.data_file, entry.sequence_number or 0)
    return deletes


def _live_manifests(io: FileIO, snapshot: Snapshot | None, content: ManifestContent) -> list[ManifestFile]:
    found = snapshot.manifests(io) if snapshot is not None else []
    return [one for one in found if one.content == content and (one.has_added_files() or one.has_existing_files())]


@dataclass
class DeleteIndex:
    """Position delete files by the data file they name, or else by their partition."""

    identifier: str
    _by_path: dict[str, list[tuple[int, DataFile]]] = field(default_factory=lambda: defaultdict(list))
    _by_partition: dict[tuple[int, tuple[Any, ...]], list[tuple[int, DataFile]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, file: DataFile, sequence_number: int) -> None:
        """Take in a delete file.

        Raises:
            PlatformError: `table-has-deletes` when it is of a kind that is not applied here.
        """
        if file.content != DataFileContent.POSITION_DELETES or file.file_format != FileFormat.PARQUET:
            kind = "equality deletes" if file.content == DataFileContent.EQUALITY_DELETES else "deletion vectors"
            raise PlatformError(
                "table-has-deletes",
                f"{self.identifier} has {kind} written by another engine, which the platform does not read.",
                "Compact the table with that engine first.",
            )
        if (path := referenced_path(file)) is not None:
            self._by_path[path].append((sequence_number, file))
        else:
            self._by_partition[file.spec_id or 0, partition_key(file.partition)].append((sequence_number, file))

    def of(self, file: DataFile, sequence_number: int) -> tuple[DataFile, ...]:
        """The delete files that apply to a data file."""
        if not self._by_path and not self._by_partition:
            return ()
        near = self._by_partition.get((file.spec_id or 0, partition_key(file.partition)), ())
        wide = [(number, delete) for number, delete in near if _may_name(delete, file.file_path)]
        found = [*self._by_path.get(file.file_path, ()), *wide]
        return tuple(delete for number, delete in found if number >= sequence_number)


def partition_key(record: Record) -> tuple[Any, ...]:
    """A partition as a value to compare: manifests give uuids as objects, our writer as bytes."""
    return tuple(value.bytes if isinstance(value, uuid.UUID) else value for value in (record[index] for index in range(len(record))))


def _path_bounds(file: DataFile) -> tuple[bytes | None, bytes | None]:
    return (file.lower_bounds or {}).get(PATH_FIELD_ID), (file.upper_bounds or {}).get(PATH_FIELD_ID)


def referenced_path(file: DataFile) -> str | None:
    """The one data file that a delete file is about; None where it is about several or does not say."""
    low, high = _path_bounds(file)
    return low.decode() if low is not None and low == high else None


def _may_name(delete: DataFile, path: str) -> bool:
    low, high = _path_bounds(delete)
    return (low is None or low <= path.encode()) and (high is None or path.encode() <= high)


def live_rows(summary: Mapping[str, str]) -> int:
    """Rows of the table by a snapshot summary: records in its data files less those that position deletes took.

    Exact for tables that the platform writes; another engine may leave deletes behind that are about no file any more.
    """
    return int(summary.get("total-records", 0)) - int(summary.get("total-position-deletes", 0))


def changed_entries(io: FileIO, snapshot: Snapshot) -> Iterator[ManifestEntry]:
    """The manifest entries that this snapshot itself added or deleted; a merged manifest also holds older ones."""
    for manifest in snapshot.manifests(io):
        if manifest.added_snapshot_id == snapshot.snapshot_id:
            for entry in manifest.fetch_manifest_entry(io, discard_deleted=False):
                if entry.snapshot_id == snapshot.snapshot_id and entry.status != ManifestEntryStatus.EXISTING:
                    yield entry


def deleted_positions(io: FileIO, path: str, deletes: Sequence[DataFile]) -> Positions:
    """The positions, from 0 and sorted, at which rows of a data file are deleted."""
    found = [np.empty(0, np.int64)]
    for delete in deletes:
        with io.new_input(delete.file_path).open() as stream:
            if referenced_path(delete) == path:
                table = pq.read_table(stream, columns=["pos"])
            else:
                table = pq.read_table(stream, columns=["file_path", "pos"])
                table = table.filter(pc.equal(table.column("file_path"), path))
        found.append(table.column("pos").to_numpy())
    return np.unique(np.concatenate(found))


def kept_rows(start: int, rows: int, deleted: Positions) -> pa.Array | None:
    """A boolean per row of a block that begins at position `start`: not deleted. None when all are kept."""
    first, last = np.searchsorted(deleted, (start, start + rows))
    if first == last:
        return None
    mask = np.ones(rows, dtype=bool)
    mask[deleted[first:last] - start] = False
    return pa.array(mask)


def read_task(io: FileIO, task: FileTask, schema: Schema, identifier: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The rows of a task in blocks, deletes applied, in the given schema: columns added since are null, narrower types widened.

    `columns` names the top-level columns wanted; others are left out of the result.
    """
    deleted = deleted_positions(io, task.path, task.deletes) if task.deletes else None
    start = 0
    for block in _blocks(io, task.path, schema, identifier, columns):
        keep = kept_rows(start, block.num_rows, deleted) if deleted is not None else None
        start += block.num_rows
        yield block if keep is None else block.filter(keep)


def _blocks(io: FileIO, path: str, schema: Schema, identifier: str, columns: Sequence[str] | None) -> Iterator[pa.Table]:
    if columns is not None:
        schema = Schema(*(one for one in schema.fields if one.name in columns), schema_id=schema.schema_id)
    wanted = [one.name for one in schema.fields]
    conformer = Conformer(identifier, schema, lenient=True)
    with io.new_input(path).open() as stream:
        file = pq.ParquetFile(stream)
        have = [name for name in wanted if name in file.schema_arrow.names]
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=have or None):
            rows = pa.Table.from_batches([batch])
            yield conformer.conform(rows if have else rows.select([]))
