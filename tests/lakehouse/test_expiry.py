"""Expiry removes what nothing needs, and every file that only it reached; never a file, a stamp or a change that somebody still needs."""

from __future__ import annotations

import random
import sys
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table.update import RemoveSnapshotsUpdate, update_table_metadata
from pyiceberg.transforms import IdentityTransform

from platform_resources.contracts.iceberg import MergeRule
from platform_resources.lakehouse import expiry, stamp
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.expiry import expire_snapshots, kept_by, readers_of, register_reader, without_readers
from platform_resources.lakehouse.reading import arrow_table
from platform_resources.lakehouse.staging import PartitionScope, publish, stage_append, stage_empty, stage_merge, stage_overwrite
from platform_resources.lakehouse.stamp import Stamp, ancestors, has_committed, read_epoch, read_position, read_watermark
from platform_resources.lakehouse.transaction import apply_updates
from tests.lakehouse.tables import assert_only_reachable, files_on_disk, orders, reachable, read, rows, table_of

ORDERS = orders(partition=[("shop", IdentityTransform(), "shop")], properties={"history.expire.min-snapshots-to-keep": "100000"})
NAME = ORDERS.identifier


def append(lakehouse: Lakehouse, number: int, shop: str = "a", definition=ORDERS, **stamp) -> int:
    return publish(stage_append(lakehouse, definition, rows(definition, (number, shop, number)), Stamp(f"r{number}", **stamp))).snapshot_id


def overwrite(lakehouse: Lakehouse, number: int, shop: str = "a") -> int:
    staged = stage_overwrite(
        lakehouse, ORDERS, rows(ORDERS, (number, shop, number)), Stamp(f"o{number}"), partitions=PartitionScope.named(f"shop={shop}")
    )
    return publish(staged).snapshot_id


def on_disk(lakehouse: Lakehouse) -> set[str]:
    return {path.name for path in files_on_disk(lakehouse, NAME)}


def test_what_only_expired_snapshots_reached_is_deleted_and_the_table_stays(lakehouse: Lakehouse) -> None:
    for number in range(6):
        append(lakehouse, number, shop="ab"[number % 2])
    overwrite(lakehouse, 10, "a")
    overwrite(lakehouse, 11, "a")
    before = read(table_of(lakehouse, ORDERS))
    expired = expire_snapshots(lakehouse, NAME, keep=1)
    table = table_of(lakehouse, ORDERS)
    assert (expired.snapshots, len(table.metadata.snapshots)) == (8, 1)
    assert read(table) == before == [(1, "b", 1), (11, "a", 11), (3, "b", 3), (5, "b", 5)]
    assert_only_reachable(lakehouse, table)
    assert sum(name.endswith(".parquet") for name in on_disk(lakehouse)) == 4
    assert expired.files >= 8 + 4 and expired.bytes > 0


def test_the_newest_and_the_young_stay(lakehouse: Lakehouse) -> None:
    for number in range(5):
        append(lakehouse, number)
    assert expire_snapshots(lakehouse, NAME, keep=4).snapshots == 2
    assert expire_snapshots(lakehouse, NAME, keep=1, older_than=datetime.now(UTC) - timedelta(hours=1)).snapshots == 0
    assert expire_snapshots(lakehouse, NAME, keep=1, older_than=datetime.now(UTC) + timedelta(hours=1)).snapshots == 3
    assert expire_snapshots(lakehouse, "shop.unheard_of").snapshots == 0


def test_a_tag_and_a_branch_keep_their_snapshots_and_files_until_they_go(lakehouse: Lakehouse) -> None:
    tagged = append(lakehouse, 1, "a")
    table_of(lakehouse, ORDERS).manage_snapshots().create_tag(tagged, "audited").commit()
    overwrite(lakehouse, 2, "a")
    refused = stage_append(lakehouse, ORDERS, rows(ORDERS, (7, "c", 7)), Stamp("bad"))
    refused.refuse("refused/bad")
    for number in range(3, 8):
        overwrite(lakehouse, number, "a")
    expire_snapshots(lakehouse, NAME, keep=1)
    table = table_of(lakehouse, ORDERS)
    assert set(table.metadata.refs) == {"main", "audited", "refused/bad"}
    assert_only_reachable(lakehouse, table)
    assert arrow_table(table, tagged).to_pylist() == [{"id": 1, "shop": "a", "amount": 1}]
    assert {row["id"] for row in arrow_table(table, refused.snapshot_id).to_pylist()} == {2, 7}
    table.manage_snapshots().remove_tag("audited").remove_branch("refused/bad").commit()
    expire_snapshots(lakehouse, NAME, keep=1)
    table = table_of(lakehouse, ORDERS)
    assert [row[0] for row in read(table)] == [7]
    assert_only_reachable(lakehouse, table)


