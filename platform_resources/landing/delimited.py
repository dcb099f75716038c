"""CSV, TSV and their relatives as a contract's rows: pyarrow parses, here rows get their line numbers and bad lines their place.

A line number is that of the physical line on which a record begins, whatever line breaks stand in quotes before it. What a field's text
means is `text_columns`'s; bytes become text in `compression` and `encoding`.
"""

from __future__ import annotations

import csv
import io
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv

from platform_resources.contracts.model import Contract
from platform_resources.contracts.sources import Dialect
from platform_resources.landing.pulled import Pulled
from platform_resources.landing.source import Block, Delivery, DeliveryRefused, RefusedRecord
from platform_resources.landing.text_columns import TextColumns, has_any

BLOCK_BYTES = 2 << 20
"""Bytes parsed at once; a record is no longer than this. Pyarrow reads up to 32 of them ahead."""


def read(stream: BinaryIO, delivery: Delivery, contract: Contract, dialect: Dialect, delimiter: str) -> Iterator[Block]:
    """The records of a delimited text in blocks.

    Args:
        stream: UTF-8.
        delivery: whose text it is.
        contract: whose columns the header's names must be; without a header fields follow the contract's order.
        dialect: how it is written.
        delimiter: where the dialect says none.

    Raises:
        DeliveryRefused: `file-header`, `file-malformed`.
    """
    used = dialect.delimiter or delimiter
    table = _Text(stream, delivery.name, dialect, used)
    names = _columns(table.header(), contract, delivery.name, used) if dialect.header else [column.name for column in contract.columns]
    columns = TextColumns(contract)
    for fields, numbers, bad in table.records(len(names)):
        given = {name: fields.column(index) for index, name in enumerate(names)}
        block = columns.typed(given, numbers.starts, lambda row, numbers=numbers: table.raw(numbers, row))  # type: ignore[misc]
        yield Block(block.rows, block.lines, sorted([*bad, *block.refused], key=lambda one: one.line or 0))


def _columns(header: Sequence[str], contract: Contract, name: str, delimiter: str) -> list[str]:
    """The contract's column of each field."""
    known = {column.source_name.strip(): column.name for column in contract.columns}
    known = {column.name: column.name for column in contract.columns if column.name not in known} | known
    given = [text.strip() for text in header]
    names = [known.get(text) for text in given]
    faults = []
    if twice := [text for text, count in Counter(names).items() if count > 1 and text is not None]:
        faults.append(f"has {_listed(twice)} more than once")
    if extra := [text for text, column in zip(given, names, strict=True) if column is None]:
        faults.append(f"has {_listed(extra)}, which the contract does not declare")
    missing = [column for column in contract.columns if column.name not in names]
    if needed := [column.source_name for column in missing if column.required or extra]:
        faults.append(f"lacks {_listed(needed)}")
    if faults:
        raise DeliveryRefused(
            "file-header",
            f"The header of {name} {' and '.join(faults)}.{_other_delimiter(given, delimiter)}",
            "Correct the file, or the contract: a column's name in the file stands in its physicalName.",
        )
    return [text for text in names if text is not None]


def _other_delimiter(header: Sequence[str], used: str) -> str:
    """A word about a header that is one field, where another delimiter stands in it."""
    other = max(",;\t|", key=header[0].count) if len(header) == 1 else ""
    if not other or other not in header[0]:
        return ""
    return f" Its fields seem to be parted by {other!r}, the contract's dialect says {used!r}."


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


@dataclass(frozen=True)
class _Numbers:
    """Where each record of a block begins, and over how many lines it goes; `heights` None: one each."""

    starts: pa.Array
    heights: list[int] | None


