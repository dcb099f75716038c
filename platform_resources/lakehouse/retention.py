"""Retention: rows older than their term leave the table, then its history, so that no file of it holds one of them any more.

Files wholly past go as they are, by what the manifests say of them; of others the rows that stay are written anew. That is one OVERWRITE
snapshot on main and on every branch, marked in its summary. Then every snapshot goes that leads to a file with such rows, however they
left, whoever still wanted it: registered readers are waited for one day, tags and time travel are not.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.conversions import from_bytes
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.manifest import DataFile, DataFileContent, ManifestEntryStatus
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType
from pyiceberg.table.snapshots import Operation, Snapshot
from pyiceberg.table.update import (
    AssertRefSnapshotId,
    AssertTableUUID,
    RemoveSnapshotRefUpdate,
    SetPropertiesUpdate,
    TableRequirement,
    TableUpdate,
)
from pyiceberg.transforms import DayTransform, HourTransform
from pyiceberg.types import DateType, IcebergType, PrimitiveType, TimestampType, TimestamptzType

from platform_resources.errors import PlatformError
from platform_resources.failpoints import failpoint
from platform_resources.lakehouse.catalog import Lakehouse, LocalRequirement
from platform_resources.lakehouse.compaction import rewrite
from platform_resources.lakehouse.expiry import READING_TIME, Expired, readers_of, remove_snapshots, stands_at, without_readers
from platform_resources.lakehouse.file_io import delete_files
from platform_resources.lakehouse.files import FileTask, changed_entries, live_tasks, read_task
from platform_resources.lakehouse.partitions import column_at, path_of
from platform_resources.lakehouse.replacing import RETENTION, Swap, commit_swaps, in_schema, regroup_manifests
from platform_resources.lakehouse.stamp import (
    CARRIED,
    EPOCH,
    LAST_CHANGE,
    ancestors,
    changes_rows,
    format_instant,
    highest_epoch,
    parse_instant,
    read_epoch,
    read_stamp,
    summary_of,
)

ACTION = "retention"
FORGOTTEN = "sdp.forgotten-before"  # table property
PATIENCE = timedelta(days=1)  # with registered readers that have not yet seen what left
_ROUNDS = 3
_ATTEMPTS = 20
_DAY = timedelta(days=1)
_FIRST = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Term:
    """Rows are past when any of these columns (dotted names; a date or a timestamp) is before the cutoff; null is not.

    They leave in lots: none is begun before a row is past by more than `slack`.
    """

    columns: tuple[str, ...]
    cutoff: datetime
    slack: timedelta = timedelta(0)

    @property
    def overdue(self) -> Term:
        """The rows for which a lot is begun."""
        return Term(self.columns, self.cutoff - self.slack)

    def in_lots(self, table: Table) -> Term:
        """The term with its cutoff taken back to where a day (an hour, in tables by the hour) begins, UTC.

        So a partition leaves whole, unread, and what others count by the day is never counted from a half of it. A day where the slack
        allows one, or where the table is partitioned by the day that its rows age by.
        """
        ages = {table.schema().find_field(name).field_id for name in self.columns if name in table.schema().column_names}
        transforms = [one.transform for one in table.spec().fields if one.source_id in ages]
        if self.slack >= _DAY or any(isinstance(one, DayTransform) for one in transforms):
            lot = _DAY
        elif any(isinstance(one, HourTransform) for one in transforms):
            lot = timedelta(hours=1)
        else:
            return self
        since = (self.cutoff - _FIRST) % lot
        return replace(self, cutoff=self.cutoff - since, slack=max(timedelta(0), self.slack - lot))


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
    for branch in _branches(table):
        for _ in range(_ROUNDS):
            left, lost = _forget_on(lakehouse, identifier, term, branch, run_id)
            rows, files, size = rows + left[0], files + left[1], size + left[2]
            if not lost:
                break
    failpoint("retention-before-expiry")
    expired, waits_for = expire_past(lakehouse, identifier, term, run_id=run_id, now=now, patience=patience)
    return Forgotten(rows, files, size, expired, waits_for)


def _branches(table: Table) -> list[str]:
    """Main first."""
    names = [name for name, ref in table.metadata.refs.items() if ref.snapshot_ref_type == SnapshotRefType.BRANCH]
    return sorted(names, key=lambda name: (name != MAIN_BRANCH, name))


def overdue_files(table: Table, term: Term) -> dict[str, FileTask]:
    """Files of main and of the branches, by location, that hold rows (or may) for which a lot is begun."""
    found: dict[str, FileTask] = {}
    overdue = term.in_lots(table).overdue
    for branch in _branches(table):
        whole, partly = sorted_by_age(table, live_tasks(table.io, table.snapshot_by_name(branch), ".".join(table.name())), overdue)
        found |= {task.path: task for task in (*whole, *partly)}
    return found


def _forget_on(lakehouse: Lakehouse, identifier: str, term: Term, branch: str, run_id: str) -> tuple[tuple[int, int, int], bool]:
    """Rows, files and bytes that left one branch, and whether a writer was faster with some of them."""
    table = lakehouse.table(identifier)
    if table is None or (head := table.snapshot_by_name(branch)) is None:
        return (0, 0, 0), False
    schema_id = _schema_of(table, branch, term)
    table, lots = in_schema(table, schema_id), term.in_lots(table)
    tasks = live_tasks(table.io, head, identifier)
    if not any(sorted_by_age(table, tasks, lots.overdue)):
        return (0, 0, 0), False
    whole, partly = sorted_by_age(table, tasks, lots)
    swaps = [Swap((task,), ()) for task in whole]
    rows = {id(swap): task.data_file.record_count for swap, task in zip(swaps, whole, strict=True)}
    written: list[DataFile] = []
    try:
        for task in partly:
            if not (past := _rows_past(table, identifier, task, lots)):
                continue
            swap = rewrite(table, identifier, [task], _without_past(table.schema(), lots))
            written += swap.added
            swaps.append(swap)
            rows[id(swap)] = past
    except BaseException:
        delete_files(table.io, (file.file_path for file in written))
        raise
    if not swaps:
        return (0, 0, 0), False
    if branch == MAIN_BRANCH:
        _note(lakehouse, identifier, lots.cutoff)
    failpoint("retention-before-commit")
    result = commit_swaps(
        lakehouse, identifier, swaps, run_id=run_id, action=ACTION, operation=Operation.OVERWRITE, branch=branch,
        notes={RETENTION: format_instant(lots.cutoff)}, schema_id=schema_id,
    )  # fmt: skip
    kept = result.kept
    return (sum(rows[id(swap)] for swap in kept), len(kept), sum(swap.bytes for swap in kept)), bool(result.lost)


def _schema_of(table: Table, branch: str, term: Term) -> int:
    """The schema in which what stays on a branch is written: its own, where the table's spec and the term know their columns in it.

    A refused write may have columns that main never got.
    """
    current, head = table.metadata.current_schema_id, table.snapshot_by_name(branch)
    own = table.schemas().get(head.schema_id) if head is not None and head.schema_id is not None else None
    if branch == MAIN_BRANCH or own is None:
        return current
    known = set(own._name_to_id)  # noqa: SLF001
    sources = {one.source_id for one in table.spec().fields} | {one.source_id for one in table.metadata.sort_order().fields}
    return own.schema_id if known >= set(term.columns) and set(own._name_to_id.values()) >= sources else current  # noqa: SLF001


def _note(lakehouse: Lakehouse, identifier: str, cutoff: datetime) -> None:
    """Say in the table's properties up to when its rows have left: the snapshots that said so will expire."""
    for _ in range(_ATTEMPTS):
        table = lakehouse.table(identifier)
        if table is None or ((known := forgotten_before(table)) is not None and known >= cutoff):
            return
        update = SetPropertiesUpdate(updates={FORGOTTEN: format_instant(cutoff)})
        with suppress(CommitFailedException):
            lakehouse.commit_updates(table, (update,), (AssertTableUUID(uuid=table.metadata.table_uuid),))
            return
    raise PlatformError(
        "maintenance-crowded-out", f"{identifier} is being committed to by too many others.", "Maintain it again when it is quieter."
    )


