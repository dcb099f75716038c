"""What the command line prints: one JSON document for programs, tables for people, progress for those who wait.

The JSON forms (times, decimals, binary) and the looks of a table are decided here and nowhere else. No command's logic.
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import click

from platform_resources.config import load_settings, prepare_home
from platform_resources.errors import PlatformError

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import Console
    from rich.progress import Progress

F = TypeVar("F", bound=Callable[..., Any])


class Command(click.Command):
    """A command of `sdp`. With `--json` everything but the one document goes to stderr, an error becomes a document too.

    Args:
        writes_home: whether it needs SDP_HOME; then nothing begins before that folder has been written to.
        reads_tables: whether it needs the tables; then nothing begins while a server of this home that keeps them is stopped.
    """

    def __init__(self, *args: Any, writes_home: bool = True, reads_tables: bool = False, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.writes_home, self.reads_tables = writes_home, reads_tables

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command with stdout kept for the answer."""
        if not ctx.params.get("as_json"):
            return self._begin(ctx)
        answer = sys.stdout
        ctx.meta["sdp.stdout"] = answer
        try:
            with contextlib.redirect_stdout(sys.stderr):
                return self._begin(ctx)
        except PlatformError as error:
            if not ctx.meta.get("sdp.answered"):
                write_json({"error": error_document(error)}, answer)
            raise

    def _begin(self, ctx: click.Context) -> Any:
        if self.writes_home:
            prepare_home(load_settings())
        if self.reads_tables and load_settings().profile == "stack":
            from platform_resources.stack.services import of_tables, require_running

            require_running(load_settings(), of_tables(load_settings()))
        return super().invoke(ctx)


def error_document(error: PlatformError) -> dict[str, Any]:
    """An error as the JSON of every command has it: code, message, remedy, file, line."""
    document = error.problem().as_dict()
    del document["severity"]
    return document


