"""How tables of MariaDB and MySQL are read: through PyMySQL, rows straight off the wire.

Why PyMySQL: it is MIT, alive, pure Python and speaks to both servers. mysqlclient and MariaDB's own connector are faster but must be
compiled against a C library; Oracle's is GPL; ConnectorX opens connections of its own, on which no snapshot and no time zone can be set,
and fails on dates of zeros. Values stay the text that the server sends (`mysql_rows`): PyMySQL's conversions would make None of a date of
zeros.
"""

# ruff: noqa: S608 - SQL is put together here from quoted names and literals and the contract's own query

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, unquote

import pyarrow as pa
from pyiceberg.types import BinaryType, FixedType

from platform_resources.contracts.model import Column
from platform_resources.errors import PlatformError
from platform_resources.landing.connections import split_address
from platform_resources.landing.database import SourceColumn, refusals
from platform_resources.landing.mysql_rows import batches

_SETTINGS = (
    "SET SESSION time_zone = '+00:00', sql_mode = '', net_write_timeout = 3600",  # a reader may pause to write
    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
)
_TYPES = {
    0: "decimal", 1: "tinyint", 2: "smallint", 3: "int", 4: "float", 5: "double", 7: "timestamp", 8: "bigint", 9: "mediumint", 10: "date",
    11: "time", 12: "datetime", 13: "year", 15: "varchar", 16: "bit", 245: "json", 246: "decimal", 247: "enum", 248: "set", 249: "blob",
    250: "blob", 251: "blob", 252: "blob", 253: "varchar", 254: "char", 255: "geometry",
}  # fmt: skip
_NUMBERS = {"decimal", "tinyint", "smallint", "int", "bigint", "mediumint", "year"}
_MOMENTS = {"date", "datetime", "timestamp"}
_UNORDERED = {"float", "double", "json", "geometry", "set", "enum", "bit"}
_NUMBER = re.compile(r"-?\d+(\.\d+)?", re.ASCII)
_BY_NUMBER = {
    1045: "login", 1698: "login", 1130: "login", 1129: "login", 1044: "denied", 1049: "database", 1146: "table", 1051: "table",
    1142: "denied", 1143: "denied", 1227: "denied", 1356: "denied", 1969: "timeout", 3024: "timeout", 1064: "query", 1054: "query",
    1792: "writes", 1040: "away", 1053: "away", 1927: "away", 1203: "away", 1226: "away", 1317: "away",
}  # fmt: skip


