"""A SQL dump of a MediaWiki table as a contract's rows: its columns by name, each made what the contract says it is.

The format is `mysqldump`'s, types are judged by `text_columns`. Here stands only what neither can know: which column is which, what
charset a text is in, and MediaWiki's way to write a time.
https://www.mediawiki.org/wiki/Manual:Timestamp
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.types import BinaryType, DateType, FixedType, TimestampType, TimestamptzType

from platform_resources.contracts.model import Column, Contract
from platform_resources.contracts.sources import SqlDumpOptions
from platform_resources.landing.mysqldump import Rows, SqlColumn, SqlTable, rows
from platform_resources.landing.source import Block, Delivery, DeliveryRefused, RefusedRecord
from platform_resources.landing.text_columns import TextColumns

_UTF8 = frozenset({"utf8", "utf8mb3", "utf8mb4", "ascii"})
_CODECS = {  # the server's charsets, as Python calls them; its latin1 is Windows'
    "latin1": "cp1252", "latin2": "iso8859-2", "latin5": "iso8859-9", "latin7": "iso8859-13", "greek": "iso8859-7", "hebrew": "iso8859-8",
    "cp1250": "cp1250", "cp1251": "cp1251", "cp1256": "cp1256", "cp1257": "cp1257", "cp850": "cp850", "cp852": "cp852", "cp866": "cp866",
    "koi8r": "koi8-r", "koi8u": "koi8-u", "macroman": "mac-roman", "tis620": "tis-620", "big5": "big5", "gbk": "gbk", "gb2312": "gb2312",
    "gb18030": "gb18030", "sjis": "shift_jis", "cp932": "cp932", "ujis": "euc_jp", "eucjpms": "euc_jp", "euckr": "euc_kr",
    "ucs2": "utf-16-be", "utf16": "utf-16-be", "utf16le": "utf-16-le", "utf32": "utf-32-be",
}  # fmt: skip
_TIMESTAMP = r"^([0-9]{4})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})$"
_ISO_MOMENT, _ISO_DATE = r"\1-\2-\3T\4:\5:\6", r"\1-\2-\3"


def read(stream: BinaryIO, delivery: Delivery, contract: Contract) -> Iterator[Block]:
    """The rows of the contract's table in blocks of bounded size; `lines` has their numbers in the table.

    Raises:
        DeliveryRefused: as `mysqldump.rows`; `dump-column` when a required column is not there, `dump-charset`.
    """
    options = contract.source.options if contract.source is not None else None
    options = options if isinstance(options, SqlDumpOptions) else SqlDumpOptions()
    reading = _Reading(contract, delivery.name, options.encoding)
    for found in rows(stream, delivery.name, options.table, reading.wanted):
        yield reading.block(found)


class _Reading:
    """Makes blocks of a table's rows for one contract."""

    def __init__(self, contract: Contract, name: str, encoding: str) -> None:
        self._contract, self._name = contract, name
        self._encoding = codecs.lookup(encoding).name
        self._typing = TextColumns(contract)
        self._pairs: list[tuple[Column, SqlColumn]] = []

    def wanted(self, table: SqlTable) -> Sequence[str]:
        """The table's columns that the contract has; called for every INSERT, which may list others."""
        there = {column.name.lower(): column for column in table.columns}
        self._pairs = [(one, there[one.source_name.lower()]) for one in self._contract.columns if one.source_name.lower() in there]
        have, taken = {column.name for column, _ in self._pairs}, {column.name for _, column in self._pairs}
        missing = [column for column in self._contract.columns if column.name not in have]
        others = [column.name for column in table.columns if column.name not in taken]
        # One that may be null may be missing, unless the table has columns of other names: it may be one of those, misspelt or renamed.
        if refused := [column for column in missing if column.required or others]:
            raise DeliveryRefused(
                "dump-column",
                f"{self._name} has no column {refused[0].source_name} in its table {table.name}.",
                f"Set the column's physicalName to one of {', '.join(column.name for column in table.columns)}, or remove it.",
            )
        return [column.name for _, column in self._pairs]

    def block(self, found: Rows) -> Block:
        """The rows typed, and the others refused; all in their order."""
        columns = {column.name: self._text(column, of, found) for column, of in self._pairs}
        lines = pa.array(found.numbers, pa.int64())
        block = self._typing.typed(columns, lines, found.raw)
        if not found.bad:
            return block
        bad = [RefusedRecord(one.number, one.raw, one.reason, "", one.detail) for one in found.bad]
        return Block(block.rows, block.lines, sorted([*block.refused, *bad], key=lambda record: record.line or 0))

    def _text(self, column: Column, of: SqlColumn, found: Rows) -> pa.Array:
        """What `text_columns` takes: UTF-8 bytes, or the value's own where the column holds bytes."""
        values = found.columns[of.name]
        if of.is_text:
            values = _decoded(values, self._codec(of, found.charset))
        elif not isinstance(column.type, BinaryType | FixedType) and self._encoding != "utf-8":
            values = _decoded(values, _by_python(self._encoding))
        if isinstance(column.type, TimestamptzType | TimestampType | DateType) and not column.options.get("format"):
            values = _moments(values, of, column)
        return values

    def _codec(self, column: SqlColumn, declared: str) -> Callable[[bytes], bytes | None] | None:
        """What makes a text UTF-8: the dump's declared charset, or without one that of the column. None: it is UTF-8."""
        charset = column.charset if declared == "binary" else declared
        if charset is None or charset in _UTF8 or charset == "binary":
            return None
        if charset not in _CODECS:
            raise DeliveryRefused(
                "dump-charset", f"{self._name} is in the charset {charset}, which is not read.", "Make the dump in utf8mb4."
            )
        return _by_python(_CODECS[charset])


