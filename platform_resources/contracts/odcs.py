"""The Open Data Contract Standard's own schema (3.2.0, bundled with `open-data-contract-standard`) applied to a document.

The library's pydantic model is no validator: it forbids unknown keys only at the root and nested typos vanish. Its JSON Schema is
the law. Only the bundled file is read: importing the model costs 0.35 s at every start of a location.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any

import jsonschema_rs

from platform_resources.contracts.findings import Findings, close_match, show
from platform_resources.contracts.yaml_source import DocumentPath


@cache
def standard() -> dict[str, Any]:
    """The bundled JSON Schema of ODCS 3.2.0."""
    schema: dict[str, Any] = json.loads(resources.files("open_data_contract_standard").joinpath("schema.json").read_text("utf-8"))
    return schema


@cache
def _fast_validator() -> Any:
    return jsonschema_rs.validator_for(standard())


def check_standard(document: Mapping[str, Any], findings: Findings) -> None:
    """Report every fault against the standard, each once, the most precise one only.

    The quick validator answers yes in well under a millisecond; only a document that fails pays for the one that explains.
    """
    if _fast_validator().is_valid(document):
        return
    seen: set[tuple[DocumentPath, str]] = set()
    for path, message, remedy in _explained(document):
        if (path, message) not in seen:
            seen.add((path, message))
            findings.error("contract-standard", path, message, remedy)
    if not findings.failed:  # the two validators disagree on something exotic; the strict answer stands
        findings.error("contract-standard", (), "The contract does not keep the ODCS 3.2 schema.", "Compare it with docs/contracts.md.")


def _explained(document: Mapping[str, Any]) -> Iterator[tuple[DocumentPath, str, str]]:
    from jsonschema import Draft201909Validator  # 60 ms of import that a sound contract never needs

    errors = list(_leaves(Draft201909Validator(standard()).iter_errors(document)))
    for error in errors:
        path = tuple(error.absolute_path)
        if error.validator in ("unevaluatedProperties", "additionalProperties"):
            # One nested mistake also yields "unevaluated" at every parent of it.
            if any(e is not error and _is_below(tuple(e.absolute_path), path) for e in errors):
                continue
            yield from _unknown_keys(error, path, _place(document, path))
        else:
            yield path, _sentence(error, _place(document, path)), _remedy(error)


def _leaves(errors: Iterable[Any]) -> Iterator[Any]:
    for error in errors:
        if error.context and error.validator not in ("oneOf",):
            yield from _leaves(error.context)
        elif error.validator in ("oneOf", "anyOf") and error.context and "team" in error.absolute_path:
            inner = [e for e in error.context if e.validator != "type" or e.path]  # a team is an object or, formerly, a list
            yield from _leaves(inner) if inner else [error]
        else:
            yield error


def _is_below(path: DocumentPath, parent: DocumentPath) -> bool:
    return len(path) > len(parent) and path[: len(parent)] == parent


def _unknown_keys(error: Any, path: DocumentPath, place: str) -> Iterator[tuple[DocumentPath, str, str]]:
    known = _keys_allowed(path)
    for key in error.instance:
        if key in known:
            continue
        match = close_match(key, known)
        remedy = f"Did you mean {match}?" if match else "Remove it, or put it in customProperties."
        yield (*path, key), f"{place} has the key {key}, which ODCS 3.2 does not know.", remedy


def _keys_allowed(path: DocumentPath) -> set[str]:
    """The keys the standard knows where `path` points, by the last named part of it."""
    schema, definitions = standard(), standard()["$defs"]
    names = [part for part in path if isinstance(part, str)]
    if not names:
        return set(schema["properties"])
    element = set(definitions["SchemaElement"]["properties"])
    by_name: dict[str, set[str]] = {
        "schema": element | set(definitions["SchemaObject"]["properties"]),
        "properties": element | set(definitions["SchemaBaseProperty"]["properties"]) | {"items", "properties", "map"},
        "quality": set(definitions["DataQuality"]["properties"])
        | {"query", "metric", "rule", "arguments", "engine", "implementation"}
        | {word for rule in definitions["DataQualityOperators"]["oneOf"] for word in rule["properties"]},
        "team": set(definitions["Team"]["properties"]),
        "members": set(definitions["TeamMember"]["properties"]),
        "support": set(definitions["SupportItem"]["properties"]),
        "slaProperties": set(definitions["ServiceLevelAgreementProperty"]["properties"]),
        "customProperties": set(definitions["CustomProperty"]["properties"]),
        "enum": set(definitions["EnumValue"]["properties"]),
        "servers": set(definitions["Server"]["properties"]) | set(definitions["ServerSource"]["CustomServer"]["properties"]),
        "logicalTypeOptions": {
            word
            for rule in definitions["SchemaBaseProperty"]["allOf"]
            for word in rule.get("then", {}).get("properties", {}).get("logicalTypeOptions", {}).get("properties", {})
        },
    }
    by_name["items"] = by_name["key"] = by_name["value"] = by_name["properties"]
    return by_name.get(names[-1], set())


def _place(document: Mapping[str, Any], path: DocumentPath) -> str:
    """The path in words: list items by their name, `schema.sales.properties.day`."""
    if not path:
        return "The contract"
    words: list[str] = []
    node: Any = document
    for part in path:
        node = node[part]
        name = next((node[key] for key in ("name", "server", "property", "channel") if isinstance(node, dict) and key in node), None)
        words.append(name if isinstance(part, int) and isinstance(name, str) else str(part))
    return ".".join(words)


def _sentence(error: Any, place: str) -> str:
    if error.validator == "required":
        return f"{place} lacks {', '.join(_missing(error))}."
    if error.validator == "type":
        wanted = error.validator_value if isinstance(error.validator_value, str) else " or ".join(error.validator_value)
        return f"{place} is {show(error.instance)}, which is no {wanted}."
    if error.validator == "enum":
        return f"{place} is {show(error.instance)}, which ODCS 3.2 does not allow."
    if error.validator == "oneOf" and "quality" in error.absolute_path:
        return f"{place} has no threshold, or more than one."
    if error.validator in ("oneOf", "anyOf"):
        return f"{place} is {show(error.instance)}, which has none of the shapes ODCS 3.2 allows."
    return f"{place}: {show(error.message, limit=160)}."


def _missing(error: Any) -> list[str]:
    """The keys that are lacking. Without a logicalType every type's rules apply at once and the last one asks for a map."""
    if error.validator_value == ["map"] and "logicalType" not in error.instance:
        return ["logicalType"]
    return [name for name in error.validator_value if name not in error.instance]


def _remedy(error: Any) -> str:
    if error.validator == "required":
        return "Add it."
    if error.validator == "type" and error.validator_value == "string" and not isinstance(error.instance, list | dict):
        return "Put it in quotes."
    if error.validator == "enum":
        match = close_match(error.instance, [str(word) for word in error.validator_value])
        return f"Did you mean {match}?" if match else f"Use one of {', '.join(str(word) for word in error.validator_value)}."
    if error.validator == "oneOf" and "quality" in error.absolute_path:
        return "Give exactly one of mustBe, mustNotBe, mustBeGreaterThan, mustBeLessThan, mustBeBetween and their like."
    return "Mend it as ODCS 3.2 says; docs/contracts.md has an example."
