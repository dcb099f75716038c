"""The 98 real revisions through the real gate, drain and derivation, with the real map of namespaces: reverts and who made them."""

from __future__ import annotations

import gzip
import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from demo.histories import PAGE_CHANGE, Event
from tests.mediawiki.worked import land_map, rows, tell, work
from tests.products.conftest import World, world, world_of  # noqa: F401 - fixtures


def real_revisions(realdata: Path) -> list[dict[str, Any]]:
    name = realdata / "content_history" / "wmf_content_mediawiki_content_history_v1.json.gz"
    found = [json.loads(line) for line in gzip.decompress(name.read_bytes()).splitlines()]
    return sorted(found, key=lambda row: (row["revision_dt"], row["revision_id"]))


def as_events(revisions: list[dict[str, Any]]) -> list[tuple[str, Event]]:
    """The page changes that must have been sent when these revisions were saved."""
    before: dict[tuple[str, int], dict[str, Any]] = {}
    told = []
    for row in revisions:
        page = (row["wiki_id"], row["page_id"])
        last = before.get(page)
        revision = {
            "rev_id": row["revision_id"], "rev_dt": row["revision_dt"], "is_minor_edit": row["revision_is_minor_edit"],
            "is_editor_visible": row["user_is_visible"], "is_content_visible": row["revision_content_is_visible"],
            "is_comment_visible": row["revision_comment_is_visible"],
        }  # fmt: skip
        if row.get("revision_parent_id"):
            revision["rev_parent_id"] = row["revision_parent_id"]
        if row["user_is_visible"] and "user_text" in row:
            revision["editor"] = {"user_text": row["user_text"]} | ({"user_id": row["user_id"]} if row.get("user_id", 0) > 0 else {})
        if row["revision_content_is_visible"]:
            revision |= {"rev_sha1": row["revision_sha1"], "rev_size": row["revision_size"]}
        event: dict[str, Any] = {
            "$schema": "/mediawiki/page/change/1.3.0",
            "meta": {"stream": "mediawiki.page_change.v1", "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{page}{row['revision_id']}")),
                     "dt": row["revision_dt"], "domain": "example.org"},
            "wiki_id": row["wiki_id"], "dt": row["revision_dt"],
            "page_change_kind": "edit" if last else "create", "changelog_kind": "update" if last else "insert",
            "page": {"page_id": row["page_id"], "page_title": row["page_title"].replace(" ", "_"),
                     "namespace_id": row["page_namespace_id"]},
            "revision": revision,
        }  # fmt: skip
        if last:
            size = {"rev_size": last["revision_size"]} if last["revision_content_is_visible"] else {}
            event["prior_state"] = {"revision": {"rev_id": last["revision_id"], "rev_dt": last["revision_dt"]} | size}
        before[page] = row
        told.append((PAGE_CHANGE, event))
    return told


def test_reverts_of_the_real_revisions(world: World, realdata: Path) -> None:  # noqa: F811
    revisions = real_revisions(realdata)
    land_map(world, (realdata / "content_history" / "wmf_raw_mediawiki_project_namespace_map.json.gz").read_bytes(), "2023-09")
    told = as_events(revisions)
    tell(world, told)
    work(world)
    found = {row["revision_id"]: row for row in rows(world, "history") if row["event_entity"] == "revision"}
    assert found.keys() == {row["revision_id"] for row in revisions}

    seen_before, saved_again = repeated(revisions)
    assert (len(seen_before), len(saved_again)) == (17, 5)
    assert {key for key, row in found.items() if row["revision_is_identity_revert"]} == seen_before - saved_again
    first = first_reverts(revisions, seen_before - saved_again)
    assert {key: row["revision_first_identity_reverting_revision_id"] for key, row in found.items()} == first
    assert sum(row["revision_is_identity_reverted"] or False for row in found.values()) == 15
    cut = [key for key, row in found.items() if row["revision_is_identity_reverted"] is None]
    assert sorted(cut) == [1714215, 4670942, 4670944, 4997170]  # whose texts are hidden

    by_bots = {row["event_user_text"]: row["event_user_is_bot_by_historical"] for row in found.values()}
    assert by_bots["DcoetzeeBot"] == ["name"] and by_bots["Eptalon"] == []
    nobody = found[360821]
    assert [nobody[name] for name in nobody if name.startswith("event_user_")] == [None] * 12
    assert (nobody["revision_deleted_parts"], nobody["revision_is_identity_reverted"]) == (["user"], True)
    assert found[266092]["page_title"] == "Ryulong" and found[266092]["page_namespace_is_content"] is False