def json_option(command: F) -> F:
    """The option `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout; all else goes to stderr.")(command)


def answer(value: Any, *, as_json: bool, human: Callable[[Console], None]) -> None:
    """Print a command's answer: the JSON document, or what `human` draws on the console."""
    with _writing():
        if not as_json:
            human(console())
            return
        ctx = click.get_current_context()
        ctx.meta["sdp.answered"] = True
        write_json(value, ctx.meta.get("sdp.stdout") or sys.stdout)


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    """A full disk, told as a sentence; that nobody reads is no fault.

    Raises:
        PlatformError: `output-unwritable`.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise PlatformError(
            "output-unwritable", f"The answer cannot be written: {error.strerror}.", "Send it where there is room."
        ) from None


def write_json(value: Any, stream: IO[str]) -> None:
    """One JSON document and a newline; lists go row by row, so that a long answer is not held twice."""
    if isinstance(value, list | tuple | Iterator):
        separator = "["
        for item in value:
            stream.write(f"{separator}\n  " if separator == "[" else ",\n  ")
            stream.write(json.dumps(plain(item), ensure_ascii=False, allow_nan=False))
            separator = ","
        stream.write("[]\n" if separator == "[" else "\n]\n")
    else:
        stream.write(json.dumps(plain(value), ensure_ascii=False, allow_nan=False, indent=2) + "\n")
    stream.flush()


def plain(value: Any) -> Any:  # noqa: PLR0911 - one line per type is the clearest table
    """A value as JSON knows it.

    Times become ISO-8601 in UTC with `Z` (a time without a zone is UTC, as everywhere in the platform), decimals and UUIDs strings,
    binary base64, an infinite or undefined float a string, a mapping's keys strings.
    """
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        case datetime():
            return iso(value)
        case date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case Decimal():
            return format(value, "f")
        case bytes() | bytearray() | memoryview():
            return base64.b64encode(bytes(value)).decode("ascii")
        case UUID() | Path():
            return str(value)
        case dict():
            return {key if isinstance(key, str) else str(plain(key)): plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(item) for item in value]
    return plain(dict(value)) if hasattr(value, "keys") else str(value)


def iso(value: datetime) -> str:
    """ISO-8601 in UTC with `Z`; microseconds only where there are any."""
    moment = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return moment.replace(tzinfo=None).isoformat() + "Z"


def arrow_rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    """The rows of an Arrow table as dicts ready for `plain`.

    A repeated column name gets `_2`, ...; maps become objects; DuckDB's HUGEINT (the type of a sum of integers, decimal(38,0) in
    Arrow) becomes an integer again.
    """
    names, seen = [], set()
    for name in table.column_names:
        unique, number = name, 1
        while unique in seen:
            number += 1
            unique = f"{name}_{number}"
        seen.add(unique)
        names.append(unique)
    readers = [_reader(field.type) for field in table.schema]
    for batch in table.to_batches(max_chunksize=10_000):
        columns = [column.to_pylist() for column in batch.columns]
        for values in zip(*columns, strict=True):
            yield {name: read(value) if read else value for name, read, value in zip(names, readers, values, strict=True)}


def _reader(kind: pa.DataType) -> Callable[[Any], Any] | None:
    """How to turn a Python value of this Arrow type into what users mean by it; None when it is that already."""
    from pyarrow import types

    if types.is_decimal(kind) and kind.precision == 38 and kind.scale == 0:
        return lambda value: None if value is None else int(value)
    if types.is_map(kind):
        key, item = _reader(kind.key_type) or _same, _reader(kind.item_type) or _same
        return lambda value: None if value is None else {_key_text(key(k)): item(v) for k, v in value}
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        element = _reader(kind.value_type)
        return element and (lambda value: None if value is None else [element(item) for item in value])
    if types.is_struct(kind):
        fields = {field.name: read for field in kind if (read := _reader(field.type))}
        return (lambda value: None if value is None else {n: fields.get(n, _same)(v) for n, v in value.items()}) if fields else None
    return None


def _same(value: Any) -> Any:
    return value


def _key_text(value: Any) -> str:
    return value if isinstance(value, str) else str(plain(value))


def console(*, stderr: bool = False) -> Console:
    """A rich console: colours and the terminal's width on a terminal, plain text and 120 columns when piped."""
    from rich.console import Console

    class Pipe(Console):
        """Rich would end the process with status 1 when the reader has left; what is done then is said at the command line's border."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    stream = sys.stderr if stderr else sys.stdout
    tty = stream.isatty()
    return Pipe(file=stream, width=None if tty else 120, highlight=False, soft_wrap=False, emoji=False, markup=False)


@dataclass(frozen=True)
class Col:
    """A column of a table for people: header, right-aligned for numbers, cut when long.

    `keep` is never cut nor wrapped, `wrap` goes on in the next line, `spare` is left out as a whole where the table has no room for it.
    """

    header: str
    right: bool = False
    keep: bool = False
    wrap: bool = False
    spare: bool = False
    style: str | None = None


_GAP = 2
_LONGEST = 1_000  # characters of one value in a record


def draw_table(target: Console, columns: Sequence[Col], rows: Iterable[Sequence[Any]], *, title: str | None = None) -> None:
    """A table with a rule under its header, no box around; cells that do not fit are cut with an ellipsis."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    cells = [
        [
            cell if isinstance(cell, Text) else Text(human(cell), overflow="fold" if column.wrap else "ellipsis", no_wrap=not column.wrap)
            for cell, column in zip(row, columns, strict=True)
        ]
        for row in rows
    ]
    widths = [max([len(column.header), *(row[index].cell_len for row in cells)]) for index, column in enumerate(columns)]
    shown = _shown_columns(columns, widths, target.width)
    columns, widths = [columns[index] for index in shown], [widths[index] for index in shown]
    cells = [[row[index] for index in shown] for row in cells]
    table = Table(
        box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", padding=(0, _GAP - 1, 0, 0), pad_edge=False,
        show_edge=False,
    )  # fmt: skip
    for column, width in zip(columns, widths, strict=True):
        least = width if column.keep else min(width, 8)
        table.add_column(
            column.header,
            justify="right" if column.right else "left",
            no_wrap=column.keep,  # rich takes width from the others only; their cells are cut, not wrapped
            overflow="ellipsis",
            min_width=least,
            style=column.style,
        )
    for row in cells:
        table.add_row(*row)
    target.print(table)


