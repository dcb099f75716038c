"""Tables of real servers: read at one point in time or behind a cursor, exactly, and every refusal one sentence without the password."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import psycopg2
import pymysql
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from platform_resources.config import SOURCE_ROOT, Settings
from platform_resources.contracts.model import Contract
from platform_resources.errors import PlatformError
from platform_resources.landing import snapshots
from platform_resources.landing.database import DatabaseSource
from platform_resources.landing.source import Block, Delivery, DeliveryRefused
from tests.landing.server_contracts import server_contract

ID = "name: id, logicalType: integer, primaryKey: true, required: true"
NAME = "name: name, logicalType: string"
AT = "name: changed_at, logicalType: timestamp"
DAILY = {"cadence": "daily", "start": "2026-01-01"}


@dataclass
class Server:
    """A real server as its owner has it: who fills the tables that the platform reads."""

    kind: str
    settings: Settings
    host: str
    port: int
    password: str
    table: str

    def connect(self) -> Any:
        if self.kind == "postgresql":
            return psycopg2.connect(host=self.host, port=self.port, user="sdp", password=self.password, dbname="sdp")
        return pymysql.connect(host=self.host, port=self.port, user="sdp", password=self.password, database="sdp", charset="utf8mb4")

    def run(self, *statements: str) -> None:
        connection = self.connect()
        try:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement.replace("TABLE_NAME", self.table))
            connection.commit()
        finally:
            connection.close()

    def fill(self, rows: list[tuple[Any, ...]]) -> None:
        connection = self.connect()
        with connection.cursor() as cursor:
            for start in range(0, len(rows), 1000):
                some = rows[start : start + 1000]
                one = f"({', '.join(['%s'] * len(some[0]))})"
                cursor.execute(f"INSERT INTO {self.table} VALUES {', '.join([one] * len(some))}", [value for row in some for value in row])
        connection.commit()
        connection.close()

    def uri(self, user: str = "sdp", password: str | None = None, database: str = "sdp", port: int | None = None) -> str:
        scheme = "postgresql" if self.kind == "postgresql" else "mysql"
        secret = quote(self.password if password is None else password)
        return f"{scheme}://{user}:{secret}@{self.host}:{port or self.port}/{database}"

    def source(self, *properties: str, uri: str | None = None, product: dict[str, Any] | None = None, **server: Any) -> DatabaseSource:
        contract = self.contract(*properties, product=product, **server)
        return DatabaseSource(contract, Settings(home=self.settings.home, connections={"shop": uri or self.uri()}))

    def contract(self, *properties: str, product: dict[str, Any] | None = None, **server: Any) -> Contract:
        place = {} if "query" in server else {"table": self.table}
        return server_contract("database", *properties, product=product, **{**place, **server})


@pytest.fixture(params=["postgresql", "mariadb"])
def server(request: pytest.FixtureRequest, stack: Callable[..., Settings]) -> Iterator[Server]:
    settings = stack(request.param)
    told = {name: settings.told_by(request.param, name) for name in ("host", "port", "password")}
    found = Server(request.param, settings, told["host"], int(told["port"]), told["password"], f"t{uuid.uuid4().hex[:12]}")
    yield found
    found.run("DROP TABLE IF EXISTS TABLE_NAME")


def rows_of(blocks: Iterator[Block]) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    """The rows, and reason and column of what was refused."""
    rows: list[dict[str, Any]] = []
    refused = []
    for block in blocks:
        rows += block.rows.to_pylist()
        refused += [(one.reason, one.path) for one in block.refused]
    return rows, refused


def take(source: DatabaseSource, landed: dict[str, str]) -> list[dict[str, Any]]:
    """What one run takes, the position moved."""
    taken: list[dict[str, Any]] = []
    for delivery in source.pending(landed):
        rows, refused = rows_of(source.read(delivery))
        assert not refused
        taken += rows
        landed |= source.reached(delivery)
    return taken


def ids(rows: list[dict[str, Any]]) -> list[int]:
    return sorted(row["id"] for row in rows)


# --- snapshots


def test_a_snapshot_is_the_table_at_one_point_in_time(server: Server) -> None:
    server.run("CREATE TABLE TABLE_NAME (id bigint PRIMARY KEY, name varchar(3000))")
    server.fill([(n, "x" * 2000) for n in range(12_000)])
    source = server.source(ID, NAME, **DAILY)
    (delivery,) = source.pending({})
    blocks = source.read(delivery)
    first = next(blocks)
    assert len(first.rows) < 12_000  # the rest is still to come from the server
    server.run(
        "UPDATE TABLE_NAME SET name = 'changed'", "DELETE FROM TABLE_NAME WHERE id < 100", "INSERT INTO TABLE_NAME VALUES (99999, 'late')"
    )
    rows = first.rows.to_pylist() + [row for block in blocks for row in block.rows.to_pylist()]
    assert ids(rows) == list(range(12_000)) and {row["name"] for row in rows} == {"x" * 2000}


def test_a_snapshot_lands_once_in_its_slice_and_never_in_another(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.run("CREATE TABLE TABLE_NAME (id bigint PRIMARY KEY, name text)", "INSERT INTO TABLE_NAME VALUES (1, 'a'), (2, NULL)")
    source = server.source(ID, NAME, **DAILY)
    monkeypatch.setattr(snapshots, "now", lambda: datetime(2026, 3, 5, 4, 30, tzinfo=UTC))
    (delivery,) = source.pending({"2026-03-04": "2026-03-04T04:00:00+00:00"})
    assert (delivery.name, delivery.slice) == ("2026-03-05", datetime(2026, 3, 5, tzinfo=UTC))
    assert rows_of(source.read(delivery)) == ([{"id": 1, "name": "a"}, {"id": 2, "name": None}], [])
    assert source.reached(delivery) == {"2026-03-05": "2026-03-05T04:30:00+00:00"}
    assert source.pending(source.reached(delivery)) == []
    with pytest.raises(DeliveryRefused) as caught:
        next(source.read(Delivery("2026-03-04", "x", slice=datetime(2026, 3, 4, tzinfo=UTC))))
    assert caught.value.code == "slice-past" and "only the present, which is 2026-03-05" in caught.value.message
    monkeypatch.setattr(snapshots, "now", lambda: datetime(2025, 12, 31, tzinfo=UTC))
    assert source.pending({}) == []  # before the first slice


@pytest.mark.stack
def test_a_reader_that_goes_away_in_the_middle_leaves_the_server_in_peace(server: Server) -> None:
    server.run("CREATE TABLE TABLE_NAME (id bigint, name text)")
    server.fill([(n, "x" * 1000) for n in range(20_000)])
    source = server.source(ID, NAME, **DAILY)
    blocks = source.read(source.pending({})[0])
    next(blocks)
    blocks.close()  # type: ignore[attr-defined]
    server.run("ALTER TABLE TABLE_NAME ADD COLUMN more int")  # waits for every reader of the table


def test_a_query_and_other_names_there(server: Server) -> None:
    server.run(
        'CREATE TABLE TABLE_NAME (id bigint, "Full Name" text)'
        if server.kind == "postgresql"
        else "CREATE TABLE TABLE_NAME (id bigint, `Full Name` text)"
    )
    server.run("INSERT INTO TABLE_NAME VALUES (1, 'a'), (2, 'b'), (3, '50% of ''it''')")
    renamed = 'name: name, logicalType: string, physicalName: "Full Name"'
    source = server.source(ID, renamed, query=f"SELECT * FROM {server.table} WHERE id >= 2 -- the rest is old", **DAILY)
    rows, _ = rows_of(source.read(source.pending({})[0]))
    assert sorted(rows, key=lambda row: row["id"]) == [{"id": 2, "name": "b"}, {"id": 3, "name": "50% of 'it'"}]


# --- increments


def test_an_increment_takes_what_is_new_and_only_that(server: Server) -> None:
    server.run("CREATE TABLE TABLE_NAME (id bigint PRIMARY KEY, name text)")
    source, landed = server.source(ID, NAME, cursor="id", product={"writeMode": "append"}), dict[str, str]()
    assert source.pending(landed) == []  # nothing there
    server.run("INSERT INTO TABLE_NAME VALUES (1, 'a'), (9007199254740993, 'b')")
    assert ids(take(source, landed)) == [1, 9007199254740993]
    assert landed == {"id": "9007199254740993"} and source.pending(landed) == []
    server.run("INSERT INTO TABLE_NAME VALUES (9007199254740992, 'behind'), (9007199254740994, 'c')")
    assert ids(take(source, landed)) == [9007199254740994]  # neighbours that are one number as floats


def test_what_comes_while_an_increment_is_read_comes_with_the_next(server: Server) -> None:
    server.run("CREATE TABLE TABLE_NAME (id bigint PRIMARY KEY, name text)", "INSERT INTO TABLE_NAME VALUES (1, 'a'), (2, 'b')")
    source, landed = server.source(ID, NAME, cursor="id", product={"writeMode": "append"}), dict[str, str]()
    (delivery,) = source.pending(landed)
    server.run("INSERT INTO TABLE_NAME VALUES (3, 'c')")
    assert ids(rows_of(source.read(delivery))[0]) == [1, 2]
    assert ids(rows_of(source.read(delivery))[0]) == [1, 2]  # killed and read again
    assert ids(take(source, dict(source.reached(delivery)))) == [3]


def test_ties_at_the_bound_are_neither_lost_nor_doubled(server: Server) -> None:
    server.run(
        f"CREATE TABLE TABLE_NAME (id bigint PRIMARY KEY, changed_at {'timestamptz' if server.kind == 'postgresql' else 'datetime'})"
    )
    appending = server.source("name: id, logicalType: integer", AT, cursor="changed_at", product={"writeMode": "append"})
    merging = server.source(ID, AT, cursor="changed_at", product={"writeMode": "merge"})
    appended, merged, position, other = list[int](), set[int](), dict[str, str](), dict[str, str]()
    for batch in ([(1, 10), (2, 10)], [(3, 10), (4, 11)], [(5, 11), (6, 12)]):
        server.run(*(f"INSERT INTO TABLE_NAME VALUES ({n}, '2026-01-01 00:00:{second}')" for n, second in batch))
        appended += ids(take(appending, position))
        merged |= set(ids(take(merging, other)))
    assert appended == [1, 2, 3, 4, 5]  # 6 waits: its second may get company
    assert merged == {1, 2, 3, 4, 5, 6}


def test_an_overlap_catches_transactions_that_commit_late(server: Server) -> None:
    server.run(
        f"CREATE TABLE TABLE_NAME (id bigint PRIMARY KEY, changed_at {'timestamp' if server.kind == 'postgresql' else 'datetime(6)'})"
    )
    source = server.source(ID, AT, cursor="changed_at", overlap="10 seconds", product={"writeMode": "merge"})
    landed = dict[str, str]()
    server.run("INSERT INTO TABLE_NAME VALUES (1, '2026-01-01 00:00:20.000001')")
    assert ids(take(source, landed)) == [1]
    server.run("INSERT INTO TABLE_NAME VALUES (2, '2026-01-01 00:00:15')", "INSERT INTO TABLE_NAME VALUES (3, '2026-01-01 00:00:21')")
    assert ids(take(source, landed)) == [1, 2, 3]
    assert landed["changed_at"].startswith("2026-01-01 00:00:21")
    counted = server.source(ID, cursor="id", overlap=2, product={"writeMode": "append"})
    position = dict[str, str]()
    assert ids(take(counted, position)) == []  # 1, 2 and 3 may still get company behind them
    server.run("INSERT INTO TABLE_NAME VALUES (7, '2026-01-01 00:00:22')")
    assert ids(take(counted, position)) == [1, 2, 3]
    assert position == {"id": "5"}


def test_a_row_that_no_increment_would_ever_take_is_told(server: Server) -> None:
    server.run(
        "CREATE TABLE TABLE_NAME (id bigint PRIMARY KEY, changed_at timestamp NULL)",
        "INSERT INTO TABLE_NAME VALUES (1, '2026-01-01'), (2, NULL)",
    )
    source = server.source(ID, AT, cursor="changed_at", product={"writeMode": "merge"})
    (delivery,) = source.pending({})
    with pytest.raises(DeliveryRefused) as caught:
        next(source.read(delivery))
    assert caught.value.code == "cursor-null" and caught.value.message.startswith("1 rows of")
    endless = ["'infinity'", "'-infinity'"] if server.kind == "postgresql" else ["'0000-00-00'"]
    zero = "" if server.kind == "postgresql" else "SET sql_mode = ''"
    inserts = [f"INSERT INTO TABLE_NAME VALUES ({number}, {moment})" for number, moment in enumerate(endless, start=3)]
    server.run(*filter(None, [zero]), *inserts)
    assert source.pending({"changed_at": delivery.version}) == []  # an infinite one is not the newest
    with pytest.raises(DeliveryRefused, match=rf" {1 + len(endless)} rows of"):
        next(source.read(delivery))
    nothing = server.source(ID, "name: name, logicalType: number, physicalName: changed_at", cursor="name", product={"writeMode": "merge"})
    server.run("ALTER TABLE TABLE_NAME DROP COLUMN changed_at", "ALTER TABLE TABLE_NAME ADD COLUMN changed_at double precision")
    with pytest.raises(PlatformError) as other:
        nothing.pending({})
    assert other.value.code == "database-cursor" and "no exact order" in other.value.message


def test_text_is_a_cursor_too_however_it_is_quoted(server: Server) -> None:
    server.run("CREATE TABLE TABLE_NAME (name varchar(50) PRIMARY KEY)")
    source = server.source("name: name, logicalType: string, unique: true", cursor="name", product={"writeMode": "append"})
    landed = dict[str, str]()
    for name in ("a'; DROP TABLE x", "b\\'"):
        server.fill([(name,)])
        assert take(source, landed) == [{"name": name}] and landed == {"name": name} and take(source, landed) == []


@pytest.mark.stack
@hypothesis_settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(batches=st.lists(st.lists(st.integers(0, 4), max_size=4), min_size=1, max_size=6))
def test_increments_of_any_history_of_growing_times_append_each_row_at_most_once_and_lose_none(
    server: Server, batches: list[list[int]]
) -> None:
    server.run("DROP TABLE IF EXISTS TABLE_NAME", "CREATE TABLE TABLE_NAME (id bigint PRIMARY KEY, changed_at timestamp(6) NOT NULL)")
    source = server.source("name: id, logicalType: integer", AT, cursor="changed_at", product={"writeMode": "append"})
    landed, taken, clock, number = dict[str, str](), list[int](), datetime(2026, 1, 1), 0
    for batch in batches:
        statements = []
        for step in batch:
            clock, number = clock + timedelta(microseconds=step), number + 1
            statements.append(f"INSERT INTO TABLE_NAME VALUES ({number}, '{clock.isoformat(' ')}')")
        server.run(*statements)
        taken += ids(take(source, landed))
    server.run(f"INSERT INTO TABLE_NAME VALUES (0, '{(clock + timedelta(seconds=1)).isoformat(' ')}')")
    taken += ids(take(source, landed))
    assert sorted(taken) == list(range(1, number + 1))


# --- types


POSTGRESQL_TYPES = [
    ("smallint", "'-32768'", "logicalType: integer, physicalType: int", -32768),
    ("bigint", "'9223372036854775807'", "logicalType: integer", 2**63 - 1),
    ("numeric", "1234567890123456789012345678.0123456789", 'logicalType: number, physicalType: "decimal(38,10)"',
     Decimal("1234567890123456789012345678.0123456789")),
    ("numeric", "18446744073709551615", "logicalType: string", "18446744073709551615"),
    ("real", "0.1", "logicalType: number, physicalType: float", 0.10000000149011612),
    ("double precision", "'1e-310'", "logicalType: number", 1e-310),
    ("boolean", "true", "logicalType: boolean", True),
    ("char(5)", "'ab'", "logicalType: string", "ab   "),
    ("text", "E'a\\tb\\n\\u00e9\\U0001F600'", "logicalType: string", "a\tb\né😀"),
    ("bytea", "'\\x00ff27'", "logicalType: string, physicalType: binary", b"\x00\xff'"),
    ("uuid", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "logicalType: string, physicalType: uuid",
     uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")),
    ("timestamptz", "'2026-03-29 02:30:00.123456+02'", "logicalType: timestamp", datetime(2026, 3, 29, 0, 30, 0, 123456, UTC)),
    ("timestamp", "'9999-12-31 23:59:59.999999'", "logicalType: timestamp, physicalType: timestamp",
     datetime(9999, 12, 31, 23, 59, 59, 999999)),
    ("timestamp", "'2026-01-01 01:02:03'", "logicalType: timestamp", datetime(2026, 1, 1, 1, 2, 3, tzinfo=UTC)),
    ("date", "'0001-01-01'", "logicalType: date", date(1, 1, 1)),
    ("json", "'{\"a\":  1.10}'", "logicalType: object, physicalType: json", '{"a":1.1}'),
    ("jsonb", "'[1,null]'", "logicalType: array, items: {logicalType: integer}", [1, None]),
    ("int[]", "ARRAY[1,NULL,3]", "logicalType: array, items: {logicalType: integer}", [1, None, 3]),
    ("text[]", "ARRAY['a,\"b','{}']", "logicalType: array, items: {logicalType: string}", ['a,"b', "{}"]),
    ("bit(3)", "B'101'", "logicalType: integer", 5),
    ("interval", "'1 day 2 hours'", "logicalType: string", "P1DT2H"),
    ("inet", "'10.0.0.1/8'", "logicalType: string", "10.0.0.1/8"),
    ("bool", "NULL", "logicalType: boolean", None),
]  # fmt: skip
MARIADB_TYPES = [
    ("bigint unsigned", "18446744073709551615", 'logicalType: integer, physicalType: "decimal(20,0)"', Decimal(18446744073709551615)),
    ("decimal(38,10)", "1234567890123456789012345678.0123456789", 'logicalType: number, physicalType: "decimal(38,10)"',
     Decimal("1234567890123456789012345678.0123456789")),
    ("float", "0.1", "logicalType: number, physicalType: float", 0.10000000149011612),
    ("double", "1e-310", "logicalType: number", 1e-310),
    ("double", "0.1", "logicalType: number", 0.1),
    ("tinyint(1)", "1", "logicalType: boolean", True),
    ("bit(1)", "b'0'", "logicalType: boolean", False),
    ("bit(12)", "b'100000000001'", "logicalType: integer", 2049),
    ("varchar(9) character set latin1", "'é'", "logicalType: string", "é"),
    ("text", "'a\\tb\\n😀'", "logicalType: string", "a\tb\n😀"),
    ("varbinary(255)", "'Ünï'", "logicalType: string", "Ünï"),
    ("blob", "x'00ff27'", "logicalType: string, physicalType: binary", b"\x00\xff'"),
    ("enum('x','y')", "'y'", "logicalType: string", "y"),
    ("set('x','y')", "'x,y'", "logicalType: string", "x,y"),
    ("json", "'{\"a\": [1, 2]}'", "logicalType: object, physicalType: json", '{"a":[1,2]}'),
    ("year", "2026", "logicalType: integer, physicalType: int", 2026),
    ("date", "'9999-12-31'", "logicalType: date", date(9999, 12, 31)),
    ("datetime(6)", "'2026-01-01 01:02:03.000004'", "logicalType: timestamp, physicalType: timestamp", datetime(2026, 1, 1, 1, 2, 3, 4)),
    ("uuid", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "logicalType: string, physicalType: uuid",
     uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")),
    ("int", "NULL", "logicalType: integer", None),
]  # fmt: skip


@pytest.mark.parametrize("server", ["postgresql", "mariadb"], indirect=True)
def test_values_arrive_exactly(server: Server) -> None:
    types = POSTGRESQL_TYPES if server.kind == "postgresql" else MARIADB_TYPES
    declared = ", ".join(f"c{number} {one[0]}" for number, one in enumerate(types))
    server.run(f"CREATE TABLE TABLE_NAME ({declared})", f"INSERT INTO TABLE_NAME VALUES ({', '.join(one[1] for one in types)})")
    source = server.source(*(f"name: c{number}, {one[2]}" for number, one in enumerate(types)), **DAILY)
    rows, refused = rows_of(source.read(source.pending({})[0]))
    assert not refused and len(rows) == 1
    for number, (native, _, declared, expected) in enumerate(types):
        got = rows[0][f"c{number}"]
        assert got == (expected if not isinstance(expected, str) or "json" not in declared else got), (native, declared, got, expected)
        if "json" in declared:
            import orjson

            assert orjson.loads(got) == orjson.loads(expected)


@pytest.mark.stack
def test_an_instant_is_the_same_whatever_zone_the_server_thinks_in(server: Server) -> None:
    if server.kind == "postgresql":
        server.run("ALTER ROLE sdp SET timezone = 'Asia/Kolkata'", "ALTER ROLE sdp SET datestyle = 'German'")
        server.run(
            "CREATE TABLE TABLE_NAME (id bigint, changed_at timestamptz)", "INSERT INTO TABLE_NAME VALUES (1, '2026-01-01 00:00:00+00')"
        )
    else:
        server.run("SET GLOBAL time_zone = '+05:30'")
        server.run("CREATE TABLE TABLE_NAME (id bigint, changed_at timestamp)", "INSERT INTO TABLE_NAME VALUES (1, '2026-01-01 05:30:00')")
    try:
        source = server.source(ID, AT, **DAILY)
        assert rows_of(source.read(source.pending({})[0])) == ([{"id": 1, "changed_at": datetime(2026, 1, 1, tzinfo=UTC)}], [])
    finally:
        server.run("ALTER ROLE sdp RESET ALL" if server.kind == "postgresql" else "SET GLOBAL time_zone = SYSTEM")


def test_a_value_that_its_column_cannot_hold_refuses_its_row_and_no_other(server: Server) -> None:
    at = "name: at, logicalType: timestamp"
    if server.kind == "postgresql":
        server.run("CREATE TABLE TABLE_NAME (id numeric, at timestamp, d double precision)")
        bad = [
            "(2, 'infinity', 1)",
            "(3, '0044-03-15 BC', 1)",
            "(9223372036854775808, NULL, 1)",
            "('NaN', NULL, 1)",
            "(6, NULL, 'NaN')",
            "(1.5, NULL, 1)",
        ]
    else:
        server.run(
            "CREATE TABLE TABLE_NAME (id decimal(30,1), at datetime, d double)",
        )
        bad = ["(2, '0000-00-00', 1)", "(3, '2026-02-00', 1)", "(9223372036854775808, NULL, 1)", "(1.5, NULL, 1)"]
    prefix = "" if server.kind == "postgresql" else "SET sql_mode = ''"
    server.run(
        *filter(None, [prefix]),
        "INSERT INTO TABLE_NAME VALUES (1, '2026-01-01', 0.5)",
        *(f"INSERT INTO TABLE_NAME VALUES {one}" for one in bad),
    )
    source = server.source("name: id, logicalType: integer", at, "name: d, logicalType: number", **DAILY)
    blocks = list(source.read(source.pending({})[0]))
    rows, refused = rows_of(iter(blocks))
    assert rows == [{"id": 1, "at": datetime(2026, 1, 1, tzinfo=UTC), "d": 0.5}]
    assert len(refused) == len(bad) and {path for _, path in refused} <= {"id", "at", "d"}
    first = blocks[0].refused[0]
    assert first.line == 2 and first.raw is not None and b'"id":' in first.raw and first.reason == "unreadable-timestamp"


# --- refusals


def refusal(server: Server, source: DatabaseSource) -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        take(source, {})
    assert server.password not in str(caught.value) and "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value) and caught.value.remedy and "Traceback" not in str(caught.value)
    return caught.value


def test_each_refusal_is_one_sentence_without_the_password(server: Server) -> None:
    server.run("CREATE TABLE TABLE_NAME (id bigint, name text)", "INSERT INTO TABLE_NAME VALUES (1, 'a')")
    found = refusal(server, server.source(ID, uri=server.uri(password="hunter2"), **DAILY))
    assert found.code == "database-login-refused" and "the login of sdp" in found.message
    assert refusal(server, server.source(ID, uri=server.uri(port=1), **DAILY)).code == "database-unreachable"
    assert refusal(server, server.source(ID, uri=server.uri(database="nowhere"), **DAILY)).code == "database-missing"
    found = refusal(server, server.source(ID, **{**DAILY, "table": "nowhere"}))
    assert found.code == "database-table-missing" and "nowhere" in found.message
    found = refusal(server, server.source(ID, NAME, "name: gone, logicalType: string", **DAILY))
    assert (
        found.code == "database-columns-missing" and found.message.endswith("does not have or show: gone.") and "id, name" in found.remedy
    )
    assert refusal(server, server.source(ID, query="SELECT id FROM", **DAILY)).code == "database-query"
    with pytest.raises(PlatformError) as caught:
        server.source(ID, uri="oracle://x:hunter2@y/z", **DAILY)
    assert caught.value.code == "connection-scheme" and "hunter2" not in str(caught.value)


def test_what_an_account_may_not_read_is_told_and_what_it_may_is_read(server: Server) -> None:
    user = f"u{uuid.uuid4().hex[:8]}"
    server.run("CREATE TABLE TABLE_NAME (id bigint, name text)", "INSERT INTO TABLE_NAME VALUES (1, 'secret')")
    who = user if server.kind == "postgresql" else f"{user}@'127.0.0.1'"
    server.run(f"CREATE USER {user} PASSWORD 'hunter2'" if server.kind == "postgresql" else f"CREATE USER {who} IDENTIFIED BY 'hunter2'")
    try:
        if server.kind != "postgresql":
            server.run(f"GRANT CREATE ON sdp.nothing TO {who}")  # else the database itself is closed to it
        uri = server.uri(user, "hunter2")
        assert refusal(server, server.source(ID, uri=uri, **DAILY)).code == "database-permission-denied"
        server.run(f"GRANT SELECT (id) ON {server.table} TO {who}")
        source = server.source(ID, uri=uri, **DAILY)
        assert rows_of(source.read(source.pending({})[0]))[0] == [{"id": 1}]
        found = refusal(server, server.source(ID, NAME, uri=uri, **DAILY))
        assert found.code in ("database-permission-denied", "database-columns-missing")
    finally:
        server.run(f"DROP OWNED BY {user}; DROP USER {user}" if server.kind == "postgresql" else f"DROP USER {who}")


def test_a_statement_over_the_servers_time_limit_is_told(server: Server) -> None:
    server.run("CREATE TABLE TABLE_NAME (id bigint)", *["INSERT INTO TABLE_NAME VALUES (1)"])
    if server.kind == "postgresql":
        limit, forever, reset = (
            "ALTER ROLE sdp SET statement_timeout = '300ms'",
            "SELECT id FROM TABLE_NAME, pg_sleep(20)",
            "ALTER ROLE sdp RESET ALL",
        )
    else:
        limit, forever, reset = (
            "SET GLOBAL max_statement_time = 0.3",
            "SELECT id FROM TABLE_NAME WHERE sleep(20) = 0",
            "SET GLOBAL max_statement_time = 0",
        )
    server.run(limit)
    try:
        found = refusal(server, server.source(ID, query=forever.replace("TABLE_NAME", server.table), **DAILY))
    finally:
        server.run(reset)
    assert found.code == "database-timeout" and "statement timeout" in found.remedy


def test_a_session_can_write_nothing(server: Server) -> None:
    server.run("CREATE TABLE TABLE_NAME (id bigint)", "INSERT INTO TABLE_NAME VALUES (1)")
    if server.kind == "postgresql":
        server.run("CREATE SEQUENCE TABLE_NAME_numbers")
        found = refusal(server, server.source(ID, query=f"SELECT nextval('{server.table}_numbers') AS id", **DAILY))
        assert found.code == "database-writes"
        server.run("DROP SEQUENCE TABLE_NAME_numbers")
    else:
        with server.source(ID, **DAILY)._open() as session, pytest.raises(PlatformError) as caught:
            session.row(f"DELETE FROM {server.table}")
        assert caught.value.code == "database-writes"
    source = server.source(ID, **DAILY)
    assert rows_of(source.read(source.pending({})[0]))[0] == [{"id": 1}]


PEAK = """
import sys
from bench.harness import resident_mb
from platform_resources.config import Settings
from platform_resources.landing.database import DatabaseSource
from tests.landing.server_contracts import server_contract
contract = server_contract("database", "name: id, logicalType: integer", "name: name, logicalType: string", table=sys.argv[2],
                           cadence="daily", start="2026-01-01")
