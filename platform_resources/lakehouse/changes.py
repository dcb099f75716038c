"""What changed in a table between two snapshots, as rows that came and rows that went; compaction is no change.

PyIceberg's `incremental_append_scan` skips a lone OVERWRITE snapshot silently, so the snapshots are walked here. What a reader does
with changes (keys, partitions, recompute) is the engines'.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from pyiceberg.manifest import DataFileContent, ManifestEntry, ManifestEntryStatus
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Snapshot

from platform_resources.errors import PlatformError
from platform_resources.lakehouse.files import DeletedRows, DeleteIndex, FileTask, changed_entries, live_deletes, live_tasks
from platform_resources.lakehouse.replacing import RETENTION
from platform_resources.lakehouse.stamp import summary_of

Kind: TypeAlias = Literal["none", "append", "rewrite", "recompute"]


@dataclass(frozen=True)
class Changes:
    """The difference between two snapshots of main.

    `none`: no row changed (equal, empty snapshots, compaction). `append`: rows were added only, those of `added`. `rewrite`: the rows
    of `removed` went, those of `added` came; rewritten files hold many rows that did not change and stand in both. `recompute`: it
    cannot be told, `reason` says why. `head` is the snapshot read up to. A row that came and went in between stands in both, too:
    always, rows before + added = rows after + removed.
    """

    kind: Kind
    added: tuple[FileTask, ...]
    removed: tuple[FileTask | DeletedRows, ...]
    head: int | None
    reason: str


def changes_between(table: Table, since: int | None, until: int | None = None, *, aging: bool = True) -> Changes:
    """The rows added and removed after `since` up to `until` (default: the head of main).

    Rows that left by retention are removed rows, unless `aging` is false: then they are as if they were still there.

    Raises:
        StoreError: the files that tell it cannot be read now.
    """
    head = until if until is not None else table.metadata.current_snapshot_id
    if since is None:
        return Changes("recompute", (), (), head, "it was never read")
    if since == head:
        return Changes("none", (), (), head, "nothing was committed")
    path = _path(table, since, head)
    if path is None:
        known = table.metadata.snapshot_by_id(since) is not None
        return Changes("recompute", (), (), head, f"snapshot {since} " + ("was rolled back" if known else "has expired"))
    walk = _Walk(table)
    try:
        for snapshot in path:
            replaced = snapshot.summary is not None and snapshot.summary.operation == Operation.REPLACE
            if not replaced and (aging or RETENTION not in summary_of(snapshot)):
                walk.step(snapshot)
    except PlatformError as error:
        if error.code != "table-has-deletes":
            raise  # the store is away: to recompute would be to take rows that are still there for lost
        return Changes("recompute", (), (), head, error.message)
    kind: Kind = "rewrite" if walk.removed or walk.gone else "append" if walk.added else "none"
    counted = f"{len(walk.added)} files added, {len(walk.removed)} removed, rows of {len(walk.gone)} deleted"
    return Changes(
        kind, tuple(walk.added.values()), (*walk.removed.values(), *walk.gone.values()), head, f"{len(path)} snapshots, {counted}"
    )


@dataclass
class _Walk:
    """What the snapshots so far added and removed, by data file."""

    table: Table
    added: dict[str, FileTask] = field(default_factory=dict)
    removed: dict[str, FileTask] = field(default_factory=dict)
    gone: dict[str, DeletedRows] = field(default_factory=dict)

    def step(self, snapshot: Snapshot) -> None:
        entries = list(changed_entries(self.table.io, snapshot))
        data = [entry for entry in entries if entry.data_file.content == DataFileContent.DATA]
        added = {entry.data_file.file_path: entry for entry in data if entry.status == ManifestEntryStatus.ADDED}
        removed = [entry for entry in data if entry.status == ManifestEntryStatus.DELETED]
        deletes = {
            entry.data_file.file_path
            for entry in entries
            if entry.data_file.content != DataFileContent.DATA and entry.status == ManifestEntryStatus.ADDED
        }
        self.added.update({path: FileTask(entry.data_file) for path, entry in added.items()})
        if not removed and not deletes:
            return
        parent = self.table.metadata.snapshot_by_id(snapshot.parent_snapshot_id) if snapshot.parent_snapshot_id is not None else None
        before = live_deletes(self.table.io, parent, self._identifier)
        for entry in removed:
            self.removed[entry.data_file.file_path] = _task(entry, before)
        for task in live_tasks(self.table.io, snapshot, self._identifier) if deletes else ():
            if all(delete.file_path not in deletes for delete in task.deletes):
                continue
            if task.path in added:
                self.added[task.path] = task
            else:
                known = self.gone.get(task.path)
                start = known.before if known is not None else before.of(task.data_file, task.sequence_number)
                self.gone[task.path] = DeletedRows(task.data_file, task.deletes, start)

    @property
    def _identifier(self) -> str:
        return ".".join(self.table.name())


def _task(entry: ManifestEntry, deletes: DeleteIndex) -> FileTask:
    number = entry.sequence_number or 0
    return FileTask(entry.data_file, deletes.of(entry.data_file, number), number)


def _path(table: Table, since: int, head: int | None) -> list[Snapshot] | None:
    """The snapshots after `since` up to `head`, oldest first; None when `since` is no known ancestor of `head`."""
    by_id = {snapshot.snapshot_id: snapshot for snapshot in table.metadata.snapshots}
    path: list[Snapshot] = []
    current = head
    while current is not None and current != since:
        if current not in by_id:
            return None
        path.append(by_id[current])
        current = by_id[current].parent_snapshot_id
    return path[::-1] if current is not None and current in by_id else None
