"""One write is one snapshot: staged, audited, then committed exactly so, refused on a branch, or gone without a trace."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.transforms import DayTransform, IdentityTransform, MonthTransform
from pyiceberg.types import DateType, DecimalType, IntegerType, ListType, LongType, NestedField, StringType, StructType, TimestamptzType

from platform_resources import failpoints
from platform_resources.errors import PlatformError
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.files import live_files
from platform_resources.lakehouse.reading import duckdb_scan_sql
from platform_resources.lakehouse.staging import (
    CommitConflict,
    Fence,
    Fenced,
    PartitionScope,
    publish,
    stage_append,
    stage_empty,
    stage_merge,
    stage_overwrite,
)
from platform_resources.lakehouse.stamp import (
    Stamp,
    committed_snapshot,
    read_epoch,
    read_position,
    read_position_at,
    read_watermark,
)
from tests.lakehouse.tables import define, files_on_disk, location_of, orders, read, rows, table_of

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ORDERS = orders()
BY_SHOP = orders([("shop", IdentityTransform(), "shop")])


def append(lakehouse: Lakehouse, definition: Any, *values: tuple[Any, ...], run: str = "r", **stamp: Any) -> Any:
    return publish(stage_append(lakehouse, definition, rows(definition, *values), Stamp(run, **stamp)))


def test_a_table_that_another_made_in_the_same_moment_is_taken(lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    made = lakehouse.create(ORDERS)
    looked = iter([None])  # what this one saw before the other came
    monkeypatch.setattr(lakehouse, "table", lambda name: next(looked, made))
    assert lakehouse.create(ORDERS).metadata.table_uuid == made.metadata.table_uuid


def test_a_new_table_has_an_empty_first_snapshot_and_reads_empty(lakehouse: Lakehouse, con: duckdb.DuckDBPyConnection) -> None:
    table = lakehouse.create(ORDERS)
    assert len(table.metadata.snapshots) == 1
    assert con.sql(f"SELECT * FROM {duckdb_scan_sql(table)}").fetchall() == []
    assert lakehouse.create(ORDERS).metadata_location == table.metadata_location
    assert lakehouse.identifiers() == ["shop.orders"]
    lakehouse.drop("shop.orders")
    assert lakehouse.table("shop.orders") is None and not files_on_disk(lakehouse)
    lakehouse.drop("shop.orders")


def test_rows_schema_properties_and_stamp_are_one_snapshot(lakehouse: Lakehouse) -> None:
    append(lakehouse, ORDERS, (1, "a", 5))
    wider = define(
        ("id", LongType(), True), ("shop", StringType()), ("amount", LongType()), ("note", StringType()), properties={"owner": "x"}
    )
    stamp = Stamp(
        "r2", code_version="c1", contract_version="1.2.0", partition="2026-01-01", position={"t": {0: 5}}, watermark=NOON,
        counts={"read": 1}, epoch=3, extra={"custom": "y"},
    )  # fmt: skip
    commit = publish(stage_append(lakehouse, wider, rows(wider, (2, "b", 6, "n")), stamp))
    table = table_of(lakehouse, ORDERS)
    assert len(table.metadata.snapshots) == 3
    assert commit.snapshot_id == table.metadata.current_snapshot_id and (commit.rows, commit.table_rows) == (1, 2)
    assert commit.summary.items() >= {
        "sdp.run-id": "r2",
        "sdp.code-version": "c1", "sdp.contract-version": "1.2.0", "sdp.partition": "2026-01-01",
        "sdp.position": '{"t":{"0":5}}', "sdp.watermark": "2026-01-01T12:00:00Z", "sdp.counts": '{"read":1}',
        "sdp.epoch": "3", "custom": "y",
    }.items()  # fmt: skip
    assert table.properties["owner"] == "x"
    assert read(table) == [(1, "a", 5, None), (2, "b", 6, "n")]


def test_position_watermark_and_epoch_come_from_the_nearest_ancestor_that_has_them(lakehouse: Lakehouse) -> None:
    first = append(lakehouse, ORDERS, (1, "a", 5), position={"t": {"0": 1}}, watermark=NOON, epoch=1)
    append(lakehouse, ORDERS, (2, "a", 5), run="maintenance")
    table = table_of(lakehouse, ORDERS)
    assert read_position_at(table) == ({"t": {"0": 1}}, first.snapshot_id)
    assert (read_watermark(table), read_epoch(table)) == (NOON, 1)
    append(lakehouse, ORDERS, (3, "a", 5), position={"t": {"0": 9}}, watermark=NOON + timedelta(hours=1))
    assert read_position(table_of(lakehouse, ORDERS)) == {"t": {"0": 9}}
    table_of(lakehouse, ORDERS).manage_snapshots().rollback_to_snapshot(first.snapshot_id).commit()
    assert read_position(table_of(lakehouse, ORDERS)) == {"t": {"0": 1}}


def test_a_retry_finds_its_own_stamp(lakehouse: Lakehouse) -> None:
    commit = append(lakehouse, ORDERS, (1, "a", 5), run="r1", partition="p1")
    append(lakehouse, ORDERS, (2, "a", 5), run="r2")
    table = table_of(lakehouse, ORDERS)
    found = committed_snapshot(table, "r1", "p1")
    assert found is not None and found.snapshot_id == commit.snapshot_id
    assert committed_snapshot(table, "r1", "p2") is None and committed_snapshot(table, "r3") is None


def test_the_audited_table_is_not_yet_published_and_is_what_gets_published(lakehouse: Lakehouse, con: duckdb.DuckDBPyConnection) -> None:
    append(lakehouse, BY_SHOP, (1, "a", 5), (2, "b", 5), (3, "c", 5))
    staged = stage_overwrite(lakehouse, BY_SHOP, rows(BY_SHOP, (4, "a", 7)), Stamp("r2"), partitions=PartitionScope.present())
    seen = {
        scope: sorted(con.sql(f"SELECT id FROM {staged.audit_relation(con, scope=scope)}").fetchall())  # type: ignore[arg-type]
        for scope in ("commit", "partition", "table")
    }
    assert seen == {"commit": [(4,)], "partition": [(4,)], "table": [(2,), (3,), (4,)]}
    assert [row[0] for row in read(table_of(lakehouse, ORDERS))] == [1, 2, 3]
    before = files_on_disk(lakehouse)
    assert any("audit-" in path.name for path in before)
    publish(staged)
    assert [row[0] for row in read(table_of(lakehouse, ORDERS))] == [2, 3, 4]
    assert not any("audit-" in path.name for path in files_on_disk(lakehouse))


def test_the_partition_scope_of_a_merge_has_the_rows_that_stay(lakehouse: Lakehouse, con: duckdb.DuckDBPyConnection) -> None:
    append(lakehouse, BY_SHOP, (1, "a", 5), (2, "a", 5), (3, "c", 5))
    staged = stage_merge(lakehouse, BY_SHOP, rows(BY_SHOP, (2, "a", 9)), Stamp("r2"), keys=("id",))
    relation = staged.audit_relation(con, scope="partition")
    assert sorted(con.sql(f"SELECT id, amount FROM {relation}").fetchall()) == [(1, 5), (2, 9)]
    assert con.sql(f"SELECT id FROM {staged.audit_relation(con, scope='commit')}").fetchall() == [(2,)]


def test_a_refused_write_stands_on_its_branch_and_not_on_main(lakehouse: Lakehouse, con: duckdb.DuckDBPyConnection) -> None:
    head = lakehouse.create(ORDERS).metadata.current_snapshot_id
    wider = define(("id", LongType(), True), ("shop", StringType()), ("amount", LongType()), ("note", StringType()))
    staged = stage_append(lakehouse, wider, rows(wider, (1, "a", -5, "n")), Stamp("r1"))
    publish(stage_append(lakehouse, ORDERS, rows(ORDERS, (9, "z", 1)), Stamp("other")))  # main moves while the audit runs
    staged.refuse("refused/r1")
    table = table_of(lakehouse, ORDERS)
    assert table.metadata.refs["refused/r1"].snapshot_id == staged.snapshot_id
    assert head is not None and [row[0] for row in read(table)] == [9]
    assert [field.name for field in table.schema().fields] == ["id", "shop", "amount"]
    kept = con.sql(f"SELECT id FROM {duckdb_scan_sql(table, staged.snapshot_id)} ORDER BY id").fetchall()
    assert kept == [(1,), (9,)]
    append(lakehouse, wider, (2, "b", 5, "m"))  # the mended write evolves the table
    assert read(table_of(lakehouse, ORDERS)) == [(2, "b", 5, "m"), (9, "z", 1, None)]
    with pytest.raises(RuntimeError, match="already refused"):
        staged.commit()


def test_a_refusal_meanwhile_is_a_conflict_that_restaging_mends(lakehouse: Lakehouse) -> None:
    """A snapshot on any branch takes the sequence number that the other write was staged with."""
    append(lakehouse, ORDERS, (1, "a", 1))
    one, two, three = (stage_append(lakehouse, ORDERS, rows(ORDERS, (n, "b", n)), Stamp(f"w{n}")) for n in (2, 3, 4))
    two.refuse("refused/w3")
    with pytest.raises(CommitConflict):
        one.commit()
    one.restage().commit()
    publish(three)
    assert [row[0] for row in read(lakehouse.table("shop.orders"))] == [1, 2, 4]


@pytest.mark.parametrize("kind", ["append", "overwrite", "merge"])
def test_a_discarded_write_leaves_no_file(lakehouse: Lakehouse, con: duckdb.DuckDBPyConnection, kind: str) -> None:
    append(lakehouse, BY_SHOP, *[(n, "ab"[n % 2], n) for n in range(10)])
    before = files_on_disk(lakehouse)
    data = rows(BY_SHOP, (1, "b", 0), (99, "c", 0))
    staged = {
        "append": lambda: stage_append(lakehouse, BY_SHOP, data, Stamp("r2")),
        "overwrite": lambda: stage_overwrite(lakehouse, BY_SHOP, data, Stamp("r2"), partitions=PartitionScope.table()),
        "merge": lambda: stage_merge(lakehouse, BY_SHOP, data, Stamp("r2"), keys=("id",)),
    }[kind]()
    staged.audit_relation(con, scope="table")
    assert len(files_on_disk(lakehouse)) > len(before) + 3
    staged.discard()
    staged.discard()
    assert files_on_disk(lakehouse) == before


def test_rows_that_break_the_contract_leave_no_file(lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform_resources.lakehouse.parquet.BLOCK_ROWS", 2)
    lakehouse.create(BY_SHOP)
    before = files_on_disk(lakehouse)
    bad = pa.table({"id": [1, 2, 3, 4, None], "shop": ["a", "b", "a", "b", "a"], "amount": [1] * 5})
    with pytest.raises(PlatformError) as caught:
        stage_append(lakehouse, BY_SHOP, bad, Stamp("r1"))
    assert caught.value.code == "column-null" and files_on_disk(lakehouse) == before


def test_an_overwrite_of_one_partition_is_one_snapshot_and_owns_only_its_rows(lakehouse: Lakehouse) -> None:
    by_day = define(
        ("id", LongType()), ("meta", StructType(NestedField(9, "dt", TimestamptzType()))), partition=[("meta.dt", DayTransform(), "d")]
    )

    def day(n: int, *ids: int) -> pa.Table:
        return rows(by_day, *[(one, {"dt": NOON + timedelta(days=n)}) for one in ids])

    publish(stage_append(lakehouse, by_day, pa.concat_tables([day(0, 1), day(1, 2), rows(by_day, (3, {"dt": None}))]), Stamp("r1")))
    before = files_on_disk(lakehouse)
    with pytest.raises(PlatformError) as caught:
        stage_overwrite(
            lakehouse, by_day, pa.concat_tables([day(0, 4), day(2, 5, 6)]), Stamp("r2"), partitions=PartitionScope.named("2026-01-01")
        )
    assert caught.value.code == "partition-violation"
    assert "2 of 3 rows outside the partition 2026-01-01 by meta.dt" in caught.value.message and "d=2026-01-03" in caught.value.message
    assert files_on_disk(lakehouse) == before
    commit = publish(stage_overwrite(lakehouse, by_day, day(0, 7), Stamp("r2"), partitions=PartitionScope.named("2026-01-01")))
    table = table_of(lakehouse, by_day)
    snapshot = table.metadata.snapshot_by_id(commit.snapshot_id)
    assert snapshot is not None and snapshot.parent_snapshot_id == commit.parent_id and snapshot.summary is not None
    assert snapshot.summary.operation.value == "overwrite" and len(table.metadata.snapshots) == 3
    assert [row[0] for row in read(table)] == [2, 3, 7]
    publish(stage_overwrite(lakehouse, by_day, day(0), Stamp("r3"), partitions=PartitionScope.named("2026-01-01")))
    publish(stage_overwrite(lakehouse, by_day, day(0), Stamp("r4"), partitions=PartitionScope.named("null")))
    assert [row[0] for row in read(table_of(lakehouse, by_day))] == [2]


def test_a_merge_rewrites_only_files_that_hold_a_key(lakehouse: Lakehouse) -> None:
    for start in (0, 100, 200):
        append(lakehouse, ORDERS, *[(start + n, f"s{n}", n) for n in range(10)])
    staged = stage_merge(lakehouse, ORDERS, rows(ORDERS, (105, "new", 1), (999, "new", 2)), Stamp("r"), keys=("id",))
    assert (len(staged.removed), len(staged.rewritten), len(staged.written)) == (1, 1, 1)
    publish(staged)
    found = {row[0]: row[1] for row in read(table_of(lakehouse, ORDERS))}
    assert len(found) == 31 and found[105] == found[999] == "new"
    inside = stage_merge(lakehouse, ORDERS, rows(ORDERS, (50, "between", 1)), Stamp("r"), keys=("id",))
    assert not inside.removed and inside.operation == "append"
    inside.discard()


def test_a_key_twice_in_a_merge_is_refused(lakehouse: Lakehouse) -> None:
    with pytest.raises(PlatformError) as caught:
        stage_merge(lakehouse, ORDERS, rows(ORDERS, (1, "a", 1), (1, "b", 2), (2, "c", 3)), Stamp("r"), keys=("id",))
    assert caught.value.code == "merge-duplicate-key" and "1 key of id more than once, e.g. id=1" in caught.value.message
    with pytest.raises(PlatformError, match="no column nope"):
        stage_merge(lakehouse, ORDERS, rows(ORDERS, (1, "a", 1)), Stamp("r"), keys=("nope",))
    assert not [path for path in files_on_disk(lakehouse) if path.suffix == ".parquet"]


def test_all_rows_of_replaced_keys_go_and_composite_keys_with_nulls_match(lakehouse: Lakehouse) -> None:
    append(lakehouse, ORDERS, (1, "a", 1), (1, "a", 2), (1, None, 3), (2, "a", 4), (2, "b", 5))
    gone = pa.table({"shop": pa.array(["a", None]), "id": pa.array([1, 1], pa.int32())})
    publish(
        stage_merge(
            lakehouse,
            ORDERS,
            rows(ORDERS, (1, "a", 10), (1, "a", 11)),
            Stamp("r"),
            keys=("id", "shop"),
            delete_keys=gone,
            replace_keys=True,
        )
    )
    assert read(table_of(lakehouse, ORDERS)) == [(1, "a", 10), (1, "a", 11), (2, "a", 4), (2, "b", 5)]


def test_the_table_evolves_additively_and_by_widening(lakehouse: Lakehouse) -> None:
    inner = StructType(NestedField(20, "x", IntegerType()))
    old = define(("id", IntegerType(), True), ("price", DecimalType(9, 2)), ("l", ListType(21, inner)))
    append(lakehouse, old, (1, 5, [{"x": 1}]))
    more = StructType(NestedField(20, "x", LongType()), NestedField(22, "y", StringType()))
    new = define(("id", LongType()), ("at", DateType()), ("price", DecimalType(18, 2)), ("l", ListType(21, more)))
    new = replace(new, schema=type(new.schema)(*(field.model_copy(update={"doc": f"the {field.name}"}) for field in new.schema.fields)))
    append(lakehouse, new, (2**40, None, 6, [{"x": 2**40, "y": "z"}]))
    table = table_of(lakehouse, new)
    assert next((field.name, str(field.field_type), field.required, field.doc) for field in table.schema().fields) == (
        "id",
        "long",
        False,
        "the id",
    )
    assert [row[2][0] for row in read(table)] == [{"x": 1, "y": None}, {"x": 2**40, "y": "z"}]
    assert len(table.metadata.snapshots) == 3
    publish(stage_merge(lakehouse, new, rows(new, (1, None, 7, None)), Stamp("r"), keys=("id",)))  # rewrites nothing it need not
    assert sorted(row[0] for row in read(table_of(lakehouse, new))) == [1, 2**40]


def test_a_breaking_change_fails_with_a_diff_and_writes_nothing(lakehouse: Lakehouse) -> None:
    append(lakehouse, ORDERS, (1, "a", 5))
    before = files_on_disk(lakehouse)
    broken = define(("id", StringType(), True), ("amount", LongType(), True), ("new", LongType(), True))
    with pytest.raises(PlatformError) as caught:
        stage_append(lakehouse, broken, rows(broken, ("1", 5, 6)), Stamp("r2"))
    assert caught.value.code == "schema-breaking"
    for part in (
        "- shop string is gone", "~ id changes from long to string", "~ amount was optional and is now required",
        "+ new long is new and required",
    ):  # fmt: skip
        assert part in caught.value.message
    assert files_on_disk(lakehouse) == before


def test_properties_of_others_survive_and_our_own_are_taken_back(lakehouse: Lakehouse) -> None:
    metrics = "write.metadata.metrics.column.shop"
    append(lakehouse, orders(properties={metrics: "none", "a": "1"}), (1, "a", 5))
    with table_of(lakehouse, ORDERS).transaction() as theirs:
        theirs.set_properties({"spark.own": "x", "a": "theirs"})
    append(lakehouse, orders(properties={"a": "2"}), (2, "a", 5))
    properties = table_of(lakehouse, ORDERS).properties
    assert properties["spark.own"] == "x" and properties["a"] == "2" and metrics not in properties
    assert len(table_of(lakehouse, ORDERS).metadata.snapshots) == 3


def test_an_audited_write_meets_a_moved_head_by_a_second_audit(lakehouse: Lakehouse, con: duckdb.DuckDBPyConnection) -> None:
    append(lakehouse, ORDERS, (1, "a", 5))
    staged = stage_append(lakehouse, ORDERS, rows(ORDERS, (2, "b", 5)), Stamp("slow"))
    audits: list[int] = []

    def audit(now: Any) -> None:
        audits.append(con.sql(f"SELECT count(*) FROM {now.audit_relation(con, scope='table')}").fetchone()[0])  # type: ignore[index]
        if len(audits) == 1:
            append(lakehouse, ORDERS, (3, "c", 5), run="quick")

    files = {file.file_path for file in staged.written}
    commit = publish(staged, audit)
    assert audits == [2, 3] and commit.table_rows == 3
    assert {file.file_path for file in staged.written} == files  # written once
    assert len(table_of(lakehouse, ORDERS).metadata.snapshots) == 4


def test_without_restaging_a_conflict_publishes_nothing(lakehouse: Lakehouse) -> None:
    staged = stage_append(lakehouse, ORDERS, rows(ORDERS, (2, "b", 5)), Stamp("slow"))
    append(lakehouse, ORDERS, (3, "c", 5), run="quick")
    with pytest.raises(CommitConflict):
        staged.commit()
    assert read(table_of(lakehouse, ORDERS)) == [(3, "c", 5)]
    assert staged.restage() is staged
    staged.commit()
    assert read(table_of(lakehouse, ORDERS)) == [(2, "b", 5), (3, "c", 5)]


def test_a_commit_that_only_sets_properties_is_no_conflict(lakehouse: Lakehouse) -> None:
    staged = stage_append(lakehouse, ORDERS, rows(ORDERS, (2, "b", 5)), Stamp("slow"))
    with table_of(lakehouse, ORDERS).transaction() as theirs:
        theirs.set_properties({"x": "y"})
    staged.commit()
    assert table_of(lakehouse, ORDERS).properties["x"] == "y" and read(table_of(lakehouse, ORDERS)) == [(2, "b", 5)]


def test_a_merge_restaged_on_rows_that_came_meanwhile_replaces_them_too(lakehouse: Lakehouse) -> None:
    append(lakehouse, ORDERS, (1, "a", 1), (2, "a", 1))
    append(lakehouse, ORDERS, (3, "a", 1), (4, "a", 1))
    staged = stage_merge(lakehouse, ORDERS, rows(ORDERS, (1, "merged", 0), (3, "merged", 0), (7, "merged", 0)), Stamp("m"), keys=("id",))
    append(lakehouse, ORDERS, (7, "late", 1), (8, "late", 1), run="quick")
    publish(stage_merge(lakehouse, ORDERS, rows(ORDERS, (4, "other", 0)), Stamp("n"), keys=("id",)))
    publish(staged)
    assert read(table_of(lakehouse, ORDERS)) == [
        (1, "merged", 0), (2, "a", 1), (3, "merged", 0), (4, "other", 0), (7, "merged", 0), (8, "late", 1),
    ]  # fmt: skip
    table = table_of(lakehouse, ORDERS)
    known = {file.file_path for snapshot in table.metadata.snapshots for file in live_files(table.io, snapshot, "orders")}
    written = {location_of(path) for path in files_on_disk(lakehouse) if path.suffix == ".parquet"}
    assert written == known  # what the first staging rewrote in vain is gone


def test_files_written_in_another_schema_are_written_again_on_restage(lakehouse: Lakehouse) -> None:
    lakehouse.create(ORDERS)
    base = (("id", LongType(), True), ("shop", StringType()), ("amount", LongType()))
    mine = define(*base, ("note", StringType()), ("extra", LongType()))
    theirs = define(*base, ("extra", LongType()), ("note", StringType()))
    staged = stage_append(lakehouse, mine, rows(mine, (1, "a", 5, "n", 6)), Stamp("mine"))
    append(lakehouse, theirs, (2, "b", 5, 6, "m"), run="theirs")
    with pytest.raises(CommitConflict):
        staged.commit()
    before = staged.written
    publish(staged.restage())
    assert read(table_of(lakehouse, ORDERS)) == [(1, "a", 5, 6, "n"), (2, "b", 5, 6, "m")]
    assert not {file.file_path for file in before} & {location_of(path) for path in files_on_disk(lakehouse)}


def test_a_contract_that_lacks_a_column_of_the_table_may_not_write(lakehouse: Lakehouse) -> None:
    staged = stage_append(lakehouse, ORDERS, rows(ORDERS, (1, "a", 5)), Stamp("old"))
    newer = define(("id", LongType(), True), ("shop", StringType()), ("amount", LongType()), ("note", StringType()))
    append(lakehouse, newer, (2, "b", 5, "m"))
    with pytest.raises(PlatformError, match="- note string is gone"):
        publish(staged)
    assert len([path for path in files_on_disk(lakehouse) if path.suffix == ".parquet"]) == 1


def test_the_fence_lets_harmless_commits_pass_and_stops_a_superseded_writer(lakehouse: Lakehouse) -> None:
    append(lakehouse, ORDERS, (1, "a", 1), position={"t": {"0": 1}}, epoch=1)
    start = {"t": {"0": 1}}
    mine = stage_append(lakehouse, ORDERS, rows(ORDERS, (2, "b", 1)), Stamp("mine", position={"t": {"0": 2}}), fence=Fence(start, 1))
    zombie = stage_append(lakehouse, ORDERS, rows(ORDERS, (2, "b", 1)), Stamp("zombie", position={"t": {"0": 2}}), fence=Fence(start, 1))
    append(lakehouse, ORDERS, (99, "harmless", 1))
    publish(mine)
    with pytest.raises(Fenced) as caught:
        publish(zombie)
    assert caught.value.code == "write-fenced"
    assert [row[0] for row in read(table_of(lakehouse, ORDERS))] == [1, 2, 99]
    with pytest.raises(Fenced):
        stage_append(lakehouse, ORDERS, rows(ORDERS, (2, "b", 1)), Stamp("zombie"), fence=Fence(start))
    live = [path for path in files_on_disk(lakehouse) if path.suffix == ".parquet"]
    assert len(live) == 3  # the zombie's file is deleted


def test_a_new_epoch_fences_the_old_one_even_without_rows(lakehouse: Lakehouse) -> None:
    publish(stage_empty(lakehouse, ORDERS, Stamp("d1", epoch=1), fence=Fence(None)))
    old = stage_append(lakehouse, ORDERS, rows(ORDERS, (1, "a", 1)), Stamp("d1", position={"t": {"0": 1}}), fence=Fence(None, 1))
    publish(stage_empty(lakehouse, ORDERS, Stamp("d2", epoch=2), fence=Fence(None, 1)))
    with pytest.raises(Fenced):
        publish(old)
    publish(stage_append(lakehouse, ORDERS, rows(ORDERS, (1, "a", 1)), Stamp("d2", position={"t": {"0": 1}}), fence=Fence(None, 2)))
    assert read(table_of(lakehouse, ORDERS)) == [(1, "a", 1)]


def test_an_overwrite_with_nothing_to_do_is_an_empty_snapshot(lakehouse: Lakehouse) -> None:
    append(lakehouse, ORDERS, (1, "a", 1))
    publish(stage_overwrite(lakehouse, ORDERS, rows(ORDERS), Stamp("r2"), partitions=PartitionScope.present()))
    assert read(table_of(lakehouse, ORDERS)) == [(1, "a", 1)]
    publish(stage_overwrite(lakehouse, ORDERS, rows(ORDERS), Stamp("r3"), partitions=PartitionScope.table()))
    assert read(table_of(lakehouse, ORDERS)) == []
    assert committed_snapshot(table_of(lakehouse, ORDERS), "r2") is not None


def test_many_commits_keep_few_manifests_and_metadata_files(lakehouse: Lakehouse) -> None:
    small = orders(properties={"write.metadata.previous-versions-max": "10"})
    for n in range(45):
        append(lakehouse, small, (n, "a", n))
    table = table_of(lakehouse, small)
    head = table.current_snapshot()
    assert head is not None and len(head.manifests(table.io)) <= 25
    names = [path.name for path in files_on_disk(lakehouse)]
    assert sum(name.endswith(".metadata.json") for name in names) <= 12
    referenced = {m.manifest_path.rpartition("/")[2] for s in table.metadata.snapshots for m in s.manifests(table.io)}
    assert {name for name in names if name.endswith(".avro") and not name.startswith("snap-")} == referenced
    assert len(read(table)) == 45


def test_the_month_spec_is_kept(lakehouse: Lakehouse) -> None:
    monthly = define(("at", TimestamptzType()), partition=[("at", MonthTransform(), "month")])
    publish(stage_append(lakehouse, monthly, rows(monthly, (NOON,)), Stamp("r")))
    assert table_of(lakehouse, monthly).spec() == PartitionSpec(*monthly.partition_spec.fields, spec_id=0)


@pytest.mark.parametrize("landed", [True, False])
def test_a_run_cancelled_in_the_middle_of_its_commit_deletes_nothing_that_stands_or_is_on_its_way(
    lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch, *, landed: bool
) -> None:
    staged = stage_append(lakehouse, ORDERS, rows(ORDERS, (1, "a", 1)), Stamp("r"))
    real, late = type(lakehouse.catalog).commit_table, []

    def cancelled(self: Any, *arguments: Any) -> Any:
        late.append(lambda: real(self, *arguments))
        if landed:
            late.pop()()
        raise KeyboardInterrupt

    monkeypatch.setattr(type(lakehouse.catalog), "commit_table", cancelled)
    with pytest.raises(KeyboardInterrupt):
        staged.commit()
    staged.discard()
    assert read(table_of(lakehouse, ORDERS)) == ([(1, "a", 1)] if landed else [])
    for arrives in late:
        arrives()
    assert read(table_of(lakehouse, ORDERS)) == [(1, "a", 1)]


def test_a_run_that_fails_right_after_its_commit_deletes_nothing(lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    staged = stage_append(lakehouse, ORDERS, rows(ORDERS, (1, "a", 1)), Stamp("r"))
    monkeypatch.setattr(failpoints, "_passages", Counter())
    monkeypatch.setenv("SDP_FAILPOINTS", "after-commit:raise")
    with pytest.raises(RuntimeError, match="after-commit"):
        staged.commit()
    staged.discard()
    assert read(table_of(lakehouse, ORDERS)) == [(1, "a", 1)]


def test_a_commit_whose_answer_was_lost_stands_once(lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    staged = stage_append(lakehouse, ORDERS, rows(ORDERS, (1, "a", 1)), Stamp("r"))
    real = type(lakehouse.catalog).commit_table

    def lossy(self: Any, *arguments: Any) -> Any:
        real(self, *arguments)
        raise ConnectionError("the answer was lost")

    monkeypatch.setattr(type(lakehouse.catalog), "commit_table", lossy)
    commit = publish(staged)
    monkeypatch.undo()
    table = table_of(lakehouse, ORDERS)
    assert table.metadata.current_snapshot_id == commit.snapshot_id and commit.metadata_location == table.metadata_location
    assert read(table) == [(1, "a", 1)]
