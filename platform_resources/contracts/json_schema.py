"""Event JSON Schema both ways: ODCS properties from a JSON Schema, the gate's schema from a contract.

What ODCS cannot say about a field stays in its custom property `eventSchema` (JSON Schema keywords verbatim), so the schema that the
gate generates refuses what the original refused. Two deliberate differences: an optional field may be null, since absent is null
here; a whole number must fit its column.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pyiceberg.types import BinaryType, DecimalType, FixedType, IntegerType, LongType, TimestampType, UUIDType

from platform_resources.contracts.columns import COLUMN_NAME
from platform_resources.contracts.model import Column, Contract
from platform_resources.contracts.schema_algebra import ANNOTATIONS, Plain
from platform_resources.errors import PlatformError

DRAFT = "http://json-schema.org/draft-07/schema#"
_INT, _LONG = (-(2**31), 2**31 - 1), (-(2**63), 2**63 - 1)
_COMBINATORS = frozenset({"anyOf", "oneOf", "allOf", "not", "if", "then", "else"})
_TEMPORAL_FORMATS = {"date-time": "timestamp", "date": "date"}
_NUMBER_OPTIONS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_STRING_OPTIONS = ("minLength", "maxLength", "pattern", "format")
_ARRAY_OPTIONS = ("minItems", "maxItems", "uniqueItems")
_OBJECT_OPTIONS = ("minProperties", "maxProperties")
_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "string": _STRING_OPTIONS, "integer": _NUMBER_OPTIONS, "number": _NUMBER_OPTIONS, "array": _ARRAY_OPTIONS, "object": _OBJECT_OPTIONS,
    "map": _OBJECT_OPTIONS,
}  # fmt: skip


# ---- contract -> JSON Schema -------------------------------------------------------------------------------------------------------


def event_schema(contract: Contract) -> dict[str, Any]:
    """The JSON Schema (draft 7) that events of a stream are checked against at the gate.

    `$id` is `/<schemaTitle>/<contract version>`; the column `_schema` is the event's `$schema`. Required fields may not be null unless
    `nullable`; optional ones may. Columns of the platform (`_topic`, ...) are no part of it.
    """
    schema: dict[str, Any] = {
        "$schema": DRAFT,
        "$id": f"/{contract.event_title}/{contract.version}",
        "title": contract.event_title,
        "type": "object",
    }
    if contract.description:
        schema["description"] = contract.description
    schema |= _object(contract.columns, closed=contract.closed, extra=contract.extra_schema)
    return _overlay(schema, contract.json_schema)


def column_event_schema(column: Column) -> dict[str, Any]:
    """The JSON Schema of one field's value."""
    schema: dict[str, Any] = {}
    if column.description:
        schema["description"] = column.description
    schema |= _shape(column)
    if column.enum:
        schema["enum"] = list(column.enum)
    schema = _overlay(schema, column.json_schema)
    return schema if column.required else _nullable(schema)


def _object(columns: tuple[Column, ...], *, closed: bool, extra: Mapping[str, Any]) -> dict[str, Any]:
    shape: dict[str, Any] = {}
    required = [column.event_name for column in columns if column.must_be_present]
    if required:
        shape["required"] = required
    shape["properties"] = {column.event_name: column_event_schema(column) for column in columns}
    shape["additionalProperties"] = False if closed else dict(extra) if extra else True
    return shape


def _shape(column: Column) -> dict[str, Any]:
    options = {word: column.options[word] for word in _OPTIONS.get(column.logical_type, ()) if word in column.options}
    if column.is_json:
        kinds = {"object": {"type": "object"}, "map": {"type": "object"}, "array": {"type": "array"}}
        return kinds.get(column.logical_type, {}) | (options if column.logical_type != "string" else {})
    if column.fields:
        return {"type": "object"} | options | _object(column.fields, closed=column.closed, extra=column.extra_schema)
    if column.element is not None:
        return {"type": "array"} | options | {"items": column_event_schema(column.element)}
    if column.key is not None and column.value is not None:
        names = {word: column.key.options[word] for word in ("minLength", "maxLength", "pattern") if word in column.key.options}
        if column.key.enum:
            names["enum"] = list(column.key.enum)
        keyed = {"propertyNames": names} if names else {}
        return {"type": "object"} | options | keyed | {"additionalProperties": column_event_schema(column.value)}
    return _primitive(column, options)


