"""Rows as MariaDB and MySQL send them, many at once into Arrow columns of bytes.

PyMySQL makes a Python object of every value, which takes ten times as long as reading it. The form is the protocol's text result row: each
value its length as an integer of 1, 3, 4 or 9 bytes and its text, null the byte 0xFB. Errors and connections stay PyMySQL's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa

_BATCH_BYTES, _BATCH_ROWS = 2 << 20, 1 << 16
_LARGEST_PACKET = 0xFFFFFF
_LONG = 64  # bytes of an average value from which slicing is faster than gathering
_NULL, _EOF, _ERROR = 0xFB, 0xFE, 0xFF
_LENGTHS = ((0xFC, 2), (0xFD, 3), (0xFE, 8))


def batches(read: Callable[[int], bytes], names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The rows of a result set whose columns were read already, in batches of some 2 MB.

    Args:
        read: so many bytes from the connection; fewer where it broke off.
        names: of the columns.

    Raises:
        pymysql.err.MySQLError: the server ended the result with an error, or the connection was lost.
    """
    going = True
    while going:
        rows, size = list[bytes](), 0
        while size < _BATCH_BYTES and len(rows) < _BATCH_ROWS:
            row = _packet(read)
            if row[0] == _EOF and len(row) < 9:
                going = False
                break
            if row[0] == _ERROR:
                _fail(row)
            rows.append(row)
            size += len(row)
        if rows:
            yield _columns(rows, names)


def _packet(read: Callable[[int], bytes]) -> bytes:
    """The payload of a packet, and of those that continue it."""
    parts = []
    while True:
        head = _all(read, 4)
        length = head[0] | head[1] << 8 | head[2] << 16
        parts.append(_all(read, length))
        if length < _LARGEST_PACKET:
            return parts[0] if len(parts) == 1 else b"".join(parts)


def _all(read: Callable[[int], bytes], count: int) -> bytes:
    data = read(count)
    if len(data) < count:
        from pymysql import err

        raise err.OperationalError(2013, "the connection was lost while rows came")
    return data


def _fail(packet: bytes) -> None:
    from pymysql import err

    err.raise_mysql_exception(packet)


def _columns(rows: list[bytes], names: Sequence[str]) -> pa.RecordBatch:
    """The values column by column; `at` is where each row's next value begins."""
    joined, count = b"".join(rows), len(rows)
    text = np.frombuffer(joined, np.uint8)
    at = np.concatenate(([0], np.cumsum([len(row) for row in rows])[:-1])).astype(np.int64)
    arrays = []
    for _ in names:
        lead = text[at]
        null, length, skip = lead == _NULL, lead.astype(np.int64), np.ones(count, np.int64)
        length[null] = 0
        for kind, width in _LENGTHS:
            of_kind = np.flatnonzero(lead == kind)
            if len(of_kind):
                length[of_kind] = sum(text[at[of_kind] + 1 + byte].astype(np.int64) << (8 * byte) for byte in range(width))
                skip[of_kind] += width
        begin = at + skip
        at = begin + length
        offsets = np.zeros(count + 1, np.int64)
        np.cumsum(length, out=offsets[1:])
        if offsets[-1] > _LONG * count:
            values = b"".join([joined[start:end] for start, end in zip(begin.tolist(), at.tolist(), strict=True)])
        else:
            values = text[np.repeat(begin - offsets[:-1], length) + np.arange(offsets[-1])].tobytes()
        validity = pa.py_buffer(np.packbits(~null, bitorder="little").tobytes()) if null.any() else None
        buffers = [validity, pa.py_buffer(offsets.tobytes()), pa.py_buffer(values)]
        arrays.append(pa.Array.from_buffers(pa.large_binary(), count, buffers))
    return pa.record_batch([array.cast(pa.binary()) for array in arrays], names=list(names))
