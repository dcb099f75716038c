"""Merge by key: which rows of a batch win, where in the table's files their keys stand, and which of the two is newer.

Files are skipped by their key bounds, row groups by theirs, and only key columns are read. PyIceberg's `upsert` takes 14 to 160 times as
long on 10 million rows and makes two or three snapshots. How rows leave files is `deletes`', committing is `staging`'s.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.expressions.literals import literal
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema

from platform_resources.contracts.iceberg import MergeRule
from platform_resources.errors import PlatformError
from platform_resources.lakehouse.conforming import Conformer, arrow_schema_of, empty_rows
from platform_resources.lakehouse.deletes import THREADS
from platform_resources.lakehouse.files import FileTask, Positions, deleted_positions
from platform_resources.lakehouse.keys import KeyColumns, KeySet, Numbers, file_bounds, group_bounds
from platform_resources.lakehouse.parquet import Data, blocks


def refuse_duplicates(batch: pa.Table, columns: KeyColumns) -> None:
    """Hold that no key stands more than once in a batch of keys.

    Raises:
        PlatformError: `merge-duplicate-key`: which row should win cannot be told.
    """
    counted = batch.group_by(list(columns.names)).aggregate([([], "count_all")])
    if counted.num_rows == batch.num_rows:
        return
    double = counted.filter(pc.greater(counted.column("count_all"), 1))
    example = ", ".join(f"{name}={double.column(name)[0].as_py()!r}" for name in columns.names)
    counted_as = "key" if double.num_rows == 1 else "keys"
    raise PlatformError(
        "merge-duplicate-key",
        f"The data for {columns.identifier} has {double.num_rows} {counted_as} of {', '.join(columns.names)} more than once, "
        f"e.g. {example}.",
        "Keep one row per key in the transform, e.g. with QUALIFY row_number() OVER (PARTITION BY key ORDER BY ...) = 1, or declare the "
        "columns that tell the newest in the custom property sequence.",
    )


@dataclass(frozen=True)
class Resolved:
    """A batch held to its rule: at most one row per key, the newest, and none that is marked as deleted.

    `deleted` has the key and sequence columns of the marked rows, by their dotted names; `duplicates` counts the rows left out because
    a newer one of their key is in the same batch.
    """

    data: Data
    deleted: pa.Table | None = None
    duplicates: int = 0


def resolve(data: Data, schema: Schema, identifier: str, keys: Sequence[str], rule: MergeRule) -> Resolved:
    """Per key the row with the greatest sequence; of equal ones, the last given. Rows marked as deleted become keys to be deleted.

    The whole batch is looked at before a row is written: one that comes as a reader waits in a file meanwhile, so memory has only its
    keys.
    """
    if not rule.sequence and rule.marker is None:
        return Resolved(data)
    conformer = Conformer(identifier, schema)
    conformer.check(data.schema)
    table = _held(conformer, data)
    columns = KeyColumns.of(identifier, schema, keys)
    batch = columns.of_rows(table)
    sequence = KeyColumns.of(identifier, schema, rule.sequence).of_rows(table) if rule.sequence else None
    win = np.ones(table.num_rows, bool)
    if sequence is not None and not rule.of_batches:
        win = _winners(KeySet(batch).numbers(batch), sequence)
    gone = np.zeros(table.num_rows, bool)
    if rule.marker is not None:
        gone = _marked(table, schema, identifier, *rule.marker) & win
    keep = pa.array(win & ~gone)
    deleted = _beside(batch, sequence).filter(pa.array(gone)) if gone.any() else None
    return Resolved(_filtered(table, keep), deleted, int(np.count_nonzero(~win)))


def _beside(keys: pa.Table, sequence: pa.Table | None) -> pa.Table:
    for name in sequence.column_names if sequence is not None else ():
        if name not in keys.column_names:
            keys = keys.append_column(name, sequence.column(name))  # type: ignore[union-attr]
    return keys


def _held(conformer: Conformer, data: Data) -> pa.Table:
    """The batch in the table's types; a reader's through a file that is unlinked at once and mapped into memory."""
    if isinstance(data, pa.Table):
        return conformer.conform(data)
    with tempfile.NamedTemporaryFile(suffix=".arrow") as file:
        with pa.ipc.new_file(file.name, conformer.target) as writer:
            for block in blocks(data):
                writer.write_table(conformer.conform(block))
        return pa.ipc.open_file(pa.memory_map(file.name)).read_all()


def _filtered(table: pa.Table, keep: pa.Array) -> pa.RecordBatchReader:
    def left() -> Iterator[pa.RecordBatch]:
        start = 0
        for batch in table.to_batches(max_chunksize=1 << 17):
            yield batch.filter(keep.slice(start, batch.num_rows))
            start += batch.num_rows

    return pa.RecordBatchReader.from_batches(table.schema, left())


def _winners(numbers: Numbers, sequence: pa.Table) -> npt.NDArray[np.bool_]:
    """Per row whether it is its key's last, by sequence and then by its place in the batch."""
    columns = {"key": pa.array(numbers), **{f"s{index}": column for index, column in enumerate(sequence.columns)}}
    columns["place"] = pa.array(np.arange(len(numbers)))
    order = np.asarray(pc.sort_indices(pa.table(columns), sort_keys=[(name, "ascending", "at_start") for name in columns]))
    last = np.append(np.diff(numbers[order]) != 0, True) if len(order) else np.zeros(0, bool)
    win = np.zeros(len(numbers), bool)
    win[order[last]] = True
    return win


