"""mysqldump's files, read as a stream of rows without a server: statements, the columns of a CREATE TABLE, the values of INSERTs.

Only the format lives here; how rows become a contract's is `sql_dump`'s. Values are bytes as the server would store them, numbers the
text of the literal, NULL is null. Megabytes of tuples are found, and turned into columns, at once: NumPy marks what stands inside of
quotes, and the tuples, made CSV in place, go through Arrow's reader. What is not written as mysqldump writes it is read token by token.
https://dev.mysql.com/doc/refman/8.4/en/mysqldump.html, https://dev.mysql.com/doc/refman/8.4/en/string-literals.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import csv

from platform_resources.landing.source import DeliveryRefused

MAX_STATEMENT = 64 * 1024 * 1024
"""Bytes of one row, or of a statement without rows: four times what a server of Wikimedia's takes as a packet."""

_CHUNK = 1 << 20
_HEAD = 4096  # bytes in which a comment or the head of a statement usually ends
_FEW = 4096  # bytes of tuples below which the fixed costs of arrays are more than reading token by token
_NAME = rb"(?:`(?:[^`]|``)+`|[\w$]+)"
_SPACE = re.compile(rb"[\s;]*+")
_LINE_COMMENT = re.compile(rb"(?:--[^\S\n]|--\n|#)[^\n]*+\n")
_LINE_COMMENT_AT_END = re.compile(rb"(?:--|#)[^\n]*+\Z")
_COMPLETED = re.compile(rb"-- Dump completed")
_NAMES = re.compile(rb"SET\s+NAMES\s+'?(\w+)", re.IGNORECASE)
_INSERT = re.compile(
    rb"(?:INSERT|REPLACE)\s+(?:(?:LOW_PRIORITY|DELAYED|HIGH_PRIORITY|IGNORE)\s+)*(?:INTO\s+)?"
    rb"(?:" + _NAME + rb"\s*\.\s*)?(?P<table>" + _NAME + rb")\s*(?:\((?P<columns>[^()]*)\)\s*)?VALUES?\s*(?=\()",
    re.IGNORECASE,
)
_INSERT_WORD = re.compile(rb"(?:INSERT|REPLACE)\b", re.IGNORECASE)
_CREATE = re.compile(
    rb"CREATE\s+(?:TEMPORARY\s+)?TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?(?:" + _NAME + rb"\s*\.\s*)?(?P<table>" + _NAME + rb")\s*\(",
    re.IGNORECASE,
)
_STATEMENT = re.compile(
    rb"(?:[^;'\"`/]++|'[^'\\]*+(?:(?:\\.|'')[^'\\]*+)*+'|\"[^\"\\]*+(?:(?:\\.|\"\")[^\"\\]*+)*+\"|`[^`]*+`|/\*.*?\*/|/)*+;", re.DOTALL
)
_KEYWORD = re.compile(
    rb"(?:ALTER|BEGIN|CHANGE|COMMIT|CREATE|DELIMITER|DROP|FLUSH|GRANT|LOCK|ROLLBACK|SAVEPOINT|SET|START|TRUNCATE|UNLOCK|USE)\b",
    re.IGNORECASE,
)
_COLUMN = re.compile(rb"\s*(?P<name>`(?:[^`]|``)+`)\s+(?P<kind>\w+)\s*(?:\([^)]*\))?(?P<more>[^\n]*)")
_CHARSET = re.compile(rb"(?:CHARACTER SET|CHARSET)\s*=?\s*(\w+)", re.IGNORECASE)

_TOKEN = re.compile(
    rb"\s*+(?:[xX]'(?P<quoted_hex>[0-9a-fA-F]*+)'|0x(?P<hex>[0-9a-fA-F]++)|[bB]'(?P<bits>[01]*+)'"
    rb"|(?:(?:_\w++|[nN])\s*+)?'(?P<text>[^'\\]*+(?:(?:\\.|'')[^'\\]*+)*+)'|(?P<bare>[^\s,'()]++))\s*+(?P<end>,|\Z)",
    re.DOTALL,
)
_ESCAPED = re.compile(rb"\\(.)|''", re.DOTALL)
_ESCAPES = {b"0": b"\0", b"b": b"\b", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"Z": b"\x1a", b"%": b"\\%", b"_": b"\\_"}
_BINARY_PREFIX = re.compile(rb"(?<=[,(])_binary (?=')")
_SEPARATOR = re.compile(rb"\)\s*,\s*(?=\()")
_BETWEEN = re.compile(rb"\)\s*,\s*")

