"""Columns of text to the contract's types, exactly: what comes as text, whatever it came in, is judged here and nowhere else.

A whole column goes through Arrow at once. What Arrow refuses is halved until the few values at fault stand alone; those are read one by
one, by the same rules that values of events are read by (`streams.arrays`), and either pass after all or refuse their row.

| column | text |
|---|---|
| whole number | digits, a sign; `12.0` too, which spreadsheets and data frames write |
| number, decimal | digits, a point, an exponent; a decimal never goes through a float, and is never rounded |
| boolean | `true`, `t`, `yes`, `y`, `1` and their opposites, in any case |
| date, time, timestamp | ISO 8601, or `logicalTypeOptions.format` (strptime); a moment without a zone is UTC |
| binary, fixed | base64, or hexadecimal with the format `hex`; columns that come as bytes are taken as they are |
| object, array, map, JSON | JSON |
Around all of these but text, blanks do not count and an empty text is null. Text stays as it is.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
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
)

from platform_resources.contracts.iceberg import arrow_type
from platform_resources.contracts.model import Column, Contract
from platform_resources.landing.source import Block, RefusedRecord
from platform_resources.streams.arrays import FaultError, Findings, builder
from platform_resources.streams.temporal import FIRST_MICROS

Raw = Callable[[int], bytes | None]
"""What stood at a row, asked only for rows that are refused."""
Fault = tuple[int, str, str]
"""Row, reason, detail."""

_FEW = 16  # values below which halving on costs more than reading one by one
_INTEGER = re.compile(r"([+-]?\d+)(?:\.0*)?", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(:\d\d(?:[.,]\d+)?)?)?\s?(Z|z|UTC|[+-]\d\d(?::?\d\d)?)?", re.ASCII)
_CLOCK = re.compile(r"(\d\d:\d\d)(:\d\d(?:\.\d+)?)?", re.ASCII)
_WORDS = {word: value for value, words in ((True, "true t yes y 1"), (False, "false f no n 0")) for word in words.split()}
# strptime's directives that Arrow can put into ISO order by itself, with the group they fill
_ORDER = {"Y": (r"([0-9]{4})", "{Y}"), "m": ("([0-9]{2})", "{m}"), "d": ("([0-9]{2})", "{d}"), "H": ("([0-9]{2})", "{H}"),
          "M": ("([0-9]{2})", "{M}"), "S": ("([0-9]{2})", "{S}"), "f": ("([0-9]{1,6})", "{f}")}  # fmt: skip


class TextColumns:
    """Turns columns of text into the columns of one contract.

    Args:
        contract: whose columns, by name.
        nulls: texts that stand for no value in every column, where the reader could not tell already.
    """

    def __init__(self, contract: Contract, nulls: Iterable[str] = ()) -> None:
        self._columns = [(column, _Reading(column)) for column in contract.columns]
        self._nulls = pa.array(list(nulls), pa.string())

    def typed(self, columns: Mapping[str, pa.Array], lines: pa.Array, raw: Raw) -> Block:
        """The rows that every column can hold, and the others refused with the first column at fault.

        Args:
            columns: text by column name, equally long, null where there is no value; bytes where they need not be text, or the column's own
                Arrow type already. A column that is missing is null.
            lines: int64, where each row stood.
            raw: what stood at a row, by its index.
        """
        rows, names = len(lines), [column.name for column, _ in self._columns]
        faults: dict[int, tuple[str, str, str]] = {}
        arrays = []
        for column, reading in self._columns:
            given = columns.get(column.name)
            array, found = (pa.nulls(rows, arrow_type(column.type)), []) if given is None else reading.read(self._whole(given))
            at_fault = {index for index, _, _ in found}
            if column.required and array.null_count > len(at_fault):
                missing = pc.indices_nonzero(array.is_null()).to_pylist()
                found += [(index, "schema-violation", "a value is required") for index in missing if index not in at_fault]
            for index, reason, detail in found:
                faults.setdefault(index, (reason, column.name, detail))
            arrays.append(array)
        table = pa.table(arrays, names=names) if names else pa.table({})
        if not faults:
            return Block(table, lines)
        refused = [
            RefusedRecord(lines[index].as_py(), raw(index), reason, path, detail)
            for index, (reason, path, detail) in sorted(faults.items())
        ]
        good = pc.invert(pc.is_in(pa.array(np.arange(rows)), value_set=pa.array(list(faults), pa.int64())))
        return Block(table.filter(good), lines.filter(good), refused)

    def _whole(self, given: pa.Array | pa.ChunkedArray) -> pa.Array:
        """One array of text or bytes, with null where a token stands for it."""
        texts = given.combine_chunks() if isinstance(given, pa.ChunkedArray) else given
        if len(self._nulls) and len(texts):
            tokens = self._nulls.cast(texts.type)
            texts = pc.if_else(pc.is_in(texts, value_set=tokens), pa.scalar(None, texts.type), texts)
        return texts


class _Reading:
    """How the texts of one column are read: whole by `fast`, which raises ArrowInvalid where it cannot, one by one by `slow`."""

    def __init__(self, column: Column) -> None:
        self.column, self.kind = column, arrow_type(column.type)
        self.is_text = isinstance(column.type, StringType) and not column.is_json
        self.is_bytes = isinstance(column.type, BinaryType | FixedType)
        self.fast = _fast(column)
        self.slow = _slow(column)
        self._build = builder(_closed(column))

    def read(self, texts: pa.Array) -> tuple[pa.Array, list[Fault]]:
        """The column's array, null where a value is at fault, and the faults."""
        faults: list[Fault] = []
        if texts.type == self.kind and not pa.types.is_string(texts.type):  # JSON is text that is still to be judged
            return texts, []
        if pa.types.is_binary(texts.type) or pa.types.is_large_binary(texts.type) or pa.types.is_fixed_size_binary(texts.type):
            if self.is_bytes:
                return self._bytes(texts)
            texts = _utf8(texts, faults)
        elif not pa.types.is_string(texts.type):
            texts = texts.cast(pa.string())
        if not self.is_text:
            empty = pc.equal(texts, "")
            if pc.any(empty).as_py():
                texts = pc.if_else(empty, pa.scalar(None, pa.string()), texts)
        array = self._halved(texts, 0, faults)
        return array, faults

    def _halved(self, texts: pa.Array, start: int, faults: list[Fault]) -> pa.Array:
        if self.fast is not None:
            try:
                return self.fast(texts)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OverflowError):
                pass
        if self.fast is None or len(texts) <= _FEW:
            return self._one_by_one(texts, start, faults)
        middle = len(texts) // 2
        halves = [self._halved(texts[:middle], start, faults), self._halved(texts[middle:], start + middle, faults)]
        return pa.concat_arrays(halves)

    def _one_by_one(self, texts: pa.Array, start: int, faults: list[Fault]) -> pa.Array:
        values: list[Any] = []
        for index, given in enumerate(texts.to_pylist()):
            value, text = None, given if given is None or self.is_text else given.strip() or None
            if text is not None:
                try:
                    value = self.slow(text)
                except FaultError as error:
                    faults.append((start + index, error.reason, str(error)))
            values.append(value)
        findings = Findings()
        array = self._build(values, lambda index: (index, ""), findings)
        for index, (reason, path, detail) in findings.faults.items():
            faults.append((start + index, reason, f"{path.lstrip('.')}: {detail}" if path else detail))
        return _without(array, findings.faults)

    def _bytes(self, values: pa.Array) -> tuple[pa.Array, list[Fault]]:
        """Bytes as they are; a fixed column holds those of its length."""
        if isinstance(self.column.type, FixedType):
            size = len(self.column.type)
            wrong = pc.indices_nonzero(pc.fill_null(pc.not_equal(pc.binary_length(values), size), False)).to_pylist()
            faults = [(i, "unreadable-bytes", f"has {len(values[i].as_py())} bytes instead of {size}") for i in wrong]
            return _without(values, wrong).cast(self.kind), faults
        return values.cast(self.kind), []


