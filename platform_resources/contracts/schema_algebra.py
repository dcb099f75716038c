"""JSON Schema made plain: local `$ref` followed, `allOf` merged, nullable unions folded, draft-4 bounds modernised. Knows no contract.

`allOf` is merged the way Wikimedia's event schemas mean it (fragments that together make one object): `additionalProperties: false`
in one branch closes the whole, where strict JSON Schema would also refuse the other branches' properties.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from platform_resources.errors import PlatformError

ANNOTATIONS = frozenset({
    "title", "description", "$id", "id", "$schema", "$comment", "examples", "example", "default", "definitions", "$defs", "readOnly",
    "writeOnly", "deprecated", "$anchor",
})  # fmt: skip
_TIGHTER_UP = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_TIGHTER_DOWN = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_SUBSCHEMA_LISTS = ("anyOf", "oneOf", "allOf")
_SUBSCHEMAS = ("not", "if", "then", "else", "contains", "propertyNames", "additionalItems", "items", "additionalProperties")
_SUBSCHEMA_MAPS = ("properties", "patternProperties", "dependentSchemas")


_WITHIN = "$within"  # internal: the references on whose way a nested one stands


class Plain:
    """Plain views of the parts of one JSON Schema document."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self._by_id: dict[str, Mapping[str, Any]] = {}
        self._index(document)

    def of(self, schema: Any) -> dict[str, Any]:
        """One level made plain: no `$ref`, no `allOf`, `type` a list or absent. Children are left as they stand.

        Raises:
            PlatformError: `event-schema-ref` for a reference that leads out of the document.
        """
        if schema is True or schema is None:
            return {}
        if schema is False:
            return {"not": {}}
        if not isinstance(schema, Mapping):
            message = f"The JSON Schema holds {schema!r} where a schema should stand."
            raise PlatformError("event-schema-invalid", message, "Mend the JSON Schema.")
        plain = dict(schema)
        reference = plain.pop("$ref", None)
        if reference is not None:
            plain = self._follow(str(reference), plain)
        for branch in plain.pop("allOf", ()):
            plain = merge(plain, self.of(branch))
        return _modern(self._fold_null(plain))

    def whole(self, schema: Any) -> dict[str, Any]:
        """A schema made plain all the way down, annotations dropped: fit to stand by itself."""
        plain = {key: value for key, value in self.of(schema).items() if key not in ANNOTATIONS}
        for key in _SUBSCHEMA_MAPS:
            if isinstance(plain.get(key), Mapping):
                plain[key] = {name: self.whole(child) for name, child in plain[key].items()}
        for key in _SUBSCHEMA_LISTS:
            if key in plain:
                plain[key] = [self.whole(child) for child in plain[key]]
        for key in _SUBSCHEMAS:
            child = plain.get(key)
            if isinstance(child, Mapping):
                plain[key] = self.whole(child)
            elif isinstance(child, list):
                plain[key] = [self.whole(part) for part in child]
        if plain.get("additionalProperties") is True:
            del plain["additionalProperties"]  # the default
        if len(plain.get("type", ())) == 1:
            plain["type"] = plain["type"][0]
        return plain

    def _follow(self, reference: str, beside: dict[str, Any]) -> dict[str, Any]:
        within = (*beside.pop(_WITHIN, ()), reference)
        return merge(beside, self.of(_cut_cycles(self._target(reference), within)))

    def _target(self, reference: str) -> Any:
        base, _, fragment = reference.partition("#")
        target: Any = self.document if not base else self._by_id.get(base)
        for step in fragment.strip("/").split("/") if fragment.strip("/") else ():
            name = step.replace("~1", "/").replace("~0", "~").replace("%24", "$")
            target = target.get(name) if isinstance(target, Mapping) else None
        if target is None:
            raise PlatformError(
                "event-schema-ref",
                f"The JSON Schema refers to {reference}, which is not in the document.",
                "Give the schema with its references resolved, or put the fragment under definitions.",
            )
        return target

    def _index(self, node: Any) -> None:
        if isinstance(node, Mapping):
            if isinstance(node.get("$id"), str):
                self._by_id.setdefault(node["$id"].rstrip("#"), node)
            for key, child in node.items():
                if key not in ("examples", "enum", "const", "default"):
                    self._index(child)
        elif isinstance(node, list):
            for child in node:
                self._index(child)

    def _fold_null(self, plain: dict[str, Any]) -> dict[str, Any]:
        """`anyOf: [X, {type: null}]` is a nullable X."""
        for key in ("anyOf", "oneOf"):
            branches = plain.get(key)
            if not isinstance(branches, list):
                continue
            shapes = [self.of(branch) for branch in branches]
            others = [shape for shape in shapes if shape.get("type") != ["null"]]
            if len(others) == 1 and (len(shapes) == 2 or len(shapes) == 1):
                rest = {k: v for k, v in plain.items() if k != key}
                folded = merge(rest, others[0])
                if len(shapes) == 2 and "type" in folded:
                    folded["type"] = [*_types(folded), "null"]
                    if "enum" in folded and None not in folded["enum"]:
                        folded["enum"] = [*folded["enum"], None]
                if "type" in folded or len(shapes) == 1:
                    return folded
        return plain


