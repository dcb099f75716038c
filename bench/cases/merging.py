"""Merging: `merge_on_read` and `copy_on_write`, a hundredth of the rows into a table of 30 day files, all of them touched.

Four fifths of the batch replace rows spread over all days, one fifth is new. The reference is what a merge that writes the touched files
again cannot do without: reading each with pyarrow and writing it with zstd at level 3, two files at a time. Ours is staged and
committed without an audit. Everybody's table is taken back to the same state before each measurement, which is not measured. Slow peers
are measured fewer times, each beside as many of ours.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from bench.cases import Case, Options, skipped
from bench.cases.writing import CODEC, LEVEL, Contender
from bench.edits import SCHEMA, reader
from bench.harness import Result, compare, interleaved, ratio
from bench.project import BY_DAY, write_project
from platform_resources.config import Settings
from platform_resources.contracts.iceberg import MergeRule, TableDefinition, table_definition
from platform_resources.errors import PlatformError
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.files import live_rows, live_tasks
from platform_resources.lakehouse.staging import StagedWrite, publish, stage_append, stage_merge
from platform_resources.lakehouse.stamp import Stamp
from platform_resources.parts import Parts

LIMIT = "pyarrow rewrite, 2 threads"
SLOW = {"pyiceberg": 1, "spark": 2}  # rounds of a peer that takes minutes
_numbers = itertools.count()


def batch_of(rows: int) -> pa.Table:
    """A hundredth of `rows`, in no order (seed 5): four fifths of known ids, one fifth of new ones."""
    draw = np.random.default_rng(5)
    many = max(5, rows // 100)
    known, new = np.sort(draw.choice(rows, many * 4 // 5, replace=False)), np.arange(rows, rows + many // 5)
    rests = np.sort(draw.choice(rows, len(new), replace=False))
    taken = {"known": list[pa.Table](), "new": list[pa.Table]()}
    start = 0
    for part in reader(rows):
        for name, wanted in (("known", known), ("new", rests)):
            first, last = np.searchsorted(wanted, (start, start + part.num_rows))
            taken[name].append(pa.Table.from_batches([part]).take(pa.array(wanted[first:last] - start)))
        start += part.num_rows
    fresh = pa.concat_tables(taken["new"]).set_column(0, SCHEMA.field("id"), pa.array(new))
    both = pa.concat_tables([*taken["known"], fresh]).combine_chunks()
    changed = both.set_column(4, SCHEMA.field("delta"), pa.array(np.full(both.num_rows, 7, np.int32)))
    return changed.take(pa.array(draw.permutation(both.num_rows)))


class Rewrite:
    """Every data file of the table, read and written again by pyarrow, two at a time."""

    def __init__(self, table: Table) -> None:
        self._io, self._paths = table.io, list[str]()
        self._folder = f"{table.location()}/rewrite"
        self._files = [task.path for task in live_tasks(table.io, table.current_snapshot(), "bench")]

    def reset(self) -> None:
        """Delete what was written."""
        delete_all(self._io, self._paths)
        self._paths.clear()

    def run(self) -> None:
        """Rewrite."""
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(self._one, self._files))

    def _one(self, path: str) -> None:
        out = f"{self._folder}/{next(_numbers)}.parquet"
        self._paths.append(out)
        with self._io.new_input(path).open() as source, self._io.new_output(out).create() as sink:
            pq.write_table(pq.ParquetFile(source).read(), sink, compression=CODEC, compression_level=LEVEL, store_schema=False)


class Returning:
    """A table that is taken back to its first state, and the files of what was done to it deleted."""

    def __init__(self, lakehouse: Lakehouse, definition: TableDefinition, rows: int) -> None:
        self.lakehouse, self.definition = lakehouse, definition
        publish(stage_append(lakehouse, definition, reader(rows), Stamp("base")))
        self._base = self.table.metadata.current_snapshot_id

    @property
    def table(self) -> Table:
        """As it is now."""
        found = self.lakehouse.table(self.definition.identifier)
        if found is None:
            raise RuntimeError(self.definition.identifier)
        return found

    def reset(self) -> None:
        """Back to the rows it began with."""
        table, base = self.table, self._base
        if base is None or table.metadata.current_snapshot_id == base:
            return
        before = _files(table, base)
        written = {path for one in table.metadata.snapshots for path in _files(table, one.snapshot_id)} - before
        table.manage_snapshots().rollback_to_snapshot(base).commit()
        late = [one.snapshot_id for one in table.metadata.snapshots if one.timestamp_ms > table.snapshot_by_id(base).timestamp_ms]  # type: ignore[union-attr]
        self.table.maintenance.expire_snapshots().by_ids(late).commit()
        delete_all(table.io, written)

    def close(self) -> None:
        """Drop it."""
        self.lakehouse.drop(self.definition.identifier)


class Platform(Returning):
    """Ours, by one strategy."""

    def __init__(self, lakehouse: Lakehouse, definition: TableDefinition, rows: int, batch: pa.Table, strategy: str) -> None:
        super().__init__(lakehouse, replace(definition, merge=MergeRule(strategy)), rows)
        self._batch, self._wanted = batch, rows + batch.num_rows - batch.num_rows * 4 // 5
        self.staged: StagedWrite | None = None

    def run(self) -> None:
        """Stage and commit."""
        self.staged = stage_merge(self.lakehouse, self.definition, self._batch, Stamp(f"m{next(_numbers)}"), keys=("id",))
        if publish(self.staged).table_rows != self._wanted:
            raise RuntimeError("the merge lost or doubled rows")


class Peer(Returning):
    """Somebody else who merges the batch into an Iceberg table of the same rows."""

    def __init__(
        self,
        lakehouse: Lakehouse,
        definition: TableDefinition,
        rows: int,
        merge: Callable[[Table], object],
        end: Callable[[], object] | None = None,
    ) -> None:
        super().__init__(lakehouse, definition, rows)
        self._merge, self._end, self._rows = merge, end, rows

    def run(self) -> None:
        """Merge."""
        self._merge(self.table)

    def reset(self) -> None:
        """Back to the rows it began with; what was merged must be whole."""
        head = self.table.current_snapshot()
        found = live_rows(head.summary.additional_properties) if head is not None and head.summary is not None else 0
        if found not in (self._rows, self._rows + max(5, self._rows // 100) // 5):
            raise RuntimeError(f"{self.definition.identifier} has {found} rows after its merge")
        super().reset()

    def close(self) -> None:
        """Drop the table and end what was started."""
        super().close()
        if self._end is not None:
            self._end()


class DuckTable:
    """DuckDB's MERGE into a table in its own storage."""

    def __init__(self, folder: Path, rows: int, batch: pa.Table) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._con = duckdb.connect(str(folder / f"merge-{next(_numbers)}.duckdb"))
        self._con.register("batch", batch)
        self._con.register("source", reader(rows))
        self._con.execute("CREATE TABLE base AS SELECT * FROM source")
        self._con.unregister("source")

    def reset(self) -> None:
        """The rows it began with."""
        self._con.execute("CREATE OR REPLACE TABLE edits AS SELECT * FROM base")
        self._con.execute("CHECKPOINT")

    def run(self) -> None:
        """Merge."""
        self._con.execute(MERGE.format(table="edits"))

    def close(self) -> None:
        """End the session."""
        self._con.close()


