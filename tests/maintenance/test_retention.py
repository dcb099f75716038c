"""Rows past their term leave the table, its history, its branches and the disk; whoever else wanted them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow.parquet as pq
import pytest
from pyiceberg.types import DateType, LongType, NestedField, StringType, StructType, TimestamptzType

from platform_resources.errors import PlatformError
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.expiry import register_reader
from platform_resources.lakehouse.health import Policy, look_at_table
from platform_resources.lakehouse.orphans import list_files
from platform_resources.lakehouse.retention import Forgotten, Term, forget
from platform_resources.lakehouse.staging import publish, stage_append, stage_empty
from platform_resources.lakehouse.stamp import Stamp, read_position
from tests.lakehouse.tables import define, orders, read, rows, table_of
from tests.maintenance.tables import append, assert_whole, events, merge, stored_column

NOW = datetime.now(UTC).replace(microsecond=0)
TERM = Term(("dt",), NOW - timedelta(days=90))


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
