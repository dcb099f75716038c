"""Tables of somebody else's database as deliveries: a snapshot of the whole at one point in time, or what came behind a cursor (`cursors`).

What is said here is common to all servers; how PostgreSQL and MySQL or MariaDB are spoken to is `postgresql_tables`' and `mysql_tables`'.
A session is one read-only transaction on one snapshot, so rows that change meanwhile are seen as they were when it began. Values come in
the server's own exact text wherever Arrow has no type that holds all of them, and become the contract's types as all text does
(`text_columns`): what does not fit is a refused record, never another value.
"""

# ruff: noqa: S608 - SQL is put together here from quoted names and literals and the contract's own query

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from platform_resources.config import Settings
from platform_resources.contracts.iceberg import arrow_type
from platform_resources.contracts.model import Column, Contract
from platform_resources.contracts.sources import DatabaseOptions
from platform_resources.errors import PlatformError
from platform_resources.landing.connections import address_of, connection_name
from platform_resources.landing.cursors import Increment, merges, position_of, takes_newest
from platform_resources.landing.snapshots import pending_snapshot, see_slice_is_now
from platform_resources.landing.source import Block, Delivery, DeliveryRefused, Landed
from platform_resources.landing.text_columns import TextColumns

_RELATION_NAME = re.compile(r"[^.\x00]+(\.[^.\x00]+){0,2}")


@dataclass(frozen=True, slots=True)
class SourceColumn:
    """A column as its database has it: its name there, its type in the database's words, and whether values of the type have an order
    that their text keeps exactly (`cursor`) and are numbers (`number`).
    """

    name: str
    type: str
    cursor: bool = True
    number: bool = False


class Session(Protocol):
    """One read-only transaction on one snapshot. Every method raises PlatformError where the server refuses or is away."""

    def quote(self, name: str) -> str:
        """An identifier."""
        ...

    def names(self, table: str) -> list[str]:
        """The columns of a table that this account may see, in order."""
        ...

    def describe(self, relation: str, names: Sequence[str]) -> list[SourceColumn]:
        """Columns of a table or derived table, by quoted relation; all of them without names."""
        ...

    def row(self, query: str) -> tuple[str | None, ...]:
        """The only row of a query whose columns are text."""
        ...

    def text(self, expression: str) -> str:
        """The expression whose value is that of another as text."""
        ...

    def expression(self, source: SourceColumn, column: Column) -> str:
        """What to select so that a column arrives exactly: in a type of its own, or as text."""
        ...

    def literal(self, value: str, source: SourceColumn) -> str:
        """A value of a cursor, from its text."""
        ...

    def earlier(self, expression: str, overlap: timedelta | int) -> str:
        """The expression less an overlap."""
        ...

    def unordered(self, expression: str, source: SourceColumn) -> str:
        """The condition under which a row has no place in the cursor's order: null, infinite, a date of zeros."""
        ...

    def stream(self, query: str) -> Iterator[pa.RecordBatch]:
        """The rows of a query, in bounded memory."""
        ...