def _closed(column: Column) -> Column:
    """The column with no place for fields that nobody declared: JSON within a text has no `_extra`, and drops none silently."""
    return replace(
        column,
        closed=True,
        fields=tuple(map(_closed, column.fields)),
        element=column.element and _closed(column.element),
        value=column.value and _closed(column.value),
    )


def _without(array: pa.Array, indices: Iterable[int]) -> pa.Array:
    """The array with null at those places."""
    gone = pa.array(list(indices), pa.int64())
    if not len(gone):
        return array
    keep = pc.invert(pc.is_in(pa.array(np.arange(len(array))), value_set=gone))
    return array.take(pc.if_else(keep, pa.array(np.arange(len(array))), pa.scalar(None, pa.int64())))


def _utf8(values: pa.Array, faults: list[Fault]) -> pa.Array:
    """Bytes as text; those that are no UTF-8 are null and at fault."""
    try:
        return values.cast(pa.string())
    except pa.ArrowInvalid:
        texts: list[str | None] = []
        for index, value in enumerate(values.to_pylist()):
            try:
                texts.append(None if value is None else value.decode())
            except UnicodeDecodeError as error:
                faults.append((index, "unreadable-text", f"byte {error.start + 1} of the value is no UTF-8"))
                texts.append(None)
        return pa.array(texts, pa.string())


