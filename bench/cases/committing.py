"""Committing: how long a commit of 1,000 rows takes after many others, what history costs, and how many eight writers get through.

`commit_1000` and `commit_5000`: the last 25 commits against the first 25, medians; once in 25 commits snapshots expire, so
`commit_mean_1000` and `_5000` have the mean of the last 100 against that of the first 25. `commit_retained_1000`: the same with every
snapshot kept. `commit_storm`: commits per second of eight processes on one table. All through `publish(stage_append(...))`.
"""

from __future__ import annotations

import functools
import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.sorting import SortOrder
from pyiceberg.types import LongType, NestedField, StringType

from bench.cases import Case, Options, settings_of, skipped
from bench.harness import Result, machine, ratio
from platform_resources.contracts.iceberg import TableDefinition
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.conforming import arrow_schema_of
from platform_resources.lakehouse.expiry import KEEP_PROPERTY
from platform_resources.lakehouse.staging import publish, stage_append
from platform_resources.lakehouse.stamp import Stamp

ROWS = 1_000
EDGE = 25  # commits at either end
WRITERS, STORM = 8, 60
MOST_BY_PYICEBERG = 1_000  # a commit takes 0.6 s by then; 5,000 take hours

_SCHEMA = Schema(NestedField(1, "id", LongType(), required=True), NestedField(2, "wiki", StringType()), NestedField(3, "bytes", LongType()))


def definition(name: str, **properties: str) -> TableDefinition:
    """A table without partitions."""
    return TableDefinition(f"bench.{name}", _SCHEMA, PartitionSpec(), SortOrder(), properties, ("id",), "append")


def batch(number: int) -> pa.Table:
    """The rows of one commit."""
    ids = pa.array(range(number * ROWS, (number + 1) * ROWS), pa.int64())
    return pa.table([ids, pa.array(["enwiki"] * ROWS), ids], schema=arrow_schema_of(_SCHEMA))


def timed(commits: int, commit: Callable[[int], object]) -> list[float]:
    """Seconds of each of so many commits, after one that warms up."""
    commit(0)
    seconds = []
    for number in range(1, commits + 1):
        start = time.perf_counter()
        commit(number)
        seconds.append(time.perf_counter() - start)
    return seconds


def after_many(options: Options, *, commits: int, name: str, **properties: str) -> list[Result]:
    """Lines of one table that is committed to over and over, ours and PyIceberg's."""
    lakehouse, table = Lakehouse(options.settings(f"home-{name}")), definition(name, **properties)
    ours = timed(commits, lambda number: publish(stage_append(lakehouse, table, batch(number), Stamp(f"run-{number}"))))
    lakehouse.drop(table.identifier)
    lines = [_line(name, ours, options), _mean(name.replace("commit_", "commit_mean_"), ours, options)]
    if options.peers and commits <= MOST_BY_PYICEBERG:
        lines.append(_line(name, _pyiceberg(options, commits, name), options, peer="pyiceberg"))
    elif options.peers:
        lines.append(skipped(name, "pyiceberg", "hours: 0.6 s a commit after the first 1,000, and growing", options))
    return lines


def _line(name: str, seconds: list[float], options: Options, peer: str | None = None) -> Result:
    first, last = seconds[:EDGE], seconds[-EDGE:]
    compared, low, high = ratio(last, first)
    return Result(name, statistics.median(last), "s", "first commits", compared, low, high, ROWS, machine(), peer, options.store)


def _mean(name: str, seconds: list[float], options: Options) -> Result:
    last, first = statistics.mean(seconds[-4 * EDGE :]), statistics.mean(seconds[:EDGE])
    return Result(name, last, "s", "first commits", last / first, None, None, ROWS, machine(), None, options.store)


def _pyiceberg(options: Options, commits: int, name: str) -> list[float]:
    folder = options.folder / f"pyiceberg-{name}"
    folder.mkdir()
    catalog = SqlCatalog("peer", uri=f"sqlite:///{folder}/catalog.db", warehouse=f"file://{folder}")
    catalog.create_namespace("bench")
    table = catalog.create_table(f"bench.{name}", schema=_SCHEMA)
    return timed(commits, lambda number: table.append(batch(number)))


def storm(options: Options) -> list[Result]:
    """Commits per second that eight processes get through on one table, and what one of them alone does."""
    Lakehouse(options.settings("home-storm")).create(definition("storm"))
    figures = {}
    for writers in (1, WRITERS):
        work = [(options.store, options.folder, f"w{writers}-{number}") for number in range(writers)]
        with multiprocessing.get_context("spawn").Pool(writers) as pool:
            pool.map(_ready, work)
            start = time.perf_counter()
            kept = sum(pool.map(_write, work, chunksize=1))
            figures[writers] = kept / (time.perf_counter() - start)
    return [
        Result(
            "commit_storm", figures[WRITERS], "commits/s", "one writer", figures[WRITERS] / figures[1], None, None, ROWS, machine(),
            store=options.store,
        )
    ]  # fmt: skip


def _ready(_work: object) -> None:
    time.sleep(0.5)  # every process has imported this module


def _write(work: tuple[str, Path, str]) -> int:
    store, folder, name = work
    lakehouse, table = Lakehouse(settings_of(store, folder, "home-storm")), definition("storm")  # type: ignore[arg-type]
    for number in range(STORM):
        publish(stage_append(lakehouse, table, batch(number), Stamp(f"{name}-{number}")))
    return STORM


CASES: Mapping[str, Case] = {
    "commit_1000": functools.partial(after_many, commits=1_000, name="commit_1000"),
    "commit_5000": functools.partial(after_many, commits=5_000, name="commit_5000"),
    "commit_retained_1000": functools.partial(after_many, commits=1_000, name="commit_retained_1000", **{KEEP_PROPERTY: "100000"}),
    "commit_storm": storm,
}
