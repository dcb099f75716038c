"""When is Spark worth its start? The same query derived on DuckDB and on Spark, first and warm, as seconds of the whole run.

`python -m bench.engines [--rows N] [--json]`: one line for each engine and size. On one machine both have the same cores; what Spark
adds, more machines, is not measured here. The JVM's start is in `first`, and in nothing else.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bench.harness import machine
from platform_resources.config import Settings
from platform_resources.contracts.iceberg import table_definition
from platform_resources.lakehouse.staging import stage_append
from platform_resources.lakehouse.stamp import Stamp

EVENTS = """\
      - {name: id, logicalType: integer, required: true}
      - {name: wiki, logicalType: string}
      - {name: page, logicalType: integer}
      - {name: bytes, logicalType: integer}
"""
TOTALS = """\
      - {name: wiki, logicalType: string}
      - {name: page, logicalType: integer}
      - {name: edits, logicalType: integer}
      - {name: bytes, logicalType: integer}
      - {name: rank, logicalType: integer}
"""
QUERY = """
with pages as (select wiki, page, count(*) as edits, cast(sum(bytes) as bigint) as bytes from shop.events group by wiki, page)
select *, row_number() over (partition by wiki order by edits desc, page) as rank from pages
"""


def measure(rows: int, rounds: int) -> list[dict[str, Any]]:
    """Seconds by engine: the first run of a process, and the median of those after it."""
    from tests.engines.conftest import FILES, Shop

    with tempfile.TemporaryDirectory() as folder:
        shop = Shop(Path(folder) / "project", Settings(home=Path(folder) / "home", spark_driver_memory="4g"))
        shop.write("events", EVENTS, servers=FILES)
        shop.totals(QUERY, properties=TOTALS)
        chance = np.random.default_rng(1)
        wikis = pa.array([f"wiki{number}" for number in range(50)])
        data = pa.table(
            {
                "id": np.arange(rows),
                "wiki": wikis.take(pa.array(chance.integers(0, 50, rows))),
                "page": chance.integers(0, 1000, rows),
                "bytes": chance.integers(-500, 500, rows),
            }
        )
        stage_append(shop.lakehouse, table_definition(shop.contract("events")), data, Stamp(run_id="events")).commit()
        found = []
        for engine in ("duckdb", "spark"):
            seconds = []
            for _ in range(rounds + 1):
                start = time.perf_counter()
                shop.derive(engine=engine, recompute=True)
                seconds.append(time.perf_counter() - start)
            warm = sorted(seconds[1:])[rounds // 2]
            found.append({"engine": engine, "rows": rows, "first": round(seconds[0], 2), "warm": round(warm, 2), "machine": machine()})
        return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, action="append", help="rows of the input; may be repeated (default: 1M and 10M)")
    parser.add_argument("--rounds", type=int, default=3, help="warm runs of each engine")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    sizes = options.rows or [1_000_000, 10_000_000]
    if len(sizes) > 1:  # a process has one Spark session, and its first run shall be one
        for rows in sizes:
            again = [sys.executable, "-m", "bench.engines", "--rows", str(rows), "--rounds", str(options.rounds)]
            subprocess.run([*again, *(["--json"] if options.json else [])], check=True)
        return
    for line in measure(sizes[0], options.rounds):
        print(json.dumps(line) if options.json else f"{line['rows']:>12,} {line['engine']:<8} {line['first']:>8} {line['warm']:>8}")


if __name__ == "__main__":
    sys.exit(main())