_ESCAPE_BYTES = np.arange(256, dtype=np.uint8)
for _letter, _byte in zip(b"0bnrtZ", b"\0\b\n\r\t\x1a", strict=True):
    _ESCAPE_BYTES[_letter] = _byte
_PLAIN = np.zeros(256, dtype=bool)  # what mysqldump writes outside of quotes
_PLAIN[list(b"0123456789+-.eENUL,()'\n")] = True
_QUOTE, _BACKSLASH, _OPEN, _CLOSE, _COMMA, _SEMICOLON, _NEWLINE, _RETURN = b"'\\(),;\n\r"
_NUMBERS = frozenset(
    ("tinyint", "smallint", "mediumint", "int", "integer", "bigint", "decimal", "numeric", "float", "double", "real", "year")
)
_TEXTS = frozenset(("char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set"))

Bytes: TypeAlias = npt.NDArray[np.uint8]
Places: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SqlColumn:
    """A column as CREATE TABLE has it: `kind` is the type's first word in lower case, `charset` that of a text's storage."""

    name: str
    kind: str
    charset: str | None = None

    @property
    def is_text(self) -> bool:
        """Whether its bytes are characters of a charset, not binary."""
        return self.kind in _TEXTS


@dataclass(frozen=True)
class SqlTable:
    """A table with its columns in order."""

    name: str
    columns: tuple[SqlColumn, ...]


@dataclass(frozen=True)
class BadRow:
    """A tuple that is no row of its table: its number in the table from 1, its bytes, a stable reason and one sentence."""

    number: int
    raw: bytes
    reason: str
    detail: str


@dataclass(frozen=True)
class Rows:
    """Consecutive rows of one table: its columns as binary arrays, by name, and the number of each row in the table from 1.

    `charset` is the one that the dump declares for its texts (SET NAMES). `raw` gives a row's tuple by its index.
    """

    table: SqlTable
    columns: Mapping[str, pa.Array]
    numbers: Places
    bad: Sequence[BadRow]
    charset: str
    raw: Callable[[int], bytes]


def rows(
    stream: BinaryIO, name: str, table: str | None = None, wanted: Callable[[SqlTable], Sequence[str]] | None = None
) -> Iterator[Rows]:
    """The rows of one table of a dump, in its order.

    Args:
        stream: decompressed bytes.
        name: what the sentences call the dump.
        table: which table; None where the dump has but one.
        wanted: the columns to give, asked once the table is known; all without it.

    Raises:
        DeliveryRefused: it is no dump, has not the table or has several, or ends too soon. What was given before is not to be trusted.
    """
    yield from _Dump(stream, name, table, wanted).rows()


