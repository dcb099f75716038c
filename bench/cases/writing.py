"""Writing: `append`, `partitioned_clustered` (by day, in order of time), `partitioned_shuffled`, `partitions_480` (day and 16 buckets).

The limit is pyarrow's Parquet writer with two threads and two files: no table, no partitions, no commit. Everybody gets the same rows
from memory and writes zstd at level 3. Ours is an asset materialised by Dagster through the real IO manager over a record batch
reader; its seconds are without the audit's, which stand beside them. Peak memory is that of a process that writes rows it makes as it
goes.
"""

from __future__ import annotations

import functools
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.table import Table

import io_managers.iceberg as iceberg_io
from bench.cases import Case, Options, settings_of, skipped
from bench.edits import Order, batches, days, reader
from bench.harness import Result, compare, interleaved, ratio, resident_mb
from bench.project import BUCKETS, BY_DAY, BY_DAY_AND_BUCKET, PLAIN, write_project
from platform_resources.config import Settings
from platform_resources.contracts.iceberg import TableDefinition, table_definition
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.parts import Parts

LIMIT = "pyarrow Parquet, 2 threads"
CODEC, LEVEL = "zstd", 3
_MOST_IN_MEMORY = 20_000_000  # rows; more are mapped from a file
_QUIET = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
_numbers = itertools.count()


class Contender(Protocol):
    """Somebody who writes the rows once per `run`; `reset` forgets what the last run wrote and is not measured."""

    def reset(self) -> None:
        """Make ready for the next run."""

    def run(self) -> float | None:
        """Write the rows; the seconds that count, None for all of them."""


class Limit:
    """Two Parquet files of half the rows each, written at the same time through the table's own file access."""

    def __init__(self, lakehouse: Lakehouse, rows: pa.Table) -> None:
        self._rows, self._paths = rows, list[str]()
        self._folder = f"{lakehouse.settings.warehouse_uri}/limit"
        self._io = file_access(lakehouse)

    def reset(self) -> None:
        """Delete the files."""
        while self._paths:
            self._io.delete(self._paths.pop())

    def run(self) -> None:
        """Write both halves."""
        half = self._rows.num_rows // 2
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(self._write, (self._rows.slice(0, half), self._rows.slice(half))))

    def _write(self, rows: pa.Table) -> None:
        path = f"{self._folder}/{next(_numbers)}.parquet"
        self._paths.append(path)
        with self._io.new_output(path).create() as stream:
            pq.write_table(rows, stream, compression=CODEC, compression_level=LEVEL, store_schema=False)


class Platform:
    """An asset that returns a reader, materialised through the IO manager. `audits` are the seconds of each run's audit."""

    def __init__(self, parts: Parts, key: str, make: Callable[[], pa.RecordBatchReader]) -> None:
        self._parts, self._contract = parts, parts.registry.get(key)
        self.audits: list[float] = []

        @dg.asset(key=key.split("/"), io_manager_key="io_manager")
        def edits() -> pa.RecordBatchReader:
            return make()

        self._asset = edits

    def reset(self) -> None:
        """An empty table."""
        self._parts.lakehouse.drop(self._contract.identifier)
        self._parts.lakehouse.create(table_definition(self._contract))

    def run(self) -> float:
        """One run; its seconds without the audit."""
        audited, taken = iceberg_io.audit_staged, list[float]()

        @functools.wraps(audited)
        def timed(*given: Any) -> Any:
            start = time.perf_counter()
            try:
                return audited(*given)
            finally:
                taken.append(time.perf_counter() - start)

        iceberg_io.audit_staged = timed
        start = time.perf_counter()
        try:
            dg.materialize([self._asset], resources={"io_manager": iceberg_io.IcebergIOManager(self._parts)}, run_config=_QUIET)
        finally:
            iceberg_io.audit_staged = audited
        self.audits.append(sum(taken))
        return time.perf_counter() - start - self.audits[-1]


@dataclass
class Peer:
    """Another writer into a table of the same definition: `write` gets the table as it is now."""

    lakehouse: Lakehouse
    definition: TableDefinition
    write: Callable[[Table], object]

    def reset(self) -> None:
        """An empty table."""
        self.lakehouse.drop(self.definition.identifier)
        self.lakehouse.create(self.definition)

    def run(self) -> None:
        """Load the table and write."""
        self.write(self.lakehouse.catalog.load_table(self.definition.identifier))


def file_access(lakehouse: Lakehouse) -> FileIO:
    """The file access of a lakehouse's tables, without a table."""
    return lakehouse.catalog._load_file_io(location=lakehouse.settings.warehouse_uri)  # type: ignore[no-any-return]  # noqa: SLF001