class DatabaseSource:
    """A table or query of PostgreSQL, MySQL or MariaDB, as the contract's source and the profile's connection say.

    Raises:
        PlatformError: `connection-unknown`, `connection-scheme`.
    """

    def __init__(self, contract: Contract, settings: Settings) -> None:
        self._contract = contract
        self._options = _options(contract)
        self._connection = connection_name(contract)
        self._address = address_of(contract, settings)
        self._open = opener(self._address, self._connection)

    def pending(self, landed: Landed) -> Sequence[Delivery]:
        """The present slice's snapshot unless it has landed, or what lies behind the cursor.

        Raises:
            PlatformError: the database is away or refuses: `database-unreachable`, `database-login-refused`, `database-table-missing`,
                `database-permission-denied`, `database-columns-missing`, `database-timeout`, `database-cursor`, `database-failed`;
                `cursor-changed`.
        """
        if self._options.cursor is None:
            return pending_snapshot(self._contract, landed)
        after = position_of(self._contract, self._options.cursor, landed)
        with self._open() as session:
            relation, columns = self._relation(session)
            reach = self._reach(session, relation, columns, after)
        return [reach] if reach is not None else []

    def read(self, delivery: Delivery) -> Iterator[Block]:
        """The rows at one point in time, in the order the server gives them; their lines are their numbers in the delivery.

        Raises:
            DeliveryRefused: `slice-past`, `cursor-null`.
            PlatformError: as of `pending`; rows already given must not be published then.
        """
        if delivery.slice is not None:
            see_slice_is_now(self._contract, delivery)
        with self._open() as session:
            relation, columns = self._relation(session)
            wanted = ", ".join(
                f"{session.expression(source, column)} AS {session.quote(f'c{number}')}"
                for number, (column, source) in enumerate(zip(self._contract.columns, columns, strict=True))
            )
            where = self._range(session, relation, columns, delivery) if isinstance(delivery, Increment) else ""
            yield from self._blocks(session.stream(f"SELECT {wanted} FROM {relation}{where}"))

    def reached(self, delivery: Delivery) -> Landed:
        """The slice with the instant of its snapshot, or the cursor's new value."""
        return {delivery.name: delivery.version}

    # --- what is asked

    def _relation(self, session: Session) -> tuple[str, list[SourceColumn]]:
        """What to select from, and the source's columns in the order of the contract's."""
        wanted = [column.source_name for column in self._contract.columns]
        if self._options.query is not None:
            relation, where = f"({self._options.query}\n) {session.quote('q')}", "the query"
            known = [column.name for column in session.describe(relation, ())]
        else:
            table = self._options.table or ""
            if _RELATION_NAME.fullmatch(table) is None:
                raise self._error("contract-table", f"names the table {table!r}, which is no name", "Write e.g. orders or shop.orders.")
            relation, where = ".".join(session.quote(part) for part in table.split(".")), f"the table {table}"
            known = session.names(table)
        spelled = {name: name for name in known}
        spelled |= {name.lower(): name for name in known if name.lower() not in spelled}  # as people write them
        missing = [name for name in wanted if name not in spelled and name.lower() not in spelled]
        if missing:
            raise self._error(
                "database-columns-missing",
                f"declares columns that {where} of the connection {self._connection} does not have or show: {', '.join(missing)}",
                f"It has {', '.join(known) or 'none'}: name a column's own name there as physicalName, or remove it from the contract.",
            )
        return relation, session.describe(relation, [spelled.get(name) or spelled[name.lower()] for name in wanted])

    def _cursor(self, session: Session, columns: Sequence[SourceColumn]) -> tuple[str, SourceColumn]:
        index = next(i for i, column in enumerate(self._contract.columns) if column.name == self._options.cursor)
        source = columns[index]
        if not source.cursor:
            raise self._error(
                "database-cursor",
                f"has the cursor {self._options.cursor}, whose type {source.type} has no exact order",
                "Name a whole number, a decimal, a date, a timestamp or a text.",
            )
        return session.quote(source.name), source

    @property
    def _inclusive(self) -> bool:
        return takes_newest(self._contract, self._options.cursor or "", overlap=bool(self._options.overlap))

    def _reach(self, session: Session, relation: str, columns: Sequence[SourceColumn], after: str | None) -> Increment | None:
        """The increment between a position and the cursor's newest value; None where nothing is new."""
        cursor, source = self._cursor(session, columns)
        newest = f"max({cursor})"
        if not self._inclusive and self._options.overlap:
            newest = session.earlier(newest, self._options.overlap)
        moved = "1 = 1" if after is None else f"{newest} > {session.literal(after, source)}"
        ordered = f"NOT ({session.unordered(cursor, source)})"
        query = f"SELECT {session.text(newest)}, CASE WHEN {moved} THEN 'new' END FROM {relation} WHERE {ordered}"
        upto, new = session.row(query)
        if upto is None or new is None:
            return None
        return Increment(self._options.cursor or "", upto, after=after)

    def _range(self, session: Session, relation: str, columns: Sequence[SourceColumn], delivery: Increment) -> str:
        """The condition that takes the increment's rows, once no row is without a place in the order.

        Raises:
            DeliveryRefused: `cursor-null`.
        """
        cursor, source = self._cursor(session, columns)
        (lost,) = session.row(f"SELECT {session.text('count(*)')} FROM {relation} WHERE {session.unordered(cursor, source)}")
        if lost not in (None, "0"):
            raise DeliveryRefused(
                "cursor-null",
                f"{lost} rows of {self._options.table or 'the query'} have no value of the cursor {self._options.cursor} that has an order "
                "(null, infinite or a date of zeros), so no increment would ever take them.",
                "Name a cursor that is never null, or take a query that leaves those rows out.",
                file=self._contract.path,
            )
        upto = session.literal(delivery.version, source)
        conditions = [f"{cursor} {'<=' if self._inclusive else '<'} {upto}"]
        if delivery.after is not None:
            after = session.literal(delivery.after, source)
            if merges(self._contract) and self._options.overlap:
                after = session.earlier(after, self._options.overlap)
            conditions.append(f"{cursor} {'>' if self._inclusive and not merges(self._contract) else '>='} {after}")
        return f" WHERE {' AND '.join(conditions)}"

    def _blocks(self, batches: Iterator[pa.RecordBatch]) -> Iterator[Block]:
        texts, first = TextColumns(self._contract), 1
        for batch in batches:
            columns = {
                column.name: _given(batch.column(number), arrow_type(column.type)) for number, column in enumerate(self._contract.columns)
            }
            lines = pa.array(range(first, first + batch.num_rows), pa.int64())
            first += batch.num_rows
            yield texts.typed(columns, lines, lambda index, batch=batch: self._raw(batch, index))  # type: ignore[misc]

    def _raw(self, batch: pa.RecordBatch, index: int) -> bytes:
        """A row as JSON, by the database's own names."""
        values = batch.slice(index, 1).to_pylist()[0]
        named = {column.source_name: values[f"c{number}"] for number, column in enumerate(self._contract.columns)}
        return orjson.dumps(named, default=_jsonable)

    def _error(self, code: str, what: str, remedy: str) -> PlatformError:
        source = self._contract.source
        return PlatformError(
            code, f"The contract {self._contract.key} {what}.", remedy, file=self._contract.path, line=source.line if source else 0
        )


