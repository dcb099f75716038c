"""The oracle: what must have told the 98 real rows of the content history, told to this platform, gives those rows again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from platform_resources.config import SOURCE_ROOT
from tests.content import real_rows
from tests.content.real_rows import Row
from tests.content.world import land, rows, tell, work
from tests.products.conftest import World, world_of  # noqa: F401 - a fixture

# A row of an event that has no time of a move, as of one written before events gave it one: nothing in an event tells that.
UNMOVED = 908776130


@pytest.fixture(scope="module")
def told(world_of: Callable[[Path], World], realdata: Path) -> tuple[World, list[Row]]:  # noqa: F811
    """The platform that was told of the real rows, events in two pieces and some twice."""
    world, real = world_of(SOURCE_ROOT), real_rows.read(realdata)
    events = real_rows.events(real)
    tell(world, changes=events[::-2])
    work(world)
    tell(world, dumps=real_rows.dumps(real), changes=events)
    work(world)
    return world, real


def test_the_real_rows_come_out_again(told: tuple[World, list[Row]]) -> None:
    world, real = told
    right = {(row["wiki_id"], row["revision_id"]): real_rows.expected(row) for row in real}
    found = {(row["wiki_id"], row["revision_id"]): row for row in rows(world, "history")}
    assert found.keys() == right.keys() and len(right) == 98
    right["commonswiki", UNMOVED]["row_move_update_dt"] = right["commonswiki", UNMOVED]["row_content_update_dt"]
    for key, row in right.items():
        assert found[key] == row


def test_the_newest_real_revision_of_each_page_is_current(told: tuple[World, list[Row]]) -> None:
    world, _ = told
    assert [(row["wiki_id"], row["page_id"], row["revision_id"]) for row in rows(world, "current")] == [
        ("commonswiki", 13327093, 1080349301),
        ("simplewiki", 45046, 5566832),
        ("simplewiki", 279900, 10207625),
    ]


def test_the_real_map_of_namespaces_lands(told: tuple[World, list[Row]], realdata: Path) -> None:
    world, real = told
    content = (realdata / "content_history" / "wmf_raw_mediawiki_project_namespace_map.json.gz").read_bytes()
    report = land(world, "mediawiki/project_namespace_map", {"project_namespace_map/snapshot=2023-09/part-0.json.gz": content})
    assert (report.inserted, report.quarantined, report.refused, report.slices) == (23_796, 0, [], ["2023-09"])
    prefixes = world.query(
        "select dbname as wiki_id, namespace as number, namespace_localized_name as name from mediawiki.project_namespace_map__current"
    )
    names = {(row["wiki_id"], row["number"]): row["name"] for row in prefixes}
    assert {names[row["wiki_id"], row["page_namespace_id"]] for row in real} == {"File", "Talk", "User"}
    assert all(row["page_title"].startswith(f"{names[row['wiki_id'], row['page_namespace_id']]}:") for row in rows(world, "history"))
