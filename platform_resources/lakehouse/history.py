"""The history of a table for people: what was committed, what is kept and why; taking main back, and naming snapshots.

How long history is kept is `expiry`'s; reading at a snapshot, a tag or a time is `reading`'s.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from pyiceberg.exceptions import BadRequestError, CommitFailedException
from pyiceberg.table import Table
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType
from pyiceberg.table.snapshots import Operation, Snapshot
from pyiceberg.table.update import (
    AddSnapshotUpdate,
    AssertRefSnapshotId,
    AssertTableUUID,
    RemoveSnapshotRefUpdate,
    SetSnapshotRefUpdate,
)

from platform_resources.errors import PlatformError
from platform_resources.failpoints import failpoint
from platform_resources.lakehouse.catalog import AssertSnapshotKnown, Lakehouse, PlatformSqlCatalog
from platform_resources.lakehouse.committing import commit_snapshot
from platform_resources.lakehouse.expiry import keep_of, kept_by
from platform_resources.lakehouse.file_io import delete_files
from platform_resources.lakehouse.reading import parse_when, snapshot_at
from platform_resources.lakehouse.replacing import carried_stamp
from platform_resources.lakehouse.stamp import (
    CARRIED,
    EPOCH,
    LAST_CHANGE,
    POSITION,
    ROLLED_BACK_FROM,
    ROLLED_BACK_TO,
    RUN_ID,
    WATERMARK,
    ancestors,
    changes_rows,
    highest_epoch,
    last_change,
    read_stamp,
    summary_of,
)
from platform_resources.lakehouse.transaction import Append, StagingTransaction, point

_ATTEMPTS = 20


@dataclass(frozen=True)
class HistoryEntry:
    """One snapshot. `line` is `main`, `rolled back` (main once showed it) or `branch`; `kept_by` says why expiry spares it."""

    snapshot_id: int
    parent_id: int | None
    time: datetime
    operation: str
    line: str
    run_id: str | None
    rows_added: int
    rows_removed: int
    rows: int | None
    position: str | None
    watermark: str | None
    refs: tuple[str, ...]
    kept_by: tuple[str, ...]


def history_of(lakehouse: Lakehouse, table: Table) -> list[HistoryEntry]:
    """Every snapshot that the table knows, the newest first: of main, of branches, rolled back."""
    reasons = kept_by(lakehouse, table, keep=keep_of(table))
    main = {snapshot.snapshot_id for snapshot in ancestors(table)}
    once = {entry.snapshot_id for entry in table.metadata.snapshot_log}
    names: dict[int, list[str]] = {}
    for name, ref in table.metadata.refs.items():
        names.setdefault(ref.snapshot_id, []).append(name)
    newest_first = sorted(table.metadata.snapshots, key=lambda one: one.sequence_number or 0, reverse=True)
    return [
        _entry(one, _line_of(one.snapshot_id, main, once), names.get(one.snapshot_id, []), reasons.get(one.snapshot_id, []))
        for one in newest_first
    ]


def _line_of(snapshot_id: int, main: set[int], once: set[int]) -> str:
    return "main" if snapshot_id in main else "rolled back" if snapshot_id in once else "branch"


def _entry(snapshot: Snapshot, line: str, refs: list[str], reasons: list[str]) -> HistoryEntry:
    summary = summary_of(snapshot)
    back = ROLLED_BACK_FROM in summary
    return HistoryEntry(
        snapshot_id=snapshot.snapshot_id,
        parent_id=snapshot.parent_snapshot_id,
        time=datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC),
        operation="rollback" if back else snapshot.summary.operation.value if snapshot.summary else "unknown",
        line=line,
        run_id=summary.get(RUN_ID),
        rows_added=int(summary.get("added-records", 0)),
        rows_removed=int(summary.get("deleted-records", 0))
        + int(summary.get("added-position-deletes", 0))
        - int(summary.get("removed-position-deletes", 0)),
        rows=int(summary["total-records"]) - int(summary.get("total-position-deletes", 0)) if "total-records" in summary else None,
        position=summary.get(POSITION),
        watermark=summary.get(WATERMARK),
        refs=tuple(sorted(refs)),
        kept_by=tuple(reasons),
    )


@dataclass(frozen=True)
class RolledBack:
    """A rollback done: main now shows what it showed at `target`, by the new snapshot `snapshot_id`; `former` was its head."""

    target: int
    former: int
    snapshot_id: int
    position: str | None


def find_target(table: Table, when: datetime | int | str) -> Snapshot:
    """The snapshot of main that a rollback is to go back to.

    Raises:
        PlatformError: `snapshot-unknown`, `branch-unknown`, `rollback-elsewhere` (it is not in main's history), `rollback-nowhere` (main
            shows it already), `rollback-too-far` (the position that the table had then has expired).
    """
    name = ".".join(table.name())
    target = snapshot_at(table, when)
    line = list(ancestors(table))
    index = next((index for index, one in enumerate(line) if one.snapshot_id == target), None)
    if index is None:
        raise PlatformError(
            "rollback-elsewhere",
            f"Snapshot {target} is not in the history of {name}'s main: it is on a branch, or was itself rolled back.",
            f"Choose one that `sdp table history {name.replace('.', '/', 1)}` shows on main.",
        )
    if not any(changes_rows(one) for one in line[:index]) and read_stamp_at(table, line[0].snapshot_id) == read_stamp_at(table, target):
        raise PlatformError("rollback-nowhere", f"{name} shows snapshot {target} already.", "Nothing is to be done.")
    lost = [stamp for stamp in CARRIED if read_stamp(table, stamp)[0] is not None and not _carries(line[index:], stamp)]
    if lost and (line[-1].sequence_number or 0) > 1:
        raise PlatformError(
            "rollback-too-far",
            f"The {lost[0].removeprefix('sdp.').replace('-', ' ')} that {name} had at snapshot {target} has expired.",
            "Roll back to a later snapshot, or rebuild the product with --recreate.",
        )
    return line[index]


def _carries(line: list[Snapshot], stamp: str) -> bool:
    return any(stamp in summary_of(one) for one in line)


def roll_back(lakehouse: Lakehouse, identifier: str, when: datetime | int | str, *, run_id: str) -> RolledBack:
    """Take main back to what it showed at one of its former snapshots, in one commit.

    It is a new snapshot upon the old one, not main's pointer set back: so it stands in the history, and it carries an epoch above all
    others, by which every drain at work is superseded, even one that would find the very position it started from. The position goes
    back with the rows; what was rolled back is then read again, once.

    Args:
        lakehouse: where the table is.
        identifier: the table, `domain.product`.
        when: a snapshot id, a tag, or a time.
        run_id: goes into the stamp.

    Raises:
        PlatformError: `table-unknown`, `rollback-crowded-out`, and what `find_target` raises.
    """
    target_id: int | None = None
    for _ in range(_ATTEMPTS):
        table = lakehouse.table(identifier)
        if table is None:
            raise table_unknown(identifier)
        target = find_target(table, when if target_id is None else target_id)
        target_id = target.snapshot_id
        done = _try_to_roll_back(lakehouse, table, target, run_id)
        if done is not None:
            return done
    raise PlatformError("rollback-crowded-out", f"{identifier} is being committed to by too many others.", "Stop its runs and try again.")


def _try_to_roll_back(lakehouse: Lakehouse, table: Table, target: Snapshot, run_id: str) -> RolledBack | None:
    former, target_id = table.metadata.current_snapshot_id, target.snapshot_id
    back = point(MAIN_BRANCH, SnapshotRefType.BRANCH, target_id)
    transaction = StagingTransaction(table)
    transaction.stage(back)
    producer = Append(
        operation=Operation.APPEND,
        transaction=transaction,
        io=table.io,
        snapshot_properties=_stamp_of(table, transaction, target_id, run_id),
    )
    with producer:
        pass
    updates = tuple(one for one in transaction.staged[0] if isinstance(one, AddSnapshotUpdate | SetSnapshotRefUpdate) and one is not back)
    required = (
        AssertTableUUID(uuid=table.metadata.table_uuid),
        AssertRefSnapshotId(ref=MAIN_BRANCH, snapshot_id=former),
        AssertSnapshotKnown(snapshot_id=target_id),
    )
    failpoint("before-rollback")
    if not commit_snapshot(lakehouse, table, updates, required):
        producer.abandon()
        return None
    delete_files(table.io, producer.superseded_manifests())
    return RolledBack(target_id, former or target_id, producer.snapshot_id, read_stamp_at(table, target_id))


def _stamp_of(table: Table, transaction: StagingTransaction, target_id: int, run_id: str) -> dict[str, str]:
    """What the table's stamps were at the target, and who took it back; with an epoch above all others where it has epochs."""
    then = Table(table.name(), transaction.table_metadata, table.metadata_location, table.io, table.catalog)
    epoch, changed = highest_epoch(table), last_change(then)
    return {
        **carried_stamp(then),
        RUN_ID: run_id,
        ROLLED_BACK_FROM: str(table.metadata.current_snapshot_id),
        ROLLED_BACK_TO: str(target_id),
        **({EPOCH: str(epoch + 1)} if epoch else {}),
        **({LAST_CHANGE: str(changed)} if changed is not None else {}),
    }