def _marked(table: pa.Table, schema: Schema, identifier: str, name: str, value: str | None) -> npt.NDArray[np.bool_]:
    column = KeyColumns.of(identifier, schema, [name]).of_rows(table).column(0)
    if value is not None:
        wanted = literal(value).to(schema.find_type(name)).value
        column = pc.equal(column, pa.scalar(wanted, column.type))
    return np.asarray(pc.fill_null(column, False))


def newer(one: pa.Table, other: pa.Table) -> npt.NDArray[np.bool_]:
    """Row by row, whether the sequence of `one` is greater than that of `other`; the first column counts most, null is the least."""
    result = np.zeros(one.num_rows, bool)
    undecided = np.ones(one.num_rows, bool)
    for mine, theirs in zip(one.columns, other.columns, strict=True):
        null, others_null = np.asarray(pc.is_null(mine)), np.asarray(pc.is_null(theirs))
        greater = np.asarray(pc.fill_null(pc.greater(mine, theirs), False)) | (~null & others_null)
        equal = np.asarray(pc.fill_null(pc.equal(mine, theirs), False)) | (null & others_null)
        result |= undecided & greater
        undecided &= equal
    return result


@dataclass(frozen=True)
class Hits:
    """Rows of one data file whose key is asked for, whether or not deletes have taken them: a file's never change."""

    positions: Positions
    numbers: Numbers
    sequence: pa.Table | None

    def live(self, deleted: Positions) -> Hits:
        """Those not deleted."""
        if not len(deleted) or not len(self.positions):
            return self
        keep = ~np.isin(self.positions, deleted, assume_unique=True)
        sequence = self.sequence.filter(pa.array(keep)) if self.sequence is not None else None
        return Hits(self.positions[keep], self.numbers[keep], sequence)


@dataclass
class Merge:
    """What a merge asks of a table, and where it found it, from the first staging through every restage.

    Args:
        keys: names of the key columns.
        rule: what wins, see `MergeRule`.
        delete_keys: keys that go whatever their sequence.
        replace: rows of the batch replace all rows of their keys, whatever their sequence; a key may stand several times.
        deleted: of the batch's rows that are marked as deleted, keys and sequence.
        covered: the batch has no key that `delete_keys` does not name, so its own keys, a row each, are not read.
    """

    keys: tuple[str, ...]
    rule: MergeRule
    delete_keys: pa.Table | None = None
    replace: bool = False
    deleted: pa.Table | None = None
    covered: bool = False
    affected: KeySet | None = None
    ignored: int = 0
    _written: dict[str, Numbers] = field(default_factory=dict)
    _sequence: pa.Table | None = None
    _hits: dict[str, Hits] = field(default_factory=dict)

    @property
    def conditional(self) -> bool:
        """Whether a row of the table that is newer than the batch's stays."""
        return bool(self.rule.sequence) and not self.replace

    def forget(self) -> None:
        """The batch's files were written again: their rows stand elsewhere."""
        self.affected = None
        self._hits.clear()

    def find(
        self, io: FileIO, identifier: str, schema: Schema, files: Sequence[DataFile], live: Sequence[FileTask]
    ) -> tuple[dict[str, tuple[FileTask, Positions]], dict[str, Positions]]:
        """The rows of live files that leave, by location, and the rows of the batch's own files that are too old to be written."""
        columns = KeyColumns.of(identifier, schema, self.keys)
        sequence = KeyColumns.of(identifier, schema, self.rule.sequence) if self.conditional else None
        if self.affected is None:
            self._read_batch(io, columns, sequence, files)
        found = self._find(io, columns, sequence, live)
        lost = self._lost(found) if sequence is not None else None
        if lost is not None and lost.any():
            found = [(task, Hits(hits.positions[keep], hits.numbers, None)) for task, hits in found for keep in [~lost[hits.numbers]]]
            self.ignored = int(np.count_nonzero(lost))
        else:
            self.ignored = 0
        doomed = {task.path: (task, hits.positions) for task, hits in found if len(hits.positions)}
        late = {path: np.flatnonzero(lost[numbers]) for path, numbers in self._written.items()} if lost is not None else {}
        return doomed, {path: positions for path, positions in late.items() if len(positions)}

    def _read_batch(self, io: FileIO, columns: KeyColumns, sequence: KeyColumns | None, files: Sequence[DataFile]) -> None:
        files = () if self.covered else files
        read = [_read_keys(io, file.file_path, columns, sequence) for file in files]
        empty = columns.of_rows(empty_rows(arrow_schema_of(columns.narrow)))
        batch = pa.concat_tables([empty, *(keys for keys, _ in read)])
        if not self.replace:
            refuse_duplicates(batch, columns)
        marked = [self.deleted.select(list(columns.names))] if self.deleted is not None else []
        given = [columns.of_given(self.delete_keys)] if self.delete_keys is not None else []
        self.affected = KeySet(pa.concat_tables([batch, *marked, *given]))
        numbers = [self.affected.numbers(keys) for keys, _ in read]
        self._written = {file.file_path: one for file, one in zip(files, numbers, strict=True)}
        if sequence is not None:
            parts = [one for _, one in read if one is not None]
            parts += [self.deleted.select(list(sequence.names))] if self.deleted is not None else []
            own = np.concatenate([*numbers, *(self.affected.numbers(keys) for keys in marked)]) if parts else np.zeros(0, np.int64)
            where = np.full(len(self.affected), -1)
            where[own] = np.arange(len(own))
            for keys in given:
                where[self.affected.numbers(keys)] = -1  # they go whatever their sequence
            self._where, self._sequence = where, pa.concat_tables(parts) if parts else None

    _where: Numbers = field(default_factory=lambda: np.zeros(0, np.int64))

    def _find(self, io: FileIO, columns: KeyColumns, sequence: KeyColumns | None, live: Sequence[FileTask]) -> list[tuple[FileTask, Hits]]:
        affected = self.affected
        assert affected is not None  # noqa: S101 - `find` has read it
        near = [task for task in live if task.path in self._hits or affected.may_touch(file_bounds(task.data_file, columns))]

        def hits(task: FileTask) -> Hits:
            known = self._hits.get(task.path)
            raw = known if known is not None else _scan(io, task.path, affected, columns, sequence)
            self._hits[task.path] = raw
            return raw.live(deleted_positions(io, task.path, task.deletes)) if task.deletes and len(raw.positions) else raw

        with ThreadPoolExecutor(THREADS) as pool:
            return list(zip(near, pool.map(hits, near), strict=True))

    def _lost(self, found: Sequence[tuple[FileTask, Hits]]) -> npt.NDArray[np.bool_]:
        """Per key of the set, whether the table has a newer row of it than the batch."""
        lost = np.zeros(len(self.affected or ()), bool)
        for _, hits in found:
            compared = np.flatnonzero(self._where[hits.numbers] >= 0)
            if not len(compared) or hits.sequence is None or self._sequence is None:
                continue
            mine = self._sequence.take(pa.array(self._where[hits.numbers[compared]]))
            older = newer(hits.sequence.take(pa.array(compared)), mine)
            lost[hits.numbers[compared[older]]] = True
        return lost


