"""Two writers at once, and answers that are lost: everything is kept once or refused with a sentence that says who was first."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.transforms import IdentityTransform

from platform_resources.errors import PlatformError
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.expiry import expire_snapshots
from platform_resources.lakehouse.staging import (
    CommitConflict,
    PartitionScope,
    StagedWrite,
    publish,
    stage_append,
    stage_merge,
    stage_overwrite,
)
from platform_resources.lakehouse.stamp import Stamp
from tests.lakehouse.tables import files_on_disk, orders, read, rows, table_of

ORDERS = orders(partition=[("shop", IdentityTransform(), "shop")])
PLAIN = orders(identifier="shop.plain")


def overwrite(lakehouse: Lakehouse, run: str, number: int, scope: PartitionScope, definition: Any = ORDERS) -> StagedWrite:
    return stage_overwrite(lakehouse, definition, rows(definition, (number, "a", number)), Stamp(run), partitions=scope)


@pytest.mark.parametrize("scope", [PartitionScope.named("shop=a"), PartitionScope.present(), PartitionScope.table()])
def test_the_second_of_two_overwrites_of_a_partition_is_told_who_won(lakehouse: Lakehouse, scope: PartitionScope) -> None:
    publish(overwrite(lakehouse, "r0", 0, scope))
    mine, theirs = overwrite(lakehouse, "mine", 1, scope), overwrite(lakehouse, "theirs", 2, scope)
    publish(theirs)
    with pytest.raises(PlatformError) as caught:
        publish(mine)
    assert caught.value.code == "overwrite-conflict"
    assert "Run theirs replaced shop.orders, partition shop=a," in caught.value.message and "run mine" in caught.value.message
    assert read(table_of(lakehouse, ORDERS)) == [(2, "a", 2)]
    kept = {path.name for path in files_on_disk(lakehouse) if path.suffix == ".parquet"}
    assert not kept & {file.file_path.rpartition("/")[2] for file in mine.written}


def test_a_table_without_partitions_is_one_partition(lakehouse: Lakehouse) -> None:
    publish(overwrite(lakehouse, "r0", 0, PartitionScope.table(), PLAIN))
    mine = overwrite(lakehouse, "mine", 1, PartitionScope.table(), PLAIN)
    publish(overwrite(lakehouse, "theirs", 2, PartitionScope.table(), PLAIN))
    with pytest.raises(PlatformError, match=r"Run theirs replaced shop\.plain in snapshot"):
        publish(mine)


def test_overwrites_of_other_partitions_appends_and_merges_pass_each_other(lakehouse: Lakehouse) -> None:
    publish(stage_append(lakehouse, ORDERS, rows(ORDERS, (1, "a", 1), (2, "b", 2)), Stamp("r0")))
    mine = overwrite(lakehouse, "mine", 10, PartitionScope.named("shop=a"))
    other = rows(ORDERS, (20, "b", 20))
    publish(stage_overwrite(lakehouse, ORDERS, other, Stamp("b"), partitions=PartitionScope.named("shop=b")))
    publish(mine)
    merge = stage_merge(lakehouse, ORDERS, rows(ORDERS, (10, "a", 11)), Stamp("m1"), keys=("id",))
    publish(stage_merge(lakehouse, ORDERS, rows(ORDERS, (10, "a", 12)), Stamp("m2"), keys=("id",)))
    publish(merge)
    assert read(table_of(lakehouse, ORDERS)) == [(10, "a", 11), (20, "b", 20)]


def test_a_run_does_not_lose_to_itself(lakehouse: Lakehouse) -> None:
    publish(overwrite(lakehouse, "r0", 0, PartitionScope.named("shop=a")))
    first, second = (overwrite(lakehouse, "r1", number, PartitionScope.named("shop=a")) for number in (1, 2))
    publish(first)
    publish(second)
    assert read(table_of(lakehouse, ORDERS)) == [(2, "a", 2)]


class Line:
    """The line to the catalog: cuts the next commits, before they arrive (`lost`), behind (`unanswered`) or delays them (`late`)."""

    def __init__(self, lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch, *faults: str) -> None:
        kind = type(lakehouse.catalog)
        self.faults, self.late, real = list(faults), [], kind.commit_table

        def commit(catalog: Any, *arguments: Any) -> Any:
            fault = self.faults.pop(0) if self.faults else None
            if fault == "late":
                self.late.append(lambda: real(catalog, *arguments))
            elif fault == "meanwhile":
                self.late.pop()()
            elif fault != "lost":
                answer = real(catalog, *arguments)
                if fault is None:
                    return answer
            raise ConnectionError("the line was cut")

        monkeypatch.setattr(kind, "commit_table", commit)


@pytest.mark.parametrize("faults", [["unanswered"], ["lost"], ["lost", "lost", "unanswered"], ["late", "meanwhile"]])
def test_a_commit_whose_answer_is_lost_stands_exactly_once(
    lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch, faults: list[str]
) -> None:
    lakehouse.create(PLAIN)
    staged = stage_append(lakehouse, PLAIN, rows(PLAIN, (1, "a", 1)), Stamp("r"))
    Line(lakehouse, monkeypatch, *faults)
    commit = publish(staged)
    table = table_of(lakehouse, PLAIN)
    assert read(table) == [(1, "a", 1)] and len(table.metadata.snapshots) == 2
    assert commit.snapshot_id == table.metadata.current_snapshot_id


def test_a_late_commit_that_loses_to_its_own_repetition_changes_nothing(lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    lakehouse.create(PLAIN)
    staged = stage_append(lakehouse, PLAIN, rows(PLAIN, (1, "a", 1)), Stamp("r"))
    line = Line(lakehouse, monkeypatch, "late")
    publish(staged)
    with pytest.raises(Exception, match=r"already exists|Requirement failed"):
        line.late.pop()()
    assert read(table_of(lakehouse, PLAIN)) == [(1, "a", 1)]


def test_the_files_of_a_commit_nobody_answered_stay_for_it_may_still_arrive(lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    lakehouse.create(PLAIN)
    staged = stage_append(lakehouse, PLAIN, rows(PLAIN, (1, "a", 1)), Stamp("r"))
    line = Line(lakehouse, monkeypatch, "lost", "lost", "lost", "late")
    with pytest.raises(ConnectionError):
        publish(staged)
    staged.discard()
    line.late.pop()()
    assert read(table_of(lakehouse, PLAIN)) == [(1, "a", 1)]


def test_a_commit_whose_answer_is_lost_while_a_hundred_others_come_is_not_repeated(
    lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    lakehouse.create(PLAIN)
    staged = stage_append(lakehouse, PLAIN, rows(PLAIN, (1, "a", 1)), Stamp("r"))
    kind = type(lakehouse.catalog)
    real = kind.commit_table

    def busy(catalog: Any, *arguments: Any) -> Any:
        monkeypatch.setattr(kind, "commit_table", real)
        real(catalog, *arguments)
        for number in range(2, 5):
            publish(stage_append(lakehouse, PLAIN, rows(PLAIN, (number, "b", 1)), Stamp(f"r{number}")))
        expire_snapshots(lakehouse, PLAIN.identifier, keep=1)
        raise ConnectionError("the answer was lost")

    monkeypatch.setattr(kind, "commit_table", busy)
    publish(staged)
    assert [row[0] for row in read(table_of(lakehouse, PLAIN))] == [1, 2, 3, 4]


def test_a_conflict_stays_a_conflict(lakehouse: Lakehouse) -> None:
    lakehouse.create(PLAIN)
    staged = stage_append(lakehouse, PLAIN, rows(PLAIN, (1, "a", 1)), Stamp("r"))
    publish(stage_append(lakehouse, PLAIN, rows(PLAIN, (2, "a", 1)), Stamp("s")))
    with pytest.raises(CommitConflict):
        staged.commit()


def test_a_write_that_took_longer_than_its_head_was_kept_is_staged_on_a_newer_one(lakehouse: Lakehouse) -> None:
    lakehouse.create(PLAIN)
    publish(stage_append(lakehouse, PLAIN, rows(PLAIN, (0, "a", 1)), Stamp("r0")))

    def slow() -> Any:
        yield from rows(PLAIN, (1, "a", 1)).to_batches()
        for number in range(2, 5):
            publish(stage_append(lakehouse, PLAIN, rows(PLAIN, (number, "b", 1)), Stamp(f"r{number}")))
        expire_snapshots(lakehouse, PLAIN.identifier, keep=1)

    reader = pa.RecordBatchReader.from_batches(rows(PLAIN).schema, slow())
    publish(stage_append(lakehouse, PLAIN, reader, Stamp("slow")))
    assert [row[0] for row in read(table_of(lakehouse, PLAIN))] == [0, 1, 2, 3, 4]