_SET = ", ".join(f"{name} = s.{name}" for name in SCHEMA.names)
MERGE = (
    "MERGE INTO {table} AS t USING batch AS s ON t.id = s.id "
    f"WHEN MATCHED THEN UPDATE SET {_SET} "
    f"WHEN NOT MATCHED THEN INSERT ({', '.join(SCHEMA.names)}) VALUES ({', '.join(f's.{name}' for name in SCHEMA.names)})"
)


def _files(table: Table, snapshot_id: int) -> set[str]:
    tasks = live_tasks(table.io, table.snapshot_by_id(snapshot_id), "bench")
    found: list[DataFile] = [file for task in tasks for file in (task.data_file, *task.deletes)]
    return {file.file_path for file in found}


def delete_all(io: FileIO, paths: Sequence[str] | set[str]) -> None:
    """Delete files, as far as they are there."""
    for path in paths:
        try:
            io.delete(path)
        except OSError:
            continue


def peers(options: Options, parts: Parts, batch: pa.Table, strategy: str) -> dict[str, Contender | str]:
    """Everybody else by name; a sentence for one who cannot take part."""
    definition = table_definition(parts.registry.get(f"bench/{BY_DAY}"))

    def peer(
        name: str, merge: Callable[[Table], object], more: Mapping[str, str] | None = None, end: Callable[[], object] | None = None
    ) -> Peer:
        properties = {**definition.properties, **(more or {})}
        own = replace(definition, identifier=f"bench.{name}_{strategy.replace('-', '_')}", properties=properties)
        return Peer(parts.lakehouse, own, options.rows, merge, end)

    found: dict[str, Contender | str] = {}
    if strategy == "copy-on-write":
        found["pyiceberg"] = peer("pyiceberg", lambda table: table.upsert(batch, join_cols=["id"]))
        found["duckdb table"] = DuckTable(options.folder / "duck", options.rows, batch)
    else:
        found["pyiceberg"] = "PyIceberg's upsert is copy-on-write only"
    found["duckdb"] = _duckdb(parts.settings, peer, batch, strategy)
    found["spark"] = _spark(parts.settings, peer, batch, strategy)
    return found


