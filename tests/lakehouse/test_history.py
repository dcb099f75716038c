"""What was committed, taking main back, naming snapshots: each is one fenced commit that loses and doubles nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from platform_resources.errors import PlatformError
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.changes import changes_between
from platform_resources.lakehouse.expiry import expire_snapshots
from platform_resources.lakehouse.history import delete_tag, history_of, restore_metadata, roll_back, set_tag
from platform_resources.lakehouse.reading import arrow_table, snapshot_at
from platform_resources.lakehouse.staging import Fence, Fenced, PartitionScope, publish, stage_append, stage_empty, stage_overwrite
from platform_resources.lakehouse.stamp import Stamp, last_change, read_epoch, read_position, read_watermark
from tests.lakehouse.tables import orders, read, rows, table_of

ORDERS = orders()
NAME = ORDERS.identifier


def append(lakehouse: Lakehouse, number: int, **stamp: Any) -> int:
    return publish(stage_append(lakehouse, ORDERS, rows(ORDERS, (number, "a", number)), Stamp(f"r{number}", **stamp))).snapshot_id


def at(offset: int) -> dict[str, Any]:
    return {"position": {"t": {"0": offset}}}


def test_a_rollback_takes_rows_and_stamps_back_and_stands_in_the_history(lakehouse: Lakehouse) -> None:
    mark = datetime(2026, 1, 1, tzinfo=UTC)
    good = append(lakehouse, 1, **at(1), watermark=mark, epoch=3)
    bad = append(lakehouse, 2, **at(2), watermark=mark + timedelta(hours=1), epoch=4)
    done = roll_back(lakehouse, NAME, good, run_id="rollback-x")
    table = table_of(lakehouse, ORDERS)
    assert read(table) == [(1, "a", 1)]
    assert (read_position(table), read_watermark(table), read_epoch(table)) == ({"t": {"0": 1}}, mark, 5)
    assert last_change(table) == good
    assert (done.target, done.former, done.snapshot_id) == (good, bad, table.metadata.current_snapshot_id)
    entries = history_of(lakehouse, table)
    assert [(one.operation, one.line, one.run_id) for one in entries] == [
        ("rollback", "main", "rollback-x"), ("append", "rolled back", "r2"), ("append", "main", "r1"), ("append", "main", None),
    ]  # fmt: skip
    assert entries[0].refs == ("main",) and entries[0].kept_by == ("newest", "branch main", "highest epoch")
    assert (entries[2].rows_added, entries[2].rows, entries[2].position) == (1, 1, '{"t":{"0":1}}')


def test_a_drain_at_work_is_superseded_even_where_it_finds_its_own_position(lakehouse: Lakehouse) -> None:
    start = {"t": {"0": 1}}
    good = append(lakehouse, 1, **at(1), epoch=1)
    sleeping = stage_append(lakehouse, ORDERS, rows(ORDERS, (2, "z", 2)), Stamp("zombie", **at(2), epoch=1), fence=Fence(start, 1))
    append(lakehouse, 2, **at(2), epoch=2)
    working = stage_append(lakehouse, ORDERS, rows(ORDERS, (3, "w", 3)), Stamp("drain", **at(3), epoch=2), fence=Fence({"t": {"0": 2}}, 2))
    roll_back(lakehouse, NAME, good, run_id="back")
    for staged in (sleeping, working):
        with pytest.raises(Fenced):
            publish(staged)
    assert read(table_of(lakehouse, ORDERS)) == [(1, "a", 1)]


def test_what_reads_the_table_sees_the_rollback(lakehouse: Lakehouse) -> None:
    good, bad = append(lakehouse, 1), append(lakehouse, 2)
    roll_back(lakehouse, NAME, good, run_id="back")
    table = table_of(lakehouse, ORDERS)
    assert changes_between(table, good).kind == "none"
    assert (changes_between(table, bad).kind, changes_between(table, bad).reason) == ("recompute", f"snapshot {bad} was rolled back")


def test_a_rollback_goes_to_a_tag_or_a_time_and_on_from_there(lakehouse: Lakehouse) -> None:
    first = append(lakehouse, 1)
    set_tag(lakehouse, NAME, "good", first)
    moment = datetime.fromtimestamp(table_of(lakehouse, ORDERS).metadata.last_updated_ms / 1000, UTC)
    append(lakehouse, 2)
    roll_back(lakehouse, NAME, "good", run_id="one")
    append(lakehouse, 3)
    assert read(table_of(lakehouse, ORDERS)) == [(1, "a", 1), (3, "a", 3)]
    roll_back(lakehouse, NAME, moment, run_id="two")
    assert read(table_of(lakehouse, ORDERS)) == [(1, "a", 1)]
    expire_snapshots(lakehouse, NAME, keep=1)
    delete_tag(lakehouse, NAME, "good")
    expire_snapshots(lakehouse, NAME, keep=1)
    assert read(table_of(lakehouse, ORDERS)) == [(1, "a", 1)]


def test_a_rollback_that_cannot_be_is_told_why(lakehouse: Lakehouse) -> None:
    first = append(lakehouse, 1, **at(1))
    second = append(lakehouse, 2)
    away = append(lakehouse, 3)
    roll_back(lakehouse, NAME, second, run_id="back")
    head = table_of(lakehouse, ORDERS).metadata.current_snapshot_id
    refused = {
        away: "rollback-elsewhere",
        head: "rollback-nowhere",
        second: "rollback-nowhere",
        1: "snapshot-unknown",
        "no": "branch-unknown",
    }
    for when, code in refused.items():
        with pytest.raises(PlatformError) as caught:
            roll_back(lakehouse, NAME, when, run_id="back")
        assert caught.value.code == code
    with pytest.raises(PlatformError, match=r"no table shop\.nothing"):
        roll_back(lakehouse, "shop.nothing", first, run_id="back")


def test_a_rollback_to_where_the_position_has_expired_is_refused(lakehouse: Lakehouse) -> None:
    append(lakehouse, 1, **at(1))
    old = append(lakehouse, 2)
    set_tag(lakehouse, NAME, "old", old)
    append(lakehouse, 3, **at(3))
    table = table_of(lakehouse, ORDERS)
    gone = [one.snapshot_id for one in table.metadata.snapshots if one.snapshot_id not in (old, table.metadata.current_snapshot_id)]
    table.maintenance.expire_snapshots().by_ids(gone).commit()  # as another engine expires: without regard to stamps
    with pytest.raises(PlatformError) as caught:
        roll_back(lakehouse, NAME, "old", run_id="back")
    assert caught.value.code == "rollback-too-far"


def test_a_writer_that_commits_during_the_rollback_is_rolled_back_too_or_comes_after(
    lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = append(lakehouse, 1)
    append(lakehouse, 2)
    real, raced = Lakehouse.commit_updates, []

    def overtaken(self: Lakehouse, *arguments: Any) -> None:
        if not raced:
            raced.append(True)
            append(lakehouse, 3)
        real(self, *arguments)

    monkeypatch.setattr(Lakehouse, "commit_updates", overtaken)
    roll_back(lakehouse, NAME, good, run_id="back")
    assert read(table_of(lakehouse, ORDERS)) == [(1, "a", 1)]


def test_a_rollback_whose_answer_was_lost_is_done_once(lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    good = append(lakehouse, 1)
    append(lakehouse, 2)
    real = type(lakehouse.catalog).commit_table

    def lossy(self: Any, *arguments: Any) -> Any:
        real(self, *arguments)
        raise ConnectionError("the answer was lost")

    monkeypatch.setattr(type(lakehouse.catalog), "commit_table", lossy)
    roll_back(lakehouse, NAME, good, run_id="back")
    monkeypatch.undo()
    table = table_of(lakehouse, ORDERS)
    assert read(table) == [(1, "a", 1)] and len(table.metadata.snapshots) == 4


def test_tags_are_set_once_and_deleted_by_name(lakehouse: Lakehouse) -> None:
    first, second = append(lakehouse, 1), append(lakehouse, 2)
    assert set_tag(lakehouse, NAME, "v1", first) == set_tag(lakehouse, NAME, "v1", first) == first
    assert set_tag(lakehouse, NAME, "v2") == second
    for name, when in (("v1", second), ("main", first)):
        with pytest.raises(PlatformError, match="already"):
            set_tag(lakehouse, NAME, name, when)
    assert arrow_table(table_of(lakehouse, ORDERS), snapshot_at(table_of(lakehouse, ORDERS), "v1")).num_rows == 1
    assert delete_tag(lakehouse, NAME, "v1") == first
    for name in ("v1", "main"):
        with pytest.raises(PlatformError, match=f"no tag {name}"):
            delete_tag(lakehouse, NAME, name)


def test_a_time_that_has_expired_is_not_answered_with_another(lakehouse: Lakehouse) -> None:
    ids = [append(lakehouse, number) for number in range(4)]
    log = {entry.snapshot_id: entry.timestamp_ms for entry in table_of(lakehouse, ORDERS).metadata.snapshot_log}
    set_tag(lakehouse, NAME, "old", ids[0])
    expire_snapshots(lakehouse, NAME, keep=1)
    table = table_of(lakehouse, ORDERS)

    def when(snapshot_id: int) -> datetime:
        return datetime.fromtimestamp(log[snapshot_id] / 1000, UTC) + timedelta(microseconds=500)

    assert snapshot_at(table, when(ids[3])) == ids[3]
    for gone in ids[:3]:  # the first is kept by its tag, but nobody can tell until when it was main's head
        with pytest.raises(PlatformError, match="has expired"):
            snapshot_at(table, when(gone))


def test_times_before_and_after_a_rollback_are_answered(lakehouse: Lakehouse) -> None:
    first, second = append(lakehouse, 1), append(lakehouse, 2)
    back = roll_back(lakehouse, NAME, first, run_id="back").snapshot_id
    table = table_of(lakehouse, ORDERS)
    for entry in table.metadata.snapshot_log:
        assert snapshot_at(table, datetime.fromtimestamp(entry.timestamp_ms / 1000, UTC)) == entry.snapshot_id
    assert [entry.snapshot_id for entry in table.metadata.snapshot_log][1:] == [first, second, back]


def test_the_last_change_is_known_after_more_heartbeats_than_are_kept(lakehouse: Lakehouse) -> None:
    changed = append(lakehouse, 1)
    for number in range(4):
        publish(stage_empty(lakehouse, ORDERS, Stamp(f"beat-{number}", **at(1))))
    expire_snapshots(lakehouse, NAME, keep=1)
    table = table_of(lakehouse, ORDERS)
    assert len(table.metadata.snapshots) == 1 and last_change(table) == changed
    newer = publish(stage_overwrite(lakehouse, ORDERS, rows(ORDERS), Stamp("clear"), partitions=PartitionScope.table())).snapshot_id
    assert last_change(table_of(lakehouse, ORDERS)) == newer


@pytest.mark.folder_only("a file is damaged by hand")
@pytest.mark.parametrize("damage", ["gone", "damaged"])
def test_a_table_whose_newest_metadata_is_damaged_goes_on_from_the_one_before(lakehouse: Lakehouse, damage: str) -> None:
    first, _ = append(lakehouse, 1), append(lakehouse, 2)
    newest = Path(table_of(lakehouse, ORDERS).metadata_location.removeprefix("file://"))
    newest.unlink() if damage == "gone" else newest.write_text("damaged")
    other = Lakehouse(lakehouse.settings)  # this one still remembers what it read
    for act in (lambda: other.table(NAME), lambda: append(other, 3)):
        with pytest.raises(PlatformError) as caught:
            act()
        assert caught.value.code == "metadata-damaged"
    restored = restore_metadata(other, NAME)
    assert restored.metadata.current_snapshot_id == first and read(restored) == [(1, "a", 1)]
    append(other, 3)
    assert read(table_of(other, ORDERS)) == [(1, "a", 1), (3, "a", 3)]
    with pytest.raises(PlatformError) as caught:
        restore_metadata(other, NAME)
    assert caught.value.code == "restore-nowhere"


@pytest.mark.folder_only("a file is damaged by hand")
def test_a_restored_table_is_never_out_of_the_catalog_and_never_taken_from_another_who_restored_it(
    lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(lakehouse, 1)
    append(lakehouse, 2)
    Path(table_of(lakehouse, ORDERS).metadata_location.removeprefix("file://")).write_text("damaged")
    other, catalog = Lakehouse(lakehouse.settings), type(lakehouse.catalog)
    real = catalog.go_on_from
    monkeypatch.setattr(catalog, "drop_table", None)  # between a drop and a registration there would be no table

    def overtaken(self, identifier, location, *, instead_of):
        real(self, identifier, location, instead_of=instead_of)
        append(other, 3)
        return real(self, identifier, location, instead_of=instead_of)

    monkeypatch.setattr(catalog, "go_on_from", overtaken)
    with pytest.raises(PlatformError, match="Another restored"):
        restore_metadata(other, NAME)
    assert read(table_of(other, ORDERS)) == [(1, "a", 1), (3, "a", 3)]
