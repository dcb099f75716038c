"""A write, staged: files on disk, a would-be metadata file for the audit, then exactly one commit, a refusal or nothing.

A write is one snapshot, with schema change, properties and stamp in the same transaction. It is committed exactly as it was audited:
nothing here rebases silently. How rows become files is `parquet`'s, which rows a merge removes is `merge`'s, how they leave their files
is `deletes`'.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import pyarrow as pa
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.serializers import ToOutputFile
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Operation
from pyiceberg.table.update import (
    AddSchemaUpdate,
    AddSnapshotUpdate,
    AssertCurrentSchemaId,
    AssertTableUUID,
    SetSnapshotRefUpdate,
    TableRequirement,
    TableUpdate,
)
from pyiceberg.typedef import Record

from platform_resources.contracts.iceberg import TableDefinition
from platform_resources.errors import PlatformError
from platform_resources.failpoints import failpoint
from platform_resources.lakehouse import file_io
from platform_resources.lakehouse.catalog import AssertSnapshotKnown, Lakehouse, LocalRequirement
from platform_resources.lakehouse.committing import commit_snapshot
from platform_resources.lakehouse.conforming import arrow_schema_of
from platform_resources.lakehouse.deletes import Edit, Edits, Strategy, dangling, delete_files, rows_in_partitions
from platform_resources.lakehouse.evolution import evolve
from platform_resources.lakehouse.expiry import expire_in_passing
from platform_resources.lakehouse.files import FileTask, Positions, changed_entries, live_rows, live_tasks, partition_key, read_task
from platform_resources.lakehouse.merge import Merge, resolve
from platform_resources.lakehouse.parquet import Data, DataFileWriter, total_rows
from platform_resources.lakehouse.partitions import parse_partition, partition_name
from platform_resources.lakehouse.reading import files_relation_sql, metadata_scan_sql
from platform_resources.lakehouse.replacing import MAINTENANCE
from platform_resources.lakehouse.stamp import (
    LAST_CHANGE,
    MERGED,
    RUN_ID,
    Stamp,
    ancestors,
    compact_json,
    last_change,
    read_epoch,
    read_position,
    same_position,
    summary_of,
)
from platform_resources.lakehouse.transaction import Append, Overwrite, StagingTransaction

if TYPE_CHECKING:
    import duckdb

Scope: TypeAlias = Literal["commit", "partition", "table"]


class _Any:
    """The position a fence does not look at."""

    def __repr__(self) -> str:
        return "ANY"


ANY = _Any()


@dataclass(frozen=True)
class Fence:
    """What must still hold on the head at commit; what it does not name may change freely.

    `position` is the position the writer started from (None: the table had none), `epoch` the drain's own (0: the table had none).
    """

    position: Any = ANY
    epoch: int | None = None

    def check(self, table: Table) -> None:
        """Hold the fence against a table's head.

        Raises:
            Fenced: another writer moved the position or took a newer epoch.
        """
        name = ".".join(table.name())
        if self.epoch is not None and (epoch := read_epoch(table) or 0) != self.epoch:
            raise Fenced.by(name, f"its epoch is {epoch}, this writer's {self.epoch}")
        if self.position is not ANY and not same_position(self.position, found := read_position(table)):
            raise Fenced.by(name, f"its position is {found}, this writer started at {self.position}")


@dataclass(frozen=True)
class PartitionScope:
    """What an overwrite replaces: `PartitionScope.table()`, `.present()` (the partitions in the data), `.named("2026-01-01")` or
    `.listed(records)`.
    """

    kind: Literal["table", "present", "named", "listed"]
    name: str | None = None
    records: tuple[Record, ...] = ()

    @classmethod
    def table(cls) -> PartitionScope:
        """The whole table."""
        return cls("table")

    @classmethod
    def present(cls) -> PartitionScope:
        """The partitions that the data has rows of; no rows replace nothing. The whole table where it has no partitions."""
        return cls("present")

    @classmethod
    def named(cls, name: str) -> PartitionScope:
        """One partition; rows outside are refused, no rows clear it."""
        return cls("named", name)

    @classmethod
    def listed(cls, records: Sequence[Record]) -> PartitionScope:
        """These partitions and those that the data has rows of; a listed one without rows is cleared."""
        return cls("listed", records=tuple(records))


@dataclass(frozen=True)
class Commit:
    """A write that is published. `rows` are those of the data given, `table_rows` the table's after it."""

    snapshot_id: int
    parent_id: int | None
    rows: int
    table_rows: int
    metadata_location: str
    data_files: int
    bytes: int
    summary: Mapping[str, str] = field(default_factory=dict)