class _Dump:
    """The statements of a dump in their order, over a buffer that holds at most a chunk and one row or statement."""

    def __init__(self, stream: BinaryIO, name: str, table: str | None, wanted: Callable[[SqlTable], Sequence[str]] | None) -> None:
        self._stream, self._name, self._wanted_table, self._wanted = stream, name, table, wanted
        self._data = b""
        self._at = 0
        self._ended = False
        self._completed = False
        self._charset = "utf8mb4"
        self._tables: dict[str, SqlTable] = {}
        self._seen: list[str] = []
        self._number = 0

    def rows(self) -> Iterator[Rows]:
        while self._next():
            if (found := _INSERT.match(self._data, self._at)) is not None:
                yield from self._insert(found)
            elif _INSERT_WORD.match(self._data, self._at):
                self._longer_insert()
            else:
                self._statement()
        if not self._seen:
            raise self._refused("not-a-dump", "holds no table", "Give a dump that mysqldump made, or change the contract's `source`.")
        if not self._completed:
            raise self._truncated("its line `-- Dump completed`")
        if self._wanted_table is not None and self._wanted_table not in self._seen:
            raise self._refused(
                "dump-table",
                f"holds the table {' and '.join(self._seen)}, not {self._wanted_table}",
                "Set the server's custom property table to one that is there.",
            )

    def _more(self) -> bool:
        """Read on behind what is there; False at the end. A buffer that keeps growing is read in ever larger pieces."""
        if self._ended:
            return False
        kept = self._data[self._at :]
        if len(kept) > MAX_STATEMENT:
            raise self._refused("too-large", f"has a row or statement of more than {MAX_STATEMENT:,} bytes", "Make the dump again.")
        chunk = self._stream.read(max(_CHUNK, len(kept)))
        self._ended = not chunk
        self._data, self._at = kept + chunk, 0
        return bool(chunk)

    def _next(self) -> bool:
        """Go to the next statement, past comments; False at the end. All of a statement's head is then in the buffer."""
        while True:
            found = _SPACE.match(self._data, self._at)
            self._at = found.end() if found else self._at
            if len(self._data) - self._at <= _HEAD and self._more():
                continue
            if self._at == len(self._data):
                return False
            if not self._comment():
                return True

    def _longer_insert(self) -> None:
        """An INSERT whose head is not whole in the buffer, or is none of mysqldump's."""
        if _STATEMENT.match(self._data, self._at) or len(self._data) - self._at > _CHUNK:
            raise self._refused("dump-malformed", "has an INSERT that is none of mysqldump's", "Make the dump with mysqldump.")
        if not self._more():
            raise self._truncated("the end of a statement")

    def _comment(self) -> bool:
        if self._data.startswith(b"/*", self._at):
            end = self._data.find(b"*/", self._at)
            if end < 0:
                if not self._more():
                    raise self._truncated("the end of a comment")
                return True
            if (names := _NAMES.search(self._data, self._at, end)) is not None:
                self._charset = names[1].decode().lower()
            self._at = end + 2
            return True
        line = _LINE_COMMENT.match(self._data, self._at)
        if line is None and self._data[self._at : self._at + 1] in (b"-", b"#") and self._data.find(b"\n", self._at) < 0 and self._more():
            return True
        line = line or _LINE_COMMENT_AT_END.match(self._data, self._at)
        if line is None:
            return False
        self._completed |= _COMPLETED.match(self._data, self._at) is not None
        self._at = line.end()
        return True

    def _statement(self) -> None:
        """A statement without rows: a CREATE TABLE is kept, others are passed over."""
        if _KEYWORD.match(self._data, self._at) is None:
            if self._seen and self._ended and b";" not in self._data[self._at :]:
                raise self._truncated("the end of a statement")
            raise self._refused(
                "not-a-dump", f"is no dump of mysqldump: {_shown(self._data[self._at : self._at + 40])}", "Give a dump that mysqldump made."
            )
        while (found := _STATEMENT.match(self._data, self._at)) is None:
            if not self._more():
                raise self._truncated("the end of a statement")
        text = found[0]
        self._at = found.end()
        if (create := _CREATE.match(text)) is not None:
            table = _table(_unquoted(create["table"]), text[create.end() :])
            self._tables[table.name] = table
            self._meet(table.name)
        elif (names := _NAMES.match(text)) is not None:
            self._charset = names[1].decode().lower()

    def _meet(self, table: str) -> None:
        self._completed = False  # of a dump before this one in the same file
        if table not in self._seen:
            self._seen.append(table)
        if self._wanted_table is None and len(self._seen) > 1:
            remedy = f"Set the server's custom property table to one of them, e.g. {self._seen[0]}."
            raise self._refused("dump-table", f"holds several tables, {self._seen[0]} and {self._seen[1]} among them", remedy)

    def _insert(self, head: re.Match[bytes]) -> Iterator[Rows]:
        """The rows of one INSERT, as they come into the buffer."""
        name = _unquoted(head["table"])
        self._meet(name)
        taken = self._wanted_table in (None, name)
        table = self._columns(name, head["columns"]) if taken else SqlTable(name, ())
        wanted = set(self._wanted(table) if self._wanted else (column.name for column in table.columns)) if taken else set()
        self._at = head.end()
        while True:
            tuples, ended = self._tuples()
            if taken and len(tuples.opens):
                if (place := tuples.strange()) is not None:
                    where = f"row {self._number + place + 1:,} of {name}"
                    raise self._refused("dump-malformed", f"has something between its rows before {where}", "Make the dump with mysqldump.")
                found = tuples.rows(table, wanted, self._number, self._charset)
                self._number += len(tuples.opens)
                yield found
            if ended:
                return

    def _columns(self, name: str, listed: bytes | None) -> SqlTable:
        """The table with the columns that an INSERT's tuples have."""
        known = self._tables.get(name)
        if listed is None and known is not None:
            return known
        if listed is None:
            raise self._refused("dump-table", f"has rows of {name} without its CREATE TABLE", "Make the dump without --no-create-info.")
        kinds = {column.name: column for column in known.columns} if known else {}
        names = [_unquoted(one.strip()) for one in listed.split(b",")]
        return SqlTable(name, tuple(kinds.get(one, SqlColumn(one, "varbinary")) for one in names))

    def _tuples(self) -> tuple[_Tuples, bool]:
        """The whole tuples that the buffer has, at least one or the end of the statement, and whether the statement ended."""
        tail = 0
        while True:
            # in a dump of mysqldump's this is the statement's end: it writes no bare newline inside of quotes
            candidate = self._data.find(b";\n", self._at + tail)
            stop = candidate + 1 if candidate >= 0 else len(self._data)
            tuples = _Tuples(self._data[self._at : stop])
            if tuples.end is not None:
                self._at += tuples.end
                return tuples, True
            if candidate >= 0:
                tail = stop - self._at
                continue
            if len(tuples.opens):
                self._at += tuples.length
                return tuples, False
            if not self._more():
                raise self._truncated("the end of a row")
            tail = 0

    def _refused(self, code: str, said: str, remedy: str) -> DeliveryRefused:
        return DeliveryRefused(code, f"{self._name} {said}.", remedy)

    def _truncated(self, before: str) -> DeliveryRefused:
        return self._refused("delivery-truncated", f"ends before {before}", "Copy it again; it is incomplete.")