source = DatabaseSource(contract, Settings(connections={"shop": sys.stdin.read()}))
(delivery,) = source.pending({})
before = rows = size = 0
for block in source.read(delivery):
    before = before or resident_mb('VmHWM')
    rows, size = rows + len(block.rows), size + block.rows.nbytes
print(rows, size >> 20, int(resident_mb('VmHWM') - before))
"""


@pytest.mark.stack
def test_a_table_of_any_size_is_read_in_the_memory_of_a_few_batches(server: Server) -> None:
    rows = "generate_series(1, 300000) AS n" if server.kind == "postgresql" else "(SELECT seq AS n FROM seq_1_to_300000) AS s"
    server.run(f"CREATE TABLE TABLE_NAME AS SELECT n AS id, repeat('x', 1000) AS name FROM {rows}")
    done = subprocess.run(
        [sys.executable, "-c", PEAK, "-", server.table], input=server.uri(), capture_output=True, text=True, check=False, cwd=SOURCE_ROOT
    )
    assert done.returncode == 0, done.stderr
    found, megabytes, grown = map(int, done.stdout.split())
    assert found == 300_000 and megabytes > 250 and grown < 100


@pytest.mark.stack
def test_a_server_that_dies_while_it_is_read_is_told(server: Server) -> None:
    server.run("CREATE TABLE TABLE_NAME (id bigint, name text)")
    server.fill([(n, "x" * 2000) for n in range(15_000)])
    source = server.source(ID, NAME, **DAILY)
    blocks = source.read(source.pending({})[0])
    next(blocks)
    if server.kind == "postgresql":
        server.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sdp'")
    else:
        connection = server.connect()
        with connection.cursor() as cursor:
            cursor.execute("SELECT id FROM information_schema.processlist WHERE id <> connection_id() AND user = 'sdp'")
            for (number,) in cursor.fetchall():
                cursor.execute(f"KILL {number}")
    with pytest.raises(PlatformError) as caught:
        list(blocks)
    assert caught.value.code == "database-unreachable" and server.password not in str(caught.value)
