"""Deliveries become rows on their way into the table: own columns put on, bad rows put aside, all of it counted, block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from platform_resources.contracts.iceberg import landed_columns
from platform_resources.contracts.model import Contract
from platform_resources.engines.audit import CheckOutcome
from platform_resources.lakehouse.conforming import arrow_schema_of
from platform_resources.landing.limits import Limits
from platform_resources.landing.quarantine import Aside
from platform_resources.landing.source import Block, Delivery, RefusedRecord, Source
from platform_resources.streams.checks import StreamChecks

_BATCH_ROWS = 1 << 17


class Intake:
    """What deliveries that land together give: a reader of rows in the table's types, and `aside` what is none.

    Attributes, complete once the reader came to its end:
        read: records of the deliveries.
        inserted: rows given.
        newest: the greatest event time, UTC; None where the contract names no `eventTime`, or no row has one.
        outcomes: of the row-wise checks, one for each rule and block.
        reading: the delivery that was being read last.
    """

    def __init__(
        self,
        contract: Contract,
        source: Source,
        deliveries: Sequence[Delivery],
        *,
        checks: StreamChecks,
        limits: Limits,
        aside: Aside,
        landed_at: datetime,
    ) -> None:
        from platform_resources.contracts.iceberg import table_schema

        self._contract, self._source, self._deliveries = contract, source, deliveries
        self._checks, self._limits, self._aside, self._landed_at = checks, limits, aside, landed_at
        schema = arrow_schema_of(table_schema(contract))
        self.schema = pa.schema([field for field in schema if not field.name.startswith("_valid_")])
        self.read = self.inserted = 0
        self.newest: datetime | None = None
        self.outcomes: list[CheckOutcome] = []
        self.reading: Delivery | None = None
        self.fault: BaseException | None = None

    def reader(self) -> pa.RecordBatchReader:
        """The rows; what reading raises comes out of it, and stands in `fault`."""
        return pa.RecordBatchReader.from_batches(self.schema, self._batches())

    def _batches(self) -> Iterator[pa.RecordBatch]:
        try:
            for delivery in self._deliveries:
                self.reading = delivery
                for block in self._source.read(delivery):
                    yield from self._taken(delivery, block).to_batches(max_chunksize=_BATCH_ROWS)
        except BaseException as error:
            self.fault = error  # Arrow hands errors of a reader on as its own kind
            raise

    def _taken(self, delivery: Delivery, block: Block) -> pa.Table:
        self.read += block.rows.num_rows + len(block.refused)
        refused = list(block.refused)
        rows, lines = _complete(self._contract, block.rows), block.lines
        if rows.num_rows:
            failed = self._failed(rows, lines, refused)
            if failed.any():
                keep = pa.array(~failed)
                rows, lines = rows.filter(keep), lines.filter(keep)
        self._aside.put(delivery, refused)
        self.inserted += rows.num_rows
        self._note_time(rows)
        return self._with_own(delivery, rows, lines)

    def _failed(self, rows: pa.Table, lines: pa.Array, refused: list[RefusedRecord]) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which rows are none after all: a required value is missing, one is not what its column may hold, or they break a rule."""
        failed = np.zeros(rows.num_rows, dtype=bool)
        for column in self._contract.columns:
            if column.required and rows.column(column.name).null_count:
                missing = np.asarray(pc.is_null(rows.column(column.name))) & ~failed
                failed |= missing
                detail = f"{column.name} is missing."
                refused += [_record(rows, lines, int(i), "schema-violation", column.name, detail) for i in np.flatnonzero(missing)]
        broken = self._limits.broken(rows)
        for index in np.flatnonzero((broken >= 0) & ~failed):
            limit = self._limits.of(broken[index])
            refused.append(_record(rows, lines, int(index), "schema-violation", limit.path, f"{limit.path} {limit.says}."))
        failed |= broken >= 0
        verdicts = self._checks.rows(rows)
        self.outcomes += verdicts.outcomes
        for index in np.flatnonzero((verdicts.failed >= 0) & ~failed):
            check = verdicts.checks[verdicts.failed[index]]
            detail = check.description or f"It breaks the rule {check.name}."
            refused.append(_record(rows, lines, int(index), f"check:{check.name}", check.column or "", detail))
        return failed | (verdicts.failed >= 0)

    def _note_time(self, rows: pa.Table) -> None:
        name = self._contract.event_time
        if not name or not rows.num_rows:
            return
        column = rows.column(name.split(".")[0])
        for part in name.split(".")[1:]:
            column = pc.struct_field(column, part)
        value = pc.max(column).as_py()
        if value is None:
            return
        if isinstance(value, datetime):
            moment = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        else:
            assert isinstance(value, date)  # noqa: S101 - the contract's law
            moment = datetime(value.year, value.month, value.day, tzinfo=UTC)
        self.newest = moment if self.newest is None else max(self.newest, moment)

    def _with_own(self, delivery: Delivery, rows: pa.Table, lines: pa.Array) -> pa.Table:
        slices, n = self._contract.slices, rows.num_rows
        own: dict[str, Any] = {
            "_file_name": delivery.name,
            "_file_hash": delivery.version,
            "_slice": slices.value(delivery.slice) if slices is not None and delivery.slice is not None else None,
            "_landed_at": self._landed_at,
        }
        extra = rows.column("_extra") if self._contract.keeps_extra else None
        rows = rows.select([column.name for column in self._contract.columns])
        for field in landed_columns(self._contract):
            if field.name.startswith("_valid_"):
                continue
            if field.name == "_extra":
                rows = rows.append_column("_extra", extra)
                continue
            kind = self.schema.field(field.name).type
            rows = rows.append_column(field.name, lines if field.name == "_line" else pa.repeat(pa.scalar(own[field.name], kind), n))
        return rows.cast(self.schema) if rows.schema != self.schema else rows


def _complete(contract: Contract, rows: pa.Table) -> pa.Table:
    """The contract's columns, in its order, and what it leaves undeclared; what the delivery does not have is null."""
    from platform_resources.contracts.iceberg import arrow_type

    columns = {
        column.name: rows.column(column.name) if column.name in rows.column_names else pa.nulls(rows.num_rows, arrow_type(column.type))
        for column in contract.columns
    }
    if contract.keeps_extra:
        columns["_extra"] = rows.column("_extra") if "_extra" in rows.column_names else pa.nulls(rows.num_rows, pa.string())
    return pa.table(columns)


def _record(rows: pa.Table, lines: pa.Array, index: int, reason: str, path: str, detail: str) -> RefusedRecord:
    """A row that is refused after it was read: what stood there is told as JSON."""
    values = rows.slice(index, 1).to_pylist()[0]
    raw = orjson.dumps(values, default=_plain, option=orjson.OPT_NON_STR_KEYS)
    return RefusedRecord(lines[index].as_py(), raw, reason, path, detail)


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else str(value)
