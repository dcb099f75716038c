"""The facts of a table, from its metadata alone, and what they call for. What is then done is the other modules' of maintenance.

Nothing here goes by the clock alone: a table that nobody writes to needs nothing, however old it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table
from pyiceberg.table.update import AssertRefSnapshotId, AssertTableUUID, RemoveSnapshotRefUpdate

from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.compaction import Group, deleted_rows, is_small, plan_compaction, target_bytes
from platform_resources.lakehouse.expiry import expire_snapshots, kept_by
from platform_resources.lakehouse.files import FileTask, live_tasks
from platform_resources.lakehouse.manifests import EXCESS, LEFT, manifests_of, needed_manifests
from platform_resources.lakehouse.reading import branches
from platform_resources.lakehouse.replacing import MAINTENANCE, listed_deletes
from platform_resources.lakehouse.retention import Term, history_past, oldest_row, overdue_files
from platform_resources.lakehouse.stamp import ancestors, summary_of

Action: TypeAlias = Literal["retention", "refused", "compact", "manifests", "expire", "orphans"]
ACTIONS: tuple[Action, ...] = ("retention", "refused", "compact", "manifests", "expire", "orphans")

HISTORY = timedelta(days=5)  # Iceberg's own default
REFUSED_AGE = timedelta(days=30)  # as the quarantine
SLACK = timedelta(days=1)  # rows leave in lots: a table aged by the minute would be rewritten by the minute
EXPIRABLE = 20  # snapshots worth a commit that removes them; fewer go when they are a day over their time


@dataclass(frozen=True)
class Policy:
    """What a contract asks of maintenance.

    `retention` is how long rows are kept, by any of `aging` (dotted columns); None: for ever. `history` is how far back the table can
    be read and rolled back, `refused_age` how long refused writes stay.
    """

    retention: timedelta | None = None
    aging: tuple[str, ...] = ()
    history: timedelta = HISTORY
    refused_age: timedelta = REFUSED_AGE
    refused_prefix: str = "refused/"

    def term(self, now: datetime) -> Term | None:
        """Which rows are past now; a lot leaves when one is a day, or a twentieth of the time if that is less, past it."""
        if self.retention is None or not self.aging:
            return None
        return Term(self.aging, now - self.retention, min(SLACK, self.retention / 20))


@dataclass(frozen=True)
class Need:
    """One thing to be done to a table, the facts that call for it in a sentence, and how much it touches."""

    action: Action
    reason: str
    files: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Health:
    """A table at one look. Bytes are those of files as stored; `deleted_share` is of rows, merge-on-read; times are UTC."""

    identifier: str
    seen_at: datetime
    snapshot_id: int | None
    rows: int
    files: int
    small_files: int
    bytes: int
    target_bytes: int
    delete_files: int
    deleted_share: float
    manifests: int
    snapshots: int
    metadata_bytes: int
    branches: int
    refused: int
    oldest_row: datetime | None
    oldest_snapshot: datetime | None
    maintained_at: datetime | None
    needs: tuple[Need, ...] = ()


def look_at_table(lakehouse: Lakehouse, identifier: str, policy: Policy, *, now: datetime) -> Health | None:
    """The facts of a table and what they call for; None when it does not exist.

    Reads the metadata file, the manifest list and the manifests of the head, no data.

    Raises:
        PlatformError: `table-has-deletes`, `retention-column`.
    """
    table = lakehouse.table(identifier)
    if table is None:
        return None
    head = table.current_snapshot()
    tasks, manifests = live_tasks(table.io, head, identifier), manifests_of(table)
    target, rows = target_bytes(table), sum(task.data_file.record_count for task in tasks)
    deletes = listed_deletes(table.io, head)
    gone = sum(deleted_rows(task) for task in tasks)
    groups, times = plan_compaction(table, tasks, now=now), [one.timestamp_ms for one in table.metadata.snapshots]
    refused = [name for name, _ in branches(table) if name.startswith(policy.refused_prefix)]
    made = [one.timestamp_ms for one in ancestors(table) if MAINTENANCE in summary_of(one)]
    small = [task for task in tasks if is_small(task.data_file, target)]
    return Health(
        identifier=identifier,
        seen_at=now,
        snapshot_id=table.metadata.current_snapshot_id,
        rows=rows - gone,
        files=len(tasks),
        small_files=len(small),
        bytes=sum(task.data_file.file_size_in_bytes for task in tasks),
        target_bytes=target,
        delete_files=len(deletes),
        deleted_share=gone / rows if rows else 0.0,
        manifests=len(manifests),
        snapshots=len(times),
        metadata_bytes=len(table.io.new_input(table.metadata_location)) + sum(one.manifest_length for one in manifests),
        branches=len(table.metadata.refs) - 1 if table.metadata.refs else 0,
        refused=len(refused),
        oldest_row=oldest_row(table, tasks, policy.aging),
        oldest_snapshot=_moment(min(times)) if times else None,
        maintained_at=_moment(max(made)) if made else None,
        needs=tuple(_needs(lakehouse, table, tasks, groups, policy, now)),
    )


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _needs(
    lakehouse: Lakehouse, table: Table, tasks: Sequence[FileTask], groups: Sequence[Group], policy: Policy, now: datetime
) -> list[Need]:
    found = [
        _retention(table, policy, now),
        _refused(table, policy, now),
        _compaction(table, tasks, groups),
        _manifests(table),
        _expiry(lakehouse, table, policy, now),
    ]
    return [need for need in found if need is not None]


def _retention(table: Table, policy: Policy, now: datetime) -> Need | None:
    term = policy.term(now)
    if term is None or policy.retention is None:
        return None
    if past := overdue_files(table, term):
        oldest = oldest_row(table, list(past.values()), term.columns)
        days = f"{policy.retention.total_seconds() / 86400:g} days"
        since = f", the oldest from {oldest:%Y-%m-%d}" if oldest is not None else ""
        size = sum(task.data_file.file_size_in_bytes for task in past.values())
        return Need("retention", f"rows are older than {days}{since}", len(past), size)
    if history := history_past(table, term, now=now):
        return Need("retention", f"{len(history)} snapshots may still hold rows that are past their time")
    return None


def _refused(table: Table, policy: Policy, now: datetime) -> Need | None:
    old = expired_refusals(table, policy, now)
    if not old:
        return None
    what = "refused write is" if len(old) == 1 else "refused writes are"
    return Need("refused", f"{len(old)} {what} older than {policy.refused_age.days} days")


def expired_refusals(table: Table, policy: Policy, now: datetime) -> dict[str, int]:
    """Branches of refused writes past their age, with what they show."""
    bound = (now - policy.refused_age).timestamp() * 1000
    old = ((name, one) for name, one in branches(table) if name.startswith(policy.refused_prefix) and one.timestamp_ms < bound)
    return {name: one.snapshot_id for name, one in old}


def drop_refusals(lakehouse: Lakehouse, identifier: str, policy: Policy, *, now: datetime) -> list[str]:
    """Drop the branches of refused writes past their age, and what only they held; their names."""
    table = lakehouse.table(identifier)
    old = expired_refusals(table, policy, now) if table is not None else {}
    if table is None or not old:
        return []
    updates = tuple(RemoveSnapshotRefUpdate(ref_name=name) for name in old)
    same = (AssertRefSnapshotId(ref=name, snapshot_id=one) for name, one in old.items())
    with suppress(CommitFailedException):  # another commit was first: the next maintenance goes on
        lakehouse.commit_updates(table, updates, (*same, AssertTableUUID(uuid=table.metadata.table_uuid)))
        expire_snapshots(lakehouse, identifier, keep=1, older_than=now - policy.history, now=now)
        return list(old)
    return []


def _compaction(table: Table, tasks: Sequence[FileTask], groups: Sequence[Group]) -> Need | None:
    if not groups:
        return None
    chosen = {reason: sum(len(one.tasks) for one in groups if one.reason == reason) for reason in ("small", "deletes", "spec")}
    said = {
        "small": f"are under half of {target_bytes(table) / 2**20:g} MiB",
        "deletes": "have deleted rows",
        "spec": "have an old partition spec",
    }
    parts = [f"{count:,} {said[reason]}" for reason, count in chosen.items() if count]
    return Need("compact", f"of {len(tasks):,} files {', '.join(parts)}", sum(chosen.values()), sum(one.bytes for one in groups))


def _manifests(table: Table) -> Need | None:
    """Too many manifests; or many files that left in those of the head, which a query reads for nothing until the next commit."""
    manifests, head = manifests_of(table), table.current_snapshot()
    size = sum(one.manifest_length for one in manifests)
    needed = needed_manifests(table, manifests)
    if len(manifests) - needed >= EXCESS:
        return Need("manifests", f"{len(manifests)} manifests where {needed} would do", len(manifests), size)
    left = sum(one.deleted_files_count or 0 for one in (head.manifests(table.io) if head is not None else ()))
    if left >= LEFT:
        return Need("manifests", f"{left:,} files that left are still listed", len(manifests), size)
    return None


def _expiry(lakehouse: Lakehouse, table: Table, policy: Policy, now: datetime) -> Need | None:
    bound = now - policy.history
    if all(_moment(one.timestamp_ms) >= bound for one in table.metadata.snapshots):
        return None
    kept = kept_by(lakehouse, table, keep=1, older_than=bound, now=now)
    gone = [one for one in table.metadata.snapshots if one.snapshot_id not in kept]
    if not gone or (len(gone) < EXPIRABLE and min(_moment(one.timestamp_ms) for one in gone) >= bound - timedelta(days=1)):
        return None
    return Need("expire", f"{len(gone)} of {len(table.metadata.snapshots)} snapshots are older than {policy.history.days} days", len(gone))
