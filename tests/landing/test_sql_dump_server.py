"""What a real server's mysqldump writes, read without the server: the same values that it gives when it is asked."""

from __future__ import annotations

import io
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pymysql
import pytest

from platform_resources.config import Settings
from platform_resources.landing import sql_dump
from platform_resources.landing.source import DeliveryRefused
from tests.conftest import require
from tests.landing.dump_contracts import DELIVERY, dump_contract

TABLE = """CREATE TABLE `every;'thing` (
  id bigint unsigned NOT NULL PRIMARY KEY, raw longblob, word varchar(200) CHARACTER SET utf8mb4, old varchar(200) CHARACTER SET latin1,
  price decimal(20,5), ratio double, flag tinyint(1), bits bit(10), kind enum('a','it''s','ä;') CHARACTER SET utf8mb4, day date,
  at datetime(6), stamp timestamp NULL, touched binary(14), `generated` int AS (flag + 1) VIRTUAL
) COMMENT 'a; comment, it''s `one`'"""
COLUMNS = (
    'name: id, logicalType: number, physicalType: "decimal(20,0)", required: true',
    "name: raw, logicalType: string, physicalType: binary",
    "name: word, logicalType: string",
    "name: old, logicalType: string",
    'name: price, logicalType: number, physicalType: "decimal(20,5)"',
    "name: ratio, logicalType: number",
    "name: flag, logicalType: boolean",
    "name: bits, logicalType: integer",
    "name: kind, logicalType: string",
    "name: day, logicalType: date",
    "name: at, logicalType: timestamp, physicalType: timestamp",
    "name: stamp, logicalType: timestamp, physicalType: timestamp",
    "name: touched, logicalType: string",
)
NAMES = [column.split(",")[0].removeprefix("name: ") for column in COLUMNS]
ODD = ["'", '"', "\\", "\n", "\r", "\0", "\x1a", "\t", "\b", "%", "_", "),(", ");\n", "ä", "€", "NULL", "0x41", "-- ", "/*", "`"]


def some_rows(draw: random.Random, count: int) -> list[tuple[Any, ...]]:
    def text(more: str = "") -> str:
        return "".join(draw.choice([*ODD, "a", *more]) for _ in range(draw.randrange(12)))

    def row(number: int) -> tuple[Any, ...]:
        when = f"20{draw.randrange(10, 38)}-0{draw.randrange(1, 10)}-1{draw.randrange(10)} 0{draw.randrange(10)}:00:00"
        values = [draw.randbytes(draw.randrange(20)), text("𝄞東"), text(), f"{draw.uniform(-1e9, 1e9):.5f}", draw.gauss(0, 1e6)]
        values += [
            draw.randrange(2),
            draw.randrange(1024),
            draw.choice(["a", "it's", "ä;"]),
            when[:10],
            f"{when}.{draw.randrange(10**6):06}",
        ]
        values += [when, "20240102030405"]
        return (2**64 - 1 - number, *(None if draw.random() < 0.1 else value for value in values))

    return [row(number) for number in range(count)]


class Server:
    """A table of everything on the real server, and its mysqldump."""

    def __init__(self, settings: Settings) -> None:
        told = {name: settings.told_by("mariadb", name) for name in ("host", "port", "user", "password", "database")}
        self._told = told
        self.connection = pymysql.connect(
            host=told["host"], port=int(told["port"]), user=told["user"], password=told["password"], database=told["database"],
            charset="utf8mb4", autocommit=True,
        )  # fmt: skip

    def run(self, statement: str, rows: list[tuple[Any, ...]] | None = None) -> None:
        with self.connection.cursor() as cursor:
            cursor.executemany(statement, rows) if rows else cursor.execute(statement)

    def said(self) -> list[tuple[Any, ...]]:
        """The table as the server gives it, with the values as the contract's types have them in Python."""
        with self.connection.cursor() as cursor:
            cursor.execute("SET time_zone = '+00:00'")
            cursor.execute(
                "SELECT id, raw, word, old, price, ratio, flag = 1, bits + 0, kind, day, at, stamp, touched FROM `every;'thing` ORDER BY id"
            )
            return [
                (int(row[0]), *row[1:6], None if row[6] is None else bool(row[6]), *row[7:12], row[12] and row[12].decode())
                for row in cursor.fetchall()
            ]

    def dump(self, *options: str) -> bytes:
        words = [
            "mysqldump",
            "--no-defaults",
            f"--host={self._told['host']}",
            f"--port={self._told['port']}",
            f"--user={self._told['user']}",
        ]
        environment = {**os.environ, "MYSQL_PWD": self._told["password"]}
        return subprocess.run([*words, *options, self._told["database"]], env=environment, capture_output=True, check=True).stdout


@pytest.fixture
def server(stack: Callable[..., Settings]) -> Iterator[Server]:
    require("mariadb", shutil.which("mysqldump") is not None, "no mysqldump on the PATH")
    found = Server(stack("mariadb"))
    for name in ("every;'thing", "a_other"):
        found.run(f"DROP TABLE IF EXISTS `{name}`")
    found.run(TABLE)
    found.run("CREATE TABLE a_other (id int, note text)")
    found.run("INSERT INTO a_other VALUES (1, 'INSERT INTO `every;''thing` VALUES (1);')")
    listed = ", ".join(NAMES)
    marks = ", ".join(["%s"] * len(NAMES))
    found.run(f"INSERT INTO `every;'thing` ({listed}) VALUES ({marks})", some_rows(random.Random(5), 400))
    yield found
    for name in ("every;'thing", "a_other"):
        found.run(f"DROP TABLE `{name}`")
    found.connection.close()


WAYS = [
    (),
    ("--hex-blob",),
    ("--skip-extended-insert", "--replace"),
    ("--complete-insert", "--skip-opt", "--insert-ignore"),
    ("--default-character-set=latin1",),
    ("--net-buffer-length=4096",),
    ("--order-by-primary", "--tz-utc", "--add-drop-database", "--routines", "--triggers"),
]


def test_every_way_to_dump_gives_what_the_server_says(server: Server) -> None:
    expected = server.said()
    assert len(expected) == 400
    contract = dump_contract("sql_dump", *COLUMNS, table='"every;\'thing"')
    for options in WAYS:
        blocks = list(sql_dump.read(io.BytesIO(server.dump(*options)), DELIVERY, contract))
        assert not [one for block in blocks for one in block.refused], options
        rows = pa.concat_tables([block.rows for block in blocks]).to_pylist()
        if "--default-character-set=latin1" in options:  # which the server itself writes a question mark for
            expected_here = [(*row[:2], None, *row[3:8], None, *row[9:]) for row in expected]
            rows = [{**row, "word": None, "kind": None} for row in rows]
        else:
            expected_here = expected
        assert sorted(tuple(row[name] for name in NAMES) for row in rows) == expected_here, options


def test_a_dump_without_comments_counts_as_cut_off(server: Server) -> None:
    contract = dump_contract("sql_dump", *COLUMNS, table='"every;\'thing"')
    with pytest.raises(DeliveryRefused, match="ends before its line `-- Dump completed`"):
        list(sql_dump.read(io.BytesIO(server.dump("--skip-comments")), DELIVERY, contract))