def _read_keys(io: FileIO, path: str, columns: KeyColumns, sequence: KeyColumns | None) -> tuple[pa.Table, pa.Table | None]:
    """The keys, and the sequence, of all rows of a data file."""
    parts = [(keys, extra) for _, keys, extra in _key_blocks(io, path, None, columns, sequence)]
    keys = pa.concat_tables([one for one, _ in parts])
    return keys, pa.concat_tables([one for _, one in parts if one is not None]) if sequence is not None else None


def _scan(io: FileIO, path: str, affected: KeySet, columns: KeyColumns, sequence: KeyColumns | None) -> Hits:
    positions, numbers, sequences = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], []
    for start, keys, extra in _key_blocks(io, path, affected, columns, sequence):
        found, known = affected.find(keys)
        positions.append(found + start)
        numbers.append(known)
        if extra is not None:
            sequences.append(extra.take(pa.array(found)))
    return Hits(np.concatenate(positions), np.concatenate(numbers), pa.concat_tables(sequences) if sequences else None)


def _key_blocks(
    io: FileIO, path: str, affected: KeySet | None, columns: KeyColumns, sequence: KeyColumns | None
) -> Iterator[tuple[int, pa.Table, pa.Table | None]]:
    """Row group by row group: position of the first row, keys, sequence. Row groups that hold none of the keys asked for are left out."""
    wanted = columns if sequence is None else KeyColumns.of(columns.identifier, columns.schema, (*columns.names, *sequence.names))
    conformer = Conformer(columns.identifier, wanted.narrow, lenient=True)
    with io.new_input(path).open() as stream:
        file = pq.ParquetFile(stream)
        leaves = {file.schema.column(index).path: index for index in range(len(file.schema))}
        have = [name for name in dict.fromkeys(wanted.names) if name in leaves]
        start = 0
        for index in range(file.metadata.num_row_groups):
            group = file.metadata.row_group(index)
            if affected is None or affected.may_touch(group_bounds(group, leaves, columns)):
                rows = file.read_row_group(index, columns=have, use_threads=False) if have else _absent(group.num_rows)
                rows = conformer.conform(rows)
                yield start, columns.of_rows(rows), sequence.of_rows(rows) if sequence is not None else None
            start += group.num_rows


def _absent(rows: int) -> pa.Table:
    """Rows of a file that is older than all key columns: nothing but their number."""
    return pa.table({"": pa.nulls(rows)})
