"""SQL dumps: every literal that mysqldump can write comes back as it was; what is no dump, or a cut one, is refused in one sentence."""

from __future__ import annotations

import gzip
import io
import random
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_resources.landing import mysqldump, sql_dump
from platform_resources.landing.source import Block, DeliveryRefused
from tests.landing.dump_contracts import DELIVERY, dump_contract

DONE = b"-- Dump completed on 2024-01-01 00:00:00\n"
CREATE = b"CREATE TABLE `t` (\n  `n` int(11) NOT NULL,\n  `b` blob,\n  KEY `k` (`n`)\n) ENGINE=InnoDB DEFAULT CHARSET=binary;\n"


def dump(*statements: bytes, create: bytes = CREATE) -> bytes:
    return b"-- MariaDB dump 10.19\n/*!40101 SET NAMES utf8mb4 */;\n" + create + b"".join(statements) + DONE


def insert(*tuples: bytes, table: bytes = b"`t`") -> bytes:
    return b"INSERT INTO " + table + b" VALUES " + b",".join(tuples) + b";\n"


def values(document: bytes, table: str | None = None) -> list[dict[str, bytes | None]]:
    """Every row as bytes by column; none may be bad."""
    found: list[dict[str, bytes | None]] = []
    for rows in mysqldump.rows(io.BytesIO(document), "wiki.dump", table):
        assert not rows.bad
        assert rows.numbers.tolist() == list(range(len(found) + 1, len(found) + len(rows.numbers) + 1))
        found += pa.table(dict(rows.columns)).to_pylist()
    return found


def read(document: bytes, *columns: str, **server: str) -> Block:
    """All of a dump as one block."""
    blocks = list(sql_dump.read(io.BytesIO(document), DELIVERY, dump_contract("sql_dump", *columns, **server)))
    lines = pa.concat_arrays([block.lines for block in blocks])
    return Block(pa.concat_tables([block.rows for block in blocks]), lines, [one for block in blocks for one in block.refused])


