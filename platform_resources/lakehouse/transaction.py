"""PyIceberg's transaction and snapshot producers as this platform needs them: no deep copies, merged manifests, one snapshot.

This is the only module that leans on PyIceberg's private parts; what it takes from them is pinned with the version.
"""

# ruff: noqa: SLF001
from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from pyiceberg.exceptions import ValidationException
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, ManifestContent, ManifestEntry, ManifestEntryStatus, ManifestFile, ManifestWriter, ManifestWriterV2
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table, TableProperties, Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Operation, Summary
from pyiceberg.table.update import (
    AssertCreate,
    RemoveSnapshotRefUpdate,
    RemoveSnapshotsUpdate,
    RemoveStatisticsUpdate,
    SetSnapshotRefUpdate,
    TableRequirement,
    TableUpdate,
    _apply_table_update,
    _TableMetadataUpdateContext,
    _update_table_metadata_log,
)
from pyiceberg.table.update.snapshot import _FastAppendFiles, _SnapshotProducer
from pyiceberg.typedef import EMPTY_DICT, Record
from pyiceberg.types import StructType
from pyiceberg.utils.datetime import datetime_to_millis
from pyiceberg.utils.properties import property_as_bool, property_as_int

from platform_resources.lakehouse.files import partition_key


def apply_updates(base: TableMetadata, updates: tuple[TableUpdate, ...], metadata_location: str | None = None) -> TableMetadata:
    """The metadata after some updates. What did not change is shared with `base`: treat both as immutable.

    With the location of `base` it is remembered in the log of former metadata files, as a commit does.
    PyIceberg copies all of it deeply, 40 ms of each commit at a thousand snapshots.
    """
    context, metadata = _TableMetadataUpdateContext(), base
    for update in updates:
        if isinstance(update, RemoveSnapshotsUpdate):
            metadata = _remove_snapshots(update, metadata, context)
        else:
            metadata = _apply_table_update(update, metadata, context)
    if context.has_changes() and metadata_location:
        metadata = _update_table_metadata_log(metadata, metadata_location, base.last_updated_ms)
        if base.last_updated_ms == metadata.last_updated_ms:
            metadata = metadata.model_copy(update={"last_updated_ms": datetime_to_millis(datetime.now().astimezone())})
        metadata.spec().check_compatible(metadata.schema())
        metadata.sort_order().check_compatible(metadata.schema())
    return metadata


def _remove_snapshots(update: RemoveSnapshotsUpdate, base: TableMetadata, context: _TableMetadataUpdateContext) -> TableMetadata:
    """As PyIceberg does it, in one pass: there each snapshot is looked for in a list, 2 s of a commit that removes eight thousand."""
    gone = set(update.snapshot_ids)
    if missing := gone - {snapshot.snapshot_id for snapshot in base.snapshots}:
        raise ValueError(f"{len(missing)} snapshots to be removed do not exist, e.g. {min(missing)}")
    metadata = base
    for name in [name for name, ref in base.refs.items() if ref.snapshot_id in gone]:
        metadata = _apply_table_update(RemoveSnapshotRefUpdate(ref_name=name), metadata, context)
    for snapshot_id in [file.snapshot_id for file in base.statistics if file.snapshot_id in gone]:
        metadata = _apply_table_update(RemoveStatisticsUpdate(snapshot_id=snapshot_id), metadata, context)
    stay = [
        one.model_copy(update={"parent_snapshot_id": None}) if one.parent_snapshot_id in gone else one
        for one in base.snapshots
        if one.snapshot_id not in gone
    ]
    log = [entry for entry in metadata.snapshot_log if entry.snapshot_id not in gone]
    context.add_update(update)
    return metadata.model_copy(update={"snapshots": stay, "snapshot_log": log})


def point(ref: str, kind: SnapshotRefType, snapshot_id: int) -> SetSnapshotRefUpdate:
    """The update that makes a branch or tag point at a snapshot."""
    limits: dict[str, Any] = {"max_ref_age_ms": None, "max_snapshot_age_ms": None, "min_snapshots_to_keep": None}
    return SetSnapshotRefUpdate(ref_name=ref, type=kind, snapshot_id=snapshot_id, **limits)