class _Text:
    """A delimited text, read once from its beginning: first the header, then the records."""

    def __init__(self, stream: BinaryIO, name: str, dialect: Dialect, delimiter: str) -> None:
        self._name, self._dialect, self._delimiter = name, dialect, delimiter
        self._lines = _Lines(stream, dialect.comment)
        for _ in range(dialect.skip):
            self._lines.take()

    def header(self) -> list[str]:
        """The fields of the first record."""
        try:
            found = next((fields for fields in csv.reader(self._texts(), **self._python()) if fields), None)
        except csv.Error as error:
            alone = "new-line character" in str(error)  # Python's word for a CR within a line
            raise self._malformed("its lines end with CR alone" if alone else f"its header is none: {error}") from None
        if found is None:
            raise DeliveryRefused("file-header", f"The file {self._name} is empty.", "Put it there with a header, or say `header: false`.")
        return found

    def records(self, width: int) -> Iterator[tuple[pa.RecordBatch, _Numbers, list[RefusedRecord]]]:
        """Blocks of records with `width` fields each, all text, and the lines between them that are none."""
        bad: deque[pv.InvalidRow] = deque()
        row = 1  # number of the next record, as pyarrow counts; the handler is called while blocks are read ahead

        def keep(invalid: pv.InvalidRow) -> str:
            bad.append(invalid)
            return "skip"

        empty = pa.record_batch([pa.array([], pa.string())] * width, names=[str(index) for index in range(width)])
        for batch in chain(self._parsed(width, keep), [None]):
            fields = empty if batch is None else batch
            between: list[tuple[int, pv.InvalidRow]] = []  # behind how many of the block's records
            while bad and (batch is None or bad[0].number - row - len(between) <= fields.num_rows):
                invalid = bad.popleft()
                between.append((fields.num_rows if batch is None else invalid.number - row - len(between), invalid))
            row += fields.num_rows + len(between)
            numbers, places = self._numbered(fields, between)
            refused = [self._refused(invalid, line, width) for (_, invalid), line in zip(between, places, strict=True)]
            fields, numbers = self._without_blanks(fields, numbers)
            if fields.num_rows or refused:
                yield fields, numbers, [one for one in refused if one is not None]
            self._lines.forget()
        self._check_end(width)

    def raw(self, numbers: _Numbers, row: int) -> bytes:
        """What stands at a record of the block that was given last."""
        return self._lines.text(numbers.starts[row].as_py(), 1 if numbers.heights is None else numbers.heights[row])

    def _parsed(self, width: int, keep: Callable[[pv.InvalidRow], str]) -> Iterator[pa.RecordBatch]:
        try:
            yield from pv.open_csv(self._lines, **self._options(width, keep))
        except pa.ArrowInvalid as error:
            if "Empty CSV" in str(error):
                return
            at = f"behind line {self._lines.current - 1}, "
            reason = f"a record is longer than {BLOCK_BYTES >> 20} MiB, or a quote is never closed"
            raise self._malformed(at + (reason if "straddl" in str(error) else str(error))) from None

    def _malformed(self, reason: str) -> DeliveryRefused:
        return DeliveryRefused(
            "file-malformed", f"The file {self._name} cannot be read: {reason}.", "Correct the file, or `dialect` in the contract."
        )

    def _options(self, width: int, keep: Callable[[pv.InvalidRow], str]) -> dict[str, Any]:
        dialect, names = self._dialect, [str(index) for index in range(width)]
        return {
            "read_options": pv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES, column_names=names),
            "parse_options": pv.ParseOptions(
                delimiter=self._delimiter,
                quote_char=dialect.quote or False,
                double_quote=dialect.quote is not None,
                escape_char=dialect.escape or False,
                newlines_in_values=self._breaks,
                ignore_empty_lines=False,
                invalid_row_handler=keep,
            ),
            "convert_options": pv.ConvertOptions(
                check_utf8=False,
                column_types=dict.fromkeys(names, pa.string()),
                null_values=list(dialect.null),
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        }

    @property
    def _breaks(self) -> bool:
        """Whether a value may hold a line break; not beside comments, which are told by how a line begins."""
        return (self._dialect.quote is not None or self._dialect.escape is not None) and self._dialect.comment is None

    def _numbered(self, fields: pa.RecordBatch, between: list[tuple[int, pv.InvalidRow]]) -> tuple[_Numbers, list[int]]:
        """Lines of the block's records and of the bad ones between them; the count goes on behind both."""
        heights = self._heights(fields)
        lines, start, rows = self._lines, self._lines.current, fields.num_rows
        if heights is None and not between:
            lines.begin, lines.current = (start + rows - 1 if rows else lines.begin), start + rows
            return _Numbers(pa.array(np.arange(start, start + rows)), None), []
        tall = heights or [1] * rows
        together, is_bad, at = list[int](), list[bool](), 0
        for behind, invalid in between:
            together += [*tall[at:behind], 1 + _breaks_in(invalid.text)]
            is_bad += [False] * (behind - at) + [True]
            at = behind
        together += tall[at:]
        is_bad += [False] * (rows - at)
        *starts, lines.current = accumulate(together, initial=start)
        lines.begin = starts[-1] if starts else lines.begin
        good = [line for line, bad in zip(starts, is_bad, strict=True) if not bad]
        return _Numbers(pa.array(good, pa.int64()), heights), [line for line, bad in zip(starts, is_bad, strict=True) if bad]

    def _heights(self, fields: pa.RecordBatch) -> list[int] | None:
        """Lines that each record goes over; None when each has one."""
        if not self._breaks:
            return None
        total = None
        for column in fields.columns:
            if not has_any(column, b"\r\n"):
                continue
            crs, lfs, both = (pc.count_substring(column, ending) for ending in ("\r", "\n", "\r\n"))
            breaks = pc.fill_null(pc.subtract(pc.add(crs, lfs), both), 0)
            total = breaks if total is None else pc.add(total, breaks)
        return None if total is None else [1 + breaks for breaks in total.to_pylist()]

    def _without_blanks(self, fields: pa.RecordBatch, numbers: _Numbers) -> tuple[pa.RecordBatch, _Numbers]:
        """The block without its blank lines, which pyarrow gives as records of empty fields, so that it can be counted on."""
        blank = pa.array([True] * fields.num_rows, pa.bool_())
        for column in fields.columns:
            blank = pc.and_(blank, pc.fill_null(pc.equal(column, ""), True))
            if not pc.any(blank).as_py():
                return fields, numbers
        gone = {row for row in pc.indices_nonzero(blank).to_pylist() if not self.raw(numbers, row)}
        keep = pa.array([row not in gone for row in range(fields.num_rows)], pa.bool_())
        heights = None if numbers.heights is None else [height for row, height in enumerate(numbers.heights) if row not in gone]
        return fields.filter(keep), _Numbers(numbers.starts.filter(keep), heights)

    @staticmethod
    def _refused(invalid: pv.InvalidRow, line: int, width: int) -> RefusedRecord | None:
        if not invalid.text.strip("\r\n"):
            return None
        reason = "too-few-fields" if invalid.actual_columns < width else "too-many-fields"
        detail = f"has {invalid.actual_columns} fields instead of {width}"
        return RefusedRecord(line, invalid.text.encode("utf-8", "surrogateescape"), reason, "", detail)

    def _check_end(self, width: int) -> None:
        """Refuse a file whose last quote is never closed: one more record would then become part of its last."""
        last = self._lines.last()
        if self._dialect.quote is None or self._dialect.quote.encode() not in last:
            return
        found: list[pv.InvalidRow] = []
        more = last.rstrip(b"\r\n") + b"\n" + self._delimiter.encode().join([b"x"] * width) + b"\n"
        options = self._options(width, lambda invalid: found.append(invalid) or "skip")  # type: ignore[func-returns-value]
        if pv.open_csv(io.BytesIO(more), **options).read_all().num_rows + len(found) < 2:
            raise self._malformed(f"the quote on or behind line {self._lines.begin} is never closed")

    def _texts(self) -> Iterator[str]:
        while line := self._lines.take():
            yield line.decode()

    def _python(self) -> dict[str, Any]:
        """The dialect in the words of Python's csv."""
        dialect = self._dialect
        quoting = csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE
        return {"delimiter": self._delimiter, "quotechar": dialect.quote or '"', "quoting": quoting, "escapechar": dialect.escape}