def rows_of(options: Options, order: Order) -> pa.Table:
    """The rows in memory; beyond 20 million mapped from a file, so that they may be more than fit."""
    if options.rows <= _MOST_IN_MEMORY:
        return reader(options.rows, order).read_all()
    path = options.folder / f"{order}.arrow"
    if not path.exists():
        source = reader(options.rows, order)
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, source.schema) as writer:
            for batch in source:
                writer.write_batch(batch)
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def _case(name: str, product: str, order: Order) -> Case:
    """Ours and everybody else's seconds for one way to partition and one order of the rows."""

    def measure(options: Options) -> list[Result]:
        settings = options.settings()
        parts = Parts(settings, registry=write_project(settings.project))
        rows = rows_of(options, order)
        ours = Platform(parts, f"bench/{product}", rows.to_reader)
        things: dict[str, Contender] = {LIMIT: Limit(parts.lakehouse, rows), "ours": ours}
        absent: list[Result] = []
        if options.peers:
            found = peers(options, parts, product, rows, order)
            things.update({peer: one for peer, one in found.items() if not isinstance(one, str)})
            absent = [skipped(name, peer, reason, options) for peer, reason in found.items() if isinstance(reason, str)]
        seconds = interleaved(
            {label: one.run for label, one in things.items()},
            options.repetitions,
            before={label: functools.partial(_tidy, one, things) for label, one in things.items()},
        )
        _end(things)
        return [*_lines(name, seconds, ours, options, product, order), *absent]

    return measure


def _tidy(next_one: Contender, things: Mapping[str, Contender]) -> None:
    """Forget everybody's files before each measurement: the disk shall hold one write at a time."""
    for one in things.values():
        if one is not next_one:
            one.reset()
    next_one.reset()


def _end(things: Mapping[str, Contender]) -> None:
    for one in things.values():
        close = getattr(one, "close", None)
        (close or one.reset)()


