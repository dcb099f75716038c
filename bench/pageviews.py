"""An hour of requests to the edge, from the log to the lists of top pages, against the same queries bare.

`python -m bench.pageviews [--rows N] [--repetitions N] [--json]`; `--rows 10000000` is a busy hour of a large site on one machine, and
needs some 20 GB. The requests are ingested once, by the drain; every product is then computed from nothing in each round: staged,
audited by its contract's checks, committed. The limit gives the same queries to DuckDB, from Parquet files of the requests to Parquet
files of the results: no table, no checks, no position. A last line computes the hour again by what one more batch of requests changes.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from bench.harness import Result, arguments, compare, interleaved, machine, report
from demo.webrequests import STREAM, generate
from platform_resources.config import SOURCE_ROOT, Settings
from platform_resources.contracts.registry import Registry
from platform_resources.engines.audit import audit
from platform_resources.engines.derivation import Derivation
from platform_resources.engines.duck import connect, session
from platform_resources.engines.loading import read_transform
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.reading import duckdb_scan_sql
from platform_resources.streams.ingestion import Drain
from platform_resources.streams.log import open_log

CHAIN = (
    "pageview",
    "automated_actor",
    "pageview_hourly",
    "pageview_per_article",
    "pageview_top",
    "pageview_by_country",
    "pageview_agent",
    "browser_daily",
)
CHUNK = 100_000
LATE = 2_000
LIMIT = "the same queries, bare"


class Bench:
    """One platform with an hour of requests in its log, and a folder with the same rows as Parquet."""

    def __init__(self, folder: Path, rows: int) -> None:
        self.folder, self.rows = folder, rows
        self.settings = Settings(home=folder / "home", project=SOURCE_ROOT, drain_seconds=24 * 3600.0)
        self.registry = Registry.load(SOURCE_ROOT)
        self.lakehouse, self.log = Lakehouse(self.settings), open_log(self.settings)
        lines = (line for line, _ in generate(rows + LATE))
        for start in range(0, rows, CHUNK):
            self.log.append(STREAM, [(None, line) for line in itertools.islice(lines, min(CHUNK, rows - start))])
        self.late = list(itertools.islice(lines, LATE))

    def ingest(self) -> float:
        """Drain the log into traffic.webrequest; seconds."""
        contract = self.registry.get("traffic/webrequest")
        start = time.perf_counter()
        drain = Drain(contract, lakehouse=self.lakehouse, log=self.log, run_id=str(uuid.uuid4()), settings=self.settings)
        done = drain.run(until="end")
        if done.quarantined:
            raise SystemExit(f"the drain refused {done.quarantined} requests, so this is no measurement: {done}")
        return time.perf_counter() - start

    def export(self) -> None:
        """The requests as Parquet, for the limit."""
        table = self.lakehouse.table("traffic.webrequest")
        if table is None:
            raise SystemExit("nothing was ingested")
        with session(self.settings) as con:
            con.execute(f"COPY (SELECT * FROM {duckdb_scan_sql(table)}) TO '{self.folder / 'webrequest.parquet'}' (COMPRESSION zstd)")

    def clean(self) -> None:
        """Forget every product that is computed."""
        for product in CHAIN:
            self.lakehouse.drop(f"traffic.{product}")

    def derive(self, product: str) -> None:
        """Compute, audit and commit one product, as its run does."""
        contract = self.registry.get(f"traffic/{product}")
        transform = read_transform(contract, self.registry)
        if transform is None:
            raise SystemExit(f"{contract.key} has no transform")
        derivation = Derivation(contract, transform, lakehouse=self.lakehouse, registry=self.registry, settings=self.settings)
        derived = derivation.stage(run_id=str(uuid.uuid4()))
        if derived.staged is None:
            return
        with session(self.settings) as con:
            failed = [outcome for outcome in audit(con, derived.staged, contract) if not outcome.passed and outcome.check.blocking]
        if failed:
            raise SystemExit(f"{contract.key} would not be published: {failed}")
        derived.staged.commit()

    def chain(self) -> None:
        """Every product after the other."""
        for product in CHAIN:
            self.derive(product)

    def bare(self) -> None:
        """The same queries, Parquet to Parquet."""
        with connect(self.settings) as con:
            con.execute("CREATE SCHEMA traffic")
            for product in ("webrequest", *CHAIN):
                file = self.folder / f"{product}.parquet"
                if product != "webrequest":
                    query = self.registry.get(f"traffic/{product}").path.with_suffix(".sql").read_text()
                    con.execute(f"COPY ({query}) TO '{file}' (COMPRESSION zstd)")
                con.execute(f"CREATE VIEW traffic.{product} AS SELECT * FROM '{file}'")


def _line(name: str, seconds: float, rows: int, *, per_second: bool = False) -> Result:
    value, unit = (rows / seconds, "rows/s") if per_second else (seconds, "s")
    return Result(name, value, unit, None, None, None, None, rows, machine())


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    chosen = arguments(__doc__ or "", rows=1_000_000, repetitions=3).parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-pageviews-"))
    try:
        bench = Bench(folder, chosen.rows)
        ingested = bench.ingest()
        results = [_line("ingestion, log to traffic.webrequest", ingested, chosen.rows, per_second=True)]
        bench.export()
        seconds = interleaved(
            {"the same queries, bare": bench.bare, "all eight products": bench.chain}, chosen.repetitions, before=bench.clean
        )
        results += compare(seconds, LIMIT, rows=chosen.rows)
        bench.clean()
        results += [_line(f"  {product}", _timed(lambda product=product: bench.derive(product)), chosen.rows) for product in CHAIN]  # type: ignore[misc]
        bench.log.append(STREAM, [(None, line) for line in bench.late])
        bench.ingest()
        results.append(_line(f"all eight once more, after {len(bench.late):,} late requests", _timed(bench.chain), chosen.rows))
        report(results, as_json=chosen.json, title="An hour of requests, log to the lists of top pages")
        whole = ingested + sum(seconds["all eight products"]) / len(seconds["all eight products"])
        if not chosen.json:
            print(f"{chosen.rows:,} requests in {whole:,.0f} s from the log to every product: {chosen.rows / whole * 3600:,.0f} an hour")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
