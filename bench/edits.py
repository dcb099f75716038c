"""The rows that the lakehouse benchmarks write: edit events over 30 days, 7 columns, about 107 bytes each in Arrow.

They are drawn from the row number alone, so that any part of them can be made anywhere: in a stream that is never wholly in memory, in
a peer's own process. This module needs numpy and pyarrow only.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Order = Literal["clustered", "shuffled"]

SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        ("seen", pa.timestamp("us", "UTC")),
        ("wiki", pa.string()),
        ("title", pa.string()),
        ("delta", pa.int32()),
        ("is_bot", pa.bool_()),
        ("comment", pa.string()),
    ]
)
BATCH_ROWS = 1 << 17
DAYS = 30
_FIRST, _SPAN = 1_767_225_600_000_000, DAYS * 86_400_000_000
_WIKIS = ["enwiki", "dewiki", "frwiki", "commonswiki", "wikidatawiki", "svwiki", "eswiki", "jawiki"]


def batches(rows: int, order: Order = "clustered") -> Iterator[pa.RecordBatch]:
    """The rows in order of time, or in an order drawn once (seed 7), made batch by batch."""
    drawn = _drawn(rows) if order == "shuffled" else None
    for start in range(0, rows, BATCH_ROWS):
        stop = min(start + BATCH_ROWS, rows)
        yield _made(np.arange(start, stop) if drawn is None else drawn[start:stop].astype(np.int64), rows)


def _drawn(rows: int) -> np.ndarray:
    numbers = np.arange(rows, dtype=np.uint32)
    np.random.default_rng(7).shuffle(numbers)
    return numbers


def reader(rows: int, order: Order = "clustered") -> pa.RecordBatchReader:
    """The same as a reader."""
    return pa.RecordBatchReader.from_batches(SCHEMA, batches(rows, order))


def _made(ids: np.ndarray, rows: int) -> pa.RecordBatch:
    mixed = (ids * 2_654_435_761) & 0xFFFFFFFF
    wikis, titles, comments = _words()
    columns = [
        pa.array(ids),
        pa.array(ids * max(1, _SPAN // max(rows, 1)) + _FIRST).cast(pa.timestamp("us", "UTC")),
        wikis.take(pa.array(mixed & 7)),
        titles.take(pa.array(mixed % 50_000)),
        pa.array((mixed % 2_000 - 500).astype(np.int32)),
        pa.array(mixed % 5 == 0),
        comments.take(pa.array((mixed >> 3) % 200_000)),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


@cache
def _words() -> tuple[pa.Array, pa.Array, pa.Array]:
    titles = pa.array([f"Page about subject number {n}" for n in range(50_000)])
    comments = pa.array([f"/* Section {n} */ fixed {n * 7919}" for n in range(200_000)])
    return pa.array(_WIKIS), titles, comments


def days(rows: pa.Table) -> pa.ChunkedArray:
    """The UTC day of each row as a date, for peers that partition by a column only."""
    return pc.cast(pc.floor_temporal(rows.column("seen"), unit="day"), pa.date32())
