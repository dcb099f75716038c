"""Events captured from production: those of page_change pass the gate and are stored, the others are refused and it is said why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from platform_resources.streams.codec import Codec
from platform_resources.streams.gate import Gate, Refusal
from tests.products.conftest import World

STREAM = "mediawiki.page_change.v1"


@pytest.fixture(scope="module")
def captured(realdata: Path) -> dict[str, dict[str, Any]]:
    return {file.stem: orjson.loads(file.read_bytes()) for file in sorted((realdata / "events_page_change").glob("*.json"))}


def is_page_change(event: dict[str, Any]) -> bool:
    return str(event.get("$schema", "")).startswith("/mediawiki/page/change/1.")


def test_page_changes_pass_the_gate_and_are_stored_whole(captured: dict[str, dict[str, Any]], world: World) -> None:
    events = {name: event for name, event in captured.items() if is_page_change(event)}
    report = world.produce(STREAM, [orjson.dumps(event) for event in events.values()])
    assert (report.accepted, report.refusals) == (len(events), []) == (13, [])
    assert world.ingest("mediawiki/page_change").inserted == 13
    codec = Codec(world.registry.get("mediawiki/page_change"))
    stored = {event["meta"]["id"]: event for event in map(codec.encode, world.table("mediawiki/page_change").to_pylist())}
    for name, event in events.items():
        assert same(stored[event["meta"]["id"]], event), name


def test_events_of_other_streams_are_refused_with_a_reason(captured: dict[str, dict[str, Any]], world: World) -> None:
    gate = Gate(world.registry, world.log, world.settings)
    for name, event in captured.items():
        if not is_page_change(event):
            answer = gate.check(STREAM, orjson.dumps(event))
            assert isinstance(answer, Refusal), name
            assert answer.code and answer.reason.endswith("."), name


def test_edits_to_wikibase_entities_are_counted(world: World, captured: dict[str, dict[str, Any]]) -> None:
    """The captured edits and creations are edits of activity/edit_statistics; their sizes come from prior_state."""
    world.produce(STREAM, [orjson.dumps(event) for event in captured.values() if is_page_change(event)])
    world.ingest("mediawiki/page_change")
    world.derive("activity/edit_statistics")
    edits = [event for event in captured.values() if is_page_change(event) and event["page_change_kind"] in ("create", "edit")]
    [row] = world.query(
        "select sum(edits) as edits, sum(bytes_added) - sum(bytes_removed) as bytes, sum(unsized) as unsized from activity.edit_statistics"
    )
    bytes_changed = sum(e["revision"]["rev_size"] - e.get("prior_state", {}).get("revision", {}).get("rev_size", 0) for e in edits)
    assert (row["edits"], row["bytes"], row["unsized"]) == (len({e["revision"]["rev_id"] for e in edits}), bytes_changed, 0)


def same(stored: object, sent: object) -> bool:
    """Equal values, where a field that is absent is null."""
    if isinstance(sent, dict) and isinstance(stored, dict):
        names = {*stored, *sent}
        return all(same(stored.get(name), sent.get(name)) for name in names)
    if isinstance(sent, list) and isinstance(stored, list):
        return len(stored) == len(sent) and all(map(same, stored, sent))
    return stored == sent or (isinstance(stored, str) and isinstance(sent, str) and stored.replace(".000000", "") == sent)
