"""Columns of parsed JSON values to Arrow arrays, by contract column.

Whole columns go to Arrow in one call; only a column that Arrow refuses, or that holds values of another shape, is looked at value by
value to find which event is at fault. Values are judged here only where a JSON Schema cannot: ranges, real dates, decimals, bytes.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Context, Decimal, InvalidOperation
from itertools import accumulate, chain
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IntegerType,
    LongType,
    StringType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from platform_resources.contracts.iceberg import arrow_type
from platform_resources.contracts.model import Column
from platform_resources.streams.canonical import canonical_json, normaliser, plain
from platform_resources.streams.temporal import CANONICAL_INSTANT, FIRST_MICROS, format_micros, parse_date, parse_micros, parse_time

Place = Callable[[int], tuple[int, str]]
"""Where a value of a column stands: position in the column -> (row, path in the event)."""

_NOTHING: dict[str, Any] = {}
_FLOAT_MAX = 3.4028235677973366e38  # what still rounds to the largest 32-bit float
_EXACT_DOUBLE = 2**53
_WIDE = Context(prec=38)  # Python's own context ends at 28 digits, a decimal column at 38


@dataclass
class Findings:
    """What was seen while building: faults by row (reason, path, detail), rows with undeclared fields, rows whose JSON is not in
    canonical form as it stands.
    """

    faults: dict[int, tuple[str, str, str]] = field(default_factory=dict)
    undeclared: set[int] = field(default_factory=set)
    unusual: set[int] = field(default_factory=set)

    def fault(self, place: tuple[int, str], reason: str, detail: str) -> None:
        """Note a fault; the first one of a row stays."""
        self.faults.setdefault(place[0], (reason, place[1], detail))


Build = Callable[[list[Any], Place, Findings], pa.Array]


class FaultError(ValueError):
    """A value that its column cannot hold."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def builder(column: Column) -> Build:
    """What turns a column of parsed values (None = null) into an array of the column's Arrow type."""
    if column.is_json:
        return _values(column, (), _json_text)
    if column.fields:
        return struct_builder(column.fields, arrow_type(column.type), open_=not column.closed)
    if column.element is not None:
        return _list_builder(column, column.element)
    if column.key is not None and column.value is not None:
        return _map_builder(column, column.key, column.value)
    return _leaf(column)


def struct_builder(columns: tuple[Column, ...], kind: pa.DataType, *, open_: bool) -> Build:
    """An object: its children, and who has undeclared fields."""
    fields = [kind.field(index) for index in range(kind.num_fields)]
    children = [(column, column.event_name, builder(column)) for column in columns]
    declared = frozenset(column.event_name for column in columns)

    def build(values: list[Any], place: Place, findings: Findings) -> pa.Array:
        values = _only(dict, values, place, findings)
        nulls = values.count(None)
        if nulls == len(values):
            return pa.nulls(len(values), kind)
        objects = [_NOTHING if value is None else value for value in values] if nulls else values
        for index, value in enumerate(objects):
            if not declared.issuperset(value):
                if open_:
                    findings.undeclared.add(place(index)[0])
                else:
                    findings.fault(place(index), "schema-violation", f"{min(value.keys() - declared)!r} is not declared")
        arrays = []
        for column, name, child in children:
            inside = _inside(place, name)
            array = child([value.get(name) for value in objects], inside, findings)
            if column.required and array.null_count > nulls:
                for index in range(len(values)):
                    if values[index] is not None and not array[index].is_valid:
                        findings.fault(inside(index), "schema-violation", "a value is required")
            arrays.append(array)
        mask = pa.array([value is None for value in values], pa.bool_()) if nulls else None
        return pa.StructArray.from_arrays(arrays, fields=fields, mask=mask)

    return build


def _list_builder(column: Column, element: Column) -> Build:
    kind, child = arrow_type(column.type), builder(element)

    def build(values: list[Any], place: Place, findings: Findings) -> pa.Array:
        values = _only(list, values, place, findings)
        starts, mask = _layout(values)
        flat = list(chain.from_iterable(value for value in values if value))

        def inside(index: int) -> tuple[int, str]:
            owner = bisect_right(starts, index) - 1
            row, path = place(owner)
            return row, f"{path}[{index - starts[owner]}]"

        items = child(flat, inside, findings)
        if element.required:
            _require(items, inside, findings)
        return pa.ListArray.from_arrays(pa.array(starts, pa.int32()), items, type=kind, mask=mask)

    return build


