"""When two events are equal, as 16 bytes: the same instants, numbers by value, absent is null.

The canonical form of an event is its JSON with sorted keys, where
- a field that is null is left out, at any depth; an element of an array that is null stays, since its place means something;
- an empty object or array stays: `{}` is a value, null is none;
- date-times of the contract are UTC with the shortest fraction (finer than a microsecond is cut), times of day and dates likewise;
- a number is written by its value: 1.0 and 1 are one number; a column declared double is compared as double, decimal as decimal;
- UUIDs are in lower case; every other text is compared as it is.
Of a key that an event repeats the last one counts, as everywhere in the platform.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from hashlib import blake2b
from typing import Any
from uuid import UUID

import orjson
from pyiceberg.types import (
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from platform_resources.contracts.model import Column, Contract
from platform_resources.streams.temporal import CANONICAL_INSTANT, format_micros, format_time, parse_micros, parse_time

Normalise = Callable[[Any], Any]
_EXACT = 2.0**63  # beyond this a double is not written as an integer: JSON readers would make a double of it again
_CANONICAL = re.compile(CANONICAL_INSTANT, re.ASCII)
HASH_BYTES = 16


def canonical_json(value: Any) -> bytes:
    """Canonical JSON of a value whose form is known: keys sorted, no spaces."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def plain(value: Any) -> Any:
    """The canonical form of a value that no contract types: JSON columns and undeclared fields."""
    kind = type(value)
    if kind is str:
        return value
    if kind is dict:
        return {key: plain(item) for key, item in value.items() if item is not None}
    if kind is list:
        return [plain(item) for item in value]
    return number(value)


def number(value: Any) -> Any:
    """A number by its value; anything else as it is."""
    if type(value) is float:
        return int(value) if value.is_integer() and -_EXACT <= value < _EXACT else value
    if type(value) is int and not -(2**63) <= value < 2**64:  # JSON readers make a double of it
        try:
            return float(value)
        except OverflowError:
            return str(value)
    return value


class CanonicalForm:
    """The canonical form of one contract's events."""

    def __init__(self, contract: Contract) -> None:
        self._event = _struct(contract.columns)

    def normalise(self, event: dict[str, Any]) -> dict[str, Any]:
        """The event in canonical form; values that break the contract stay as they are."""
        form: dict[str, Any] = self._event(event)
        return form

    def hash(self, event: dict[str, Any]) -> bytes:
        """16 bytes that are equal for equal events, and different for others but by a chance of 2**-64 among 2**32 events."""
        return digest(canonical_json(self.normalise(event)))


def older_forms(contract: Contract, versions: Iterable[Container[str]]) -> list[CanonicalForm]:
    """The forms of events before columns were added: each version names the columns (dotted) that were declared then.

    A field was canonical as it came until the contract declared it, so that an event has another hash from then on.
    """
    forms: list[tuple[Column, ...]] = []
    for names in versions:
        then = _declared(contract.columns, names, "")
        if then != contract.columns and then not in forms:
            forms.append(then)
    return [CanonicalForm(replace(contract, columns=columns)) for columns in forms]


def _declared(columns: tuple[Column, ...], names: Container[str], parent: str) -> tuple[Column, ...]:
    return tuple(_as_declared(column, names, parent + column.name) for column in columns if parent + column.name in names)


def _as_declared(column: Column, names: Container[str], path: str) -> Column:
    if column.fields:
        return replace(column, fields=_declared(column.fields, names, f"{path}."))
    if column.element is not None:
        return replace(column, element=_as_declared(column.element, names, f"{path}.element"))
    if column.value is not None:
        return replace(column, value=_as_declared(column.value, names, f"{path}.value"))
    return column


def digest(canonical: bytes) -> bytes:
    """BLAKE2b of canonical JSON, 16 bytes."""
    return blake2b(canonical, digest_size=HASH_BYTES).digest()


def event_hash(event: dict[str, Any], contract: Contract) -> bytes:
    """16 bytes that are the same for two events exactly when they are equal under the contract."""
    return _form(_Keyed(contract)).hash(event)


class _Keyed:
    """A contract as a cache key, by what it says of its columns."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract

    def __hash__(self) -> int:
        return hash(self.contract.fingerprint)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Keyed) and other.contract.fingerprint == self.contract.fingerprint


@lru_cache(maxsize=64)
def _form(keyed: _Keyed) -> CanonicalForm:
    return CanonicalForm(keyed.contract)


def normaliser(column: Column) -> Normalise | None:
    """What brings a value of the column into canonical form; None where it always is."""
    if column.is_json:
        return plain
    if column.fields:
        return _struct(column.fields)
    if column.element is not None:
        return _list(column.element)
    if column.value is not None:
        return _map(column.value)
    return _LEAVES.get(type(column.type))


def _struct(columns: tuple[Column, ...]) -> Normalise:
    fields = {column.event_name: normaliser(column) for column in columns}

    def struct(value: Any) -> Any:
        if type(value) is not dict:
            return plain(value)
        form = {}
        for name, item in value.items():
            if item is None:
                continue
            normalise = fields.get(name, plain)
            form[name] = item if normalise is None else normalise(item)
        return form

    return struct


def _list(element: Column) -> Normalise:
    normalise = normaliser(element)

    def elements(value: Any) -> Any:
        if type(value) is not list or normalise is None:
            return plain(value)
        return [None if item is None else normalise(item) for item in value]

    return elements


def _map(column: Column) -> Normalise:
    normalise = normaliser(column)

    def entries(value: Any) -> Any:
        if type(value) is not dict:
            return plain(value)
        return {key: item if normalise is None else normalise(item) for key, item in value.items() if item is not None}

    return entries


def _text(read: Callable[[str], str]) -> Normalise:
    """A leaf written as text: its canonical text, or the value as it is when it is no such text."""

    def leaf(value: Any) -> Any:
        if type(value) is not str:
            return plain(value)
        try:
            return read(value)
        except ValueError:
            return value

    return leaf


def _instant(text: str) -> str:
    """UTC's canonical text; most texts are it already, and reading them as moments would be half the cost of a hash."""
    return text if _CANONICAL.fullmatch(text) else format_micros(parse_micros(text))


def _double(value: Any) -> Any:
    if type(value) is int:
        try:
            value = float(value)
        except OverflowError:
            return str(value)
    return number(value) if type(value) is float else plain(value)


def _decimal(value: Any) -> Any:
    if type(value) not in (int, float, str, Decimal):
        return plain(value)
    try:
        exact = Decimal(str(value))
        return f"{exact.normalize():f}" if exact and -64 < exact.adjusted() < 64 else "0" if not exact else value
    except InvalidOperation:
        return value


_LEAVES: dict[type, Normalise] = {
    IntegerType: plain,
    LongType: plain,
    FloatType: _double,
    DoubleType: _double,
    DecimalType: _decimal,
    UUIDType: _text(lambda text: str(UUID(text))),
    TimestamptzType: _text(_instant),
    TimestampType: _text(lambda text: format_micros(parse_micros(text, zoned=False), zoned=False)),
    TimeType: _text(lambda text: format_time(parse_time(text))),
    DateType: _text(str),
}
