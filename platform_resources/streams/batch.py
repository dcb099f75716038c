"""What a batch of records becomes: rows of the product, rows of the quarantine, duplicates, and the counts that prove none is missing.

Nothing is written here and no state is kept: the same records at the same position always make the same batch, however often a
drain is killed and started again.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from platform_resources.contracts.model import Contract
from platform_resources.engines.audit import CheckOutcome
from platform_resources.failpoints import failpoint
from platform_resources.streams.canonical import CanonicalForm, older_forms
from platform_resources.streams.checks import StreamChecks
from platform_resources.streams.codec import Codec
from platform_resources.streams.dedupe import CONFLICT, DUPLICATE, FRESH, DedupeWindow, Keys, column_at, keys_of
from platform_resources.streams.log import LogRecord
from platform_resources.streams.offsets import Offsets
from platform_resources.streams.quarantine import CONFLICT as CONFLICTING
from platform_resources.streams.quarantine import Refused
from platform_resources.streams.watermark import UNKNOWN, Arrivals, Watermark

Longs = npt.NDArray[np.int64]

_UTC_MICROS = pa.timestamp("us", tz="UTC")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(moment: datetime) -> int:
    """Microseconds since 1970, exact."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def moment(micros_since_1970: int) -> datetime:
    """The inverse of `micros`."""
    return _EPOCH + timedelta(microseconds=micros_since_1970)


def delay_of(contract: Contract) -> int:
    """`watermarkDelay`, microseconds."""
    return contract.watermark_delay // timedelta(microseconds=1)


@dataclass(frozen=True)
class Batch:
    """One commit's worth: `rows` for the product, `refused` for the quarantine, and the state of the drain once it is committed."""

    rows: pa.Table
    refused: list[Refused]
    counts: dict[str, int]
    position: Offsets
    watermark: Watermark
    keys: Keys
    outcomes: list[CheckOutcome]


class Batcher:
    """Makes batches of one product's records. `versions` gives the columns that the product had, once for each time they changed."""

    def __init__(
        self, contract: Contract, checks: StreamChecks, window: DedupeWindow, versions: Callable[[], Iterable[Container[str]]]
    ) -> None:
        self._contract, self._checks, self._window, self._versions = contract, checks, window, versions
        self._codec = Codec(contract)

    def batch(self, records: Sequence[LogRecord], *, reached: Offsets, watermark: Watermark, ends: Offsets, now: datetime) -> Batch:
        """The batch of records, the position once it is committed being `reached`; `ends` are the log ends seen, `now` the wall clock."""
        decoded = self._codec.decode([record.value for record in records])
        failpoint("drain-after-decode")
        refused = [Refused(records[error.index], error.reason, error.path, error.detail) for error in decoded.errors]
        index, table, hashes = np.asarray(decoded.rows, dtype=np.int64), decoded.table, decoded.hashes

        verdicts = self._checks.rows(table)
        for i in np.flatnonzero(verdicts.failed >= 0):
            check = verdicts.checks[verdicts.failed[i]]
            refused.append(Refused(records[index[i]], f"check:{check.name}", check.column or "", check.description))

        times = _log_times(records, watermark)
        keys = keys_of(column_at(table, self._contract.dedupe_key), hashes, times[index])
        passing = np.flatnonzero(verdicts.failed < 0)
        lagging = {tp: end for tp, end in ends.items() if end > reached.get(tp, 0)}
        failpoint("drain-before-window")
        self._window.reach(min([int(times.min()), *(seen.log for tp, seen in watermark.seen.items() if tp in lagging)]))
        judged = self._window.judge(keys.take(passing), lambda i, known: self._had(records[index[passing[i]]], known))
        for i in passing[judged == CONFLICT]:
            detail = f"An event with the same {self._contract.dedupe_key} and another payload was ingested within the deduplication window."
            refused.append(Refused(records[index[i]], CONFLICTING, self._contract.dedupe_key, detail))

        kept = passing[judged == FRESH]
        advance = watermark.advanced(
            self._arrivals(records, index[kept], _taken(table, kept), times),
            read_until={(record.topic, record.partition): int(time) for record, time in zip(records, times, strict=True)},
            lagging=lagging,
            delay=delay_of(self._contract),
            now=micros(now),
        )
        counts = {
            "read": len(records),
            "inserted": len(kept),
            "duplicates": int((judged == DUPLICATE).sum()),
            "quarantined": len(refused),
            "late": int(advance.late.sum()),
            "skewed": int(advance.skewed.sum()),
        }
        rows = _with_own_columns(_taken(table, kept), [records[i] for i in index[kept]], times[index[kept]], [hashes[i] for i in kept], now)
        return Batch(rows, refused, counts, reached, advance.watermark, keys.take(kept), verdicts.outcomes)

    def _had(self, record: LogRecord, known: bytes) -> bool:
        """Whether a good event has had this hash before columns were added to its product."""
        event = orjson.loads(record.value or b"")
        return any(form.hash(event) == known for form in self._older)

    @cached_property
    def _older(self) -> list[CanonicalForm]:
        return older_forms(self._contract, self._versions())

    def _arrivals(self, records: Sequence[LogRecord], index: Longs, rows: pa.Table, times: Longs) -> Arrivals:
        """The inserted rows as the watermark sees them."""
        numbers: dict[tuple[str, int], int] = {}
        source = np.fromiter(
            (numbers.setdefault((records[i].topic, records[i].partition), len(numbers)) for i in index), dtype=np.int64, count=len(index)
        )
        return Arrivals(list(numbers), source, _event_times(rows, self._contract.event_time), times[index])


