"""Events to Arrow rows by their contract, and back.

A batch is decoded column by column (`arrays`); an event that cannot become a row is told with reason and path and never takes another
one with it. Rules: of a repeated key the last value counts; a field that is null is absent; date-times are stored in UTC to the
microsecond; JSON columns hold canonical JSON text; fields that an open contract does not declare go to `_extra` (`undeclared`).
"""

from __future__ import annotations

import gc
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson
import pyarrow as pa
from pyiceberg.types import TimestamptzType, UUIDType

from platform_resources.contracts.iceberg import arrow_type
from platform_resources.contracts.model import Column, Contract
from platform_resources.streams.arrays import Findings, struct_builder
from platform_resources.streams.canonical import CanonicalForm, canonical_json, digest
from platform_resources.streams.temporal import format_micros, format_time
from platform_resources.streams.undeclared import Undeclared
from platform_resources.streams.validation import EventSchema, UnreadableError, parse_event, shortened

# Parsed events are millions of small objects that hold no cycle, and the cyclic collector walks them again and again: short strides
# without it are much faster than one long stride with it. Their bytes are bounded too, since parsed JSON is many times larger.
_STRIDE = 2000
_STRIDE_BYTES = 16 << 20
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Undecodable:
    """Why one event cannot become a row.

    `index` counts into the values given; `path` is where in the event (empty: the whole); `detail` is for people. `reason` is one of
    `no-value`, `too-large`, `invalid-utf8`, `invalid-json`, `not-an-object`, `too-deep`, `schema-violation`, `out-of-range`,
    `unreadable-timestamp`, `unreadable-uuid`, `unreadable-bytes`, `undecodable`.
    """

    index: int
    reason: str
    path: str
    detail: str


@dataclass(frozen=True)
class Decoded:
    """One batch decoded.

    `table` holds a row per good value (contract columns in order, then `_extra` when the contract is open); `rows[i]` is the index
    of row i in the values given; `hashes[i]` its 16-byte canonical hash; `errors` say why the others are not there.
    """

    table: pa.Table
    rows: list[int]
    errors: list[Undecodable]
    hashes: list[bytes]


