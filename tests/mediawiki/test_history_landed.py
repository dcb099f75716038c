"""Monthly snapshots of history as files that are dropped, landed and rested upon: rules 2 and 13, and how new the tables say they are."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from demo.histories import namespace_map
from platform_resources.contracts.iceberg import table_definition
from platform_resources.lakehouse.stamp import read_watermark
from tests.mediawiki.computed import queries, schema
from tests.mediawiki.test_history import BOB, SNAPSHOT, account, blocked, saved, seen, snapshot_row, tagged
from tests.mediawiki.worked import land, land_map, rows, tell, work
from tests.products.conftest import World, world, world_of  # noqa: F401 - fixtures

IN_MARCH, MARCH = 27 * 24, datetime(2026, 3, 2, tzinfo=UTC)
JANUARY, LATER = "2026-01-05T00:00:00Z", "2026-02-03T02:00:00Z"  # `saved` counts hours from February 3


def slice_of(world: World, month: str, told: list[dict[str, Any]]) -> None:  # noqa: F811
    columns = [schema(SNAPSHOT).field(column.name).remove_metadata() for column in world.registry.get(SNAPSHOT).columns]
    file = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(told, pa.schema(columns)), file)
    land(world, SNAPSHOT, {f"history_snapshot/snapshot={month}/part-0.parquet": file.getvalue().to_pybytes()})


def revision(number: int, when: str, sha1: str) -> dict[str, Any]:
    return snapshot_row("enwiki", "revision", str(number), "create", when, revision_id=number, revision_text_sha1=sha1)


def revisions_of(world: World) -> list[dict[str, Any]]:  # noqa: F811
    return [row for row in rows(world, "history") if row["event_entity"] == "revision"]


def found(world: World) -> dict[int, tuple[Any, ...]]:  # noqa: F811
    columns = ("source", "revision_text_sha1", "revision_first_identity_reverting_revision_id")
    return {row["revision_id"]: tuple(row[name] for name in columns) for row in revisions_of(world)}


def test_history_rests_on_the_newest_slice_that_landed_and_is_as_new_as_its_events(world: World) -> None:  # noqa: F811
    land_map(world, namespace_map())
    slice_of(world, "2026-01", [revision(1, JANUARY, "a"), revision(2, "2026-01-06T00:00:00Z", "b")])
    tell(world, [saved("enwiki", 1, -700, "not asked"), saved("enwiki", 3, 1, "a"), saved("enwiki", 4, 2, "lost")])
    work(world)
    assert found(world) == {
        1: ("snapshot", "a", None), 2: ("snapshot", "b", 3), 3: ("events", "a", None), 4: ("events", "lost", None),
    }  # fmt: skip
    before = {row["revision_id"]: row["row_update_dt"] for row in revisions_of(world)}

    # February's slice tells January otherwise, has 3 and does not know 4; of March every stream has told already.
    said = [saved("enwiki", 5, IN_MARCH, "b"), seen("enwiki", 5, IN_MARCH), tagged("enwiki", 5, IN_MARCH)]
    tell(world, [*said, blocked("enwiki", BOB, IN_MARCH), account("enwiki", "create", BOB, IN_MARCH)])
    slice_of(world, "2026-02", [revision(2, "2026-01-06T00:00:00Z", "b"), revision(3, LATER, "c")])
    work(world)
    assert found(world) == {2: ("snapshot", "b", None), 3: ("snapshot", "c", 5), 5: ("events", "b", None)}
    assert all(row["row_update_dt"] > before[row["revision_id"]] for row in revisions_of(world) if row["revision_id"] in before)


def test_a_monthly_slice_does_not_hold_back_how_new_the_tables_are(world: World) -> None:  # noqa: F811
    """The slice and the map tell of times before March, all streams since."""
    made = {key: read_watermark(world.lakehouse.create(table_definition(world.registry.get(key)))) for key in queries()}
    assert made == dict.fromkeys(made, MARCH) | {"mediawiki/history_baseline": datetime(2026, 3, 1, tzinfo=UTC)}