class CommitConflict(Exception):  # noqa: N818 - the seam's name
    """The head moved, so that what was audited is not what would be published: restage and audit again."""


class Fenced(PlatformError):  # noqa: N818 - the seam's name
    """Another writer took over: this one's position or epoch is no longer the table's. Code `write-fenced`."""

    @classmethod
    def by(cls, identifier: str, reason: str) -> Fenced:
        """The refusal for one table."""
        message = f"Another writer took over {identifier}: {reason}."
        return cls("write-fenced", message, "Let the newer run go on; nothing of this one was written.")


@dataclass
class _Work:
    """What a write is, apart from the head it is staged on: enough to stage it again without the data."""

    lakehouse: Lakehouse
    definition: TableDefinition
    stamp: Stamp
    fence: Fence
    scope: PartitionScope | None = None
    partition: Record | None = None
    merge: Merge | None = None
    files: list[DataFile] = field(default_factory=list)
    files_schema: Schema | None = None
    files_spec: PartitionSpec | None = None
    duplicates: int = 0
    refused: bool = False

    def __post_init__(self) -> None:
        name, rule = self.definition.identifier, self.definition.merge
        self.edits = Edits(name, cast("Strategy", rule.strategy))
        self.own_edits = Edits(name, "copy-on-write")

    @property
    def written(self) -> list[DataFile]:
        """Every file that stands written for it."""
        return [*self.files, *self.edits.written, *self.own_edits.written]


@dataclass(frozen=True)
class _Removals:
    """What leaves the table and what comes in its place, as staged on one head.

    `removed` are data files, `dropped` delete files that go; `written` the files of the rows given, `rewritten` what is left of
    removed ones, `deletes` the new delete files of files that stay. `after` are the tasks of the table as it will be.
    """

    written: tuple[DataFile, ...]
    removed: tuple[DataFile, ...] = ()
    rewritten: tuple[DataFile, ...] = ()
    deletes: tuple[DataFile, ...] = ()
    dropped: tuple[DataFile, ...] = ()
    after: tuple[FileTask, ...] | None = None


