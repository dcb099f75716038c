"""The generator of the demo: the same seed gives the same bytes, and only what it says is broken is broken."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import jsonschema_rs
import pytest
import yaml

from demo.generator import Generated, generate, main


@pytest.fixture(scope="module")
def generated() -> Generated:
    return generate(3_000, seed=3)


def test_same_seed_gives_the_same_bytes(generated: Generated) -> None:
    again = generate(3_000, seed=3)
    assert (again.gated, again.raw, again.truth) == (generated.gated, generated.raw, generated.truth)
    assert generate(3_000, seed=4).gated != generated.gated


def test_only_the_lines_named_refused_break_the_real_schema(generated: Generated, realdata: Path) -> None:
    schema = yaml.safe_load((realdata / "event_schemas/primary__mediawiki__page__change.yaml").read_text())
    validator = jsonschema_rs.Draft7Validator(without_ids(schema), validate_formats=True)

    def valid(line: bytes) -> bool:
        try:
            return validator.is_valid(json.loads(line))
        except ValueError:
            return False

    assert {number for number, line in enumerate(generated.gated, 1) if not valid(line)} == generated.truth.refused
    assert not any(valid(line) for line in generated.raw)


def test_counts_add_up(generated: Generated) -> None:
    truth = generated.truth
    good = [json.loads(line) for number, line in enumerate(generated.gated, 1) if number not in truth.refused]
    ids = [event["meta"]["id"] for event in good]
    assert (len(set(ids)), len(ids) - len(set(ids))) == (truth.events, truth.duplicates) == (3_000, 30)
    assert len(generated.raw) == len(truth.refused) == 15
    assert sum(truth.kinds.values()) == truth.events
    assert all(truth.kinds[kind] > 0 for kind in ("create", "edit", "move", "delete", "undelete", "visibility_change", "canary"))
    assert truth.total("edits") == truth.kinds["create"] + truth.kinds["edit"]
    times = [event["dt"] for event in good]
    assert sum(a > b for a, b in itertools.pairwise(times)) > truth.late


def test_traffic_is_realistic(generated: Generated) -> None:
    """A few pages take much of the edits, and every wiki has some of each kind of editor."""
    by_page: dict[tuple[str, int], int] = {}
    for (wiki, page, _), facts in generated.truth.facts.items():
        by_page[wiki, page] = by_page.get((wiki, page), 0) + facts.edits
    ranked = sorted(by_page.values(), reverse=True)
    assert sum(ranked[: len(ranked) // 20]) > 0.2 * sum(ranked)
    edits = generated.truth.total("edits")
    for name, low, high in (("anonymous", 0.05, 0.4), ("bot", 0.1, 0.5), ("minor", 0.05, 0.4), ("reverted", 0.02, 0.25)):
        assert low < generated.truth.total(name) / edits < high, name


def test_sample_file_holds_only_valid_events_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "events.ndjson"
    assert main(["--events", "500", "--clean", "--output", str(target)]) == 0
    lines = target.read_text().splitlines()
    assert len(lines) == 505
    assert all(json.loads(line)["$schema"] == "/mediawiki/page/change/1.3.0" for line in lines)
    assert json.loads(capsys.readouterr().err)["malformed"] == 0


def without_ids(schema: object) -> object:
    """The schema without its `$id`s and `$schema`s, which name documents that no validator here can fetch."""
    if isinstance(schema, dict):
        return {name: without_ids(part) for name, part in schema.items() if not (name in ("$id", "$schema") and isinstance(part, str))}
    return [without_ids(part) for part in schema] if isinstance(schema, list) else schema