def _breaks_in(text: str) -> int:
    return text.count("\n") + text.count("\r") - text.count("\r\n")


class _Lines(Pulled):
    """A text in lines counted from 1: taken one by one at first, then read by pyarrow, with what was read kept while it may be asked for.

    `current` is the line on which the next record begins, `begin` that of the last one: the owner counts.
    """

    def __init__(self, stream: BinaryIO, comment: str | None) -> None:
        super().__init__()
        self._stream = stream if comment is None else io.BufferedReader(_Uncommented(stream, comment), 1 << 20)
        self._kept: deque[tuple[int, bytes]] = deque()  # each with the line on which it begins, or goes on
        self._next, self._ends_in_cr = 1, False
        self.current = self.begin = 1

    def take(self) -> bytes:
        """The next line with its end, no more than a block; empty at the end of the text."""
        line = self._stream.readline(BLOCK_BYTES)
        self._next, self.current = self._next + 1, self.current + 1
        return line

    def read(self, size: int = -1) -> bytes:
        """The next bytes: the very object that is kept, which Arrow then shares."""
        return self.pull(size)

    def pull(self, size: int) -> bytes:
        """The next bytes, kept."""
        data = self._stream.read(size)
        if data:
            begins = self._next - (self._ends_in_cr and data.startswith(b"\n"))  # CR and LF of one end came apart
            self._kept.append((begins, data))
            self._next, self._ends_in_cr = begins + _ends_in(data), data.endswith(b"\r")
        return data

    def text(self, line: int, height: int | None = None) -> bytes:
        """What stands on that line and those after it, without the last end; `height` None: all to the end of what was read."""
        at = max((index for index, (first, _) in enumerate(self._kept) if first <= line), default=0)
        while at and self._kept[at][0] == line:  # the line began in the chunk before
            at -= 1
        found, first = [], None
        for begins, data in list(self._kept)[at:]:
            first = begins if first is None else first
            found.append(data)
            if height is not None and begins + _ends_in(data) > line + height:
                break
        if first is None:
            return b""
        lines = _split(b"".join(found))
        wanted = lines[line - first : None if height is None else line - first + height]
        return b"".join(wanted).rstrip(b"\r\n") if height is not None else b"".join(wanted)

    def last(self) -> bytes:
        """The last record."""
        return self.text(self.begin)

    def forget(self) -> None:
        """Let go of what lies before the last record."""
        while len(self._kept) > 1 and self._kept[1][0] < self.begin:
            self._kept.popleft()


class _Uncommented(Pulled):
    """A text with blank lines in place of its comments, so that the count of lines stays."""

    def __init__(self, stream: BinaryIO, comment: str) -> None:
        super().__init__()
        self._stream, self._comment = stream, comment.encode()

    def pull(self, size: int) -> bytes:
        return b"".join(map(self._blanked, self._stream.readlines(size)))

    def _blanked(self, line: bytes) -> bytes:
        return line[len(line.rstrip(b"\r\n")) :] if line.startswith(self._comment) else line


def _ends_in(data: bytes) -> int:
    """Line ends: LF, CR LF, or CR alone."""
    return data.count(b"\n") + ((data.count(b"\r") - data.count(b"\r\n")) if b"\r" in data else 0)


def _split(data: bytes) -> list[bytes]:
    return data.splitlines(keepends=True)
