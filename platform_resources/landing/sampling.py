"""A draft contract from a sample of what is to land: a CSV, TSV, NDJSON, JSON or Parquet file, an XML or an SQL dump.

Types are those that the sample shows. Nothing is promised that it cannot show: no column is required, none is described, none is a key.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from platform_resources.contracts.drafting import SAMPLE_EVENTS, column_names, columns_of_records, draft_landed
from platform_resources.contracts.sources import compression_of, kind_and_format
from platform_resources.errors import PlatformError
from platform_resources.landing.compression import decompressed
from platform_resources.landing.json_lists import list_in

_DELIMITERS = ",;\t|"
_WHOLE = re.compile(r"[+-]?(0|[1-9]\d{0,17})")
_NUMBER = re.compile(r"[+-]?(\d+\.\d*|\.?\d+)([eE][+-]?\d+)?")
_DATED = re.compile(r"(?<!\d)(?P<y>(?:19|20)\d{2})(?P<s>[-_]?)(?P<m>\d{2})(?P=s)(?P<d>\d{2})(?!\d)")
_NESTED = frozenset({"object", "array", "map"})
_SQL_TYPES = {
    **dict.fromkeys(("tinyint", "smallint", "mediumint", "int", "integer", "bigint", "year"), "integer"),
    **dict.fromkeys(("decimal", "numeric", "float", "double", "real"), "number"),
    "date": "date", "datetime": "timestamp", "timestamp": "timestamp",
}  # fmt: skip


def draft_from_file(path: Path, *, domain: str, product: str) -> str:
    """The draft, YAML text.

    Raises:
        PlatformError: `file-unreadable`, `sample-empty`, `sample-malformed`, `sample-format`; or what reading such a file is refused with.
    """
    kind, form = kind_and_format(path.name)
    source: dict[str, Any] = {"source": kind, **_path_of(path, product)}
    try:
        with path.open("rb") as raw:
            content = decompressed(raw, compression_of(None, path.name), path.name)
            columns = _columns(content, kind, form, path, source)
    except OSError as error:
        raise PlatformError("file-unreadable", f"The file {path} cannot be read: {error.strerror}.", "Name a file that exists.") from None
    return draft_landed(columns, domain=domain, product=product, source=source, origin=f"the sample {path.name}")


def _path_of(path: Path, product: str) -> dict[str, Any]:
    """Where such files are to be dropped: a date in the name makes slices, else all files of the suffix are taken."""
    dated = _DATED.search(path.name)
    try:
        day = datetime(int(dated["y"]), int(dated["m"]), int(dated["d"]), tzinfo=UTC) if dated else None
    except ValueError:
        day = None
    if dated is None or day is None:
        return {"path": f"{product}/*{''.join(path.suffixes)}"}
    mark = dated["s"]
    name = f"{path.name[: dated.start()]}{{slice:%Y{mark}%m{mark}%d}}{path.name[dated.end() :]}"
    return {"path": f"{product}/{name}", "start": f"{day:%Y-%m-%d}"}


def _columns(content: BinaryIO, kind: str, form: str | None, path: Path, source: dict[str, Any]) -> list[dict[str, Any]]:
    if kind == "xml_dump":
        return _of_xml()
    if kind == "sql_dump":
        return _of_sql(content, path.name)
    if form in ("csv", "tsv"):
        return columns_of_records(_delimited(content, "\t" if form == "tsv" else None, source), text=True)
    if form == "ndjson":
        return columns_of_records(_lines(content))
    if form == "json":
        return columns_of_records(_list(content, source))
    if form == "parquet":
        return _of_parquet(content)
    raise PlatformError(
        "sample-format",
        f"The name of {path.name} does not tell its format.",
        "Give it the suffix csv, tsv, ndjson, json, parquet, xml or sql.",
    )


def _delimited(content: BinaryIO, delimiter: str | None, source: dict[str, Any]) -> Iterator[Mapping[str, Any]]:
    try:
        text = io.TextIOWrapper(content, encoding="utf-8-sig", newline="")
        head = text.readline()
        told = max(_DELIMITERS, key=head.count) if delimiter is None else delimiter
        if delimiter is None and told != ",":
            source["dialect"] = {"delimiter": {"\t": "tab"}.get(told, told)}
        names = next(csv.reader([head], delimiter=told), [])
        for fields in itertools.islice(csv.reader(text, delimiter=told), SAMPLE_EVENTS):
            yield {name.strip(): _typed(value) for name, value in zip(names, fields, strict=False)}
    except (UnicodeDecodeError, csv.Error) as error:
        raise PlatformError(
            "sample-malformed", f"The sample cannot be read as text with delimiters: {error}.", "Give a sample in UTF-8 with a header."
        ) from None


def _typed(text: str) -> Any:
    """What a field's text most plainly is; a number with a leading zero is a code, not a number."""
    stripped = text.strip()
    if not stripped:
        return None
    if _WHOLE.fullmatch(stripped):
        return int(stripped)
    if _NUMBER.fullmatch(stripped) and not re.match(r"[+-]?0\d", stripped):
        return float(stripped)
    return {"true": True, "false": False}.get(stripped.lower(), stripped)


