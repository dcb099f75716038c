"""Writing: an append and a write partitioned by day, ours against plain Parquet (the limit) and against PyIceberg, of the same rows.

The limit is pyarrow's Parquet writer with two threads, two files, the same compression: no table, no commit. Everything lies in a
temporary folder (`--folder`, e.g. on tmpfs, to leave the disk out).
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER
from pyiceberg.transforms import DayTransform
from pyiceberg.types import BooleanType, IntegerType, LongType, NestedField, StringType, TimestamptzType

from bench.harness import arguments, compare, interleaved, report
from platform_resources.config import Settings
from platform_resources.contracts.iceberg import TableDefinition
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.staging import publish, stage_append
from platform_resources.lakehouse.stamp import Stamp

SCHEMA = Schema(
    NestedField(1, "id", LongType(), required=False),
    NestedField(2, "seen", TimestamptzType(), required=False),
    NestedField(3, "wiki", StringType(), required=False),
    NestedField(4, "title", StringType(), required=False),
    NestedField(5, "delta", IntegerType(), required=False),
    NestedField(6, "is_bot", BooleanType(), required=False),
    NestedField(7, "comment", StringType(), required=False),
)
BY_DAY = PartitionSpec(PartitionField(2, 1000, DayTransform(), "seen_day"))
_DAYS = 30
_runs = itertools.count()


def edits(rows: int) -> pa.Table:
    """Edit events over 30 days in order of time, 7 columns."""
    ids = pa.array(range(rows), pa.int64())
    mixed = pc.bit_wise_and(pc.multiply(ids, 2_654_435_761), 0xFFFFFFFF)
    wikis = pa.array(["enwiki", "dewiki", "frwiki", "commonswiki", "wikidatawiki", "svwiki", "eswiki", "jawiki"])
    words = pa.array([f"Page about subject number {n}" for n in range(50_000)])
    comments = pa.array([f"/* Section {n} */ changed a sentence and fixed a reference {n * 7919}" for n in range(200_000)])
    first, span = 1_767_225_600_000_000, _DAYS * 86_400_000_000
    return pa.table(
        {
            "id": ids,
            "seen": pc.add(pc.multiply(ids, max(1, span // max(rows, 1))), first).cast(pa.timestamp("us", "UTC")),
            "wiki": wikis.take(pc.bit_wise_and(mixed, 7)),
            "title": words.take(_modulo(mixed, 50_000)),
            "delta": pc.subtract(_modulo(mixed, 2_000), 500).cast(pa.int32()),
            "is_bot": pc.equal(_modulo(mixed, 5), 0),
            "comment": comments.take(_modulo(pc.shift_right(mixed, 3), 200_000)),
        }
    )


def _modulo(values: pa.Array, base: int) -> pa.Array:
    return pc.subtract(values, pc.multiply(pc.divide(values, base), base))


def limit(folder: Path, data: pa.Table) -> Callable[[], None]:
    """Two Parquet files of half the rows each, written at the same time."""
    half = data.num_rows // 2

    def run() -> None:
        number = next(_runs)
        with ThreadPoolExecutor(2) as pool:
            parts = enumerate((data.slice(0, half), data.slice(half)))
            writes = [pool.submit(pq.write_table, part, folder / f"{number}-{side}.parquet", compression="zstd") for side, part in parts]
            for write in writes:
                write.result()

    return run


def ours(lakehouse: Lakehouse, data: pa.Table, spec: PartitionSpec, name: str) -> Callable[[], None]:
    """One append through the platform: conform, split, write, commit."""
    definition = TableDefinition(f"bench.{name}", SCHEMA, spec, UNSORTED_SORT_ORDER, {}, ("id",), "append")

    def run() -> None:
        publish(stage_append(lakehouse, definition, data, Stamp(f"r{next(_runs)}")))

    return run


def pyiceberg(lakehouse: Lakehouse, data: pa.Table, spec: PartitionSpec, name: str) -> Callable[[], None]:
    """One append by PyIceberg into a table of the same definition."""
    definition = TableDefinition(f"bench.{name}", SCHEMA, spec, UNSORTED_SORT_ORDER, {}, ("id",), "append")
    lakehouse.create(definition)

    def run() -> None:
        table = lakehouse.table(definition.identifier)
        if table is None:
            raise RuntimeError(f"{definition.identifier} is gone")
        table.append(data)

    return run


def sweep(folder: Path) -> None:
    """Delete the data files written so far: nothing here reads them, and the disk shall not fill."""
    for path in folder.rglob("*.parquet"):
        path.unlink()


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "", rows=2_000_000)
    parser.add_argument("--folder", type=Path, help="where to write (default: the system's temporary folder)")
    options = parser.parse_args()
    data = edits(options.rows)
    folder = Path(tempfile.mkdtemp(prefix="bench-writes-", dir=options.folder))
    try:
        lakehouse = Lakehouse(Settings(home=folder / "home"))
        for title, spec, kind in (("append", PartitionSpec(), "plain"), ("write by day, 30 partitions", BY_DAY, "day")):
            reference = f"{title}: pyarrow Parquet, 2 threads"
            things = {
                reference: limit(folder, data),
                f"{title}: platform": ours(lakehouse, data, spec, f"ours_{kind}"),
                f"{title}: PyIceberg": pyiceberg(lakehouse, data, spec, f"theirs_{kind}"),
            }
            seconds = interleaved(things, options.repetitions, before=lambda: sweep(folder))
            report(compare(seconds, reference, rows=options.rows), as_json=options.json, title=title)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    os.sync()


if __name__ == "__main__":
    main()
