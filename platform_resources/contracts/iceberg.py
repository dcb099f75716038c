"""Compile a contract to an Iceberg table definition (format version 2). No catalog, no file: values in, values out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema, assign_fresh_schema_ids
from pyiceberg.table.sorting import NullOrder, SortDirection, SortField, SortOrder
from pyiceberg.transforms import DayTransform, IdentityTransform, Transform, parse_transform
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from platform_resources.contracts.model import Column, Contract

STREAM_COLUMNS: tuple[NestedField, ...] = (
    NestedField(1, "_topic", StringType(), required=True, doc="Topic the event was read from."),
    NestedField(2, "_partition", IntegerType(), required=True, doc="Partition of the topic."),
    NestedField(3, "_offset", LongType(), required=True, doc="Offset in the partition."),
    NestedField(4, "_log_time", TimestamptzType(), required=True, doc="When the event log appended the event, UTC."),
    NestedField(5, "_ingested_at", TimestamptzType(), required=True, doc="When the platform wrote the row, UTC."),
    NestedField(6, "_event_hash", FixedType(16), required=True, doc="Hash of the canonical event, 16 bytes."),
)
EXTRA_COLUMN = NestedField(7, "_extra", StringType(), required=False, doc="Fields that the contract does not declare, JSON text.")


_FILE = NestedField(1, "_file_name", StringType(), required=True, doc="Name of the delivery: a file below its root, a slice, a cursor.")
_FILE_HASH = NestedField(
    2, "_file_hash", StringType(), required=True, doc="Version of the delivery: hash of a file, instant of a snapshot."
)
_LINE = NestedField(3, "_line", LongType(), required=False, doc="Line or record number in the delivery, from 1.")
_LANDED_AT = NestedField(5, "_landed_at", TimestamptzType(), required=True, doc="When the platform wrote the row, UTC.")
_VALIDITY = (
    NestedField(6, "_valid_from", TimestamptzType(), required=True, doc="Start of the slice with which the row came to hold, UTC."),
    NestedField(7, "_valid_to", TimestamptzType(), required=False, doc="Start of the slice with which it no longer held; null: it holds."),
)


def landed_columns(contract: Contract) -> tuple[NestedField, ...]:
    """The platform's own columns of a landed product, after the contract's."""
    slices = contract.slices
    of_slices = () if slices is None else (slice_column(contract),)
    extra = (EXTRA_COLUMN,) if contract.keeps_extra else ()
    return (_FILE, _FILE_HASH, _LINE, *of_slices, _LANDED_AT, *extra, *(_VALIDITY if contract.validity else ()))


def slice_column(contract: Contract, *, required: bool = True) -> NestedField:
    """The column `_slice` of a product with slices: a date, of hourly ones a timestamp."""
    kind = contract.slices.column_type if contract.slices is not None else DateType()
    return NestedField(4, "_slice", kind, required=required, doc="Start of the slice that the row came with.")


# How rows become files; how a table's metadata is kept is `lakehouse.catalog`'s. These keys we set and keep; any other key on a table is a
# foreigner's and stays untouched.
TABLE_PROPERTIES: Mapping[str, str] = {
    "format-version": "2",
    "write.format.default": "parquet",
    "write.parquet.compression-codec": "zstd",
    "write.parquet.compression-level": "3",
    "write.target-file-size-bytes": str(128 * 1024 * 1024),
    "write.metadata.metrics.default": "truncate(16)",
}
_METRICS = "write.metadata.metrics.column."

_SORT_TERM = re.compile(
    r"(?P<column>[\w.-]+|(?P<transform>\w+(\[\d+\])?)\((?P<inner>[\w.-]+)\))(\s+(?P<direction>asc|desc))?(\s+nulls\s+(?P<nulls>first|last))?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class MergeRule:
    """How rows are merged by key.

    `strategy` is `auto`, `merge-on-read` or `copy-on-write`. Of rows with one key the one with the greatest `sequence` (dotted columns,
    the first counts most) wins; without any, or where it tells only batches apart (`of_batches`), a batch has a key but once. `marker`
    says which rows of a batch are deletions: a boolean column (and None), or a column and the text of the value it then has.
    """

    strategy: str = "auto"
    sequence: tuple[str, ...] = ()
    marker: tuple[str, str | None] | None = None
    of_batches: bool = False


@dataclass(frozen=True)
class TableDefinition:
    """What `CREATE TABLE` needs. Field ids in `schema` are fresh from 1, as a catalog will assign them on creation."""

    identifier: str
    schema: Schema
    partition_spec: PartitionSpec
    sort_order: SortOrder
    properties: Mapping[str, str]
    primary_key: tuple[str, ...]
    write_mode: str
    merge: MergeRule = MergeRule()


@dataclass(frozen=True)
class SortTerm:
    """One term of a `sortOrder`: `wiki_id`, `dt desc nulls last`, `bucket[16](page_id)`."""

    column: str
    transform: Transform  # type: ignore[type-arg]
    descending: bool
    nulls_last: bool


def parse_sort_term(text: str) -> SortTerm:
    """A term of a sort order; nulls come first ascending and last descending unless it says otherwise (Iceberg's default).

    Raises:
        ValueError: the text is no term, with the reason.
    """
    match = _SORT_TERM.fullmatch(text.strip())
    if match is None:
        raise ValueError("is not a column with asc or desc, nulls first or nulls last")
    descending = (match["direction"] or "asc").lower() == "desc"
    nulls_last = match["nulls"].lower() == "last" if match["nulls"] else descending
    transform: Transform = parse_transform(match["transform"].lower()) if match["transform"] else IdentityTransform()  # type: ignore[type-arg]
    if type(transform).__name__ == "UnknownTransform":
        raise ValueError(f"has the transform {match['transform']}, which Iceberg does not know")
    return SortTerm(match["inner"] or match["column"], transform, descending, nulls_last)


def table_definition(contract: Contract) -> TableDefinition:
    """The table of a contract: declared columns, for a stream the platform's own after them, ids fresh from 1."""
    schema = table_schema(contract)
    return TableDefinition(
        identifier=contract.identifier,
        schema=schema,
        partition_spec=_partition_spec(contract, schema),
        sort_order=_sort_order(contract, schema),
        properties=_properties(contract),
        primary_key=contract.primary_key,
        write_mode=contract.write_mode,
        merge=_merge_rule(contract),
    )


def _merge_rule(contract: Contract) -> MergeRule:
    """As the contract says; slices that are merged are a sequence by themselves, since an older one may come, or come again, later."""
    merges = contract.write_mode == "merge" and not contract.validity
    by_slice = merges and contract.lands and contract.slices is not None and not contract.sequence
    sequence = ("_slice",) if by_slice else contract.sequence
    return MergeRule(contract.merge_strategy, sequence, contract.delete_marker, of_batches=by_slice)


def table_schema(contract: Contract) -> Schema:
    """The Iceberg schema alone; identifier fields are the primary key."""
    fields = [NestedField(0, c.name, _fresh(c), required=c.required, doc=c.description or None) for c in contract.columns]
    if contract.is_stream:
        fields += [*STREAM_COLUMNS, *([EXTRA_COLUMN] if contract.keeps_extra else [])]
    elif contract.lands:
        fields += landed_columns(contract)
    elif contract.publication is not None:
        fields.append(slice_column(contract))
    numbered = [field.model_copy(update={"field_id": index}) for index, field in enumerate(fields, start=1)]
    schema = assign_fresh_schema_ids(_Numbering().schema(numbered))
    keys = [schema.find_field(name).field_id for name in identifiers(contract)]
    return Schema(*schema.fields, schema_id=0, identifier_field_ids=keys)


def identifiers(contract: Contract) -> tuple[str, ...]:
    """The columns that tell the table's rows apart: the primary key, with the slice or start of validity where a key stands in each."""
    if not contract.primary_key or not (contract.lands or contract.publication is not None):
        return contract.primary_key
    if contract.validity:
        return (*contract.primary_key, "_valid_from")
    return contract.primary_key if contract.slices is None or contract.write_mode == "merge" else (*contract.primary_key, "_slice")


def _fresh(column: Column) -> IcebergType:
    """The column's type rebuilt with the docs of nested fields."""
    if column.fields:
        return StructType(*(NestedField(0, c.name, _fresh(c), required=c.required, doc=c.description or None) for c in column.fields))
    if column.element is not None:
        return ListType(0, _fresh(column.element), element_required=column.element.required)
    if column.key is not None and column.value is not None:
        return MapType(0, _fresh(column.key), 0, _fresh(column.value), value_required=column.value.required)
    return column.type


class _Numbering:
    """Gives every nested field a distinct provisional id; `assign_fresh_schema_ids` needs an index without clashes."""

    def __init__(self) -> None:
        self._next = 0

    def _id(self) -> int:
        self._next += 1
        return self._next

    def schema(self, fields: list[NestedField]) -> Schema:
        return Schema(*(self._field(field) for field in fields))

    def _field(self, field: NestedField) -> NestedField:
        return NestedField(self._id(), field.name, self._type(field.field_type), required=field.required, doc=field.doc)

    def _type(self, kind: IcebergType) -> IcebergType:
        if isinstance(kind, StructType):
            return StructType(*(self._field(field) for field in kind.fields))
        if isinstance(kind, ListType):
            return ListType(self._id(), self._type(kind.element_type), element_required=kind.element_required)
        if isinstance(kind, MapType):
            return MapType(
                self._id(), self._type(kind.key_type), self._id(), self._type(kind.value_type), value_required=kind.value_required
            )
        return kind


def partition_columns(contract: Contract) -> tuple[tuple[str, str], ...]:
    """Partition sources in order as (dotted column, transform text).

    A stream without any is partitioned by day of its event time; a product with slices by them first, unless its rows are merged.
    """
    declared = [(c.partition_position, path, c.partition_transform) for path, c in contract.walk() if c.partition_transform is not None]
    positioned = sorted(declared, key=lambda entry: entry[0] if entry[0] >= 0 else len(declared) + 1_000_000)
    found = tuple((path, transform) for _, path, transform in positioned if transform is not None)
    if contract.slices is not None and contract.write_mode != "merge":
        return (("_slice", "hour" if contract.slices.cadence == "hourly" else "identity"), *found)
    return found or (((contract.event_time, "day"),) if contract.is_stream else ())


def aging_columns(contract: Contract) -> tuple[str, ...]:
    """The columns by which rows age, dotted; a row is past its retention when one of them is.

    The promise's own, else the event time, else the slice, else a partition source that is a date or timestamp. A stream's rows age by
    the log's time too: the event's may be missing or lie in the future. Empty where no retention is promised or nothing can tell.
    """
    if contract.sla.retention is None:
        return ()
    named: tuple[str, ...]
    if contract.sla.retention_column is not None:
        named = (contract.sla.retention_column,)
    elif contract.is_stream or (contract.lands and contract.event_time):
        named = (contract.event_time,)
    elif contract.slices is not None:
        named = ("_slice",)
    else:
        times = (DateType, TimestampType, TimestamptzType)
        named = tuple(path for path, _ in partition_columns(contract) if isinstance(contract.column(path).type, times))[:1]
    return (*named, "_log_time") if contract.is_stream else named


def type_name(column: Column) -> str:
    """The type as people read it: a nested column is named by its kind, JSON text by what it is."""
    if column.is_json:
        return "json"
    if column.fields:
        return "struct"
    if column.element is not None:
        return f"list<{type_name(column.element)}>"
    if column.key is not None and column.value is not None:
        return f"map<{type_name(column.key)}, {type_name(column.value)}>"
    return str(column.type)


def widens(old: IcebergType, new: IcebergType) -> bool:
    """Whether Iceberg (spec, format version 2) promotes a type: int to long, float to double, a decimal to more digits of one scale."""
    if isinstance(old, DecimalType) and isinstance(new, DecimalType):
        return old.scale == new.scale and old.precision <= new.precision
    return (type(old), type(new)) in {(IntegerType, LongType), (FloatType, DoubleType)}


def _partition_spec(contract: Contract, schema: Schema) -> PartitionSpec:
    fields = []
    for index, (path, text) in enumerate(partition_columns(contract)):
        transform: Transform = DayTransform() if text == "day" else parse_transform(text)  # type: ignore[type-arg]
        fields.append(PartitionField(schema.find_field(path).field_id, 1000 + index, transform, partition_name(path, text)))
    return PartitionSpec(*fields)


def partition_name(path: str, transform: str) -> str:
    """The partition field's name as Spark would give it: `wiki_id`, `meta_dt_day`, `page_id_bucket`, dots as underscores."""
    base = path.replace(".", "_")
    return base if transform == "identity" else f"{base}_{transform.split('[', maxsplit=1)[0]}"


def _sort_order(contract: Contract, schema: Schema) -> SortOrder:
    fields = []
    for text in contract.sort_order:
        term = parse_sort_term(text)
        direction = SortDirection.DESC if term.descending else SortDirection.ASC
        nulls = NullOrder.NULLS_LAST if term.nulls_last else NullOrder.NULLS_FIRST
        fields.append(SortField(schema.find_field(term.column).field_id, transform=term.transform, direction=direction, null_order=nulls))
    return SortOrder(*fields)


def _properties(contract: Contract) -> dict[str, str]:
    properties = dict(TABLE_PROPERTIES)
    if contract.title:
        properties["comment"] = contract.title
    if contract.target_file_bytes is not None:
        properties["write.target-file-size-bytes"] = str(contract.target_file_bytes)
    if contract.time_travel is not None:
        properties["history.expire.max-snapshot-age-ms"] = str(int(contract.time_travel.total_seconds() * 1000))
    for path in aging_columns(contract):
        if "." in path:  # a nested column has no bounds unless asked for; they tell which files are past
            properties[_METRICS + path] = "full"
    for column in contract.columns:
        _metrics(column, column.name, None, properties)
    if contract.lands:
        properties[_METRICS + "_file_name"] = "full"  # a corrected file replaces its rows: bounds tell which data files have any
        properties[_METRICS + "_file_hash"] = "counts"
    if contract.is_stream:
        properties[_METRICS + "_event_hash"] = "counts"  # bounds of a hash prune nothing
    if contract.keeps_extra:
        properties[_METRICS + "_extra"] = "none"  # undeclared fields may hold anything, personal data too
    return properties


def _metrics(column: Column, path: str, inherited: str | None, properties: dict[str, str]) -> None:
    """Column metrics: none for personal data, whatever the contract says, and for all that is nested in it; JSON text is only counted."""
    mode = "none" if column.is_pii or inherited == "none" else column.metrics or inherited
    if not column.children():
        mode = mode or ("counts" if column.is_json else None)
        if mode is not None:
            properties[_METRICS + path] = mode
        return
    for child in column.children():
        _metrics(child, f"{path}.{child.name}", mode, properties)


def arrow_schema(definition: TableDefinition) -> pa.Schema:
    """Arrow schema of a definition; every field, nested ones too, has its id as `PARQUET:field_id` metadata.

    Types are those our own Parquet writer takes: `timestamp[us, UTC]`, `arrow.uuid`, fixed-size binary, 32-bit offsets.
    """
    return schema_to_arrow(definition.schema)


def schema_to_arrow(schema: Schema) -> pa.Schema:
    """Arrow schema with field ids of any Iceberg schema (e.g. that of a table, whose ids count)."""
    return pa.schema([_arrow_field(field.field_id, field.name, field.field_type, field.required) for field in schema.fields])


def _arrow_field(field_id: int, name: str, kind: IcebergType, required: bool) -> pa.Field:
    return pa.field(name, arrow_type(kind), nullable=not required, metadata={b"PARQUET:field_id": str(field_id).encode()})


_ARROW: Mapping[type[IcebergType], pa.DataType] = {
    BooleanType: pa.bool_(), IntegerType: pa.int32(), LongType: pa.int64(), FloatType: pa.float32(), DoubleType: pa.float64(),
    DateType: pa.date32(), TimeType: pa.time64("us"), TimestampType: pa.timestamp("us"), TimestamptzType: pa.timestamp("us", tz="UTC"),
    StringType: pa.string(), UUIDType: pa.uuid(), BinaryType: pa.binary(),
}  # fmt: skip


def arrow_type(kind: IcebergType) -> pa.DataType:
    """Arrow type of an Iceberg type, nested fields with their ids."""
    if isinstance(kind, StructType):
        return pa.struct([_arrow_field(f.field_id, f.name, f.field_type, f.required) for f in kind.fields])
    if isinstance(kind, ListType):
        return pa.list_(_arrow_field(kind.element_id, "element", kind.element_type, kind.element_required))
    if isinstance(kind, MapType):
        key = _arrow_field(kind.key_id, "key", kind.key_type, required=True)
        return pa.map_(key, _arrow_field(kind.value_id, "value", kind.value_type, kind.value_required))
    if isinstance(kind, DecimalType):
        return pa.decimal128(kind.precision, kind.scale)
    if isinstance(kind, FixedType):
        return pa.binary(len(kind))
    return _ARROW[type(kind)]
