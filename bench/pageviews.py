"""An hour of requests to the edge, from the log to the lists of top pages, against the same queries bare.

`python -m bench.pageviews [--rows N] [--repetitions N] [--json]`; `--rows 10000000` is a busy hour of a large site on one machine, and
needs some 20 GB. The requests are ingested once, by the drain; every product is then computed from nothing in each round: staged,
audited by its contract's checks, committed. The limit gives the same queries to DuckDB and the same function to Polars, from Parquet
files of the requests to Parquet files of the results: no table, no checks, no position. A last line computes the hour again by what one
more batch of requests changes.

With one repetition nothing is computed ahead to warm up: ten million requests take a quarter of an hour as it is.
"""

from __future__ import annotations

import itertools
import shutil
import statistics
import tempfile
import time
import uuid
from pathlib import Path

import polars as pl

from bench.harness import Result, arguments, compare, interleaved, machine, report
from demo.webrequests import STREAM, generate
from platform_resources.config import SOURCE_ROOT, Settings
from platform_resources.contracts.registry import Registry
from platform_resources.engines.audit import audit
from platform_resources.engines.derivation import Derivation
from platform_resources.engines.duck import connect, session
from platform_resources.engines.loading import read_transform
from platform_resources.engines.transform import Transform
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
        self.transforms = {product: self._transform(product) for product in CHAIN}
        self.seconds: dict[str, list[float]] = {product: [] for product in CHAIN}

    def _transform(self, product: str) -> Transform:
        transform = read_transform(self.registry.get(f"traffic/{product}"), self.registry)
        if transform is None:
            raise SystemExit(f"traffic/{product} has no transform")
        return transform

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
        derivation = Derivation(
            contract, self.transforms[product], lakehouse=self.lakehouse, registry=self.registry, settings=self.settings
        )
        derived = derivation.stage(run_id=str(uuid.uuid4()))
        if derived.staged is None:
            return
        with session(self.settings) as con:
            failed = [outcome for outcome in audit(con, derived.staged, contract) if not outcome.passed and outcome.check.blocking]
        if failed:
            raise SystemExit(f"{contract.key} would not be published: {failed}")
        derived.staged.commit()

    def chain(self) -> None:
        """Every product after the other; the seconds of each are kept."""
        for product in CHAIN:
            start = time.perf_counter()
            self.derive(product)
            self.seconds[product].append(time.perf_counter() - start)

    def bare(self) -> None:
        """The same queries, Parquet to Parquet."""
        with connect(self.settings) as con:
            con.execute("CREATE SCHEMA traffic")
            con.execute(f"CREATE VIEW traffic.webrequest AS SELECT * FROM '{self.folder / 'webrequest.parquet'}'")
            for product, transform in self.transforms.items():
                file = self.folder / f"{product}.parquet"
                if transform.function is not None:
                    inputs = {
                        name: pl.scan_parquet(self.folder / f"{key.split('/')[1]}.parquet")
                        for name, (key, _) in transform.parameters.items()
                    }
                    transform.function(**inputs).sink_parquet(file)
                else:
                    con.execute(f"COPY ({transform.text}) TO '{file}' (COMPRESSION zstd)")
                con.execute(f"CREATE VIEW traffic.{product} AS SELECT * FROM '{file}'")


def _line(name: str, seconds: float, rows: int, *, per_second: bool = False) -> Result:
    value, unit = (rows / seconds, "rows/s") if per_second else (seconds, "s")
    return Result(name, value, unit, None, None, None, None, rows, machine())


def main() -> None:
    """Measure and print."""
    chosen = arguments(__doc__ or "", rows=1_000_000, repetitions=3).parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-pageviews-"))
    try:
        bench = Bench(folder, chosen.rows)
        ingested = bench.ingest()
        results = [_line("ingestion, log to traffic.webrequest", ingested, chosen.rows, per_second=True)]
        bench.export()
        things = {LIMIT: bench.bare, "all eight products": bench.chain}
        seconds = interleaved(things, chosen.repetitions, before=bench.clean, warm_up=min(chosen.repetitions - 1, 1))
        results += compare(seconds, LIMIT, rows=chosen.rows)
        results += [_line(f"  {product}", statistics.median(taken), chosen.rows) for product, taken in bench.seconds.items()]
        if bench.lakehouse.table(f"traffic.{CHAIN[-1]}") is None:  # the limit came last
            bench.chain()
        bench.log.append(STREAM, [(None, line) for line in bench.late])
        bench.ingest()
        start = time.perf_counter()
        bench.chain()
        results.append(_line(f"all eight once more, after {len(bench.late):,} late requests", time.perf_counter() - start, chosen.rows))
        report(results, as_json=chosen.json, title="An hour of requests, log to the lists of top pages")
        whole = ingested + sum(seconds["all eight products"]) / len(seconds["all eight products"])
        if not chosen.json:
            print(f"{chosen.rows:,} requests in {whole:,.0f} s from the log to every product: {chosen.rows / whole * 3600:,.0f} an hour")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
