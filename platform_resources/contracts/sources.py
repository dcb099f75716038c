"""Where a product's rows come from, as values: one type per kind of source, from the custom properties of the contract's server.

Only what the contract says. Hosts and secrets are the profile's (`Settings.connections`), how a source is read is `landing`'s.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, TypeAlias

from platform_resources.contracts.durations import parse_duration
from platform_resources.contracts.slices import Slices

FILE_KINDS = ("files", "xml_dump", "sql_dump")
LANDED_KINDS = (*FILE_KINDS, "database", "http")
FORMATS = ("csv", "tsv", "ndjson", "json", "parquet")
COMPRESSIONS = ("none", "gzip", "bzip2", "zstd")
CURSOR = "{cursor}"
"""Where the cursor's value stands in a `cursorTemplate`."""
PAGING_STYLES = ("page", "offset", "cursor", "link")
_SUFFIXES = {"csv": "csv", "tsv": "tsv", "ndjson": "ndjson", "jsonl": "ndjson", "json": "json", "parquet": "parquet"}
_PACKED = {"gz": "gzip", "bz2": "bzip2", "zst": "zstd"}


@dataclass(frozen=True)
class Dialect:
    """How a delimited file is written. `delimiter` None: a comma, in a tsv a tab. `quote` and `escape` None: there is no such character.

    `null` are the texts that stand for no value. `comment` begins a line that is none. `skip` lines go before the header.
    """

    delimiter: str | None = None
    quote: str | None = '"'
    escape: str | None = None
    header: bool = True
    null: tuple[str, ...] = ("",)
    comment: str | None = None
    skip: int = 0


@dataclass(frozen=True)
class Complete:
    """When a file is whole: unchanged for `settled`, or, with a `marker`, when the file of that name lies beside it.

    `marker` is a name in the same folder; `{name}` in it stands for the file's own: `_SUCCESS`, `{name}.done`.
    """

    settled: timedelta = timedelta(seconds=10)
    marker: str | None = None


@dataclass(frozen=True)
class FilesOptions:
    """Files of rows. `format` and `compression` None: told by the file's suffix. `records`: the dotted path to the list in a JSON file."""

    format: str | None = None
    compression: str | None = None
    encoding: str = "utf-8"
    dialect: Dialect = Dialect()
    complete: Complete = Complete()
    records: str | None = None


@dataclass(frozen=True)
class XmlDumpOptions:
    """MediaWiki XML dumps."""

    compression: str | None = None
    complete: Complete = Complete()


@dataclass(frozen=True)
class SqlDumpOptions:
    """mysqldump's files. `table` None: the only one in the file."""

    table: str | None = None
    compression: str | None = None
    encoding: str = "utf-8"
    complete: Complete = Complete()


@dataclass(frozen=True)
class DatabaseOptions:
    """A table or a query of a database; with a `cursor` column only what is at or past it, less the `overlap`."""

    table: str | None = None
    query: str | None = None
    cursor: str | None = None
    overlap: timedelta | int | None = None


@dataclass(frozen=True)
class Paging:
    """How an API is paged.

    `page` and `offset` count in the query `parameter` from `first`; `cursor` puts into it what the last answer had at the path `next`;
    `link` follows the address there, without `next` the header Link. `size` records are asked for by `size_parameter`.
    """

    style: str
    parameter: str | None = None
    first: int | None = None
    size: int | None = None
    size_parameter: str | None = None
    next: str | None = None


@dataclass(frozen=True)
class HttpOptions:
    """Pages of an API: `records` is the dotted path to the list (None: the answer is it), `cursor` a column whose greatest value is
    sent as `cursor_parameter`, in the words of `cursor_template` where it has one; `budget` is the longest time spent on trying again, per
    delivery.
    """

    records: str | None = None
    paging: Paging | None = None
    cursor: str | None = None
    cursor_parameter: str | None = None
    cursor_template: str | None = None
    overlap: timedelta | int | None = None
    budget: timedelta = timedelta(minutes=5)


Options: TypeAlias = FilesOptions | XmlDumpOptions | SqlDumpOptions | DatabaseOptions | HttpOptions

_OPTIONS: Mapping[str, type[Options]] = {
    "files": FilesOptions,
    "xml_dump": XmlDumpOptions,
    "sql_dump": SqlDumpOptions,
    "database": DatabaseOptions,
    "http": HttpOptions,
}
PLACES = ("source", "connection", "path", "start", "cadence")  # custom properties that every source takes


@dataclass(frozen=True)
class SourceSpec:
    """Where a source-aligned product's rows come from. Hosts and secrets are the profile's, never here.

    `stream` and `topics` are a stream's; `options` and `slices` of what lands: files, dumps, tables, pages.
    """

    kind: str
    stream: str | None = None
    topics: tuple[str, ...] = ()
    connection: str | None = None
    path: str | None = None
    line: int = 0
    options: Options | None = None
    slices: Slices | None = None

    @property
    def has_records(self) -> bool:
        """Whether what lands are JSON records, which may have fields that nobody declared."""
        if isinstance(self.options, FilesOptions):
            return format_of(self.options, self.path or "") in ("json", "ndjson")
        return self.kind == "http"

    @property
    def cursor(self) -> str | None:
        """The column behind which the source gives what is new; None where it gives all of it each time."""
        return getattr(self.options, "cursor", None)


