"""Retention: rows older than their term leave the table, then its history, so that no file of it holds one of them any more.

Files wholly past go as they are, by what the manifests say of them; of others the rows that stay are written anew. That is one OVERWRITE
snapshot on main and on every branch, marked in its summary. Snapshots from before it are then expired, whoever still wanted them:
registered readers are waited for one day, tags and time travel are not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.conversions import from_bytes
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType
from pyiceberg.table.snapshots import Operation, Snapshot
from pyiceberg.table.update import AssertTableUUID, RemoveSnapshotRefUpdate, TableRequirement, TableUpdate
from pyiceberg.types import DateType, IcebergType, PrimitiveType, TimestampType, TimestamptzType

from platform_resources.errors import PlatformError
from platform_resources.failpoints import failpoint
from platform_resources.lakehouse.catalog import Lakehouse, LocalRequirement
from platform_resources.lakehouse.compaction import rewrite
from platform_resources.lakehouse.expiry import Expired, expire_snapshots, readers_of, stands_at, without_readers
from platform_resources.lakehouse.file_io import delete_files
from platform_resources.lakehouse.files import FileTask, live_tasks, read_task
from platform_resources.lakehouse.partitions import column_at, path_of
from platform_resources.lakehouse.replacing import MAINTENANCE, RETENTION, Swap, commit_swaps
from platform_resources.lakehouse.stamp import ancestors, format_instant, summary_of

ACTION = "retention"
PATIENCE = timedelta(days=1)  # with registered readers that have not yet seen what left
_ROUNDS = 3


@dataclass(frozen=True)
class Term:
    """Rows are past when any of these columns (dotted names; a date or a timestamp) is before the cutoff; null is not."""

    columns: tuple[str, ...]
    cutoff: datetime


@dataclass(frozen=True)
class Forgotten:
    """What retention removed: rows, data files that went whole or were written anew, their bytes, and snapshots expired after it."""

    rows: int = 0
    files: int = 0
    bytes: int = 0
    expired: Expired = field(default_factory=Expired)
    waits_for: tuple[str, ...] = ()


def forget(lakehouse: Lakehouse, identifier: str, term: Term, *, run_id: str, now: datetime, patience: timedelta = PATIENCE) -> Forgotten:
    """Remove the rows past their term from main and all branches, then from the history.

    Args:
        lakehouse: where the table is.
        identifier: `domain.product`; a table that does not exist holds no old row.
        term: which rows.
        run_id: stands in the snapshots.
        now: the clock, for the patience with readers.
        patience: how long registered readers are waited for.

    Raises:
        PlatformError: `retention-column` when a column is no date or timestamp.
    """
    table = lakehouse.table(identifier)
    if table is None:
        return Forgotten()
    rows = files = size = 0
    branches = [name for name, ref in table.metadata.refs.items() if ref.snapshot_ref_type == SnapshotRefType.BRANCH]
    for branch in sorted(branches, key=lambda name: (name != MAIN_BRANCH, name)):
        for _ in range(_ROUNDS):
            left, lost = _forget_on(lakehouse, identifier, term, branch, run_id)
            rows, files, size = rows + left[0], files + left[1], size + left[2]
            if not lost:
                break
    failpoint("retention-before-expiry")
    expired, waits_for = expire_past(lakehouse, identifier, now=now, patience=patience)
    return Forgotten(rows, files, size, expired, waits_for)


def _forget_on(lakehouse: Lakehouse, identifier: str, term: Term, branch: str, run_id: str) -> tuple[tuple[int, int, int], bool]:
    """Rows, files and bytes that left one branch, and whether a writer was faster with some of them."""
    table = lakehouse.table(identifier)
    if table is None or (head := table.snapshot_by_name(branch)) is None:
        return (0, 0, 0), False
    whole, partly = sorted_by_age(table, live_tasks(table.io, head, identifier), term)
    swaps = [Swap((task,), ()) for task in whole]
    rows = {id(swap): task.data_file.record_count for swap, task in zip(swaps, whole, strict=True)}
    written: list[DataFile] = []
    try:
        for task in partly:
            if not (past := _rows_past(table, identifier, task, term)):
                continue
            swap = rewrite(table, identifier, [task], _without_past(table.schema(), term))
            written += swap.added
            swaps.append(swap)
            rows[id(swap)] = past
    except BaseException:
        delete_files(table.io, (file.file_path for file in written))
        raise
    if not swaps:
        return (0, 0, 0), False
    failpoint("retention-before-commit")
    result = commit_swaps(
        lakehouse, identifier, swaps, run_id=run_id, action=ACTION, operation=Operation.OVERWRITE, branch=branch,
        notes={RETENTION: format_instant(term.cutoff)},
    )  # fmt: skip
    kept = result.kept
    return (sum(rows[id(swap)] for swap in kept), len(kept), sum(swap.bytes for swap in kept)), bool(result.lost)


def sorted_by_age(table: Table, tasks: Sequence[FileTask], term: Term) -> tuple[list[FileTask], list[FileTask]]:
    """Files whose rows are all past, and files that may hold some; by column bounds alone.

    Raises:
        PlatformError: `retention-column`.
    """
    bounds = [_Bounds.of(table, name, term.cutoff) for name in term.columns]
    whole, partly = list[FileTask](), list[FileTask]()
    for task in tasks:
        verdicts = [one.judge(task.data_file) for one in bounds]
        if "past" in verdicts:
            whole.append(task)
        elif "unknown" in verdicts:
            partly.append(task)
    return whole, partly


def oldest_row(table: Table, tasks: Sequence[FileTask], columns: Sequence[str]) -> datetime | None:
    """The earliest time in any of the columns as the bounds say; None when they say nothing."""
    found: list[datetime] = []
    for name in columns:
        bounds = _Bounds.of(table, name, datetime.now(UTC))
        found += [moment for task in tasks if (moment := bounds.lowest(task.data_file)) is not None]
    return min(found, default=None)


@dataclass(frozen=True)
class _Bounds:
    """A column's lower and upper bounds against a cutoff."""

    field_id: int
    kind: PrimitiveType
    cutoff: int

    @classmethod
    def of(cls, table: Table, name: str, cutoff: datetime) -> _Bounds:
        kind = _column_type(table.schema(), name, ".".join(table.name()))
        return cls(table.schema().find_field(name).field_id, kind, _as_stored(kind, cutoff))

    def judge(self, file: DataFile) -> str:
        """`past`, `young` or `unknown`."""
        low, high = self._value(file.lower_bounds), self._value(file.upper_bounds)
        nulls = (file.null_value_counts or {}).get(self.field_id)
        if (low is not None and low >= self.cutoff) or nulls == file.record_count:
            return "young"
        return "past" if high is not None and nulls == 0 and high < self.cutoff else "unknown"

    def lowest(self, file: DataFile) -> datetime | None:
        """The lower bound as a time."""
        if (low := self._value(file.lower_bounds)) is None:
            return None
        unit = timedelta(days=1) if isinstance(self.kind, DateType) else timedelta(microseconds=1)
        with suppress(OverflowError):
            return datetime(1970, 1, 1, tzinfo=UTC) + low * unit
        return None

    def _value(self, bounds: Mapping[int, bytes] | None) -> int | None:
        raw = (bounds or {}).get(self.field_id)
        return None if raw is None else cast("int", from_bytes(self.kind, raw))


