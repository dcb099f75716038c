"""Swapping files for others in a snapshot of its own: committed on whatever the head is by then, losing to writers by the file.

The stamp of the table is copied forward, so that no position is lost when the snapshot that first carried it expires. Which files are
swapped, and why, is `compaction`'s, `manifests`' and `retention`'s.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass

from pyiceberg.exceptions import ValidationException
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, ManifestContent
from pyiceberg.table import Table
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.snapshots import Operation, Snapshot
from pyiceberg.table.update import AssertTableUUID

from platform_resources.errors import PlatformError
from platform_resources.failpoints import failpoint
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.committing import commit_snapshot
from platform_resources.lakehouse.file_io import delete_files
from platform_resources.lakehouse.files import FileTask, live_tasks
from platform_resources.lakehouse.stamp import (
    CARRIED,
    CODE_VERSION,
    CONTRACT_VERSION,
    LAST_CHANGE,
    POSITION,
    RUN_ID,
    ancestors,
    last_change,
    summary_of,
)
from platform_resources.lakehouse.transaction import Replace, StagingTransaction

MAINTENANCE = "sdp.maintenance"  # summary property: which action made the snapshot
RETENTION = "sdp.retention"  # summary property: rows older than this time left with the snapshot
_OF_THE_POSITION = (CODE_VERSION, CONTRACT_VERSION, "sdp.skipped-checks")  # what they say is said of the write with the position
_ATTEMPTS = 20


@dataclass(frozen=True)
class Swap:
    """Tasks as they were read, and the data files written in their place by a partition spec (none when no row is left)."""

    removed: tuple[FileTask, ...]
    added: tuple[DataFile, ...]
    spec_id: int | None = None

    @property
    def bytes(self) -> int:
        """Of the data files that go."""
        return sum(task.data_file.file_size_in_bytes for task in self.removed)


@dataclass(frozen=True)
class Swapped:
    """What was committed (`snapshot_id` None: nothing), and what lost to a writer; the files of the latter are deleted."""

    snapshot_id: int | None
    kept: tuple[Swap, ...] = ()
    lost: tuple[Swap, ...] = ()


def carried_stamp(table: Table, ref: str = MAIN_BRANCH) -> dict[str, str]:
    """The summary properties that a snapshot must repeat to stand for all before it.

    The code version is that of the snapshot with the position: a partition recomputed later by newer code says nothing of the rest.
    """
    found: dict[str, str] = {}
    for snapshot in ancestors(table, ref):
        summary = summary_of(snapshot)
        if POSITION in summary and POSITION not in found:
            found = {name: value for name, value in found.items() if name not in _OF_THE_POSITION}
            found |= {name: summary[name] for name in _OF_THE_POSITION if name in summary}
        elif POSITION in found:
            summary = {name: value for name, value in summary.items() if name not in _OF_THE_POSITION}
        for name in (*CARRIED, *_OF_THE_POSITION):
            if name in summary:
                found.setdefault(name, summary[name])
    changed = last_change(table) if ref == MAIN_BRANCH else None
    return found | ({LAST_CHANGE: str(changed)} if changed is not None else {})


def commit_swaps(
    lakehouse: Lakehouse,
    identifier: str,
    swaps: Sequence[Swap],
    *,
    run_id: str,
    action: str,
    operation: Operation = Operation.REPLACE,
    branch: str = MAIN_BRANCH,
    notes: Mapping[str, str] | None = None,
    schema_id: int | None = None,
) -> Swapped:
    """Commit swaps in one snapshot on the head as it is then.

    A swap is lost, and its files are deleted, when a writer has removed one of its files or deleted rows of one since it was read:
    the writer is right, and the next maintenance sees what it left. Delete files that apply to no data file any more go too.
    `schema_id`: in which schema of the table the files were written, and the snapshot is read; default its current one.

    Raises:
        PlatformError: `maintenance-crowded-out` after many conflicts in a row; the files of all swaps are deleted.
    """
    lost: list[Swap] = []
    waiting = list(swaps)
    deletable = waiting  # while a commit is tried its outcome is open: what may stand, or be on its way still, must not be deleted
    io = None
    try:
        for attempt in range(_ATTEMPTS):
            table = lakehouse.table(identifier)
            if table is None:
                break
            io = table.io
            tasks = {task.path: task for task in live_tasks(io, table.snapshot_by_name(branch), identifier)}
            beaten = [swap for swap in waiting if not _stands(swap, tasks, table)]
            lost += beaten
            waiting = deletable = [swap for swap in waiting if swap not in beaten]
            if not waiting:
                break
            summary = {**carried_stamp(table, branch), RUN_ID: run_id, MAINTENANCE: action, **(notes or {})}
            table = table if schema_id is None else in_schema(table, schema_id)
            staged = _stage(table, waiting, tasks, operation, branch, summary)
            deletable = []
            if staged is not None and _commit(lakehouse, table, *staged):
                failpoint("after-replace")
                return Swapped(staged[1].snapshot_id, tuple(waiting), tuple(lost))
            deletable = waiting
            time.sleep(random.uniform(0.2, 1.0) * min(0.01 * 2**attempt, 1.0))
        else:
            raise PlatformError(
                "maintenance-crowded-out",
                f"{identifier} is being committed to by too many others.",
                "Maintain it again when it is quieter.",
            )
    finally:
        if io is not None:
            delete_files(io, (file.file_path for swap in (*lost, *deletable) for file in swap.added))
    return Swapped(None, (), tuple(lost))


def in_schema(table: Table, schema_id: int) -> Table:
    """The table as if that schema of its were the current one."""
    seen = copy(table)
    seen.metadata = table.metadata.model_copy(update={"current_schema_id": schema_id})
    return seen


def regroup_manifests(lakehouse: Lakehouse, identifier: str, *, run_id: str, notes: Mapping[str, str] | None = None) -> int | None:
    """Write the manifests of main anew, grouped by partition; the id of the snapshot, None when others kept committing.

    Its summary repeats what the table's stamps say; `notes` go over that.
    """
    for attempt in range(_ATTEMPTS):
        table = lakehouse.table(identifier)
        if table is None or table.current_snapshot() is None:
            return None
        summary = {**carried_stamp(table), RUN_ID: run_id, MAINTENANCE: "manifests", **(notes or {})}
        staged = _stage(table, (), None, Operation.REPLACE, MAIN_BRANCH, summary)
        if staged is not None and _commit(lakehouse, table, *staged):
            return staged[1].snapshot_id
        time.sleep(random.uniform(0.2, 1.0) * min(0.01 * 2**attempt, 1.0))
    return None


def listed_deletes(io: FileIO, snapshot: Snapshot | None) -> list[DataFile]:
    """The delete files of a snapshot, those that apply to nothing included."""
    manifests = snapshot.manifests(io) if snapshot is not None else []
    return [
        entry.data_file
        for manifest in manifests
        if manifest.content == ManifestContent.DELETES and (manifest.has_added_files() or manifest.has_existing_files())
        for entry in manifest.fetch_manifest_entry(io, discard_deleted=True)
    ]


def _stands(swap: Swap, live: Mapping[str, FileTask], table: Table) -> bool:
    """Whether every file of a swap is live with just the deletes that were applied when it was read."""
    if swap.added and swap.spec_id != table.metadata.default_spec_id:
        return False
    for task in swap.removed:
        now = live.get(task.path)
        if now is None or {one.file_path for one in now.deletes} != {one.file_path for one in task.deletes}:
            return False
    return True


def _stage(
    table: Table,
    swaps: Sequence[Swap],
    live: Mapping[str, FileTask] | None,
    operation: Operation,
    branch: str,
    summary: Mapping[str, str],
) -> tuple[StagingTransaction, Replace] | None:
    """The snapshot staged on one head; None when that moved between two reads."""
    gone = {task.path for swap in swaps for task in swap.removed}
    if live is not None:
        applied = {one.file_path for path, task in live.items() if path not in gone for one in task.deletes}
        gone |= {one.file_path for one in listed_deletes(table.io, table.snapshot_by_name(branch)) if one.file_path not in applied}
    transaction = StagingTransaction(table)
    producer = Replace(
        gone=gone, regroup=live is None, operation=operation, transaction=transaction, io=table.io,
        snapshot_properties=dict(summary), branch=branch,
    )  # fmt: skip
    for swap in swaps:
        for file in swap.added:
            producer.append_data_file(file)
    try:
        producer.commit()
    except ValidationException:
        producer.abandon()
        return None
    except BaseException:
        producer.abandon()
        raise
    return transaction, producer


def _commit(lakehouse: Lakehouse, table: Table, transaction: StagingTransaction, producer: Replace) -> bool:
    """Commit what was staged; False when another commit was first. An error leaves all its files: it may stand yet."""
    updates, requirements = transaction.staged
    failpoint("before-replace")
    stands = commit_snapshot(lakehouse, table, updates, (*requirements, AssertTableUUID(uuid=table.metadata.table_uuid)))
    if stands:
        delete_files(table.io, producer.superseded_manifests())
    else:
        producer.abandon()
    return stands