def forgotten_before(table: Table) -> datetime | None:
    """Rows from before this time have left the table by retention; None when none ever did."""
    text = table.metadata.properties.get(FORGOTTEN)
    return None if text is None else parse_instant(text)


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


def _moment(snapshot: Snapshot) -> datetime:
    return datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC)


@dataclass(frozen=True)
class _Removal:
    """A file with rows past their term that left main: with which snapshot, and since when nobody is to reach it any more."""

    snapshot_id: int
    due: datetime


def _removals(table: Table, main: Sequence[Snapshot], term: Term, now: datetime) -> tuple[list[_Removal], set[int]]:
    """What left main, in its snapshots newest first, and the snapshots of main that still lead to it.

    Whatever left with a retention counts; of what writers and compaction replaced, that of which the bounds do not say it is young.
    """
    bounds = [_Bounds.of(table, name, term.cutoff) for name in term.columns]
    found, past = list[_Removal](), set[int]()
    for index, snapshot in enumerate(main[:-1]):
        summary = summary_of(snapshot)
        if snapshot.summary is not None and not int(summary.get("deleted-data-files", 0)):
            continue
        for entry in changed_entries(table.io, snapshot):
            file = entry.data_file
            if entry.status != ManifestEntryStatus.DELETED or file.content != DataFileContent.DATA:
                continue
            verdicts = {one.judge(file) for one in bounds}
            due = _moment(snapshot)
            if RETENTION not in summary:
                if not verdicts - {"young"}:
                    continue
                lowest = [low for one in bounds if one.judge(file) != "young" and (low := one.lowest(file)) is not None]
                due = max([due, *(now - (term.cutoff - low) for low in lowest)])
            found.append(_Removal(snapshot.snapshot_id, due))
            past |= {one.snapshot_id for one in main[index + 1 :] if (one.sequence_number or 0) >= (entry.file_sequence_number or 0)}
    return found, past


