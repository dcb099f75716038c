"""Whatever stands in a contract or domain file, reading it ends in problems with a code, a sentence and a remedy, never in a trace."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from platform_resources.contracts.domains import read_domain
from platform_resources.contracts.iceberg import arrow_schema, table_definition
from platform_resources.contracts.json_schema import event_schema
from platform_resources.contracts.model import Domain
from platform_resources.contracts.reading import read_contract
from platform_resources.contracts.specs import asset_check_specs, column_schema
from platform_resources.errors import Problem
from tests.contracts.conftest import STREAM, TABLE

PROJECT = Path("/project")
DOMAIN = Domain("shop", PROJECT / "data_products" / "shop", owners=("team:shop",))
DOCUMENTS = {"orders": yaml.safe_load(STREAM), "sales": yaml.safe_load(TABLE)}
RICH = {
    "quality": [{"metric": "invalidValues", "mustBe": 0, "arguments": {"validValues": ["a"]}}],
    "customProperties": [{"property": "partitionTransform", "value": "day"}, {"property": "eventSchema", "value": {"a": 1}}],
    "enum": [{"value": "x"}],
    "logicalTypeOptions": {"minimum": 1},
}
KEYS = [*RICH, "items", "map", "properties", "team", "support", "slaProperties", "servers", "physicalType", "tags"]
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.just(2.5),
    st.sampled_from(["", "x", "json", "struct", "decimal(1", "day", "2024-01-01", "team:a"]),
    st.just([]),
    st.just({}),
    st.just([1]),
    st.just({"a": None}),
    st.just([{"name": "x", "logicalType": "object"}]),
    st.just([RICH]),
    st.just(RICH),
    st.sampled_from([{"property": name, "value": 1} for name in ("sortOrder", "source", "scope", "incremental", "metrics")]).map(
        lambda p: [p]
    ),
)


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(place for key, child in children for place in places(child, (*path, key)))]


def told(problems: list[Problem]) -> None:
    for problem in problems:
        assert problem.code and problem.message.endswith(".") and problem.remedy and problem.file, problem
        assert "Traceback" not in problem.message and "\n" not in problem.message


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_damage_to_a_contract_is_told_and_what_is_accepted_compiles(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(DOCUMENTS)))
    document = copy.deepcopy(DOCUMENTS[name])
    for _ in range(data.draw(st.integers(1, 3))):
        *parents, last = data.draw(st.sampled_from(places(document)[1:]))
        node = document
        for step in parents:
            node = node[step]
        action = data.draw(st.sampled_from(["drop", "set", "add"]))
        if action == "drop":
            del node[last]
        elif action == "add" and isinstance(node, dict):
            node[data.draw(st.sampled_from(KEYS))] = copy.deepcopy(data.draw(VALUES))
        else:
            node[last] = copy.deepcopy(data.draw(VALUES))
        if not document or not places(document)[1:]:
            break
    contract, problems = read_contract(DOMAIN.path / f"{name}.yaml", domain=DOMAIN, project=PROJECT, text=yaml.safe_dump(document))
    told(problems)
    assert (contract is None) == any(problem.severity == "error" for problem in problems)
    if contract is not None:
        arrow_schema(table_definition(contract))
        event_schema(contract)
        column_schema(contract)
        asset_check_specs(contract)


@pytest.mark.storm
@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_the_same_for_many_examples(data: st.DataObject) -> None:
    test_any_damage_to_a_contract_is_told_and_what_is_accepted_compiles.hypothesis.inner_test(data)


@settings(max_examples=60, deadline=None)
@given(key=st.sampled_from(["name", "title", "description", "owners", "on_call", "support", "defaults", "odd"]), value=VALUES)
def test_any_damage_to_a_domain_is_told(key: str, value: Any) -> None:
    document = {"name": "shop", "owners": ["team:a"], key: value}
    domain, problems = read_domain(DOMAIN.path, project=PROJECT, text=yaml.safe_dump(document))
    told(problems)
    assert (domain is None) == bool(problems)


@pytest.mark.parametrize(
    "text",
    ["", "- a\n", "42", "\x00", "a: *b", "a: &a [*a]\n", "? [x]\n: y\n", "!!python/object:os.system {}", "a: 1\n---\nb: 2\n", "<<: 3\n"],
)
def test_no_text_breaks_the_reader(text: str) -> None:
    contract, problems = read_contract(DOMAIN.path / "sales.yaml", domain=DOMAIN, project=PROJECT, text=text)
    assert contract is None and problems
    told(problems)
