"""Slowly changing rows: what a snapshot changes in a table whose rows hold from one moment to another.

Only the comparison is here. A row that did not change is not touched; one that differs ends and begins anew; one that is gone from a
full snapshot ends. A slice that lands again first undoes what it did.
"""

# ruff: noqa: S608 - SQL is put together here from quoted names
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import duckdb
import pyarrow as pa
from pyiceberg.table import Table

from platform_resources.config import Settings
from platform_resources.contracts.iceberg import table_schema
from platform_resources.contracts.model import Contract
from platform_resources.contracts.quality import quoted
from platform_resources.engines.duck import session
from platform_resources.lakehouse.reading import duckdb_scan_sql, duckdb_type
from platform_resources.landing.source import DeliveryRefused


@dataclass(frozen=True)
class Changes:
    """What a snapshot changes: `rows` to be merged by the keys with `_valid_from`, and keys of rows that go (those of an undone slice)."""

    rows: pa.RecordBatchReader
    gone: pa.Table


@contextmanager
def compared(
    contract: Contract, table: Table | None, incoming: pa.RecordBatchReader, at: datetime, settings: Settings, *, full: bool
) -> Iterator[Changes]:
    """The changes that a snapshot makes to the table; they are read from the session while the block runs.

    Args:
        contract: with `validity`.
        table: as it is; None before the first landing.
        incoming: the snapshot's rows, without validity.
        at: from when on they hold.
        settings: of the session, whose memory is bounded.
        full: what is not in `incoming` is gone; else only what it has has changed, and a `deleteMarker` ends a row.

    Raises:
        DeliveryRefused: `merge-duplicate-key`.
    """
    with session(settings) as con:
        con.from_arrow(incoming).create("incoming")
        _refuse_doubles(con, contract)
        _mark_gone(con, contract)
        columns = [field.name for field in incoming.schema]
        moment = f"TIMESTAMPTZ '{at.isoformat()}'"
        con.execute(f"CREATE TEMP VIEW stored AS {_stored(contract, table)}")
        con.execute(
            f"CREATE TEMP VIEW held AS SELECT * FROM stored WHERE _valid_from < {moment} AND (_valid_to IS NULL OR _valid_to = {moment})"
        )
        on = " AND ".join(f"h.{quoted(key)} = n.{quoted(key)}" for key in contract.primary_key)
        compared_columns = [*(column.name for column in contract.columns), *(["_extra"] if contract.keeps_extra else [])]
        same = " AND ".join(f"h.{quoted(name)} IS NOT DISTINCT FROM n.{quoted(name)}" for name in compared_columns)
        absent = moment if full else "h._valid_to"
        end = f"CASE WHEN n.__gone IS NULL THEN {absent} WHEN n.__gone OR NOT ({same}) THEN {moment} END"
        kept, new = (", ".join(f"{side}.{quoted(name)}" for name in columns) for side in ("h", "n"))
        con.execute(
            f"CREATE TEMP TABLE ended AS SELECT {kept}, h._valid_from, {end} AS _valid_to FROM held h LEFT JOIN marked n ON {on} "
            f"WHERE ({end}) IS DISTINCT FROM h._valid_to"
        )
        con.execute(
            f"CREATE TEMP TABLE begun AS SELECT {new}, {moment} AS _valid_from, NULL::TIMESTAMPTZ AS _valid_to FROM marked n "
            f"LEFT JOIN held h ON {on} WHERE NOT n.__gone AND (h._valid_from IS NULL OR NOT ({same}))"
        )
        keys = ", ".join(quoted(key) for key in contract.primary_key)
        undone = f"SELECT {keys}, _valid_from FROM stored ANTI JOIN begun USING ({keys}) WHERE _valid_from = {moment}"
        gone = con.sql(undone).to_arrow_table()
        yield Changes(con.sql("SELECT * FROM ended UNION ALL BY NAME SELECT * FROM begun").to_arrow_reader(), gone)


def _stored(contract: Contract, table: Table | None) -> str:
    """The table's rows with every column of the contract, those that it does not have yet null."""
    schema = table_schema(contract)
    have = {field.name for field in table.schema().fields} if table is not None else set(schema.column_names)
    columns = (
        quoted(field.name) if field.name in have else f"NULL::{duckdb_type(field.field_type)} AS {quoted(field.name)}"
        for field in schema.fields
    )
    return f"SELECT {', '.join(columns)} FROM {duckdb_scan_sql(table, schema=schema)}"


def _refuse_doubles(con: duckdb.DuckDBPyConnection, contract: Contract) -> None:
    keys = ", ".join(quoted(key) for key in contract.primary_key)
    row = con.sql(f"SELECT {keys}, count(*) FROM incoming GROUP BY ALL HAVING count(*) > 1 ORDER BY ALL LIMIT 1").fetchone()
    if row is not None:
        example = ", ".join(f"{name}={value!r}" for name, value in zip(contract.primary_key, row, strict=False))
        raise DeliveryRefused(
            "merge-duplicate-key",
            f"The snapshot has the key {example} {row[-1]} times.",
            "A snapshot has each primary key once; mend the file, or the primaryKey of the contract.",
        )


def _mark_gone(con: duckdb.DuckDBPyConnection, contract: Contract) -> None:
    """The snapshot with `__gone` true where the contract's `deleteMarker` says that the row is deleted."""
    marker = contract.delete_marker
    if marker is None:
        gone = "false"
    else:
        column = ".".join(quoted(part) for part in marker[0].split("."))
        value = None if marker[1] is None else marker[1].replace("'", "''")
        gone = f"coalesce({column}, false)" if value is None else f"coalesce({column}::VARCHAR = '{value}', false)"
    con.execute(f"CREATE TEMP VIEW marked AS SELECT *, {gone} AS __gone FROM incoming")