def _column_type(schema: Schema, name: str, identifier: str) -> PrimitiveType:
    try:
        kind = schema.find_type(name)
        path_of(schema, schema.find_field(name).field_id)
    except ValueError:
        kind = None
    if not isinstance(kind, DateType | TimestampType | TimestamptzType):
        raise PlatformError(
            "retention-column", f"{identifier} cannot age by its column {name}, which is {kind or 'not there'}.",
            "Name a date or a timestamp in `element` of the retention promise.",
        )  # fmt: skip
    return kind


def _as_stored(kind: IcebergType, instant: datetime) -> int:
    """The instant as Iceberg stores it. A date is past when its whole day is."""
    if isinstance(kind, DateType):
        return (instant.date() - date(1970, 1, 1)).days
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _past_mask(schema: Schema, term: Term, rows: pa.Table) -> pa.Array:
    mask: Any = None
    for name in term.columns:
        field = schema.find_field(name)
        values = column_at(rows, path_of(schema, field.field_id))
        bound = pa.scalar(_as_stored(field.field_type, term.cutoff), pa.int32() if pa.types.is_date32(values.type) else pa.int64())
        past = pc.fill_null(pc.less(values.cast(bound.type), bound), False)
        mask = past if mask is None else pc.or_(mask, past)
    return mask