def _duckdb(settings: Settings, peer: Callable[..., Peer], batch: pa.Table, strategy: str) -> Contender | str:
    if strategy != "merge-on-read":
        return "DuckDB merges into Iceberg tables on read only"
    if settings.catalog_type != "rest":
        return "DuckDB writes Iceberg tables through a REST catalog only, and this run has none"
    from platform_resources.engines.duck import connect

    con = connect(settings)
    uri = settings.catalog_properties()["uri"]
    con.execute(f"ATTACH '{settings.catalog_name}' AS ice (TYPE iceberg, ENDPOINT '{uri}', AUTHORIZATION_TYPE 'none')")
    con.execute("SET ignore_target_file_size_for_partitioned_tables = true")  # else it refuses ours
    con.register("batch", batch)
    return peer("duckdb", lambda table: con.execute(MERGE.format(table=f"ice.{'.'.join(table.name())}")), end=con.close)


def _spark(settings: Settings, peer: Callable[..., Peer], batch: pa.Table, strategy: str) -> Contender | str:
    from platform_resources.engines.spark import Spark, from_arrow, table_name

    try:
        session = Spark(settings.model_copy(update={"spark_master": "local[2]"})).session
    except PlatformError as error:
        return str(error)
    # Spark takes no write mode from the session
    modes = {f"write.{what}.mode": strategy for what in ("merge", "update", "delete")}
    from_arrow(session, batch).createOrReplaceTempView("batch")

    def merge(table: Table) -> None:
        session.sql(MERGE.format(table=table_name(settings, ".".join(table.name()))))

    return peer("spark", merge, modes)


def _case(name: str, strategy: str) -> Case:
    def measure(options: Options) -> list[Result]:
        settings = options.settings()
        parts = Parts(settings, registry=write_project(settings.project))
        batch = batch_of(options.rows)
        definition = table_definition(parts.registry.get(f"bench/{BY_DAY}"))
        own = replace(definition, identifier=f"bench.ours_{strategy.replace('-', '_')}")
        ours = Platform(parts.lakehouse, own, options.rows, batch, strategy)
        things: dict[str, Contender] = {LIMIT: Rewrite(ours.table), "ours": ours}
        found = peers(options, parts, batch, strategy) if options.peers else {}
        absent = [skipped(name, peer, reason, options) for peer, reason in found.items() if isinstance(reason, str)]
        others = {peer: one for peer, one in found.items() if not isinstance(one, str)}
        quick = {peer: one for peer, one in others.items() if peer not in SLOW}
        try:
            seconds = _measured({**things, **quick}, options.repetitions, warm_up=1)
            lines = _lines(name, seconds, options, batch.num_rows)
            for peer in [one for one in others if one in SLOW]:
                few = _measured({**things, peer: others[peer]}, min(SLOW[peer], options.repetitions), warm_up=int(SLOW[peer] > 1))
                lines += [one for one in _lines(name, few, options, batch.num_rows) if one.peer == peer]
                lines[0] = replace(lines[0], speedup={**(lines[0].speedup or {}), peer: ratio(few[peer], few["ours"])})
        finally:
            for one in [*things.values(), *others.values()]:
                getattr(one, "close", one.reset)()
        return [*lines, *absent]

    return measure


def _measured(things: Mapping[str, Contender], rounds: int, *, warm_up: int) -> dict[str, list[float]]:
    return interleaved(
        {label: one.run for label, one in things.items()},
        rounds,
        before={label: functools.partial(_fresh, things) for label in things},
        warm_up=warm_up,
    )


def _fresh(things: Mapping[str, Any]) -> None:
    for one in things.values():
        one.reset()


def _lines(name: str, seconds: Mapping[str, Sequence[float]], options: Options, merged: int) -> list[Result]:
    compared = {one.name: replace(one, store=options.store) for one in compare(seconds, LIMIT, rows=merged)}
    others = [label for label in seconds if label not in ("ours", LIMIT)]
    own = replace(
        compared["ours"], name=name, rows=options.rows, speedup={peer: ratio(seconds[peer], seconds["ours"]) for peer in others} or None
    )
    rest = [replace(compared[label], name=name, rows=options.rows, peer="limit" if label == LIMIT else label) for label in (LIMIT, *others)]
    return [own, *rest]


CASES: Mapping[str, Case] = {
    "merge_on_read": _case("merge_on_read", "merge-on-read"),
    "copy_on_write": _case("copy_on_write", "copy-on-write"),
}
