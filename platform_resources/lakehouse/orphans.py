"""What lies in a table's folder, and which of it belongs to nothing: files of killed writes, lost commits and half-done expiries.

A file is an orphan when no snapshot, branch, tag or logged metadata file reaches it and it is older than the safety window, by the clock
of this machine and by that of the storage. Files are listed first and the metadata read after that, so what is committed meanwhile is
never taken for an orphan; what a write has staged for longer than the window would be.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlparse

from pyarrow.fs import FileSelector, FileType
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.table import Table

from platform_resources.errors import PlatformError
from platform_resources.failpoints import failpoint
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.file_io import S3FileIO, delete_files
from platform_resources.lakehouse.stamp import settled_files

WINDOW = timedelta(days=3)  # as Iceberg's own remove_orphan_files; no write may be staged for longer
LEAST_WINDOW = timedelta(hours=24)
_BATCH = 1000  # files deleted at once


@dataclass(frozen=True)
class StoredFile:
    """A file in the table's folder: its location as the metadata would name it, its bytes, when it was written."""

    location: str
    bytes: int
    modified: datetime


@dataclass(frozen=True)
class Removed:
    """Orphans found (and deleted, unless it was only a look)."""

    files: int = 0
    bytes: int = 0
    listed: int = 0


def list_files(table: Table) -> Iterator[tuple[str, int, datetime]]:
    """Every file under the table's location as (location, bytes, modified in UTC), on a folder and on S3 alike.

    Raises:
        PlatformError: `storage-unlistable` for a file access other than the platform's own.
    """
    for file in _listed(table, table.location().rstrip("/")):
        yield file.location, file.bytes, file.modified


def _listed(table: Table, location: str) -> Iterator[StoredFile]:
    io = table.io
    scheme, netloc, path = PyArrowFileIO.parse_location(location, io.properties)
    if isinstance(io, S3FileIO) and scheme != "file":
        root = len(f"s3://{path}".rstrip("/"))
        for found, size, modified in io.list_prefix(location):
            yield StoredFile(location + found[root:], size, modified)
    elif isinstance(io, PyArrowFileIO):
        for info in io.fs_by_scheme(scheme, netloc).get_file_info(FileSelector(path, recursive=True, allow_not_found=True)):
            if info.type == FileType.File:
                modified = datetime.fromtimestamp(info.mtime_ns / 1e9, UTC)
                yield StoredFile(location + info.path[len(path.rstrip("/")) :], info.size, modified)
    else:
        raise PlatformError(
            "storage-unlistable", f"The files of {'.'.join(table.name())} cannot be listed through {type(io).__name__}.",
            "Leave the catalog's property py-io-impl to the platform.",
        )  # fmt: skip


def reached_files(table: Table) -> set[str]:
    """Locations of everything the newest metadata leads to, without their scheme: from every snapshot, whatever branch or tag it is on."""
    metadata, found, manifests = table.metadata, set[str](), {}
    found.update([table.metadata_location, *(entry.metadata_file for entry in metadata.metadata_log)])
    found.update(one.statistics_path for one in (*metadata.statistics, *metadata.partition_statistics))
    found.update(settled_files(table))
    for snapshot in metadata.snapshots:
        found.add(snapshot.manifest_list)
        manifests.update({one.manifest_path: one for one in snapshot.manifests(table.io)})
    found.update(manifests)
    for manifest in manifests.values():
        found.update(entry.data_file.file_path for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True))
    return {_bare(location) for location in found}


def _bare(location: str) -> str:
    """`bucket/key` or `/path`: one table may be written as s3:// by one engine and s3a:// by another."""
    uri = urlparse(location)
    return location.partition("://")[2] if uri.scheme not in ("", "file") else uri.path


def remove_orphans(
    lakehouse: Lakehouse, identifier: str, *, window: timedelta = WINDOW, now: datetime | None = None, dry_run: bool = False
) -> Removed:
    """Delete the orphans of one table.

    Args:
        lakehouse: where it is.
        identifier: `domain.product`; a table that does not exist has none.
        window: files younger than this are left alone.
        now: this machine's clock; the storage's own is held against it.
        dry_run: only look.

    Raises:
        PlatformError: `window-too-short` under 24 hours: a write may still be at work on such files.
    """
    if window < LEAST_WINDOW:
        raise PlatformError(
            "window-too-short", f"The safety window {window} is shorter than {LEAST_WINDOW.total_seconds() / 3600:.0f} hours.",
            "Leave it out, or give more: a write that is still at work may have staged younger files.",
        )  # fmt: skip
    table = lakehouse.table(identifier)
    if table is None:
        return Removed()
    listed = list(_listed(table, table.location().rstrip("/")))
    bound = (now or datetime.now(UTC)) - window
    old = [file for file in listed if file.modified < bound]
    if old and not dry_run:
        bound = min(bound, _storage_time(table) - window)
        old = [file for file in old if file.modified < bound]
    fresh = lakehouse.table(identifier)
    if not old or fresh is None or fresh.metadata.table_uuid != table.metadata.table_uuid:
        return Removed(listed=len(listed))
    reached = reached_files(fresh)
    orphans = [file for file in old if _bare(file.location) not in reached]
    for start in range(0, 0 if dry_run else len(orphans), _BATCH):
        failpoint("orphans-before-delete")
        delete_files(table.io, (file.location for file in orphans[start : start + _BATCH]))
    return Removed(len(orphans), sum(file.bytes for file in orphans), len(listed))


def _storage_time(table: Table) -> datetime:
    """What time it is by the clock that dates the files: that of this machine may be days ahead."""
    folder = f"{table.location().rstrip('/')}/metadata/clock"
    location = f"{folder}/{uuid.uuid4()}"
    with table.io.new_output(location).create() as stream:
        stream.write(b"\n")
    try:
        return min(file.modified for file in _listed(table, folder) if file.location == location)
    finally:
        delete_files(table.io, [location])
