"""Draft the contract of a derived product from its query: columns and types as DuckDB sees them over the input contracts.

The twin of `contracts.drafting`, which drafts streams; it lives here because only an engine knows what a query gives. Returns text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import yaml

from platform_resources.contracts.iceberg import EXTRA_COLUMN, STREAM_COLUMNS, table_definition
from platform_resources.contracts.model import Column
from platform_resources.contracts.registry import Registry
from platform_resources.engines.duck import create_empty_tables, offline_session
from platform_resources.engines.sql import bind, parse_query, read_duckdb_error, referenced_tables, unknown_input
from platform_resources.engines.tracing import product_of
from platform_resources.errors import PlatformError

_INTEGERS = frozenset({"bigint", "hugeint", "ubigint", "uhugeint", "uinteger"})  # the rest fits an int
_LOGICAL: Mapping[str, tuple[str, str | None]] = {
    "boolean": ("boolean", None), "tinyint": ("integer", "int"), "smallint": ("integer", "int"), "integer": ("integer", "int"),
    "utinyint": ("integer", "int"), "usmallint": ("integer", "int"), "float": ("number", "float"), "double": ("number", None),
    "date": ("date", None), "time": ("time", None), "timestamp with time zone": ("timestamp", None),
    "timestamp": ("timestamp", "timestamp"), "timestamp_s": ("timestamp", "timestamp"), "timestamp_ms": ("timestamp", "timestamp"),
    "varchar": ("string", None),
    "enum": ("string", None), "json": ("string", "json"), "uuid": ("string", "uuid"), "blob": ("string", "binary"),
    **dict.fromkeys(_INTEGERS, ("integer", None)),
}  # fmt: skip


def draft_from_query(text: str, *, domain: str, product: str, registry: Registry) -> str:
    """A draft contract, YAML text, of a product that the query computes.

    A column that carries an input's name and type keeps that input's description and unit; the others have none yet.

    Raises:
        PlatformError: `sql-...` when the text is not one query over products, or DuckDB refuses it; `sql-type-undraftable` for a column
            of a type that no table can hold (cast it).
    """
    inputs: dict[str, None] = {}
    for reference in referenced_tables(parse_query(text)):
        key = product_of(reference).replace(".", "/", 1)
        if key not in registry.contracts:
            raise unknown_input(key, registry, file="", line=int(reference.this.meta.get("line", 0)), kind="sql")
        inputs[key] = None
    if not inputs:
        raise PlatformError("sql-no-input", "The query reads no product.", "Name at least one domain.product in FROM.")
    with offline_session() as con:
        create_empty_tables(con, {registry.get(key).identifier: table_definition(registry.get(key)).schema for key in inputs})
        try:
            relation = bind(con, text)
        except duckdb.Error as error:
            message, line = read_duckdb_error(error, text)
            raise PlatformError("sql-invalid", f"The query is refused: {message}", "Correct it and draft again.", line=line) from None
        columns = [_property(name, kind) for name, kind in zip(relation.columns, relation.types, strict=True)]
    _refuse_stream_columns(relation.columns)
    known = {column.name: column for key in inputs for column in registry.get(key).columns}
    contract = {
        "apiVersion": "v3.2.0",
        "kind": "DataContract",
        "id": f"{domain}.{product}",
        "name": product.replace("_", " ").capitalize(),
        "version": "1.0.0",
        "status": "draft",
        "domain": domain,
        "description": {"purpose": f"Computed from {', '.join(key.replace('/', '.') for key in inputs)}."},
        "schema": [{"name": product, "logicalType": "object", "properties": [_described(column, known) for column in columns]}],
        "slaProperties": [{"property": "latency", "value": 15, "unit": "minutes"}],
    }
    head = f"# Drafted from {Path(product).with_suffix('.sql')}. Describe every column and set status: active when others may rely on it.\n"
    return head + yaml.dump(contract, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def _refuse_stream_columns(names: Sequence[str]) -> None:
    """A stream's own columns come along with `*`; no other product may have them."""
    own = [name for name in names if name in {field.name for field in (*STREAM_COLUMNS, EXTRA_COLUMN)}]
    if own:
        listed = ", ".join(own)
        raise PlatformError(
            "sql-stream-columns",
            f"The query gives {listed}, which the platform keeps for streams.",
            f"Name the columns, or write * exclude ({listed}).",
        )


class _Dumper(yaml.SafeDumper):
    """Block style with indented lists, as people write contracts."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, indentless=False)


def _described(column: dict[str, Any], known: Mapping[str, Column]) -> dict[str, Any]:
    """The column with what an input of the same name says of it."""
    source = known.get(column["name"])
    if source is None or source.logical_type != column["logicalType"]:
        return column
    unit = {"customProperties": [{"property": "unit", "value": source.unit}]} if source.unit else {}
    return {**column, **({"description": source.description} if source.description else {}), **unit}


def _property(name: str, kind: Any) -> dict[str, Any]:
    """An ODCS property of a DuckDB type."""
    return {"name": name, **_typed(name, kind)}


def _typed(name: str, kind: Any) -> dict[str, Any]:
    word = str(kind.id)
    if word == "struct":
        return {"logicalType": "object", "properties": [_property(child, inner) for child, inner in kind.children]}
    if word in ("list", "array"):
        return {"logicalType": "array", "items": _typed(f"{name}.element", kind.children[0][1])}
    if word == "map":
        (_, key), (_, value) = kind.children
        return {"logicalType": "map", "map": {"key": _typed(f"{name}.key", key), "value": _typed(f"{name}.value", value)}}
    if word == "decimal":
        precision, scale = (int(size) for _, size in kind.children)
        return {"logicalType": "number", "physicalType": f"decimal({precision},{scale})"}
    if word not in _LOGICAL:
        raise PlatformError(
            "sql-type-undraftable", f"The query gives the column {name} as {kind}, which no table can hold.", "Cast it in the query."
        )
    logical, physical = _LOGICAL[word]
    return {"logicalType": logical, **({"physicalType": physical} if physical else {})}