class StagedWrite:
    """A write whose files exist and whose commit has not happened. Made by the `stage_*` functions.

    Attributes:
        table: the table at the head it is staged on.
        rows: rows of the data given.
        operation: `append` or `overwrite`, as in the snapshot.
        snapshot_id: of the snapshot that a commit would publish; a restage changes it.
        stamp: what the write says of itself.
        schema: the table's schema after the commit.
        written: data files of the given rows; `rewritten` what a merge left of others; `removed` data files that go.
        deletes: position delete files for rows of data files that stay; `dropped` delete files that go.
    """

    table: Table
    rows: int
    operation: str
    snapshot_id: int
    schema: Schema
    written: Sequence[DataFile]
    rewritten: Sequence[DataFile]
    removed: Sequence[DataFile]
    deletes: Sequence[DataFile]
    dropped: Sequence[DataFile]

    def __init__(self, work: _Work, table: Table) -> None:
        self._work = work
        self._state = "open"
        self._audit: str | None = None
        self._io = table.io
        self._stage_on(table)

    @property
    def stamp(self) -> Stamp:
        """What the write says of itself."""
        return self._work.stamp

    @property
    def definition(self) -> TableDefinition:
        """The table's definition that the write keeps."""
        return self._work.definition

    @property
    def audit_metadata(self) -> str:
        """Location of the would-be metadata file, for `iceberg_scan` and `StaticTable`; written at the first look."""
        self._require_open()
        if self._audit is None:
            location = self.table.location_provider().new_metadata_location(f"audit-{uuid.uuid4()}.metadata.json")
            self._audit = location
            ToOutputFile.table_metadata(self._transaction.table_metadata, self.table.io.new_output(location))
        return self._audit

    @property
    def partitions(self) -> list[str]:
        """Names of the partitions that the write touches, sorted; [""] for a table without partitions."""
        specs = self._transaction.table_metadata.specs()
        return sorted({partition_name(specs[spec_id], self.schema, record) for spec_id, record in self._touched()})

    def audit_relation(self, con: duckdb.DuckDBPyConnection, *, scope: Scope) -> str:
        """SQL text usable in FROM: the written rows (`commit`), the touched partitions (`partition`), the would-be table (`table`)."""
        self._require_open()
        if scope == "commit":
            return files_relation_sql(self.schema, [FileTask(file) for file in self.written])
        after = self._after() if scope == "partition" and self._transaction.table_metadata.spec().fields else None
        specs = {spec_id for spec_id, _ in self._touched()} | {self._spec_id(task.data_file) for task in after or ()}
        if after is not None and len(specs) == 1:  # files of another spec may hold rows of any partition
            touched = {partition_key(record) for _, record in self._touched()}
            return files_relation_sql(self.schema, [task for task in after if partition_key(task.data_file.partition) in touched])
        return metadata_scan_sql(self.audit_metadata)

    def commit(self) -> Commit:
        """Publish exactly what was staged.

        Raises:
            CommitConflict: the head moved, or another's snapshot on a branch took the place in the table's history; `restage` and
                audit again. The staged files stay.
        """
        self._require_open()
        failpoint("before-commit")
        updates, requirements = self._transaction.staged
        required: tuple[TableRequirement, ...] = (
            *requirements,
            AssertTableUUID(uuid=self.table.metadata.table_uuid),
            AssertCurrentSchemaId(current_schema_id=self.table.metadata.current_schema_id),
        )
        for _ in range(10):
            if self._try(updates, required):
                break
            if not self._same_head():
                raise CommitConflict(f"{self._work.definition.identifier} moved on while {self.stamp.run_id} was staged")
        else:
            raise CommitConflict(f"{self._work.definition.identifier} is being committed to by too many others")
        failpoint("after-commit")
        self._state = "committed"
        self._tidy_up()
        committed = self._committed()
        expire_in_passing(self._work.lakehouse, self.table)
        return committed

    def restage(self) -> StagedWrite:
        """The same write on the new head, this object itself: its data files are used again where they are still right.

        Raises:
            Fenced: the fence does not hold on the new head; everything of this write is deleted.
            PlatformError: `overwrite-conflict` when another run replaced the same rows, `schema-breaking`; so too.
        """
        self._require_open()
        since = self.table.metadata.next_sequence_number()
        self._withdraw()
        try:
            table = self._work.lakehouse.create(self._work.definition)
            self._work.fence.check(table)
            self._stage_on(table, since)
        except BaseException:
            self._delete_data()
            self._state = "discarded"
            raise
        return self

    def refuse(self, branch: str) -> None:
        """Keep the write on a branch, for its owner to look at, whatever others have written meanwhile; nothing changes on main.

        Args:
            branch: e.g. `refused/<run>`; one that exists is set to this write.
        """
        self._require_open()
        self._work.fence, self._work.refused = Fence(), True  # a superseded or beaten writer may still show what it refused
        for attempt in range(50):
            updates, _requirements = self._transaction.staged
            kept = tuple(update for update in updates if isinstance(update, AddSchemaUpdate | AddSnapshotUpdate))
            ref = SetSnapshotRefUpdate(
                snapshot_id=self.snapshot_id,
                ref_name=branch,
                type=SnapshotRefType.BRANCH,
                max_ref_age_ms=None,
                max_snapshot_age_ms=None,
                min_snapshots_to_keep=None,
            )
            required: list[TableRequirement | LocalRequirement] = [AssertTableUUID(uuid=self.table.metadata.table_uuid)]
            if self._parent is not None:  # its files are this snapshot's too, and while it was audited others may have let it expire
                required.append(AssertSnapshotKnown(snapshot_id=self._parent))
            if self._try((*kept, ref), tuple(required)):
                break
            _back_off(attempt)
            self.restage()
        else:
            raise CommitConflict(f"{self._work.definition.identifier} is being committed to by too many others")
        self._state = "refused"
        self._tidy_up()

    def discard(self) -> None:
        """Delete every file of this write: data files, manifests, the audit file. A committed write stays, and so does one whose commit
        may yet stand; if it does not, its files are orphans.
        """
        if self._state == "in doubt":
            self._drop_audit()
        if self._state != "open":
            return
        self._withdraw()
        self._delete_data()
        self._state = "discarded"

    def _try(self, updates: tuple[TableUpdate, ...], required: tuple[TableRequirement | LocalRequirement, ...]) -> bool:
        """One try to commit; False when another was first. Until that is known the write is in doubt, also when the run is cancelled."""
        self._state = "in doubt"
        stands = commit_snapshot(self._work.lakehouse, self.table, updates, required)
        if not stands:
            self._state = "open"
        return stands

    def _stage_on(self, table: Table, since: int | None = None) -> None:
        """Stage on a table's head, or on a newer one when that has expired: rows may be computed for longer than snapshots are kept.

        `since` is the sequence number of the first snapshot that the write has not seen, default that after the given table's.
        """
        since = table.metadata.next_sequence_number() if since is None else since
        for _ in range(5):
            try:
                self._stage(table)
            except FileNotFoundError:
                fresh = self._work.lakehouse.table(self._work.definition.identifier)
                if fresh is None or fresh.metadata.current_snapshot_id == table.metadata.current_snapshot_id:
                    raise
                self._work.fence.check(fresh)
                table = fresh
                continue
            try:
                self._refuse_beaten(since)
            except BaseException:
                self._withdraw()
                raise
            return
        raise CommitConflict(f"{self._work.definition.identifier} is being committed to by too many others")

    def _stage(self, table: Table) -> None:
        work = self._work
        transaction = StagingTransaction(table)
        evolve(transaction, work.definition)
        metadata = transaction.table_metadata
        same = work.files_schema is not None and work.files_schema.as_struct() == metadata.schema().as_struct()
        if work.files and not (same and work.files_spec == metadata.spec()):
            self._write_again(transaction)
        found = _removals(work, table, transaction)
        gone = [file.file_path for file in (*found.removed, *found.dropped)]
        common: dict[str, Any] = {"transaction": transaction, "io": table.io, "snapshot_properties": _summary(work)}
        overwrites = bool(gone or found.deletes)
        if overwrites:
            common |= {"gone": gone, "deletes": found.deletes}
        producer = Overwrite(operation=Operation.OVERWRITE, **common) if overwrites else Append(operation=Operation.APPEND, **common)
        changed = producer.snapshot_id if found.written or overwrites else last_change(table)
        producer.snapshot_properties |= {} if changed is None else {LAST_CHANGE: str(changed)}
        for file in (*found.written, *found.rewritten):
            producer.append_data_file(file)
        try:
            producer.commit()
        except BaseException:
            producer.abandon()
            raise
        self.table, self._transaction, self._producer, self._found = table, transaction, producer, found
        self._parent = table.metadata.current_snapshot_id
        self.schema, self.snapshot_id = metadata.schema(), producer.snapshot_id
        self.written, self.rows = found.written, total_rows(found.written)
        self.removed, self.rewritten, self.deletes, self.dropped = found.removed, found.rewritten, found.deletes, found.dropped
        self.operation = "overwrite" if overwrites else "append"

    def _refuse_beaten(self, since: int) -> None:
        """Refuse to replace what another run replaced from the sequence number `since` on: neither run has seen the other's rows.

        Where a fence holds the position (a derived product) the order of the runs is told by it, and staging anew is right. Maintenance
        is no run: rows that aged out are not missed.
        """
        scope = self._work.scope
        if scope is None or self._work.fence.position is not ANY or self._work.refused:
            return
        table, name = self.table, self._work.definition.identifier
        mine, specs = set(self.partitions), table.specs()
        for snapshot in takewhile(lambda one: (one.sequence_number or 0) >= since, ancestors(table)):
            other = summary_of(snapshot).get(RUN_ID, "of another engine")
            rewrites = snapshot.summary is not None and snapshot.summary.operation in (Operation.OVERWRITE, Operation.DELETE)
            if not rewrites or other == self.stamp.run_id or MAINTENANCE in summary_of(snapshot):
                continue
            files = [entry.data_file for entry in changed_entries(table.io, snapshot)]
            theirs = {partition_name(specs[file.spec_id], table.schema(), file.partition) for file in files}
            beaten = theirs if scope.kind == "table" else theirs & mine
            if beaten:
                what = f"{name}, partition {min(beaten)}," if min(beaten) else name
                raise PlatformError(
                    "overwrite-conflict",
                    f"Run {other} replaced {what} in snapshot {snapshot.snapshot_id} while run {self.stamp.run_id} was about to.",
                    "Its rows stand. Run again if this run's are the right ones.",
                )

    def _write_again(self, transaction: StagingTransaction) -> None:
        """Another writer changed schema or partitioning while this one was staged: the own files are read and written anew."""
        work, metadata = self._work, transaction.table_metadata
        name = work.definition.identifier
        old = work.files
        blocks = (
            batch
            for file in old
            for block in read_task(transaction.io, FileTask(file), metadata.schema(), name)
            for batch in block.to_batches()
        )
        writer = DataFileWriter(transaction.io, metadata, name)
        work.files = writer.write(pa.RecordBatchReader.from_batches(arrow_schema_of(metadata.schema()), blocks))
        work.files_schema, work.files_spec = metadata.schema(), metadata.spec()
        work.own_edits.withdraw(transaction.io)
        work.edits.withdraw(transaction.io)
        if work.merge is not None:
            work.merge.forget()
        self._delete(file.file_path for file in old)

    def _spec_id(self, file: DataFile) -> int:
        """Of a file that was read from a manifest its own, of one that was just written the table's."""
        return getattr(file, "_spec_id", self._transaction.table_metadata.default_spec_id)

    def _touched(self) -> list[tuple[int, Record]]:
        """Spec and partition of every file that comes, goes or loses rows, and of the partitions that were asked for."""
        default = self._transaction.table_metadata.default_spec_id
        named = [self._work.partition] if self._work.partition is not None else []
        asked = [*named, *(self._work.scope.records if self._work.scope is not None else ())]
        files = [(self._spec_id(file), file.partition) for file in (*self.written, *self.removed, *self.deletes)]
        found = {(spec_id, partition_key(record)): record for spec_id, record in [*files, *((default, record) for record in asked)]}
        return [(spec_id, record) for (spec_id, _), record in found.items()]

    def _after(self) -> Sequence[FileTask]:
        if self._found.after is not None:
            return self._found.after
        before = live_tasks(self.table.io, self.table.current_snapshot(), self._work.definition.identifier)
        return [*before, *(FileTask(file) for file in self.written)]

    def _same_head(self) -> bool:
        fresh = self._work.lakehouse.table(self._work.definition.identifier)
        return (
            fresh is not None
            and fresh.metadata.current_snapshot_id == self._parent
            and fresh.metadata.current_schema_id == self.table.metadata.current_schema_id
            and fresh.metadata.next_sequence_number() == self.table.metadata.next_sequence_number()
        )

    def _committed(self) -> Commit:
        snapshot = self.table.metadata.snapshot_by_id(self.snapshot_id)
        summary = dict(snapshot.summary.additional_properties) if snapshot and snapshot.summary else {}
        files = (*self.written, *self.rewritten, *self.deletes)
        return Commit(
            snapshot_id=self.snapshot_id,
            parent_id=self._parent,
            rows=self.rows,
            table_rows=live_rows(summary),
            metadata_location=self.table.metadata_location,
            data_files=len(self.written) + len(self.rewritten),
            bytes=sum(file.file_size_in_bytes for file in files),
            summary=summary,
        )

    def _require_open(self) -> None:
        if self._state != "open":
            raise RuntimeError(f"this write of {self._work.definition.identifier} is already {self._state}")

    def _tidy_up(self) -> None:
        """What was written on the way and is no part of the snapshot goes."""
        self._delete(self._producer.superseded_manifests())
        kept = {file.file_path for file in self.written}
        delete_files(self._io, (file for file in self._work.files if file.file_path not in kept))
        self._drop_audit()

    def _withdraw(self) -> None:
        self._producer.abandon()
        self._drop_audit()

    def _drop_audit(self) -> None:
        if self._audit is not None:
            self._delete([self._audit])
            self._audit = None

    def _delete_data(self) -> None:
        delete_files(self._io, self._work.written)

    def _delete(self, paths: Iterable[str]) -> None:
        file_io.delete_files(self._io, paths)


