"""Compaction changes files and no row, keeps what the stamps say, and loses to writers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from pyiceberg.table.snapshots import Operation
from pyiceberg.table.sorting import SortField, SortOrder
from pyiceberg.transforms import IdentityTransform

from platform_resources.lakehouse import compaction
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.changes import changes_between
from platform_resources.lakehouse.compaction import Compacted, compact, rewrite
from platform_resources.lakehouse.expiry import expire_snapshots
from platform_resources.lakehouse.files import live_tasks, read_task
from platform_resources.lakehouse.manifests import manifests_of, rewrite_manifests
from platform_resources.lakehouse.orphans import list_files, reached_files
from platform_resources.lakehouse.replacing import commit_swaps, listed_deletes
from platform_resources.lakehouse.staging import PartitionScope, publish, stage_append, stage_empty, stage_overwrite
from platform_resources.lakehouse.stamp import CODE_VERSION, Stamp, last_change, read_epoch, read_position, read_stamp, read_watermark
from tests.lakehouse.tables import orders, read, read_by_duckdb, read_by_polars, rows, table_of
from tests.maintenance.tables import append, assert_whole, events, merge, sizes

LATER = datetime.now(UTC) + timedelta(hours=2)  # when the partitions just written count as quiet


def run(lakehouse: Lakehouse, **options: object) -> Compacted:
    return compact(lakehouse, "shop.orders", run_id="maintenance", now=LATER, **options)  # type: ignore[arg-type]


def test_small_files_of_each_partition_become_one_and_no_row_changes(lakehouse: Lakehouse, con: duckdb.DuckDBPyConnection) -> None:
    definition = events()
    for number in range(6):
        days = [(number * 2 + day, datetime(2026, 1, 1 + day, number, tzinfo=UTC), None if day else "x") for day in range(2)]
        append(lakehouse, definition, *days)
    before = read(table_of(lakehouse, definition))
    done = run(lakehouse)
    table = table_of(lakehouse, definition)
    assert (done.files_before, done.files_after, done.lost) == (12, 2, 0)
    assert len(sizes(lakehouse)) == 2
    head = table.current_snapshot()
    assert head is not None and head.summary is not None and head.summary.operation == Operation.REPLACE
    assert head.summary["total-data-files"] == "2" and head.summary["total-records"] == "12"
    assert read(table) == before
    assert read_by_duckdb(con, table).num_rows == read_by_polars(table).num_rows == 12
    assert_whole(table)
    assert run(lakehouse) == Compacted()  # nothing is left to do


def test_what_the_stamps_say_survives_the_snapshots_that_said_it(lakehouse: Lakehouse) -> None:
    definition, seen = orders(), datetime(2026, 1, 1, tzinfo=UTC)
    first = Stamp("drain", code_version="v1", position={"topic": {"0": 7}}, watermark=seen, epoch=3, extra={"sdp.topic-ids": "{}"})
    publish(stage_append(lakehouse, definition, rows(definition, (1, "a", 1)), first))
    for number in range(2, 8):
        recomputed = Stamp(f"partition-{number}", code_version="v2")  # newer code, for a part of the table only: no position
        publish(stage_append(lakehouse, definition, rows(definition, (number, "a", 1)), recomputed))
    changed = last_change(table_of(lakehouse, definition))
    run(lakehouse)
    table = table_of(lakehouse, definition)
    head = table.metadata.current_snapshot_id
    assert last_change(table) == changed != head  # compaction makes no new version of the data
    expire_snapshots(lakehouse, definition.identifier, keep=1)
    table = table_of(lakehouse, definition)
    assert len(table.metadata.snapshots) == 1 and last_change(table) == changed
    assert read_position(table) == {"topic": {"0": 7}} and read_watermark(table) == seen and read_epoch(table) == 3
    assert read_stamp(table, "sdp.position")[1] == read_stamp(table, "sdp.topic-ids")[1] == head
    assert read_stamp(table, CODE_VERSION) == ("v1", head)


def test_compaction_is_no_change_to_readers(lakehouse: Lakehouse) -> None:
    definition = orders()
    since = append(lakehouse, definition, (0, "a", 0)).snapshot_id
    for number in range(1, 6):
        append(lakehouse, definition, (number, "a", 1))
    run(lakehouse)
    changes = changes_between(table_of(lakehouse, definition), since)
    assert changes.kind == "append" and len(changes.added) == 5


def test_deleted_rows_leave_the_files_and_the_deletes_leave_the_table(lakehouse: Lakehouse, con: duckdb.DuckDBPyConnection) -> None:
    definition = orders()
    append(lakehouse, definition, *[(number, "a", 1) for number in range(20)])
    merge(lakehouse, definition, *[(number, "b", 2) for number in range(5)])
    table = table_of(lakehouse, definition)
    assert listed_deletes(table.io, table.current_snapshot())
    before = read(table)
    run(lakehouse)
    table = table_of(lakehouse, definition)
    assert listed_deletes(table.io, table.current_snapshot()) == []
    assert read(table) == before and read_by_duckdb(con, table).num_rows == 20
    head = table.current_snapshot()
    assert head is not None and head.summary is not None
    assert head.summary["total-records"] == "20" and head.summary["total-delete-files"] == "0"


def test_a_writer_that_was_faster_wins_and_its_rows_stay(lakehouse: Lakehouse) -> None:
    definition = events()
    for number in range(4):
        append(lakehouse, definition, (number, datetime(2026, 1, 1 + number % 2, tzinfo=UTC), "old"))
    table = table_of(lakehouse, definition)
    tasks = live_tasks(table.io, table.current_snapshot(), "shop.orders")
    groups = [[task for task in tasks if task.data_file.partition[0] == day] for day in sorted({t.data_file.partition[0] for t in tasks})]
    swaps = [rewrite(table, "shop.orders", group) for group in groups]
    new = rows(definition, (9, datetime(2026, 1, 1, tzinfo=UTC), "new"))
    publish(stage_overwrite(lakehouse, definition, new, Stamp("writer"), partitions=PartitionScope.present()))
    done = commit_swaps(lakehouse, "shop.orders", swaps, run_id="maintenance", action="compact")
    assert (len(done.kept), len(done.lost)) == (1, 1)
    table = table_of(lakehouse, definition)
    assert [(one, text) for one, _, text in read(table)] == [(1, "old"), (3, "old"), (9, "new")]
    stored = {location.split("/")[-1] for location, *_ in list_files(table) if location.endswith(".parquet")}
    assert stored == {path.split("/")[-1] for path in reached_files(table) if path.endswith(".parquet")}  # what lost left no file


def test_a_row_deleted_meanwhile_does_not_come_back(lakehouse: Lakehouse) -> None:
    definition = orders()
    append(lakehouse, definition, (1, "a", 1), (2, "a", 1))
    table = table_of(lakehouse, definition)
    swap = rewrite(table, "shop.orders", live_tasks(table.io, table.current_snapshot(), "shop.orders"))
    merge(lakehouse, definition, (2, "b", 2))
    assert commit_swaps(lakehouse, "shop.orders", [swap], run_id="maintenance", action="compact").snapshot_id is None
    assert read(table_of(lakehouse, definition)) == [(1, "a", 1), (2, "b", 2)]


def test_an_append_meanwhile_is_no_conflict(lakehouse: Lakehouse) -> None:
    definition = orders()
    append(lakehouse, definition, (1, "a", 1))
    table = table_of(lakehouse, definition)
    swap = rewrite(table, "shop.orders", live_tasks(table.io, table.current_snapshot(), "shop.orders"))
    append(lakehouse, definition, (2, "a", 1))
    assert commit_swaps(lakehouse, "shop.orders", [swap], run_id="maintenance", action="compact").lost == ()
    assert read(table_of(lakehouse, definition)) == [(1, "a", 1), (2, "a", 1)]


def test_rows_are_sorted_across_the_files_they_came_from(lakehouse: Lakehouse) -> None:
    order = SortOrder(SortField(source_id=1, transform=IdentityTransform()))
    definition = orders(sort_order=order)
    for number in (5, 3, 9, 1):
        append(lakehouse, definition, (number, "a", 1), (number + 10, "a", 1))
    run(lakehouse)
    table = table_of(lakehouse, definition)
    (task,) = live_tasks(table.io, table.current_snapshot(), "shop.orders")
    ids = [value for block in read_task(table.io, task, table.schema(), "shop.orders") for value in block.column("id").to_pylist()]
    assert ids == sorted(ids) and len(ids) == 8


def test_a_stream_of_small_commits_costs_the_logarithm_not_the_square(lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    definition, written = orders(), 0
    monkeypatch.setattr(compaction, "HOT_FILES", 2)
    for number in range(32):
        append(lakehouse, definition, *[(number * 100 + one, f"shop {one * 7919 % 101}", one) for one in range(100)])
        written += run(lakehouse).bytes_before
    once = sum(sizes(lakehouse))
    assert len(sizes(lakehouse)) <= 8
    assert written <= 7 * once + 32 * 2_000  # five doublings, and the file headers of 32 tiny files


def test_the_manifests_are_put_in_the_order_of_partitions(lakehouse: Lakehouse, con: duckdb.DuckDBPyConnection) -> None:
    definition = events(properties={"commit.manifest-merge.enabled": "false"})
    for number in range(12):
        at = datetime(2026, 1, 1 + number % 3, tzinfo=UTC)
        append(lakehouse, definition, (number, at, "x"), (number + 100, at, "x"))
    merge(lakehouse, definition, (3, datetime(2026, 1, 1, tzinfo=UTC), "y"))
    since, before = table_of(lakehouse, definition).metadata.current_snapshot_id, read(table_of(lakehouse, definition))
    assert len(manifests_of(table_of(lakehouse, definition))) >= 13
    _, after = rewrite_manifests(lakehouse, "shop.orders", run_id="maintenance") or (0, 0)
    table = table_of(lakehouse, definition)
    assert after == 2 and read(table) == before and read_by_duckdb(con, table).num_rows == len(before)
    assert changes_between(table, since).kind == "none"
    entries = manifests_of(table)[0].fetch_manifest_entry(table.io)
    assert [entry.data_file.partition[0] for entry in entries] == sorted(entry.data_file.partition[0] for entry in entries)
    publish(stage_empty(lakehouse, definition, Stamp("later")))
    assert_whole(table_of(lakehouse, definition))


def test_on_many_cores_what_was_merged_is_not_merged_again(lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    properties = {"write.target-file-size-bytes": str(2 << 20), "write.parquet.row-group-size-bytes": str(256 << 10)}
    definition, draw = orders(properties=properties), np.random.default_rng(0)
    for number in range(8):
        amounts = draw.integers(0, 1 << 60, 20_000)
        data = pa.table({"id": pa.array(amounts), "shop": pa.array(["x"] * len(amounts)), "amount": pa.array(amounts)})
        publish(stage_append(lakehouse, definition, data.cast(rows(definition, (1, "a", 1)).schema), Stamp(f"w{number}")))
    monkeypatch.setattr(pa, "cpu_count", lambda: 4)
    done = run(lakehouse)
    assert done.files_before == 8 and done.files_after <= done.bytes_after // (2 << 20) + 1
    assert run(lakehouse).files_before == 0


def test_a_spec_that_is_still_written_is_not_taken_for_old(lakehouse: Lakehouse) -> None:
    daily, plain = events(), events(by_day=False)
    for definition in (daily, plain, daily, plain):  # two versions of a contract, side by side
        append(lakehouse, definition, (1, datetime(2026, 1, 1, tzinfo=UTC), "x"))
    assert compact(lakehouse, "shop.orders", run_id="maintenance", now=datetime.now(UTC)).files_before == 0
    run(lakehouse)
    table = table_of(lakehouse, plain)
    tasks = live_tasks(table.io, table.current_snapshot(), "shop.orders")
    assert {task.data_file.spec_id for task in tasks} == {table.metadata.default_spec_id}


def test_without_a_sort_order_rows_stay_in_the_order_they_came_in(lakehouse: Lakehouse) -> None:
    definition = orders()
    for start, count in ((0, 300), (300, 10), (310, 200), (510, 20)):
        append(lakehouse, definition, *[(number, f"shop {number * 7919 % 101}", 1) for number in range(start, start + count)])
    run(lakehouse)
    table = table_of(lakehouse, definition)
    (task,) = live_tasks(table.io, table.current_snapshot(), "shop.orders")
    ids = [value for block in read_task(table.io, task, table.schema(), "shop.orders") for value in block.column("id").to_pylist()]
    assert ids == list(range(530))
