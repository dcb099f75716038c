"""A draft contract from what a server shows: the columns of a table of PostgreSQL, MariaDB or MySQL, or the first answer of a JSON API.

A database declares its columns, so types, keys and what is never null come from there. An API declares nothing: its draft is as a
sample's, and its paging is what the answer itself tells.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from platform_resources.config import Settings
from platform_resources.contracts.drafting import column_names, columns_of_records, draft_landed
from platform_resources.errors import PlatformError
from platform_resources.landing.json_lists import list_in
from platform_resources.landing.sampling import of_sql_column

if TYPE_CHECKING:
    from platform_resources.landing.database import Session

_LOOK = timedelta(seconds=10)  # a person waits
_SERVER = re.compile(r"(?P<connection>[A-Za-z][\w-]*):(?P<place>.+)")

# What a column of a table is called there (PostgreSQL's format_type, MariaDB's column_type), and what a contract says for it. What is not
# here is text: enums, intervals, addresses, `time` of MySQL, which goes beyond a day, numerics without digits.
_TYPES: tuple[tuple[str, dict[str, str]], ...] = (
    (r"bigint(\(\d+\))? unsigned.*", {"logicalType": "integer", "physicalType": "decimal(20,0)"}),
    (r"tinyint\(1\)|bit\(1\)|boolean", {"logicalType": "boolean"}),
    (r"((tiny|small|medium|big)?int|integer|year|bit|oid)\b.*", {"logicalType": "integer"}),
    (r"(?:numeric|decimal)\((\d+),(\d+)\).*", {"logicalType": "number", "physicalType": r"decimal(\1,\2)"}),
    (r"real|(double|float)\b.*", {"logicalType": "number"}),
    (r"date", {"logicalType": "date"}),
    (r"time(\(\d\))? without time zone", {"logicalType": "time"}),
    (r"timestamp(\(\d\))?( with time zone)?", {"logicalType": "timestamp"}),
    (r"timestamp(\(\d\))? without time zone|datetime.*", {"logicalType": "timestamp", "physicalType": "timestamp"}),
    (r"bytea|(var)?binary.*|(tiny|medium|long)?blob", {"logicalType": "string", "physicalType": "binary"}),
    (r"jsonb?", {"logicalType": "object", "physicalType": "json"}),
    (r".*\[\]", {"logicalType": "array", "physicalType": "json"}),
)
_LARGEST_DECIMAL = 38
_SAMPLED, _MOMENT = 1000, "%Y%m%d%H%M%S"
_ADVICE = "It lands whole once a day: with a cursor in place of cadence and start only what is new comes (docs/how-to/land-tables.md)."

_POSTGRESQL = """
SELECT a.attname::text,
    pg_catalog.format_type(coalesce(nullif(t.typbasetype, 0), a.atttypid), coalesce(nullif(t.typtypmod, -1), a.atttypmod)),
    a.attnotnull::text, array_position(string_to_array(i.indkey::text, ' ')::int2[], a.attnum)::text,
    pg_catalog.col_description(a.attrelid, a.attnum)
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_catalog.pg_index i ON i.indrelid = a.attrelid AND i.indisprimary
WHERE a.attrelid = pg_catalog.to_regclass({relation}) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_MYSQL = """
SELECT c.column_name, c.column_type, IF(c.is_nullable = 'NO', 'true', 'false'), k.ordinal_position, c.column_comment
FROM information_schema.columns c LEFT JOIN information_schema.key_column_usage k ON k.constraint_name = 'PRIMARY'
    AND k.table_schema = c.table_schema AND k.table_name = c.table_name AND k.column_name = c.column_name
WHERE c.table_schema = {schema} AND c.table_name = {name} ORDER BY c.ordinal_position
"""


def server_sample(text: str) -> tuple[str, str] | None:
    """Connection and place of a sample that a server is to give, `shop:public.orders` or `grants:/api/v2/grants`; None of a file's name."""
    match = _SERVER.fullmatch(text)
    return (match["connection"], match["place"]) if match else None


def draft_from_server(connection: str, place: str, *, domain: str, product: str, settings: Settings) -> str:
    """The draft, YAML text.

    Args:
        connection: a name of the profile.
        place: a table, or the path of an API, with its query if need be.
        domain: whose draft it is.
        product: its name.
        settings: the profile.

    Raises:
        PlatformError: `connection-unknown`, `connection-scheme`, `sample-empty`; or what reading such a server is refused with.
    """
    address = settings.connection(connection)
    if address is None:
        known = ", ".join(sorted(settings.connections)) or "none"
        raise PlatformError(
            "connection-unknown",
            f"The profile has no connection {connection}; it has {known}.",
            f'Set SDP_CONNECTIONS, a JSON object with an entry "{connection}" (e.g. postgresql://user:password@host/database).',
        )
    scheme = address.partition("://")[0].lower()
    if scheme in ("http", "https"):
        source, columns, advice = _of_api(address, connection, place)
    elif scheme in ("postgresql", "postgres", "mysql", "mariadb"):
        source, columns, advice = _of_table(address, connection, place)
    else:
        raise PlatformError(
            "connection-scheme",
            f"The connection {connection} is neither a database nor an API, so nothing can be drafted from {place} there.",
            "Give a file as the sample.",
        )
    origin = f"{place} of the connection {connection}"
    return draft_landed(columns, domain=domain, product=product, source=source, origin=origin, advice=advice)