def _summary(work: _Work) -> dict[str, str]:
    """The snapshot properties: the stamp and, of a merge, the rows of its batch that are not in the table."""
    left_out = {"duplicates": work.duplicates, "ignored": work.merge.ignored if work.merge is not None else 0}
    told = {name: count for name, count in left_out.items() if count}
    return {**work.stamp.summary(), **({MERGED: compact_json(told)} if told else {})}


def _removals(work: _Work, table: Table, transaction: StagingTransaction) -> _Removals:
    """What leaves the head that the write is staged on. Files written for an earlier head are used again where they are right."""
    if work.scope is None and work.merge is None:
        return _Removals(tuple(work.files))
    io, metadata = transaction.io, transaction.table_metadata
    live = live_tasks(table.io, table.current_snapshot(), work.definition.identifier)
    whole: list[FileTask] = []
    late: dict[str, Positions] = {}
    if work.merge is not None:
        doomed, late = work.merge.find(io, work.definition.identifier, metadata.schema(), work.files, live)
    else:
        whole, doomed = _overwritten(work, live, io, metadata)
    edits = work.edits.apply(io, metadata, doomed)
    failpoint("after-deletes")
    written = _accepted(work, io, metadata, late)
    removed = [*(task.data_file for task in whole), *(edit.task.data_file for edit in edits if edit.rewritten is not None)]
    rewritten = [file for edit in edits for file in edit.rewritten or ()]
    return _Removals(
        tuple(written), tuple(removed), tuple(rewritten),
        tuple(edit.delete for edit in edits if edit.delete is not None),
        tuple(dangling(live, edits, removed)),
        tuple(_tasks_after(live, edits, removed, [*written, *rewritten])),
    )  # fmt: skip