class StagingTransaction(Transaction):
    """A transaction whose metadata is computed once per update instead of deep-copied at each look.

    PyIceberg copies every snapshot some 19 times per append: 0.6 s of 0.65 s at a thousand snapshots.
    """

    def __init__(self, table: Table) -> None:
        super().__init__(table, autocommit=False)
        self._known: tuple[TableMetadata, tuple[TableUpdate, ...], TableMetadata] | None = None

    @classmethod
    def of(cls, transaction: Transaction) -> StagingTransaction:
        """The same staged updates in a transaction of this class."""
        own = cls(transaction._table)
        own._updates, own._requirements = transaction._updates, transaction._requirements
        return own

    @property
    def table_metadata(self) -> TableMetadata:
        """The metadata with the staged updates applied. Treat as immutable."""
        base = self._table.metadata
        if self._known is None or self._known[0] is not base or self._known[1] is not self._updates:
            self._known = (base, self._updates, apply_updates(base, self._updates))
        return self._known[2]

    @property
    def staged(self) -> tuple[tuple[TableUpdate, ...], tuple[TableRequirement, ...]]:
        """The updates so far and what they require."""
        return self._updates, self._requirements

    def stage(self, *updates: TableUpdate) -> None:
        """Add updates without a requirement of their own; who commits says what must hold."""
        self._updates += updates

    @property
    def io(self) -> FileIO:
        """The table's file access."""
        return self._table.io

    def commit_creation(self) -> None:
        """Commit the updates as the table's first metadata.

        Raises:
            CommitFailedException, TableAlreadyExistsError: another created the table.
        """
        self._table._do_commit(updates=self._updates, requirements=(AssertCreate(),))


class _NullableSpec(PartitionSpec):
    """A spec whose partition values may be null, as Iceberg wants it.

    PyIceberg makes them required where the source field is; but a required field of an optional struct can be absent too.
    """

    def partition_type(self, schema: Schema) -> StructType:
        """The struct of the partition values."""
        return StructType(*(one.model_copy(update={"required": False}) for one in super().partition_type(schema).fields))


def _entries(manifest: ManifestFile) -> int:
    return sum(count or 0 for count in (manifest.added_files_count, manifest.existing_files_count, manifest.deleted_files_count))


class _Tidy(_SnapshotProducer[Any]):
    """Merges small manifests as the table's properties say, and knows which manifests it wrote in vain."""

    _final: tuple[str, ...] = ()

    def new_manifest_writer(self, spec: PartitionSpec, content: ManifestContent = ManifestContent.DATA) -> ManifestWriter:
        nullable = _NullableSpec(*spec.fields, spec_id=spec.spec_id)
        if content == ManifestContent.DATA:
            return super().new_manifest_writer(nullable)
        return DeleteManifestWriter(nullable, self.schema(), self.new_manifest_output(), self._snapshot_id, self._compression)

    def _process_manifests(self, manifests: list[ManifestFile]) -> list[ManifestFile]:
        own = self._snapshot_id
        final = self._merged([m for m in manifests if m.added_snapshot_id == own or m.has_added_files() or m.has_existing_files()])
        self._final = tuple(manifest.manifest_path for manifest in final)
        return final

    def _merged(self, manifests: list[ManifestFile]) -> list[ManifestFile]:
        """Merge as many manifests as the table's properties say once that many are of one order of magnitude.

        An entry is so written again once per order of magnitude, whatever the table's age. PyIceberg merges all of them each time: at
        5,000 files that is half a second, every twentieth commit.
        """
        properties = self._transaction.table_metadata.properties
        if not property_as_bool(properties, TableProperties.MANIFEST_MERGE_ENABLED, default=False):
            return manifests
        width = max(2, property_as_int(properties, TableProperties.MANIFEST_MIN_MERGE_COUNT, 0) or 0)
        default = TableProperties.MANIFEST_TARGET_SIZE_BYTES_DEFAULT
        target = property_as_int(properties, TableProperties.MANIFEST_TARGET_SIZE_BYTES, default) or default
        bins = [[manifest] for manifest in manifests]
        while True:
            alike: dict[tuple[int, ManifestContent, int], list[list[ManifestFile]]] = {}
            for each in bins:
                if sum(one.manifest_length for one in each) < target:
                    magnitude = int(math.log(max(1, sum(map(_entries, each))), width))
                    alike.setdefault((each[0].partition_spec_id, each[0].content, magnitude), []).append(each)
            full = next((group for group in alike.values() if len(group) >= width), None)
            if full is None:
                return [each[0] if len(each) == 1 else self._merge(each) for each in bins]
            bins = [each for each in bins if not any(each is one for one in full)] + [[one for each in full for one in each]]

    def _merge(self, manifests: list[ManifestFile]) -> ManifestFile:
        with self.new_manifest_writer(self.spec(manifests[0].partition_spec_id), manifests[0].content) as writer:
            for manifest in manifests:
                for entry in self.fetch_manifest_entry(manifest, discard_deleted=False):
                    own = entry.snapshot_id == self._snapshot_id
                    if entry.status == ManifestEntryStatus.DELETED:
                        if own:  # of the deletions only this snapshot's belong in its manifests
                            writer.delete(entry)
                    elif entry.status == ManifestEntryStatus.ADDED and own:
                        writer.add(entry)
                    else:
                        writer.existing(entry)
        return writer.to_manifest_file()

    def abandon(self) -> None:
        """Delete every manifest and manifest list of this producer."""
        self._clean_all_uncommitted()

    def superseded_manifests(self) -> list[str]:
        """Manifests that merging made useless; to be deleted once the commit stands."""
        return [path for path in self._written_manifests if path not in self._final]