class _Tuples:
    """`(1,'a'),(2,NULL)` in bytes that begin with a tuple: where tuples begin and end, by what stands outside of quotes.

    Attributes:
        opens, closes: places of the parentheses of whole tuples.
        end: place behind the statement's semicolon; None when it is not among these bytes.
        length: bytes up to the first tuple that is not whole.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._bytes: Bytes = np.frombuffer(data, np.uint8)
        self._escapes = _escapes(self._bytes)
        quotes = self._bytes == _QUOTE
        quotes[self._escapes[self._bytes[self._escapes] == _QUOTE]] = False
        self._inside = np.bitwise_xor.accumulate(quotes.view(np.uint8)).view(bool)  # a closing quote counts as outside
        outside = ~self._inside
        ends = np.flatnonzero((self._bytes == _SEMICOLON) & outside)
        self.end = int(ends[0]) + 1 if len(ends) else None
        limit = len(data) if self.end is None else self.end
        closes = np.flatnonzero((self._bytes[:limit] == _CLOSE) & outside[:limit])
        self.opens, self.closes, self.length = self._whole(closes, limit)

    def _whole(self, closes: Places, limit: int) -> tuple[Places, Places, int]:
        """Tuples between separators; the last one only when the statement ends behind it."""
        if not len(closes):
            return closes, closes, 0
        opens = np.flatnonzero((self._bytes[:limit] == _OPEN) & ~self._inside[:limit])
        regular = len(opens) - len(closes) in (0, 1) and bool(
            (opens[: len(closes)] < closes).all() and (closes[: len(opens) - 1] < opens[1:]).all()
        )
        if not regular:  # parentheses in parentheses: only `),(` separates
            cuts = [found for found in _SEPARATOR.finditer(self._data, 0, limit) if not self._inside[found.start()]]
            opens = np.array([0, *(found.end() for found in cuts)], np.int64)
            closes = np.array([*(found.start() for found in cuts), *([int(closes[-1])] if self.end is not None else [])], np.int64)
        if self.end is None and len(opens) == len(closes):
            closes = closes[:-1]  # it may be anything: more of it is to come
        opens = opens[: len(closes) + 1]
        length = int(opens[-1]) if len(opens) > len(closes) else limit
        return opens[: len(closes)], closes, length

    def raw(self, index: int) -> bytes:
        """A tuple as it stands there."""
        return self._data[int(self.opens[index]) : int(self.closes[index]) + 1]

    def strange(self) -> int | None:
        """Index of the first tuple that no separator stands before."""
        opens, closes = self.opens[1:], self.closes[:-1]
        usual = (opens - closes == 2) & (self._bytes[closes + 1] == _COMMA)
        for place in np.flatnonzero(~usual):
            if _BETWEEN.fullmatch(self._data, int(closes[place]), int(opens[place])) is None:
                return int(place) + 1
        return None

    def rows(self, table: SqlTable, wanted: set[str], before: int, charset: str) -> Rows:
        """The tuples as rows of the table; `before` is how many rows came before them."""
        columns = self._by_arrow(table, wanted)
        if columns is not None:
            numbers = np.arange(before + 1, before + 1 + len(self.opens), dtype=np.int64)
            return Rows(table, columns, numbers, (), charset, self.raw)
        return self._by_token(table, wanted, before, charset)

    def _by_arrow(self, table: SqlTable, wanted: set[str]) -> dict[str, pa.Array] | None:
        """The columns at once, or None when a tuple is not as mysqldump writes it."""
        if len(self._data) < _FEW or any(column.kind == "bit" for column in table.columns):
            return None
        made = self._as_csv()
        if made is None:
            return None
        names = ["(", *(column.name for column in table.columns), ")"]
        keep = [column.name for column in table.columns if column.name in wanted] or ["("]
        try:
            found = csv.read_csv(
                pa.BufferReader(pa.py_buffer(made)),
                csv.ReadOptions(use_threads=False, block_size=len(made) + 1, column_names=names),
                csv.ParseOptions(quote_char="'", double_quote=True, escape_char="\\", newlines_in_values=True, ignore_empty_lines=False),
                csv.ConvertOptions(
                    check_utf8=False,
                    column_types=dict.fromkeys(keep, pa.binary()),
                    include_columns=keep,
                    null_values=["NULL"],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                ),
            )
        except pa.ArrowInvalid:  # a tuple has more or fewer values
            return None
        if len(found) != len(self.opens):
            return None
        return {name: found[name].combine_chunks() for name in keep if name in wanted}

    def _as_csv(self) -> Bytes | None:
        """The tuples as lines with an empty value at either end: `,1,'a',` newline `,2,NULL,`. None where that may go wrong."""
        stop = int(self.closes[-1]) + 1
        data, inside, escapes = self._bytes[:stop], self._inside[:stop], self._escapes[self._escapes < stop]
        opens, closes = self.opens, self.closes
        if b"_binary '" in self._data:
            gone = np.ones(stop, bool)
            for found in _BINARY_PREFIX.finditer(self._data, 0, stop):
                gone[found.start() : found.end()] = inside[found.start()]
            place = np.cumsum(gone) - 1
            data, inside, escapes, opens, closes = data[gone], inside[gone], place[escapes], place[opens], place[closes]
        if not (_PLAIN.take(data) | inside).all() or not _quoted_whole(data, inside) or np.isin(data[escapes], list(b"%_")).any():
            return None
        if opens[0] != 0:
            return None
        gaps = opens[1:] - closes[:-1]
        wide = closes[:-1][gaps == 3]
        newlines = int(((data == _NEWLINE) & ~inside).sum())
        if not np.isin(gaps, (2, 3)).all() or newlines != len(wide) or not (data[wide + 2] == _NEWLINE).all():
            return None
        made = data.copy()
        made[escapes] = _ESCAPE_BYTES[data[escapes]]
        made[opens] = made[closes] = _COMMA
        made[closes[:-1] + 1] = _NEWLINE
        made[wide + 1] = _RETURN  # before the newline that is there
        return made

    def _by_token(self, table: SqlTable, wanted: set[str], before: int, charset: str) -> Rows:
        kept: list[int] = []
        values: list[list[bytes | None]] = []
        bad: list[BadRow] = []
        kinds = [column.kind for column in table.columns]
        for index in range(len(self.opens)):
            raw = self.raw(index)
            found = _values(raw, kinds)
            if isinstance(found, tuple):
                bad.append(BadRow(before + index + 1, raw, *found))
            else:
                kept.append(index)
                values.append(found)
        columns = {
            column.name: pa.array([row[place] for row in values], pa.binary())
            for place, column in enumerate(table.columns)
            if column.name in wanted
        }
        numbers = np.array(kept, np.int64) + before + 1
        return Rows(table, columns, numbers, bad, charset, lambda index: self.raw(kept[index]))


def _escapes(data: Bytes) -> Places:
    """Places of the bytes that a backslash stands before; of a run of backslashes every other one is such a byte itself."""
    places = np.flatnonzero(data == _BACKSLASH)
    if not len(places):
        return places
    begins = np.ones(len(places), bool)
    begins[1:] = np.diff(places) != 1
    run_starts = np.flatnonzero(begins)
    within = np.arange(len(places)) - np.repeat(run_starts, np.diff(np.append(run_starts, len(places))))
    found: Places = places[within % 2 == 0] + 1
    return found[: np.searchsorted(found, len(data))]


def _quoted_whole(data: Bytes, inside: npt.NDArray[np.bool_]) -> bool:
    """Whether every quoted text is a whole value, as CSV wants it: not `b'1'`, `x'41'` or `'a' 'b'`; `''` inside of one is well."""
    begins = np.flatnonzero(inside[1:] & ~inside[:-1]) + 1
    ends = np.flatnonzero(~inside[1:] & inside[:-1]) + 1
    before, after = data[begins - 1], data[np.minimum(ends + 1, len(data) - 1)]
    begun = (before == _COMMA) | (before == _OPEN) | (before == _QUOTE)
    ended = (after == _COMMA) | (after == _CLOSE) | (after == _QUOTE)
    return bool(begun.all() and ended.all())


def _values(raw: bytes, kinds: Sequence[str]) -> list[bytes | None] | tuple[str, str]:
    """A tuple's values, or reason and sentence of why it is no row."""
    inner, at, found = raw[1:-1], 0, list[bytes | None]()
    while True:
        token = _TOKEN.match(inner, at)
        if token is None:
            return "unreadable-row", f"value {len(found) + 1} is no literal: {_shown(inner[at : at + 40])}"
        found.append(_value(token, kinds[len(found)] if len(found) < len(kinds) else ""))
        at = token.end()
        if not token["end"]:
            break
    if len(found) != len(kinds):
        return "too-few-fields" if len(found) < len(kinds) else "too-many-fields", f"has {len(found)} values instead of {len(kinds)}"
    return found


