"""Which DuckDB type may be stored in which Iceberg column without losing anything."""

from __future__ import annotations

from typing import Any

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

from platform_resources.lakehouse.reading import duckdb_type as duck_type
from platform_resources.lakehouse.reading import quoted as quote

__all__ = ["duck_type", "mismatch", "quote"]

_INTEGER_DIGITS = {
    "tinyint": 3, "utinyint": 3, "smallint": 5, "usmallint": 5, "integer": 10, "uinteger": 10, "bigint": 19, "ubigint": 20, "hugeint": 39,
}  # fmt: skip

# What a column of the Iceberg type accepts. HUGEINT into long is the one narrowing allowed: sum(BIGINT) is HUGEINT in DuckDB, every
# aggregate would need a cast otherwise, and a value that does not fit stops the write instead of being cut.
_ACCEPTED: dict[type[IcebergType], frozenset[str]] = {
    BooleanType: frozenset({"boolean"}),
    IntegerType: frozenset({"integer", "smallint", "tinyint", "usmallint", "utinyint"}),
    LongType: frozenset({"bigint", "integer", "smallint", "tinyint", "uinteger", "usmallint", "utinyint", "hugeint", "ubigint"}),
    FloatType: frozenset({"float", "smallint", "tinyint", "usmallint", "utinyint"}),
    DoubleType: frozenset({"double", "float", "integer", "smallint", "tinyint", "uinteger", "usmallint", "utinyint"}),
    DateType: frozenset({"date"}),
    TimeType: frozenset({"time"}),
    TimestampType: frozenset({"timestamp", "timestamp_s", "timestamp_ms", "date"}),
    TimestamptzType: frozenset({"timestamp with time zone"}),
    StringType: frozenset({"varchar", "enum", "json", "uuid"}),
    UUIDType: frozenset({"uuid"}),
    BinaryType: frozenset({"blob"}),
    FixedType: frozenset({"blob"}),
}


def mismatch(found: Any, wanted: IcebergType, path: str) -> str | None:  # noqa: PLR0911 - one return per kind of type
    """Why a DuckDB type (`duckdb.typing.DuckDBPyType`) may not be stored as `wanted`; None when it may, without loss.

    The sentence part names the innermost field at fault: `page.page_id is VARCHAR, the contract says long`.
    """
    kind = str(found.id)
    if kind in ('"null"', "null", "sqlnull"):
        return None
    if isinstance(wanted, StructType):
        return _struct_mismatch(found, wanted, path)
    if isinstance(wanted, ListType):
        if kind not in ("list", "array"):
            return _said(found, wanted, path)
        return mismatch(found.children[0][1], wanted.element_type, f"{path}.element")
    if isinstance(wanted, MapType):
        if kind != "map":
            return _said(found, wanted, path)
        parts = dict(found.children)
        return mismatch(parts["key"], wanted.key_type, f"{path}.key") or mismatch(parts["value"], wanted.value_type, f"{path}.value")
    if isinstance(wanted, DecimalType):
        return None if _fits_decimal(found, kind, wanted) else _said(found, wanted, path)
    name = str(found).lower() if kind.startswith("timestamp") else kind
    return None if name in _ACCEPTED[type(wanted)] else _said(found, wanted, path)


def _fits_decimal(found: Any, kind: str, wanted: DecimalType) -> bool:
    """Same scale always fits: sum(DECIMAL(18,2)) is DECIMAL(38,2), and an overflow stops the write."""
    if kind == "decimal":
        parts = dict(found.children)
        precision, scale = int(parts["precision"]), int(parts["scale"])
        return scale == wanted.scale or (scale < wanted.scale and precision - scale <= wanted.precision - wanted.scale)
    return _INTEGER_DIGITS.get(kind, 99) <= wanted.precision - wanted.scale


def _struct_mismatch(found: Any, wanted: StructType, path: str) -> str | None:
    if str(found.id) != "struct":
        return _said(found, wanted, path)
    have = {name.lower(): kind for name, kind in found.children}
    for field in wanted.fields:
        inner = have.pop(field.name.lower(), None)
        if inner is None:
            if field.required:
                return f"{path} has no field {field.name}, which the contract requires"
            continue
        fault = mismatch(inner, field.field_type, f"{path}.{field.name}")
        if fault:
            return fault
    if have:
        return f"{path} has a field {next(iter(have))} that the contract does not have"
    return None


def _said(found: Any, wanted: IcebergType, path: str) -> str:
    return f"{path} is {found}, the contract says {'struct' if isinstance(wanted, StructType) else wanted}"