def history_past(table: Table, term: Term, *, now: datetime) -> set[int]:
    """Ids of snapshots that lead to files with rows for which a lot is begun, or which left with one. Heads of branches are not meant."""
    return _history(table, term, now)[1]


def _history(table: Table, term: Term, now: datetime) -> tuple[list[_Removal], set[int]]:
    overdue, main = term.in_lots(table).overdue, list(ancestors(table))
    removals, past = _removals(table, main, overdue, now)
    heads = {table.metadata.refs[name].snapshot_id for name in _branches(table)}
    aside = [one for one in table.metadata.snapshots if one.snapshot_id not in heads | {one.snapshot_id for one in main}]
    if aside:
        name = ".".join(table.name())
        kept = {task.path for branch in _branches(table) for task in live_tasks(table.io, table.snapshot_by_name(branch), name)}
        for snapshot in aside:
            tasks = [task for task in live_tasks(table.io, snapshot, name) if task.path not in kept]
            if any(sorted_by_age(table, tasks, overdue)):
                past.add(snapshot.snapshot_id)
    return removals, past


@dataclass(frozen=True)
class _Plan:
    """What of the history goes now: snapshots and the tags on them, readers that were waited for long enough; who is waited for."""

    gone: frozenset[int] = frozenset()
    tags: tuple[str, ...] = ()
    forgotten: tuple[str, ...] = ()
    waits_for: tuple[str, ...] = ()