def test_the_carriers_of_stamps_stay_with_the_way_to_them(lakehouse: Lakehouse) -> None:
    mark = datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(3):
        append(lakehouse, number)
    carrier = append(lakehouse, 3, position={"t": {"0": 4}}, epoch=2, watermark=mark)
    for number in range(4, 9):
        append(lakehouse, number)
    expire_snapshots(lakehouse, NAME, keep=1)
    table = table_of(lakehouse, ORDERS)
    assert (read_position(table), read_epoch(table), read_watermark(table)) == ({"t": {"0": 4}}, 2, mark)
    assert len(table.metadata.snapshots) == 6 and kept_by(lakehouse, table, keep=1)[carrier][0] == "stamps of main"


def test_what_a_registered_reader_has_not_read_stays_for_a_week(lakehouse: Lakehouse) -> None:
    reader = orders(identifier="shop.report")
    register_reader(lakehouse, NAME, "shop.report")  # there is no such table yet
    ids = [append(lakehouse, number) for number in range(6)]
    for name in ("shop.report", "shop.other", "shop.report"):
        register_reader(lakehouse, NAME, name)
    assert readers_of(table_of(lakehouse, ORDERS)) == ("shop.other", "shop.report")
    assert len(table_of(lakehouse, ORDERS).metadata.snapshots) == 7  # registering is configuration
    publish(stage_empty(lakehouse, reader, Stamp("d", position={"shop/orders": ids[2]})))
    expire_snapshots(lakehouse, NAME, keep=1)
    assert [one.snapshot_id for one in table_of(lakehouse, ORDERS).metadata.snapshots] == ids[2:]
    publish(stage_empty(lakehouse, reader, Stamp("d", position={"shop/orders": ids[4]})))
    expire_snapshots(lakehouse, NAME, keep=1)
    assert [one.snapshot_id for one in table_of(lakehouse, ORDERS).metadata.snapshots] == ids[4:]
    assert expire_snapshots(lakehouse, NAME, keep=1, now=datetime.now(UTC) + timedelta(days=6.9)).snapshots == 0
    expire_snapshots(lakehouse, NAME, keep=1, now=datetime.now(UTC) + timedelta(days=7.1))
    assert [one.snapshot_id for one in table_of(lakehouse, ORDERS).metadata.snapshots] == ids[5:]


def test_what_a_first_computation_reads_stays_however_long_it_takes(lakehouse: Lakehouse) -> None:
    reader = orders(identifier="shop.report")
    append(lakehouse, 1)
    for run in range(2):  # the first run is killed, the second starts over
        register_reader(lakehouse, NAME, "shop.report")
        begun = table_of(lakehouse, ORDERS).metadata.current_snapshot_id
        for number in range(5):
            append(lakehouse, 10 * run + number)
    expire_snapshots(lakehouse, NAME, keep=1)
    assert table_of(lakehouse, ORDERS).metadata.snapshots[0].snapshot_id == begun
    publish(stage_empty(lakehouse, reader, Stamp("d", position={"shop/orders": begun})))
    before = table_of(lakehouse, ORDERS).metadata_location
    register_reader(lakehouse, NAME, "shop.report")  # the next run reads on from there: there is nothing to be said
    assert table_of(lakehouse, ORDERS).metadata_location == before
    head = append(lakehouse, 99)
    publish(stage_empty(lakehouse, reader, Stamp("e", position={"shop/orders": head})))
    expire_snapshots(lakehouse, NAME, keep=1)
    assert [one.snapshot_id for one in table_of(lakehouse, ORDERS).metadata.snapshots] == [head]


