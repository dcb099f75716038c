"""content/history and content/current hold what their contracts say, of whatever dumps and events tell, in whatever order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from demo.contents import Generated, generate
from platform_resources.config import SOURCE_ROOT
from tests.content.world import rows, tell, work
from tests.products.conftest import World, world_of  # noqa: F401 - a fixture


@pytest.fixture(scope="module")
def lived(world_of: Callable[[Path], World]) -> tuple[World, Generated]:  # noqa: F811
    """Two generated wikis, told in three pieces and worked after each: some events, the dump, the other events."""
    world = world_of(SOURCE_ROOT)
    made = generate(160, seed=5)
    half = len(made.changes) // 2
    tell(world, changes=made.changes[:half])
    assert work(world) == ["full", "full"]
    tell(world, dumps=made.dumps)
    work(world)
    tell(world, changes=made.changes[half:], visibility=made.visibility)
    assert work(world) == ["key", "key"]
    return world, made


def test_every_revision_is_as_its_wiki_has_it(lived: tuple[World, Generated]) -> None:
    world, made = lived
    expected = sorted(made.rows, key=lambda row: (row["wiki_id"], row["page_id"], row["revision_id"]))
    found = rows(world, "history")
    assert [row["revision_id"] for row in found] == [row["revision_id"] for row in expected]
    for mine, right in zip(found, expected, strict=True):
        assert mine == right
    assert {row["wiki_id"] for row in found} == {"simplewiki", "commonswiki"}