class Codec:
    """Decoder and encoder of one contract's events. Compiling takes milliseconds: keep it."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.schema = pa.schema([pa.field(c.name, arrow_type(c.type), nullable=not c.required) for c in contract.columns])
        self._form, self._undeclared = CanonicalForm(contract), Undeclared(contract)
        self._valid = EventSchema(contract)
        self._build = struct_builder(contract.columns, pa.struct(list(self.schema)), open_=not contract.closed)
        if contract.open:
            self.schema = self.schema.append(pa.field("_extra", pa.string()))

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """Decode raw values; never raises, whatever the bytes."""
        tables: list[pa.Table] = []
        rows: list[int] = []
        errors: list[Undecodable] = []
        hashes: list[bytes] = []
        for start, stop in _strides(values):
            with _collector_paused():
                events, places, nulls = self._parse(values[start:stop], start, errors)
                table, kept, digests = self._rows(events, nulls, places, errors)
            tables.append(table)
            rows += kept
            hashes += digests
        errors.sort(key=lambda error: error.index)
        return Decoded(pa.concat_tables(tables) if tables else self.schema.empty_table(), rows, errors, hashes)

    # --- decoding

    def _parse(
        self, values: Sequence[bytes | None], start: int, errors: list[Undecodable]
    ) -> tuple[list[dict[str, Any]], list[int], list[bool]]:
        """The valid events, their indices, and which may hold a null; what is wrong with the others goes to `errors`."""
        events, rows, nulls = [], [], []
        limit, valid, loads = self.contract.max_event_bytes, self._valid.is_valid, orjson.loads
        for index, raw in enumerate(values, start):
            if raw is not None and len(raw) <= limit:
                try:
                    event = loads(raw)
                    if type(event) is dict and valid(event):
                        events.append(event)
                        rows.append(index)
                        nulls.append(b"null" in raw)
                        continue
                except ValueError:  # not JSON, or nested more deeply than the validator goes
                    pass
            errors.append(self._undecodable(index, raw))
        return events, rows, nulls

    def _undecodable(self, index: int, raw: bytes | None) -> Undecodable:
        if raw is None:
            return Undecodable(index, "no-value", "", "the record has no value")
        try:
            event = parse_event(raw, self.contract.max_event_bytes)
            path, detail = self._valid.fault(event) or ("", "breaks the schema")
        except UnreadableError as error:
            return Undecodable(index, error.reason, "", str(error))
        except ValueError as error:
            return Undecodable(index, "too-deep", "", shortened(str(error)))
        return Undecodable(index, "schema-violation", path, detail)

    def _rows(
        self, events: list[dict[str, Any]], nulls: list[bool], rows: list[int], errors: list[Undecodable]
    ) -> tuple[pa.Table, list[int], list[bytes]]:
        """Table, indices and hashes of the events that fit; faults go to `errors`.

        What nobody foresaw about an event must not stop its stream: a batch that fails as a whole is halved until the one is found.
        """
        try:
            return self._build_rows(events, nulls, rows, errors)
        except Exception as error:  # noqa: BLE001 - see above; the event goes to quarantine with the error's text
            if len(events) == 1:
                deep = isinstance(error, RecursionError | orjson.JSONEncodeError)  # more than the 254 levels that can be written again
                reason, detail = (
                    ("too-deep", "the event is nested too deeply") if deep else ("undecodable", f"{type(error).__name__}: {error}")
                )
                errors.append(Undecodable(rows[0], reason, "", shortened(detail)))
                return self.schema.empty_table(), [], []
        half = len(events) // 2
        first = self._rows(events[:half], nulls[:half], rows[:half], errors)
        second = self._rows(events[half:], nulls[half:], rows[half:], errors)
        return pa.concat_tables([first[0], second[0]]), first[1] + second[1], first[2] + second[2]

    def _build_rows(
        self, events: list[dict[str, Any]], nulls: list[bool], rows: list[int], errors: list[Undecodable]
    ) -> tuple[pa.Table, list[int], list[bytes]]:
        findings = Findings()
        built = self._build(events, lambda index: (index, ""), findings)
        columns = [built.field(index) for index in range(built.type.num_fields)] if events else [pa.nulls(0, f.type) for f in self.schema]
        if self.contract.open and events:
            columns.append(self._extra(events, findings))
        unusual = findings.unusual | findings.undeclared
        hashes = [self._hash(event, nulls[row] or row in unusual) for row, event in enumerate(events)]
        table = pa.Table.from_arrays(columns, schema=self.schema)
        if findings.faults:
            good = [row for row in range(len(events)) if row not in findings.faults]
            table = table.take(pa.array(good, pa.int64()))
            errors += [Undecodable(rows[row], *fault) for row, fault in findings.faults.items()]
            return table, [rows[row] for row in good], [hashes[row] for row in good]
        return table, rows, hashes

    def _extra(self, events: list[dict[str, Any]], findings: Findings) -> pa.Array:
        texts: list[bytes | None] = [None] * len(events)
        for row in findings.undeclared:
            extra = self._undeclared.of(events[row])
            texts[row] = canonical_json(extra) if extra else None
        return pa.array(texts, pa.string())

    def _hash(self, event: dict[str, Any], unusual: bool) -> bytes:
        """The canonical hash; an event that is in canonical form as it stands is not walked again (it is most of the cost)."""
        return digest(canonical_json(self._form.normalise(event) if unusual else event))

    # --- encoding

    def encode(self, row: dict[str, Any]) -> dict[str, Any]:
        """The event of a table row (as `pa.Table.to_pylist` gives it): inverse of `decode` up to *equal*. Own columns are left out."""
        event = _encode_struct(self.contract.columns, row)
        if row.get("_extra"):
            self._undeclared.merge(event, orjson.loads(row["_extra"]))
        return event


def _strides(values: Sequence[bytes | None]) -> Iterator[tuple[int, int]]:
    """Spans of at most `_STRIDE` values, each ended by the value that reaches `_STRIDE_BYTES`."""
    start = size = 0
    for index, value in enumerate(values, 1):
        size += len(value or b"")
        if index - start == _STRIDE or size >= _STRIDE_BYTES or index == len(values):
            yield start, index
            start, size = index, 0


@contextmanager
def _collector_paused() -> Iterator[None]:
    """No cyclic garbage collection while a stride is decoded."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _encode_struct(columns: tuple[Column, ...], row: dict[str, Any]) -> dict[str, Any]:
    return {column.event_name: _encode(column, value) for column in columns if (value := row.get(column.name)) is not None}


def _encode(column: Column, value: Any) -> Any:
    """One value of a row as JSON has it."""
    if value is None:
        return None
    if column.is_json:
        return orjson.loads(value)
    if column.fields:
        return _encode_struct(column.fields, value)
    if column.element is not None:
        return [_encode(column.element, item) for item in value]
    if column.value is not None:
        entries = value.items() if isinstance(value, dict) else value
        return {str(key): _encode(column.value, item) for key, item in entries}
    return _encode_leaf(column, value)


def _encode_leaf(column: Column, value: Any) -> Any:
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
        return format_micros((moment - _EPOCH) // datetime.resolution, zoned=isinstance(column.type, TimestamptzType))
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, time):
        return format_time(value)
    if isinstance(value, bytes):
        return str(UUID(bytes=value)) if isinstance(column.type, UUIDType) else b64encode(value).decode()
    return str(value) if isinstance(value, UUID | Decimal) else value
