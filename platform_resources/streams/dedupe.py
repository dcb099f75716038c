"""The deduplication window: which keys were inserted within the last `dedupeWindow` of log time, and with what payload.

The window is a cache of the table, never a truth of its own: it is rebuilt from the key, `_event_hash` and `_log_time` columns of
just the data files that reach into it. What becomes of duplicates and conflicts is decided by the drain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.expressions import AlwaysTrue, BooleanExpression, GreaterThanOrEqual
from pyiceberg.table import FileScanTask, Table

from platform_resources.contracts.model import Contract
from platform_resources.lakehouse.files import deleted_positions, kept_rows

Longs = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

FRESH, DUPLICATE, CONFLICT = 0, 1, 2


class Keys(NamedTuple):
    """Rows as the window sees them: (n, 2) words of key digest and payload hash, log time in microseconds, and whether there is a key."""

    keys: Words
    hashes: Words
    times: Longs
    keyed: npt.NDArray[np.bool_]

    def take(self, index: npt.NDArray[Any]) -> Keys:
        """The rows of an index or a mask."""
        return Keys(self.keys[index], self.hashes[index], self.times[index], self.keyed[index])


@dataclass
class _Segment:
    """Entries sorted by the first word of the key; the words of a key are a 128-bit digest, so the first alone nearly decides."""

    first: Words
    second: Words
    hashes: Words
    times: Longs

    @classmethod
    def of(cls, rows: Keys) -> _Segment:
        order = np.argsort(rows.keys[:, 0], kind="stable")
        return cls(rows.keys[order, 0], rows.keys[order, 1], rows.hashes[order], rows.times[order])

    def merged(self, other: _Segment) -> _Segment:
        first = np.concatenate((self.first, other.first))
        order = np.argsort(first, kind="stable")
        return _Segment(
            first[order],
            np.concatenate((self.second, other.second))[order],
            np.concatenate((self.hashes, other.hashes))[order],
            np.concatenate((self.times, other.times))[order],
        )

    def since(self, time: int) -> _Segment:
        keep = self.times >= time
        return self if keep.all() else _Segment(self.first[keep], self.second[keep], self.hashes[keep], self.times[keep])

    def may_hold(self, first: Words) -> npt.NDArray[np.bool_]:
        """Which of these first words occur."""
        if not len(self.first):
            return np.zeros(len(first), dtype=bool)
        at = np.minimum(np.searchsorted(self.first, first), len(self.first) - 1)
        return np.equal(self.first[at], first)

    def latest(self, first: np.uint64, second: np.uint64) -> tuple[int, bytes] | None:
        """The youngest entry of one key as (time, hash)."""
        begin, end = np.searchsorted(self.first, first, "left"), np.searchsorted(self.first, first, "right")
        here = [i for i in range(int(begin), int(end)) if self.second[i] == second]
        if not here:
            return None
        best = max(here, key=lambda i: int(self.times[i]))
        return int(self.times[best]), self.hashes[best].tobytes()


class DedupeWindow:
    """Keys inserted in a span of log time, 40 bytes each, in sorted arrays that merge as they grow.

    Args:
        window_us: length of the window, microseconds of log time.
        load: the inserted rows at or after a log time; called when the window must reach further back than it does.
    """

    def __init__(self, window_us: int, load: Callable[[int], Keys]) -> None:
        self._window, self._load = window_us, load
        self._segments: list[_Segment] = []
        self._floor: int | None = None

    def __len__(self) -> int:
        return sum(len(segment.first) for segment in self._segments)

    def reach(self, oldest_us: int) -> None:
        """Hold exactly what events from this log time on may be compared with: load what is missing, forget what is older."""
        floor = oldest_us - self._window
        if self._floor is None or floor < self._floor:
            self._segments = [_Segment.of(self._load(floor))]
        else:
            self._segments = [kept for segment in self._segments if len((kept := segment.since(floor)).first)]
        self._floor = floor

    def judge(self, rows: Keys, same: Callable[[int, bytes], bool] = lambda _row, _hash: False) -> npt.NDArray[np.uint8]:
        """FRESH, DUPLICATE or CONFLICT for each row, in order, each seeing the fresh rows before it. Remembers nothing.

        A row is compared with the youngest entry of its key, if that is not older than the window before the row's own log time. Where
        the hashes differ, `same` is asked whether the row has that other hash too.
        """
        verdict = np.full(len(rows.times), FRESH, dtype=np.uint8)
        pending: dict[bytes, tuple[int, bytes]] = {}
        for i in self._worth_a_look(rows):
            key, moment, payload = rows.keys[i].tobytes(), int(rows.times[i]), rows.hashes[i].tobytes()
            known = pending.get(key) or self._latest(rows.keys[i])
            if known is None or known[0] < moment - self._window:
                pending[key] = (moment, payload)
            else:
                verdict[i] = DUPLICATE if known[1] == payload or same(i, known[1]) else CONFLICT
        return verdict

    def remember(self, rows: Keys) -> None:
        """Add rows that are committed; those without a key are not kept."""
        rows = rows.take(rows.keyed)
        if not len(rows.times):
            return
        self._segments.append(_Segment.of(rows))
        while len(self._segments) > 1 and len(self._segments[-2].first) <= 2 * len(self._segments[-1].first):
            last = self._segments.pop()
            self._segments[-1] = self._segments[-1].merged(last)

    def _worth_a_look(self, rows: Keys) -> list[int]:
        """Rows whose key may be known or comes twice; the others, nearly all, need no Python each."""
        first = rows.keys[:, 0]
        _, inverse, counts = np.unique(first, return_inverse=True, return_counts=True)
        look = counts[inverse] > 1
        for segment in self._segments:
            look |= segment.may_hold(first)
        return [int(i) for i in np.flatnonzero(look & rows.keyed)]

    def _latest(self, key: Words) -> tuple[int, bytes] | None:
        found = (segment.latest(key[0], key[1]) for segment in self._segments)
        return max((entry for entry in found if entry is not None), default=None)


def keys_of(values: pa.Array | pa.ChunkedArray | None, hashes: Sequence[bytes], times: Longs) -> Keys:
    """The window's view of rows: `values` is the key column (None: the product has none), `hashes` 16 bytes each, `times` microseconds."""
    digests = [None] * len(times) if values is None else [_digest(value) for value in values.to_pylist()]
    blank = bytes(16)
    return Keys(
        _words(blank if digest is None else digest for digest in digests),
        _words(hashes),
        times,
        np.fromiter((digest is not None for digest in digests), dtype=bool, count=len(digests)),
    )


