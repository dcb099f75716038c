"""Partition values: of a block of rows, of a text a person typed. Which files belong to a partition is asked in `staging`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.expressions.literals import literal
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.sorting import NullOrder, SortDirection, SortOrder
from pyiceberg.transforms import (
    DayTransform,
    HourTransform,
    IdentityTransform,
    MonthTransform,
    VoidTransform,
    YearTransform,
)
from pyiceberg.typedef import Record
from pyiceberg.types import StructType

from platform_resources.contracts.iceberg import TableDefinition
from platform_resources.errors import PlatformError

_CODE = "__partition"


def path_of(schema: Schema, field_id: int) -> tuple[str, ...]:
    """Names from the root to a field that lies in structs only.

    Raises:
        ValueError: the schema has no such field outside lists and maps.
    """

    def search(fields: Iterator[Any], prefix: tuple[str, ...]) -> tuple[str, ...] | None:
        for field in fields:
            path = (*prefix, field.name)
            if field.field_id == field_id:
                return path
            if isinstance(field.field_type, StructType) and (found := search(iter(field.field_type.fields), path)):
                return found
        return None

    found = search(iter(schema.fields), ())
    if found is None:
        raise ValueError(f"no field {field_id} outside lists and maps in {schema}")
    return found


def column_at(table: pa.Table, path: tuple[str, ...]) -> pa.ChunkedArray:
    """A nested column; null where any parent is null."""
    column = table.column(path[0])
    return pc.struct_field(column, list(path[1:])) if len(path) > 1 else column


def partition_array(table: pa.Table, field: PartitionField, schema: Schema) -> pa.ChunkedArray:
    """The partition values of every row, as Iceberg's physical type: integers for times, bytes for uuids."""
    values = column_at(table, path_of(schema, field.source_id))
    source = schema.find_type(field.source_id)
    if isinstance(values.type, pa.BaseExtensionType):
        values = pa.chunked_array([chunk.storage for chunk in values.chunks], type=values.type.storage_type)
    if isinstance(field.transform, VoidTransform):
        return pa.chunked_array([pa.nulls(len(values), pa.int32())])
    if not isinstance(field.transform, IdentityTransform):
        values = field.transform.pyarrow_transform(source)(values)
    return physical(values)


