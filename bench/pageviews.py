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
from pathlib import Path

from bench.chain import LIMIT, OURS, Chain, line
from bench.harness import arguments, compare, interleaved, report
from demo.webrequests import STREAM, generate

PRODUCTS = (
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


def main() -> None:
    """Measure and print."""
    chosen = arguments(__doc__ or "", rows=1_000_000, repetitions=3).parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-pageviews-"))
    try:
        chain = Chain(folder, "traffic", ("webrequest",), PRODUCTS)
        requests = (request for request, _ in generate(chosen.rows + LATE))
        for start in range(0, chosen.rows, CHUNK):
            chain.log.append(STREAM, [(None, one) for one in itertools.islice(requests, min(CHUNK, chosen.rows - start))])
        ingested = chain.ingest()
        results = [line("ingestion, log to traffic.webrequest", ingested, chosen.rows, per_second=True)]
        chain.export()
        seconds = interleaved(
            {LIMIT: chain.bare, OURS: chain.run}, chosen.repetitions, before=chain.clean, warm_up=min(chosen.repetitions - 1, 1)
        )
        results += compare(seconds, LIMIT, rows=chosen.rows)
        results += [line(f"  {product}", statistics.median(taken), chosen.rows) for product, taken in chain.seconds.items()]
        if chain.lakehouse.table(f"traffic.{PRODUCTS[-1]}") is None:  # the limit came last
            chain.run()
        chain.log.append(STREAM, [(None, one) for one in requests])
        chain.ingest()
        again = time.perf_counter()
        chain.run()
        results.append(line(f"all once more, after {LATE:,} late requests", time.perf_counter() - again, chosen.rows))
        report(results, as_json=chosen.json, title="An hour of requests, log to the lists of top pages")
        whole = ingested + statistics.median(seconds[OURS])
        if not chosen.json:
            print(f"{chosen.rows:,} requests in {whole:,.0f} s from the log to every product: {chosen.rows / whole * 3600:,.0f} an hour")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
