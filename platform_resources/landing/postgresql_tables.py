"""How tables of PostgreSQL are read: through ADBC, Apache Arrow's own database connectivity.

Why ADBC: its driver (Apache-2.0, released with Arrow, libpq inside the wheel) puts `COPY ... (FORMAT binary)` into Arrow batches as they
arrive, so that no Python object is made per value and no result is held whole. ConnectorX opens connections of its own, on which no
snapshot can be shared, and turns numerics into floats; psycopg makes objects. Values that Arrow cannot hold (infinite timestamps, years
before 1, numerics of any precision) would fail or wrap around in the driver: those types are selected as PostgreSQL's own text.
"""

# ruff: noqa: S608 - SQL is put together here from quoted names and literals and the contract's own query

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

import pyarrow as pa
from pyiceberg.types import DecimalType, IntegerType, ListType, LongType, MapType, StructType, TimestampType, TimestamptzType

from platform_resources.contracts.model import Column
from platform_resources.errors import PlatformError
from platform_resources.landing.connections import split_address
from platform_resources.landing.database import SourceColumn, refusals

_AS_THEY_ARE = {"int2", "int4", "int8", "bool", "float4", "float8", "text", "varchar", "bpchar", "name", "numeric", "bytea"}
_NUMBERS = {"int2", "int4", "int8", "numeric", "oid"}
_MOMENTS = {"date", "timestamp", "timestamptz"}
_CURSORS = {*_NUMBERS, *_MOMENTS, "text", "varchar", "bpchar", "uuid", "time"}
_SETTINGS = (
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    "SET LOCAL TIME ZONE 'UTC'",  # local to the transaction: a pool may hand the connection on
    "SET LOCAL DateStyle = 'ISO, YMD'",
    "SET LOCAL IntervalStyle = 'iso_8601'",
    "SET LOCAL extra_float_digits = 1",
    "SET LOCAL bytea_output = 'hex'",
)
_BY_STATE = {"42P01": "table", "3F000": "table", "42501": "denied", "57014": "timeout", "25006": "writes", "3D000": "database"}
_LOST = ("terminating connection", "server closed the connection", "connection to server", "SSL connection", "no connection to the server")
_STATE = re.compile(r"SQLSTATE: (\w{5})")