def _without_past(schema: Schema, term: Term) -> Callable[[pa.Table], pa.Table]:
    return lambda rows: rows.filter(pc.invert(_past_mask(schema, term, rows)))


def _rows_past(table: Table, identifier: str, task: FileTask, term: Term) -> int:
    """Rows past their term that lie in the file, those already deleted merge-on-read included: they are still on the disk."""
    schema = table.schema()
    roots = sorted({name.partition(".")[0] for name in term.columns})
    blocks = read_task(table.io, FileTask(task.data_file), schema, identifier, roots)
    return sum(pc.sum(_past_mask(schema, term, block)).as_py() or 0 for block in blocks)


def newest_retention(table: Table, ref: str = MAIN_BRANCH) -> Snapshot | None:
    """The last snapshot of a branch with which rows left by age."""
    return next((one for one in ancestors(table, ref) if summary_of(one).get(MAINTENANCE) == ACTION), None)


def history_past(table: Table) -> list[Snapshot]:
    """Snapshots from before the last retention: they may still hold what left with it."""
    mark = newest_retention(table)
    if mark is None:
        return []
    return [one for one in table.metadata.snapshots if (one.sequence_number or 0) < (mark.sequence_number or 0)]


def expire_past(lakehouse: Lakehouse, identifier: str, *, now: datetime, patience: timedelta = PATIENCE) -> tuple[Expired, tuple[str, ...]]:
    """Expire the history from before the last retention; and the readers it has to wait for first, if any.

    Tags that point there go. A branch that points there without a retention of its own goes too: it was made from old rows and nobody
    could clear it. After the patience lagging readers are forgotten: they recompute, and register again.
    """
    table = lakehouse.table(identifier)
    if table is None or not history_past(table):
        return Expired(), ()
    mark = newest_retention(table)
    if mark is None:
        return Expired(), ()
    lagging = _lagging(lakehouse, table, mark)
    if lagging and now - datetime.fromtimestamp(mark.timestamp_ms / 1000, UTC) < patience:
        return Expired(), lagging
    updates: list[TableUpdate] = []
    before = {one.snapshot_id for one in history_past(table)}
    updates += [RemoveSnapshotRefUpdate(ref_name=name) for name, ref in table.metadata.refs.items() if ref.snapshot_id in before]
    required: list[TableRequirement | LocalRequirement] = [AssertTableUUID(uuid=table.metadata.table_uuid)]
    if lagging:
        update, same = without_readers(table, lagging)
        updates.append(update)
        required.append(same)
    if updates:
        with suppress(CommitFailedException):  # another commit was first: the next maintenance goes on
            lakehouse.commit_updates(table, tuple(updates), tuple(required))
    marked_at = datetime.fromtimestamp(mark.timestamp_ms / 1000, UTC)
    return expire_snapshots(lakehouse, identifier, keep=1, older_than=marked_at, now=now), ()


def _lagging(lakehouse: Lakehouse, table: Table, mark: Snapshot) -> tuple[str, ...]:
    """Registered readers that go on from before the retention, those of a first computation under way among them."""
    since = {one.snapshot_id for one in ancestors(table) if (one.sequence_number or 0) < (mark.sequence_number or 0)}
    return tuple(reader for reader in readers_of(table) if stands_at(lakehouse, table, reader) in since)
