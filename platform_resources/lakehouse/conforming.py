"""Bring Arrow data to the contract's types, or say in one sentence which column does not fit.

Only lossless conversions are made: a decimal(38,0) sum becomes a long when every value fits, nanoseconds become microseconds when
nothing is cut off, another zone becomes UTC, text becomes a uuid. Null lists, maps and structs stay null. No file is touched here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.schema import Schema

from platform_resources.errors import PlatformError

_UUID = r"^\{?[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}\}?$"


def arrow_schema_of(schema: Schema) -> pa.Schema:
    """The Arrow schema of a table, with `PARQUET:field_id` metadata and 32-bit offsets (a block never reaches 2 GiB)."""
    return pa.schema([_narrow(field) for field in schema_to_pyarrow(schema, include_field_ids=True)])


def _narrow(field: pa.Field) -> pa.Field:
    return field.with_type(_narrow_type(field.type))


def _narrow_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_struct(kind):
        return pa.struct([_narrow(child) for child in kind])
    if pa.types.is_large_list(kind):
        return pa.list_(_narrow(kind.value_field))
    if pa.types.is_map(kind):
        return pa.map_(_narrow(kind.key_field), _narrow(kind.item_field))
    if pa.types.is_large_string(kind):
        return pa.string()
    return pa.binary() if pa.types.is_large_binary(kind) else kind


def empty_rows(schema: pa.Schema) -> pa.Table:
    """A table without rows; `schema.empty_table()` fails on a nested uuid."""
    return pa.Table.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)


class Conformer:
    """Casts blocks of one input to one table's schema.

    Args:
        identifier: the table, for error messages.
        schema: the table's schema.
        lenient: leave out columns that the schema does not have instead of refusing them (reading one's own older files).
    """

    def __init__(self, identifier: str, schema: Schema, *, lenient: bool = False) -> None:
        self.product, self.schema, self.lenient = identifier.replace(".", "/", 1), schema, lenient
        self.target = arrow_schema_of(schema)

    def check(self, given: pa.Schema) -> None:
        """Refuse at once what no value could mend: undeclared or missing required columns, types that never fit.

        Raises:
            PlatformError: `column-undeclared`, `column-missing`, `column-type`.
        """
        self.conform(empty_rows(given))

    def conform(self, block: pa.Table) -> pa.Table:
        """The block with exactly the table's columns, order and types.

        Raises:
            PlatformError: `column-undeclared`, `column-missing`, `column-type`, `column-value`, `column-null`.
        """
        names = block.schema.names
        if len(set(names)) != len(names):
            double = next(name for name in names if names.count(name) > 1)
            raise PlatformError(
                "column-twice", f"The data for {self.product} has the column {double} more than once.", "Give each column one name."
            )
        self._refuse_undeclared(names, self.target.names, "")
        columns = [
            self._column(block.column(field.name), field) if field.name in names else self._absent(field, block.num_rows, field.name)
            for field in self.target
        ]
        return pa.Table.from_arrays(columns, schema=self.target)

    def _refuse_undeclared(self, given: Sequence[str], declared: Sequence[str], prefix: str) -> None:
        extra = [f"{prefix}{name}" for name in given if name not in declared]
        if extra and not self.lenient:
            raise PlatformError(
                "column-undeclared",
                f"The data for {self.product} has {_listed(extra)}, which its contract does not declare.",
                "Declare the column in the contract or leave it out of the output.",
            )

    def _absent(self, field: pa.Field, rows: int, path: str) -> pa.Array:
        if not field.nullable and not self.lenient:
            raise PlatformError(
                "column-missing",
                f"The data for {self.product} lacks the required column {path}.",
                "Add the column to the output or make it optional in the contract.",
            )
        return pa.nulls(rows, field.type)

    def _column(self, column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
        if not field.nullable and column.null_count:
            raise self._null_error(field.name, column.null_count, len(column))
        if column.type == field.type and not _has_required(field.type):
            return column
        return pa.chunked_array([self._array(chunk, field.type, field.name) for chunk in column.chunks], type=field.type)

    def _null_error(self, path: str, nulls: int, rows: int) -> PlatformError:
        return PlatformError(
            "column-null",
            f"The data for {self.product} has {nulls} null{'s' if nulls > 1 else ''} in {rows} rows of the required column {path}.",
            "Fill the values, filter the rows or make the column optional in the contract.",
        )

    def _array(self, array: pa.Array, target: pa.DataType, path: str) -> pa.Array:
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        if pa.types.is_run_end_encoded(array.type):
            array = pc.run_end_decode(array)
        if isinstance(array.type, pa.BaseExtensionType) and array.type != target:
            array = array.storage
        if pa.types.is_null(array.type):
            return pa.nulls(len(array), target)
        if pa.types.is_struct(target):
            return self._struct(array, target, path)
        if pa.types.is_map(target):
            return self._map(array, target, path)
        if pa.types.is_list(target):
            return self._list(array, target, path)
        return array if array.type == target else self._primitive(array, target, path)

    def _struct(self, array: pa.Array, target: pa.StructType, path: str) -> pa.Array:
        if not pa.types.is_struct(array.type):
            raise self._type_error(array.type, target, path)
        given = [child.name for child in array.type]
        self._refuse_undeclared(given, [child.name for child in target], f"{path}.")
        mask = array.is_null() if array.null_count else None
        children = [
            self._child(array.field(given.index(field.name)), field, f"{path}.{field.name}", mask)
            if field.name in given
            else self._absent(field, len(array), f"{path}.{field.name}")
            for field in target
        ]
        return pa.StructArray.from_arrays(children, fields=list(target), mask=mask)

    def _child(self, array: pa.Array, field: pa.Field, path: str, absent: pa.Array | None) -> pa.Array:
        """A nested array; its nulls count against `required` only where the parent is there."""
        if not field.nullable and array.null_count:
            present = pc.invert(absent) if absent is not None else None
            nulls = array.null_count if present is None else pc.sum(pc.and_(array.is_null(), present)).as_py() or 0
            if nulls:
                raise self._null_error(path, nulls, len(array))
            return _filled(self._array(array, field.type, path))
        return self._array(array, field.type, path)

    def _list(self, array: pa.Array, target: pa.ListType, path: str) -> pa.Array:
        if not _is_list(array.type) or pa.types.is_map(array.type):
            raise self._type_error(array.type, target, path)
        values = self._child(_flat(array), target.value_field, f"{path}.element", None)
        return pa.ListArray.from_arrays(_offsets(array), values, type=target, mask=_mask(array))

    def _map(self, array: pa.Array, target: pa.MapType, path: str) -> pa.Array:
        entry = array.type.value_type if _is_list(array.type) and not pa.types.is_map(array.type) else None
        listed = entry is not None and pa.types.is_struct(entry) and sorted(child.name for child in entry) == ["key", "value"]
        if not (pa.types.is_map(array.type) or listed):
            raise self._type_error(array.type, target, path)
        if not listed:
            array = _entries(array)
        entries = _flat(array)
        key, value = (entries.field("key"), entries.field("value")) if listed else (entries.field(0), entries.field(1))
        keys = self._child(key, target.key_field, f"{path}.key", None)
        values = self._child(value, target.item_field, f"{path}.value", None)
        return pa.MapArray.from_arrays(_offsets(array), keys, values, type=target, mask=_mask(array))

    def _primitive(self, array: pa.Array, target: pa.DataType, path: str) -> pa.Array:
        if not _may_become(array.type, target):
            raise self._type_error(array.type, target, path)
        try:
            return _convert(array, target)
        except (pa.ArrowInvalid, ValueError, OverflowError) as error:
            bad = _count_unfit(array, target)
            raise PlatformError(
                "column-value",
                f"The data for {self.product} has {bad or 'some'} of {len(array)} values in the column {path} that do not fit "
                f"{_spelled(target)} ({_first_line(error)}).",
                "Cast, round or filter them in the transform, or widen the column in the contract.",
            ) from None

    def _type_error(self, given: pa.DataType, target: pa.DataType, path: str) -> PlatformError:
        remedy = f"Cast the column to {_spelled(target)} or change its type in the contract."
        if pa.types.is_timestamp(given) and pa.types.is_timestamp(target):
            wanted = "with" if target.tz else "without"
            remedy = f"The contract wants a timestamp {wanted} zone: convert it explicitly, e.g. `column AT TIME ZONE 'UTC'`."
        return PlatformError(
            "column-type", f"The data for {self.product} has the type {given} in the column {path}, not {_spelled(target)}.", remedy
        )


def _listed(names: Sequence[str]) -> str:
    return ("the column " if len(names) == 1 else "the columns ") + ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".")


def _spelled(kind: pa.DataType) -> str:
    return "uuid" if kind == pa.uuid() else str(kind)


def _has_required(kind: pa.DataType) -> bool:
    if pa.types.is_map(kind):
        return _has_required(kind.key_type) or not kind.item_field.nullable or _has_required(kind.item_type)
    if pa.types.is_list(kind):
        return not kind.value_field.nullable or _has_required(kind.value_type)
    return pa.types.is_struct(kind) and any(not child.nullable or _has_required(child.type) for child in kind)


def _is_list(kind: pa.DataType) -> bool:
    return any(
        test(kind)
        for test in (
            pa.types.is_list,
            pa.types.is_large_list,
            pa.types.is_fixed_size_list,
            pa.types.is_list_view,
            pa.types.is_large_list_view,
            pa.types.is_map,
        )
    )


def _entries(array: pa.MapArray) -> pa.Array:
    """A map as a list of key and value: `keys` and `items` of a slice are those of the whole, and maps cannot be flattened."""
    first, last = (array.offsets[0].as_py(), array.offsets[len(array)].as_py()) if len(array) else (0, 0)
    pairs = [array.keys.slice(first, last - first), array.items.slice(first, last - first)]
    entries = pa.StructArray.from_arrays(pairs, names=["key", "value"])
    return pa.ListArray.from_arrays(pc.subtract(array.offsets, first), entries, mask=_mask(array))


def _flat(array: pa.Array) -> pa.Array:
    """The values of all lists. Arrow cannot flatten lists without any value where a uuid is nested in them."""
    return array.flatten() if pc.sum(pc.list_value_length(array)).as_py() else array.values.slice(0, 0)


def _filled(array: pa.Array) -> pa.Array:
    """The array with its nulls replaced by any value: they lie under absent parents, and Parquet refuses them in required fields."""
    kind = array.type
    if pa.types.is_struct(kind):
        return pa.StructArray.from_arrays([array.field(index) for index in range(kind.num_fields)], fields=list(kind))
    if pa.types.is_map(kind):
        entries = _entries(array)
        pairs = _flat(entries)
        return pa.MapArray.from_arrays(_offsets(entries), pairs.field(0), pairs.field(1), type=kind)
    if pa.types.is_list(kind):
        return pa.ListArray.from_arrays(_offsets(array), _flat(array), type=kind)
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, _filled(array.storage))
    return pc.fill_null(array, _any_value(kind))


def _any_value(kind: pa.DataType) -> pa.Scalar:
    if pa.types.is_string(kind):
        return pa.scalar("", kind)
    if pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return pa.scalar(bytes(getattr(kind, "byte_width", 0)) if pa.types.is_fixed_size_binary(kind) else b"", kind)
    if pa.types.is_temporal(kind):
        return pc.cast(pa.scalar(0, pa.int32() if pa.types.is_date(kind) else pa.int64()), kind)
    return pa.scalar(False if pa.types.is_boolean(kind) else 0, kind)


def _offsets(array: pa.Array) -> pa.Array:
    """Offsets from 0 into `_flat(array)`, which leaves out what lies under null lists and outside a slice."""
    lengths = pc.fill_null(pc.cast(pc.list_value_length(array), pa.int32()), 0)
    return pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths)]) if len(array) else pa.array([0], pa.int32())


def _mask(array: pa.Array) -> pa.Array | None:
    return array.is_null() if array.null_count else None


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)
    return any(test(kind) for test in tests)


def _may_become(given: pa.DataType, target: pa.DataType) -> bool:
    """Whether a lossless conversion can exist; whether each value survives it is seen at the values."""
    if target == pa.uuid():
        return _is_text(given) or _is_bytes(given)
    if pa.types.is_timestamp(target):
        return bool(pa.types.is_timestamp(given) and (given.tz is None) == (target.tz is None))
    exact = pa.types.is_integer(given) or pa.types.is_decimal(given)
    if pa.types.is_floating(target):
        return bool(exact or (pa.types.is_floating(given) and given.bit_width <= target.bit_width))
    rules: list[tuple[Any, Any]] = [
        (pa.types.is_integer, lambda _: exact),
        (pa.types.is_decimal, lambda _: exact),
        (pa.types.is_string, _is_text),
        (pa.types.is_binary, _is_bytes),
        (pa.types.is_fixed_size_binary, _is_bytes),
        (pa.types.is_date, pa.types.is_date),
        (pa.types.is_time, pa.types.is_time),
        (pa.types.is_boolean, pa.types.is_boolean),
    ]
    return any(of_target(target) and of_given(given) for of_target, of_given in rules)


def _convert(array: pa.Array, target: pa.DataType) -> pa.Array:
    if target == pa.uuid():
        storage = _uuid_bytes(array) if _is_text(array.type) else pc.cast(pc.cast(array, pa.binary()), pa.binary(16))
        return pa.ExtensionArray.from_storage(target, storage)
    if pa.types.is_decimal(target) and pa.types.is_integer(array.type):
        array = pc.cast(array, pa.decimal128(38, target.scale))  # straight to the target Arrow wants room for every int64
    if _is_bytes(array.type) and pa.types.is_fixed_size_binary(target):
        array = pc.cast(array, pa.binary())
    return pc.cast(array, target, safe=True)


def _uuid_bytes(array: pa.Array) -> pa.Array:
    """Text to 16 bytes each, by one hex decode over the whole column."""
    text = pc.cast(array, pa.string())
    if pc.all(pc.match_substring_regex(text, _UUID)).as_py() not in (True, None):
        raise ValueError("not a UUID")
    digits = pc.fill_null(pc.replace_substring_regex(text, r"[{}-]", ""), "0" * 32)
    raw = bytes.fromhex("".join(digits.to_pylist()))
    plain = pa.Array.from_buffers(pa.binary(16), len(text), [None, pa.py_buffer(raw)])
    return pc.if_else(text.is_valid(), plain, pa.scalar(None, pa.binary(16)))


def _count_unfit(array: pa.Array, target: pa.DataType) -> int:
    """How many values do not survive the conversion, 0 when that cannot be told."""
    if target == pa.uuid():
        if not _is_text(array.type):
            return pc.sum(pc.not_equal(pc.binary_length(array), 16)).as_py() or 0
        return pc.sum(pc.invert(pc.match_substring_regex(pc.cast(array, pa.string()), _UUID))).as_py() or 0
    try:
        back = pc.cast(pc.cast(array, target, safe=False), array.type, safe=False)
        return pc.sum(pc.not_equal(back, array)).as_py() or 0
    except pa.ArrowException:
        return 0