class Append(_Tidy, _FastAppendFiles):
    """Files added in one snapshot of operation `append`; with no files, an empty snapshot."""


class DeleteManifestWriter(ManifestWriterV2):
    """Writes a manifest of delete files; PyIceberg's writes data files only."""

    def content(self) -> ManifestContent:
        """What the manifest lists."""
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes"}


class Replace(_Tidy, _FastAppendFiles):
    """Files swapped for others in ONE snapshot, delete files too: of operation `replace` when the rows are the same.

    Args:
        gone: locations of data and delete files of the parent snapshot that leave; all of them must be there.
        regroup: write the manifests anew, their files in the order of partitions.

    PyIceberg's overwrite builds a predicate over all partitions touched, which recurses too deep at some hundreds, and knows no
    delete manifests.
    """

    def __init__(self, *, gone: Collection[str] = (), regroup: bool = False, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._gone, self._regroup = frozenset(gone), regroup
        self._kept: list[ManifestFile] = []
        self._rest: list[tuple[ManifestFile, list[ManifestEntry]]] = []

    def _summary(self, snapshot_properties: dict[str, str] = EMPTY_DICT) -> Summary:
        operation, self._operation = self._operation, Operation.OVERWRITE  # PyIceberg counts no others
        try:
            summary = super()._summary(snapshot_properties)
        finally:
            self._operation = operation
        return Summary(operation, **summary.additional_properties)

    def _build_delete_files_partition_predicate(self) -> None:
        """Files are told by their location here."""

    def _deleted_entries(self) -> list[ManifestEntry]:
        """The data files that leave, as entries; what stays of their manifests is set aside for `_existing_manifests`."""
        self._kept, self._rest, self._deleted_data_files = [], [], set()
        for manifest in super()._existing_manifests():
            entries = self.fetch_manifest_entry(manifest)
            leaving = [entry for entry in entries if entry.data_file.file_path in self._gone]
            self._deleted_data_files.update(entry.data_file for entry in leaving)
            if not leaving and not self._regroup:
                self._kept.append(manifest)
            else:
                self._rest.append((manifest, entries))
        if missing := self._gone - {file.file_path for file in self._deleted_data_files}:
            raise ValidationException(f"{len(missing)} files are not in the parent snapshot, e.g. {min(missing)}")
        data = [entry for manifest, entries in self._rest if manifest.content == ManifestContent.DATA for entry in entries]
        return [self._as(entry, ManifestEntryStatus.DELETED) for entry in data if entry.data_file.file_path in self._gone]

    def _existing_manifests(self) -> list[ManifestFile]:
        written: list[ManifestFile] = []
        if self._regroup:
            for (spec_id, content), entries in self._by_partition().items():
                size = max(1, math.ceil(len(entries) / max(1, math.ceil(self._bytes(spec_id, content) / self._target_bytes))))
                parts = [entries[start : start + size] for start in range(0, len(entries), size)]
                written += [self._write(spec_id, content, part) for part in parts]
            return self._kept + written
        for manifest, entries in self._rest:
            stay = [self._as(entry, ManifestEntryStatus.EXISTING) for entry in entries if entry.data_file.file_path not in self._gone]
            if manifest.content == ManifestContent.DELETES:  # the data files that leave get a manifest of their own
                stay += [self._as(entry, ManifestEntryStatus.DELETED) for entry in entries if entry.data_file.file_path in self._gone]
            if stay:
                written.append(self._write(manifest.partition_spec_id, manifest.content, stay))
        return self._kept + written

    def _process_manifests(self, manifests: list[ManifestFile]) -> list[ManifestFile]:
        if not self._regroup:
            return super()._process_manifests(manifests)
        self._final = tuple(manifest.manifest_path for manifest in manifests)
        return manifests

    @property
    def _target_bytes(self) -> int:
        default = TableProperties.MANIFEST_TARGET_SIZE_BYTES_DEFAULT
        return property_as_int(self._transaction.table_metadata.properties, TableProperties.MANIFEST_TARGET_SIZE_BYTES, default) or default

    def _bytes(self, spec_id: int, content: ManifestContent) -> int:
        same = (m for m, _ in self._rest if m.partition_spec_id == spec_id and m.content == content)
        return sum(manifest.manifest_length for manifest in same)

    def _by_partition(self) -> dict[tuple[int, ManifestContent], list[ManifestEntry]]:
        groups: dict[tuple[int, ManifestContent], list[ManifestEntry]] = {}
        for manifest, entries in self._rest:
            group = groups.setdefault((manifest.partition_spec_id, manifest.content), [])
            group += (self._as(entry, ManifestEntryStatus.EXISTING) for entry in entries)
        for group in groups.values():
            group.sort(key=lambda entry: [(value is not None, value) for value in partition_key(entry.data_file.partition)])
        return {key: group for key, group in groups.items() if group}

    def _write(self, spec_id: int, content: ManifestContent, entries: list[ManifestEntry]) -> ManifestFile:
        with self.new_manifest_writer(self.spec(spec_id), content) as writer:
            for entry in entries:
                writer.add_entry(entry)
        return writer.to_manifest_file()

    def _as(self, entry: ManifestEntry, status: ManifestEntryStatus) -> ManifestEntry:
        return ManifestEntry.from_args(
            status=status,
            snapshot_id=self._snapshot_id if status == ManifestEntryStatus.DELETED else entry.snapshot_id,
            sequence_number=entry.sequence_number,
            file_sequence_number=entry.file_sequence_number,
            data_file=entry.data_file,
        )


class Overwrite(Replace):
    """Data and delete files removed and added in ONE snapshot of operation `overwrite`.

    Args:
        gone: as of `Replace`.
        deletes: position delete files to be added; the partition spec of each is that of the data file it is about.
    """

    def __init__(self, *, deletes: Sequence[DataFile] = (), **arguments: Any) -> None:
        super().__init__(**arguments)
        self._added_deletes = tuple(deletes)

    def _process_manifests(self, manifests: list[ManifestFile]) -> list[ManifestFile]:
        added = []
        for spec_id in sorted({file.spec_id for file in self._added_deletes}):
            files = [file for file in self._added_deletes if file.spec_id == spec_id]
            added.append(self._write(spec_id, ManifestContent.DELETES, [self._new(file) for file in files]))
        return super()._process_manifests(added + manifests)

    def _new(self, file: DataFile) -> ManifestEntry:
        return ManifestEntry.from_args(status=ManifestEntryStatus.ADDED, snapshot_id=self._snapshot_id, data_file=file)

    def _summary(self, snapshot_properties: dict[str, str] = EMPTY_DICT) -> Summary:
        data = self._added_data_files  # without a partition a file is counted only; its spec may not be the table's
        counted = [DataFile(*(Record() if index == 3 else value for index, value in enumerate(file._data))) for file in self._added_deletes]
        self._added_data_files = [*data, *counted]
        try:
            return super()._summary(snapshot_properties)
        finally:
            self._added_data_files = data