def _map_builder(column: Column, key: Column, value: Column) -> Build:
    kind, build_key, build_value = arrow_type(column.type), _leaf(key), builder(value)
    read_key = int if isinstance(key.type, IntegerType | LongType) else None  # keys of JSON objects are text

    def build(values: list[Any], place: Place, findings: Findings) -> pa.Array:
        values = _only(dict, values, place, findings)
        starts, mask = _layout(values)
        names = list(chain.from_iterable(entry for entry in values if entry))
        flat = list(chain.from_iterable(entry.values() for entry in values if entry))

        def inside(index: int) -> tuple[int, str]:
            row, path = place(bisect_right(starts, index) - 1)
            return row, f"{path}.{names[index]}"

        keys: list[Any] = [_number_or_text(name) for name in names] if read_key else names
        built = build_key(keys, inside, findings)
        if built.null_count:  # faulty rows go, but an array of keys must be whole until then
            built = built.fill_null(0 if read_key else "")
        items = build_value(flat, inside, findings)
        if value.required:
            _require(items, inside, findings)
        return pa.MapArray.from_arrays(pa.array(starts, pa.int32()), built, items, type=kind, mask=mask)

    return build


def _require(items: pa.Array, place: Place, findings: Findings) -> None:
    """A fault for each null among items that may not be null; normally the schema saw to it."""
    if items.null_count:
        for index in range(len(items)):
            if not items[index].is_valid:
                findings.fault(place(index), "schema-violation", "a value is required")


def _layout(values: list[Any]) -> tuple[list[int], pa.Array | None]:
    """Offsets of each value's items in the flat column, and which values are null."""
    starts = list(accumulate((len(value) if value else 0 for value in values), initial=0))
    return starts, pa.array([value is None for value in values], pa.bool_()) if None in values else None


def _only(kind: type, values: list[Any], place: Place, findings: Findings) -> list[Any]:
    """The values with everything of another type taken out as a fault."""
    if set(map(type, values)) <= {kind, type(None)}:
        return values
    what = "an object" if kind is dict else "an array"
    for index, value in enumerate(values):
        if value is not None and type(value) is not kind:
            findings.fault(place(index), "schema-violation", f"is not {what}")
    return [value if type(value) is kind else None for value in values]


def _inside(place: Place, name: str) -> Place:
    def inside(index: int) -> tuple[int, str]:
        row, path = place(index)
        return row, f"{path}.{name}" if path else name

    return inside


def _number_or_text(text: str) -> Any:
    try:
        return int(text)
    except ValueError:
        return text


# --- leaves


def _leaf(column: Column) -> Build:
    kind = column.type
    if isinstance(kind, TimestamptzType):
        return _instants(column)
    if isinstance(kind, FloatType | DoubleType):
        return _doubles(column)
    accepted, convert = _LEAVES[type(kind)]
    if isinstance(kind, DecimalType):
        return _values(column, accepted, _decimal(kind))
    if isinstance(kind, FixedType):
        return _values(column, accepted, _fixed(len(kind)))
    return _values(column, accepted, convert)


def _values(column: Column, accepted: tuple[type, ...], convert: Callable[[Any], Any]) -> Build:
    """A leaf: columns holding `accepted` types only go to Arrow as they are, others value by value through `convert`."""
    kind = arrow_type(column.type)
    storage = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    whole = {*accepted, type(None)}
    normalise = normaliser(column)

    def build(values: list[Any], place: Place, findings: Findings) -> pa.Array:
        if set(map(type, values)) <= whole:
            try:
                return pa.array(values, kind)
            except (pa.ArrowException, OverflowError):  # one value is out of range: find it
                pass
        converted: list[Any] = []
        for index, value in enumerate(values):
            good = None
            if value is not None:
                try:
                    good = convert(value)
                    if normalise is not None and normalise(value) is not value:
                        findings.unusual.add(place(index)[0])
                except FaultError as error:
                    findings.fault(place(index), error.reason, str(error))
            converted.append(good)
        array = pa.array(converted, storage)
        return array if storage is kind else pa.ExtensionArray.from_storage(kind, array)

    return build


def _instants(column: Column) -> Build:
    """Date-times: canonical texts are cast by Arrow as a whole, others are first brought into canonical form one by one."""
    kind = arrow_type(column.type)

    def build(values: list[Any], place: Place, findings: Findings) -> pa.Array:
        if set(map(type, values)) <= {str, type(None)}:
            texts = pa.array(values, pa.string())
            usual = pc.match_substring_regex(texts, CANONICAL_INSTANT)
            if pc.all(usual, min_count=0).as_py():
                try:
                    built = texts.cast(kind)
                except pa.ArrowInvalid:  # the shape of a date-time, but no real moment
                    pass
                else:
                    if built.null_count != len(built) and pc.min(built.cast(pa.int64())).as_py() >= FIRST_MICROS:
                        return built
        micros: list[int | None] = []
        for index, value in enumerate(values):
            moment = None
            if value is not None:
                try:
                    moment = parse_micros(_text(value))
                    if format_micros(moment) != value:
                        findings.unusual.add(place(index)[0])
                except ValueError as error:
                    findings.fault(place(index), "unreadable-timestamp", f"{_shown(value)} {error}")
            micros.append(moment)
        return pa.array(micros, pa.int64()).cast(kind)

    return build


