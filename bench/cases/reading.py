"""Reading: `read_aggregate`, a grouped sum over the whole table by day, as each engine's own reader of a product does it.

Ours is `source(...).duckdb()`, the catalog asked anew each time; the limit is DuckDB's `read_parquet` of the same files in the same
session.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from bench.cases import Case, Options
from bench.cases.writing import Platform, rows_of
from bench.harness import Result, compare, interleaved
from bench.project import BY_DAY, write_project
from platform_resources.engines.duck import connect
from platform_resources.lakehouse.files import live_files
from platform_resources.parts import Parts
from platform_resources.sourcing import source

LIMIT = "read_parquet"
_COLUMNS = "wiki, count(*) AS edits, sum(delta) AS bytes, max(seen) AS last"


def read_aggregate(options: Options) -> list[Result]:
    """Seconds of the aggregate by reader."""
    settings = options.settings()
    parts = Parts(settings, registry=write_project(settings.project))
    written = Platform(parts, f"bench/{BY_DAY}", rows_of(options, "clustered").to_reader)
    written.reset()
    written.run()
    product = source(f"bench/{BY_DAY}", settings=settings, registry=parts.registry, lakehouse=parts.lakehouse)
    table = parts.lakehouse.catalog.load_table(f"bench.{BY_DAY}")
    paths = [file.file_path.removeprefix("file://") for file in live_files(table.io, table.current_snapshot(), f"bench.{BY_DAY}")]
    con = connect(settings)

    def limit() -> list[tuple[object, ...]]:
        return con.sql(f"SELECT {_COLUMNS} FROM read_parquet({paths}, hive_partitioning = false) GROUP BY wiki ORDER BY wiki").fetchall()

    def ours() -> list[tuple[object, ...]]:
        return product.duckdb(con).aggregate(_COLUMNS, "wiki").order("wiki").fetchall()

    def polars() -> list[tuple[object, ...]]:
        import polars as pl

        sums = (pl.len().alias("edits"), pl.col("delta").cast(pl.Int64).sum().alias("bytes"), pl.col("seen").max().alias("last"))
        return product.polars().group_by("wiki").agg(*sums).sort("wiki").collect().rows()

    def pyiceberg() -> list[tuple[object, ...]]:
        rows = parts.lakehouse.catalog.load_table(f"bench.{BY_DAY}").scan(selected_fields=("wiki", "delta", "seen")).to_arrow()
        found = rows.group_by("wiki").aggregate([([], "count_all"), ("delta", "sum"), ("seen", "max")]).sort_by("wiki")
        return [tuple(row.values()) for row in found.to_pylist()]

    readers: Mapping[str, Callable[[], list[tuple[object, ...]]]] = {LIMIT: limit, "ours": ours, "polars": polars, "pyiceberg": pyiceberg}
    wanted = {name: run for name, run in readers.items() if options.peers or name in (LIMIT, "ours")}
    _require_equal(wanted)
    compared = compare(interleaved(wanted, options.repetitions), LIMIT, rows=options.rows)
    parts.lakehouse.drop(f"bench.{BY_DAY}")
    con.close()
    peers = {"ours": None, LIMIT: "limit"}
    lines = [replace(one, name="read_aggregate", peer=peers.get(one.name, one.name), store=options.store) for one in compared]
    return sorted(lines, key=lambda line: line.peer is not None)


def _require_equal(readers: Mapping[str, Callable[[], list[tuple[object, ...]]]]) -> None:
    """A figure of a wrong answer is none."""
    answers = {name: [tuple(map(str, row[:3])) for row in run()] for name, run in readers.items()}
    for name, answer in answers.items():
        if answer != answers[LIMIT]:
            raise RuntimeError(f"{name} answers {answer[:2]}, read_parquet {answers[LIMIT][:2]}")


CASES: Mapping[str, Case] = {"read_aggregate": read_aggregate}
