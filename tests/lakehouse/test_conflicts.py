"""Two writers at once, and answers that are lost: everything is kept once or refused with a sentence that says who was first."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import LongType, TimestamptzType

from platform_resources.errors import PlatformError
from platform_resources.lakehouse import committing
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.compaction import compact
from platform_resources.lakehouse.expiry import expire_snapshots
from platform_resources.lakehouse.history import roll_back
from platform_resources.lakehouse.manifests import rewrite_manifests
from platform_resources.lakehouse.retention import Term, forget
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
from tests.lakehouse.tables import assert_only_reachable, define, files_on_disk, orders, read, rows, table_of

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


def test_a_slow_overwrite_whose_head_expired_is_told_who_won(lakehouse: Lakehouse) -> None:
    publish(overwrite(lakehouse, "r0", 0, PartitionScope.table(), PLAIN))

    def slow() -> Any:
        yield from rows(PLAIN, (1, "a", 1)).to_batches()
        publish(overwrite(lakehouse, "theirs", 2, PartitionScope.table(), PLAIN))
        expire_snapshots(lakehouse, PLAIN.identifier, keep=1)

    reader = pa.RecordBatchReader.from_batches(rows(PLAIN).schema, slow())
    with pytest.raises(PlatformError, match=r"Run theirs replaced shop\.plain in snapshot"):
        stage_overwrite(lakehouse, PLAIN, reader, Stamp("mine"), partitions=PartitionScope.table())
    assert read(table_of(lakehouse, PLAIN)) == [(2, "a", 2)]
    assert_only_reachable(lakehouse, table_of(lakehouse, PLAIN))


def test_retention_does_not_beat_a_writer(lakehouse: Lakehouse) -> None:
    events = define(("id", LongType(), True), ("dt", TimestamptzType()))
    now = datetime.now(UTC)
    term, scope = Term(("dt",), now - timedelta(days=30)), PartitionScope.table()
    publish(stage_append(lakehouse, events, rows(events, (1, now - timedelta(days=40)), (2, now)), Stamp("r0")))
    staged = stage_overwrite(lakehouse, events, rows(events, (3, now)), Stamp("mine"), partitions=scope)
    assert forget(lakehouse, events.identifier, term, run_id="maintenance", now=now).rows == 1
    publish(staged)
    assert [row[0] for row in read(table_of(lakehouse, events))] == [3]


def test_a_run_that_committed_before_the_write_was_staged_is_not_blamed_after_a_rollback(lakehouse: Lakehouse) -> None:
    for number in (1, 2):
        publish(overwrite(lakehouse, f"r{number}", number, PartitionScope.table(), PLAIN))
    target = table_of(lakehouse, PLAIN).metadata.current_snapshot_id
    publish(stage_append(lakehouse, PLAIN, rows(PLAIN, (3, "a", 3)), Stamp("r3")))
    staged = overwrite(lakehouse, "mine", 4, PartitionScope.table(), PLAIN)
    roll_back(lakehouse, PLAIN.identifier, target or 0, run_id="operator")
    publish(staged)
    assert read(table_of(lakehouse, PLAIN)) == [(4, "a", 4)]


def test_a_write_that_is_refused_and_beaten_is_kept_for_its_owner(lakehouse: Lakehouse) -> None:
    publish(overwrite(lakehouse, "r0", 0, PartitionScope.table(), PLAIN))
    bad = overwrite(lakehouse, "bad", 1, PartitionScope.table(), PLAIN)
    publish(overwrite(lakehouse, "good", 2, PartitionScope.table(), PLAIN))
    bad.refuse("refused/bad")
    table = table_of(lakehouse, PLAIN)
    assert read(table) == [(2, "a", 2)]
    assert [row["id"] for row in table.scan().use_ref("refused/bad").to_arrow().to_pylist()] == [1]


class Line:
    """The line to the catalog: cuts the next commits, before they arrive (`lost`), behind (`unanswered`) or delays them (`late`, until
    `meanwhile`); `conflict` is another's commit that went before.
    """

    def __init__(self, lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch, *faults: str) -> None:
        kind = type(lakehouse.catalog)
        self.faults, self.late, real = list(faults), [], kind.commit_table

        def commit(catalog: Any, *arguments: Any) -> Any:
            fault = self.faults.pop(0) if self.faults else None
            if fault == "conflict":
                raise CommitFailedException("another was first")
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
        monkeypatch.setattr(committing, "_DOUBT_SECONDS", (0.0, 0.0, 0.0))


@pytest.mark.parametrize(
    "faults", [["unanswered"], ["lost"], ["lost", "lost", "unanswered"], ["late", "meanwhile"], ["late", "conflict", "meanwhile"]]
)
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


def test_a_commit_is_tried_again_when_the_catalog_cannot_be_asked_either(lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    lakehouse.create(PLAIN)
    staged = stage_append(lakehouse, PLAIN, rows(PLAIN, (1, "a", 1)), Stamp("r"))
    line, kind = Line(lakehouse, monkeypatch, "lost", "unanswered"), type(lakehouse.catalog)
    real = kind.load_table

    def load(catalog: Any, identifier: Any) -> Any:
        if len(line.faults) == 1:
            raise ConnectionError("the line was cut")
        return real(catalog, identifier)

    monkeypatch.setattr(kind, "load_table", load)
    publish(staged)
    assert read(table_of(lakehouse, PLAIN)) == [(1, "a", 1)]


def test_a_commit_that_nobody_answered_and_another_overtook_is_staged_anew(lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    lakehouse.create(PLAIN)
    staged = stage_append(lakehouse, PLAIN, rows(PLAIN, (1, "a", 1)), Stamp("r"))
    other = stage_append(lakehouse, PLAIN, rows(PLAIN, (2, "a", 1)), Stamp("s"))
    line = Line(lakehouse, monkeypatch, "late")
    then = SimpleNamespace(sleep=lambda _seconds: other.commit() if other._state == "open" else None)
    monkeypatch.setattr(committing, "time", then)
    publish(staged)
    with pytest.raises(Exception, match=r"older than last|Requirement failed"):
        line.late.pop()()
    assert [row[0] for row in read(table_of(lakehouse, PLAIN))] == [1, 2]


ACTIONS: dict[str, Callable[[Lakehouse, int], Any]] = {
    "compact": lambda lakehouse, _: compact(lakehouse, PLAIN.identifier, run_id="m", now=datetime.now(UTC) + timedelta(days=1)),
    "manifests": lambda lakehouse, _: rewrite_manifests(lakehouse, PLAIN.identifier, run_id="m"),
    "rollback": lambda lakehouse, target: roll_back(lakehouse, PLAIN.identifier, target, run_id="m"),
}


@pytest.mark.parametrize("faults", [["late"], ["late", "meanwhile"], ["late", "conflict", "meanwhile"], ["lost", "lost", "lost", "late"]])
@pytest.mark.parametrize("action", ACTIONS)
def test_what_maintenance_and_a_rollback_commit_may_arrive_late(
    lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch, action: str, faults: list[str]
) -> None:
    for number in range(6):
        commit = publish(stage_append(lakehouse, PLAIN, rows(PLAIN, (number, "a", 1)), Stamp(f"r{number}")))
    before = table_of(lakehouse, PLAIN)
    line = Line(lakehouse, monkeypatch, *faults)
    with suppress(ConnectionError):
        ACTIONS[action](lakehouse, commit.parent_id or 0)
    for arrives in line.late:
        with suppress(CommitFailedException):
            arrives()
    table = table_of(lakehouse, PLAIN)
    assert table.metadata.current_snapshot_id != commit.snapshot_id and len(table.metadata.snapshots) == len(before.metadata.snapshots) + 1
    assert [row[0] for row in read(table)] == list(range(5 if action == "rollback" else 6))


def test_compaction_leaves_no_file_when_its_manifests_cannot_be_written(lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(6):
        publish(stage_append(lakehouse, PLAIN, rows(PLAIN, (number, "a", 1)), Stamp(f"r{number}")))
    table = table_of(lakehouse, PLAIN)
    kind = type(table.io)
    real = kind.new_output

    def full(io: Any, location: str) -> Any:
        if location.endswith(".avro"):
            raise OSError("no space left")
        return real(io, location)

    monkeypatch.setattr(kind, "new_output", full)
    with pytest.raises(OSError, match="no space left"):
        ACTIONS["compact"](lakehouse, 0)
    assert_only_reachable(lakehouse, table)


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
