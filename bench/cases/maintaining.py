"""Maintenance: what 2,000 small commits cost a reader and the storage once they are maintained, against a table written in one go.

`compacted_read` is the time of a grouped sum by DuckDB, `compacted_bytes` everything in the table's folder (data, metadata, whatever is
left lying) against the live data files of the fresh table. Both are of `platform_resources.maintenance`, run as the platform runs it.

Few rows measure something else. The 50 former metadata files that a table keeps are some 3 MB after thousands of commits, whatever its
rows: 2 % of 10 million rows, but 80 % of 200,000. And a query of a few milliseconds is all planning.
"""

from __future__ import annotations

import statistics
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache

import duckdb

from bench.cases import Case, Options
from bench.cases.writing import rows_of
from bench.harness import Result, interleaved, machine, ratio
from bench.project import BY_DAY, write_project
from platform_resources.contracts.iceberg import TableDefinition, table_definition
from platform_resources.engines.duck import connect
from platform_resources.lakehouse import orphans
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.files import live_files
from platform_resources.lakehouse.health import Policy
from platform_resources.lakehouse.orphans import list_files
from platform_resources.lakehouse.reading import duckdb_scan_sql
from platform_resources.lakehouse.staging import publish, stage_append
from platform_resources.lakehouse.stamp import Stamp
from platform_resources.maintenance import Maintained, Maintenance

COMMITS = 2_000
FRESH = "a freshly written table"
_COLUMNS = "wiki, count(*), sum(delta), max(seen)"


@cache
def _tables(options: Options) -> tuple[Lakehouse, TableDefinition, TableDefinition]:
    """Both tables, the one of small commits maintained a week later: all of its history is past by then."""
    settings = options.settings("maintaining")
    registry = write_project(settings.project)
    fresh = table_definition(registry.get(f"bench/{BY_DAY}"))
    small = replace(fresh, identifier=f"bench.{BY_DAY}_small")
    lakehouse, rows = Lakehouse(settings), rows_of(options, "clustered")
    publish(stage_append(lakehouse, fresh, rows, Stamp("bench")))
    step = max(1, rows.num_rows // COMMITS)
    for start in range(0, rows.num_rows, step):
        publish(stage_append(lakehouse, small, rows.slice(start, step), Stamp("bench")))
    later = datetime.now(UTC) + timedelta(days=7)
    known, orphans._storage_time = orphans._storage_time, lambda _table: later  # noqa: SLF001 - the storage's clock goes along
    try:
        work = Maintenance(lakehouse, registry, "bench", clock=lambda: later)
        for _ in range(2):  # what the first look could not know: snapshots that compaction itself made old
            list(work.maintain(Maintained(small.identifier, small.identifier, Policy()), orphans="bench"))
    finally:
        orphans._storage_time = known  # noqa: SLF001
    return lakehouse, fresh, small


def compacted_read(options: Options) -> list[Result]:
    """Seconds of the aggregate over the maintained table, and its ratio to the fresh one."""
    lakehouse, *definitions = _tables(options)
    with closing(connect(lakehouse.settings)) as con:
        fresh, small = (_reading(con, lakehouse, definition) for definition in definitions)
        if fresh() != small():
            raise RuntimeError("the maintained table has other rows")
        seconds = interleaved({FRESH: fresh, "compacted_read": small}, options.repetitions)
    compared, low, high = ratio(seconds["compacted_read"], seconds[FRESH])
    value = statistics.median(seconds["compacted_read"])
    return [Result("compacted_read", value, "s", FRESH, compared, low, high, options.rows, machine(), store=options.store)]


def _reading(con: duckdb.DuckDBPyConnection, lakehouse: Lakehouse, definition: TableDefinition) -> _Read:
    return _Read(con, duckdb_scan_sql(lakehouse.catalog.load_table(definition.identifier)))


class _Read:
    """The aggregate over one relation."""

    def __init__(self, con: duckdb.DuckDBPyConnection, relation: str) -> None:
        self._con, self._text = con, f"SELECT {_COLUMNS} FROM {relation} GROUP BY wiki ORDER BY wiki"

    def __call__(self) -> list[tuple[object, ...]]:
        """The rows of the answer."""
        return self._con.sql(self._text).fetchall()


def compacted_bytes(options: Options) -> list[Result]:
    """Bytes in the folder of the maintained table, and their ratio to the fresh table's live data."""
    lakehouse, fresh, small = _tables(options)
    stored = sum(size for _, size, _ in list_files(lakehouse.catalog.load_table(small.identifier)))
    table = lakehouse.catalog.load_table(fresh.identifier)
    live = sum(file.file_size_in_bytes for file in live_files(table.io, table.current_snapshot(), fresh.identifier))
    compared = stored / live
    return [
        Result("compacted_bytes", stored / 2**20, "MiB", FRESH, compared, compared, compared, options.rows, machine(), store=options.store)
    ]


CASES: dict[str, Case] = {"compacted_read": compacted_read, "compacted_bytes": compacted_bytes}
