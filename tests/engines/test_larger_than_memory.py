"""Larger than memory on one machine: a query over a table of three times DuckDB's limit finishes, by spilling to disk."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from platform_resources.config import Settings
from platform_resources.contracts.iceberg import table_definition
from platform_resources.engines.duck import connect
from platform_resources.lakehouse.reading import duckdb_scan_sql
from platform_resources.lakehouse.staging import stage_append
from platform_resources.lakehouse.stamp import Stamp
from tests.engines.conftest import FILES, Shop

ROWS, WIDTH, BLOCK, LIMIT = 2_000_000, 640, 50_000, 400 << 20  # a thread needs room for a row group beside its work
NOTES = """\
      - {name: id, logicalType: integer, required: true}
      - {name: text, logicalType: string}
"""
FIRSTS = """\
      - {name: text, logicalType: string}
      - {name: first, logicalType: integer}
      - {name: notes, logicalType: integer}
"""


def notes() -> Iterator[pa.RecordBatch]:
    """Texts of random letters, all different, so that neither a dictionary nor compression makes them small."""
    chance = np.random.default_rng(1)
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False), ("text", pa.string())])
    offsets = pa.py_buffer(np.arange(0, (BLOCK + 1) * WIDTH, WIDTH, dtype=np.int32))
    for start in range(0, ROWS, BLOCK):
        letters = pa.py_buffer(chance.integers(97, 123, BLOCK * WIDTH, dtype=np.uint8))
        texts = pa.Array.from_buffers(pa.string(), BLOCK, [None, offsets, letters])
        yield pa.RecordBatch.from_arrays([pa.array(np.arange(start, start + BLOCK)), texts], schema=schema)


class Watching(threading.Thread):
    """Looks how much lies in a folder, and keeps the most."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder, self.most, self.done = folder, 0, threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.02):
            sizes = []
            for path in self.folder.rglob("*"):
                try:
                    sizes.append(path.stat().st_size)
                except OSError:
                    continue
            self.most = max(self.most, sum(sizes))


@pytest.mark.storm
def test_a_query_over_three_times_the_memory_limit_finishes_by_spilling(tmp_path: Path) -> None:
    assert ROWS * WIDTH >= 3 * LIMIT
    shop: Any = Shop(tmp_path / "project", Settings(home=tmp_path / "home", duckdb_memory_limit=f"{LIMIT >> 20}MiB", duckdb_threads=2))
    shop.write("notes", NOTES, servers=FILES)
    definition = table_definition(shop.contract("notes"))
    batches = notes()
    first = next(batches)

    def given() -> Iterator[pa.RecordBatch]:
        yield first
        yield from batches

    stage_append(shop.lakehouse, definition, pa.RecordBatchReader.from_batches(first.schema, given()), Stamp(run_id="notes")).commit()
    shop.totals("select text, min(id) as first, count(*) as notes from shop.notes group by text", properties=FIRSTS)
    watching = Watching(shop.settings.home / "tmp" / "duckdb")
    watching.start()
    assert shop.derive().plan == "full"
    watching.done.set()
    watching.join()
    assert watching.most > LIMIT, "nothing was spilled, so the table was not larger than memory"
    with connect(shop.settings) as con:
        scan = duckdb_scan_sql(shop.lakehouse.table("shop.totals"))
        found = con.execute(f"SELECT count(*), sum(first), sum(notes), min(length(text)) FROM {scan}").fetchone()
    assert found == (ROWS, ROWS * (ROWS - 1) // 2, ROWS, WIDTH)