def test_a_first_computation_that_never_ended_keeps_nothing_after_a_week(lakehouse: Lakehouse) -> None:
    append(lakehouse, 1)
    register_reader(lakehouse, NAME, "shop.report")
    head = [append(lakehouse, number) for number in range(2, 5)][-1]
    assert expire_snapshots(lakehouse, NAME, keep=1, now=datetime.now(UTC) + timedelta(days=6.9)).snapshots == 1  # from before it began
    expire_snapshots(lakehouse, NAME, keep=1, now=datetime.now(UTC) + timedelta(days=7.1))
    assert [one.snapshot_id for one in table_of(lakehouse, ORDERS).metadata.snapshots] == [head]


def test_forgetting_a_reader_forgets_none_that_registers_meanwhile(lakehouse: Lakehouse) -> None:
    append(lakehouse, 1)
    register_reader(lakehouse, NAME, "shop.slow")
    table = table_of(lakehouse, ORDERS)
    register_reader(lakehouse, NAME, "shop.report")
    for fresh in (table, table_of(lakehouse, ORDERS)):
        update, same = without_readers(fresh, ["shop.slow"])
        with suppress(CommitFailedException):
            lakehouse.commit_updates(fresh, (update,), (same,))
        assert "shop.report" in readers_of(table_of(lakehouse, ORDERS))
    assert readers_of(table_of(lakehouse, ORDERS)) == ("shop.report",)


def test_a_retry_knows_that_its_run_has_committed_when_the_snapshot_has_expired(lakehouse: Lakehouse) -> None:
    append(lakehouse, 1, partition="p1")
    append(lakehouse, 2, position={"t": {"0": 1}})  # its fence keeps it from writing twice
    append(lakehouse, 3)
    stage_append(lakehouse, ORDERS, rows(ORDERS, (4, "a", 4)), Stamp("refused")).refuse("refused/r4")
    table_of(lakehouse, ORDERS).manage_snapshots().remove_branch("refused/r4").commit()
    append(lakehouse, 6)
    for _ in range(2):  # what was remembered once stays so
        append(lakehouse, 7, position={"t": {"0": 3}})
        expire_snapshots(lakehouse, NAME, keep=1)
    table = table_of(lakehouse, ORDERS)
    assert len(table.metadata.snapshots) == 1
    assert has_committed(table, "r1", "p1") and has_committed(table, "r3") and has_committed(table, "r6")
    assert not has_committed(table, "r1", "p2") and not has_committed(table, "r2") and not has_committed(table, "refused")
    assert len(table.metadata.properties["sdp.expired-runs"].split()) == 3


def test_a_run_that_main_was_taken_back_from_by_another_client_is_not_held_for_committed(lakehouse: Lakehouse) -> None:
    tagged = append(lakehouse, 1)
    table_of(lakehouse, ORDERS).manage_snapshots().create_tag(tagged, "sound").commit()
    for number in range(2, 5):
        append(lakehouse, number)
    expire_snapshots(lakehouse, NAME, keep=1)
    assert has_committed(table_of(lakehouse, ORDERS), "r2")
    table_of(lakehouse, ORDERS).manage_snapshots().set_current_snapshot(tagged).commit()
    append(lakehouse, 5)
    table = table_of(lakehouse, ORDERS)
    assert has_committed(table, "r1") and not has_committed(table, "r2")


def test_as_many_runs_are_remembered_as_a_metadata_file_can_bear(lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stamp, "_MOST_RUNS", 3)
    for number in range(1, 7):
        append(lakehouse, number)
    expire_snapshots(lakehouse, NAME, keep=1)
    table = table_of(lakehouse, ORDERS)
    assert [number for number in range(1, 7) if has_committed(table, f"r{number}")] == [3, 4, 5, 6]
    append(lakehouse, 7)
    monkeypatch.setattr(expiry, "PATIENCE", timedelta(0))  # nobody tries a run of last week again
    expire_snapshots(lakehouse, NAME, keep=1)
    assert not has_committed(table_of(lakehouse, ORDERS), "r6")


