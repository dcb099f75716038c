"""Draft a product from what there is: an event JSON Schema, a sample of events or records, the contracts that a function is to read.

Returns text; writing files is the CLI's.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from platform_resources.contracts.columns import COLUMN_NAME
from platform_resources.contracts.json_schema import EventShape, shape_from_json_schema
from platform_resources.contracts.model import Contract
from platform_resources.errors import PlatformError

SAMPLE_EVENTS = 10_000
_DATE_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_META: tuple[dict[str, Any], ...] = (
    {"name": "id", "logicalType": "string", "description": "Unique id of the event; the gate fills it where absent."},
    {"name": "dt", "logicalType": "timestamp", "description": "When the platform accepted the event, UTC; the gate fills it where absent."},
    {"name": "stream", "logicalType": "string", "required": True, "description": "Stream that the event belongs to."},
)


class _Dumper(yaml.SafeDumper):
    """Block style with indented lists, as people write contracts."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, indentless=False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def draft_from_event_schema(
    schema: Mapping[str, Any], *, domain: str, product: str, stream: str | None = None, sampled: bool = False
) -> str:
    """A draft contract, YAML text, for the stream of a JSON Schema.

    Columns, constraints and descriptions come from the schema; title and version from its `$id`, the stream's name from `stream`,
    else from the schema's first example that names one, else `domain.product`. `$schema`, `meta.stream`, `meta.id` and `meta.dt`
    are added where the schema lacks them, since every event has them once it passed the gate. Descriptions that the schema lacks
    stay missing: a draft may lack them, an active contract may not.

    Raises:
        PlatformError: `event-schema-...` when no table can hold such events.
    """
    shape = shape_from_json_schema(schema)
    title, version = _identity(schema, domain, product)
    table: dict[str, Any] = {"name": product, "logicalType": "object"}
    description = " ".join(str(schema.get("description") or "").split())
    custom: list[dict[str, Any]] = [{"property": "eventTime", "value": "dt"}] if _has_event_time(shape) else []
    if shape.additional is not False:
        custom.append({"property": "additionalProperties", "value": shape.additional})
    if shape.residue:
        custom.append({"property": "eventSchema", "value": shape.residue})
    if custom:
        table["customProperties"] = custom
    table["properties"] = _with_envelope(shape.properties)
    name = stream or _example_stream(schema) or f"{domain}.{product}"
    contract: dict[str, Any] = {
        "apiVersion": "v3.2.0",
        "kind": "DataContract",
        "id": f"{domain}.{product}",
        "name": product.replace("_", " ").capitalize(),
        "version": version,
        "status": "draft",
        "domain": domain,
        "description": {"purpose": description or f"Events of the stream {name}."},
        "servers": [
            {
                "server": "events",
                "type": "custom",
                "customProperties": [
                    {"property": "source", "value": "stream"},
                    {"property": "stream", "value": name},
                    {"property": "schemaTitle", "value": title},
                ],
            }
        ],
        "schema": [table],
        "slaProperties": [{"property": "latency", "value": 15, "unit": "minutes"}],
    }
    origin = "a sample of events" if sampled else f"the event schema {schema.get('$id') or schema.get('title') or 'given'}"
    head = f"# Drafted from {origin}. Describe every column and set status: active when others may rely on it.\n"
    return head + yaml.dump(contract, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def _identity(schema: Mapping[str, Any], domain: str, product: str) -> tuple[str, str]:
    """Title and version of an event schema: `/mediawiki/page/change/1.3.0` is `mediawiki/page/change`, 1.3.0."""
    match = re.fullmatch(r"/?(?P<title>.+?)/(?P<version>\d+\.\d+\.\d+)#?", str(schema.get("$id") or schema.get("id") or ""))
    if match and "://" not in match["title"]:
        return match["title"], match["version"]
    title = str(schema.get("title") or "")
    return (title if re.fullmatch(r"[\w./-]+", title) else f"{domain}/{product}"), match["version"] if match else "1.0.0"


def _example_stream(schema: Mapping[str, Any]) -> str | None:
    for example in schema.get("examples") or ():
        stream = (example.get("meta") or {}).get("stream") if isinstance(example, Mapping) else None
        if isinstance(stream, str):
            return stream
    return None


def _has_event_time(shape: EventShape) -> bool:
    """A required top-level `dt`, by Wikimedia's convention the time the event happened (`meta.dt` is when it was received)."""
    return any(column["name"] == "dt" and column["logicalType"] == "timestamp" and column.get("required") for column in shape.properties)


def _with_envelope(properties: list[dict[str, Any]]) -> list[dict[str, Any]]:
    columns = list(properties)
    by_name = {column["name"]: column for column in columns}
    if "_schema" not in by_name:
        text = "Title and version of the event's schema, the event's $schema."
        columns.insert(0, {"name": "_schema", "logicalType": "string", "required": True, "description": text})
    meta = by_name.get("meta")
    if meta is None:
        text = "What the platform knows of the event: its id, stream and times."
        opening = [{"property": "additionalProperties", "value": True}]
        columns.append(
            {
                "name": "meta",
                "logicalType": "object",
                "required": True,
                "description": text,
                "properties": [dict(part) for part in _META],
                "customProperties": opening,
            }
        )
    elif meta.get("properties"):
        names = {part["name"] for part in meta["properties"]}
        meta["properties"] = [*meta["properties"], *(dict(part) for part in _META if part["name"] not in names)]
    else:
        message = "The JSON Schema declares meta as something else than an object with properties."
        raise PlatformError("event-schema-meta", message, "Give meta its properties.")
    return columns


# ---- from a sample -----------------------------------------------------------------------------------------------------------------


@dataclass
class _Seen:
    """What the values at one place of the sample were."""

    kinds: set[str] = field(default_factory=set)
    formats: set[str] = field(default_factory=set)
    children: dict[str, _Seen] = field(default_factory=dict)
    element: _Seen | None = None


def draft_from_sample(lines: Iterable[bytes], *, domain: str, product: str, stream: str | None = None) -> str:
    """A draft contract, YAML text, inferred from newline-delimited JSON events (the first 10,000 count).

    Types are those seen: whole numbers, numbers, booleans, texts, RFC 3339 times, dates, nested objects, lists. A field of several
    types or only null is JSON text. A sample cannot promise what it did not show, so only `$schema`, `meta` and `meta.stream` are
    required, every object stays open, and no description is invented.

    Raises:
        PlatformError: `sample-empty`, `sample-malformed` with the line, or `event-schema-...` for names that cannot be columns.
    """
    root, count, first_stream, first_schema = _Seen(), 0, None, None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        event = _event(line, number)
        meta = event.get("meta")
        if first_stream is None and isinstance(meta, dict) and isinstance(meta.get("stream"), str):
            first_stream = meta["stream"]
        first_schema = first_schema or event.get("$schema")
        _see(event, root)
        count += 1
        if count >= SAMPLE_EVENTS:
            break
    if not count:
        raise PlatformError("sample-empty", "The sample holds no event.", "Give a file with one JSON object per line.")
    schema = _schema_of(root)
    schema["required"] = [name for name in ("$schema", "meta") if name in schema["properties"]]
    meta_schema = schema["properties"].get("meta", {})
    if "stream" in meta_schema.get("properties", {}):
        meta_schema["required"] = ["stream"]
    if isinstance(first_schema, str):
        schema["$id"] = first_schema
    return draft_from_event_schema(schema, domain=domain, product=product, stream=stream or first_stream, sampled=True)


def _event(line: bytes, number: int) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError as reason:
        message = f"Line {number} of the sample is not JSON: {reason}."
        raise PlatformError("sample-malformed", message, "Give one JSON object per line.") from None
    if not isinstance(event, dict):
        raise PlatformError("sample-malformed", f"Line {number} of the sample is no JSON object.", "Give one JSON object per line.")
    return event


def _see(value: Any, seen: _Seen) -> None:
    kind = {bool: "boolean", int: "integer", float: "number", str: "string", dict: "object", list: "array"}.get(type(value), "null")
    seen.kinds.add(kind)
    if isinstance(value, str):
        seen.formats.add("date-time" if _DATE_TIME.fullmatch(value) else "date" if _DATE.fullmatch(value) else "")
    elif isinstance(value, dict):
        for name, child in value.items():
            _see(child, seen.children.setdefault(name, _Seen()))
    elif isinstance(value, list):
        seen.element = seen.element or _Seen()
        for child in value:
            _see(child, seen.element)


def _schema_of(seen: _Seen) -> dict[str, Any]:
    """The JSON Schema of what was seen."""
    kinds = seen.kinds - {"null"}
    if kinds == {"integer", "number"}:
        kinds = {"number"}
    if len(kinds) != 1:
        return {}
    kind = next(iter(kinds))
    schema: dict[str, Any] = {"type": [kind, "null"] if "null" in seen.kinds else kind}
    if kind == "string" and len(seen.formats) == 1 and "" not in seen.formats:
        schema["format"] = next(iter(seen.formats))
    elif kind == "object":
        names = [name for name in seen.children if name == "$schema" or COLUMN_NAME.fullmatch(name)]
        if len(names) == len(seen.children):
            schema["properties"] = {name: _schema_of(child) for name, child in seen.children.items()}
        else:  # ids or titles as keys: no columns
            schema["additionalProperties"] = True
    elif kind == "array" and seen.element is not None and seen.element.kinds:
        schema["items"] = _schema_of(seen.element)
    return schema


# ---- what lands --------------------------------------------------------------------------------------------------------------------


def columns_of_records(records: Iterable[Mapping[str, Any]], *, text: bool = False) -> list[dict[str, Any]]:
    """ODCS properties of sampled records (the first 10,000 count): types as seen, nothing required, nothing described.

    A field whose name cannot be a column's gets another name, and its own as `physicalName`. In a `text` the types are only guessed from
    what stands there: a field of several, or of none, is text.

    Raises:
        PlatformError: `sample-empty`.
    """
    root = _Seen()
    for record in itertools.islice(records, SAMPLE_EVENTS):
        _see(dict(record), root)
    if not root.children:
        raise PlatformError("sample-empty", "The sample holds no record.", "Give a file with some.")
    names = column_names(root.children)
    schema = {
        "type": "object",
        "properties": {names[name]: _schema_of(child) or ({"type": "string"} if text else {}) for name, child in root.children.items()},
    }
    own = {column: name for name, column in names.items() if column != name}
    return [_closed(column) | ({"physicalName": own[column["name"]]} if column["name"] in own else {}) for column in
            shape_from_json_schema(schema).properties]  # fmt: skip


def column_names(names: Iterable[str]) -> dict[str, str]:
    """A column's name for each of a source's field: its own where it can be one, else what is left of it in lower case, numbered."""
    found: dict[str, str] = {}
    for number, name in enumerate(names, start=1):
        fits = COLUMN_NAME.fullmatch(name) is not None and not name.startswith("_")
        column = name if fits else re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or f"column_{number}"
        column = f"c_{column}" if column[0].isdigit() else column
        taken = {one.lower() for one in found.values()}
        found[name] = column if column.lower() not in taken else f"{column}_{number}"
    return found


def _closed(column: dict[str, Any]) -> dict[str, Any]:
    """A column without the openness of events: what lands has the fields that are declared."""
    kept = {name: value for name, value in column.items() if name != "customProperties"}
    if "properties" in kept:
        kept["properties"] = [_closed(child) for child in kept["properties"]]
    if "items" in kept:
        kept["items"] = _closed(kept["items"])
    return kept


def draft_landed(
    columns: Sequence[Mapping[str, Any]], *, domain: str, product: str, source: Mapping[str, Any], origin: str, advice: str = ""
) -> str:
    """A draft contract, YAML text, of a product that lands.

    Args:
        columns: ODCS properties.
        domain: whose it is.
        product: its name.
        source: custom properties of the server.
        origin: what it was drafted from, for people.
        advice: one more sentence for whoever writes on.
    """
    place = source.get("path") or source.get("table") or source["source"]
    contract = {
        "apiVersion": "v3.2.0",
        "kind": "DataContract",
        "id": f"{domain}.{product}",
        "name": product.replace("_", " ").capitalize(),
        "version": "1.0.0",
        "status": "draft",
        "domain": domain,
        "description": {"purpose": f"What lands from {place}."},
        "servers": [
            {
                "server": source.get("connection", "drop"),
                "type": "custom",
                "customProperties": [{"property": name, "value": value} for name, value in source.items()],
            }
        ],
        "schema": [{"name": product, "logicalType": "object", "properties": [dict(column) for column in columns]}],
    }
    head = (
        f"# Drafted from {origin}. Describe every column, mark the primaryKey, and set status: active when others may rely on it.\n"
        "# How it lands is in docs/how-to/land.md.\n"
    ) + (f"# {advice}\n" if advice else "")
    return head + yaml.dump(contract, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


# ---- a Python product --------------------------------------------------------------------------------------------------------------

_PYTHON = '''"""{title}, computed from {read}."""

import polars as pl

from platform_resources import data_product


@data_product(inputs={inputs})
def {product}({parameters}) -> pl.LazyFrame:
    """The rows of {first} as they are. Go on from here: {key} is what this function returns."""
    return {parameter}.select(
{columns}    )
'''
_KEPT = ("name", "logicalType", "physicalType", "required", "description", "classification", "tags")
_KEPT_CUSTOM = frozenset({"unit", "metrics"})


def draft_python(inputs: Sequence[Contract], *, domain: str, product: str) -> tuple[str, str]:
    """A draft transform (Python text, Polars) and its contract (YAML text): the rows of the first input, its declared columns selected.

    Further inputs are parameters that the draft does not use yet. Columns keep type, description, unit and classification, and name
    their source; keys, partitions, constraints and checks are the new product's own to declare. `_schema` is left out: it is the
    event's.
    """
    first, names = inputs[0], _parameters(inputs)
    columns = [column for column in first.document["schema"][0]["properties"] if column["name"] != "_schema"]
    title = product.replace("_", " ").capitalize()
    read = " and ".join(contract.key for contract in inputs)
    function = _PYTHON.format(
        title=title,
        read=read,
        inputs="{" + ", ".join(f'"{name}": "{contract.key}"' for name, contract in zip(names, inputs, strict=True)) + "}",
        product=product,
        parameters=", ".join(f"{name}: pl.LazyFrame" for name in names),
        first=first.key,
        key=f"{domain}/{product}",
        parameter=names[0],
        columns="".join(f'        "{column["name"]}",\n' for column in columns),
    )
    contract = {
        "apiVersion": "v3.2.0",
        "kind": "DataContract",
        "id": f"{domain}.{product}",
        "name": title,
        "version": "1.0.0",
        "status": "draft",
        "domain": domain,
        "description": {"purpose": f"Computed from {read.replace('/', '.')}."},
        "schema": [
            {
                "name": product,
                "logicalType": "object",
                "properties": [
                    _passed_on(column) | {"transformSourceObjects": [f"{first.identifier}.{column['name']}"]} for column in columns
                ],
            }
        ],
        "slaProperties": [{"property": "latency", "value": 15, "unit": "minutes"}],
    }
    head = f"# Drafted with {product}.py. Describe every column and set status: active when others may rely on it.\n"
    return function, head + yaml.dump(contract, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def _parameters(inputs: Sequence[Contract]) -> list[str]:
    """A parameter name for each input: its own, with its domain's where two inputs are namesakes."""
    names = [contract.name for contract in inputs]
    return [contract.name if names.count(contract.name) == 1 else f"{contract.domain}_{contract.name}" for contract in inputs]


def _passed_on(declared: Mapping[str, Any]) -> dict[str, Any]:
    """What holds for a column wherever its values go, nested ones too; what an event owes or how a table is laid out does not."""
    custom = {entry["property"]: entry["value"] for entry in declared.get("customProperties") or ()}
    column = {name: declared[name] for name in _KEPT if name in declared and not (name == "required" and custom.get("nullable"))}
    kept = [{"property": name, "value": value} for name, value in custom.items() if name in _KEPT_CUSTOM]
    if kept:
        column["customProperties"] = kept
    if declared.get("properties"):
        column["properties"] = [_passed_on(child) for child in declared["properties"]]
    if declared.get("items"):
        column["items"] = _passed_on(declared["items"])
    if declared.get("map"):
        column["map"] = {part: _passed_on(declared["map"][part]) for part in ("key", "value")}
    return column