# --- whole columns


def _fast(column: Column) -> Callable[[pa.Array], pa.Array] | None:
    """None where every value is read by itself: nested ones, JSON, bytes, times of day."""
    target, pattern = arrow_type(column.type), column.options.get("format")
    if column.is_json or column.children():
        return None
    match column.type:
        case StringType():
            read: Callable[[pa.Array], pa.Array] | None = _as_it_is
        case IntegerType() | LongType():
            read = lambda texts: _none_has(texts, b"xX").cast(target)  # noqa: E731
        case FloatType() | DoubleType():
            read = lambda texts: _finite(texts.cast(target))  # noqa: E731
        case DecimalType() | BooleanType():
            read = lambda texts: texts.cast(target)  # noqa: E731
        case DateType() | TimestampType() | TimestamptzType():
            read = _fast_moments(column, str(pattern) if pattern else None)
        case _:
            read = None
    return read


def _as_it_is(text: Any) -> Any:
    return text


def _none_has(texts: pa.Array, characters: bytes) -> pa.Array:
    """The texts, when none has one of the characters: Arrow reads 0x1F as a number."""
    if has_any(texts, characters) and any(pc.any(pc.match_substring(texts, chr(one))).as_py() for one in characters):
        raise pa.ArrowInvalid("hexadecimal")
    return texts


def has_any(texts: pa.Array, characters: bytes) -> bool:
    """Whether one of the ASCII characters stands in one of the texts, told by their common buffer, a tenth of the time that matching takes.

    A part of a longer array is told with its whole.
    """
    data = texts.buffers()[2]
    if data is None:
        return False
    letters = np.frombuffer(data, np.uint8)
    return any(bool((letters == character).any()) for character in characters)


def _finite(numbers: pa.Array) -> pa.Array:
    if pc.any(pc.invert(pc.is_finite(numbers))).as_py():
        raise pa.ArrowInvalid("not finite")
    return numbers


def _fast_moments(column: Column, pattern: str | None) -> Callable[[pa.Array], pa.Array] | None:
    target = arrow_type(column.type)
    iso = _iso_order(pattern) if pattern else None
    if pattern and iso is None:
        return None

    def read(texts: pa.Array) -> pa.Array:
        if iso is not None:
            if not pc.all(pc.match_substring_regex(texts, iso[0]), min_count=0).as_py():
                raise pa.ArrowInvalid("another form")
            texts = pc.replace_substring_regex(texts, iso[0], iso[1])
        if isinstance(column.type, DateType):
            days = texts.cast(pa.timestamp("us")) if iso is not None else texts.cast(target).cast(pa.timestamp("s"))
            return _real(days).cast(target)
        if target.tz is None:
            return _real(texts.cast(target))
        # One of the two, not each in turn: Arrow takes forty times as long to refuse a column as to cast it.
        return _real(texts.cast(target if _has_zone(texts) else pa.timestamp("us"))).cast(target)

    return read


def _has_zone(texts: pa.Array) -> bool:
    """Whether the first moment names its zone; the others mostly do as it does."""
    first = next((text for text in texts if text.is_valid), None)
    match = None if first is None else _MOMENT.fullmatch(first.as_py())
    return match is not None and match[4] is not None


def _real(moments: pa.Array) -> pa.Array:
    """The moments, when all are in year 1 or later: Arrow knows a year 0, Iceberg's readers do not."""
    first = FIRST_MICROS if moments.type.unit == "us" else FIRST_MICROS // 1_000_000
    if moments.null_count != len(moments) and pc.min(moments.cast(pa.int64())).as_py() < first:
        raise pa.ArrowInvalid("before year 1")
    return moments