class MysqlSession:
    """A `database.Session` on MariaDB or MySQL.

    Args:
        address: `mysql://user:password@host:port/database`, with `?ssl_ca=FILE` over verified TLS.
        connection: its name in the profile, for sentences.
    """

    def __init__(self, address: str, connection: str) -> None:
        parts = split_address(address, connection)
        self._secret = unquote(parts.password or "")
        options = dict(parse_qsl(parts.query))
        self._arguments = {
            "host": parts.hostname or "localhost",
            "port": parts.port or 3306,
            "user": unquote(parts.username or ""),
            "password": self._secret,
            "database": unquote(parts.path.lstrip("/")) or None,
            **({"ssl": {"ca": options["ssl_ca"]}} if "ssl_ca" in options else {}),
        }
        place = f"{self._arguments['host']}:{self._arguments['port']}{parts.path}"
        self._refusals = refusals(connection, place, unquote(parts.username or "its user"))

    def __enter__(self) -> Self:
        import pymysql
        from pymysql.converters import conversions

        self._failures = (pymysql.err.MySQLError, OSError, struct.error)
        plain = {kind: encode for kind, encode in conversions.items() if not isinstance(kind, int)}
        try:
            self._connection = pymysql.connect(**self._arguments, charset="utf8mb4", conv=plain, connect_timeout=10)
        except (*self._failures, RuntimeError) as error:  # RuntimeError: a login that needs a package or TLS
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
        with suppress(*self._failures):
            self._connection.close()

    def quote(self, name: str) -> str:
        """An identifier."""
        doubled = name.replace("`", "``")
        return f"`{doubled}`"

    def names(self, table: str) -> list[str]:
        """The columns of a table that this account may read."""
        schema, _, name = table.rpartition(".")
        where = "DATABASE()" if not schema else self._text(schema)
        query = (
            "SELECT column_name FROM information_schema.columns"
            f" WHERE table_schema = {where} AND table_name = {self._text(name)} ORDER BY ordinal_position"
        )
        found = [row[0] for row in self._execute(query)]
        if not found:
            self._execute(f"SELECT 1 FROM {'.'.join(self.quote(part) for part in table.split('.'))} LIMIT 0")  # it says why
        return found

    def describe(self, relation: str, names: Sequence[str]) -> list[SourceColumn]:
        """Names and types of columns."""
        wanted = ", ".join(self.quote(name) for name in names) if names else "*"
        with self._connection.cursor() as cursor:
            try:
                cursor.execute(f"SELECT {wanted} FROM {relation} LIMIT 0")
            except self._failures as error:
                raise self._refused(error) from None
            kinds = [(entry[0], _TYPES.get(entry[1], "char")) for entry in cursor.description]
        return [SourceColumn(name, kind, kind not in _UNORDERED, kind in _NUMBERS) for name, kind in kinds]

    def row(self, query: str) -> tuple[str | None, ...]:
        """The only row of a query whose columns are text."""
        return tuple(self._execute(query)[0])

    def text(self, expression: str) -> str:
        """As the server writes it."""
        return f"CAST({expression} AS CHAR)"

    def expression(self, source: SourceColumn, column: Column) -> str:
        """The column, but for types whose text says less than their value."""
        name = self.quote(source.name)
        if source.type == "float":
            return f"{name} + 0e0"  # as double: a float is shown with six digits
        if source.type == "bit" and not isinstance(column.type, BinaryType | FixedType):
            return f"{name} + 0"
        return f"ST_AsText({name})" if source.type == "geometry" else name

    def literal(self, value: str, source: SourceColumn) -> str:
        """Numbers as they are: against a text the server would compare them as floats."""
        return value if source.number and _NUMBER.fullmatch(value) else self._text(value)

    def earlier(self, expression: str, overlap: timedelta | int) -> str:
        """The expression less an interval or a number; a difference of unsigned numbers must not go below zero."""
        if isinstance(overlap, timedelta):
            return f"DATE_SUB({expression}, INTERVAL {overlap // timedelta(microseconds=1)} MICROSECOND)"
        return f"(CAST({expression} AS DECIMAL(65)) - {overlap})"

    def unordered(self, expression: str, source: SourceColumn) -> str:
        """Null, or a date of zeros."""
        return f"{expression} IS NULL" + (f" OR {expression} = '0000-00-00'" if source.type in _MOMENTS else "")

    def stream(self, query: str) -> Iterator[pa.RecordBatch]:
        """Batches of some 2 MB as the server sends them, all columns as bytes."""
        try:
            self._connection.query(query, unbuffered=True)
            result = self._connection._result  # noqa: SLF001 - PyMySQL reads the head of the result, `mysql_rows` its rows
            result.unbuffered_active = False  # else a reader that goes away waits for rows that nobody asks for
            yield from batches(self._connection._rfile.read, [column.name for column in result.fields])  # noqa: SLF001
        except self._failures as error:
            raise self._refused(error) from None

    def _execute(self, statement: str) -> Any:
        with self._connection.cursor() as cursor:
            try:
                cursor.execute(statement)
                return cursor.fetchall()
            except self._failures as error:
                raise self._refused(error) from None

    def _text(self, value: str) -> str:
        from pymysql.converters import escape_string

        return f"'{escape_string(value)}'"  # by backslashes, which the session's sql_mode allows

    def _refused(self, error: BaseException, *, connecting: bool = False) -> PlatformError:
        number = error.args[0] if error.args and isinstance(error.args[0], int) else 0
        said = str(error.args[-1] if error.args else error)
        lost = connecting or 2000 <= number < 3000 or isinstance(error, OSError | struct.error) or not number
        code, message, remedy = self._refusals[_BY_NUMBER.get(number) or ("away" if lost else "failed")]
        words = (said.replace(self._secret, "***") if self._secret else said).splitlines()[0].rstrip(". ") if said else "no answer"
        return PlatformError(code, f"{message}: {words}.", remedy)