def read_stamp_at(table: Table, snapshot_id: int, name: str = POSITION) -> str | None:
    """The text of one stamp at the nearest snapshot at or before one, whatever line that is on."""
    found = table.metadata.snapshot_by_id(snapshot_id)
    while found is not None:
        if name in summary_of(found):
            return summary_of(found)[name]
        found = table.metadata.snapshot_by_id(found.parent_snapshot_id) if found.parent_snapshot_id is not None else None
    return None


def restore_metadata(lakehouse: Lakehouse, identifier: str, location: str | None = None) -> Table:
    """Let a table whose newest metadata file cannot be read go on from an earlier one, default the one before.

    What was committed since is no longer in the table; a stream reads it again.

    Raises:
        PlatformError: `table-unknown`, `restore-nowhere` when the table is sound, or no earlier file is known, `restore-elsewhere` where
            the catalog is a server.
    """
    catalog, name = lakehouse.catalog, identifier.replace(".", "/", 1)
    if not isinstance(catalog, PlatformSqlCatalog):
        raise PlatformError(
            "restore-elsewhere",
            f"Which metadata file of {identifier} is the newest is known to the catalog's server alone.",
            "Register the table anew there, with an earlier *.metadata.json of its folder metadata/.",
        )
    damaged, before = catalog.metadata_locations(identifier)
    if damaged is None:
        raise table_unknown(identifier)
    if not _is_damaged(lakehouse, identifier):
        remedy = f"Take it back with `sdp table rollback {name} --to SNAPSHOT|TAG|TIME`."
        raise PlatformError("restore-nowhere", f"The metadata of {identifier} can be read.", remedy)
    location = location or before
    if location is None:
        remedy = "Name one with --metadata; they are the *.metadata.json files in the table's folder metadata/, the number tells the order."
        raise PlatformError("restore-nowhere", f"The catalog knows no earlier metadata file of {identifier}.", remedy)
    try:
        return catalog.go_on_from(identifier, location, instead_of=damaged)
    except CommitFailedException:
        remedy = f"Look at it: `sdp table history {name}`."
        raise PlatformError("restore-nowhere", f"Another restored {identifier} in this moment.", remedy) from None


