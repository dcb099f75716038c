"""Spark sees what the platform's merges deleted, and the platform what Spark's did."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pyiceberg.transforms import IdentityTransform

from platform_resources.contracts.iceberg import MergeRule
from platform_resources.engines.spark import Spark, table_name
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.changes import changes_between
from platform_resources.lakehouse.files import live_rows, live_tasks
from platform_resources.lakehouse.staging import publish, stage_append, stage_merge
from platform_resources.lakehouse.stamp import Stamp
from tests.lakehouse.tables import orders, read, rows, table_of

pytestmark = pytest.mark.stack
_ON_READ = {f"write.{what}.mode": "merge-on-read" for what in ("merge", "update", "delete")}


@pytest.mark.parametrize("granularity", ["file", "partition"])
def test_deletes_of_either_are_seen_by_both(spark: Spark, granularity: str) -> None:
    lakehouse, session = Lakehouse(spark.settings), spark.session
    partition = [("shop", IdentityTransform(), "shop")]
    properties = {**_ON_READ, "write.delete.granularity": granularity}
    definition = orders(partition, identifier=f"shop.deletes_{granularity}", properties=properties)
    merged = replace(definition, merge=MergeRule("merge-on-read"))
    for start in (0, 100):
        publish(
            stage_append(lakehouse, definition, rows(definition, *[(start + n, "ab"[n % 2], n) for n in range(20)]), Stamp(f"a{start}"))
        )
    first = table_of(lakehouse, definition).metadata.current_snapshot_id

    def by_spark() -> list[tuple[object, ...]]:
        session.catalog.refreshTable(name)
        return sorted((tuple(row) for row in session.table(name).collect()), key=repr)

    name = table_name(spark.settings, definition.identifier)
    publish(stage_merge(lakehouse, merged, rows(definition, (1, "b", 7), (102, "c", 7)), Stamp("m1"), keys=("id",)))
    assert by_spark() == read(table_of(lakehouse, definition))
    session.sql(f"DELETE FROM {name} WHERE id IN (2, 4, 104, 1)")
    session.sql(f"UPDATE {name} SET amount = 99 WHERE id IN (3, 103)")
    assert by_spark() == read(table_of(lakehouse, definition))
    table = table_of(lakehouse, definition)
    changes = changes_between(table, first)
    assert changes.kind == "rewrite" and any(task.deletes for task in live_tasks(table.io, table.current_snapshot(), "t"))
    publish(stage_merge(lakehouse, merged, rows(definition, (3, "b", 8), (6, "c", 8)), Stamp("m2"), keys=("id",)))
    publish(
        stage_merge(
            lakehouse, replace(definition, merge=MergeRule("copy-on-write")), rows(definition, (8, "d", 8)), Stamp("m3"), keys=("id",)
        )
    )
    table = table_of(lakehouse, definition)
    assert by_spark() == read(table) and len(read(table)) == 36
    head = table.current_snapshot()
    assert head is not None and head.summary is not None
    assert granularity == "partition" or live_rows(head.summary.additional_properties) == 36
