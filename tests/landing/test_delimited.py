"""Delimited text: every row with its line, every bad line told, whatever the dialect, held against Python's csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pyiceberg.types import LongType, StringType

from platform_resources.contracts.model import Column, Contract
from platform_resources.contracts.sources import Dialect
from platform_resources.landing import delimited
from platform_resources.landing.encoding import as_utf8
from platform_resources.landing.source import Block, Delivery, DeliveryRefused


def contract(*columns: Column) -> Contract:
    return Contract("shop", "drop", Path("drop.yaml"), "1.0.0", "active", "", columns)


def texts(*names: str) -> Contract:
    return contract(*(Column(name, StringType()) for name in names))


PLAIN = Dialect()
AB = contract(Column("a", LongType()), Column("b", StringType()))


def blocks(text: str | bytes, to: Contract = AB, dialect: Dialect = PLAIN, delimiter: str = ",", encoding: str = "utf-8") -> list[Block]:
    data = text.encode() if isinstance(text, str) else text
    stream = as_utf8(io.BytesIO(data), encoding, "a.csv")  # type: ignore[arg-type]
    return list(delimited.read(stream, Delivery("a.csv", "0"), to, dialect, delimiter))


def landed(given: Sequence[Block]) -> list[tuple[Any, ...]]:
    """Rows with their line in front."""
    return [(line, *row.values()) for block in given for line, row in zip(block.lines.to_pylist(), block.rows.to_pylist(), strict=True)]


def refused(given: Sequence[Block]) -> list[tuple[int | None, str, str | None]]:
    return [(one.line, one.reason, None if one.raw is None else one.raw.decode()) for block in given for one in block.refused]


def test_fields_go_to_the_columns_that_the_header_names() -> None:
    to = contract(Column("a", LongType()), Column("b", StringType(), physical_name="The B"))
    assert landed(blocks("The B,a\nx,1\ny,2\n", to)) == [(2, 1, "x"), (3, 2, "y")]
    assert landed(blocks("b,a\nx,1", to)) == [(2, 1, "x")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,c\n1,2\n", "has 'c', which the contract does not declare and lacks 'b'"),
        ("a,b,a\n1,2,3\n", "has 'a' more than once"),
        ("a,b,\n1,2,3\n", "has ''"),
        ("", "is empty"),
        ("\n\n", "is empty"),
    ],
)
def test_a_header_that_is_not_the_contracts_refuses_the_file(text: str, says: str) -> None:
    with pytest.raises(DeliveryRefused) as error:
        blocks(text)
    assert error.value.code == "file-header"
    assert says in error.value.message


def test_a_column_may_be_missing_only_where_it_may_be_null() -> None:
    assert landed(blocks("a\n1\n")) == [(2, 1, None)]
    with pytest.raises(DeliveryRefused, match="lacks 'b'"):
        blocks("a\n1\n", contract(Column("a", LongType()), Column("b", StringType(), required=True)))


def test_bad_lines_are_told_by_number_and_text_and_move_no_other() -> None:
    found = blocks('a,b\n1,"x\ny"\n2\n3,z,\n\n"q\nr"\nnope,w\n4,end\n')
    assert landed(found) == [(2, 1, "x\ny"), (10, 4, "end")]
    assert refused(found) == [
        (4, "too-few-fields", "2"),
        (5, "too-many-fields", "3,z,"),
        (7, "too-few-fields", '"q\nr"'),
        (9, "type-mismatch", "nope,w"),
    ]


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_lines_count_whatever_ends_them(ends: str) -> None:
    found = blocks(ends.join(["1,x", '2,"a' + ends + 'b"', "bad,y", "", "3,z", "4"]) + ends, dialect=Dialect(header=False))
    assert landed(found) == [(1, 1, "x"), (2, 2, f"a{ends}b"), (6, 3, "z")]
    assert refused(found) == [(4, "type-mismatch", "bad,y"), (7, "too-few-fields", "4")]


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_bad_lines_are_found_wherever_pieces_of_the_file_end(ends: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"{n},x" if n % 3 else f"bad{n},x" for n in range(60)]
    for size in range(20, 40):
        monkeypatch.setattr(delimited, "BLOCK_BYTES", size)
        found = blocks(ends.join(lines) + ends, dialect=Dialect(header=False))
        assert [(line, raw) for line, _, raw in refused(found)] == [(n + 1, f"bad{n},x") for n in range(0, 60, 3)]


def test_a_line_of_empty_fields_is_a_row_and_a_blank_line_is_none() -> None:
    assert landed(blocks("a,b\n,\n\n1,\n")) == [(2, None, None), (4, 1, None)]


def test_an_empty_text_in_quotes_is_a_text_and_a_token_in_quotes_too() -> None:
    dialect = Dialect(null=("", "NULL"))
    assert landed(blocks('a,b\n1,\n2,""\n3,NULL\n4,"NULL"\n', dialect=dialect)) == [(2, 1, None), (3, 2, ""), (4, 3, None), (5, 4, "NULL")]


def test_lines_before_the_header_and_comments_are_passed_over() -> None:
    text = "written by hand\n# one\na;b\n1;x\n# two\n2;#y\nbad;z\n"
    found = blocks(text, dialect=Dialect(skip=1, comment="#", delimiter=";"))
    assert landed(found) == [(4, 1, "x"), (6, 2, "#y")]
    assert refused(found) == [(7, "type-mismatch", "bad;z")]


@pytest.mark.parametrize("text", ['a,b\n1,"x\n2,y\n', 'a,b\n1,x\n2,"', 'a,b\n1,"x"""\n2\n3,"', 'a,b\n"1\n2\n3'])
def test_a_quote_that_is_never_closed_refuses_the_file(text: str) -> None:
    with pytest.raises(DeliveryRefused, match="never closed"):
        blocks(text)