def _accepted(work: _Work, io: FileIO, metadata: TableMetadata, late: Mapping[str, Positions]) -> list[DataFile]:
    """The files of the rows given, written again without those that came too late."""
    own = {file.file_path: (FileTask(file), late[file.file_path]) for file in work.files if file.file_path in late}
    left = {edit.task.path: edit.rewritten or () for edit in work.own_edits.apply(io, metadata, own)}
    return [kept for file in work.files for kept in left.get(file.file_path, (file,))]


def _tasks_after(live: Sequence[FileTask], edits: Sequence[Edit], removed: Sequence[DataFile], added: Sequence[DataFile]) -> list[FileTask]:
    gone = {file.file_path for file in removed}
    edited = {edit.task.path: edit.after for edit in edits}
    stay = [edited.get(task.path) or task for task in live if task.path not in gone]
    return [*stay, *(FileTask(file) for file in added)]


def _overwritten(
    work: _Work, live: Sequence[FileTask], io: FileIO, metadata: TableMetadata
) -> tuple[list[FileTask], dict[str, tuple[FileTask, Positions]]]:
    """The tasks that an overwrite removes whole, and rows of files of older partition specs, which hold rows of any partition."""
    scope = work.scope
    if scope is None or scope.kind == "table" or not metadata.spec().fields:
        return ([], {}) if scope is not None and scope.kind == "present" and not work.files else (list(live), {})
    records = [work.partition or Record()] if scope.kind == "named" else [*(file.partition for file in work.files), *scope.records]
    gone = {partition_key(record): record for record in records}
    now = metadata.default_spec_id
    whole = [task for task in live if task.data_file.spec_id == now and partition_key(task.data_file.partition) in gone]
    older = [task for task in live if task.data_file.spec_id != now]
    return whole, rows_in_partitions(io, metadata, work.definition.identifier, older, list(gone)) if older and gone else {}


