"""The names we give ODCS `customProperties`: where each may stand and what it may hold. No other module knows these names' YAML.

ODCS has no field for how a table is written, how a stream is read or what an event schema says beyond types; these names fill the
gap. `docs/contracts.md` describes each.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from platform_resources.contracts.durations import parse_duration
from platform_resources.contracts.findings import Findings, close_match, show
from platform_resources.contracts.publications import PUBLISHED_KINDS, REVISIONS
from platform_resources.contracts.slices import CADENCES, read_start
from platform_resources.contracts.sources import (
    COMPRESSIONS,
    FORMATS,
    LANDED_KINDS,
    read_complete,
    read_cursor_template,
    read_dialect,
    read_encoding,
    read_overlap,
    read_paging,
    read_query,
)
from platform_resources.contracts.yaml_source import DocumentPath

WRITE_MODES = ("append", "overwrite", "merge")
MERGE_STRATEGIES = ("auto", "merge-on-read", "copy-on-write")
INCREMENTALS = ("append", "key", "partition", "full")
SOURCE_KINDS = ("stream", *LANDED_KINDS, "platform")
ENGINES = ("duckdb", "spark")
SCOPES = ("commit", "partition", "table")
_FILE_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([MG])i?B", re.IGNORECASE)
METRICS_MODES = ("none", "counts", "full", "truncate(16)")


def _one_of(*words: str) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if value not in words:
            raise ValueError(f"is not one of {', '.join(words)}")
        return value

    return read


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("is not a text")
    return value.strip()


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if not isinstance(value, list) or not all(isinstance(part, str) and part.strip() for part in value):
        raise ValueError("is not a list of texts")
    return tuple(part.strip() for part in value)


def _marker(value: Any) -> tuple[str, str | None]:
    """`is_deleted` or `op=d`: a column, and the text of the value by which it marks a row."""
    column, equals, text = _text(value).partition("=")
    if not column.strip() or (equals and not text.strip()):
        raise ValueError("is neither a column nor column=value")
    return column.strip(), text.strip() if equals else None


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("is neither true nor false")  # noqa: TRY004
    return value


def _positive(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise ValueError("is not a whole number above 0")
    return value


def _file_bytes(value: Any) -> int:
    match = _FILE_SIZE.fullmatch(str(value).strip())
    size = int(float(match[1]) * 1024 ** (2 if match[2].lower() == "m" else 3)) if match else 0
    if not 2**20 <= size <= 2**30:
        raise ValueError("is not a size between 1 MiB and 1 GiB")
    return size


def _dump_bytes(value: Any) -> int:
    match = _FILE_SIZE.fullmatch(str(value).strip())
    size = int(float(match[1]) * 1024 ** (2 if match[2].lower() == "m" else 3)) if match else 0
    if not 2**20 <= size <= 2**36:
        raise ValueError("is not a size between 1 MiB and 64 GiB")
    return size


def _history(value: Any) -> timedelta:
    length = parse_duration(value)
    if length < timedelta(hours=1):
        raise ValueError("is shorter than an hour")
    return length


def _share(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise ValueError("is not a share above 0 and up to 1, e.g. 0.99")
    return float(value)


def _open(value: Any) -> Any:
    if not isinstance(value, bool | dict):
        raise ValueError("is neither true, false nor a JSON Schema")  # noqa: TRY004
    return value


def _schema(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("is not a JSON Schema")  # noqa: TRY004
    return value


def _metrics(value: Any) -> str:
    text = _text(value)
    if text not in METRICS_MODES and not (text.startswith("truncate(") and text[9:-1].isdigit() and text.endswith(")")):
        raise ValueError("is not one of none, counts, full, truncate(N)")
    return text


NAMES: Mapping[str, Mapping[str, Callable[[Any], Any]]] = {
    "table": {
        "writeMode": _one_of(*WRITE_MODES),
        "engine": _one_of(*ENGINES),
        "incremental": _one_of(*INCREMENTALS),
        "incrementalKey": _texts,
        "outlivesInputs": _flag,
        "slowInputs": _texts,
        "optionalInputs": _texts,
        "mergeStrategy": _one_of(*MERGE_STRATEGIES),
        "sequence": _texts,
        "deleteMarker": _marker,
        "sortOrder": _texts,
        "dedupeKey": _text,
        "dedupeWindow": parse_duration,
        "eventTime": _text,
        "watermarkDelay": parse_duration,
        "loud": _flag,
        "maxEventBytes": _positive,
        "targetFileSize": _file_bytes,
        "timeTravel": _history,
        "validity": _flag,
        "additionalProperties": _open,
        "eventSchema": _schema,
    },
    "server": {
        "source": _one_of(*SOURCE_KINDS),
        "publishes": _one_of(*PUBLISHED_KINDS),
        "revisions": _one_of(*REVISIONS),
        "text": _flag,
        "fileSize": _dump_bytes,
        "connection": _text,
        "path": _text,
        "stream": _text,
        "topics": _texts,
        "schemaTitle": _text,
        "start": read_start,
        "cadence": _one_of(*CADENCES),
        "format": _one_of(*FORMATS),
        "compression": _one_of(*COMPRESSIONS),
        "encoding": read_encoding,
        "dialect": read_dialect,
        "complete": read_complete,
        "table": _text,
        "query": read_query,
        "cursor": _text,
        "overlap": read_overlap,
        "records": _text,
        "paging": read_paging,
        "cursorParameter": _text,
        "cursorTemplate": read_cursor_template,
        "budget": parse_duration,
    },
    "column": {
        "partitionTransform": _text,
        "unit": _text,
        "metrics": _metrics,
        "additionalProperties": _open,
        "eventSchema": _schema,
        "nullable": _flag,
    },
    "check": {"scope": _one_of(*SCOPES)},
    "sla": {"objective": _share, "window": _text},
    "contract": {},
}


def read_custom(place: str, owner: Mapping[str, Any], path: DocumentPath, findings: Findings) -> dict[str, Any]:
    """Our custom properties of one element, converted; what is wrong with them goes to `findings`.

    Args:
        place: table, server, column, check, sla or contract.
        owner: the element that has `customProperties`.
        path: where the element stands in the document.
        findings: takes what is wrong.

    A property with a `vendor` other than `sdp` is another tool's and passes unread, as does an unknown name that resembles none
    of ours.
    """
    values: dict[str, Any] = {}
    known = NAMES[place]
    for index, entry in enumerate(owner.get("customProperties") or ()):
        name, here = entry["property"], (*path, "customProperties", index)
        if entry.get("vendor", "sdp") != "sdp":
            continue
        if name not in known:
            _warn_unknown(place, name, here, findings)
        elif name in values:
            findings.error("contract-custom-twice", here, f"The custom property {name} is given twice.", "Keep one of them.")
        else:
            try:
                values[name] = known[name](entry["value"])
            except ValueError as reason:
                findings.error(
                    "contract-custom-value",
                    (*here, "value"),
                    f"The custom property {name} has the value {show(entry['value'])}, which {reason}.",
                    _example(name),
                )
    return values


def _example(name: str) -> str:
    examples = {
        "dedupeWindow": "60 minutes",
        "watermarkDelay": "30 seconds",
        "loud": "true",
        "outlivesInputs": "true",
        "slowInputs": "[content/pages_dump]",
        "optionalInputs": "[content/pages_dump]",
        "maxEventBytes": "1048576",
        "targetFileSize": "128 MiB",
        "fileSize": "512 MiB",
        "timeTravel": "5 days",
        "eventTime": "meta.dt",
        "deleteMarker": "is_deleted or op=d",
        "objective": "0.99",
        "validity": "true",
        "start": "2026-01-01",
        "dialect": '{delimiter: ";", null: ["", NULL]}',
        "complete": '10 seconds, or {marker: "{name}.done"}',
        "paging": "{style: page, parameter: page, size: 100, sizeParameter: per_page}",
        "overlap": "10 minutes",
        "cursorTemplate": '[["updated_at", "gt", "{cursor}"]]',
        "budget": "5 minutes",
        "encoding": "utf-8",
    }
    return f"Write e.g. {examples[name]}." if name in examples else "Give it a value that docs/contracts.md lists."


def _warn_unknown(place: str, name: str, here: DocumentPath, findings: Findings) -> None:
    elsewhere = [other for other, names in NAMES.items() if name in names]
    if elsewhere:
        findings.warning(
            "contract-custom-misplaced",
            here,
            f"The custom property {name} has no effect on a {place}; it belongs on a {' or a '.join(elsewhere)}.",
            f"Move it to the {elsewhere[0]}.",
        )
        return
    match = close_match(name, [word for names in NAMES.values() for word in names])
    if match is not None:
        findings.warning(
            "contract-custom-unknown", here, f"The custom property {name} is not one the platform reads.", f"Did you mean {match}?"
        )
