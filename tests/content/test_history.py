"""Whole lives of two generated wikis: content/history has every revision as its wiki has it, by key and computed anew.

The rules one by one are `test_rules`'.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from demo.contents import CONTENT_STREAM, DUMPED, Page, Revision, Slot, change_event, export, generate
from platform_resources.config import SOURCE_ROOT
from tests.content.world import rows, tell, work
from tests.products.conftest import World, world_of  # noqa: F401 - a fixture

pytestmark = pytest.mark.storm


@pytest.mark.parametrize("seed", range(4))
def test_every_revision_is_as_its_wiki_has_it(seed: int, world_of: Callable[[Path], World]) -> None:  # noqa: F811
    """Told in three pieces and worked after each: some events, the dumps, the other events."""
    world, made = world_of(SOURCE_ROOT), generate(240, seed=seed)
    half = len(made.changes) // 2
    tell(world, changes=made.changes[:half])
    assert set(work(world)) == {"full"}
    tell(world, dumps=made.dumps)
    work(world)
    tell(world, changes=made.changes[half:], visibility=made.visibility)
    assert set(work(world)) == {"key"}
    expected = sorted(made.rows, key=lambda row: (row["wiki_id"], row["page_id"], row["revision_id"]))
    found = rows(world, "history")
    assert [row["revision_id"] for row in found] == [row["revision_id"] for row in expected]
    for mine, right in zip(found, expected, strict=True):
        assert mine == right
    assert {row["wiki_id"] for row in found} == {"simplewiki", "commonswiki"}
    work(world, recompute=True)
    assert rows(world, "history") == expected


def test_a_text_of_eight_megabytes_is_whole_and_an_event_beyond_ten_is_refused(world_of: Callable[[Path], World]) -> None:  # noqa: F811
    world, texts = world_of(SOURCE_ROOT), {number: str(number) * 8_000_000 for number in (1, 2)}
    saved = {
        number: Revision(number, None, DUMPED + timedelta(hours=number - 2), (7, "Ada"), "", False, {"main": Slot(text, number)})
        for number, text in texts.items()
    }
    page = Page(1, 0, "Long", [saved[1]])
    dump = "".join(export("simplewiki", [page])).encode()
    event = change_event("simplewiki", "edit", saved[2].dt, page, saved[2], 1)
    tell(world, dumps={"simplewiki-20260101-pages-meta-history.xml": dump}, changes=[event])
    work(world)
    assert {row["revision_id"]: row["revision_content_slots"]["main"]["content_body"] for row in rows(world, "history")} == texts
    event["revision"]["content_slots"]["main"]["content_body"] *= 2
    report = world.produce(CONTENT_STREAM, [json.dumps(event).encode()])
    assert (report.accepted, len(report.refusals)) == (0, 1)


def test_the_generator_gives_the_same_for_the_same_seed_and_all_it_promises() -> None:
    one, again, other = generate(120, seed=1), generate(120, seed=1), generate(120, seed=2)
    assert one == again and one != other
    kinds = {json.loads(line)["page_change_kind"] for line in one.changes}
    assert kinds >= {"create", "edit", "move", "delete"} and len(one.changes) > len(set(one.changes))
    assert any(not row["revision_content_is_visible"] for row in generate(400).rows)
