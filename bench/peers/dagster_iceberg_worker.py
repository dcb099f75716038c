"""Runs in the peer's environment: materialises the bench's rows through dagster-iceberg each time a line `run` comes.

Arguments: folder, rows, product, order. A line on standard output answers each line on standard input; the first says that it is ready.
It imports nothing of the platform.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
from dagster_iceberg.config import IcebergCatalogConfig
from dagster_iceberg.io_manager.arrow import PyArrowIcebergIOManager
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import BucketTransform, DayTransform
from pyiceberg.types import BooleanType, IntegerType, LongType, NestedField, StringType, TimestamptzType

from bench.edits import reader

SCHEMA = Schema(
    NestedField(1, "id", LongType(), required=True),
    NestedField(2, "seen", TimestamptzType()),
    NestedField(3, "wiki", StringType()),
    NestedField(4, "title", StringType()),
    NestedField(5, "delta", IntegerType()),
    NestedField(6, "is_bot", BooleanType()),
    NestedField(7, "comment", StringType()),
)
DAY, BUCKET = PartitionField(2, 1000, DayTransform(), "seen_day"), PartitionField(1, 1001, BucketTransform(16), "id_bucket")
SPECS = {"edits": (), "edits_by_day": (DAY,), "edits_by_day_and_bucket": (DAY, BUCKET)}
PROPERTIES = {"write.parquet.compression-codec": "zstd", "write.parquet.compression-level": "3"}
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def main(folder: str, rows: str, product: str, order: Any) -> None:
    """Answer until the input ends."""
    answers, sys.stdout = sys.stdout, sys.stderr
    properties = {"uri": f"sqlite:///{folder}/catalog.db", "warehouse": f"file://{folder}/warehouse"}
    catalog = SqlCatalog("bench", **properties)
    catalog.create_namespace("bench")
    data = reader(int(rows), order).read_all()

    @dg.asset(name="edits", metadata={"write_mode": "append"})
    def edits() -> pa.Table:
        return data

    manager = PyArrowIcebergIOManager(name="bench", config=IcebergCatalogConfig(properties=properties), namespace="bench")

    def reset() -> None:
        if catalog.table_exists("bench.edits"):
            catalog.drop_table("bench.edits")
        for path in Path(folder, "warehouse").rglob("*.*"):
            path.unlink()
        catalog.create_table("bench.edits", SCHEMA, partition_spec=PartitionSpec(*SPECS[product]), properties=PROPERTIES)

    def answer(text: str) -> None:
        answers.write(text + "\n")
        answers.flush()

    reset()
    answer("ready")
    for line in sys.stdin:
        if line.strip() == "reset":
            reset()
            answer("done")
            continue
        start = time.perf_counter()
        dg.materialize([edits], resources={"io_manager": manager}, run_config=QUIET)
        answer(str(time.perf_counter() - start))


if __name__ == "__main__":
    main(*sys.argv[1:])