def _cut_cycles(node: Any, within: tuple[str, ...]) -> Any:
    """A copy whose references back into `within` allow anything (JSON text in a table), the others remember the way they came."""
    if isinstance(node, list):
        return [_cut_cycles(child, within) for child in node]
    if not isinstance(node, Mapping):
        return node
    if isinstance(node.get("$ref"), str):
        if node["$ref"] in within:
            return {key: value for key, value in node.items() if key in ANNOTATIONS}
        return {**node, _WITHIN: within}
    return {key: child if key in ("enum", "const", "examples") else _cut_cycles(child, within) for key, child in node.items()}


def _types(schema: Mapping[str, Any]) -> list[str]:
    kind = schema.get("type")
    return [] if kind is None else list(kind) if isinstance(kind, list) else [kind]


def _modern(plain: dict[str, Any]) -> dict[str, Any]:
    if "type" in plain:
        plain["type"] = list(dict.fromkeys(_types(plain)))
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        flag = plain.get(exclusive)
        if isinstance(flag, bool):  # draft 4: a flag beside the bound
            del plain[exclusive]
            if flag and bound in plain:
                plain[exclusive] = plain.pop(bound)
    if "const" in plain:
        plain["enum"] = [plain.pop("const")]
    return plain


def merge(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Both schemas at once; annotations of the first win."""
    merged = copy.copy(dict(first))
    for key, value in second.items():
        if key not in merged:
            merged[key] = value
        elif key in ANNOTATIONS or merged[key] == value:
            continue
        else:
            _merge_key(merged, key, value)
    return merged


def _merge_key(merged: dict[str, Any], key: str, value: Any) -> None:
    mine = merged[key]
    if key == "properties":
        merged[key] = {**mine, **{name: merge_schemas(mine[name], child) if name in mine else child for name, child in value.items()}}
    elif key == "required":
        merged[key] = list(dict.fromkeys([*mine, *value]))
    elif key == "type":
        merged[key] = _common_types(_types({"type": mine}), _types({"type": value}))
    elif key == "enum":
        merged[key] = [word for word in mine if word in value]
    elif key in _TIGHTER_UP and not isinstance(mine, bool):
        merged[key] = max(mine, value)
    elif key in _TIGHTER_DOWN and not isinstance(mine, bool):
        merged[key] = min(mine, value)
    elif key in ("additionalProperties", "items"):
        merged[key] = merge_schemas(mine, value)
    elif key == "uniqueItems":
        merged[key] = mine or value
    else:  # two patterns, two anyOf: both must hold
        merged["allOf"] = [*merged.get("allOf", []), {key: value}]


def _common_types(mine: list[str], theirs: list[str]) -> list[str]:
    wider = {*theirs, *(["integer"] if "number" in theirs else [])}
    common = [kind for kind in mine if kind in wider]
    return common + [kind for kind in theirs if kind == "integer" and "number" in mine and "integer" not in common]


def merge_schemas(first: Any, second: Any) -> Any:
    """Both of two schemas that may be booleans or hold references."""
    if first is False or second is False:
        return False
    if first is True:
        return second
    if second is True or first == second:
        return first
    if isinstance(first, Mapping) and isinstance(second, Mapping) and not ({"$ref", "allOf"} & {*first, *second}):
        return merge(first, second)
    return {"allOf": [first, second]}
