"""What a contract says of single values (enum, `logicalTypeOptions`) as SQL over rows: for data that no JSON Schema has seen before.

Text only, nothing is run. The words are those of JSON Schema, as `json_schema` puts them into the gate's schema for events; bounds of dates
and times hold here as well. A null breaks none of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from pyiceberg.types import DateType, DecimalType, DoubleType, FloatType, IntegerType, LongType, StringType, TimestampType, TimestamptzType

from platform_resources.contracts.model import Column, Contract
from platform_resources.contracts.quality import among_sql, literal, quoted

_NUMBERS = (IntegerType, LongType, FloatType, DoubleType, DecimalType)
_ORDERED = (*_NUMBERS, DateType, TimestampType, TimestamptzType)
_BOUNDS: Mapping[str, tuple[str, str]] = {
    "minimum": ("<", "less than"),
    "maximum": (">", "more than"),
    "exclusiveMinimum": ("<=", "not more than"),
    "exclusiveMaximum": (">=", "not less than"),
}
_COUNTS: Mapping[str, tuple[str, str]] = {"min": ("<", "fewer than"), "max": (">", "more than")}


@dataclass(frozen=True)
class Constraint:
    """One thing that a value must keep: the dotted column, SQL that is true for a row that breaks it (never NULL), and how it breaks it."""

    path: str
    breach: str
    says: str


def constraints(contract: Contract) -> tuple[Constraint, ...]:
    """Every constraint of a contract's columns, nested ones too."""
    return tuple(one for column in contract.columns for one in _of(column, quoted(column.name), column.name, 0))


def _of(column: Column, value: str, path: str, depth: int) -> Iterator[Constraint]:
    if column.is_json:
        return
    for sql, says in _own(column, value):
        yield Constraint(path, f"coalesce({sql}, FALSE)", says)
    for field in column.fields:
        yield from _of(field, f"{value}.{quoted(field.name)}", f"{path}.{field.name}", depth)
    for part, values in ((column.element, value), (column.key, f"map_keys({value})"), (column.value, f"map_values({value})")):
        if part is not None:
            item = f"x{depth}"
            for one in _of(part, item, f"{path}.{part.name}", depth + 1):
                broken = f"list_aggregate(list_transform({values}, lambda {item}: {one.breach}), 'bool_or')"
                yield Constraint(one.path, f"coalesce({broken}, FALSE)", one.says)


def _own(column: Column, value: str) -> Iterator[tuple[str, str]]:
    options, kind = column.options, column.type
    if words := [word for word in column.enum if word is not None]:
        yield f"NOT ({among_sql(value, words)})", f"is none of {_listed(words)}"
    if isinstance(kind, _ORDERED):
        for word, (sign, says) in _BOUNDS.items():
            bound = options.get(word)
            if isinstance(bound, bool):  # as in older standards: it makes the other bound strict
                bound = options.get({"exclusiveMinimum": "minimum", "exclusiveMaximum": "maximum"}[word]) if bound else None
            if bound is not None:
                yield f"{value} {sign} {literal(bound)}", f"is {says} {_shown(bound)}"
        if isinstance(kind, _NUMBERS) and "multipleOf" in options:  # as decimals, in which 0.3 is a multiple of 0.1
            exact = [f"TRY_CAST({one} AS DECIMAL(38, 12))" for one in (value, literal(options["multipleOf"]))]
            yield f"{' % '.join(exact)} != 0", f"is no multiple of {_shown(options['multipleOf'])}"
    if isinstance(kind, StringType):
        yield from _counted(options, "Length", f"length({value})", "characters")
        if "pattern" in options:
            yield f"NOT regexp_matches({value}, {literal(str(options['pattern']))})", f"does not match {options['pattern']}"
    if column.element is not None:
        yield from _counted(options, "Items", f"len({value})", "items")
        if options.get("uniqueItems") is True:
            yield f"list_count({value}) != list_unique({value})", "has an item twice"
    if column.key is not None:
        yield from _counted(options, "Properties", f"cardinality({value})", "entries")


def _counted(options: Mapping[str, Any], what: str, count: str, unit: str) -> Iterator[tuple[str, str]]:
    for end, (sign, says) in _COUNTS.items():
        if f"{end}{what}" in options:
            yield f"{count} {sign} {literal(options[f'{end}{what}'])}", f"has {says} {options[f'{end}{what}']} {unit}"


def _listed(words: list[Any]) -> str:
    shown = ", ".join(_shown(word) for word in words[:5])
    return shown if len(words) <= 5 else f"{shown} and {len(words) - 5} more"


def _shown(value: Any) -> str:
    return value.isoformat() if isinstance(value, date | datetime) else str(value)