def _lines(name: str, seconds: Mapping[str, list[float]], ours: Platform, options: Options, product: str, order: Order) -> list[Result]:
    compared = {one.name: one for one in compare(seconds, LIMIT, rows=options.rows)}
    audits = sorted(ours.audits[-options.repetitions :])
    others = [label for label in seconds if label not in ("ours", LIMIT)]
    memory = peak_memory(options, product, order)
    own = replace(
        compared["ours"],
        name=name,
        store=options.store,
        audit_seconds=audits[len(audits) // 2],
        peak_mb=memory["peak_mb"],
        baseline_mb=memory["baseline_mb"],
        speedup={peer: ratio(seconds[peer], seconds["ours"]) for peer in others} or None,
    )
    rest = [
        replace(compared[label], name=name, peer="limit" if label == LIMIT else label, store=options.store)
        for label in seconds
        if label != "ours"
    ]
    return [own, *rest]


# ---- peers -------------------------------------------------------------------------------------------------------------------------


def peers(options: Options, parts: Parts, product: str, rows: pa.Table, order: Order) -> dict[str, Contender | str]:
    """Everybody else by name; a sentence for one who cannot take part."""
    definition = table_definition(parts.registry.get(f"bench/{product}"))

    def peer(name: str, write: Callable[[Table], object]) -> Peer:
        return Peer(parts.lakehouse, replace(definition, identifier=f"bench.{name}_{product}"), write)

    return {
        "pyiceberg": peer("pyiceberg", lambda table: table.append(rows)),
        "polars": _polars(peer, rows) if options.store == "folder" else "measured on a folder only",
        **_duckdb(options, parts, product, rows),
        "dagster-iceberg": _dagster_iceberg(options, product, order),
    }


def _polars(peer: Callable[[str, Callable[[Table], object]], Peer], rows: pa.Table) -> Peer:
    import polars as pl

    frame = pl.from_arrow(rows)
    if not isinstance(frame, pl.DataFrame):
        raise TypeError("a table is a frame")

    def sink(table: Table) -> None:
        frame.lazy().sink_iceberg(table, mode="append", compression="zstd", compression_level=LEVEL)

    return peer("polars", sink)


def _duckdb(options: Options, parts: Parts, product: str, rows: pa.Table) -> dict[str, Contender | str]:
    native: Contender | str = "DuckDB writes Iceberg tables through a REST catalog only, and this run has none"
    if parts.settings.catalog_type == "rest":
        native = DuckNative(parts, product, rows)
    if options.store != "folder":
        return {"duckdb copy": "measured on a folder only", "duckdb": native}
    return {"duckdb copy": DuckCopy(options.folder / "copy", product, rows), "duckdb": native}


class DuckCopy:
    """DuckDB's COPY to Parquet files, by partition where there are any: no table, no commit."""

    def __init__(self, folder: Path, product: str, rows: pa.Table) -> None:
        import duckdb

        self._folder = folder
        self._con = duckdb.connect()
        self._con.execute("SET TimeZone = 'UTC'")
        by = {PLAIN: [], BY_DAY: ["day"], BY_DAY_AND_BUCKET: ["day", "bucket"]}[product]
        self._con.register("edits", rows.append_column("day", days(rows)) if by else rows)
        columns = "*" if "bucket" not in by else f"*, hash(id) % {BUCKETS} AS bucket"
        how = f"FORMAT parquet, COMPRESSION {CODEC}, COMPRESSION_LEVEL {LEVEL}"
        how += f", PARTITION_BY ({', '.join(by)}), OVERWRITE_OR_IGNORE" if by else ", PER_THREAD_OUTPUT"
        self._sql = f"COPY (SELECT {columns} FROM edits) TO '{folder}' ({how})"

    def reset(self) -> None:
        """Delete the files."""
        import shutil

        shutil.rmtree(self._folder, ignore_errors=True)

    def run(self) -> None:
        """Copy."""
        self._con.execute(self._sql)


class DuckNative:
    """DuckDB's own INSERT into an Iceberg table of a REST catalog."""

    def __init__(self, parts: Parts, product: str, rows: pa.Table) -> None:
        from platform_resources.engines.duck import connect

        self._lakehouse = parts.lakehouse
        definition = table_definition(parts.registry.get(f"bench/{product}"))
        self._definition = replace(definition, identifier=f"bench.duckdb_{product}")
        self._con = connect(parts.settings)
        uri = parts.settings.catalog_properties()["uri"]
        self._con.execute(f"ATTACH '{parts.settings.catalog_name}' AS ice (TYPE iceberg, ENDPOINT '{uri}', AUTHORIZATION_TYPE 'none')")
        self._con.execute("SET ignore_target_file_size_for_partitioned_tables = true")  # else it refuses ours
        self._con.register("edits", rows)

    def reset(self) -> None:
        """An empty table."""
        self._lakehouse.drop(self._definition.identifier)
        self._lakehouse.create(self._definition)

    def run(self) -> None:
        """Insert."""
        self._con.execute(f"INSERT INTO ice.{self._definition.identifier} SELECT * FROM edits")


def _dagster_iceberg(options: Options, product: str, order: Order) -> Contender | str:
    from bench.peers.isolated import start

    if options.store != "folder":
        return "measured on a folder only"
    return start(options.folder / f"dagster-iceberg-{product}-{order}", options.rows, product, order)


# ---- memory ------------------------------------------------------------------------------------------------------------------------


def peak_memory(options: Options, product: str, order: Order) -> dict[str, float]:
    """Resident memory (MB) of a process that writes rows it makes as it goes: before the work, and at most."""
    given = json.dumps([str(options.folder), options.store, product, order, options.rows])
    done = subprocess.run([sys.executable, "-m", "bench.cases.writing", given], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _write_measured(folder: str, store: Any, product: str, order: Order, rows: int) -> dict[str, float]:
    settings: Settings = settings_of(store, Path(folder), "memory")
    parts = Parts(settings, registry=write_project(settings.project))
    for many in (1_000, rows):  # the first, small write loads what any write loads
        ours = Platform(parts, f"bench/{product}", lambda many=many: reader(many, order))  # type: ignore[misc]
        ours.reset()
        next(batches(1, order))
        baseline = resident_mb("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # forget the high-water mark so far (proc(5))
        ours.run()
    peak = resident_mb("VmHWM")
    parts.lakehouse.drop(f"bench.{product}")
    return {"baseline_mb": baseline, "peak_mb": peak}


CASES: Mapping[str, Case] = {
    "append": _case("append", PLAIN, "clustered"),
    "partitioned_clustered": _case("partitioned_clustered", BY_DAY, "clustered"),
    "partitioned_shuffled": _case("partitioned_shuffled", BY_DAY, "shuffled"),
    "partitions_480": _case("partitions_480", BY_DAY_AND_BUCKET, "clustered"),
}

if __name__ == "__main__":
    sys.stdout.write(json.dumps(_write_measured(*json.loads(sys.argv[1]))) + "\n")
