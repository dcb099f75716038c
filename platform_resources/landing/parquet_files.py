"""Parquet files as a contract's rows: columns by name, casts that lose nothing.

A value that its column cannot hold without loss refuses its row; a column of another kind (text for a number) refuses the file, for
then it is not what the contract says.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from platform_resources.contracts.iceberg import arrow_type
from platform_resources.contracts.model import Column, Contract
from platform_resources.landing.source import Block, Delivery, DeliveryRefused, RefusedRecord

_BATCH_ROWS = 65_536
_BUFFER_BYTES = 1 << 20


def read(file: BinaryIO, delivery: Delivery, contract: Contract) -> Iterator[Block]:
    """The file's rows in blocks; `lines` has their numbers from 1.

    Args:
        file: seekable; it stays open.
        delivery: whose file it is.
        contract: whose columns, by name or physicalName, the file must have.

    Raises:
        DeliveryRefused: `file-damaged`, `file-columns`.
    """
    import pyarrow.parquet as pq

    try:
        source = pq.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER_BYTES)  # otherwise Arrow keeps all of the file it has read
        places = _places(source.schema_arrow, contract, delivery)
        first = 1
        for batch in source.iter_batches(_BATCH_ROWS):
            yield _block(batch, contract, places, first)
            first += batch.num_rows
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0].strip().rstrip(".")
        raise DeliveryRefused(
            "file-damaged", f"The file {delivery.name} cannot be read as Parquet: {reason}.", "Put the whole file there again."
        ) from None


def _places(schema: pa.Schema, contract: Contract, delivery: Delivery) -> dict[str, int]:
    """Where each column stands in the file."""
    places, faults = dict[str, int](), []
    for column in contract.columns:
        at = schema.get_all_field_indices(column.source_name) or schema.get_all_field_indices(column.name)
        if len(at) > 1:
            faults.append(f"has {column.source_name!r} more than once")
        elif at:
            places[column.name] = at[0]
            if not _fits(schema.field(at[0]).type, arrow_type(column.type)):
                faults.append(f"has {column.source_name!r} as {schema.field(at[0]).type}, which is {column.type} in the contract")
    extra = [name for index, name in enumerate(schema.names) if index not in places.values()]
    if extra:
        faults.append(f"has {', '.join(map(repr, extra[:5]))}, which the contract does not declare")
    if lacks := [column.source_name for column in contract.columns if column.name not in places and (column.required or extra)]:
        faults.append(f"lacks {', '.join(map(repr, lacks[:5]))}")
    if faults:
        raise DeliveryRefused(
            "file-columns",
            f"The file {delivery.name} {' and '.join(faults)}.",
            "Correct the file, or the contract: a column's name in the file stands in its physicalName.",
        )
    return places


def _fits(given: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether values of a type may be values of another: the same kind, whatever the width, unit or encoding."""
    given = _plain(given)
    if pa.types.is_null(given) or given == wanted:
        return True
    if pa.types.is_struct(wanted):
        if not pa.types.is_struct(given):
            return False
        names = {wanted.field(index).name for index in range(wanted.num_fields)}
        inner = [given.field(index) for index in range(given.num_fields)]
        return all(field.name in names and _fits(field.type, wanted.field(field.name).type) for field in inner)
    if pa.types.is_map(wanted):
        return pa.types.is_map(given) and _fits(given.key_type, wanted.key_type) and _fits(given.item_type, wanted.item_type)
    if pa.types.is_list(wanted):
        return (pa.types.is_list(given) or pa.types.is_large_list(given)) and _fits(given.value_type, wanted.value_type)
    inexact = {_exactness(given), _exactness(wanted)} == {"decimal", "float"}
    return not inexact and any(same(given) and same(wanted) for same in _KINDS)


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _exactness(kind: pa.DataType) -> str:
    return "decimal" if pa.types.is_decimal(kind) else "float" if pa.types.is_floating(kind) else ""


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind) or kind == pa.uuid())


_KINDS = (_is_number, _is_text, _is_bytes, pa.types.is_boolean, pa.types.is_date, pa.types.is_time, pa.types.is_timestamp)


def _block(batch: pa.RecordBatch, contract: Contract, places: dict[str, int], first: int) -> Block:
    faults: dict[int, tuple[str, str, str]] = {}
    arrays = []
    for column in contract.columns:
        at = places.get(column.name)
        array = pa.nulls(batch.num_rows, arrow_type(column.type)) if at is None else _lossless(batch.column(at), column, faults)
        if column.required and array.null_count:
            for row in pc.indices_nonzero(array.is_null()).to_pylist():
                faults.setdefault(row, ("schema-violation", column.name, "a value is required"))
        arrays.append(array)
    table = pa.table(arrays, names=[column.name for column in contract.columns])
    lines = pa.array(np.arange(first, first + batch.num_rows))
    if not faults:
        return Block(table, lines)
    refused = [
        RefusedRecord(first + row, orjson.dumps(_row(batch.slice(row, 1)), default=repr), reason, path, detail)
        for row, (reason, path, detail) in sorted(faults.items())
    ]
    good = pa.array([row not in faults for row in range(batch.num_rows)], pa.bool_())
    return Block(table.filter(good), lines.filter(good), refused)


def _lossless(array: pa.Array, column: Column, faults: dict[int, tuple[str, str, str]], start: int = 0) -> pa.Array:
    """The array cast without loss; values that cannot be are found by halving, null and at fault."""
    wanted = arrow_type(column.type)
    try:
        return _cast(array, wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        if len(array) == 1:
            shown = str(_value(array))
            detail = f"{shown if len(shown) <= 80 else shown[:77] + '...'} does not fit into {column.type}: {error}"
            faults.setdefault(start, ("type-mismatch", column.name, detail))
            return pa.nulls(1, wanted)
        middle = len(array) // 2
        halves = [_lossless(array[:middle], column, faults, start), _lossless(array[middle:], column, faults, start + middle)]
        return pa.concat_arrays(halves)


def _row(batch: pa.RecordBatch) -> dict[str, Any]:
    return {name: _value(column) for name, column in zip(batch.schema.names, batch.columns, strict=True)}


def _value(array: pa.Array) -> Any:
    """The only value of an array; a moment in nanoseconds, which Python has not, as text."""
    try:
        return array[0].as_py()
    except ValueError:
        return str(array.cast(pa.string())[0].as_py()) if pa.types.is_timestamp(array.type) else repr(array[0])


def _cast(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    if isinstance(array, pa.DictionaryArray):
        array = array.dictionary_decode()
    if isinstance(wanted, pa.BaseExtensionType) and not isinstance(array, pa.ExtensionArray):
        return pa.ExtensionArray.from_storage(wanted, array.cast(wanted.storage_type))
    if pa.types.is_timestamp(wanted) and pa.types.is_timestamp(array.type) and wanted.tz is None and array.type.tz is not None:
        raise pa.ArrowInvalid("it has a time zone where none is allowed")
    if pa.types.is_integer(array.type) and pa.types.is_decimal(wanted):
        array = array.cast(pa.decimal128(20, 0))  # from there on by value, not by what the width could hold
    cast = array.cast(wanted)
    if wanted == pa.float32() and array.type == pa.float64():  # Arrow rounds
        same = pc.or_(pc.equal(cast.cast(array.type), array), pc.is_nan(array))
        if not pc.all(same, min_count=0).as_py():
            raise pa.ArrowInvalid("it would be rounded")
    return cast