@pytest.mark.parametrize("text", ['a,b\n1,"x"', 'a,b\n1,"x""y"\n', 'a,b\n1,x"y\n', 'a,b\n1,"x\ny"\n\n'])
def test_a_last_quote_that_is_closed_refuses_nothing(text: str) -> None:
    assert len(landed(blocks(text))) == 1


def test_a_record_longer_than_a_block_refuses_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 1 << 10)
    rows = "".join(f"{n},x\n" for n in range(1000))
    with pytest.raises(DeliveryRefused, match=r"behind line \d+, a record is longer"):
        blocks(f"a,b\n{rows}1,{'x' * 5000}\n")


def test_bytes_that_are_no_text_refuse_the_file_by_line_and_byte() -> None:
    with pytest.raises(DeliveryRefused, match=r"not utf-8 text: line 3, byte 11 of its content \(0xff\)"):
        blocks(b"a,b\n1,x\n2,\xff\n")
    with pytest.raises(DeliveryRefused, match="not utf-8 text: line 2, byte 7 "):
        blocks("a,b\n1,é".encode()[:-1])
    big = b"a,b\n" + b"1,x\n" * 600_000  # more than one piece
    with pytest.raises(DeliveryRefused, match=f"line 600002, byte {len(big) + 3} "):
        blocks(big + b"2,\xe9\n")


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-16-le", "cp1252", "utf-8-sig"])
def test_a_declared_encoding_is_read(encoding: str) -> None:
    text = "a,b\n" + "1,é“\n".replace("“", "" if encoding == "latin-1" else "“") * 3
    assert landed(blocks(text.encode(encoding), encoding=encoding)) == [(n, 1, text[6:].split("\n")[0]) for n in (2, 3, 4)]


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8) | st.text("\",;\n\r\t \\'a#", max_size=6)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[list[str]], dict[str, Any], Dialect]:
    width = draw(st.integers(1, 4))
    rows = draw(st.lists(st.lists(CELLS, min_size=width, max_size=width), min_size=1, max_size=12))
    delimiter = draw(st.sampled_from(",;\t|"))
    quote = draw(st.sampled_from("\"'"))
    escaped = draw(st.booleans())
    how = {"delimiter": delimiter, "quotechar": quote, "lineterminator": draw(st.sampled_from(["\n", "\r\n"])), "quoting": csv.QUOTE_ALL}
    if escaped:
        how |= {"escapechar": "\\", "doublequote": draw(st.booleans())}
    return rows, how, Dialect(delimiter=delimiter, quote=quote, escape="\\" if escaped else None, null=())


@settings(deadline=None)
@given(tables(), st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]), st.integers(64, 4096))
def test_what_python_writes_in_any_dialect_comes_back(
    made: tuple[list[list[str]], dict[str, Any], Dialect], quoting: int, block: int
) -> None:
    rows, how, dialect = made
    names = [f"c{index}" for index in range(len(rows[0]))]
    out = io.StringIO(newline="")
    writer = csv.writer(out, **{**how, "quoting": quoting})
    writer.writerows([names, *rows])
    text = out.getvalue()
    reader, expected, before = csv.reader(io.StringIO(text, newline=""), **how), list[tuple[Any, ...]](), 0
    for fields in reader:
        expected.append((before + 1, *fields))
        before = reader.line_num
    assume([list(row[1:]) for row in expected[1:]] == rows)  # Python writes a lone CR without quotes, and cannot read it back
    longest = max(len(line.encode()) for line in csv_records(text, how))
    assume(longest * 2 < block)
    usual, delimited.BLOCK_BYTES = delimited.BLOCK_BYTES, block
    try:
        found = blocks(text, texts(*names), dialect)
    finally:
        delimited.BLOCK_BYTES = usual
    assert landed(found) == expected[1:]
    assert not refused(found)


def csv_records(text: str, how: dict[str, Any]) -> list[str]:
    """The records' own texts, to know the longest."""
    lines, reader, before, records = text.splitlines(keepends=True), csv.reader(io.StringIO(text, newline=""), **how), 0, []
    lines = io.StringIO(text, newline="").readlines()
    for _ in reader:
        records.append("".join(lines[before : reader.line_num]))
        before = reader.line_num
    return records


def test_every_real_file_reads_as_pythons_csv_reads_it(realdata: Path) -> None:
    """Rows, their lines, and the lines with too few or too many fields, of some ninety files that nobody wrote for this."""
    paths = sorted(path for path in realdata.rglob("*.[ct]sv"))
    assert len(paths) > 80
    for path in paths:
        delimiter, data = "\t" if path.suffix == ".tsv" else ",", path.read_bytes()
        rows, before = list[tuple[Any, ...]](), 0
        reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), delimiter=delimiter)
        for fields in reader:
            rows.append((before + 1, *fields))
            before = reader.line_num
        rows = [row for row in rows if len(row) > 1]
        names = [f"c{index}" for index in range(len(rows[0]) - 1)]
        found = blocks(data, texts(*names), Dialect(header=False, null=()), delimiter)
        assert landed(found) == [row for row in rows if len(row) == len(names) + 1], path
        assert [line for line, _, _ in refused(found)] == [row[0] for row in rows if len(row) != len(names) + 1], path