def _log_times(records: Sequence[LogRecord], watermark: Watermark) -> Longs:
    """Log times in microseconds, never going back within a partition.

    What producers claim may: one event of 1970 would then make the deduplication window reach over the whole table.
    """
    times: Longs = pa.array([record.time for record in records], _UTC_MICROS).cast(pa.int64()).to_numpy().copy()
    numbers: dict[tuple[str, int], int] = {}
    source = np.fromiter((numbers.setdefault((r.topic, r.partition), len(numbers)) for r in records), dtype=np.int64, count=len(records))
    for tp, number in numbers.items():
        mine = source == number
        before = watermark.seen[tp].log if tp in watermark.seen else UNKNOWN
        times[mine] = np.maximum(np.maximum.accumulate(times[mine]), before)
    return times


def _taken(table: pa.Table, kept: Longs) -> pa.Table:
    return table if len(kept) == len(table) else table.take(pa.array(kept))


def _event_times(rows: pa.Table, path: str) -> Longs:
    column = column_at(rows, path)
    if column is None or not (pa.types.is_timestamp(column.type) or pa.types.is_date(column.type)):
        return np.full(len(rows), UNKNOWN, dtype=np.int64)
    naive_is_utc = column.cast(pa.timestamp("us", tz=column.type.tz if pa.types.is_timestamp(column.type) else None))
    return np.asarray(naive_is_utc.cast(pa.int64()).fill_null(UNKNOWN).to_numpy(), dtype=np.int64)


def _with_own_columns(table: pa.Table, records: Sequence[LogRecord], times: Longs, hashes: Sequence[bytes], now: datetime) -> pa.Table:
    """The stream's own columns, after the event's."""
    own = {
        "_topic": pa.array([record.topic for record in records], pa.string()),
        "_partition": pa.array([record.partition for record in records], pa.int32()),
        "_offset": pa.array([record.offset for record in records], pa.int64()),
        "_log_time": pa.array(times).cast(_UTC_MICROS),
        "_ingested_at": pa.array(np.full(len(records), micros(now), dtype=np.int64)).cast(_UTC_MICROS),
        "_event_hash": pa.array(hashes, pa.binary(16)),
    }
    for name, column in own.items():
        table = table.append_column(name, column)
    return table