def stage_append(lakehouse: Lakehouse, definition: TableDefinition, data: Data, stamp: Stamp, *, fence: Fence = Fence()) -> StagedWrite:
    """Stage rows to be added.

    Raises:
        Fenced: the fence does not hold already now.
        PlatformError: `schema-breaking`, or the rows break the contract (`conforming`).
    """
    return _stage_new(_Work(lakehouse, definition, stamp, fence), data)


def stage_overwrite(
    lakehouse: Lakehouse, definition: TableDefinition, data: Data, stamp: Stamp, *, partitions: PartitionScope, fence: Fence = Fence()
) -> StagedWrite:
    """Stage the replacement of the table or of partitions, in one OVERWRITE snapshot.

    Raises:
        PlatformError: `partition-violation` when rows lie outside the named partition, `partition-unknown`; also as `stage_append`.
    """
    work = _Work(lakehouse, definition, stamp, fence, scope=partitions)
    if partitions.kind == "named":
        work.partition = parse_partition(definition, partitions.name or "")
    return _stage_new(work, data)


def stage_merge(
    lakehouse: Lakehouse,
    definition: TableDefinition,
    data: Data,
    stamp: Stamp,
    *,
    keys: tuple[str, ...],
    delete_keys: pa.Table | None = None,
    replace_keys: bool = False,
    covered: bool = False,
    fence: Fence = Fence(),
) -> StagedWrite:
    """Stage a merge by key in one snapshot, as the definition's `MergeRule` says; files without an affected key stay as they are.

    Where the rule has a sequence, the newest row of a key wins: rows of the batch that are older than the table's are left out and
    counted as `ignored` in the snapshot's `sdp.merge`, older ones in the batch itself as `duplicates`. Equal ones: the batch's
    wins over the table's, the last given over those before it. A deleted row leaves nothing behind to compare with.

    Args:
        lakehouse: where the table is.
        definition: what the table shall be.
        data: the rows to be merged.
        stamp: what the write says of itself.
        keys: dotted names of the key columns. Two nulls are the same key.
        delete_keys: keys, one column per key column, whose rows go whether or not `data` has the key, and whatever their sequence.
        replace_keys: `data` are all rows of each key in `delete_keys` or `data`, several per key where no sequence is declared; they
            replace what the table has, whatever its sequence.
        covered: `data` has no key that `delete_keys` does not name; memory then has none of its keys.
        fence: what must hold on the head.

    Raises:
        PlatformError: `merge-duplicate-key`, `key-unknown`, `key-missing`; also as `stage_append`.
    """
    merge = Merge(keys, definition.merge, delete_keys, replace_keys, covered=covered)
    return _stage_new(_Work(lakehouse, definition, stamp, fence, merge=merge), data)