def _value(token: re.Match[bytes], kind: str) -> bytes | None:
    """A literal's bytes; in a column of numbers or bits the digits of the number that it stands for."""
    if (text := token["text"]) is not None:
        found = _ESCAPED.sub(_unescaped, text) if b"\\" in text or b"''" in text else text
        return str(int.from_bytes(found)).encode() if kind == "bit" else found
    if (bare := token["bare"]) is not None:
        return None if bare.upper() == b"NULL" else bare
    if (bits := token["bits"]) is not None:
        found = int(bits or b"0", 2).to_bytes((len(bits) + 7) // 8)
    else:
        digits = (token["quoted_hex"] or token["hex"] or b"").decode()
        found = bytes.fromhex(digits if len(digits) % 2 == 0 else f"0{digits}")
    return str(int.from_bytes(found)).encode() if kind == "bit" or kind in _NUMBERS else found


def _unescaped(found: re.Match[bytes]) -> bytes:
    letter = found[1]
    return b"'" if letter is None else _ESCAPES.get(letter, letter)


def _table(name: str, body: bytes) -> SqlTable:
    """The columns of a CREATE TABLE; keys and constraints do not begin with a quoted name."""
    lines = body.split(b"\n")
    default = _CHARSET.search(lines[-1])
    columns = []
    for line in lines if len(lines) > 1 else re.split(rb",(?=\s*`)", body):
        if (found := _COLUMN.match(line)) is not None:
            own = _CHARSET.search(found["more"]) or default
            columns.append(SqlColumn(_unquoted(found["name"]), found["kind"].decode().lower(), own[1].decode().lower() if own else None))
    return SqlTable(name, tuple(columns))


def _unquoted(name: bytes) -> str:
    return (name[1:-1].replace(b"``", b"`") if name.startswith(b"`") else name).decode(errors="replace")


def _shown(data: bytes) -> str:
    return repr(data.decode(errors="replace"))


__all__ = ["MAX_STATEMENT", "BadRow", "Rows", "SqlColumn", "SqlTable", "rows"]
