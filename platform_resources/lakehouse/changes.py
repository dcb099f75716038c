"""What changed in a table between two snapshots, as files added and removed; compaction is no change.

PyIceberg's `incremental_append_scan` skips a lone OVERWRITE snapshot silently, so the snapshots are walked here. What a reader does
with changes (keys, partitions, recompute) is the engines'.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pyiceberg.manifest import ManifestContent, ManifestEntryStatus
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Snapshot

from platform_resources.lakehouse.files import changed_entries


@dataclass(frozen=True)
class Changes:
    """The difference between two snapshots of main.

    `none`: no row changed (equal, empty snapshots, compaction). `append`: rows were added only, those of `added`. `rewrite`: the rows
    of `removed` went, those of `added` came; both hold many rows that did not change. `recompute`: it cannot be told, `reason` says
    why. `head` is the snapshot read up to. A file that came and went in between stands in both.
    """

    kind: Literal["none", "append", "rewrite", "recompute"]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    head: int | None
    reason: str


def changes_between(table: Table, since: int | None, until: int | None = None) -> Changes:
    """Files added and removed after `since` up to `until` (default: the head of main)."""
    head = until if until is not None else table.metadata.current_snapshot_id
    if since is None:
        return Changes("recompute", (), (), head, "it was never read")
    if since == head:
        return Changes("none", (), (), head, "nothing was committed")
    path = _path(table, since, head)
    if path is None:
        known = table.metadata.snapshot_by_id(since) is not None
        return Changes("recompute", (), (), head, f"snapshot {since} " + ("was rolled back" if known else "has expired"))
    added, removed = dict[str, None](), dict[str, None]()
    for snapshot in path:
        if snapshot.summary is not None and snapshot.summary.operation == Operation.REPLACE:
            continue
        for manifest in snapshot.manifests(table.io):
            if manifest.content == ManifestContent.DELETES and manifest.added_snapshot_id == snapshot.snapshot_id:
                return Changes("recompute", (), (), head, f"snapshot {snapshot.snapshot_id} deletes rows merge-on-read")
        for entry in changed_entries(table.io, snapshot):
            (added if entry.status == ManifestEntryStatus.ADDED else removed)[entry.data_file.file_path] = None
    kind: Literal["none", "append", "rewrite"] = "rewrite" if removed else "append" if added else "none"
    return Changes(kind, tuple(added), tuple(removed), head, f"{len(path)} snapshots, {len(added)} files added, {len(removed)} removed")


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
