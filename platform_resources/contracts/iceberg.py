"""Compile a contract to an Iceberg table definition. No catalog, no file: values in, values out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.sorting import SortOrder
from pyiceberg.types import FixedType, IntegerType, LongType, NestedField, StringType, TimestamptzType

from platform_resources.contracts.model import Contract

STREAM_COLUMNS: tuple[NestedField, ...] = (
    NestedField(1, "_topic", StringType(), required=True, doc="Topic the event was read from."),
    NestedField(2, "_partition", IntegerType(), required=True, doc="Partition of the topic."),
    NestedField(3, "_offset", LongType(), required=True, doc="Offset in the partition."),
    NestedField(4, "_log_time", TimestamptzType(), required=True, doc="When the event log appended the event, UTC."),
    NestedField(5, "_ingested_at", TimestamptzType(), required=True, doc="When the platform wrote the row, UTC."),
    NestedField(6, "_event_hash", FixedType(16), required=True, doc="Hash of the canonical event, 16 bytes."),
)
EXTRA_COLUMN = NestedField(7, "_extra", StringType(), required=False, doc="Undeclared fields of the event, JSON text.")


@dataclass(frozen=True)
class TableDefinition:
    """What `CREATE TABLE` needs. Field ids in `schema` are fresh from 1."""

    identifier: str
    schema: Schema
    partition_spec: PartitionSpec
    sort_order: SortOrder
    properties: Mapping[str, str]
    primary_key: tuple[str, ...]
    write_mode: str


def table_definition(contract: Contract) -> TableDefinition:
    """The table of a contract."""
    raise NotImplementedError


def arrow_schema(definition: TableDefinition) -> pa.Schema:
    """Arrow schema of a definition with `PARQUET:field_id` metadata."""
    raise NotImplementedError