def _doubles(column: Column) -> Build:
    kind = arrow_type(column.type)
    largest = _FLOAT_MAX if isinstance(column.type, FloatType) else float("inf")

    def build(values: list[Any], place: Place, findings: Findings) -> pa.Array:
        numbers: list[float | None] = []
        for index, value in enumerate(values):
            number = None
            if type(value) is float or type(value) is int:
                number = _as_float(value)
                if number is None or abs(number) >= largest:
                    findings.fault(place(index), "out-of-range", f"{_shown(value)} does not fit into {column.type}")
                    number = None
                elif (type(value) is float and value.is_integer()) or (type(value) is int and abs(value) >= _EXACT_DOUBLE):
                    findings.unusual.add(place(index)[0])
            elif value is not None:
                findings.fault(place(index), "schema-violation", f"{_shown(value)} is not a number")
            numbers.append(number)
        return pa.array(numbers, kind)

    return build


def _as_float(value: float) -> float | None:
    try:
        return float(value)
    except OverflowError:
        return None


def _integer(low: int, high: int, name: str) -> Callable[[Any], int]:
    def convert(value: Any) -> int:
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is not int:
            raise FaultError("schema-violation", f"{_shown(value)} is not a whole number")
        if not low <= value <= high:
            raise FaultError("out-of-range", f"{_shown(value)} does not fit into {name}")
        return value

    return convert


def _is(kind: type, what: str) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        if type(value) is not kind:
            raise FaultError("schema-violation", f"{_shown(value)} is not {what}")
        return value

    return convert


def _text(value: Any) -> str:
    if type(value) is not str:
        raise FaultError("schema-violation", "is not a text")
    return value


def _parsed(read: Callable[[str], Any], reason: str, what: str = "") -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        try:
            return read(_text(value))
        except FaultError:
            raise
        except (ValueError, binascii.Error) as error:
            raise FaultError(reason, f"{_shown(value)} {what or error}") from None

    return convert


def _bytes(text: str) -> bytes:
    return b64decode(text, validate=True)


def _fixed(size: int) -> Callable[[Any], bytes]:
    read = _parsed(_bytes, "unreadable-bytes", "is not base64")

    def convert(value: Any) -> bytes:
        data: bytes = read(value)
        if len(data) != size:
            raise FaultError("unreadable-bytes", f"has {len(data)} bytes instead of {size}")
        return data

    return convert


def _decimal(kind: DecimalType) -> Callable[[Any], Decimal]:
    step = Decimal(1).scaleb(-kind.scale)

    def convert(value: Any) -> Decimal:
        if type(value) is bool or type(value) not in (int, float, str):
            raise FaultError("schema-violation", f"{_shown(value)} is not a number")
        try:
            exact = Decimal(str(value))
            if not exact.is_finite() or exact.adjusted() >= kind.precision - kind.scale:
                raise FaultError("out-of-range", f"{_shown(value)} does not fit into {kind}")
            rounded = exact.quantize(step, context=_WIDE)
        except InvalidOperation:
            raise FaultError("out-of-range", f"{_shown(value)} does not fit into {kind}") from None
        if rounded != exact:
            raise FaultError("out-of-range", f"{_shown(value)} has more than {kind.scale} decimals")
        return rounded

    return convert


def _json_text(value: Any) -> str:
    return canonical_json(plain(value)).decode()


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _naive(text: str) -> int:
    return parse_micros(text, zoned=False)


_LEAVES: dict[type, tuple[tuple[type, ...], Callable[[Any], Any]]] = {
    BooleanType: ((bool,), _is(bool, "a boolean")),
    IntegerType: ((int,), _integer(-(2**31), 2**31 - 1, "a 32-bit integer")),
    LongType: ((int,), _integer(-(2**63), 2**63 - 1, "a 64-bit integer")),
    StringType: ((str,), _is(str, "a text")),
    BinaryType: ((), _parsed(_bytes, "unreadable-bytes", "is not base64")),
    FixedType: ((), _is(bytes, "bytes")),
    DecimalType: ((), _is(Decimal, "a number")),
    UUIDType: ((), _parsed(lambda text: UUID(text).bytes, "unreadable-uuid", "is not a UUID")),
    DateType: ((), _parsed(parse_date, "unreadable-timestamp")),
    TimeType: ((), _parsed(parse_time, "unreadable-timestamp")),
    TimestampType: ((), _parsed(_naive, "unreadable-timestamp")),
}

__all__ = ["Build", "FaultError", "Findings", "Place", "builder", "struct_builder"]