def _primitive(column: Column, options: dict[str, Any]) -> dict[str, Any]:
    kind = column.type
    if isinstance(kind, IntegerType | LongType):
        low, high = _INT if isinstance(kind, IntegerType) else _LONG
        bounds: dict[str, Any] = {"minimum": max(low, options.get("minimum", low)), "maximum": min(high, options.get("maximum", high))}
        return {"type": "integer"} | options | bounds
    if isinstance(kind, DecimalType):  # text keeps what a double would lose
        return {"type": ["number", "string"], "pattern": r"^-?\d+(\.\d+)?$"} | options
    if isinstance(kind, UUIDType):
        return {"type": "string", "format": "uuid"}
    if isinstance(kind, BinaryType | FixedType):
        base64: dict[str, Any] = {"type": "string", "contentEncoding": "base64", "pattern": "^[A-Za-z0-9+/]*={0,2}$"}
        size = 4 * math.ceil(len(kind) / 3) if isinstance(kind, FixedType) else None
        return base64 if size is None else base64 | {"minLength": size, "maxLength": size}
    if isinstance(kind, TimestampType):
        return {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(\.\d{1,6})?$"}
    plain: Mapping[str, dict[str, Any]] = {
        "boolean": {"type": "boolean"},
        "number": {"type": "number"},
        "date": {"type": "string", "format": "date"},
        "time": {"type": "string", "pattern": r"^\d{2}:\d{2}:\d{2}(\.\d{1,6})?$"},
        "timestamp": {"type": "string", "format": "date-time"},
    }
    return plain.get(column.logical_type, {"type": "string"}) | options


def _overlay(schema: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords ODCS has no room for laid over what was generated; `required` adds up."""
    required = [*schema.get("required", ()), *(name for name in more.get("required", ()) if name not in schema.get("required", ()))]
    merged = schema | dict(more)
    return merged | {"required": required} if required else merged


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    if _COMBINATORS & schema.keys():
        return {"anyOf": [{"type": "null"}, schema]}
    schema = dict(schema)
    if "type" in schema:
        kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        schema["type"] = kinds if "null" in kinds else [*kinds, "null"]
    if "enum" in schema and None not in schema["enum"]:
        schema["enum"] = [*schema["enum"], None]
    return schema


# ---- JSON Schema -> contract -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EventShape:
    """What a JSON Schema says of an event, in ODCS terms: its properties, whether undeclared fields may come, what has no field."""

    properties: list[dict[str, Any]]
    additional: Any = True
    residue: dict[str, Any] = field(default_factory=dict)


def columns_from_json_schema(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    """ODCS properties of an event JSON Schema (drafts 4 to 2020-12: local `$ref`, `allOf`, unions with null).

    Raises:
        PlatformError: `event-schema-...` for a schema that is no object, refers outside itself, or whose names cannot be columns.
    """
    return shape_from_json_schema(schema).properties


def shape_from_json_schema(schema: Mapping[str, Any]) -> EventShape:
    """Columns, openness and residue of an event JSON Schema; raises as `columns_from_json_schema`."""
    importer = _Importer(Plain(schema))
    plain = importer.plain.of(schema)
    properties, additional = dict(plain.get("properties") or {}), plain.get("additionalProperties", True)
    if plain.get("type", ["object"]) != ["object"]:
        raise PlatformError(
            "event-schema-not-object", "The JSON Schema describes no object, but an event is one.", "Give the schema of whole events."
        )
    if not properties and isinstance(additional, Mapping):  # a fragment that is one map: held by a column of its own
        return EventShape([importer.convert("entries", schema, required=True)], False)
    if not properties:
        raise PlatformError("event-schema-empty", "The JSON Schema declares no properties.", "Declare the event's fields in it.")
    fault = _names_fault(properties)
    if fault is not None:
        raise PlatformError("event-schema-name", f"The JSON Schema {fault}.", "Rename the field in the event.")
    reserved = next((name for name in properties if name.startswith("_") and name != "_schema"), None)
    if reserved is not None:
        raise PlatformError(
            "event-schema-name",
            f"The JSON Schema declares {reserved}, but names with a leading underscore are the platform's.",
            "Rename the field in the event.",
        )
    required = set(plain.get("required") or ())
    columns = [importer.convert(name, child, required=name in required) for name, child in properties.items()]
    residue = importer.residue(plain, ("type", "properties", "required", "additionalProperties", *_OBJECT_OPTIONS))
    residue |= {word: plain[word] for word in _OBJECT_OPTIONS if word in plain}
    missing = [name for name in plain.get("required") or () if name not in properties]
    if missing:
        residue["required"] = missing
    extra = importer.plain.whole(additional) if isinstance(additional, Mapping) else additional
    return EventShape(columns, extra if extra != {} else True, residue)


def _names_fault(properties: Mapping[str, Any]) -> str | None:
    """Why names of siblings cannot be columns, None when they can."""
    seen: dict[str, str] = {}
    for name in properties:
        column = _column_name(name)
        if COLUMN_NAME.fullmatch(column) is None:
            return f"declares the field {name!r}, which cannot be a column's name"
        other = seen.setdefault(column.lower(), name)
        if other != name:
            return f"declares the fields {other} and {name}, which are one name to SQL"
    return None


def _column_name(name: str) -> str:
    return "_schema" if name == "$schema" else name


class _Importer:
    """Turns the fields of one JSON Schema into ODCS properties."""

    def __init__(self, plain: Plain) -> None:
        self.plain = plain

    def convert(self, name: str, schema: Any, *, required: bool) -> dict[str, Any]:
        """One named property."""
        value, nullable = self._value(schema)
        converted = {"name": _column_name(name), **value}
        if required:
            converted["required"] = True
            if nullable:
                _custom(converted, "nullable", value=True)
        return _ordered(converted)

    def _part(self, schema: Any) -> dict[str, Any]:
        """A list's element or a map's value: required unless null is one of its values."""
        value, nullable = self._value(schema)
        return _ordered(value if nullable else {**value, "required": True})

    def _value(self, schema: Any) -> tuple[dict[str, Any], bool]:
        """The property without name and required, and whether null is among its values."""
        plain = self.plain.of(schema)
        kinds, nullable = self._kinds(plain)
        if kinds is None:
            return self._json(plain, "string"), nullable
        if kinds == "object":
            value = self._object(plain)
        elif kinds == "array":
            value = self._array(plain)
        else:
            value = self._scalar(plain, kinds)
        return value, nullable

    def _kinds(self, plain: dict[str, Any]) -> tuple[str | None, bool]:
        """The one type of a schema's values besides null (None: several, or unknown), and whether null is allowed."""
        enum = plain.get("enum")
        implied = list(plain["type"]) if "type" in plain else _implied_kinds(plain)
        nullable = (enum is None or None in enum) and ("null" in plain.get("type", ("null",)))
        if implied is None:
            return None, nullable
        kinds = implied
        kinds = [kind for kind in kinds if kind != "null"]
        if set(kinds) == {"integer", "number"}:
            kinds = ["number"]
        if len(kinds) != 1 or (enum is not None and not _plain_enum(enum)):
            return None, nullable
        if _COMBINATORS & plain.keys() and "type" not in plain:
            return None, nullable
        return kinds[0], nullable

    def _json(self, plain: dict[str, Any], logical: str) -> dict[str, Any]:
        """JSON text: what has no type, several, or a shape that no column has. The original stays as `eventSchema`."""
        value = self._described(plain, {"logicalType": logical, "physicalType": "json"})
        rest = self.plain.whole(plain)
        if logical != "string" and rest.get("type") == logical:
            rest.pop("type")
        if isinstance(rest.get("type"), list):
            rest["type"] = [kind for kind in rest["type"] if kind != "null"] or ["null"]
        if rest:
            _custom(value, "eventSchema", value=rest)
        return value

    def _object(self, plain: dict[str, Any]) -> dict[str, Any]:
        properties, additional = dict(plain.get("properties") or {}), plain.get("additionalProperties", True)
        typed = isinstance(additional, Mapping) and self.plain.whole(additional) != {}
        required = list(plain.get("required") or ())
        if typed and "patternProperties" not in plain and self._all_alike(properties, additional):
            return self._map(plain, additional, required)
        if not properties or _names_fault(properties) is not None:
            return self._json(plain, "object")
        value = self._described(plain, {"logicalType": "object"})
        _options(value, plain, _OBJECT_OPTIONS)
        value["properties"] = [self.convert(name, child, required=name in required) for name, child in properties.items()]
        residue = self.residue(plain, ("type", "properties", "required", "additionalProperties", *_OBJECT_OPTIONS))
        missing = [name for name in required if name not in properties]
        if missing:
            residue["required"] = missing
        if "patternProperties" in plain:  # such fields are undeclared ones to a table
            residue["additionalProperties"] = self.plain.whole(additional) if isinstance(additional, Mapping) else additional
            additional = True
        if additional is not False:
            _custom(value, "additionalProperties", value=self.plain.whole(additional) if typed and additional is not True else True)
        if residue:
            _custom(value, "eventSchema", value=residue)
        return value

    def _all_alike(self, properties: Mapping[str, Any], additional: Any) -> bool:
        """Whether every named property is what any other may be: then the object is a map."""
        common = self.plain.whole(additional)
        return all(self.plain.whole(child) == common for child in properties.values())

    def _map(self, plain: dict[str, Any], additional: Any, required: list[str]) -> dict[str, Any]:
        value = self._described(plain, {"logicalType": "map"})
        _options(value, plain, _OBJECT_OPTIONS)
        key: dict[str, Any] = {"logicalType": "string", "required": True}
        names = self.plain.whole(plain.get("propertyNames") or {})
        names.pop("type", None)
        if set(names) <= {"minLength", "maxLength", "pattern"}:
            _options(key, names, ("minLength", "maxLength", "pattern"))
        value["map"] = {"key": key, "value": self._part(additional)}
        handled = ("type", "properties", "additionalProperties", "required", *_OBJECT_OPTIONS)
        residue = self.residue(plain, (*handled, "propertyNames") if "logicalTypeOptions" in key else handled)
        if required:
            residue["required"] = required
        if residue:
            _custom(value, "eventSchema", value=residue)
        return value

    def _array(self, plain: dict[str, Any]) -> dict[str, Any]:
        items = plain.get("items")
        if not isinstance(items, Mapping) or self.plain.whole(items) == {}:
            return self._json(plain, "array")
        value = self._described(plain, {"logicalType": "array"})
        _options(value, plain, _ARRAY_OPTIONS)
        value["items"] = self._part(items)
        residue = self.residue(plain, ("type", "items", *_ARRAY_OPTIONS))
        if residue:
            _custom(value, "eventSchema", value=residue)
        return value

    def _scalar(self, plain: dict[str, Any], kind: str) -> dict[str, Any]:
        temporal = _TEMPORAL_FORMATS.get(str(plain.get("format"))) if kind == "string" else None
        logical = temporal or kind
        value = self._described(plain, {"logicalType": logical})
        handled = ["type", "enum"]
        if temporal:
            handled.append("format")
        else:
            plain = {word: bound for word, bound in plain.items() if (word, bound) not in (("minimum", _LONG[0]), ("maximum", _LONG[1]))}
            words = tuple(word for word in _OPTIONS.get(kind, ()) if word in plain)
            _options(value, plain, words)
            handled += words
        enum = [word for word in plain.get("enum") or () if word is not None]
        if enum:
            value["enum"] = [{"value": word} for word in enum]
        residue = self.residue(plain, tuple(handled))
        if residue:
            _custom(value, "eventSchema", value=residue)
        return value

    def residue(self, plain: Mapping[str, Any], handled: tuple[str, ...]) -> dict[str, Any]:
        """The keywords of a schema that ODCS has no field for, references resolved."""
        rest = {key: value for key, value in plain.items() if key not in handled and key not in ANNOTATIONS}
        return self.plain.whole(rest) if rest else {}

    @staticmethod
    def _described(plain: Mapping[str, Any], value: dict[str, Any]) -> dict[str, Any]:
        text = " ".join(str(plain.get("description") or "").split())
        return {**value, "description": text} if text else value


def _implied_kinds(plain: Mapping[str, Any]) -> list[str] | None:
    """The types a schema without `type` can only mean: those of its enum, or an object by its properties, an array by its items."""
    if "enum" in plain:
        names = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}
        kinds = {names.get(type(word), "other") for word in plain["enum"]}
        return None if "other" in kinds else sorted(kinds)
    if "properties" in plain:
        return ["object"]
    return ["array"] if "items" in plain else None


def _plain_enum(enum: list[Any]) -> bool:
    words = [word for word in enum if word is not None]
    return bool(words) and not any(isinstance(word, list | dict) for word in words) and len({repr(word) for word in words}) == len(words)


def _options(value: dict[str, Any], plain: Mapping[str, Any], words: tuple[str, ...]) -> None:
    options = {word: plain[word] for word in words if word in plain}
    if options:
        value["logicalTypeOptions"] = options


def _custom(owner: dict[str, Any], name: str, *, value: Any) -> None:
    owner.setdefault("customProperties", []).append({"property": name, "value": value})


_KEY_ORDER = ("name", "logicalType", "physicalType", "required", "description", "enum", "logicalTypeOptions", "customProperties")


def _ordered(value: dict[str, Any]) -> dict[str, Any]:
    """Keys in the order people write them, what is nested last."""
    return {key: value[key] for key in (*_KEY_ORDER, "items", "map", "properties") if key in value}
