"""Numbers of JSON as they are written, where a column is a decimal: parsed as floats, those of more than 15 digits lose some.

JSON is parsed twice only where such a column is declared, at whatever depth, and so long a number stands in the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import orjson
from pyiceberg.types import DecimalType

from platform_resources.contracts.model import Column

_LONG = re.compile(rb"\d[\d.]{15}")
_LEAST, _MOST = -(2**63), 2**64  # whole numbers beyond are floats to the usual parser


class ExactNumbers:
    """The decimals among some columns, under the names they have in JSON.

    Attributes:
        any: whether there are any.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self._fields = {column.event_name: column for column in columns}
        self.any = any(_is_decimal(inner) for column in columns for _, inner in column.walk())

    def loads(self, text: bytes) -> Any:
        """A record's text as `orjson.loads` reads it, but long decimals as text with all their digits.

        Raises:
            orjson.JSONDecodeError: it is no JSON.
        """
        value = orjson.loads(text)
        exact = self.parsed(text)
        return value if exact is None else self.record(exact)

    def parsed(self, text: bytes) -> Any:
        """Valid JSON with its numbers as decimals, for `record`; None where nothing would be lost without."""
        if not self.any or _LONG.search(text) is None:
            return None
        try:
            return json.loads(text, parse_float=Decimal)
        except ValueError:  # a whole number of more digits than Python reads, which no column could hold
            return None

    def record(self, exact: Any) -> Any:
        """A record out of what was parsed with decimals: text where a decimal is wanted, floats everywhere else."""
        if type(exact) is not dict:
            return _plain(exact, None)
        return {name: _plain(value, self._fields.get(name)) for name, value in exact.items()}


def _plain(value: Any, column: Column | None) -> Any:
    kind = type(value)
    if kind is dict:
        fields = {} if column is None or column.is_json else {inner.event_name: inner for inner in column.fields}
        rest = column.value if column is not None and not column.is_json else None
        return {name: _plain(inner, fields.get(name, rest)) for name, inner in value.items()}
    if kind is list:
        element = column.element if column is not None and not column.is_json else None
        return [_plain(inner, element) for inner in value]
    if kind is Decimal or (kind is int and not _LEAST <= value < _MOST):
        number = float(str(value))
        lost = column is not None and _is_decimal(column) and Decimal(repr(number)) != value
        return str(value) if lost else number
    return value


def _is_decimal(column: Column) -> bool:
    return isinstance(column.type, DecimalType) and not column.is_json