def _options(contract: Contract) -> DatabaseOptions:
    if contract.source is None or not isinstance(contract.source.options, DatabaseOptions):
        raise TypeError(f"{contract.key} does not come from a database")  # the platform's fault: `opening` looks first
    return contract.source.options


def opener(address: str, connection: str) -> Callable[[], AbstractContextManager[Session]]:
    """What opens a session there."""
    scheme = address.partition("://")[0].lower()
    if scheme in ("postgresql", "postgres"):
        from platform_resources.landing.postgresql_tables import PostgresqlSession

        return lambda: PostgresqlSession(address, connection)
    if scheme in ("mysql", "mariadb"):
        from platform_resources.landing.mysql_tables import MysqlSession

        return lambda: MysqlSession(address, connection)
    raise PlatformError(
        "connection-scheme",
        f"The connection {connection} does not begin with postgresql:// or mysql://, so no database can be read by it.",
        "Mend its address in SDP_CONNECTIONS.",
    )


def _given(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """The array in the contract's own type where every value keeps its meaning; else as text or bytes, to be read value by value."""
    if isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    if pa.types.is_null(array.type):
        return array.cast(pa.string())
    if _is_number(array.type) and _is_number(kind):
        try:
            array = array.cast(kind)
        except pa.ArrowInvalid:
            return array.cast(pa.string())
        finite = not pa.types.is_floating(kind) or pc.all(pc.is_finite(array), min_count=0).as_py()
        return array if finite else array.cast(pa.string())
    return array


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _jsonable(value: Any) -> Any:
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()


def refusals(connection: str, place: str, account: str) -> Mapping[str, tuple[str, str, str]]:
    """The sentences for what a database refuses, by what was refused: (code, message, remedy). No secret is known here."""
    where = f"The database of the connection {connection} ({place})"
    return {
        "away": ("database-unreachable", f"{where} is not reached", "See that it runs and can be reached from here, then run again."),
        "login": ("database-login-refused", f"{where} refuses the login of {account}", "Mend user and password in SDP_CONNECTIONS."),
        "database": ("database-missing", f"{where} does not exist", "Mend the database's name in SDP_CONNECTIONS."),
        "table": ("database-table-missing", f"{where} has no such table", "Mend table or query in the contract's server."),
        "denied": (
            "database-permission-denied",
            f"{where} does not let {account} read",
            "Let its administrator grant SELECT on the table, or on the columns that the contract names.",
        ),
        "timeout": (
            "database-timeout",
            f"{where} stopped the statement at its own time limit",
            f"Raise the statement timeout of {account}, index the cursor, or take a replica.",
        ),
        "query": ("database-query", f"{where} does not understand the query", "Mend the query in the contract's server."),
        "writes": ("database-writes", f"{where} was asked to write, but is only read", "Take a query that changes nothing."),
        "failed": ("database-failed", f"{where} failed", "Its administrator may know more."),
    }
