"""The quarantine table of a stream: what could not become a row, with its raw bytes and the reason. Who puts it there is `ingestion`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.expressions import AlwaysTrue, BooleanExpression, GreaterThanOrEqual
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER
from pyiceberg.transforms import DayTransform
from pyiceberg.types import BinaryType, IntegerType, LongType, NestedField, StringType, TimestamptzType

from platform_resources.contracts.iceberg import TableDefinition
from platform_resources.contracts.model import Contract
from platform_resources.streams.log import LogRecord
from platform_resources.streams.offsets import Offsets

KEY = ("_topic", "_partition", "_offset")
RETENTION_DAYS = 30
CONFLICT = "conflicting_duplicate"

_KEY_SCHEMA = pa.schema([("_topic", pa.string()), ("_partition", pa.int32()), ("_offset", pa.int64())])

_SCHEMA = Schema(
    NestedField(1, "_topic", StringType(), required=True, doc="Topic the event was read from."),
    NestedField(2, "_partition", IntegerType(), required=True, doc="Partition of the topic."),
    NestedField(3, "_offset", LongType(), required=True, doc="Offset in the partition."),
    NestedField(4, "_log_time", TimestamptzType(), required=True, doc="When the event log appended the event, UTC."),
    NestedField(5, "_ingested_at", TimestamptzType(), required=True, doc="When the platform wrote the row, UTC."),
    NestedField(6, "key", BinaryType(), required=False, doc="Message key as it lies in the log."),
    NestedField(7, "raw", BinaryType(), required=False, doc="Message value as it lies in the log, byte by byte."),
    NestedField(8, "reason", StringType(), required=True, doc="Stable code: why the event is no row of the product."),
    NestedField(9, "path", StringType(), required=False, doc="Where in the event."),
    NestedField(10, "detail", StringType(), required=False, doc="What was found there, one sentence."),
    NestedField(11, "schema_version", StringType(), required=False, doc="The event's own $schema, where it can be read."),
    NestedField(12, "contract_version", StringType(), required=True, doc="Version of the contract that refused it."),
    NestedField(13, "run_id", StringType(), required=True, doc="Run that refused it."),
    NestedField(14, "status", StringType(), required=True, doc="`new` until somebody repairs or discards the event."),
)


@dataclass(frozen=True, slots=True)
class Refused:
    """Why one record is not a row: a stable `reason`, the `path` in the event and a `detail`."""

    record: LogRecord
    reason: str
    path: str
    detail: str


def quarantine_definition(contract: Contract) -> TableDefinition:
    """The quarantine table of a stream: by day of log time, restricted, kept 30 days, no bounds of raw bytes in manifests."""
    properties = {
        "sdp.classification": "restricted",
        "sdp.retention-days": str(RETENTION_DAYS),
        "sdp.quarantine-of": contract.identifier,
        "write.metadata.metrics.column.key": "none",
        "write.metadata.metrics.column.raw": "none",
        "write.metadata.metrics.column.detail": "none",
    }
    by_day = PartitionSpec(PartitionField(source_id=4, field_id=1000, transform=DayTransform(), name="_log_time_day"), spec_id=0)
    return TableDefinition(
        identifier=contract.quarantine_identifier,
        schema=_SCHEMA,
        partition_spec=by_day,
        sort_order=UNSORTED_SORT_ORDER,
        properties=properties,
        primary_key=KEY,
        write_mode="append",
    )


def quarantine_rows(refused: Sequence[Refused], *, ingested_at: datetime, contract_version: str, run_id: str) -> pa.Table:
    """The rows of the quarantine table for refused records."""
    records, stamp, n = [item.record for item in refused], pa.timestamp("us", tz="UTC"), len(refused)
    columns = {
        "_topic": pa.array([record.topic for record in records], pa.string()),
        "_partition": pa.array([record.partition for record in records], pa.int32()),
        "_offset": pa.array([record.offset for record in records], pa.int64()),
        "_log_time": pa.array([record.time for record in records], stamp),
        "_ingested_at": pa.array([ingested_at] * n, stamp),
        "key": pa.array([record.key for record in records], pa.binary()),
        "raw": pa.array([record.value for record in records], pa.binary()),
        "reason": pa.array([item.reason for item in refused], pa.string()),
        "path": pa.array([_text(item.path) for item in refused], pa.string()),
        "detail": pa.array([_text(item.detail) for item in refused], pa.string()),
        "schema_version": pa.array([_schema_version(record.value) for record in records], pa.string()),
        "contract_version": pa.array([contract_version] * n, pa.string()),
        "run_id": pa.array([run_id] * n, pa.string()),
        "status": pa.array(["new"] * n, pa.string()),
    }
    return pa.table(columns)


def _text(value: str) -> str | None:
    """Text that Arrow takes: an event may name a path with a lone surrogate."""
    return value.encode("utf-8", "replace").decode() or None


def _schema_version(value: bytes | None) -> str | None:
    try:
        event = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return None
    found = event.get("$schema") if isinstance(event, dict) else None
    return found if isinstance(found, str) else None


def rows_past(table: Table, position: Offsets, reached: Offsets) -> pa.Table:
    """Keys (topic, partition, offset) of the rows at or past a position; a partition that it does not know is at 0.

    `reached` is the quarantine table's own position, which no row of it lies at or past. Only the key columns are read, and only of
    the data files whose highest offset can be past the position.
    """
    files = [task.file.file_path for task in table.scan(row_filter=_reaching(position, reached)).plan_files()]
    keys = pa.concat_tables([_KEY_SCHEMA.empty_table(), *(_keys(table, path) for path in files)])
    past = [
        offset >= position.get((topic, partition), 0)
        for topic, partition, offset in zip(*(keys[name].to_pylist() for name in KEY), strict=True)
    ]
    return keys.filter(pa.array(past, pa.bool_()))


def _reaching(position: Offsets, reached: Offsets) -> BooleanExpression:
    lowest = min((position.get(tp, 0) for tp, offset in reached.items() if offset > position.get(tp, 0)), default=0)
    return GreaterThanOrEqual("_offset", lowest) if lowest else AlwaysTrue()  # type: ignore[call-arg, misc]


def _keys(table: Table, path: str) -> pa.Table:
    with table.io.new_input(path).open() as stream:
        return pq.ParquetFile(stream).read(columns=list(KEY)).select(KEY).cast(_KEY_SCHEMA)
