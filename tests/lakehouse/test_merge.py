"""Merges by key: deleted positions beside a file or a file written again, the newest row of a key, and who wins when two merge at once."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat, ManifestContent
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation
from pyiceberg.transforms import DayTransform, IdentityTransform
from pyiceberg.typedef import Record
from pyiceberg.types import BooleanType, LongType, StringType, TimestamptzType

from platform_resources.contracts.iceberg import MergeRule, TableDefinition
from platform_resources.errors import PlatformError
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.changes import changes_between
from platform_resources.lakehouse.deletes import write_delete_file
from platform_resources.lakehouse.files import DeletedRows, live_rows, live_tasks
from platform_resources.lakehouse.reading import arrow_table, duckdb_scan_sql, files_scan_sql, polars_scan
from platform_resources.lakehouse.staging import (
    CommitConflict,
    PartitionScope,
    StagedWrite,
    publish,
    stage_append,
    stage_merge,
    stage_overwrite,
)
from platform_resources.lakehouse.stamp import MERGED, Stamp
from platform_resources.lakehouse.transaction import Overwrite, StagingTransaction
from tests.lakehouse.stores import environment
from tests.lakehouse.tables import define, files_on_disk, orders, read, rows, table_of

ORDERS = orders()
BY_SHOP = orders([("shop", IdentityTransform(), "shop")])
ON_READ, ON_WRITE = MergeRule("merge-on-read"), MergeRule("copy-on-write")
TOLD = define(("id", LongType(), True), ("name", StringType()), ("at", LongType()), ("step", LongType()), ("gone", BooleanType()))
NEWEST = replace(TOLD, merge=MergeRule("auto", ("at", "step"), ("gone", None)))


def by(definition: TableDefinition, rule: MergeRule) -> TableDefinition:
    return replace(definition, merge=rule)


def append(lakehouse: Lakehouse, definition: TableDefinition, *values: tuple[Any, ...], run: str = "r") -> Any:
    return publish(stage_append(lakehouse, definition, rows(definition, *values), Stamp(run)))


def merging(lakehouse: Lakehouse, definition: TableDefinition, *values: tuple[Any, ...], run: str = "m", **options: Any) -> StagedWrite:
    return stage_merge(lakehouse, definition, rows(definition, *values), Stamp(run), keys=("id",), **options)


def merge(lakehouse: Lakehouse, definition: TableDefinition, *values: tuple[Any, ...], **options: Any) -> Any:
    return publish(merging(lakehouse, definition, *values, **options))


def summary(table: Table) -> dict[str, str]:
    head = table.current_snapshot()
    assert head is not None and head.summary is not None
    return dict(head.summary.additional_properties)


def everywhere(con: duckdb.DuckDBPyConnection, table: Table, snapshot: int | None = None, *, polars: bool = True) -> list[tuple[Any, ...]]:
    """The rows, which our reader, DuckDB, Polars and PyIceberg agree on."""
    ours = sorted((tuple(row.values()) for row in arrow_table(table, snapshot).to_pylist()), key=repr)
    assert sorted(con.sql(f"SELECT * FROM {duckdb_scan_sql(table, snapshot)}").fetchall(), key=repr) == ours
    assert not polars or sorted(polars_scan(table, snapshot).collect().rows(), key=repr) == ours
    assert sorted((tuple(row.values()) for row in table.scan(snapshot_id=snapshot).to_arrow().to_pylist()), key=repr) == ours
    return ours


def test_merge_on_read_leaves_the_data_file_and_every_reader_agrees(lakehouse: Lakehouse, con: duckdb.DuckDBPyConnection) -> None:
    append(lakehouse, BY_SHOP, *[(n, "ab"[n % 2], n) for n in range(10)])
    kept = {task.path for task in live_tasks(lakehouse.create(BY_SHOP).io, lakehouse.create(BY_SHOP).current_snapshot(), "t")}
    staged = merging(lakehouse, by(BY_SHOP, ON_READ), (2, "a", 20), (3, "c", 30), (77, "a", 70))
    assert (len(staged.removed), len(staged.rewritten), len(staged.deletes), staged.operation) == (0, 0, 2, "overwrite")
    assert staged.partitions == ["shop=a", "shop=b", "shop=c"]
    seen = con.sql(f"SELECT id, amount FROM {staged.audit_relation(con, scope='partition')}").fetchall()
    commit = publish(staged)
    table = table_of(lakehouse, BY_SHOP)
    wanted = [(0, "a", 0), (1, "b", 1), (2, "a", 20), (3, "c", 30), *((n, "ab"[n % 2], n) for n in range(4, 10)), (77, "a", 70)]
    assert everywhere(con, table) == sorted(wanted, key=repr) and sorted(seen) == sorted((one, amount) for one, _, amount in wanted)
    assert {task.path for task in live_tasks(table.io, table.current_snapshot(), "t")} > kept
    head = table.current_snapshot()
    assert head is not None and head.parent_snapshot_id == commit.parent_id and len(table.metadata.snapshots) == 3
    assert [one.content for one in head.manifests(table.io)].count(ManifestContent.DELETES) == 1
    assert summary(table).items() >= {
        "added-data-files": "2", "added-delete-files": "2", "added-position-delete-files": "2", "added-position-deletes": "2",
        "added-records": "3", "total-records": "13", "total-position-deletes": "2", "total-delete-files": "2", "total-data-files": "4",
    }.items()  # fmt: skip
    assert (commit.rows, commit.table_rows) == (3, 11)


def test_a_data_file_has_at_most_one_delete_file_and_none_once_it_goes(lakehouse: Lakehouse, con: duckdb.DuckDBPyConnection) -> None:
    append(lakehouse, ORDERS, *[(n, "a", n) for n in range(10)])
    for key in (1, 2, 3):
        merge(lakehouse, by(ORDERS, ON_READ), (key, "b", key))
    table = table_of(lakehouse, ORDERS)
    deletes = [task.deletes for task in live_tasks(table.io, table.current_snapshot(), "t") if task.deletes]
    assert [[file.record_count for file in found] for found in deletes] == [[3]]
    assert {name: count for name, count in summary(table).items() if "total" in name and "delete" in name} == {
        "total-delete-files": "1", "total-position-deletes": "3", "total-equality-deletes": "0",
    }  # fmt: skip
    merge(lakehouse, by(ORDERS, ON_WRITE), (4, "c", 4))
    table = table_of(lakehouse, ORDERS)
    assert everywhere(con, table) == sorted([(n, "b" if n in (1, 2, 3) else "c" if n == 4 else "a", n) for n in range(10)], key=repr)
    assert (summary(table)["total-delete-files"], summary(table)["total-position-deletes"]) == ("0", "0")
    merge(lakehouse, by(ORDERS, ON_READ), (5, "d", 5))
    commit = publish(stage_overwrite(lakehouse, ORDERS, rows(ORDERS, (1, "z", 1)), Stamp("o"), partitions=PartitionScope.table()))
    assert commit.summary["total-delete-files"] == "0" and everywhere(con, table_of(lakehouse, ORDERS)) == [(1, "z", 1)]


def test_how_rows_leave_is_chosen_by_their_share_and_the_files_size(lakehouse: Lakehouse, con: duckdb.DuckDBPyConnection) -> None:
    draw = random.Random(7)
    texts = pa.array([draw.randbytes(24).hex() for _ in range(60_000)])
    big = pa.table({"id": np.arange(60_000), "shop": texts, "amount": np.arange(60_000)})
    publish(stage_append(lakehouse, ORDERS, big, Stamp("big")))
    append(lakehouse, ORDERS, *[(100_000 + n, "small", n) for n in range(100)])
    few = merging(lakehouse, ORDERS, *[(n, "few", n) for n in range(500)], (100_001, "few", 1))
    assert (len(few.deletes), len(few.removed), len(few.rewritten)) == (1, 1, 1)
    publish(few)
    many = merging(lakehouse, ORDERS, *[(n, "many", n) for n in range(0, 60_000, 10)])
    assert not many.deletes and len(many.rewritten) > 0
    many.discard()
    whole = merging(lakehouse, by(ORDERS, ON_READ), *[(n, "all", n) for n in range(500, 60_000)])
    assert not whole.deletes and not whole.rewritten and len(whole.removed) == 1  # no row of it is left: the file goes
    publish(whole)
    table = table_of(lakehouse, ORDERS)
    found = con.sql(f"SELECT shop, count(*) FROM {duckdb_scan_sql(table)} GROUP BY 1 ORDER BY 1").fetchall()
    assert found == [("all", 59_500), ("few", 501), ("small", 99)]
    assert summary(table)["total-delete-files"] == "0"


def test_rows_older_than_the_tables_are_left_out_and_counted(lakehouse: Lakehouse, con: duckdb.DuckDBPyConnection) -> None:
    append(
        lakehouse, TOLD, (1, "t", 5, 1, None), (2, "t", 5, 1, None), (3, "t", None, None, None), (4, "t", 5, 5, None), (5, "t", 9, 0, None)
    )
    commit = merge(
        lakehouse, NEWEST,
        (1, "older", 5, 0, None), (2, "equal", 5, 1, None), (3, "newer", 0, None, None), (4, "null", None, 9, None),
        (5, "older deletion", 8, 9, True), (6, "new", 1, 1, False), (7, "new deletion", 1, 1, True),
    )  # fmt: skip
    assert {row[0]: row[1] for row in everywhere(con, table_of(lakehouse, TOLD))} == {
        1: "t", 2: "equal", 3: "newer", 4: "t", 5: "t", 6: "new",
    }  # fmt: skip
    assert commit.summary[MERGED] == '{"ignored":3}' and (commit.rows, commit.table_rows) == (3, 6)
    again = merge(lakehouse, NEWEST, (1, "older", 5, 0, None), (5, "older", 9, -1, None))
    assert (again.rows, again.summary[MERGED], again.data_files) == (0, '{"ignored":2}', 0)


def test_of_a_key_twice_in_the_batch_the_newest_wins_and_of_equal_ones_the_last(lakehouse: Lakehouse) -> None:
    given = [
        (1, "a", 1, 0, None),
        (1, "b", 3, 0, None),
        (1, "c", 2, 9, None),
        (2, "x", 1, 1, None),
        (2, "y", 1, 1, None),
        (3, "n", 1, 1, None),
    ]
    given += [(3, "gone", 2, 0, True), (4, "gone", 1, 0, True), (4, "back", 2, 0, None)]
    commit = merge(lakehouse, NEWEST, *given)
    assert [row[:2] for row in read(table_of(lakehouse, TOLD))] == [(1, "b"), (2, "y"), (4, "back")]
    assert commit.summary[MERGED] == '{"duplicates":5}'
    streamed = rows(TOLD, (1, "z", 9, 9, None), (1, "y", 9, 8, None), (2, "gone", 9, 9, True)).to_reader(max_chunksize=1)
    publish(stage_merge(lakehouse, NEWEST, streamed, Stamp("s"), keys=("id",)))
    assert [row[:2] for row in read(table_of(lakehouse, TOLD))] == [(1, "z"), (4, "back")]


def test_a_merged_product_computed_whole_is_held_to_the_same_rule(lakehouse: Lakehouse) -> None:
    whole = replace(NEWEST, write_mode="merge", primary_key=("id",))
    append(lakehouse, TOLD, (1, "newer than all", 99, 0, None))
    data = rows(TOLD, (1, "a", 1, 0, None), (1, "b", 3, 0, None), (2, "gone", 2, 9, True))
    publish(stage_overwrite(lakehouse, whole, data, Stamp("w"), partitions=PartitionScope.table()))
    assert [row[:2] for row in read(table_of(lakehouse, TOLD))] == [(1, "b")]


def test_a_marker_may_be_a_value_of_any_column(lakehouse: Lakehouse) -> None:
    shops = by(ORDERS, MergeRule(marker=("shop", "closed")))
    append(lakehouse, ORDERS, (1, "a", 1), (2, "closed", 2), (3, "c", 3))
    merge(lakehouse, shops, (1, "closed", 9), (3, "d", 9))
    assert read(table_of(lakehouse, ORDERS)) == [(2, "closed", 2), (3, "d", 9)]
    merge(lakehouse, by(ORDERS, MergeRule(marker=("amount", "2"))), (3, "d", 2))
    assert read(table_of(lakehouse, ORDERS)) == [(2, "closed", 2)]


def test_a_newer_row_of_another_writer_wins_over_a_merge_staged_before_it(lakehouse: Lakehouse) -> None:
    append(lakehouse, TOLD, (1, "t", 1, 0, None), (2, "t", 1, 0, None))
    mine = merging(lakehouse, NEWEST, (1, "mine", 5, 0, None), (2, "mine", 5, 0, None), run="mine")
    merge(lakehouse, NEWEST, (1, "theirs", 6, 0, None), run="theirs")
    with pytest.raises(CommitConflict):
        mine.commit()
    assert mine.rows == 2
    commit = publish(mine.restage())
    table = table_of(lakehouse, TOLD)
    assert [row[:2] for row in read(table)] == [(1, "theirs"), (2, "mine")] and commit.summary[MERGED] == '{"ignored":1}'
    known = {task.path.rpartition("/")[2] for one in table.metadata.snapshots for task in live_tasks(table.io, one, "t")}
    assert {path.name for path in files_on_disk(lakehouse) if path.suffix == ".parquet"} == known  # what was staged in vain is gone


@pytest.mark.parametrize("rule", [ON_READ, ON_WRITE], ids=["on-read", "on-write"])
def test_merges_of_the_same_keys_at_once_leave_one_row_per_key(
    lakehouse: Lakehouse, con: duckdb.DuckDBPyConnection, rule: MergeRule
) -> None:
    append(lakehouse, ORDERS, *[(n, "start", n) for n in range(20)])
    faults: list[BaseException] = []

    def work(name: str) -> None:
        try:
            own = Lakehouse(lakehouse.settings)
            for turn in range(4):
                merge(own, by(ORDERS, rule), *[(n, name, turn) for n in range(5, 15)], (100 + turn, name, turn), run=f"{name}-{turn}")
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in ("x", "y")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    table = table_of(lakehouse, ORDERS)
    found = everywhere(con, table)
    assert sorted(row[0] for row in found) == [*range(20), *range(100, 104)]
    assert len({row[1:] for row in found if 5 <= row[0] < 15}) == 1  # the last merge whole, none in part
    assert len(table.metadata.snapshots) == 10 and live_rows(summary(table)) == 24


def test_an_append_meanwhile_is_merged_too(lakehouse: Lakehouse) -> None:
    append(lakehouse, ORDERS, (1, "a", 1))
    staged = merging(lakehouse, by(ORDERS, ON_READ), (1, "m", 1), (2, "m", 2))
    append(lakehouse, ORDERS, (2, "late", 0), (3, "late", 0))
    publish(staged)
    assert read(table_of(lakehouse, ORDERS)) == [(1, "m", 1), (2, "m", 2), (3, "late", 0)]


def test_a_discarded_or_refused_merge_on_read(lakehouse: Lakehouse, con: duckdb.DuckDBPyConnection) -> None:
    append(lakehouse, BY_SHOP, *[(n, "ab"[n % 2], n) for n in range(10)])
    before = files_on_disk(lakehouse)
    staged = merging(lakehouse, by(BY_SHOP, ON_READ), (1, "b", 0), (2, "a", 0))
    audited = con.sql(f"SELECT count(*), sum(amount) FROM {staged.audit_relation(con, scope='table')}").fetchone()
    assert audited == (10, 42) and len(files_on_disk(lakehouse)) > len(before) + 4
    staged.discard()
    assert files_on_disk(lakehouse) == before
    refused = merging(lakehouse, by(BY_SHOP, ON_READ), (1, "b", 0), (2, "a", 0))
    append(lakehouse, BY_SHOP, (2, "c", 5))  # main moves while the audit runs
    refused.refuse("refused/m")
    table = table_of(lakehouse, BY_SHOP)
    assert sum(row[2] for row in everywhere(con, table)) == 50
    assert sum(row[2] for row in everywhere(con, table, table.metadata.refs["refused/m"].snapshot_id)) == 42


def foreign_deletes(table: Table, positions: dict[str, list[int]], *, bounds: bool) -> DataFile:
    """A delete file about several data files of one partition, as other engines write it; without bounds it may be about any."""
    pairs = sorted((path, position) for path, found in positions.items() for position in found)
    path = table.location_provider().new_data_location(f"foreign-{len(pairs)}-{bounds}.parquet")
    data = pa.table({"file_path": [one for one, _ in pairs], "pos": pa.array([one for _, one in pairs], pa.int64())})
    fields = [
        pa.field("file_path", pa.string(), False, {"PARQUET:field_id": "2147483546"}),
        pa.field("pos", pa.int64(), False, {"PARQUET:field_id": "2147483545"}),
    ]
    with table.io.new_output(path).create() as stream:
        pq.write_table(data.cast(pa.schema(fields)), stream)
        size = stream.tell()
    limits = (
        {"lower_bounds": {2147483546: min(positions).encode()}, "upper_bounds": {2147483546: max(positions).encode()}} if bounds else {}
    )
    file = DataFile.from_args(
        content=DataFileContent.POSITION_DELETES, file_path=path, file_format=FileFormat.PARQUET, partition=Record(),
        record_count=len(pairs), file_size_in_bytes=size, **limits,
    )  # fmt: skip
    file.spec_id = 0
    return file


def commit_deletes(table: Table, file: DataFile) -> None:
    transaction = StagingTransaction(table)
    with Overwrite(operation=Operation.OVERWRITE, deletes=[file], transaction=transaction, io=table.io):
        pass
    table._do_commit(*transaction.staged)


@pytest.mark.parametrize("bounds", [True, False])
def test_deletes_about_several_files_apply_to_those_that_are_no_newer(
    lakehouse: Lakehouse, con: duckdb.DuckDBPyConnection, *, bounds: bool
) -> None:
    for start in (0, 10):
        append(lakehouse, ORDERS, *[(start + n, "a", n) for n in range(5)])
    table = table_of(lakehouse, ORDERS)
    first = table.metadata.current_snapshot_id
    paths = sorted(task.path for task in live_tasks(table.io, table.current_snapshot(), "t"))
    commit_deletes(table, foreign_deletes(table, {paths[0]: [0, 4], paths[1]: [2]}, bounds=bounds))
    append(lakehouse, ORDERS, (50, "later", 1))
    second = table_of(lakehouse, ORDERS).metadata.current_snapshot_id
    assert len(everywhere(con, table_of(lakehouse, ORDERS), polars=False)) == 8  # Polars refuses such deletes
    merge(lakehouse, by(ORDERS, ON_READ), (1, "m", 1), (11, "m", 1))
    merge(lakehouse, by(ORDERS, ON_WRITE), (3, "m", 3))
    table = table_of(lakehouse, ORDERS)
    assert len(everywhere(con, table, polars=False)) == 8
    states = {one: read_at(table, one) for one in (first, second, table.metadata.current_snapshot_id)}
    for since in (first, second):
        changes = changes_between(table, since)
        added, removed = (con.sql(f"SELECT * FROM {files_scan_sql(table, parts)}").fetchall() for parts in (changes.added, changes.removed))
        assert sorted([*states[since], *added]) == sorted([*read(table), *removed])
        assert any(isinstance(part, DeletedRows) for part in changes.removed)
    publish(stage_overwrite(lakehouse, ORDERS, rows(ORDERS), Stamp("o"), partitions=PartitionScope.table()))
    assert summary(table_of(lakehouse, ORDERS))["total-delete-files"] == "0"


def read_at(table: Table, snapshot: int | None) -> list[tuple[Any, ...]]:
    return sorted(tuple(row.values()) for row in arrow_table(table, snapshot).to_pylist())


def test_rows_deleted_again_and_again_are_told_once(lakehouse: Lakehouse, con: duckdb.DuckDBPyConnection) -> None:
    append(lakehouse, ORDERS, *[(n, "a", n) for n in range(10)])
    first = merge(lakehouse, by(ORDERS, ON_READ), delete_keys=pa.table({"id": [0, 1]}))
    for key in (2, 3):
        merge(lakehouse, by(ORDERS, ON_READ), delete_keys=pa.table({"id": [key]}))
    table = table_of(lakehouse, ORDERS)
    changes = changes_between(table, first.snapshot_id)
    gone = con.sql(f"SELECT id FROM {files_scan_sql(table, changes.removed)} ORDER BY id").fetchall()
    assert (changes.kind, changes.added, gone) == ("rewrite", (), [(2,), (3,)])


def test_deletes_apply_to_a_file_of_their_own_snapshot(lakehouse: Lakehouse, con: duckdb.DuckDBPyConnection) -> None:
    """As a streaming writer of another engine commits a row and its deletion at once."""
    append(lakehouse, ORDERS, (0, "a", 0))
    table = table_of(lakehouse, ORDERS)
    before = table.metadata.current_snapshot_id
    staged = stage_append(lakehouse, ORDERS, rows(ORDERS, (1, "a", 1), (2, "a", 2)), Stamp("s"))
    [file] = staged.written
    file.spec_id = 0
    transaction = StagingTransaction(table)
    delete = write_delete_file(table.io, table.metadata, file, np.array([1]))
    with Overwrite(operation=Operation.OVERWRITE, deletes=[delete], transaction=transaction, io=table.io) as producer:
        producer.append_data_file(file)
    table._do_commit(*transaction.staged)
    table = table_of(lakehouse, ORDERS)
    assert [row[0] for row in everywhere(con, table)] == [0, 1]
    changes = changes_between(table, before)
    assert changes.kind == "append" and con.sql(f"SELECT id FROM {files_scan_sql(table, changes.added)}").fetchall() == [(1,)]


def test_equality_deletes_are_refused_in_one_sentence(lakehouse: Lakehouse) -> None:
    append(lakehouse, ORDERS, (1, "a", 1))
    table = table_of(lakehouse, ORDERS)
    before = table.metadata.current_snapshot_id
    task = live_tasks(table.io, table.current_snapshot(), "t")[0]
    file = write_delete_file(table.io, table.metadata, task.data_file, np.array([0]))
    file[0] = DataFileContent.EQUALITY_DELETES
    commit_deletes(table, file)
    table = table_of(lakehouse, ORDERS)
    attempts: list[Callable[[], Any]] = [lambda: read(table), lambda: merge(lakehouse, ORDERS, (1, "b", 1))]
    for attempt in attempts:
        with pytest.raises(PlatformError) as caught:
            attempt()
        assert caught.value.code == "table-has-deletes" and "equality deletes" in caught.value.message
    assert changes_between(table, before).kind == "recompute"


def test_an_overwrite_by_partition_takes_rows_out_of_files_of_an_older_spec(lakehouse: Lakehouse, con: duckdb.DuckDBPyConnection) -> None:
    columns = (("id", LongType()), ("shop", StringType()), ("at", TimestamptzType()))
    old = define(*columns, partition=[("at", DayTransform(), "day")])
    noon = "2026-01-0{}T12:00:00+00:00"
    data = pa.table({"id": [1, 2, 3, 4], "shop": ["a", "b", "a", None], "at": [noon.format(n) for n in (1, 1, 2, 2)]})
    typed = data.set_column(2, "at", data.column("at").cast(pa.timestamp("us", "UTC")))
    publish(stage_append(lakehouse, old, typed, Stamp("old")))
    table = table_of(lakehouse, old)
    with table.update_spec() as update:
        update.remove_field("day")
    with table.update_spec() as update:
        update.add_field("shop", IdentityTransform(), "shop")
    new = define(*columns, partition=[("shop", IdentityTransform(), "shop")])
    publish(stage_append(lakehouse, new, typed.slice(1, 1), Stamp("new")))
    scope = PartitionScope.named("a")
    staged = stage_overwrite(lakehouse, new, typed.slice(0, 1).set_column(0, "id", pa.array([9])), Stamp("o"), partitions=scope)
    assert sorted(con.sql(f"SELECT id FROM {staged.audit_relation(con, scope='partition')}").fetchall()) == [(2,), (2,), (4,), (9,)]
    publish(staged)
    assert sorted(row[:2] for row in everywhere(con, table_of(lakehouse, new))) == sorted(
        [(2, "b"), (2, "b"), (4, None), (9, "a")], key=repr
    )
    publish(stage_overwrite(lakehouse, new, typed.slice(0, 0), Stamp("n"), partitions=PartitionScope.named("null")))
    assert sorted(row[0] for row in read(table_of(lakehouse, new))) == [2, 2, 9]


@pytest.mark.parametrize("rule", [ON_READ, ON_WRITE], ids=["on-read", "on-write"])
def test_a_merge_that_fails_between_its_files_leaves_none(lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch, rule: MergeRule) -> None:
    append(lakehouse, ORDERS, *[(n, "a", n) for n in range(10)])
    before = files_on_disk(lakehouse)
    monkeypatch.setenv("SDP_FAILPOINTS", "after-deletes:raise")
    monkeypatch.setattr("platform_resources.failpoints._passages", Counter())
    with pytest.raises(RuntimeError, match="after-deletes"):
        merging(lakehouse, by(ORDERS, rule), (1, "b", 1))
    assert files_on_disk(lakehouse) == before


_MERGER = """
import sys
from dataclasses import replace
from tests.lakehouse.test_merge import BY_SHOP, by, merge
from platform_resources.config import Settings
from platform_resources.contracts.iceberg import MergeRule
from platform_resources.lakehouse.catalog import Lakehouse
merge(Lakehouse(Settings()), by(BY_SHOP, MergeRule(sys.argv[1])), *[(n, "c", n + 100) for n in range(5, 25)], run="killed")
"""


@pytest.mark.storm
@pytest.mark.parametrize("point", ["after-data-files", "after-deletes", "before-commit", "after-commit"])
@pytest.mark.parametrize("strategy", ["merge-on-read", "copy-on-write"])
def test_a_merge_killed_anywhere_is_whole_or_not_there(
    lakehouse: Lakehouse, con: duckdb.DuckDBPyConnection, point: str, strategy: str
) -> None:
    append(lakehouse, BY_SHOP, *[(n, "ab"[n % 2], n) for n in range(20)])
    before = everywhere(con, table_of(lakehouse, BY_SHOP))
    after = sorted([(n, "ab"[n % 2], n) for n in range(5)] + [(n, "c", n + 100) for n in range(5, 25)], key=repr)
    environ = {**os.environ, **environment(lakehouse.settings), "SDP_FAILPOINTS": point}
    killed = subprocess.run([sys.executable, "-c", _MERGER, strategy], env=environ, check=False, timeout=120)
    assert killed.returncode == -9
    assert everywhere(con, table_of(lakehouse, BY_SHOP)) == (after if point == "after-commit" else before)
    subprocess.run([sys.executable, "-c", _MERGER, strategy], env={**environ, "SDP_FAILPOINTS": ""}, check=True, timeout=120)
    assert everywhere(con, table_of(lakehouse, BY_SHOP)) == after
