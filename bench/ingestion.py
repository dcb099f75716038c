"""Ingestion end to end: page changes from the local event log into Iceberg, exactly once, against what the libraries do bare.

`python -m bench.ingestion [--rows N] [--repetitions N] [--json] [--profile]`. The limit decodes the same lines with pyarrow's JSON
reader and writes one Parquet file: no validation, no deduplication, no position, no table. The naive way decodes with orjson, makes
rows with `Table.from_pylist` and appends them with PyIceberg, with as many events to a commit as a drain has.
"""

from __future__ import annotations

import cProfile
import io
import itertools
import pstats
import shutil
import tempfile
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.json as pj
import pyarrow.parquet as pq

from bench.harness import arguments, compare, interleaved, report
from demo.generator import generate
from platform_resources.config import SOURCE_ROOT, Settings
from platform_resources.contracts.model import Contract
from platform_resources.contracts.registry import Registry
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.streams.codec import Codec
from platform_resources.streams.ingestion import Drain
from platform_resources.streams.log import open_log

PRODUCT = "mediawiki/page_change"


class Bench:
    """The same events in a log and as lines, and the ways to store them."""

    def __init__(self, folder: Path, rows: int) -> None:
        self.folder = folder
        self.settings = Settings(home=folder / "home", project=SOURCE_ROOT)
        self.contract = Registry.load(SOURCE_ROOT).get(PRODUCT)
        self.lakehouse, self.log = Lakehouse(self.settings), open_log(self.settings)
        self.lines = valid_lines(self.contract, rows)
        self.log.append(self.contract.source.topics[0], [(None, line) for line in self.lines])  # type: ignore[union-attr]

    def clean(self) -> None:
        """Forget what the last measurement wrote."""
        for identifier in (self.contract.identifier, self.contract.quarantine_identifier, "bench.naive"):
            self.lakehouse.drop(identifier)
        shutil.rmtree(self.folder / "limit", ignore_errors=True)
        (self.folder / "limit").mkdir()

    def ingest(self) -> None:
        """A drain, as a run starts it."""
        drain = Drain(self.contract, lakehouse=self.lakehouse, log=self.log, run_id="bench", settings=self.settings)
        done = drain.run(until="end")
        if done.inserted < len(self.lines) * 0.97 or done.read != len(self.lines):
            raise SystemExit(f"the drain took {done.inserted} of {len(self.lines)} events, so this is no measurement: {done}")

    def limit(self) -> None:
        """Pyarrow's JSON reader and Parquet writer."""
        text = b"\n".join(self.lines)
        table = pj.read_json(io.BytesIO(text), read_options=pj.ReadOptions(block_size=len(text) + 1))
        pq.write_table(table, self.folder / "limit" / "rows.parquet", compression="zstd")

    def naive(self) -> None:
        """What one writes first: orjson, `from_pylist`, `append`."""
        catalog, size = self.lakehouse.catalog, self.settings.batch_events
        catalog.create_namespace_if_not_exists("bench")
        schema = pa.Table.from_pylist([orjson.loads(line) for line in self.lines[:5000]]).schema
        table = catalog.create_table("bench.naive", schema)
        for start in range(0, len(self.lines), size):
            table.append(pa.Table.from_pylist([orjson.loads(line) for line in self.lines[start : start + size]], schema=schema))


def valid_lines(contract: Contract, rows: int) -> list[bytes]:
    """Distinct page changes that decode."""
    lines: dict[str, bytes] = {}
    for seed in itertools.count(1):
        made = generate(rows, seed).gated
        decoded = Codec(contract).decode(made)
        for index, meta in zip(decoded.rows, decoded.table.column("meta").to_pylist(), strict=True):
            if meta["id"] is not None:
                lines.setdefault(meta["id"], made[index])
        if len(lines) >= rows:
            break
    return list(lines.values())[:rows]


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__ or "", rows=100_000)
    parser.add_argument("--profile", action="store_true", help="profile one drain instead of measuring")
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-ingestion-"))
    try:
        bench = Bench(folder, chosen.rows)
        if chosen.profile:
            bench.clean()
            with cProfile.Profile() as profile:
                bench.ingest()
            pstats.Stats(profile).sort_stats("tottime").print_stats(30)
            return
        things = {"pyarrow.json + Parquet": bench.limit, "ingestion": bench.ingest, "orjson + from_pylist + append": bench.naive}
        seconds = interleaved(things, chosen.repetitions, before=bench.clean)
        results = compare(seconds, "pyarrow.json + Parquet", rows=chosen.rows, per_second=True)
        report(results, as_json=chosen.json, title="Events per second, log to Iceberg")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