def _words(parts: Iterable[bytes]) -> Words:
    return np.frombuffer(b"".join(parts), dtype="<u8").reshape(-1, 2)


def _digest(value: Any) -> bytes | None:
    """128 bits of a key; a cryptographic hash, since a collision would drop an event."""
    if value is None:
        return None
    if isinstance(value, str):
        return blake2b(value.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return blake2b(value if isinstance(value, bytes) else repr(value).encode(), digest_size=16).digest()


def inserted_since(table: Table | None, contract: Contract, since_us: int) -> Keys:
    """Key, payload hash and log time of the table's rows at or after a log time, from the data files that have such rows. A row that was
    deleted is none: its event may come again.
    """
    if table is None:
        return keys_of(None, [], np.empty(0, dtype=np.int64))
    tasks = table.scan(row_filter=_not_before(table, since_us)).plan_files()
    found = [rows for task in tasks if len((rows := _read(table, task, contract.dedupe_key, since_us)).times)]
    if not found:
        return keys_of(None, [], np.empty(0, dtype=np.int64))
    return Keys(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _not_before(table: Table, since_us: int) -> BooleanExpression:
    if "_log_time" not in table.schema().column_names:
        return AlwaysTrue()
    return GreaterThanOrEqual("_log_time", np.datetime64(since_us, "us").item().isoformat() + "+00:00")  # type: ignore[call-arg, misc]


def _read(table: Table, task: FileScanTask, key: str, since_us: int) -> Keys:
    path = task.file.file_path
    with table.io.new_input(path).open() as stream:
        file = pq.ParquetFile(stream)
        leaves = {file.schema.column(i).path for i in range(len(file.schema))}
        rows = file.read(columns=[key, "_event_hash", "_log_time"])
    keep = kept_rows(0, rows.num_rows, deleted_positions(table.io, path, list(task.delete_files)))
    rows = rows if keep is None else rows.filter(keep)
    times = rows.column("_log_time").cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
    rows = rows.filter(pc.greater_equal(times, since_us))
    values = column_at(rows, key) if key in leaves else None  # a file older than the key column has no keys to compare with
    moments = rows.column("_log_time").cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy()
    return keys_of(values, rows.column("_event_hash").to_pylist(), moments)


def column_at(rows: pa.Table, path: str) -> pa.ChunkedArray | None:
    """The column at a dotted path of structs, None when there is none; a null parent makes a null."""
    top, *rest = path.split(".")
    if top not in rows.schema.names:
        return None
    column = rows.column(top)
    for name in rest:
        if not pa.types.is_struct(column.type) or column.type.get_field_index(name) < 0:
            return None
        column = pc.struct_field(column, name)
    return column