def _by_python(encoding: str) -> Callable[[bytes], bytes | None]:
    """Bytes in an encoding as UTF-8; what they cannot be stays as it is, and is no UTF-8 then."""

    def recoded(value: bytes) -> bytes:
        try:
            return value.decode(encoding).encode()
        except UnicodeDecodeError:
            return b"\xff" + value if encoding != "cp1252" else value.decode("latin-1").encode()  # C1, as the server has it

    return recoded


def _decoded(values: pa.Array, codec: Callable[[bytes], bytes | None] | None) -> pa.Array:
    if codec is None:
        return values
    return pa.array([None if value is None else codec(value) for value in values.to_pylist()], pa.binary())


def _moments(values: pa.Array, of: SqlColumn, column: Column) -> pa.Array:
    """MediaWiki's timestamps, 14 digits in a column of bytes or characters, as ISO 8601."""
    if of.kind not in ("binary", "varbinary", "char", "varchar"):
        return values
    try:
        whole = values.cast(pa.binary(14))
    except pa.ArrowInvalid:  # some are shorter or longer: other forms of a moment, or none
        return _moments_of_many_forms(values, is_date=isinstance(column.type, DateType))
    digits = np.frombuffer(whole.buffers()[1], np.uint8)[whole.offset * 14 :][: len(whole) * 14].reshape(-1, 14)
    if (digits[np.asarray(values.is_valid())] - ord("0") > 9).any():
        return _moments_of_many_forms(values, is_date=isinstance(column.type, DateType))
    made = np.tile(np.frombuffer(b"0000-00-00T00:00:00", np.uint8), (len(whole), 1))
    for start, places in zip(
        (0, 4, 6, 8, 10, 12), (slice(0, 4), slice(5, 7), slice(8, 10), slice(11, 13), slice(14, 16), slice(17, 19)), strict=True
    ):
        made[:, places] = digits[:, start : start + places.stop - places.start]
    width = 10 if isinstance(column.type, DateType) else 19
    made = np.ascontiguousarray(made[:, :width])
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(whole), [whole.buffers()[0], pa.py_buffer(made)]).cast(pa.binary())


def _moments_of_many_forms(values: pa.Array, *, is_date: bool) -> pa.Array:
    try:
        texts = values.cast(pa.string())
    except pa.ArrowInvalid:  # some are no text at all, and are told of one by one
        return values
    return pc.replace_substring_regex(texts, _TIMESTAMP, _ISO_DATE if is_date else _ISO_MOMENT)


__all__ = ["read"]
