"""Which Iceberg type a pair of ODCS `logicalType` and `physicalType` stands for. Names of types only; nesting is built in `columns`."""

from __future__ import annotations

import re
from collections.abc import Mapping

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
    PrimitiveType,
    StringType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

JSON = "json"

_NAMED: Mapping[str, PrimitiveType] = {
    "boolean": BooleanType(), "int": IntegerType(), "long": LongType(), "float": FloatType(), "double": DoubleType(), "date": DateType(),
    "time": TimeType(), "timestamp": TimestampType(), "timestamptz": TimestamptzType(), "string": StringType(), "uuid": UUIDType(),
    "binary": BinaryType(),
}  # fmt: skip
_PARAMETRIC = re.compile(r"(decimal|fixed)\s*[(\[]\s*(\d+)\s*(?:,\s*(\d+)\s*)?[)\]]")

DEFAULTS: Mapping[str, PrimitiveType] = {
    "boolean": BooleanType(), "integer": LongType(), "number": DoubleType(), "string": StringType(), "date": DateType(), "time": TimeType(),
    "timestamp": TimestamptzType(),
}  # fmt: skip

PHYSICAL: Mapping[str, tuple[str, ...]] = {
    "boolean": ("boolean",),
    "integer": ("int", "long", "decimal(P,0)"),
    "number": ("float", "double", "decimal(P,S)"),
    "string": ("string", "uuid", "fixed[N]", "binary", JSON),
    "date": ("date",),
    "time": ("time",),
    "timestamp": ("timestamptz", "timestamp"),
    "object": ("struct", JSON),
    "array": ("list", JSON),
    "map": ("map", JSON),
}


def primitive(physical: str) -> PrimitiveType | None:
    """The Iceberg primitive of a physical type's text, None when there is none.

    Raises:
        ValueError: a decimal or fixed whose numbers are out of range, with the reason.
    """
    text = physical.strip().lower()
    if text in _NAMED:
        return _NAMED[text]
    match = _PARAMETRIC.fullmatch(text)
    if match is None or (match[1] == "fixed" and match[3] is not None):
        return None
    size = int(match[2])
    if match[1] == "fixed":
        if size < 1:
            raise ValueError("needs at least one byte")
        return FixedType(size)
    scale = int(match[3] or 0)
    if not 1 <= size <= 38 or scale > size:
        raise ValueError("needs a precision of 1 to 38 and a scale up to it")
    return DecimalType(size, scale)


def allows(logical: str, kind: PrimitiveType) -> bool:
    """Whether a logical type may be stored as a primitive."""
    if isinstance(kind, DecimalType):
        return logical == "number" or (logical == "integer" and kind.scale == 0)
    base = re.sub(r"[\[(].*", "", str(kind))
    return any(base == re.sub(r"[\[(].*", "", name) for name in PHYSICAL.get(logical, ()))