def _snapshots() -> dict[str, Any]:
    """Whole, once a day, from today on: what every server can give. A cursor is for people to choose."""
    return {"cadence": "daily", "start": f"{datetime.now(UTC):%Y-%m-%d}"}


def _of_table(address: str, connection: str, table: str) -> tuple[dict[str, Any], list[dict[str, Any]], str]:
    from platform_resources.landing.database import opener

    with opener(address, connection)() as session:
        session.names(table)  # it says why where there is none
        schema, _, name = table.rpartition(".")
        if address.lower().startswith("postgres"):
            relation = ".".join(session.quote(part) for part in table.split("."))
            query = _POSTGRESQL.format(relation=_literal(relation))
        else:
            query = _MYSQL.format(schema=_literal(schema) if schema else "DATABASE()", name=_literal(name))
        rows = [[_text(value) for value in row.values()] for batch in session.stream(query) for row in batch.to_pylist()]
        binary = [str(row[0]) for row in rows if re.match(r"(var)?binary", str(row[1]))]
        texts = _texts(session, table, binary) if binary else {}
    names = column_names(str(row[0]) for row in rows)
    columns = []
    for own, kind, filled, place, comment in rows:
        column: dict[str, Any] = {
            "name": names[str(own)],
            **(texts.get(str(own)) or _of_type(str(kind))),
            "required": True if filled == "true" else None,
        }
        column |= {"primaryKey": True, "primaryKeyPosition": int(place)} if place else {}
        column |= {"physicalName": own if names[str(own)] != own else None, "description": comment or None}
        columns.append({key: value for key, value in column.items() if value is not None})
    return {"source": "database", "connection": connection, "table": table, **_snapshots()}, columns, _ADVICE


def _texts(session: Session, table: str, names: list[str]) -> dict[str, dict[str, Any]]:
    """What binary columns most plainly are, by their first values: MediaWiki keeps texts in them, and moments as 14 digits."""
    columns, relation = ", ".join(map(session.quote, names)), ".".join(map(session.quote, table.split(".")))
    batches = list(session.stream(f"SELECT {columns} FROM {relation} LIMIT {_SAMPLED}"))  # noqa: S608 - quoted names
    found: dict[str, dict[str, Any]] = {}
    for name, values in zip(names, pa.Table.from_batches(batches).columns if batches else (), strict=False):
        seen = [value for value in values.to_pylist() if value is not None]
        if seen:
            said = of_sql_column("varbinary", seen, is_text=False)
            found[name] = {**said, "logicalTypeOptions": {"format": _MOMENT}} if said["logicalType"] == "timestamp" else said
    return found


def _of_type(kind: str) -> dict[str, str]:
    for pattern, said in _TYPES:
        match = re.fullmatch(pattern, kind)
        if match is None:
            continue
        made = {name: match.expand(value) for name, value in said.items()}
        digits = re.fullmatch(r"decimal\((\d+),\d+\)", made.get("physicalType", ""))
        if digits is None or int(digits[1]) <= _LARGEST_DECIMAL:
            return made
    return {"logicalType": "string"}


def _literal(text: str) -> str:
    """A text in SQL. A backslash is no part of a name that people give a table; MariaDB would take it for an escape."""
    doubled = text.replace("\\", "").replace("'", "''")
    return f"'{doubled}'"


def _text(value: Any) -> str | None:
    return value.decode() if isinstance(value, bytes) else None if value is None else str(value)


def _of_api(address: str, connection: str, path: str) -> tuple[dict[str, Any], list[dict[str, Any]], str]:
    from platform_resources.landing.http_pages import Client

    client = Client(address, connection, _LOOK)
    answer = client.get(client.url(path), {}, client.retries())
    assert answer is not None  # noqa: S101 - None comes only where it is asked for
    at, records = list_in(answer.value, f"The answer of {answer.place}")
    source: dict[str, Any] = {"source": "http", "connection": connection, "path": path}
    source |= {"records": at} if at else {}
    source |= {"paging": {"style": "link"}} if answer.following else {}
    advice = "" if answer.following else "Name its paging, if it has any: without it only the first answer lands."
    return source | _snapshots(), columns_of_records(records), advice
