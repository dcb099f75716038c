"""Every real stream schema becomes a product by drafting alone: its examples pass the gate and come back from Iceberg equal."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from platform_resources.contracts.drafting import draft_from_event_schema
from platform_resources.streams.canonical import CanonicalForm
from platform_resources.streams.codec import Codec
from tests.products.conftest import World

FILLED = ("id", "dt")  # what the gate gives to `meta` where a producer did not


def stream_schemas(realdata: Path) -> dict[str, dict[str, Any]]:
    """Product name -> schema, for the schemas whose examples name a stream."""
    found: dict[str, dict[str, Any]] = {}
    for file in sorted((realdata / "event_schemas").glob("*.yaml")):
        schema = yaml.safe_load(file.read_text())
        if any("stream" in example.get("meta", {}) for example in schema.get("examples", ())):
            name = re.sub(r"\W|_+", "_", file.stem).strip("_").lower()
            found[re.sub(r"_+", "_", name)] = schema
    return found


@pytest.fixture(scope="module")
def schemas(realdata: Path) -> dict[str, dict[str, Any]]:
    return stream_schemas(realdata)


@pytest.fixture(scope="module")
def drafted(schemas: dict[str, dict[str, Any]], world_of: Callable[[Path], World], tmp_path_factory: pytest.TempPathFactory) -> World:
    """A project whose only domain holds one drafted contract per schema, each with a stream of its own."""
    project = tmp_path_factory.mktemp("project")
    domain = project / "data_products" / "drafts"
    domain.mkdir(parents=True)
    (project / "workspace.yaml").write_text("load_from: []\n")
    (domain / "domain.yaml").write_text("name: drafts\nowners: [team:drafts]\n")
    for name, schema in schemas.items():
        text = draft_from_event_schema(schema, domain="drafts", product=name, stream=f"test.{name}")
        (domain / f"{name}.yaml").write_text(text)
    return world_of(project)


def test_all_57_schemas_are_drafted(schemas: dict[str, dict[str, Any]], drafted: World) -> None:
    assert len(schemas) == 57
    assert [problem for problem in drafted.registry.problems if problem.severity == "error"] == []
    assert drafted.registry.contracts.keys() == {f"drafts/{name}" for name in schemas}


def test_all_examples_come_back_from_iceberg_equal(schemas: dict[str, dict[str, Any]], drafted: World) -> None:
    for name, schema in schemas.items():
        contract = drafted.registry.get(f"drafts/{name}")
        examples = readdressed(schema["examples"], name)
        report = drafted.produce(f"test.{name}", [orjson.dumps(example) for example in examples])
        assert (report.accepted, report.refusals) == (len(examples), []), name
        drain = drafted.ingest(contract.key)
        assert (drain.inserted, drain.quarantined, drain.duplicates) == (len(examples), 0, 0), name
        rows = sorted(drafted.table(contract.key).to_pylist(), key=lambda row: (row["_partition"], row["_offset"]))
        encoded = {event["meta"]["id"]: event for event in (Codec(contract).encode(row) for row in rows)}
        form = CanonicalForm(contract)
        for example in sorted(examples, key=lambda example: "id" not in example["meta"]):
            back = encoded.pop(example["meta"]["id"]) if "id" in example["meta"] else encoded.popitem()[1]
            for field in FILLED:
                if field not in example["meta"]:
                    back["meta"].pop(field, None)
            assert json.dumps(form.normalise(back), sort_keys=True) == json.dumps(form.normalise(example), sort_keys=True), name


def readdressed(examples: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """The examples in the stream of the test. Several examples of one schema share an id: they get ids that tell them apart."""
    events = copy.deepcopy(examples)
    ids = [event["meta"].get("id") for event in events]
    for number, event in enumerate(events):
        event["meta"]["stream"] = f"test.{name}"
        if ids.count(ids[number]) > 1:
            event["meta"]["id"] = f"{name}/{number}"
    return events