def stage_empty(lakehouse: Lakehouse, definition: TableDefinition, stamp: Stamp, *, fence: Fence = Fence()) -> StagedWrite:
    """Stage a snapshot without rows: a heartbeat, an epoch, a position only. It is fenced like any other."""
    return _stage_new(_Work(lakehouse, definition, stamp, fence), None)


def _stage_new(work: _Work, data: Data | None) -> StagedWrite:
    table = work.lakehouse.create(work.definition)
    work.fence.check(table)
    if data is not None:
        transaction = StagingTransaction(table)
        evolve(transaction, work.definition)
        work.files_schema, work.files_spec = transaction.table_metadata.schema(), transaction.table_metadata.spec()
        data = _resolved(work, data)
        work.files = DataFileWriter(transaction.io, transaction.table_metadata, work.definition.identifier).write(data)
        failpoint("after-data-files")
    try:
        _refuse_outside(work, table)
        return StagedWrite(work, table)
    except BaseException:
        delete_files(table.io, work.written)
        raise


def _resolved(work: _Work, data: Data) -> Data:
    """The batch as the definition's merge rule leaves it; so too where a merged product is recomputed whole."""
    definition, keys = work.definition, work.merge.keys if work.merge is not None else work.definition.primary_key
    whole = work.merge is None and work.scope is not None and definition.write_mode == "merge" and bool(keys)
    if work.files_schema is None or not (whole or work.merge is not None):
        return data
    found = resolve(data, work.files_schema, definition.identifier, keys, definition.merge)
    work.duplicates = found.duplicates
    if work.merge is not None:
        work.merge.deleted = found.deleted
    return found.data


