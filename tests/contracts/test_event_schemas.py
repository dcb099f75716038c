"""Real and made-up event JSON Schemas become contracts, and the gate's schema made from the contract says what the original said."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from platform_resources.contracts.drafting import draft_from_event_schema, draft_from_sample
from platform_resources.contracts.iceberg import arrow_schema, table_definition
from platform_resources.contracts.json_schema import columns_from_json_schema, event_schema
from platform_resources.contracts.model import Contract, Domain
from platform_resources.contracts.reading import read_contract
from platform_resources.contracts.registry import Registry
from platform_resources.contracts.specs import asset_check_specs, asset_spec, render
from platform_resources.errors import PlatformError

DOMAIN = Domain("wiki", Path("/project/data_products/wiki"), owners=("team:wiki",))
REGISTRY = Registry(Path("/project"), {"wiki": DOMAIN}, {}, ())
ENVELOPE = {
    "$schema": {"type": "string"},
    "meta": {
        "type": "object",
        "required": ["stream"],
        "properties": {"stream": {"type": "string"}, "id": {"type": "string"}, "dt": {"type": "string", "format": "date-time"}},
    },
}
EVENT = {"$schema": "/t/1.0.0", "meta": {"stream": "s"}}


def drafted(schema: dict[str, Any], **given: Any) -> Contract:
    """The contract drafted from a schema; it must be free of errors."""
    return accepted(draft_from_event_schema(schema, domain="wiki", product="p", **given))


def accepted(text: str) -> Contract:
    contract, problems = read_contract(DOMAIN.path / "p.yaml", domain=DOMAIN, project=Path("/project"), text=text)
    assert contract is not None, [str(problem) for problem in problems]
    return contract


def of_fields(fields: dict[str, Any], **more: Any) -> dict[str, Any]:
    """An event schema with the envelope and these fields."""
    return {"type": "object", "required": ["$schema", "meta"], "properties": {**ENVELOPE, **fields}, "additionalProperties": False, **more}


def real_schemas(realdata: Path) -> dict[str, dict[str, Any]]:
    return {path.stem: yaml.safe_load(path.read_text()) for path in sorted((realdata / "event_schemas").glob("*.yaml"))}


def is_stream(schema: dict[str, Any]) -> bool:
    return any(isinstance(e, dict) and e.get("meta", {}).get("stream") for e in schema.get("examples") or ())


def test_all_57_real_streams_become_contracts_whose_gate_accepts_their_examples(realdata: Path) -> None:
    streams = {name: schema for name, schema in real_schemas(realdata).items() if is_stream(schema) and "__fragment__" not in name}
    whole = {name: schema for name, schema in real_schemas(realdata).items() if is_stream(schema)}
    assert len(whole) == 57
    assert len(streams) >= 50
    for name, schema in whole.items():
        contract = drafted(schema)
        definition = table_definition(contract)
        assert len(arrow_schema(definition)) == len(contract.columns) + (7 if contract.open else 6), name
        assert render(asset_spec(contract, registry=REGISTRY))["key"] == "wiki/p"
        asset_check_specs(contract)
        gate = jsonschema_rs.validator_for(event_schema(contract))
        original = jsonschema_rs.validator_for(schema)
        for example in schema["examples"]:
            if original.is_valid(example):
                errors = [str(error) for error in gate.iter_errors(example)]
                missing = [word for word in ("$schema", "meta") if word not in example]
                assert not errors or missing, (name, errors)


def test_the_real_fragments_compile(realdata: Path) -> None:
    fragments = {name: schema for name, schema in real_schemas(realdata).items() if not is_stream(schema)}
    assert len(fragments) == 11
    for name, schema in fragments.items():
        assert columns_from_json_schema(schema), name
        assert table_definition(drafted(schema)).schema.fields


def test_the_gate_refuses_what_the_real_schemas_refuse(realdata: Path) -> None:
    """Mutated examples of every real stream: both schemas give the same verdict, but for nulls in optional fields."""
    random_ = random.Random(7)
    compared = refused = 0
    for name, schema in real_schemas(realdata).items():
        if not is_stream(schema):
            continue
        gate = jsonschema_rs.validator_for(event_schema(drafted(schema)))
        original = jsonschema_rs.validator_for(schema)
        for example in (e for e in schema["examples"] if original.is_valid(e) and gate.is_valid(e)):
            for _ in range(40):
                mutated = _mutated(example, random_)
                if not ("$schema" in mutated and isinstance(mutated.get("meta"), dict) and isinstance(mutated["meta"].get("stream"), str)):
                    continue  # the envelope is the gate's own law
                mine, theirs = gate.is_valid(mutated), original.is_valid(mutated)
                compared += 1
                refused += not theirs
                assert mine == theirs, (
                    name,
                    mutated,
                    [e.message for e in gate.iter_errors(mutated)],
                    [e.message for e in original.iter_errors(mutated)],
                )
    assert compared > 2000 and refused > 500


def _mutated(event: dict[str, Any], random_: random.Random) -> dict[str, Any]:
    """One change somewhere: a field dropped, added, or given a value of another type; never null, which means absent here."""
    mutated = copy.deepcopy(event)
    node: Any = mutated
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return mutated
        key = random_.choice(keys)
        if isinstance(node[key], dict | list) and node[key] and random_.random() < 0.7:
            node = node[key]
            continue
        kind = random_.randrange(4)
        if kind == 0 and isinstance(node, dict):
            del node[key]
        elif kind == 1 and isinstance(node, dict):
            node["undeclared"] = random_.choice([1, "x", {"a": 1}])
        else:
            node[key] = random_.choice(["", "text", -3, 2.5, True, [], {}, ["x"], {"x": 1}, "2020-06-10T18:57:16Z", 2**53, "x" * 9000])
        return mutated


def test_nested_null_refused_for_elements_and_required_fields() -> None:
    schema = of_fields({"xs": {"type": "array", "items": {"type": "string"}}, "n": {"type": "integer"}, "m": {"type": ["integer", "null"]}})
    schema["required"] += ["n", "m"]
    gate = jsonschema_rs.validator_for(event_schema(drafted(schema)))
    assert gate.is_valid({**EVENT, "n": 1, "m": None, "xs": ["a"]})
    assert gate.is_valid({**EVENT, "n": 1, "m": None, "xs": None})  # optional: null is absent
    assert not gate.is_valid({**EVENT, "n": 1, "m": None, "xs": [None]})
    assert not gate.is_valid({**EVENT, "n": None, "m": None})
    assert not gate.is_valid({**EVENT, "n": 1})  # nullable, yet it must be there


def test_an_optional_enum_may_be_null_but_nothing_else_outside_it() -> None:
    gate = jsonschema_rs.validator_for(event_schema(drafted(of_fields({"kind": {"type": "string", "enum": ["a"]}}))))
    assert gate.is_valid({**EVENT, "kind": None}) and gate.is_valid({**EVENT, "kind": "a"})
    assert not gate.is_valid({**EVENT, "kind": "b"})


def test_all_of_and_references_are_followed() -> None:
    schema = {
        "$id": "/shop/order/2.1.0",
        "definitions": {
            "money": {
                "type": "object",
                "required": ["amount"],
                "properties": {"amount": {"type": "number", "minimum": 0}, "currency": {"type": "string", "minLength": 3}},
            },
            "common": {"type": "object", "required": ["$schema", "meta"], "properties": ENVELOPE},
        },
        "allOf": [
            {"$ref": "#/definitions/common"},
            {"properties": {"total": {"$ref": "#/definitions/money"}}, "required": ["total"]},
            {
                "properties": {
                    "total": {"properties": {"amount": {"maximum": 1000}}},
                    "lines": {"type": "array", "items": {"$ref": "#/definitions/money"}},
                }
            },
        ],
        "type": "object",
        "additionalProperties": False,
    }
    contract = drafted(schema)
    assert contract.event_title == "shop/order" and contract.version == "2.1.0"
    assert str(contract.column("total.amount").type) == "double" and contract.column("total").required
    assert dict(contract.column("total.amount").options) == {"minimum": 0, "maximum": 1000}
    assert contract.has_column("lines.element.currency") and contract.open  # meta and money are
    gate = jsonschema_rs.validator_for(event_schema(contract))
    assert gate.is_valid({**EVENT, "total": {"amount": 5}, "lines": [{"amount": 1, "currency": "EUR"}]})
    assert not gate.is_valid({**EVENT, "total": {"amount": 1001}})
    assert not gate.is_valid({**EVENT, "total": {"amount": 1}, "other": 1})


def test_merged_bounds_are_the_tightest() -> None:
    twice = {"allOf": [{"type": "integer", "minimum": 1, "maximum": 9}, {"minimum": 3, "maximum": 20}]}
    gate = jsonschema_rs.validator_for(event_schema(drafted(of_fields({"n": twice}))))
    assert [n for n in range(12) if gate.is_valid({**EVENT, "n": n})] == [3, 4, 5, 6, 7, 8, 9]


def test_a_recursive_schema_ends_in_json_text() -> None:
    node = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#/definitions/node"}}},
    }
    contract = drafted(of_fields({"tree": {"$ref": "#/definitions/node"}}, definitions={"node": node}))
    assert contract.column("tree.children").is_json
    assert jsonschema_rs.validator_for(event_schema(contract)).is_valid({**EVENT, "tree": {"children": [{"name": "a"}]}})


def test_a_reference_out_of_the_document_is_refused_by_name() -> None:
    with pytest.raises(PlatformError) as refusal:
        drafted(of_fields({"a": {"$ref": "/fragment/common/1.0.0#"}}))
    assert refusal.value.code == "event-schema-ref"
    assert refusal.value.message == "The JSON Schema refers to /fragment/common/1.0.0#, which is not in the document."


def test_names_that_differ_only_by_case_are_refused_at_the_root_and_json_below() -> None:
    both = {"userId": {"type": "string"}, "userid": {"type": "string"}}
    with pytest.raises(PlatformError, match="declares the fields userId and userid, which are one name to SQL"):
        drafted(of_fields(both))
    contract = drafted(of_fields({"who": {"type": "object", "properties": both, "additionalProperties": False}}))
    assert contract.column("who").is_json
    gate = jsonschema_rs.validator_for(event_schema(contract))
    assert gate.is_valid({**EVENT, "who": {"userId": "a"}}) and not gate.is_valid({**EVENT, "who": {"userId": 1}})


def test_what_has_no_single_type_is_json_text_and_still_checked() -> None:
    fields = {
        "any": {},
        "two": {"type": ["integer", "string"]},
        "bare": {"type": "object"},
        "mixed": {"enum": [1, "a", None]},
        "either": {"oneOf": [{"type": "string", "maxLength": 3}, {"type": "integer"}]},
        "list": {"type": "array"},
    }
    contract = drafted(of_fields(fields))
    assert all(contract.column(name).is_json for name in fields)
    gate = jsonschema_rs.validator_for(event_schema(contract))
    good = {"any": [1], "two": "x", "bare": {"k": 1}, "mixed": 1, "either": 5, "list": [1, "a"]}
    assert gate.is_valid({**EVENT, **good})
    for name, bad in (("two", 1.5), ("bare", "x"), ("mixed", 2), ("either", "long"), ("list", {})):
        assert not gate.is_valid({**EVENT, **good, name: bad}), name


def test_maps_and_patterns_keep_their_types() -> None:
    fields = {
        "labels": {
            "type": "object",
            "additionalProperties": {"type": "array", "items": {"type": "string"}},
            "propertyNames": {"pattern": "^[a-z]+$"},
        },
        "slots": {
            "type": "object",
            "required": ["main"],
            "properties": {"main": {"type": "integer"}},
            "additionalProperties": {"type": "integer"},
        },
        "open": {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "boolean"}},
    }
    contract = drafted(of_fields(fields))
    assert str(contract.column("labels").type).startswith("map<string") and contract.column("slots").value is not None
    assert contract.column("open").extra_schema == {"type": "boolean"}
    gate = jsonschema_rs.validator_for(event_schema(contract))
    assert gate.is_valid({**EVENT, "labels": {"en": ["a"]}, "slots": {"main": 1, "x": 2}, "open": {"a": "b", "c": True}})
    for bad in ({"labels": {"EN": ["a"]}}, {"labels": {"en": [1]}}, {"slots": {"x": 1}}, {"slots": {"main": "x"}}, {"open": {"c": "x"}}):
        assert not gate.is_valid({**EVENT, **bad}), bad


SCALARS = st.one_of(
    st.builds(lambda low, span: {"type": "integer", "minimum": low, "maximum": low + span}, st.integers(-9, 9), st.integers(0, 9)),
    st.builds(
        lambda low, span: {"type": "number", "exclusiveMinimum": low, "maximum": low + span + 1}, st.integers(-9, 9), st.integers(0, 9)
    ),
    st.builds(lambda low, span: {"type": "string", "minLength": low, "maxLength": low + span}, st.integers(0, 3), st.integers(0, 5)),
    st.builds(lambda words: {"type": "string", "enum": words}, st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, unique=True)),
    st.sampled_from(
        [
            {"type": "boolean"},
            {"type": "string", "pattern": "^a"},
            {"type": "string", "format": "date-time"},
            {"type": ["integer", "null"]},
            {},
            {"type": "integer", "multipleOf": 3},
            {"const": 1},
        ]
    ),
)


def _objects(children: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    properties = st.dictionaries(st.sampled_from("abcd"), children, max_size=3)
    return st.one_of(
        st.builds(
            lambda p, closed, need: {
                "type": "object",
                "properties": p,
                "additionalProperties": not closed,
                "required": [n for n in p if n in need],
            },
            properties,
            st.booleans(),
            st.sets(st.sampled_from("abcd")),
        ),
        st.builds(lambda c, n: {"type": "array", "items": c, "maxItems": n}, children, st.integers(0, 3)),
        st.builds(lambda c: {"type": "object", "additionalProperties": c}, children),
        st.builds(lambda c: {"anyOf": [c, {"type": "null"}]}, children),
        st.builds(lambda c: {"allOf": [c, {"description": "twice"}]}, children),
    )


SCHEMAS = st.recursive(SCALARS, _objects, max_leaves=6)
VALUES = st.recursive(
    st.one_of(st.integers(-12, 12), st.sampled_from(["", "a", "abc", "zzzzzz", "2024-01-01T00:00:00Z"]), st.booleans(), st.just(2.5)),
    lambda v: st.one_of(st.lists(v, max_size=3), st.dictionaries(st.sampled_from("abcd"), v, max_size=3)),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(field=SCHEMAS, required=st.booleans(), values=st.lists(VALUES, min_size=3, max_size=6))
def test_through_the_contract_and_back_the_verdict_is_the_same(field: dict[str, Any], required: bool, values: list[Any]) -> None:
    """For any schema of a field and any value without nulls: the original and the generated gate agree."""
    schema = of_fields({"field": field})
    schema["required"] = [*schema["required"], *(["field"] if required else [])]
    contract = drafted(schema)
    gate = jsonschema_rs.validator_for(event_schema(contract))
    original = jsonschema_rs.validator_for({"$schema": "http://json-schema.org/draft-07/schema#", **schema})
    for value in values:
        event = {**EVENT, "field": value}
        assert gate.is_valid(event) == original.is_valid(event), (value, event_schema(contract)["properties"]["field"])
    assert gate.is_valid(EVENT) == original.is_valid(EVENT)


def test_drafting_its_own_gate_schema_again_changes_no_column() -> None:
    fields = {
        "a": {"type": "integer", "minimum": 1},
        "b": {"type": "object", "properties": {"c": {"type": "string", "format": "date-time"}}},
        "d": {"type": "object", "additionalProperties": {"type": "number"}},
        "e": {"type": "string", "enum": ["x", "y"]},
    }
    first = drafted(of_fields(fields))
    again = drafted(event_schema(first))
    assert [(p, str(c.type), c.required, c.enum, dict(c.options)) for p, c in again.walk()] == [
        (p, str(c.type), c.required, c.enum, dict(c.options)) for p, c in first.walk()
    ]


def test_a_sample_gives_types_but_promises_nothing() -> None:
    lines = [
        b'{"$schema": "/s/visit/1.2.0", "meta": {"stream": "shop.v1"}, "n": 1, "x": 1, "at": "2024-01-01T00:00:00Z", "who": {"name": ""}}',
        b"",
        b'{"$schema": "/s/visit/1.2.0", "meta": {"stream": "shop.v1"}, "n": 2, "x": 1.5, "at": "2024-01-02T00:00:00+01:00", "who": null}',
        b'{"$schema": "/s/visit/1.2.0", "meta": {"stream": "shop.v1"}, "list":[{"k":1}], "odd": 1,"by_id": {"1": 1}, "day": "2024-01-01"}',
        b'{"$schema": "/s/visit/1.2.0", "meta": {"stream": "shop.v1"}, "odd": "x", "empty": [], "never": null}',
    ]
    contract = accepted(draft_from_sample(lines, domain="wiki", product="p"))
    kinds = {path: str(column.type) for path, column in contract.walk() if not column.children()}
    assert (kinds["n"], kinds["x"], kinds["at"], kinds["day"], kinds["who.name"]) == ("long", "double", "timestamptz", "date", "string")
    assert kinds["list.element.k"] == "long"
    assert all(contract.column(name).is_json for name in ("odd", "by_id", "empty", "never"))
    assert [path for path, column in contract.walk() if column.required and not path.startswith("list")] == [
        "_schema",
        "meta",
        "meta.stream",
    ]
    assert contract.source is not None and contract.source.stream == "shop.v1"
    assert contract.version == "1.2.0" and contract.event_title == "s/visit" and contract.open and contract.status == "draft"
    gate = jsonschema_rs.validator_for(event_schema(contract))
    for line in filter(None, lines):
        assert gate.is_valid(json.loads(line)), [e.message for e in gate.iter_errors(json.loads(line))]


@pytest.mark.parametrize(
    ("lines", "code", "message"),
    [
        ([b"\n"], "sample-empty", "The sample holds no event."),
        ([b"{}", b"[1]"], "sample-malformed", "Line 2 of the sample is no JSON object."),
        ([b'{"_x": 1}'], "event-schema-name", "The JSON Schema declares _x, but names with a leading underscore are the platform's."),
    ],
)
def test_a_wrong_sample_is_refused(lines: list[bytes], code: str, message: str) -> None:
    with pytest.raises(PlatformError) as refusal:
        draft_from_sample(lines, domain="wiki", product="p")
    assert (refusal.value.code, refusal.value.message) == (code, message)