@pytest.fixture(params=["arrays", "tokens"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to read tuples, whatever their size."""
    monkeypatch.setattr(mysqldump, "_FEW", 0 if request.param == "arrays" else 1 << 60)
    return str(request.param)


# --- real dumps


def independent(text: bytes) -> Iterator[list[Any]]:
    """The rows of a dump by a walk over its characters."""
    for line in text.split(b"\n"):
        if not line.startswith(b"INSERT INTO"):
            continue
        at = line.index(b" VALUES (") + 8
        while line[at : at + 1] == b"(":
            row: list[Any] = []
            at += 1
            while True:
                if line[at : at + 1] == b"'":
                    value, at = b"", at + 1
                    while line[at : at + 1] != b"'":
                        if line[at : at + 1] == b"\\":
                            at += 1
                            value += {b"n": b"\n", b"r": b"\r", b"0": b"\0", b"Z": b"\x1a"}.get(line[at : at + 1], line[at : at + 1])
                        else:
                            value += line[at : at + 1]
                        at += 1
                    row.append(value)
                    at += 1
                else:
                    bare = re.compile(rb"[^,)]+").match(line, at)
                    assert bare is not None
                    row.append(None if bare[0] == b"NULL" else bare[0])
                    at = bare.end()
                at += 1
                if line[at - 1 : at] == b")":
                    break
            yield row
            at += 1


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("name", "count"), [("testfile.sql.gz", 84), ("wikidatawiki-20140420-sites.sql", 880)])
def test_every_real_dump_is_read_as_a_walk_over_its_characters_reads_it(realdata: Path, name: str, count: int) -> None:
    data = (realdata / "sql_dumps" / name).read_bytes()
    document = gzip.decompress(data) if name.endswith(".gz") else data
    found = [list(row.values()) for row in values(document)]
    assert len(found) == count
    assert found == list(independent(document))


def test_the_real_table_of_change_tags_lands_as_its_contract_says(realdata: Path) -> None:
    document = gzip.decompress((realdata / "sql_dumps" / "testfile.sql.gz").read_bytes())
    block = read(
        document,
        "name: id, physicalName: ctd_id, logicalType: integer, required: true",
        "name: ctd_name, logicalType: string, required: true",
        "name: ctd_user_defined, logicalType: boolean",
        "name: ctd_count, logicalType: integer, physicalType: long",
        "name: ctd_added_later, logicalType: string",
    )
    assert block.rows.slice(0, 1).to_pylist() == [
        {"id": 1, "ctd_name": "mw-replace", "ctd_user_defined": False, "ctd_count": 10200, "ctd_added_later": None}
    ]
    assert sum(block.rows["ctd_user_defined"].to_pylist()) == document.count(b",1,")
    assert len(block.rows) == 84


# --- literals


@pytest.mark.parametrize(
    ("literal", "value"),
    [
        (rb"'\0\'\"\b\n\r\t\Z\\'", b"\0'\"\b\n\r\t\x1a\\"),
        (rb"'\%\_'", rb"\%\_"),
        (rb"'\a\/'", b"a/"),
        (rb"'\\n'", rb"\n"),
        (rb"'\\\n'", b"\\\n"),
        (rb"'\\\\'", rb"\\"),
        (rb"'it''s'", b"it's"),
        (rb"''''", b"'"),
        (rb"''", b""),
        (rb"'),(;'", b"),(;"),
        (rb"'-- x /* y'", b"-- x /* y"),
        (b"'\xff\x80\x00'", b"\xff\x80\x00"),
        (b"'a\nb\r\nc'", b"a\nb\r\nc"),
        (rb"'NULL'", b"NULL"),
        (rb"'0x41'", b"0x41"),
        (rb"NULL", None),
        (rb"null", None),
        (rb"0x4142", b"AB"),
        (rb"0x142", b"\x01B"),
        (rb"x'4142'", b"AB"),
        (rb"X''", b""),
        (rb"b'0100000101000010'", b"AB"),
        (rb"_binary 'A\'\0'", b"A'\0"),
        (rb"_utf8mb4 'A'", b"A"),
        (rb"_binary ''", b""),
        (rb"'x,_binary '", b"x,_binary "),
        (rb"N'A'", b"A"),
        (rb"-1.5e-7", b"-1.5e-7"),
        (rb" 'a' ", b"a"),
        (rb" NULL ", None),
        ("'Юпитер 𝄞'".encode(), "Юпитер 𝄞".encode()),
    ],
)
@pytest.mark.usefixtures("way")
def test_every_literal_is_read(literal: bytes, value: bytes | None) -> None:
    document = dump(insert(b"(1,'before')", b"(2," + literal + b")", b"(3,'after')"))
    assert values(document) == [{"n": b"1", "b": b"before"}, {"n": b"2", "b": value}, {"n": b"3", "b": b"after"}]


def escaped(value: bytes | None, draw: random.Random) -> bytes:
    """A literal as mysqldump writes it, or in one of the other forms that the server reads the same."""
    if value is None:
        return b"NULL"
    form = draw.choice(["mysqldump", "mysqldump", "mysqldump", "binary", "hex", "doubled"])
    if form == "hex" and value:
        return b"0x" + value.hex().encode()
    table = {b"\0": rb"\0", b"\n": rb"\n", b"\r": rb"\r", b"\\": rb"\\", b"'": rb"\'", b'"': rb"\"", b"\x1a": rb"\Z"}
    if form == "doubled":
        table = {b"\\": rb"\\", b"'": b"''"}
    text = b"".join(table.get(bytes([byte]), bytes([byte])) for byte in value)
    return (b"_binary '" if form == "binary" else b"'") + text + b"'"


blobs = (
    st.none()
    | st.binary(max_size=12)
    | st.lists(st.sampled_from([b"'", b"\\", b"),(", b");\n", b"\n", b'"', b"_binary '", b",", b"0", b"--"])).map(b"".join)
)


@pytest.mark.usefixtures("way")
@given(rows=st.lists(st.tuples(st.integers(-(2**31), 2**31), blobs), min_size=1, max_size=12), seed=st.integers(0, 10_000))
def test_what_is_escaped_is_read(rows: list[tuple[int, bytes | None]], seed: int) -> None:
    draw = random.Random(seed)
    written = []
    at = 0
    while at < len(rows):
        size = draw.randint(1, 5)
        tuples = [b"(%d,%b)" % (number, escaped(value, draw)) for number, value in rows[at : at + size]]
        separator = draw.choice([b",", b",\n", b" , "])
        written.append(b"INSERT INTO `t` VALUES" + draw.choice([b" ", b"\n"]) + separator.join(tuples) + draw.choice([b";\n", b";"]))
        at += size
    assert [(int(row["n"] or b""), row["b"]) for row in values(dump(*written))] == rows


class Dribble(io.RawIOBase):
    """A stream that gives fewer bytes than it is asked for."""

    def __init__(self, data: bytes, seed: int) -> None:
        self._data, self._at, self._draw = data, 0, random.Random(seed)

    def read(self, size: int = -1) -> bytes:
        end = self._at + self._draw.randint(1, 40)
        found, self._at = self._data[self._at : end], min(end, len(self._data))
        return found


@pytest.mark.parametrize("seed", range(20))
def test_rows_are_the_same_however_the_bytes_arrive(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mysqldump, "_FEW", 0)
    monkeypatch.setattr(mysqldump, "_HEAD", 16)
    tuples = [b"(%d,'a\\'),(%d;\\\\')" % (number, number) for number in range(60)]
    document = dump(insert(*tuples[:50]), b"# it's a comment; INSERT\n-- it's\n/* it's */\n", insert(*tuples[50:]))
    found = [row for rows in mysqldump.rows(Dribble(document, seed), "d") for row in pa.table(dict(rows.columns)).to_pylist()]  # type: ignore[arg-type]
    assert found == [{"n": b"%d" % number, "b": b"a'),(%d;\\" % number} for number in range(60)]


def test_usual_tuples_are_read_by_arrays_and_others_by_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the figures of the one would be those of the other."""
    by_token: list[int] = []
    original = mysqldump._values
    monkeypatch.setattr(mysqldump, "_values", lambda raw, kinds: (by_token.append(1), original(raw, kinds))[1])
    monkeypatch.setattr(mysqldump, "_FEW", 0)
    values(dump(insert(rb"(1,'a\n\'),(\\')", b"(-1,NULL)"), b"INSERT INTO `t` VALUES\n(1,_binary 'x'),\n(2,'it''s');\n"))
    assert not by_token
    values(dump(insert(b"(1,0x41)", b"(2,'')")))
    assert len(by_token) == 2


# --- statements


def test_one_table_of_several_is_picked() -> None:
    other = CREATE.replace(b"`t`", b"`u`")
    document = dump(insert(b"(1,'a')"), other, insert(b"(9,'z;)')", table=b"`u`"), insert(b"(2,'b')"))
    assert [row["n"] for row in values(document, "t")] == [b"1", b"2"]
    assert [row["n"] for row in values(document, "u")] == [b"9"]
    assert read(document, "name: n, logicalType: integer", table="u").rows.to_pylist() == [{"n": 9}]
    with pytest.raises(DeliveryRefused, match="holds several tables, t and u among them"):
        values(document)
    with pytest.raises(DeliveryRefused, match="holds the table t and u, not v"):
        values(document, "v")


def test_statements_of_other_kinds_and_comments_are_passed_over() -> None:
    noise = (
        b"SET @x = 'a;b', @y = \"it's;\", @`z;` = 1;\n"
        b"/*!50003 CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW INSERT INTO t VALUES (7,'') */;\n"
        b"LOCK TABLES `t` WRITE;\n"
        b"/*M!999999\\- enable the sandbox mode */;\n/*!40000 ALTER TABLE `t` DISABLE KEYS */;\n--\n-- don't; INSERT INTO\n"
    )
    assert len(values(dump(noise, insert(b"(1,'a')"), b"UNLOCK TABLES;\ncommit;\n"))) == 1


@pytest.mark.parametrize(
    "head",
    [
        b"INSERT INTO `t` (`b`, `n`) VALUES ",
        b"insert ignore into t (b,n) values\n",
        b"REPLACE INTO `wiki`.`t` (`b`,`n`) VALUES",
        b"INSERT INTO t(b,n)VALUES",
    ],
)
@pytest.mark.usefixtures("way")
def test_an_insert_may_list_its_columns(head: bytes) -> None:
    assert values(dump(head + b"('x',1),('y',2);\n")) == [{"b": b"x", "n": b"1"}, {"b": b"y", "n": b"2"}]


def test_a_table_without_rows_gives_none() -> None:
    assert values(dump()) == []


def test_one_row_for_each_statement_and_a_row_of_many_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mysqldump, "_CHUNK", 1000)
    big = b"x\\\\" * 100_000
    document = dump(*(insert(b"(%d,'y')" % number) for number in range(100)), insert(b"(100,'" + big + b"')", b"(101,'')"))
    found = values(document)
    assert [int(row["n"] or b"") for row in found] == list(range(102))
    assert found[100]["b"] == b"x\\" * 100_000


# --- types

TYPES = b"""CREATE TABLE `t` (
  `big` bigint(20) unsigned NOT NULL,
  `flag` tinyint(1) DEFAULT NULL COMMENT 'a, `b` (c); it''s',
  `price` decimal(12,4) DEFAULT NULL,
  `ratio` double DEFAULT NULL,
  `kind` enum('a','b''c') DEFAULT NULL,
  `day` date DEFAULT NULL,
  `at` datetime(6) DEFAULT NULL,
  `touched` binary(14) DEFAULT NULL,
  `bits` bit(10) DEFAULT NULL,
  `raw` varbinary(20) DEFAULT NULL,
  `doc` json DEFAULT NULL,
  PRIMARY KEY (`big`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
"""
COLUMNS = [
    'name: big, logicalType: number, physicalType: "decimal(20,0)"',
    "name: flag, logicalType: boolean",
    'name: price, logicalType: number, physicalType: "decimal(12,4)"',
    "name: ratio, logicalType: number",
    "name: kind, logicalType: string",
    "name: day, logicalType: date",
    "name: at, logicalType: timestamp",
    "name: touched, logicalType: timestamp",
    "name: bits, logicalType: integer",
    "name: raw, logicalType: string, physicalType: binary",
    "name: doc, logicalType: string, physicalType: json",
]


@pytest.mark.usefixtures("way")
def test_every_type_lands_as_the_contract_says() -> None:
    first = rb"""(18446744073709551615,1,'-12345678.1234',0.1,'b\'c','2024-02-29','2024-02-29 01:02:03.000004','20240229010203',"""
    first += rb"""'\0',_binary '\0\\\'','{"a": "\\u00e4"}')"""
    second = b"(0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL)"
    third = b"(1,0,1.5,1e300,'a','0001-01-01','2024-01-01 00:00:00','20240101000000',b'1000000001',0xFF,'[]')"
    block = read(dump(insert(first, second, third), create=TYPES), *COLUMNS)
    assert not block.refused
    rows = [list(row.values()) for row in block.rows.to_pylist()]
    assert rows[0] == [
        Decimal(2**64 - 1),
        True,
        Decimal("-12345678.1234"),
        0.1,
        "b'c",
        date(2024, 2, 29),
        datetime(2024, 2, 29, 1, 2, 3, 4, UTC),
        datetime(2024, 2, 29, 1, 2, 3, tzinfo=UTC),
        0,
        b"\0\\'",
        '{"a":"ä"}',
    ]
    assert rows[1] == [Decimal(0), *[None] * 10]
    assert rows[2][-3:] == [513, b"\xff", "[]"]


@pytest.mark.parametrize(
    ("place", "literal", "reason"),
    [
        (0, b"1.5", "out-of-range"),
        (1, b"2", "type-mismatch"),
        (2, b"1.23456", "out-of-range"),
        (5, b"'0000-00-00'", "unreadable-timestamp"),
        (6, b"'2024-02-30 00:00:00'", "unreadable-timestamp"),
        (7, b"'infinity'", "unreadable-timestamp"),
        (4, b"'\xff'", "unreadable-text"),
        (10, b"'{'", "type-mismatch"),
    ],
)
def test_a_value_that_its_column_cannot_hold_goes_to_quarantine_with_its_row(place: int, literal: bytes, reason: str) -> None:
    nulls = [b"7", *[b"NULL"] * 10]
    bad = [*nulls[:place], literal, *nulls[place + 1 :]]
    tuples = [b"(" + b",".join(row) + b")" for row in (nulls, bad, nulls)]
    block = read(dump(insert(*tuples), create=TYPES), *COLUMNS)
    assert [(one.line, one.reason, one.raw) for one in block.refused] == [(2, reason, tuples[1])]
    assert block.lines.to_pylist() == [1, 3]


@pytest.mark.usefixtures("way")
def test_a_tuple_that_does_not_fit_goes_to_quarantine_with_its_number() -> None:
    tuples = [b"(1,'a')", b"(2)", b"(3,'c','d')", b"(4,'e' 'f')", b"(5,now())", b"(6,'g')", b"()", b"(8,'h')"]
    block = read(dump(insert(*tuples)), "name: n, logicalType: integer, required: true", "name: b, logicalType: string")
    assert block.rows.to_pylist() == [{"n": 1, "b": "a"}, {"n": 6, "b": "g"}, {"n": 8, "b": "h"}]
    assert block.lines.to_pylist() == [1, 6, 8]
    assert [(one.line, one.reason, one.raw) for one in block.refused] == [
        (2, "too-few-fields", tuples[1]),
        (3, "too-many-fields", tuples[2]),
        (4, "unreadable-row", tuples[3]),
        (5, "unreadable-row", tuples[4]),
        (7, "unreadable-row", tuples[6]),
    ]


@pytest.mark.usefixtures("way")
def test_a_number_may_be_hexadecimal_and_bits_are_a_number() -> None:
    create = b"CREATE TABLE `t` (\n  `n` int(11) NOT NULL,\n  `b` bit(10) DEFAULT NULL\n) ENGINE=InnoDB;\n"
    assert values(dump(insert(b"(0x0100,NULL)", rb"(1,'\0')"), create=create)) == [{"n": b"256", "b": None}, {"n": b"1", "b": b"0"}]
    assert values(dump(insert(b"(1,'\x02\x01')", b"(2,NULL)"), create=create)) == [{"n": b"1", "b": b"513"}, {"n": b"2", "b": None}]


TEXTS = b"""CREATE TABLE `t` (
  `s` varchar(20) CHARACTER SET latin1 DEFAULT NULL,
  `b` varbinary(20) DEFAULT NULL
) DEFAULT CHARSET=utf8mb4;
"""


@pytest.mark.parametrize(("declared", "encoding"), [("utf8mb4", "utf-8"), ("latin1", "cp1252"), ("binary", "cp1252"), ("koi8r", "koi8-r")])
def test_texts_are_read_in_the_charset_that_the_dump_declares_and_bytes_are_utf8(declared: str, encoding: str) -> None:
    text = "Привет" if encoding == "koi8-r" else "naïve €"
    document = dump(insert(b"('" + text.encode(encoding) + b"','" + text.encode() + b"')"), create=TEXTS)
    document = document.replace(b"SET NAMES utf8mb4", b"SET NAMES " + declared.encode())
    block = read(document, "name: s, logicalType: string", "name: b, logicalType: string")
    assert block.rows.to_pylist() == [{"s": text, "b": text}]


def test_bytes_in_another_encoding_are_read_by_the_contracts() -> None:
    document = dump(insert(b"('a','\xcf\xf0')"), create=TEXTS)
    block = read(document, "name: b, logicalType: string", encoding="windows-1251")
    assert block.rows.to_pylist() == [{"b": "Пр"}]


def test_an_unknown_charset_is_refused() -> None:
    document = dump(insert(b"('a','')"), create=TEXTS).replace(b"SET NAMES utf8mb4", b"SET NAMES klingon")
    with pytest.raises(DeliveryRefused, match="in the charset klingon"):
        read(document, "name: s, logicalType: string")


def test_columns_that_are_not_in_the_dump() -> None:
    document = dump(insert(b"(1,'a')"))
    both = ("name: N, logicalType: integer", "name: b, logicalType: string")
    block = read(document, *both, "name: later, logicalType: string")
    assert block.rows.to_pylist() == [{"N": 1, "b": "a", "later": None}]
    with pytest.raises(DeliveryRefused, match="has no column bb in its table t"):  # it may be b, misspelt
        read(document, "name: N, logicalType: integer", "name: bb, logicalType: string")
    with pytest.raises(DeliveryRefused, match="has no column later in its table t") as refusal:
        read(document, "name: n, logicalType: integer", "name: later, logicalType: string, required: true")
    assert refusal.value.remedy.endswith("n, b, or remove it.")
    with pytest.raises(DeliveryRefused, match="has no column other"):
        read(document, "name: other, logicalType: string")


# --- deliveries that are no dumps


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (b"", "not-a-dump"),
        (b"-- only a comment\n", "not-a-dump"),
        (b"<mediawiki version='0.11'></mediawiki>", "not-a-dump"),
        (b"a,b,c\n1,2,3\n", "not-a-dump"),
        (b"\x1f\x8b\x08\x00 \xff", "not-a-dump"),
        (dump(b"INSERT INTO `t` SELECT * FROM u;\n"), "dump-malformed"),
        (dump(insert(b"(1,'a')", b"(2,'b')").replace(b"),(", b") and (")), "dump-malformed"),
        (dump(insert(b"(1,'a')"), create=b""), "dump-table"),
        (dump(insert(b"(1,'a')")).replace(DONE, b""), "delivery-truncated"),
        (dump(insert(b"(1,'a')")) + insert(b"(2,'a')"), "delivery-truncated"),
        (CREATE, "delivery-truncated"),
    ],
)
@pytest.mark.usefixtures("way")
def test_what_is_no_dump_is_refused_in_one_sentence(document: bytes, code: str) -> None:
    with pytest.raises(DeliveryRefused) as refusal:
        values(document)
    assert refusal.value.code == code
    assert refusal.value.message.startswith("wiki.dump ")
    assert "\n" not in refusal.value.message
    assert refusal.value.remedy


@pytest.mark.usefixtures("way")
def test_a_dump_cut_anywhere_in_its_rows_is_refused_as_truncated() -> None:
    document = dump(insert(b"(1,'a;\\n')", b"(2,NULL)"), insert(b"(3,'b)')"), b"/*!40000 ALTER TABLE `t` ENABLE KEYS */;\n")
    for end in range(document.index(b"CREATE") + len(CREATE), document.index(b"-- Dump completed") + 3):
        with pytest.raises(DeliveryRefused) as refusal:
            values(document[:end])
        assert refusal.value.code == "delivery-truncated", (end, refusal.value)


def test_a_row_larger_than_any_is_refused_before_it_fills_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mysqldump, "MAX_STATEMENT", 100_000)
    monkeypatch.setattr(mysqldump, "_CHUNK", 10_000)
    with pytest.raises(DeliveryRefused, match="more than 100,000 bytes"):
        values(dump(insert(b"(1,'" + b"x" * 1_000_000 + b"')")))