def test_a_writer_removes_no_more_than_so_many_in_passing_the_oldest_first(lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry, "_EVERY", 5)
    monkeypatch.setattr(expiry, "_MOST_IN_PASSING", 7)
    ids = [append(lakehouse, number) for number in range(18)]
    small = orders(partition=[("shop", IdentityTransform(), "shop")], properties={"history.expire.min-snapshots-to-keep": "2"})
    ids.append(append(lakehouse, 18, definition=small))  # the twentieth, with that of the creation
    assert [one.snapshot_id for one in table_of(lakehouse, small).metadata.snapshots] == ids[6:]
    ids += [append(lakehouse, number, definition=small) for number in range(19, 24)]
    assert [one.snapshot_id for one in table_of(lakehouse, small).metadata.snapshots] == ids[13:]


def test_queries_under_way_keep_the_delete_files_that_merges_replace(lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry, "_EVERY", 5)
    definition = replace(orders(properties={"history.expire.min-snapshots-to-keep": "2"}), merge=MergeRule("merge-on-read"))
    publish(stage_append(lakehouse, definition, rows(definition, *((number, "a", 0) for number in range(200))), Stamp("r")))
    merges = [
        publish(stage_merge(lakehouse, definition, rows(definition, (number, "a", 1)), Stamp("m"), keys=("id",))) for number in range(8)
    ]
    assert any("removed-delete-files" in merge.summary for merge in merges)
    assert not any("deleted-data-files" in merge.summary for merge in merges)
    assert arrow_table(table_of(lakehouse, definition), merges[0].snapshot_id)["amount"].to_pylist().count(1) == 1


def test_the_highest_epoch_stays_known_after_a_rollback(lakehouse: Lakehouse) -> None:
    first = append(lakehouse, 1, epoch=1)
    away = append(lakehouse, 2, epoch=5)
    table_of(lakehouse, ORDERS).manage_snapshots().rollback_to_snapshot(first).commit()
    for number in range(3, 6):
        append(lakehouse, number, epoch=1)
    expire_snapshots(lakehouse, NAME, keep=1)
    table = table_of(lakehouse, ORDERS)
    assert {one.snapshot_id for one in table.metadata.snapshots} == {away, table.metadata.current_snapshot_id}
    assert_only_reachable(lakehouse, table)