@pytest.mark.storm
def test_one_more_revert_recomputes_its_page_and_marks_what_it_undid(world: World, realdata: Path) -> None:  # noqa: F811
    """On the same world where the whole file runs: only keys of the new event are worked, and a reader by row_update_dt sees them."""
    revisions = real_revisions(realdata)
    told = as_events(revisions)
    land_map(world, (realdata / "content_history" / "wmf_raw_mediawiki_project_namespace_map.json.gz").read_bytes(), "2023-09")
    tell(world, told)
    work(world)
    found = {row["revision_id"]: row for row in rows(world, "history") if row["event_entity"] == "revision"}
    _, event = told[-1]
    undone = event["revision"]
    before = next(
        row for row in reversed(revisions) if row["page_id"] == event["page"]["page_id"] and row["revision_id"] != undone["rev_id"]
    )
    again = {**undone, "rev_id": 99_000_001, "rev_dt": "2026-01-01T00:00:00Z", "rev_parent_id": undone["rev_id"]}
    again |= {"rev_sha1": before["revision_sha1"], "rev_size": before["revision_size"]}
    meta = event["meta"] | {"id": str(uuid.UUID(int=1)), "dt": "2026-01-01T00:00:01Z"}
    tell(world, [(PAGE_CHANGE, event | {"dt": "2026-01-01T00:00:00Z", "meta": meta, "revision": again})])
    plans = work(world)
    assert {name: plan for name, plan in plans.items() if plan != "key"} == {
        "history_baseline": "nothing", "user_history": "nothing", "history_reduced": "partition",
    }  # fmt: skip
    later = {row["revision_id"]: row for row in rows(world, "history") if row["event_entity"] == "revision"}
    assert later[undone["rev_id"]]["revision_first_identity_reverting_revision_id"] == 99_000_001
    assert later[undone["rev_id"]]["row_update_dt"] == later[99_000_001]["row_update_dt"]
    others = found.keys() - {undone["rev_id"]}
    assert {key for key in others if later[key]["row_update_dt"] != found[key]["row_update_dt"]} <= stretch(revisions, before)


def repeated(revisions: list[dict[str, Any]]) -> tuple[set[int], set[int]]:
    """Revisions with a hash that their page had before, and those of them that saved what was there."""
    last: dict[tuple[int, str], int] = {}
    seen, again = set(), set()
    for row in revisions:
        key = (row["page_id"], row["revision_sha1"])
        if row["revision_content_is_visible"]:
            seen |= {row["revision_id"]} if key in last else set()
            again |= {row["revision_id"]} if key in last and last[key] == row.get("revision_parent_id") else set()
            last[key] = row["revision_id"]
    return seen, again


def first_reverts(revisions: list[dict[str, Any]], reverts: set[int]) -> dict[int, int | None]:
    """Who reverted each revision first, found by looking at every later one."""
    found: dict[int, int | None] = {}
    for place, row in enumerate(revisions):
        found[row["revision_id"]] = None
        for later in revisions[place + 1 :] if row["revision_content_is_visible"] else ():
            base = next(one for one in revisions if (one["page_id"], one["revision_sha1"]) == (later["page_id"], later["revision_sha1"]))
            own = row["revision_id"] in reverts and row["revision_sha1"] == later["revision_sha1"]
            if later["page_id"] == row["page_id"] and later["revision_id"] in reverts and not own and revisions.index(base) < place:
                found[row["revision_id"]] = later["revision_id"]
                break
    return found


def stretch(revisions: list[dict[str, Any]], restored: dict[str, Any]) -> set[int]:
    """Revisions of the page since the text that was restored first stood there: all that another reverter to it can touch."""
    page = [row for row in revisions if row["page_id"] == restored["page_id"]]
    base = next(place for place, row in enumerate(page) if row["revision_sha1"] == restored["revision_sha1"])
    return {row["revision_id"] for row in page[base:]}