def _plan(lakehouse: Lakehouse, table: Table, term: Term, now: datetime, patience: timedelta) -> _Plan:
    removals, past = _history(table, term, now)
    if not past:
        return _Plan()
    main = list(ancestors(table))
    order = [one.snapshot_id for one in main]
    needed, forgotten, waits = set[int](), list[str](), list[str]()
    for reader in readers_of(table):
        at = stands_at(lakehouse, table, reader)
        way = set(order[: order.index(at) + 1]) if at in order else set()
        if not past & way:
            continue
        unseen = [one.due for one in removals if one.snapshot_id in way and one.snapshot_id != at]
        if now - min(unseen, default=now) >= patience:
            forgotten.append(reader)
        else:
            waits.append(reader)
            needed |= way
    left = _left_lately(main, past, now - min(READING_TIME, term.slack)) if term.slack else 0
    if left:
        waits.append("queries that run")
        needed |= set(order[:left])
    first = next((index for index, one in enumerate(order) if one in past - needed), len(order))
    heads = {name: ref.snapshot_id for name, ref in table.metadata.refs.items()}
    gone = (past | set(order[first:])) - needed
    tags = tuple(name for name, one in heads.items() if one in (past - needed) and name not in _branches(table))
    return _Plan(frozenset(gone - {one for name, one in heads.items() if name not in tags}), tags, tuple(forgotten), tuple(waits))


def _left_lately(main: Sequence[Snapshot], past: Collection[int], since: datetime) -> int:
    """How many of main's newest snapshots a query may still read that began when one of those that are past was the head."""
    lately = [index for index, (after, one) in enumerate(pairwise(main)) if _moment(after) > since and one.snapshot_id in past]
    return max(lately) + 2 if lately else 0


def expire_past(
    lakehouse: Lakehouse, identifier: str, term: Term, *, run_id: str, now: datetime, patience: timedelta = PATIENCE
) -> tuple[Expired, tuple[str, ...]]:
    """Expire the history that leads to rows past their term, tags on it too; and who was waited for.

    Waited for is each registered reader that has not read past it, for the patience since the oldest of what left that it has not seen:
    then it is forgotten, recomputes, and registers again. Queries that run are left 10 minutes, where the slack is that long. What
    nobody waited for needs goes all the same.
    """
    plan = _Plan()
    for _ in range(_ROUNDS):
        table = lakehouse.table(identifier)
        if table is None:
            return Expired(), ()
        plan = _plan(lakehouse, table, term, now, patience)
        if _holds_stamps(table, plan.gone):
            epoch = highest_epoch(table)  # where it stands off main, whoever holds it must not meet it there
            raised = {EPOCH: str(epoch + (epoch != read_epoch(table)))} if epoch else {}
            regroup_manifests(lakehouse, identifier, run_id=run_id, notes=raised)
            continue
        updates: list[TableUpdate] = [RemoveSnapshotRefUpdate(ref_name=name) for name in plan.tags]
        required: list[TableRequirement | LocalRequirement] = [AssertTableUUID(uuid=table.metadata.table_uuid)]
        required += [AssertRefSnapshotId(ref=name, snapshot_id=table.metadata.refs[name].snapshot_id) for name in plan.tags]
        if plan.forgotten:
            update, same = without_readers(table, plan.forgotten)
            updates.append(update)
            required.append(same)
        if not updates:
            break
        with suppress(CommitFailedException):  # another was first: what it did may change the plan
            lakehouse.commit_updates(table, tuple(updates), tuple(required))
            break
    else:
        return Expired(), plan.waits_for  # the next maintenance goes on

    def chosen(table: Table) -> list[Snapshot]:
        planned = _plan(lakehouse, table, term, now, patience)
        gone = set[int]() if planned.tags or _holds_stamps(table, planned.gone) else planned.gone
        return [one for one in table.metadata.snapshots if one.snapshot_id in gone]

    return remove_snapshots(lakehouse, identifier, chosen), plan.waits_for


def _holds_stamps(table: Table, gone: Collection[int]) -> bool:
    """Whether something would be forgotten with these snapshots that the head of main does not repeat: a stamp, the highest epoch."""
    main = [one.snapshot_id for one in ancestors(table)]
    first = next((index for index, one in enumerate(main) if one in gone), len(main))
    told = next((one.snapshot_id for one in ancestors(table) if changes_rows(one) or LAST_CHANGE in summary_of(one)), None)
    carriers = [*(read_stamp(table, name)[1] for name in CARRIED), told]
    epochs = [int(summary_of(one).get(EPOCH, 0)) for one in table.metadata.snapshots if one.snapshot_id not in gone]
    return any(one in main[first:] for one in carriers) or highest_epoch(table) > max(epochs, default=0)