def fits(names: Sequence[str], rows: Sequence[Sequence[Any]], room: int) -> bool:
    """Whether rows can be drawn as a table without a cell being cut."""
    from rich.cells import cell_len

    widths = [max([cell_len(name), *(cell_len(human(row[index])) for row in rows)]) for index, name in enumerate(names)]
    return sum(widths) + _GAP * (len(widths) - 1) <= room


def draw_records(target: Console, rows: Iterable[Mapping[str, Any]]) -> None:
    """Rows as blocks of `column  value` lines, for those too wide for a table; values go on in the next line, very long ones are cut."""
    from rich.table import Table
    from rich.text import Text

    for number, row in enumerate(rows, 1):
        target.print(Text(f"-- row {number}", style="dim"))
        block = Table.grid(padding=(0, _GAP, 0, 0))
        block.add_column(no_wrap=True, style="bold")
        block.add_column(overflow="fold")
        for name, value in row.items():
            block.add_row(Text(name), Text(_in_full(value)))
        target.print(block)


def _in_full(value: Any) -> str:
    """A value for people with nothing rounded away, up to `_LONGEST` characters."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(value)  # an integer may be an id, which nobody can look up with separators in it
    text = iso(value) if isinstance(value, datetime) else human(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text):,} characters)"


def _shown_columns(columns: Sequence[Col], widths: Sequence[int], room: int) -> list[int]:
    """Indices of the columns to draw: without the spare ones, the last first, as long as something would have to be cut."""
    shown = list(range(len(columns)))
    for index in reversed(range(len(columns))):
        if sum(widths[i] for i in shown) + _GAP * (len(shown) - 1) <= room:
            break
        if columns[index].spare:
            shown.remove(index)
    return shown


def human(value: Any) -> str:  # noqa: PLR0911 - one line per type
    """A cell for people: short, one line."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}" if abs(value) < 10**15 else str(value)
        case float():
            return f"{value:,.4g}" if math.isfinite(value) and abs(value) < 10**6 else str(value)
        case datetime():
            return iso(value.replace(microsecond=0))
        case bytes():
            return value.hex()
        case str():
            return " ".join(value.split()) if "\n" in value or "\t" in value else value
        case dict() | list() | tuple():
            return json.dumps(plain(value), ensure_ascii=False)
    return str(plain(value))


def duration(seconds: float | None) -> str:
    """A span for people: `4 s`, `12 min`, `3 h`, `2 d`."""
    if seconds is None:
        return "-"
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


@contextlib.contextmanager
def progress(description: str, *, total: float | None = None) -> Iterator[Callable[..., None]]:
    """Progress on stderr while the block runs, only on a terminal.

    Yields a function `advance(by=1, text=None)`; calling it costs nothing when nobody looks.
    """
    if not sys.stderr.isatty():
        yield _ignore
        return
    with _bar(total) as bar:
        task = bar.add_task(description, total=total, count="")

        def advance(by: float = 1, text: str | None = None) -> None:
            count = bar.tasks[0].completed + by
            bar.update(task, advance=by, count=f"{count:,.0f}" if count else "", **({"description": text} if text else {}))  # type: ignore[arg-type]

        yield advance


def _ignore(by: float = 1, text: str | None = None) -> None:
    """Nobody looks."""


def _bar(total: float | None) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = [SpinnerColumn(), TextColumn("{task.description}")]
    columns += [BarColumn(), MofNCompleteColumn()] if total is not None else [TextColumn("{task.fields[count]}")]
    return Progress(*columns, TimeElapsedColumn(), console=console(stderr=True), transient=True)
