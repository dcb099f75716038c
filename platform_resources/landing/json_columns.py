"""Lines of NDJSON by Arrow's own parser, several times as fast as one by one, where its reading is ours to the letter.

It takes a chunk as a whole or not at all: what holds anything unusual (bad records, other forms of moments, lone surrogates, blank
lines) is left to `json_records`, which judges each value. That both read alike is a property test.
"""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj
from pyiceberg.types import (
    BooleanType,
    DateType,
    DoubleType,
    IcebergType,
    IntegerType,
    LongType,
    StringType,
    TimestampType,
    TimestamptzType,
)

from platform_resources.contracts.iceberg import arrow_type
from platform_resources.contracts.model import Column, Contract
from platform_resources.streams.temporal import FIRST_MICROS

_BLOCK_BYTES = 1 << 20
_TRIES = 3  # chunks in a row that it could not take, after which a file is not tried any more
_AS_THEY_ARE = (BooleanType, IntegerType, LongType, DoubleType, StringType)
_DAY = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_CLOCK = r"[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?"
_MOMENTS: Mapping[type[IcebergType], str] = {
    DateType: f"^{_DAY}$",
    TimestampType: f"^{_DAY}[T ]{_CLOCK}$",
    TimestamptzType: f"^{_DAY}[T ]{_CLOCK}(Z|[+-](0[0-9]|1[0-3]):[0-5][0-9])$",
}


class JsonColumns:
    """Reads chunks of one file for one contract; of no use for contracts with nested columns, decimals or bytes."""

    def __init__(self, contract: Contract) -> None:
        self._columns = contract.columns
        usable = all(not column.is_json and isinstance(column.type, (*_AS_THEY_ARE, *_MOMENTS)) for column in contract.columns)
        self._left = _TRIES if usable and contract.columns else 0
        fields = [(column.source_name, _parsed_type(column)) for column in contract.columns] if usable else []
        # Arrow does not judge the values of fields it passes over, so it passes over none, in open contracts neither.
        self._options = pj.ParseOptions(explicit_schema=pa.schema(fields), unexpected_field_behavior="error")

    def read(self, chunk: bytes) -> pa.Table | None:
        """The rows of the chunk, one for each of its lines in their order; None where it is not taken.

        Args:
            chunk: lines in UTF-8, the last one with or without its end.
        """
        if not self._left:
            return None
        table = self._read(chunk)
        self._left = _TRIES if table is not None else self._left - 1
        return table

    def _read(self, chunk: bytes) -> pa.Table | None:
        lines = _objects(chunk)
        if not lines:
            return None
        try:
            read = pj.read_json(io.BytesIO(chunk), pj.ReadOptions(block_size=_BLOCK_BYTES), self._options)
            if read.num_rows != lines:
                return None
            arrays = [_exact(read.column(column.source_name), column) for column in self._columns]
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, _UnusualError):
            return None
        return pa.table(arrays, names=[column.name for column in self._columns])


class _UnusualError(Exception):
    """A value that has to be looked at by itself."""


def _parsed_type(column: Column) -> pa.DataType:
    return arrow_type(column.type) if isinstance(column.type, _AS_THEY_ARE) else pa.string()


def _objects(chunk: bytes) -> int:
    """The number of lines, each of which begins and ends an object; 0 where that is not so.

    A brace, a line's end and a brace stand within no JSON value, so a chunk of as many values as lines has one on each. A lone surrogate,
    a control character and a NUL are read by some and not by others.
    """
    text = chunk.removesuffix(b"\n")
    if not (text.startswith(b"{") and text.endswith(b"}")) or b"\\ud" in text or b"\\uD" in text:
        return 0
    ends = text.count(b"\n")
    controls = int((np.frombuffer(text, np.uint8) < 0x20).sum())
    return ends + 1 if text.count(b"}\n{") == ends == controls else 0


def _exact(values: pa.ChunkedArray, column: Column) -> pa.ChunkedArray:
    if column.required and values.null_count:
        raise _UnusualError
    shape = _MOMENTS.get(type(column.type))
    if shape is not None:
        return _moments(values, column, shape)
    if isinstance(column.type, DoubleType):
        odd = pc.or_(pc.invert(pc.is_finite(values)), pc.and_(pc.equal(values, 0.0), pc.equal(pc.divide(1.0, values), float("-inf"))))
        if pc.any(odd, min_count=0).as_py():  # -0 is a whole number in JSON, and then has no sign
            raise _UnusualError
    return values


def _moments(texts: pa.ChunkedArray, column: Column, shape: str) -> pa.ChunkedArray:
    if not pc.all(pc.match_substring_regex(texts, shape), min_count=0).as_py():
        raise _UnusualError
    moments = texts.cast(arrow_type(column.type))
    micros = moments.cast(pa.timestamp("us")) if isinstance(column.type, DateType) else moments
    first = pc.min(micros.cast(pa.int64())).as_py()
    if first is not None and first < FIRST_MICROS:
        raise _UnusualError
    return moments