def property_name(field_name: str) -> str:
    """`cursor_parameter` as contracts write it: `cursorParameter`."""
    head, *rest = field_name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def option_names(kind: str) -> tuple[str, ...]:
    """The custom properties that a kind of source takes besides `PLACES`."""
    return tuple(property_name(one.name) for one in fields(_OPTIONS[kind])) if kind in _OPTIONS else ()


def read_options(kind: str, custom: Mapping[str, Any]) -> Options:
    """The options of a kind out of a server's converted custom properties; others of them are left alone."""
    given = {one.name: custom[property_name(one.name)] for one in fields(_OPTIONS[kind]) if property_name(one.name) in custom}
    return _OPTIONS[kind](**given)


def format_of(options: FilesOptions, name: str) -> str | None:
    """The format of a file by contract or suffix (`a.csv.gz` is csv), None when neither tells."""
    parts = name.lower().rsplit("/", maxsplit=1)[-1].split(".")[1:]
    while parts and parts[-1] in _PACKED:
        parts.pop()
    return options.format or (_SUFFIXES.get(parts[-1]) if parts else None)


def kind_and_format(name: str) -> tuple[str, str | None]:
    """The kind of source that a file's name tells (`files`, `xml_dump`, `sql_dump`), and of `files` the format, None for neither."""
    form = format_of(FilesOptions(), name)
    parts = name.lower().rsplit("/", maxsplit=1)[-1].split(".")
    while len(parts) > 1 and parts[-1] in _PACKED:
        parts.pop()
    kind = {"xml": "xml_dump", "sql": "sql_dump"}.get(parts[-1], "files") if len(parts) > 1 else "files"
    return kind, form


def compression_of(compression: str | None, name: str) -> str:
    """The compression of a file by contract or suffix."""
    return compression or _PACKED.get(name.lower().rsplit(".", maxsplit=1)[-1], "none")


# Converters of single custom properties; a ValueError is fit to stand after "which".


def read_dialect(value: Any) -> Dialect:
    """`{delimiter: ";", quote: none, null: ["", "NULL"]}`."""
    given = _mapping(value, [one.name for one in fields(Dialect)])
    for name in ("delimiter", "quote", "escape", "comment"):
        if name in given and given[name] in (None, "none", "") and name != "delimiter":
            given[name] = None
        elif name in given:
            given[name] = _character(name, given[name])
    if not isinstance(given.get("header", True), bool):
        raise ValueError("has a header that is neither true nor false")  # noqa: TRY004
    skip = given.get("skip", 0)
    if isinstance(skip, bool) or not isinstance(skip, int) or skip < 0:
        raise ValueError("has a skip that is no number of lines")
    if "null" in given:
        texts = given["null"] if isinstance(given["null"], list) else [given["null"]]
        given["null"] = tuple("" if text is None else str(text) for text in texts)
    return Dialect(**given)


def _character(name: str, value: Any) -> str:
    text = {"tab": "\t", "\\t": "\t", "pipe": "|", "space": " "}.get(str(value), str(value))
    if len(text.encode()) != 1:
        raise ValueError(f"has the {name} {value!r}, which is not one ASCII character")
    return text


def read_complete(value: Any) -> Complete:
    """`10 seconds`, or `{marker: _SUCCESS}`."""
    if isinstance(value, dict):
        marker = _mapping(value, ["marker"]).get("marker")
        if not isinstance(marker, str) or not marker.strip() or "/" in marker:
            raise ValueError("has a marker that is no name of a file")
        return Complete(timedelta(0), marker.strip())
    return Complete(parse_duration(value))


def read_paging(value: Any) -> Paging:
    """`{style: page, parameter: page, size: 100, sizeParameter: per_page}`."""
    given = _mapping(value, [property_name(one.name) for one in fields(Paging)])
    if given.get("style") not in PAGING_STYLES:
        raise ValueError(f"has a style that is not one of {', '.join(PAGING_STYLES)}")
    for name in ("first", "size"):
        if name in given and (isinstance(given[name], bool) or not isinstance(given[name], int) or given[name] < 0):
            raise ValueError(f"has a {name} that is no whole number")
    if given["style"] == "cursor" and not (given.get("next") and given.get("parameter")):
        raise ValueError("pages by cursor but lacks next or parameter")
    return Paging(**{one.name: given[property_name(one.name)] for one in fields(Paging) if property_name(one.name) in given})


def read_cursor_template(value: Any) -> str:
    """Text in which `{cursor}` stands once or more, e.g. a filter in JSON."""
    text = str(value)
    if CURSOR not in text:
        raise ValueError(f"does not say where the value stands: {CURSOR}")
    return text


def read_overlap(value: Any) -> timedelta | int:
    """A length of time, or a whole number for a cursor that counts."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    return parse_duration(value)


def read_encoding(value: Any) -> str:
    """A name that Python's codecs know."""
    import codecs

    try:
        return codecs.lookup(str(value)).name
    except LookupError:
        raise ValueError("is no encoding that is known") from None


def read_query(value: Any) -> str:
    """One SELECT."""
    text = str(value).strip().rstrip(";")
    if not re.match(r"(?is)(select|with)\b", text):
        raise ValueError("is no SELECT")
    return text


def _mapping(value: Any, names: list[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"is not made of {', '.join(names)}")  # noqa: TRY004
    if unknown := [name for name in value if name not in names]:
        raise ValueError(f"has the key {unknown[0]}, which is not one of {', '.join(names)}")
    return dict(value)
