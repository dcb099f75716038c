"""Compaction: small files of a partition become few of the target size, deleted rows leave, rows are sorted, old partition specs go.

Which files are worth it is decided by sizes alone, so that what a byte costs over its life stays logarithmic. The swap itself, and who
wins against a writer, is `replacing`'s.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table, TableProperties

from platform_resources.failpoints import failpoint
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.conforming import arrow_schema_of
from platform_resources.lakehouse.file_io import delete_files
from platform_resources.lakehouse.files import FileTask, live_tasks, partition_key, read_task
from platform_resources.lakehouse.parquet import DataFileWriter
from platform_resources.lakehouse.partitions import split
from platform_resources.lakehouse.replacing import Swap, commit_swaps

SMALL = 0.5  # a file below this share of the target size is small
HOT = timedelta(hours=1)  # a partition written to more lately gets more small files soon
HOT_FILES, COLD_FILES = 5, 2  # fewest small files worth a rewrite
DELETED_SHARE = 0.1  # of a file's rows; below it, reading the deletes is cheaper than rewriting the file
COMMIT_BYTES = 1 << 30  # rewritten before it is committed: what a lost race or a kill costs at most
GROUP_FILES = 8  # of the target size, rewritten together
SORT_BYTES = 256 << 20  # rows sorted at once


@dataclass(frozen=True)
class Group:
    """Files of one partition to be rewritten together, and why: `small`, `deletes` or `spec`."""

    tasks: tuple[FileTask, ...]
    reason: str

    @property
    def bytes(self) -> int:
        """Of the data files."""
        return sum(task.data_file.file_size_in_bytes for task in self.tasks)


@dataclass(frozen=True)
class Compacted:
    """What a compaction did: files and bytes before and after, groups that lost to writers, and whether all of it was done."""

    files_before: int = 0
    files_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    lost: int = 0
    complete: bool = True


def target_bytes(table: Table) -> int:
    """The size that a data file of the table shall have."""
    default = TableProperties.WRITE_TARGET_FILE_SIZE_BYTES_DEFAULT
    return int(table.metadata.properties.get(TableProperties.WRITE_TARGET_FILE_SIZE_BYTES, default))


def is_small(file: DataFile, target: int) -> bool:
    """Whether a file is far below the target size."""
    return file.file_size_in_bytes < SMALL * target


def deleted_rows(task: FileTask) -> int:
    """At most this many rows of a data file are deleted; a delete file about several data files counts for each."""
    return min(task.data_file.record_count, sum(one.record_count for one in task.deletes))


def plan_compaction(table: Table, tasks: Sequence[FileTask], *, now: datetime) -> list[Group]:
    """Groups worth rewriting, the smallest files first.

    Small files are merged only with as many bytes as they have themselves: whenever a byte is rewritten, the file it lands in has at
    least doubled, so no stream of tiny commits costs more than the logarithm of the target size.
    """
    target = target_bytes(table)
    first_hot = _first_hot(table, now)
    spec_id = table.metadata.default_spec_id
    parts: dict[Any, list[FileTask]] = defaultdict(list)
    for task in tasks:
        parts[task.data_file.spec_id, partition_key(task.data_file.partition)].append(task)
    # old and new code that write side by side make either spec the default in turn: none is old before it rests
    written = {task.data_file.spec_id for task in tasks if task.sequence_number >= first_hot}
    groups: list[Group] = []
    for (of_spec, _), files in parts.items():
        hot = max(task.sequence_number for task in files) >= first_hot
        if of_spec != spec_id:
            if of_spec not in written:
                groups += _bins(files, target, "spec")
            continue
        dirty = [task for task in files if deleted_rows(task) >= max(1, DELETED_SHARE * task.data_file.record_count)]
        small = [task for task in files if task not in dirty and is_small(task.data_file, target)]
        merged = _tier(small, HOT_FILES if hot else COLD_FILES)
        groups += _bins(dirty, target, "deletes") if dirty else []
        groups += _bins(merged, target, "small")
    return sorted(groups, key=lambda group: group.bytes / len(group.tasks))


def _first_hot(table: Table, now: datetime) -> float:
    """The lowest sequence number of the snapshots that are young."""
    since = (now - HOT).timestamp() * 1000
    young = [one.sequence_number or 0 for one in table.metadata.snapshots if one.timestamp_ms >= since]
    return min(young, default=float("inf"))


def _tier(small: list[FileTask], least: int) -> list[FileTask]:
    """The longest run of the smallest files in which each is at most as large as all before it together."""
    small = sorted(small, key=lambda task: (task.data_file.file_size_in_bytes, task.path))
    best, total = 0, 0
    for index, task in enumerate(small):
        size = task.data_file.file_size_in_bytes
        if index and size <= total:
            best = index + 1
        total += size
    return small[:best] if best >= least else []


def _bins(tasks: list[FileTask], target: int, reason: str) -> Iterator[Group]:
    """Tasks in the order given, cut into groups of some files of the target size: small ones shrink when they are merged, so how many they
    make only the writer knows, which begins a new file at the target size.
    """
    held: list[FileTask] = []
    size = 0
    for task in tasks:
        if held and size + task.data_file.file_size_in_bytes > GROUP_FILES * target:
            yield _group(held, reason)
            held, size = [], 0
        held.append(task)
        size += task.data_file.file_size_in_bytes
    if held and (reason != "small" or len(held) > 1):
        yield _group(held, reason)


def _group(tasks: list[FileTask], reason: str) -> Group:
    """In the order in which they were written: neighbours in time are alike, and take less room together."""
    return Group(tuple(sorted(tasks, key=lambda task: (task.sequence_number, task.path))), reason)


def compact(
    lakehouse: Lakehouse,
    identifier: str,
    *,
    run_id: str,
    now: datetime,
    deadline: float | None = None,
    on_commit: Callable[[Compacted], None] = lambda _done: None,
) -> Compacted:
    """Rewrite what is worth it, group by group, committing after each GiB.

    Args:
        lakehouse: where the table is.
        identifier: `domain.product`; a table that does not exist has nothing to compact.
        run_id: stands in the snapshots.
        now: the time by which a partition counts as quiet.
        deadline: on the clock of `time.monotonic`; after it no further group is begun.
        on_commit: told of each commit.
    """
    table = lakehouse.table(identifier)
    if table is None:
        return Compacted()
    groups = plan_compaction(table, live_tasks(table.io, table.current_snapshot(), identifier), now=now)
    done, waiting = Compacted(), list[Swap]()
    try:
        for number, group in enumerate(groups, 1):
            if deadline is not None and time.monotonic() >= deadline:
                done = replace(done, complete=False)
                groups = groups[: number - 1]
            else:
                waiting.append(rewrite(table, identifier, group.tasks))
                failpoint("compaction-after-group")
            if waiting and (number >= len(groups) or sum(swap.bytes for swap in waiting) >= COMMIT_BYTES):
                swaps, waiting = waiting, []  # from here `replacing` looks after their files
                done = _committed(lakehouse, identifier, swaps, run_id, done, on_commit)
            if number >= len(groups):
                break
    except BaseException:
        delete_files(table.io, (file.file_path for swap in waiting for file in swap.added))
        raise
    return done


def _committed(
    lakehouse: Lakehouse, identifier: str, swaps: Sequence[Swap], run_id: str, done: Compacted, told: Callable[[Compacted], None]
) -> Compacted:
    result = commit_swaps(lakehouse, identifier, swaps, run_id=run_id, action="compact")
    removed = [task.data_file for swap in result.kept for task in swap.removed]
    added = [file for swap in result.kept for file in swap.added]
    step = Compacted(len(removed), len(added), _size(removed), _size(added), len(result.lost))
    told(step)
    return Compacted(
        done.files_before + step.files_before, done.files_after + step.files_after, done.bytes_before + step.bytes_before,
        done.bytes_after + step.bytes_after, done.lost + step.lost, done.complete and not step.lost,
    )  # fmt: skip


def _size(files: Iterable[DataFile]) -> int:
    return sum(file.file_size_in_bytes for file in files)


def rewrite(table: Table, identifier: str, tasks: Sequence[FileTask], keep: Callable[[pa.Table], pa.Table] = lambda rows: rows) -> Swap:
    """The rows of tasks, deletes applied, written anew in the table's schema, spec and order; `keep` may leave rows out.

    Memory is bounded by what is sorted at once and the writer's blocks, whatever the size of the files. A partition's rows go into one
    file after another: side by side on many cores they would make as many small ones as there were, again and again.
    """
    schema = table.schema()

    def batches() -> Iterator[pa.RecordBatch]:
        blocks = (keep(block) for task in tasks for block in read_task(table.io, task, schema, identifier))
        for block in _in_runs(blocks, table):
            yield from block.to_batches()

    reader = pa.RecordBatchReader.from_batches(arrow_schema_of(schema), batches())
    written = DataFileWriter(table.io, table.metadata, identifier, lenient=True, lanes=1).write(reader)
    return Swap(tuple(tasks), tuple(written), table.metadata.default_spec_id)


def _in_runs(blocks: Iterator[pa.Table], table: Table) -> Iterator[pa.Table]:
    """Blocks as they come; where the table has a sort order, longer runs of sorted rows."""
    order = table.metadata.sort_order()
    if not order.fields:
        yield from blocks
        return
    held, size = list[pa.Table](), 0

    def run() -> Iterator[pa.Table]:
        if held:
            yield from (part.rows for part in split(pa.concat_tables(held), table.spec(), table.schema(), order))

    for block in blocks:
        held.append(block)
        size += block.nbytes
        if size >= SORT_BYTES:
            yield from run()
            held, size = [], 0
    yield from run()
