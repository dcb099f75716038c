"""The data files of a snapshot: which there are, what each added or removed, and reading one in the current schema.

By-name reading is right here because a rename never happens: evolution refuses it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, ManifestContent, ManifestEntry, ManifestEntryStatus
from pyiceberg.schema import Schema
from pyiceberg.table.snapshots import Snapshot

from platform_resources.errors import PlatformError
from platform_resources.lakehouse.conforming import Conformer

_BATCH_ROWS = 1 << 17


def live_files(io: FileIO, snapshot: Snapshot | None, identifier: str) -> list[DataFile]:
    """The data files whose rows are the table at a snapshot.

    Raises:
        PlatformError: `table-has-deletes` when another engine wrote delete files, which this reader does not apply.
    """
    if snapshot is None:
        return []
    files: list[DataFile] = []
    for manifest in snapshot.manifests(io):
        if manifest.content == ManifestContent.DELETES and (manifest.has_added_files() or manifest.has_existing_files()):
            raise PlatformError(
                "table-has-deletes",
                f"{identifier} has delete files written by another engine.",
                "Compact the table with that engine before the platform rewrites it.",
            )
        if manifest.content == ManifestContent.DATA:
            files.extend(entry.data_file for entry in manifest.fetch_manifest_entry(io, discard_deleted=True))
    return files


def changed_entries(io: FileIO, snapshot: Snapshot) -> Iterator[ManifestEntry]:
    """The manifest entries that this snapshot itself added or deleted; a merged manifest also holds older ones."""
    for manifest in snapshot.manifests(io):
        if manifest.added_snapshot_id == snapshot.snapshot_id:
            for entry in manifest.fetch_manifest_entry(io, discard_deleted=False):
                if entry.snapshot_id == snapshot.snapshot_id and entry.status != ManifestEntryStatus.EXISTING:
                    yield entry


def read_data_file(io: FileIO, path: str, schema: Schema, identifier: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """A data file in blocks, in the given schema: columns added since are null, narrower types widened.

    `columns` names the top-level columns wanted; others are left out of the result.
    """
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