def _lines(content: BinaryIO) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(content, start=1):
        if line.strip():
            yield _record(_loaded(line, f"Line {number} of the sample"), f"Line {number} of the sample")


def _list(content: BinaryIO, source: dict[str, Any]) -> list[Mapping[str, Any]]:
    path, records = list_in(_loaded(content.read(), "The sample"), "The sample")
    if path is not None:
        source["records"] = path
    return records


def _loaded(text: bytes, what: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as reason:
        raise PlatformError("sample-malformed", f"{what} is not JSON: {reason}.", "Mend it.") from None


def _record(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise PlatformError("sample-malformed", f"{what} is no JSON object.", "Give one JSON object per record.")
    return value


def _of_parquet(content: BinaryIO) -> list[dict[str, Any]]:
    try:
        schema = pq.ParquetFile(pa.PythonFile(content, mode="r")).schema_arrow
    except pa.ArrowException as error:
        raise PlatformError("sample-malformed", f"The sample is no Parquet file: {error}.", "Give a whole Parquet file.") from None
    names = column_names(schema.names)
    own = [{"physicalName": field.name} if names[field.name] != field.name else {} for field in schema]
    return [{"name": names[field.name], **_of_arrow(field.type), **name} for field, name in zip(schema, own, strict=True)]


def _of_arrow(kind: pa.DataType) -> dict[str, Any]:
    """ODCS types of an Arrow type; what ODCS has no word for is text."""
    types = pa.types
    kind = kind.value_type if types.is_dictionary(kind) else kind
    if types.is_struct(kind) and kind.num_fields:
        return {"logicalType": "object", "properties": [{"name": child.name, **_of_arrow(child.type)} for child in kind]}
    if types.is_list(kind) or types.is_large_list(kind):
        return {"logicalType": "array", "items": _of_arrow(kind.value_type)}
    if types.is_map(kind):
        return {"logicalType": "map", "map": {"key": _of_arrow(kind.key_type), "value": _of_arrow(kind.item_type)}}
    if types.is_decimal(kind):
        return {"logicalType": "number", "physicalType": f"decimal({kind.precision},{kind.scale})"}
    if types.is_timestamp(kind):
        return {"logicalType": "timestamp", **({} if kind.tz else {"physicalType": "timestamp"})}
    plain = {
        "boolean": types.is_boolean, "integer": types.is_integer, "number": types.is_floating, "date": types.is_date, "time": types.is_time,
    }  # fmt: skip
    logical = next((name for name, judge in plain.items() if judge(kind)), "string")
    return {"logicalType": logical, **({"physicalType": "binary"} if types.is_binary(kind) or types.is_large_binary(kind) else {})}


def _of_xml() -> list[dict[str, Any]]:
    """What every export says of a revision; slots other than the main one are left for people to add."""
    from platform_resources.landing.xml_dump import FIELDS

    kept = {name: field for name, field in FIELDS.items() if field.logical_type not in _NESTED and not name.startswith("site_")}
    return [{"name": name, "logicalType": field.logical_type, "description": field.meaning} for name, field in kept.items()]


def _of_sql(content: BinaryIO, name: str) -> list[dict[str, Any]]:
    from platform_resources.landing.mysqldump import rows

    first = next(rows(content, name), None)
    if first is None:
        raise PlatformError("sample-empty", f"The dump {name} has no row.", "Give a dump with some.")
    names = column_names(column.name for column in first.table.columns)
    found = []
    for column in first.table.columns:
        values = [value for value in first.columns[column.name].to_pylist()[:1000] if value is not None]
        own = {"physicalName": column.name} if names[column.name] != column.name else {}
        found.append({"name": names[column.name], **of_sql_column(column.kind, values, is_text=column.is_text), **own})
    return found


def of_sql_column(kind: str, values: list[bytes], *, is_text: bool) -> dict[str, Any]:
    """MediaWiki keeps texts in binary columns, and moments as 14 digits."""
    if kind in _SQL_TYPES:
        return {"logicalType": _SQL_TYPES[kind]}
    if kind in ("binary", "varbinary", "char", "varchar") and values and all(re.fullmatch(rb"(19|20)\d{12}", value) for value in values):
        return {"logicalType": "timestamp"}
    return {"logicalType": "string", **({} if is_text or all(_is_utf8(value) for value in values) else {"physicalType": "binary"})}


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