def test_a_tag_that_lands_while_expiry_works_keeps_its_snapshot(lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    old = append(lakehouse, 1)
    for number in range(2, 5):
        append(lakehouse, number)
    real, raced = Lakehouse.commit_updates, []

    def overtaken(self, table, updates, requirements):
        if not raced:
            raced.append(True)
            table_of(lakehouse, ORDERS).manage_snapshots().create_tag(old, "late").commit()
        return real(self, table, updates, requirements)

    monkeypatch.setattr(Lakehouse, "commit_updates", overtaken)
    expire_snapshots(lakehouse, NAME, keep=1)
    table = table_of(lakehouse, ORDERS)
    assert table.metadata.refs["late"].snapshot_id == old and len(table.metadata.snapshots) == 2
    assert_only_reachable(lakehouse, table)


def test_an_expiry_whose_answer_was_lost_still_deletes_its_files(lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1, 5):
        overwrite(lakehouse, number)
    real = type(lakehouse.catalog).commit_table

    def lossy(self, *arguments):
        real(self, *arguments)
        raise ConnectionError("the answer was lost")

    monkeypatch.setattr(type(lakehouse.catalog), "commit_table", lossy)
    assert expire_snapshots(lakehouse, NAME, keep=1).snapshots == 4
    monkeypatch.undo()
    assert_only_reachable(lakehouse, table_of(lakehouse, ORDERS))


@pytest.mark.parametrize("seed", [3, 4, *(pytest.param(seed, marks=pytest.mark.storm) for seed in range(100, 130))])
def test_random_histories_lose_no_reachable_file_and_keep_no_other(lakehouse: Lakehouse, seed: int) -> None:
    """Appends, overwrites, merges, tags, refusals and rollbacks in any order, with expiries in between, against a full reading."""
    dice = random.Random(seed)
    append(lakehouse, 0)
    seen: dict[int, list] = {}
    for step in range(1, 26):
        table = table_of(lakehouse, ORDERS)
        shop = dice.choice("abc")
        match dice.choice(["append", "append", "overwrite", "merge", "tag", "untag", "refuse", "rollback", "expire"]):
            case "append":
                append(lakehouse, step, shop)
            case "overwrite":
                overwrite(lakehouse, step, shop)
            case "merge":
                data = rows(ORDERS, (dice.randrange(step), shop, step))
                publish(stage_merge(lakehouse, ORDERS, data, Stamp(f"m{step}"), keys=("id",)))
            case "tag":
                table.manage_snapshots().create_tag(dice.choice(table.metadata.snapshots).snapshot_id, f"t{step}").commit()
            case "untag" if named := [name for name in table.metadata.refs if name != "main"]:
                name = dice.choice(named)
                manage = table.manage_snapshots()
                (manage.remove_tag(name) if name.startswith("t") else manage.remove_branch(name)).commit()
            case "refuse":
                stage_append(lakehouse, ORDERS, rows(ORDERS, (step, shop, step)), Stamp("bad")).refuse(f"refused/{step}")
            case "rollback":
                line = [entry.snapshot_id for entry in table.history()]
                back = dice.choice(line[-4:])
                if table.metadata.snapshot_by_id(back) and any(one.snapshot_id == back for one in ancestors(table)):
                    table.manage_snapshots().rollback_to_snapshot(back).commit()
            case "expire":
                expire_snapshots(lakehouse, NAME, keep=dice.randrange(1, 6))
                table = table_of(lakehouse, ORDERS)
                assert_only_reachable(lakehouse, table)
                for snapshot in table.metadata.snapshots:
                    found = sorted(map(repr, arrow_table(table, snapshot.snapshot_id).to_pylist()))
                    assert seen.setdefault(snapshot.snapshot_id, found) == found
    expire_snapshots(lakehouse, NAME, keep=1)
    assert_only_reachable(lakehouse, table_of(lakehouse, ORDERS))


def test_killed_between_the_commit_and_the_deletion_leaves_files_and_misses_none(
    lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 5):
        overwrite(lakehouse, number)
    monkeypatch.setenv("SDP_FAILPOINTS", "after-expiry-commit:raise")
    with pytest.raises(RuntimeError):
        expire_snapshots(lakehouse, NAME, keep=1)
    monkeypatch.delenv("SDP_FAILPOINTS")
    table = table_of(lakehouse, ORDERS)
    assert len(table.metadata.snapshots) == 1 and read(table) == [(4, "a", 4)]
    assert reachable(table) < on_disk(lakehouse)


def test_snapshots_are_removed_as_pyiceberg_does_it_but_in_one_pass(lakehouse: Lakehouse) -> None:
    for number in range(4):
        tagged = append(lakehouse, number)
    table_of(lakehouse, ORDERS).manage_snapshots().create_tag(tagged, "t").commit()
    append(lakehouse, 9)
    base = table_of(lakehouse, ORDERS).metadata
    ids = [one.snapshot_id for one in base.snapshots]
    for gone in (ids[:2], ids[1:3], [tagged], ids[:-1]):
        update = RemoveSnapshotsUpdate(snapshot_ids=gone)
        theirs, ours = update_table_metadata(base, (update,)), apply_updates(base, (update,))
        assert ours.model_dump(exclude={"last_updated_ms"}) == theirs.model_dump(exclude={"last_updated_ms"})
    with pytest.raises(ValueError, match="do not exist"):
        apply_updates(base, (RemoveSnapshotsUpdate(snapshot_ids=[*ids[:1], 4711]),))
    many = [base.snapshots[0].model_copy(update={"snapshot_id": number}) for number in range(1, 501)]
    calls = [0]
    sys.setprofile(lambda *_: calls.__setitem__(0, calls[0] + 1))
    apply_updates(
        base.model_copy(update={"snapshots": [*many, *base.snapshots]}), (RemoveSnapshotsUpdate(snapshot_ids=list(range(1, 501))),)
    )
    sys.setprofile(None)
    assert calls[0] < 20_000  # a pass for each snapshot makes 250,000