class PostgresqlSession:
    """A `database.Session` on PostgreSQL.

    Args:
        address: libpq's URI, a secret in it.
        connection: its name in the profile, for sentences.
    """

    def __init__(self, address: str, connection: str) -> None:
        parts = split_address(address, connection)
        self._address, self._secret = address, unquote(parts.password or "")
        place = f"{parts.hostname or 'localhost'}:{parts.port or 5432}{parts.path}"
        self._refusals = refusals(connection, place, unquote(parts.username or "its user"))

    def __enter__(self) -> Self:
        from adbc_driver_postgresql import dbapi

        extra = "connect_timeout=10&application_name=sdp"
        self._failures = (dbapi.Error, pa.ArrowException, OSError)
        try:
            self._connection = dbapi.connect(f"{self._address}{'&' if '?' in self._address else '?'}{extra}")
        except self._failures as error:
            raise self._refused(error, connecting=True) from None
        try:
            for setting in _SETTINGS:
                self._execute(setting)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()

    def _close(self) -> None:
        with suppress(*self._failures, RuntimeError):
            self._connection.rollback()
        with suppress(*self._failures, RuntimeError):
            self._connection.close()

    def quote(self, name: str) -> str:
        """An identifier."""
        doubled = name.replace('"', '""')
        return f'"{doubled}"'

    def names(self, table: str) -> list[str]:
        """The columns of a table, whoever may read them."""
        relation = _text(".".join(self.quote(part) for part in table.split(".")))
        query = (
            f"SELECT attname::text FROM pg_catalog.pg_attribute WHERE attrelid = pg_catalog.to_regclass({relation})"
            " AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
        )
        found = [row[0] for row in self._execute(query) or ()]
        if not found:
            self._execute(f"SELECT 1 FROM {'.'.join(self.quote(part) for part in table.split('.'))} LIMIT 0")  # it says why
        return found

    def describe(self, relation: str, names: Sequence[str]) -> list[SourceColumn]:
        """Names and types of columns, domains as their base type."""
        wanted = ", ".join(self.quote(name) for name in names) if names else "*"
        with self._connection.cursor() as cursor:
            try:
                schema = cursor.adbc_execute_schema(f"SELECT {wanted} FROM {relation}")
            except self._failures as error:
                raise self._refused(error) from None
        found = []
        for field in schema:
            kind = (field.metadata or {}).get(b"POSTGRESQL:type", b"text").decode().strip("'")
            found.append(SourceColumn(field.name, kind, kind in _CURSORS, kind in _NUMBERS))
        return found

    def row(self, query: str) -> tuple[str | None, ...]:
        """The only row of a query whose columns are text."""
        return tuple((self._execute(query) or [()])[0])

    def text(self, expression: str) -> str:
        """As PostgreSQL writes it."""
        return f"({expression})::text"

    def expression(self, source: SourceColumn, column: Column) -> str:
        """A type that Arrow holds whole as it is, moments as text in UTC, arrays and composites as JSON, the rest as text."""
        name, kind = self.quote(source.name), column.type
        if source.type in _AS_THEY_ARE:
            return name
        if source.type == "timestamptz" and isinstance(kind, TimestampType | TimestamptzType):
            return f"({name} AT TIME ZONE 'UTC')::text"
        if source.type == "bit" and isinstance(kind, IntegerType | LongType):
            return f"{name}::int8"
        if source.type == "money" and isinstance(kind, DecimalType):
            return f"{name}::numeric"
        if column.is_json or isinstance(kind, ListType | MapType | StructType):
            return f"pg_catalog.to_json({name})::text"
        return f"{name}::text"

    def literal(self, value: str, source: SourceColumn) -> str:
        """The text cast to the column's type."""
        return f"{_text(value)}::{source.type}"

    def earlier(self, expression: str, overlap: timedelta | int) -> str:
        """The expression less an interval or a number."""
        if isinstance(overlap, timedelta):
            return f"({expression} - INTERVAL '{overlap // timedelta(microseconds=1)} microseconds')"
        return f"({expression} - {overlap})"

    def unordered(self, expression: str, source: SourceColumn) -> str:
        """Null, an infinite moment, a numeric that is no number."""
        if source.type in _MOMENTS:
            return f"{expression} IS NULL OR NOT isfinite({expression})"
        if source.type == "numeric":
            return f"{expression} IS NULL OR {expression}::text IN ('NaN', 'Infinity', '-Infinity')"
        return f"{expression} IS NULL"

    def stream(self, query: str) -> Iterator[pa.RecordBatch]:
        """Batches of some 16 MB as the server sends them."""
        with self._connection.cursor() as cursor:
            try:
                cursor.execute(query)
                with cursor.fetch_record_batch() as reader:
                    yield from reader
            except self._failures as error:
                raise self._refused(error) from None

    def _execute(self, statement: str) -> list[tuple[Any, ...]] | None:
        with self._connection.cursor() as cursor:
            try:
                cursor.execute(statement)
                return list(cursor.fetchall()) if cursor.description else None
            except self._failures as error:
                raise self._refused(error) from None

    def _refused(self, error: BaseException, *, connecting: bool = False) -> PlatformError:
        said = str(error)
        state = getattr(error, "sqlstate", None) or (found[1] if (found := _STATE.search(said)) else None)
        if state is None:
            what = _without_state(said, connecting=connecting)
        else:
            what = _BY_STATE.get(state) or {"42": "query", "08": "away", "57": "away", "53": "away", "28": "login"}.get(state[:2], "failed")
        code, message, remedy = self._refusals[what]
        return PlatformError(code, f"{message}: {_words(said, self._secret)}.", remedy)


def _without_state(said: str, *, connecting: bool) -> str:
    """What was refused, by libpq's words: before a session stands, and while rows come, there is no SQLSTATE."""
    if "authentication" in said or "pg_hba.conf" in said or re.search(r'role ".*" (does not exist|is not permitted)', said):
        return "login"
    if re.search(r'database ".*" does not exist', said):
        return "database"
    if "canceling statement due to statement timeout" in said:
        return "timeout"
    if "in a read-only transaction" in said:
        return "writes"
    lost = (
        "terminating connection",
        "server closed the connection",
        "connection to server",
        "SSL connection has been closed",
        "no connection to the server",
    )
    return "away" if connecting or any(words in said for words in lost) else "failed"


def _words(said: str, secret: str) -> str:
    """The server's own words in one line, without what surrounds them and without the secret."""
    line = re.sub(r"^.*?(?:ERROR|FATAL):\s*", "", said, count=1, flags=re.DOTALL).strip().splitlines()[0]
    line = re.sub(r"^[A-Z_]+: (\[libpq\] )?", "", line)
    return (line.replace(secret, "***") if secret else line).rstrip(". ")


def _text(value: str) -> str:
    doubled = value.replace("'", "''")
    return f"'{doubled}'" if "\\" not in doubled else "E'" + doubled.replace("\\", "\\\\") + "'"
