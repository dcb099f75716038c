"""Rows drawn from a contract, for tests of transforms: right in type, poor in distinct values so that keys collide, seeded.

Realistic data is a generator's business, not this module's.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
from pyiceberg.schema import Schema
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
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from platform_resources.contracts.iceberg import table_definition
from platform_resources.contracts.model import Contract
from platform_resources.lakehouse.conforming import arrow_schema_of

START = datetime(2026, 1, 30, 20, tzinfo=UTC)  # the days drawn cross the end of a month
DAYS = 3
_WORDS = ("a", "b", "c", "d", "é")
_MANY = 500


class RowSampler:
    """Draws rows of one contract. A text or whole number is one of its column's `examples` where it has some.

    Args:
        contract: whose rows.
        random: source of chance; the same seed gives the same rows.
        values: how many distinct values a column without enum has; small numbers make keys collide.
        few: dotted paths of columns that get only three values, e.g. the keys by which a transform groups.
        many: dotted paths of texts that get hundreds of values instead of their examples, e.g. people where all else is alike.
        nulls: chance of a null in an optional column.
    """

    def __init__(
        self,
        contract: Contract,
        random: random.Random,
        *,
        values: int = 6,
        few: Collection[str] = (),
        many: Collection[str] = (),
        nulls: float = 0.1,
    ) -> None:
        self.contract, self.random, self.values, self.nulls = contract, random, values, nulls
        self.few, self.many = frozenset(few), frozenset(many)
        self.schema: Schema = table_definition(contract).schema
        self._drawn = 0

    def rows(self, count: int) -> list[dict[str, Any]]:
        """Rows as Python values by column name. A stream's dedupe key and offset are unique, as ingestion would leave them."""
        return [self._row() for _ in range(count)]

    def table(self, rows: list[dict[str, Any]]) -> pa.Table:
        """Rows as Arrow, with the table's exact types."""
        return pa.Table.from_pylist(rows, schema=arrow_schema_of(self.schema))

    def redelivered(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The same event read again at a later offset: equal but for the log's own columns."""
        return {**row, **self._log_columns()}

    def _row(self) -> dict[str, Any]:
        row = {field.name: self._value(field.field_type, field.name, field.required) for field in self.schema.fields}
        if self.contract.is_stream:
            self._set_dedupe_key(row)
            row.update(self._log_columns())
        return row

    def _set_dedupe_key(self, row: dict[str, Any]) -> None:
        *parents, last = self.contract.dedupe_key.split(".")
        target: Any = row
        for name in parents:
            target = target.get(name) if isinstance(target, dict) else None
        if isinstance(target, dict) and isinstance(target.get(last), str):
            target[last] = str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    def _log_columns(self) -> dict[str, Any]:
        self._drawn += 1
        at = START + timedelta(days=DAYS, seconds=self._drawn)
        return {
            "_topic": "sampled", "_partition": 0, "_offset": self._drawn, "_log_time": at, "_ingested_at": at,
            "_event_hash": self.random.randbytes(16),
        }  # fmt: skip

    def _value(self, kind: IcebergType, path: str, required: bool) -> Any:
        if not required and self.random.random() < self.nulls:
            return None
        if isinstance(kind, StructType):
            return {field.name: self._value(field.field_type, f"{path}.{field.name}", field.required) for field in kind.fields}
        if isinstance(kind, ListType):
            return [self._value(kind.element_type, f"{path}.element", kind.element_required) for _ in range(self.random.randrange(3))]
        if isinstance(kind, MapType):
            keys = dict.fromkeys(self._value(kind.key_type, f"{path}.key", required=True) for _ in range(self.random.randrange(3)))
            return [(key, self._value(kind.value_type, f"{path}.value", kind.value_required)) for key in keys]
        return self._primitive(kind, path)

    def _primitive(self, kind: IcebergType, path: str) -> Any:
        column = self.contract.column(path) if self.contract.has_column(path) else None
        if column is not None and column.enum:
            return self.random.choice(column.enum)
        number = self.random.randrange(_MANY if path in self.many else 3 if path in self.few else self.values)
        if isinstance(kind, IntegerType | LongType) and column is not None and column.examples:
            return int(column.examples[number % len(column.examples)])
        if isinstance(kind, IntegerType | LongType):
            low = column.options.get("minimum") if column is not None else None
            high = column.options.get("maximum") if column is not None else None
            lowest = int(low) if low is not None else -1 if high is None or high < 0 else 0
            return min(lowest + number, int(high)) if high is not None else lowest + number
        if isinstance(kind, StringType) and column is not None and column.examples and path not in self.many:
            return str(column.examples[number % len(column.examples)])
        if isinstance(kind, StringType):
            return self._text(number, column.options if column is not None else {}, column is not None and column.is_json)
        return _simple_value(kind, number, self.random)

    def _text(self, number: int, options: Mapping[str, Any], is_json: bool) -> str:
        if is_json:
            return ("{}", '{"a":1}', "[1,2]", '"x"', "null")[number % 5]
        form = options.get("format")
        if form == "uuid":
            return str(uuid.UUID(int=number + 1))
        if form in ("uri", "uri-reference"):
            return f"https://example.org/{number}"
        word = _WORDS[number % len(_WORDS)] + (str(number) if number >= len(_WORDS) else "")
        word = word * max(1, int(options.get("minLength", 1)))
        return word[: int(options.get("maxLength", len(word)))]


def _simple_value(kind: IcebergType, number: int, chance: random.Random) -> Any:  # noqa: PLR0911 - one line per type
    """A value from a domain of few values: times fall on few minutes of a few days."""
    if isinstance(kind, TimestamptzType | TimestampType):
        at = START + timedelta(days=chance.randrange(DAYS), hours=chance.randrange(8), minutes=15 * number)
        return at if isinstance(kind, TimestamptzType) else at.replace(tzinfo=None)
    if isinstance(kind, DateType):
        return START.date() + timedelta(days=chance.randrange(DAYS))
    if isinstance(kind, TimeType):
        return time(hour=number % 24)
    if isinstance(kind, BooleanType):
        return number % 2 == 0
    if isinstance(kind, FloatType | DoubleType):
        return number / 2
    if isinstance(kind, DecimalType):
        return Decimal(number).scaleb(-kind.scale)
    if isinstance(kind, UUIDType):
        return uuid.UUID(int=number + 1).bytes
    if isinstance(kind, FixedType):
        return bytes([number]) * len(kind)
    if isinstance(kind, BinaryType):
        return bytes([number])
    raise TypeError(f"no values are known for {kind}")