def _refuse_outside(work: _Work, table: Table) -> None:
    if work.partition is None:
        return
    outside = [file for file in work.files if partition_key(file.partition) != partition_key(work.partition)]
    if outside:
        spec, schema = table.spec(), table.schema()
        names = sorted({partition_name(spec, schema, file.partition) for file in outside})
        columns = ", ".join(str(schema.find_column_name(one.source_id)) for one in spec.fields)
        raise PlatformError(
            "partition-violation",
            f"The data for {work.definition.identifier} has {total_rows(outside)} of {total_rows(work.files)} rows outside the partition "
            f"{work.scope.name if work.scope else ''} by {columns}, e.g. in {names[0]}.",
            "Filter the output to the partition that is written.",
        )


def publish(staged: StagedWrite, audit: Callable[[StagedWrite], None] | None = None, attempts: int = 5) -> Commit:
    """Commit; on a conflict stage again on the new head and audit again.

    Args:
        staged: the write; the same object afterwards, whatever happens.
        audit: raises to keep the write from being published; the caller then refuses or discards it.
        attempts: most audited tries. Without an audit a conflict costs little, so ten times as many are made.

    Raises:
        CommitConflict: the head kept moving; the write is discarded.
        Fenced: another writer took over; the write is discarded.
    """
    tries = attempts if audit is not None else attempts * 10
    for attempt in range(1, tries + 1):
        if audit is not None:
            audit(staged)
        try:
            return staged.commit()
        except CommitConflict:
            if attempt == tries:
                staged.discard()
                raise
            _back_off(attempt)
            staged.restage()
    raise AssertionError("unreachable")


def _back_off(attempt: int) -> None:
    time.sleep(random.uniform(0.2, 1.0) * min(0.01 * 2**attempt, 1.0))
