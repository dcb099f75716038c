"""Rows past their term leave the table, its history, its branches and the disk; whoever else wanted them."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyiceberg.types import DateType, LongType, NestedField, StringType, StructType, TimestamptzType

from platform_resources.errors import PlatformError
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.compaction import compact
from platform_resources.lakehouse.expiry import register_reader
from platform_resources.lakehouse.health import Policy, drop_refusals, look_at_table
from platform_resources.lakehouse.orphans import list_files
from platform_resources.lakehouse.reading import arrow_table, polars_scan
from platform_resources.lakehouse.retention import Forgotten, Term, forget
from platform_resources.lakehouse.staging import PartitionScope, publish, stage_append, stage_empty, stage_overwrite
from platform_resources.lakehouse.stamp import Stamp, highest_epoch, read_epoch, read_position, read_watermark
from tests.lakehouse.tables import define, orders, read, rows, table_of
from tests.maintenance.tables import append, assert_whole, events, merge, stored_column

NOW = datetime.now(UTC).replace(microsecond=0)
TERM = Term(("dt",), NOW.replace(hour=0, minute=0, second=0) - timedelta(days=90))


def ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def remove(lakehouse: Lakehouse, term: Term = TERM, **options: object) -> Forgotten:
    return forget(lakehouse, "shop.orders", term, run_id="maintenance", now=options.pop("now", NOW), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("by_day", [True, False])
def test_no_file_of_the_table_holds_an_older_row(lakehouse: Lakehouse, by_day: bool) -> None:
    definition = events(by_day=by_day)
    for number in range(6):
        days = (*(200, 120, 90.5, 89.5, 30, 0)[number:], 300)
        append(lakehouse, definition, *[(number * 10 + one, ago(day), "x") for one, day in enumerate(days)])
    refused = stage_append(lakehouse, definition, rows(definition, (999, ago(5), "refused"), (998, ago(150), "refused")), Stamp("r"))
    refused.refuse("refused/r")
    table = table_of(lakehouse, definition)
    with table.manage_snapshots() as manage:
        manage.create_tag(table.metadata.snapshots[2].snapshot_id, "before")
    young = [row for row in read(table) if row[1] >= TERM.cutoff]
    done = remove(lakehouse)
    table = table_of(lakehouse, definition)
    assert done.rows > 0 and done.expired.files > 0 and done.waits_for == ()
    assert read(table) == young
    assert min(stored_column(table, "dt")) >= TERM.cutoff  # of every data file on the storage, reached or not
    assert "before" not in table.metadata.refs  # a tag cannot be cleared
    kept = table.metadata.refs["refused/r"].snapshot_id  # a branch can
    assert 999 in stored_column(table, "id") and 998 not in stored_column(table, "id") and table.snapshot_by_id(kept) is not None
    assert_whole(table)
    assert remove(lakehouse) == Forgotten()


def test_files_wholly_past_go_unread_and_others_are_written_anew(lakehouse: Lakehouse) -> None:
    definition = events()
    append(lakehouse, definition, (1, ago(100), "old"), (2, ago(10), "young"))
    table = table_of(lakehouse, definition)
    old = next(location for location, *_ in list_files(table) if location.endswith(".parquet") and "old" in _texts(table, location))
    with table.io.new_output(old).create(overwrite=True) as stream:
        stream.write(b"no parquet")  # whoever reads it fails
    assert remove(lakehouse).rows == 1
    assert [row[0] for row in read(table_of(lakehouse, definition))] == [2]


def _texts(table: object, location: str) -> list[str]:
    with table.io.new_input(location).open() as stream:  # type: ignore[attr-defined]
        found: list[str] = pq.read_table(stream, columns=["text"]).column("text").to_pylist()
        return found


def test_a_row_deleted_beside_its_file_is_still_on_the_disk_and_goes(lakehouse: Lakehouse) -> None:
    definition = events(by_day=False)
    append(lakehouse, definition, (1, ago(100), "old"), (2, ago(10), "young"))
    merge(lakehouse, definition, (1, ago(1), "new"))
    assert min(stored_column(table_of(lakehouse, definition), "dt")) < TERM.cutoff
    remove(lakehouse)
    table = table_of(lakehouse, definition)
    assert min(stored_column(table, "dt")) >= TERM.cutoff
    assert [row[0] for row in read(table)] == [1, 2]


def test_rows_without_a_time_stay_and_any_of_several_columns_ages(lakehouse: Lakehouse) -> None:
    meta = StructType(NestedField(9, "dt", TimestamptzType()))
    definition = define(("id", LongType(), True), ("meta", meta), ("day", DateType()), ("text", StringType()))
    append(
        lakehouse, definition, (1, {"dt": None}, None, "kept"), (2, {"dt": ago(100)}, None, "old"), (3, None, ago(200).date(), "old"),
        (4, {"dt": ago(1)}, ago(90).date(), "kept: a day is past when all of it is"),
    )  # fmt: skip
    assert remove(lakehouse, Term(("meta.dt", "day"), TERM.cutoff)).rows == 2
    assert [row[0] for row in read(table_of(lakehouse, definition))] == [1, 4]


def test_the_position_outlives_the_snapshots(lakehouse: Lakehouse) -> None:
    definition = events()
    stamp = Stamp("drain", position={"topic": {"0": 7}})
    publish(stage_append(lakehouse, definition, rows(definition, (1, ago(100), "old"), (2, ago(1), "x")), stamp))
    remove(lakehouse)
    assert read_position(table_of(lakehouse, definition)) == {"topic": {"0": 7}}
    assert len(table_of(lakehouse, definition).metadata.snapshots) == 1


def test_registered_readers_are_waited_for_one_day_and_then_recompute(lakehouse: Lakehouse) -> None:
    definition = events()
    since = append(lakehouse, definition, (1, ago(100), "old"), (2, ago(1), "x")).snapshot_id
    reader = orders(identifier="shop.reader")
    publish(stage_empty(lakehouse, reader, Stamp("r", position={"shop/orders": since})))
    register_reader(lakehouse, "shop.orders", "shop.reader")
    assert remove(lakehouse).waits_for == ("shop.reader",)
    table = table_of(lakehouse, definition)
    assert [row[0] for row in read(table)] == [2] and 1 in stored_column(table, "id")  # out of the table, not yet off the disk
    health = look_at_table(lakehouse, "shop.orders", Policy(timedelta(days=90), ("dt",)), now=NOW)
    assert health is not None and [need.action for need in health.needs] == ["retention"]  # it is not forgotten
    assert remove(lakehouse, now=NOW + timedelta(days=2)).waits_for == ()
    assert stored_column(table_of(lakehouse, definition), "id") == [2]


def test_a_reader_that_has_seen_it_is_not_waited_for(lakehouse: Lakehouse) -> None:
    definition = events()
    since = append(lakehouse, definition, (1, ago(100), "old"), (2, ago(1), "x")).snapshot_id
    reader = orders(identifier="shop.reader")
    publish(stage_empty(lakehouse, reader, Stamp("r", position={"shop/orders": since})))
    register_reader(lakehouse, "shop.orders", "shop.reader")
    remove(lakehouse)
    seen = table_of(lakehouse, definition).metadata.current_snapshot_id
    publish(stage_empty(lakehouse, reader, Stamp("r2", position={"shop/orders": seen})))
    assert remove(lakehouse).expired.snapshots > 0
    assert stored_column(table_of(lakehouse, definition), "id") == [2]


def test_a_column_that_is_no_time_is_refused(lakehouse: Lakehouse) -> None:
    definition = orders()
    append(lakehouse, definition, (1, "a", 1))
    with pytest.raises(PlatformError, match="cannot age by its column shop, which is string") as refused:
        remove(lakehouse, Term(("shop",), NOW))
    assert refused.value.code == "retention-column"


@pytest.mark.parametrize("left", ["overwritten", "compacted", "refused"])
def test_a_row_that_main_lost_otherwise_leaves_the_history_too(lakehouse: Lakehouse, left: str) -> None:
    definition = events(by_day=False)
    append(lakehouse, definition, (1, ago(1), "young"))
    if left == "refused":
        stage_append(lakehouse, definition, rows(definition, (2, ago(100), "old")), Stamp("bad")).refuse("refused/bad")
    else:
        append(lakehouse, definition, (2, ago(100), "old"))
        table = table_of(lakehouse, definition)
        with table.manage_snapshots() as manage:
            manage.create_tag(table.metadata.current_snapshot_id, "v1")
        if left == "compacted":
            compact(lakehouse, "shop.orders", run_id="m", now=NOW + timedelta(days=1))
        publish(
            stage_overwrite(lakehouse, definition, rows(definition, (1, ago(1), "young")), Stamp("w"), partitions=PartitionScope.table())
        )
    health = look_at_table(lakehouse, "shop.orders", Policy(timedelta(days=90), ("dt",)), now=NOW)
    assert health is not None and [need.action for need in health.needs] == ["retention"]
    remove(lakehouse)
    table = table_of(lakehouse, definition)
    assert set(stored_column(table, "text")) == {"young"} and "v1" not in table.metadata.refs
    assert_whole(table)
    health = look_at_table(lakehouse, "shop.orders", Policy(timedelta(days=90), ("dt",)), now=NOW)
    assert health is not None and health.needs == ()


def test_stamps_and_the_highest_epoch_outlive_the_history_that_said_them(lakehouse: Lakehouse) -> None:
    definition = events(by_day=False)
    first = append(lakehouse, definition, (1, ago(1), "x"), epoch=3, position={"topic": {"0": 7}})
    append(lakehouse, definition, (2, ago(100), "old"), epoch=4, position={"topic": {"0": 8}})
    table = table_of(lakehouse, definition)
    with table.manage_snapshots() as manage:
        manage.rollback_to_snapshot(first.snapshot_id)  # by another client: the highest epoch is now off main
    publish(stage_empty(lakehouse, definition, Stamp("later")))
    remove(lakehouse)
    table = table_of(lakehouse, definition)
    assert stored_column(table, "id") == [1]
    assert read_position(table) == {"topic": {"0": 7}}
    assert read_epoch(table) == highest_epoch(table) == 5  # whoever held 4 does not meet it again
    overwritten = rows(definition, (3, ago(1), "x"))
    append(lakehouse, definition, (2, ago(100), "old"), epoch=5, position={"topic": {"0": 9}}, watermark=NOW)
    publish(stage_overwrite(lakehouse, definition, overwritten, Stamp("hand"), partitions=PartitionScope.table()))
    remove(lakehouse)
    table = table_of(lakehouse, definition)
    assert stored_column(table, "id") == [3]
    assert (read_position(table), read_epoch(table), read_watermark(table)) == ({"topic": {"0": 9}}, 5, NOW)


def test_a_refused_write_without_an_old_row_stays_in_its_own_columns(lakehouse: Lakehouse) -> None:
    definition = events(by_day=False)
    wider = define(
        ("id", LongType(), True), ("dt", TimestamptzType()), ("text", StringType()), ("extra", StringType()),
    )  # fmt: skip
    append(lakehouse, definition, (1, ago(100), "old"), (2, ago(1), "x"))
    whole = PartitionScope.table()
    stage_overwrite(lakehouse, definition, rows(definition, (3, ago(2), "y")), Stamp("a"), partitions=whole).refuse("refused/a")
    data = rows(wider, (4, ago(100), "old", "gone"), (5, ago(3), "z", "kept"))
    stage_overwrite(lakehouse, wider, data, Stamp("b"), partitions=whole).refuse("refused/b")
    remove(lakehouse)
    table = table_of(lakehouse, definition)
    refused = {name: arrow_table(table, table.metadata.refs[name].snapshot_id).to_pylist() for name in ("refused/a", "refused/b")}
    assert [row["id"] for row in refused["refused/a"]] == [3]
    assert refused["refused/b"] == [{"id": 5, "dt": ago(3), "text": "z", "extra": "kept"}]
    assert sorted(set(stored_column(table, "id"))) == [2, 3, 5] and "extra" not in table.schema().column_names


def test_a_refusal_set_anew_meanwhile_is_not_dropped(lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    definition, commit_updates = events(), lakehouse.commit_updates
    append(lakehouse, definition, (1, ago(1), "x"))
    stage_append(lakehouse, definition, rows(definition, (2, ago(1), "first")), Stamp("r")).refuse("refused/r")

    def late(*arguments: Any) -> None:
        monkeypatch.undo()
        stage_append(lakehouse, definition, rows(definition, (3, ago(1), "anew")), Stamp("r")).refuse("refused/r")
        commit_updates(*arguments)

    monkeypatch.setattr(lakehouse, "commit_updates", late)
    assert drop_refusals(lakehouse, "shop.orders", Policy(), now=NOW + timedelta(days=31)) == []
    assert "anew" in stored_column(table_of(lakehouse, definition), "text")


@pytest.mark.folder_only("a REST catalog refuses the snapshots of a clock that a test moves")
@pytest.mark.parametrize("reads", ["daily", "never"])
def test_rows_leave_the_disk_though_others_age_and_a_reader_lags(lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch, reads: str) -> None:
    definition, reader, clock = events(by_day=False), orders(identifier="shop.reader"), time.time
    begin = NOW.replace(hour=0, minute=0, second=0)
    hours = range(0, 120, 6)
    append(lakehouse, definition, *[(hour, begin - timedelta(days=90) + timedelta(hours=hour), "x") for hour in hours])

    def derive() -> None:
        position = {"shop/orders": table_of(lakehouse, definition).metadata.current_snapshot_id}
        publish(stage_empty(lakehouse, reader, Stamp("r", position=position)))

    derive()
    register_reader(lakehouse, "shop.orders", "shop.reader")
    rewritten = 0
    for hour in hours:
        now = begin + timedelta(hours=hour)
        offset = (now - datetime.now(UTC)).total_seconds()
        monkeypatch.setattr(time, "time", lambda offset=offset: clock() + offset)
        if reads == "daily" and hour % 24 == 12:
            derive()
        rewritten += remove(lakehouse, Term(("dt",), now - timedelta(days=90), timedelta(days=1)), now=now).files
        # a day for the lot, a day for the reader, and what is between two maintenances
        assert min(stored_column(table_of(lakehouse, definition), "id")) >= hour - 24 - 24 - 6
    assert rewritten <= 5  # a lot a day, whoever waits


def test_queries_that_run_are_left_their_files_for_a_while(lakehouse: Lakehouse) -> None:
    definition, term = events(by_day=False), replace(TERM, slack=timedelta(hours=1))
    append(lakehouse, definition, (1, ago(100), "old"), (2, ago(1), "x"))
    query = polars_scan(table_of(lakehouse, definition))
    assert remove(lakehouse, term).waits_for == ("queries that run",)
    assert query.collect().height == 2
    assert remove(lakehouse, term, now=NOW + timedelta(hours=2)).waits_for == ()
    assert stored_column(table_of(lakehouse, definition), "id") == [2]


@pytest.mark.parametrize(("slack", "by_day"), [(timedelta(days=1), False), (timedelta(hours=2), True)])
def test_no_day_is_left_half(lakehouse: Lakehouse, slack: timedelta, by_day: bool) -> None:
    definition = events(by_day=by_day)
    noon = NOW.replace(hour=12, minute=0, second=0)
    days = [noon - timedelta(days=number, hours=3 * part) for number in (88, 89, 90, 91, 93) for part in range(-3, 4)]
    append(lakehouse, definition, *[(number, day, "x") for number, day in enumerate(days)])
    remove(lakehouse, Term(("dt",), noon - timedelta(days=90), slack), now=noon)
    assert Counter(row[1].date() for row in read(table_of(lakehouse, definition))) == {
        (noon - timedelta(days=number)).date(): 7 for number in (88, 89, 90)
    }


def test_a_table_that_ages_by_the_minute_is_not_rewritten_by_the_minute(lakehouse: Lakehouse) -> None:
    definition, noon = events(by_day=False), NOW.replace(hour=12, minute=0, second=0)
    begin = noon - timedelta(days=10)
    append(lakehouse, definition, *[(minute, begin + timedelta(minutes=minute), "x") for minute in range(0, 120, 5)])
    since = append(lakehouse, definition, (999, noon, "x")).snapshot_id
    reader = orders(identifier="shop.reader")
    publish(stage_empty(lakehouse, reader, Stamp("r", position={"shop/orders": since})))
    register_reader(lakehouse, "shop.orders", "shop.reader")
    left = []
    for minute in range(0, 80, 10):
        now = noon + timedelta(minutes=minute)
        left.append(remove(lakehouse, Term(("dt",), now - timedelta(days=10), timedelta(minutes=30)), now=now).rows)
    assert left == [0, 0, 0, 0, 8, 0, 0, 0]  # while the reader is waited for, too