def _is_damaged(lakehouse: Lakehouse, identifier: str) -> bool:
    try:
        lakehouse.table(identifier)
    except PlatformError as error:
        if error.code == "metadata-damaged":
            return True
        raise
    return False


def set_tag(lakehouse: Lakehouse, identifier: str, name: str, when: datetime | int | str | None = None) -> int:
    """Name a snapshot (default: the head of main), which keeps it and its files from expiry; the snapshot's id.

    Raises:
        PlatformError: `table-unknown`, `tag-name`, `tag-exists` when the name is taken by another snapshot, `snapshot-unknown`.
    """
    if not re.fullmatch(r"[\w][\w./-]*", name) or not isinstance(parse_when(name), str):
        raise PlatformError("tag-name", f"{name!r} cannot name a snapshot.", "Use letters, digits and . _ - /, and no snapshot id or time.")
    for _ in range(_ATTEMPTS):
        table = _existing(lakehouse, identifier)
        snapshot_id = table.metadata.current_snapshot_id if when is None else snapshot_at(table, when)
        known = table.metadata.refs.get(name)
        if snapshot_id is None or known is not None:
            if known is not None and known.snapshot_id == snapshot_id and known.snapshot_ref_type == SnapshotRefType.TAG:
                return snapshot_id
            raise PlatformError(
                "tag-exists", f"{identifier} has a branch or tag {name} already.", "Choose another name, or delete it first."
            )
        update = point(name, SnapshotRefType.TAG, snapshot_id)
        required = (
            AssertTableUUID(uuid=table.metadata.table_uuid),
            AssertRefSnapshotId(ref=name, snapshot_id=None),
            AssertSnapshotKnown(snapshot_id=snapshot_id),
        )
        with suppress(CommitFailedException, ValueError, BadRequestError):
            lakehouse.commit_updates(table, (update,), required)
            return snapshot_id
    raise PlatformError("tag-crowded-out", f"{identifier} is being committed to by too many others.", "Try again.")


def delete_tag(lakehouse: Lakehouse, identifier: str, name: str) -> int:
    """Take a tag away; what only it kept goes with the next expiry. The id of the snapshot it named.

    Raises:
        PlatformError: `table-unknown`, `tag-unknown`.
    """
    for _ in range(_ATTEMPTS):
        table = _existing(lakehouse, identifier)
        known = table.metadata.refs.get(name)
        if known is None or known.snapshot_ref_type != SnapshotRefType.TAG:
            tags = sorted(one for one, ref in table.metadata.refs.items() if ref.snapshot_ref_type == SnapshotRefType.TAG)
            raise PlatformError("tag-unknown", f"{identifier} has no tag {name}.", f"It has {', '.join(tags) or 'none'}.")
        required = (AssertTableUUID(uuid=table.metadata.table_uuid), AssertRefSnapshotId(ref=name, snapshot_id=known.snapshot_id))
        with suppress(CommitFailedException):
            lakehouse.commit_updates(table, (RemoveSnapshotRefUpdate(ref_name=name),), required)
            return known.snapshot_id
    raise PlatformError("tag-crowded-out", f"{identifier} is being committed to by too many others.", "Try again.")


def _existing(lakehouse: Lakehouse, identifier: str) -> Table:
    table = lakehouse.table(identifier)
    if table is None:
        raise table_unknown(identifier)
    return table


def table_unknown(identifier: str) -> PlatformError:
    """The sentence for a table that does not exist."""
    return PlatformError("table-unknown", f"There is no table {identifier}.", "Make it by running its product.")
