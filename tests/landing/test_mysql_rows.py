"""Rows off the wire of a MySQL server, however long or null their values are and wherever packets are cut."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import pymysql
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_resources.landing import mysql_rows

Row = tuple[bytes | None, ...]
EOF_PACKET = b"\xfe\x00\x00\x02\x00"


def value(data: bytes | None) -> bytes:
    if data is None:
        return b"\xfb"
    size = len(data)
    if size < 0xFB:
        return bytes([size]) + data
    for lead, width in ((0xFC, 2), (0xFD, 3), (0xFE, 8)):
        if size < 1 << (8 * width):
            return bytes([lead]) + size.to_bytes(width, "little") + data
    raise AssertionError


def packets(payloads: Sequence[bytes]) -> bytes:
    sent, number = [], 0
    for payload in payloads:
        rest: bytes | None = payload
        while rest is not None:
            part = rest[:0xFFFFFF]
            rest = rest[0xFFFFFF:] if len(part) == 0xFFFFFF else None
            sent.append(len(part).to_bytes(3, "little") + bytes([number % 256]) + part)
            number += 1
    return b"".join(sent)


def read(sent: bytes, columns: int) -> list[Row]:
    names = [f"c{number}" for number in range(columns)]
    stream: Callable[[int], bytes] = io.BytesIO(sent).read
    return [tuple(row.values()) for batch in mysql_rows.batches(stream, names) for row in batch.to_pylist()]


def sent_rows(rows: Sequence[Row]) -> list[bytes]:
    return [b"".join(map(value, row)) for row in rows]


VALUES = (
    st.none() | st.binary(max_size=5) | st.sampled_from([b"", b"x" * 250, b"y" * 251, b"z" * 65_535, b"w" * 65_536, b"\xfe" * 9, b"\xff"])
)


@given(rows=st.integers(1, 4).flatmap(lambda width: st.lists(st.tuples(*[VALUES] * width), min_size=1, max_size=20)))
def test_rows_are_what_was_sent(rows: list[Row]) -> None:
    assert read(packets([*sent_rows(rows), EOF_PACKET]), len(rows[0])) == rows


def test_a_row_longer_than_a_packet_and_one_that_fills_it_exactly() -> None:
    rows: list[Row] = [(b"a" * 20_000_000, b"b"), (b"c" * (0xFFFFFF - 6), b"d"), (None, None)]
    assert len(sent_rows(rows)[1]) == 0xFFFFFF
    assert read(packets([*sent_rows(rows), EOF_PACKET]), 2) == rows


def test_batches_are_bounded() -> None:
    rows: list[Row] = [(b"x" * 1000,)] * 10_000
    found = list(mysql_rows.batches(io.BytesIO(packets([*sent_rows(rows), EOF_PACKET])).read, ["c"]))
    assert sum(batch.num_rows for batch in found) == 10_000 and max(batch.nbytes for batch in found) < 3 << 20


@pytest.mark.parametrize("cut", [0, 2, 4, 7])
def test_a_connection_that_breaks_off_is_no_end(cut: int) -> None:
    sent = packets([*sent_rows([(b"abc",), (b"def",)]), EOF_PACKET])
    with pytest.raises(pymysql.err.OperationalError) as caught:
        read(sent[: -len(EOF_PACKET) - 4 - cut], 1)
    assert caught.value.args[0] == 2013


def test_an_error_among_the_rows_is_told() -> None:
    error = b"\xff" + (1969).to_bytes(2, "little") + b"#70100Query execution was interrupted (max_statement_time exceeded)"
    with pytest.raises(pymysql.err.MySQLError) as caught:
        read(packets([*sent_rows([(b"abc",)]), error]), 1)
    assert caught.value.args[0] == 1969