def physical(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Times and dates as the integers that Iceberg stores."""
    if pa.types.is_timestamp(values.type) or pa.types.is_time64(values.type):
        return values.cast(pa.int64())
    return values.cast(pa.int32()) if pa.types.is_date(values.type) else values


@dataclass(frozen=True)
class Slice:
    """Consecutive rows of one partition."""

    partition: Record
    rows: pa.Table


def split(table: pa.Table, spec: PartitionSpec, schema: Schema, order: SortOrder) -> list[Slice]:
    """The rows of a block by partition, each partition's rows in the table's sort order.

    Rows that already stand in runs, as events of one day do, are only sliced; others are sorted by partition once. PyIceberg filters
    the whole table once per partition instead, which takes three times as long at 480 partitions.
    """
    if table.num_rows == 0:
        return []
    codes, records = _codes(table, spec, schema)
    if order.fields:
        table, codes = _sorted(table.combine_chunks(), codes, schema, order)
    elif codes is not None and (runs := pc.run_end_encode(codes)) and len(runs.values) > max(4 * len(records), 16):
        rank = pc.array_sort_indices(codes)
        table, codes = table.combine_chunks().take(rank), codes.take(rank)
    if codes is None:
        return [Slice(Record(), table)]
    encoded = pc.run_end_encode(codes)
    slices, start = [], 0
    for end, code in zip(encoded.run_ends.to_pylist(), encoded.values.to_pylist(), strict=True):
        slices.append(Slice(records[code], table.slice(start, end - start)))
        start = end
    return slices


def _codes(table: pa.Table, spec: PartitionSpec, schema: Schema) -> tuple[pa.Array | None, list[Record]]:
    """A small integer per row that names its partition, and the partitions; None when the table has no partitions."""
    if not spec.fields:
        return None, [Record()]
    combined: pa.Array | None = None
    values: list[list[Any]] = []
    for field in spec.fields:
        encoded = partition_array(table, field, schema).combine_chunks().dictionary_encode(null_encoding="encode")
        if isinstance(encoded, pa.ChunkedArray):
            encoded = encoded.combine_chunks()
        values.append(encoded.dictionary.to_pylist())
        indices = encoded.indices.cast(pa.int64())
        combined = indices if combined is None else pc.add(pc.multiply(combined, len(values[-1])), indices)
    distinct = pc.dictionary_encode(combined)
    records = []
    for number in distinct.dictionary.to_pylist():
        rest, record = number, []
        for possible in reversed(values):
            rest, position = divmod(rest, len(possible))
            record.append(possible[position])
        records.append(Record(*reversed(record)))
    return distinct.indices, records


def sort_keys(table: pa.Table, schema: Schema, order: SortOrder) -> pa.Table:
    """The columns by which a sort order sorts, transformed, in its order: `key0`, `key1`, ..."""
    pseudo = [PartitionField(source_id=one.source_id, field_id=0, transform=one.transform, name="key") for one in order.fields]
    columns = [partition_array(table, one, schema) for one in pseudo]
    return pa.table(columns, names=[f"key{position}" for position in range(len(columns))])


def _rank(keys: pa.Table, order: SortOrder, first: Sequence[tuple[str, str, str]] = ()) -> pa.Array:
    """Row numbers in sort order; rows that are equal in it keep theirs."""
    spelled = [
        (
            f"key{position}",
            "ascending" if one.direction == SortDirection.ASC else "descending",
            "at_start" if one.null_order == NullOrder.NULLS_FIRST else "at_end",
        )
        for position, one in enumerate(order.fields)
    ]
    return pc.sort_indices(keys, sort_keys=[*first, *spelled])


def in_sort_order(keys: pa.Table, order: SortOrder) -> bool:
    """Whether the rows of `sort_keys` stand in a sort order."""
    rank = _rank(keys, order).to_numpy()
    return bool((rank[1:] > rank[:-1]).all())


def sorted_rows(table: pa.Table, schema: Schema, order: SortOrder) -> pa.Table:
    """The rows in a sort order; the same table where they are already."""
    rank = _rank(sort_keys(table, schema, order), order)
    numbers = rank.to_numpy()
    return table if (numbers[1:] > numbers[:-1]).all() else table.combine_chunks().take(rank)


def _sorted(table: pa.Table, codes: pa.Array | None, schema: Schema, order: SortOrder) -> tuple[pa.Table, pa.Array | None]:
    keys = sort_keys(table, schema, order)
    if codes is None:
        return table.take(_rank(keys, order)), None
    rank = _rank(keys.append_column(_CODE, codes), order, [(_CODE, "ascending", "at_end")])
    return table.take(rank), codes.take(rank)


def parse_partition(definition: TableDefinition, text: str) -> Record:
    """The partition that a person names: `2026-01-01`, `2026-01`, `2026-01-01T05`, `enwiki`, or `d=2026-01-01/wiki=enwiki`.

    A name is the partition field's or its source column's; `null` is the null partition. One value is enough where the table has
    one partition field.

    Raises:
        PlatformError: `partition-unknown` when the text names no partition of the table.
    """
    fields = definition.partition_spec.fields
    if not fields:
        raise PlatformError(
            "partition-unknown", f"{definition.identifier} has no partitions, so {text!r} names none.", "Leave the partition out."
        )
    named = dict(part.split("=", 1) for part in text.split("/") if "=" in part)
    if not named and len(fields) == 1:
        return Record(_parse(definition, fields[0], text, text))
    values = []
    for field in fields:
        names = (field.name, ".".join(path_of(definition.schema, field.source_id)))
        given = next((named[name] for name in names if name in named), None)
        if given is None:
            raise PlatformError(
                "partition-unknown",
                f"The partition {text!r} of {definition.identifier} does not give {field.name}.",
                "Write it as " + "/".join(f"{one.name}=..." for one in fields) + ".",
            )
        values.append(_parse(definition, field, given, text))
    return Record(*values)


_TIME_FORMATS: dict[type, tuple[str, Callable[[datetime], int]]] = {
    YearTransform: ("%Y", lambda at: at.year - 1970),
    MonthTransform: ("%Y-%m", lambda at: (at.year - 1970) * 12 + at.month - 1),
    DayTransform: ("%Y-%m-%d", lambda at: (at.date() - date(1970, 1, 1)).days),
    HourTransform: ("%Y-%m-%dT%H", lambda at: int(at.replace(tzinfo=UTC).timestamp()) // 3600),
}
_SPELLING = {"%Y": "2026", "%Y-%m": "2026-01", "%Y-%m-%d": "2026-01-31", "%Y-%m-%dT%H": "2026-01-31T05"}


def _parse(definition: TableDefinition, field: PartitionField, value: str, text: str) -> Any:
    if value in {"null", "__null__"}:
        return None
    source = definition.schema.find_type(field.source_id)
    form, number = _TIME_FORMATS.get(type(field.transform), ("", None))
    try:
        if number is not None:
            return number(datetime.strptime(value, form))
        return literal(value).to(field.transform.result_type(source)).value
    except (ValueError, TypeError, ArithmeticError):
        wanted = f"a value like {_SPELLING[form]}" if form else f"a {field.transform.result_type(source)}"
        raise PlatformError(
            "partition-unknown",
            f"The partition {text!r} of {definition.identifier} is no {field.name}.",
            f"Give {wanted}" + ("." if len(definition.partition_spec.fields) == 1 else f" as {field.name}=..."),
        ) from None


def partition_name(spec: PartitionSpec, schema: Schema, record: Record) -> str:
    """`d=2026-01-01/wiki=enwiki`, for messages and file paths; empty for a table without partitions."""
    return spec.partition_to_path(record, schema) if spec.fields else ""