def _iso_order(pattern: str) -> tuple[str, str] | None:
    """RE2 and replacement that put a strptime format into ISO order; None for one that only strptime can read."""
    parts = re.split(r"%(.)", pattern.replace("%F", "%Y-%m-%d").replace("%T", "%H:%M:%S"))
    groups: dict[str, str] = {}
    regex = "^" + re.escape(parts[0])
    for directive, literal in zip(parts[1::2], parts[2::2], strict=True):
        if directive not in _ORDER or directive in groups:
            return None
        groups[directive] = rf"\{len(groups) + 1}"
        regex += _ORDER[directive][0] + re.escape(literal)
    if "Y" not in groups:
        return None
    iso = f"{groups['Y']}-{groups.get('m', '01')}-{groups.get('d', '01')}T{groups.get('H', '00')}:{groups.get('M', '00')}:"
    return regex + "$", iso + groups.get("S", "00") + (f".{groups['f']}" if "f" in groups else "")


# --- one value


def _slow(column: Column) -> Callable[[str], Any]:
    """A value as `streams.arrays` takes it; FaultError where the text is none."""
    pattern = column.options.get("format")
    if column.is_json or column.children():
        return _json
    match column.type:
        case IntegerType() | LongType():
            read: Callable[[str], Any] = _whole_number
        case FloatType() | DoubleType():
            read = lambda text: float(_matching(_NUMBER, text, "is not a number"))  # noqa: E731
        case DecimalType():
            read = lambda text: _matching(_NUMBER, text, "is not a number")  # noqa: E731
        case BooleanType():
            read = _boolean
        case DateType() | TimestampType() | TimestamptzType() | TimeType():
            read = _by_format(column, str(pattern)) if pattern else _moment(column)
        case BinaryType() | FixedType():
            read = (lambda text: b64encode(_hexadecimal(text)).decode()) if pattern == "hex" else _as_it_is
        case _:
            read = _as_it_is
    return read


def _matching(shape: re.Pattern[str], text: str, what: str) -> str:
    if shape.fullmatch(text) is None:
        raise FaultError("type-mismatch", f"{_shown(text)} {what}")
    return text


def _whole_number(text: str) -> int:
    match = _INTEGER.fullmatch(text)
    if match is None:
        raise FaultError("type-mismatch", f"{_shown(text)} is not a whole number")
    if len(match[1]) > 4000:  # Python refuses to read longer ones
        raise FaultError("out-of-range", f"{_shown(text)} has {len(match[1])} digits")
    return int(match[1])


def _boolean(text: str) -> bool:
    if text.lower() not in _WORDS:
        raise FaultError("type-mismatch", f"{_shown(text)} is neither true nor false")
    return _WORDS[text.lower()]


def _json(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise FaultError("type-mismatch", f"{_shown(text)} is not JSON: {error}") from None


def _hexadecimal(text: str) -> bytes:
    digits = text[2:] if text[:2] in ("0x", "0X", "\\x") else text
    try:
        return binascii.unhexlify(digits)
    except ValueError:
        raise FaultError("unreadable-bytes", f"{_shown(text)} is not hexadecimal") from None


def _moment(column: Column) -> Callable[[str], str]:
    """ISO 8601 brought into the one form that events have: full seconds, a point, an offset where the column has zones."""
    zoned = isinstance(column.type, TimestamptzType)

    def read(text: str) -> str:
        if isinstance(column.type, DateType):
            return text
        if isinstance(column.type, TimeType):
            clock = _CLOCK.fullmatch(text)
            return text if clock is None else f"{clock[1]}{clock[2] or ':00'}"
        match = _MOMENT.fullmatch(text)
        if match is None:
            raise FaultError("unreadable-timestamp", f"{_shown(text)} is not an ISO 8601 moment")
        day, clock_text, seconds, zone = match.groups()
        moment = f"{day}T{clock_text or '00:00'}{(seconds or ':00').replace(',', '.')}"
        if zone is None or zone in ("Z", "z", "UTC"):
            return f"{moment}Z" if zoned else moment
        digits = zone[1:].replace(":", "").ljust(4, "0")
        return f"{moment}{zone[0]}{digits[:2]}:{digits[2:]}"

    return read


def _by_format(column: Column, pattern: str) -> Callable[[str], str]:
    kind = column.type

    def read(text: str) -> str:
        try:
            moment = datetime.strptime(text, pattern)
        except ValueError:
            raise FaultError("unreadable-timestamp", f"{_shown(text)} does not match the format {pattern}") from None
        if isinstance(kind, DateType):
            return moment.date().isoformat()
        if isinstance(kind, TimeType):
            return moment.time().isoformat()
        if isinstance(kind, TimestamptzType):
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
        return moment.replace(tzinfo=None).isoformat()

    return read


def _shown(text: str) -> str:
    shown = repr(text)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."
