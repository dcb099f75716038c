"""What a drain promises: every event of the log ends in the table, the quarantine or the count of duplicates, exactly once."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from pyiceberg.table import Table
from pyiceberg.types import DecimalType, NestedField, StructType, TimestamptzType, UUIDType

from platform_resources.config import Settings
from platform_resources.contracts.iceberg import MergeRule, table_definition
from platform_resources.contracts.model import Check, Column, Contract, Sla
from platform_resources.errors import PlatformError
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.expiry import expire_snapshots
from platform_resources.lakehouse.history import roll_back
from platform_resources.lakehouse.reading import arrow_table
from platform_resources.lakehouse.replacing import regroup_manifests
from platform_resources.lakehouse.staging import publish, stage_merge
from platform_resources.lakehouse.stamp import Stamp, ancestors, read_epoch, read_position, read_watermark, summary_of
from platform_resources.streams.ingestion import Drain, DrainCommit, DrainReport, drain_all, lag
from platform_resources.streams.local_log import LocalLog
from platform_resources.streams.log import EventLog, LogRecord, open_log
from platform_resources.streams.quarantine import quarantine_definition
from platform_resources.streams.refusals import delay_after
from tests.streams.ingestion_kit import (
    NO_FORBIDDEN,
    UNIQUE_N,
    ScriptedLog,
    assert_exact,
    assorted,
    contract,
    counts_in,
    event,
    found_in,
    records_of,
    run_id,
)

TOPIC = "test.clicks"
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


class House:
    """One home with its log, and a way to ingest into it."""

    def __init__(self, settings: Settings, log: EventLog, *, topic: str = TOPIC) -> None:
        self.settings, self.log, self.topic = settings, log, topic
        self.lakehouse, self.contract = Lakehouse(settings), contract(topic)

    def produce(self, *events: bytes, topic: str | None = None) -> None:
        self.log.append(topic or self.topic, [(None, value) for value in events])

    def drain(self, of: Contract | None = None, **how: Any) -> Drain:
        how.setdefault("run_id", run_id())
        how.setdefault("settings", self.settings)
        return Drain(of or self.contract, lakehouse=self.lakehouse, log=how.pop("log", self.log), **how)

    def ingest(self, of: Contract | None = None, *, until: Any = "end", **how: Any) -> DrainReport:
        return self.drain(of, **how).run(until=until)

    def drained(self, **how: Any) -> DrainReport:
        """As `ingest` to the end, with a fault in the report: for threads."""
        drain = self.drain(**how)
        drain_all([drain], seconds=60, idle_seconds=0)
        return drain.report

    @property
    def table(self) -> Table:
        table = self.lakehouse.table(self.contract.identifier)
        assert table is not None
        return table

    @property
    def aside(self) -> Table:
        table = self.lakehouse.table(self.contract.quarantine_identifier)
        assert table is not None
        return table

    def records(self) -> list[LogRecord]:
        return records_of(self.log, self.topic)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    settings = Settings(home=tmp_path / "home", batch_events=40)
    log = open_log(settings)
    yield House(settings, log)
    log.close()


@pytest.fixture
def any_house(event_log: EventLog, log_settings: Settings, topic: str) -> House:
    """A house on each implementation of the log."""
    return House(log_settings.model_copy(update={"batch_events": 40}), event_log, topic=topic)


@pytest.fixture
def kafka_house(settings: Settings, kafka: str, topic: str) -> Iterator[House]:
    """A house on the real broker alone."""
    mine = settings.model_copy(update={"event_log": "kafka", "kafka_bootstrap": kafka, "batch_events": 40})
    log = open_log(mine)
    yield House(mine, log, topic=topic)
    log.close()


# --- where events end


def test_every_event_ends_where_a_plain_program_says(any_house: House) -> None:
    house, events = any_house, assorted(random.Random(11), 300)
    house.produce(*events[:170])
    first = house.ingest()
    house.produce(*events[170:])
    second = house.ingest()
    truth = assert_exact(house.lakehouse, house.contract, house.records(), lateness=True)
    assert {name: getattr(first, name) + getattr(second, name) for name in truth.counts} == truth.counts
    assert min(truth.counts.values()) > 0, "the events of this test must show every fate"
    assert first.commits == 5 and first.stopped_by == "end" and not first.superseded
    assert second.position == {house.topic: {"0": 300}} == read_position(house.table)


def test_partitions_and_topics_are_read_side_by_side_and_new_ones_appear(any_house: House) -> None:
    house, other, late_topic = any_house, f"{any_house.topic}.b", f"{any_house.topic}.c"
    of = replace(house.contract, source=replace(house.contract.source, topics=(house.topic, other, late_topic)))  # type: ignore[type-var]
    house.log.create_topic(house.topic, partitions=3)
    house.log.append(house.topic, [(f"k{n}".encode(), event(n)) for n in range(50)])
    house.produce(*(event(f) for f in range(100, 120)), topic=other)
    house.ingest(of)
    assert set(read_position(house.table) or {}) == {house.topic, other}
    house.produce(*(event(f) for f in range(200, 210)), topic=late_topic)
    report = house.ingest(of)
    assert report.inserted == 10
    records = [record for topic in of.source.topics for record in records_of(house.log, topic)]  # type: ignore[union-attr]
    assert len(records) == 80
    assert_exact(house.lakehouse, of, records)


def test_a_topic_that_does_not_exist_is_empty(house: House) -> None:
    report = house.ingest()
    assert (report.read, report.commits, report.stopped_by) == (0, 0, "end")
    assert len(arrow_table(house.table)) == 0 == len(arrow_table(house.aside))
    house.produce(event(1))
    assert house.ingest().inserted == 1


def test_a_batch_of_only_bad_events_moves_the_position(house: House) -> None:
    house.produce(b"{", b"[]", b"")
    report = house.ingest()
    assert (report.read, report.inserted, report.quarantined, report.commits) == (3, 0, 3, 1)
    assert read_position(house.table) == {TOPIC: {"0": 3}}
    assert house.ingest().read == 0


def test_a_batch_of_only_duplicates_moves_the_position(house: House) -> None:
    house.produce(event(1))
    house.ingest()
    house.produce(event(1), event(1))
    assert house.ingest().duplicates == 2
    assert house.ingest().read == 0


def test_quarantine_keeps_the_bytes_and_says_why(house: House) -> None:
    torn = b'{"$schema": "/x/1.0.0", "n": "\xff'
    house.log.append(TOPIC, [(b"\x00key", torn), (None, json.dumps({"$schema": "/test/9.9.9", "n": "x"}).encode())])
    house.produce(event(1), event(1, note="other"), event(2, note="forbidden"))
    house.ingest(run_id="run-7")
    rows = {row["_offset"]: row for row in arrow_table(house.aside).to_pylist()}
    assert set(rows) == {0, 1, 3, 4}
    assert rows[0]["raw"] == torn and rows[0]["key"] == b"\x00key" and rows[0]["schema_version"] is None
    assert rows[1]["schema_version"] == "/test/9.9.9" and rows[1]["reason"] and rows[1]["detail"]
    assert rows[3]["reason"] == "conflicting_duplicate" and rows[3]["path"] == "meta.id"
    assert rows[4]["reason"] == "check:no_forbidden" and rows[4]["path"] == "note"
    assert {row["contract_version"] for row in rows.values()} == {"1.0.0"}
    assert {(row["run_id"], row["status"], row["_topic"]) for row in rows.values()} == {("run-7", "new", TOPIC)}
    assert house.aside.properties["sdp.classification"] == "restricted"
    assert str(house.aside.spec().fields[0].transform) == "day"


def test_quarantine_columns_are_the_designs() -> None:
    names = [field.name for field in quarantine_definition(contract()).schema.fields]
    assert names == ["_topic", "_partition", "_offset", "_log_time", "_ingested_at", "key", "raw", "reason", "path", "detail",
                     "schema_version", "contract_version", "run_id", "status"]  # fmt: skip


def test_each_row_says_where_it_was_read(house: House) -> None:
    house.produce(event(5))
    before = datetime.now(UTC)
    house.ingest()
    [row], [record] = arrow_table(house.table).to_pylist(), house.records()
    assert (row["_topic"], row["_partition"], row["_offset"], row["_log_time"]) == (TOPIC, 0, 0, record.time)
    assert before - timedelta(seconds=1) <= row["_ingested_at"] <= datetime.now(UTC)
    assert len(row["_event_hash"]) == 16


def test_an_event_whose_row_was_deleted_is_no_duplicate(house: House) -> None:
    house.produce(event(1), event(2))
    house.ingest()
    definition = replace(table_definition(house.contract), merge=MergeRule(strategy="merge-on-read"))
    rows, keys = arrow_table(house.table).slice(0, 0), pa.table({"n": [1]})
    publish(stage_merge(house.lakehouse, definition, rows, Stamp("erasure"), keys=("n",), delete_keys=keys))
    house.produce(event(1), event(2))
    report = house.ingest()
    assert (report.inserted, report.duplicates) == (1, 1)
    assert sorted(arrow_table(house.table)["n"].to_pylist()) == [1, 2]


def test_duplicates_are_told_apart_by_the_window_of_log_time(house: House) -> None:
    log, of = ScriptedLog(), contract(dedupe_window=timedelta(minutes=10))
    log.add(TOPIC, event(1), at=NOW)
    log.add(TOPIC, event(1), at=NOW + timedelta(minutes=10))  # at the window's very edge: still the same event
    log.add(TOPIC, event(1), at=NOW + timedelta(minutes=10, microseconds=1))  # new again
    house.ingest(of, log=log)
    log.add(TOPIC, event(1, note="other"), at=NOW + timedelta(minutes=20))  # contradicts the second, now the one to compare with
    log.add(TOPIC, event(1, note="other"), at=NOW + timedelta(minutes=21))
    report = house.ingest(of, log=log)
    assert (report.inserted, report.quarantined) == (1, 1)
    assert_exact(house.lakehouse, of, records_of(log, TOPIC))


def test_a_column_that_is_added_makes_no_conflict_of_a_duplicate(house: House) -> None:
    """An undeclared field is hashed as it came; once its column is declared, the same text is an instant, a decimal, a UUID."""
    before = contract(checks=(), closed=False)
    inner = (Column("at", TimestamptzType(), logical_type="timestamp"), Column("who", UUIDType()))
    kind = StructType(NestedField(21, "at", TimestamptzType()), NestedField(22, "who", UUIDType()))
    first = replace(before, version="1.1.0", columns=(*before.columns, Column("price", DecimalType(9, 2), logical_type="number")))
    more = Column("more", kind, logical_type="object", fields=inner, closed=False)
    second = replace(first, version="1.2.0", columns=(*first.columns, more))
    what = {"price": 1.5, "more": {"at": "2026-01-01T00:00:00.000+00:00", "who": "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"}}
    house.produce(event(1, **what))
    house.ingest(before)
    house.produce(event(1, **what), event(2, **what))
    report = house.ingest(first)
    assert (report.inserted, report.duplicates, report.quarantined) == (1, 1, 0)
    house.produce(event(1, **what), event(2, **what), event(1, **{**what, "price": 1.6}), event(2, **{**what, "more": None}))
    report = house.ingest(second)
    assert (report.inserted, report.duplicates, report.quarantined) == (0, 2, 2)


def test_the_window_is_rebuilt_from_the_files_that_reach_into_it_only(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    log, of = ScriptedLog(), contract(dedupe_window=timedelta(minutes=10))
    for minute in range(45, 60):
        log.add(TOPIC, event(minute), at=NOW + timedelta(minutes=minute))
        house.ingest(of, log=log)
    read: list[str] = []
    from platform_resources.streams import dedupe

    original = dedupe._read
    monkeypatch.setattr(dedupe, "_read", lambda table, path, *rest: read.append(path) or original(table, path, *rest))
    log.add(TOPIC, event(55), at=NOW + timedelta(minutes=60))
    assert house.ingest(of, log=log).duplicates == 1
    assert len(read) == 10


# --- take-over


def test_a_drain_raises_the_epoch_of_both_tables_by_one(house: House) -> None:
    for expected in (1, 2, 3):
        house.ingest()
        assert read_epoch(house.table) == expected == read_epoch(house.aside)


def take_back(house: House, snapshot_id: int, *, by: str) -> None:
    """As `sdp table rollback` does it, or as another Iceberg client does, which only sets main's pointer back."""
    if by == "sdp":
        roll_back(house.lakehouse, house.contract.identifier, snapshot_id, run_id="rollback")
    else:
        house.table.manage_snapshots().rollback_to_snapshot(snapshot_id).commit()


@pytest.mark.parametrize("by", ["sdp", "another client"])
def test_a_rollback_reads_again_what_was_removed_once(house: House, by: str) -> None:
    events = assorted(random.Random(3), 120)
    house.produce(*events[:50])
    house.ingest()
    earlier = house.table.current_snapshot().snapshot_id  # type: ignore[union-attr]
    epoch = read_epoch(house.table) or 0
    house.produce(*events[50:])
    house.ingest()
    house.ingest()
    take_back(house, earlier, by=by)
    assert read_epoch(house.table) == (epoch + 3 if by == "sdp" else epoch)
    report = house.ingest()
    assert report.read == 70
    assert (read_epoch(house.table) or 0) > epoch + 2, "an epoch that was used once is never used again"
    assert_exact(house.lakehouse, house.contract, house.records(), lateness=True)


@dataclass
class Sleeper:
    """A drain in a thread that falls asleep at the n-th passage of a failpoint until it is woken."""

    point: str
    passage: int
    drained: Callable[[], DrainReport]
    report: DrainReport | None = None

    def __post_init__(self) -> None:
        self._asleep, self._awake = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work)

    def _work(self) -> None:
        self.report = self.drained()

    def passes(self, name: str) -> None:
        if name == self.point and threading.current_thread() is self._thread:
            self.passage -= 1
            if self.passage == 0:
                self._asleep.set()
                assert self._awake.wait(60)

    def fall_asleep(self) -> None:
        self._thread.start()
        assert self._asleep.wait(60), "the failpoint was never passed"

    def wake(self) -> DrainReport:
        self._awake.set()
        self._thread.join(60)
        assert self.report is not None
        return self.report


@pytest.fixture
def sleeper(house: House, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], Sleeper]:
    """Makes drains of the house that fall asleep at a failpoint."""
    sleepers: list[Sleeper] = []

    def passes(name: str) -> None:
        for one in sleepers:
            one.passes(name)

    for module in ("streams.ingestion", "streams.takeover", "streams.batch", "lakehouse.staging"):
        monkeypatch.setattr(f"platform_resources.{module}.failpoint", passes)

    def make(point: str, passage: int) -> Sleeper:
        sleepers.append(Sleeper(point, passage, House(house.settings, open_log(house.settings)).drained))
        return sleepers[-1]

    return make


ZOMBIE_POINTS = [
    ("before-commit", 1), ("drain-after-epoch", 1), ("drain-before-quarantine-takeover", 1), ("before-commit", 2), ("after-commit", 2),
    ("drain-after-quarantine-takeover", 1), ("drain-after-read", 1), ("drain-after-decode", 2), ("drain-after-stage", 2),
    ("drain-before-quarantine-commit", 2), ("before-commit", 3), ("drain-after-quarantine-commit", 1), ("before-commit", 4),
    ("drain-after-quarantine-commit", 2), ("drain-before-main-commit", 2), ("after-commit", 6), ("drain-after-main-commit", 1),
]  # fmt: skip


@pytest.mark.parametrize(("point", "passage"), ZOMBIE_POINTS)
def test_a_zombie_that_wakes_after_its_successor_changes_nothing(
    house: House, sleeper: Callable[[str, int], Sleeper], point: str, passage: int
) -> None:
    house.produce(*assorted(random.Random(5), 110))
    zombie = sleeper(point, passage)
    zombie.fall_asleep()
    # The successor's contract is another one, too: what the zombie had put aside for an undeclared field now is a row.
    wide = contract(wide=True)
    assert house.ingest(wide).stopped_by == "end"
    report = zombie.wake()
    assert report.error is None and report.superseded and report.stopped_by == "superseded"
    records, found = house.records(), found_in(house.lakehouse, wide)
    assert len(found.main) + len(found.quarantine) + found.counts["duplicates"] == len(records) == found.counts["read"]
    if report.read == 0:  # else its first batch was committed under its own, narrower contract
        assert_exact(house.lakehouse, wide, records, lateness=True)


def test_what_a_zombie_puts_aside_while_its_successor_cuts_back_is_cut_too(house: House, sleeper: Callable[[str, int], Sleeper]) -> None:
    house.produce(*assorted(random.Random(5), 110))
    zombie, successor = sleeper("drain-before-quarantine-commit", 1), sleeper("before-commit", 2)
    zombie.fall_asleep()
    successor.fall_asleep()  # it owns the main table, has seen an empty quarantine and is about to take that over
    report = zombie.wake()
    assert report.superseded and report.read == 0
    assert len(arrow_table(house.aside)) > 0, "the zombie's bad events are in the quarantine"
    assert successor.wake().stopped_by == "idle"
    assert_exact(house.lakehouse, house.contract, house.records(), lateness=True)


def test_of_two_that_take_over_at_once_one_goes_on(house: House, sleeper: Callable[[str, int], Sleeper]) -> None:
    house.produce(*(event(n) for n in range(10)))
    first, second = sleeper("before-commit", 1), sleeper("before-commit", 1)
    first.fall_asleep()
    second.fall_asleep()
    assert (first.wake().inserted, second.wake().superseded) == (10, True)
    assert read_epoch(house.table) == 1


@pytest.mark.parametrize("by", ["sdp", "another client"])
def test_a_running_drain_gives_way_when_the_table_is_rolled_back_under_it(
    house: House, sleeper: Callable[[str, int], Sleeper], by: str
) -> None:
    house.produce(*(event(n) for n in range(100)))
    running = sleeper("drain-after-stage", 3)
    running.fall_asleep()
    first_batch = [snapshot for snapshot in ancestors(house.table) if "sdp.position" in summary_of(snapshot)][-1]
    take_back(house, first_batch.snapshot_id, by=by)
    report = running.wake()
    assert report.superseded and report.read == 80
    assert house.ingest().read == 60
    assert len(found_in(house.lakehouse, house.contract).main) == 100


def test_racing_drains_end_with_each_event_once(house: House) -> None:
    house.produce(*assorted(random.Random(8), 200))
    barrier, reports = threading.Barrier(4), list[DrainReport]()

    def race() -> None:
        mine = House(house.settings.model_copy(update={"batch_events": 25}), open_log(house.settings))
        barrier.wait(10)
        reports.append(mine.ingest())

    threads = [threading.Thread(target=race) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(reports) == 4 and all(report.error is None for report in reports)
    epochs = [int(summary_of(snapshot)["sdp.epoch"]) for snapshot in ancestors(house.table) if "sdp.epoch" in summary_of(snapshot)]
    assert epochs == sorted(epochs, reverse=True)
    house.ingest()
    assert_exact(house.lakehouse, house.contract, house.records(), lateness=True)


@pytest.mark.parametrize(
    "point", ["drain-after-read", "drain-after-decode", "drain-after-stage", "drain-after-quarantine-commit", "after-commit"]
)
def test_an_interrupt_anywhere_loses_nothing(house: House, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    """Dagster cancels a run by a BaseException in the middle of anything."""
    house.produce(*assorted(random.Random(9), 100))
    passages = iter(range(100))

    def interrupt(name: str) -> None:
        if name == point and next(passages) == 2:
            raise KeyboardInterrupt

    for module in ("ingestion", "takeover", "batch"):
        monkeypatch.setattr(f"platform_resources.streams.{module}.failpoint", interrupt)
    monkeypatch.setattr("platform_resources.lakehouse.staging.failpoint", interrupt)
    with pytest.raises(KeyboardInterrupt):
        house.ingest()
    monkeypatch.undo()
    house.ingest()
    assert_exact(house.lakehouse, house.contract, house.records(), lateness=True)


# --- watermark and heartbeat


def test_an_idle_stream_says_so_once_per_half_its_promise(house: House) -> None:
    of, now, commits = contract(sla=Sla(latency=timedelta(seconds=60))), [datetime.now(UTC)], list[DrainCommit]()
    house.produce(event(1, dt=now[0] - timedelta(hours=1)))
    drain = house.drain(of, clock=lambda: now[0], on_commit=commits.append)
    drain.begin()
    began = now[0]
    for _ in range(100):
        drain.turn(gather=False)
        now[0] += timedelta(seconds=1)
    drain.finish("time")
    assert [commit.heartbeat for commit in commits] == [False, True, True, True]
    assert [commit.watermark for commit in commits] == [began - timedelta(hours=1), *(began + timedelta(seconds=s) for s in (30, 60, 90))]
    assert read_watermark(house.table) == began + timedelta(seconds=90) == drain.report.watermark
    assert counts_in(house.lakehouse, of)["read"] == 1
    house.produce(event(2, dt=began))
    report = house.ingest(of)
    assert (report.late, report.watermark) == (1, began + timedelta(seconds=90))


def test_a_stream_without_a_topic_claims_no_freshness(house: House) -> None:
    of = contract(sla=Sla(latency=timedelta(seconds=0.2)))
    assert house.ingest(of, until=0.7).commits == 0
    assert read_watermark(house.table) is None


def test_a_stream_with_unread_events_gives_no_heartbeat(house: House) -> None:
    house.produce(event(1))
    goal = house.drain(contract(sla=Sla(latency=timedelta(microseconds=1))))
    goal._goal = {(TOPIC, 0): 0}
    drain_all([goal], seconds=5, idle_seconds=0)
    assert goal.report.commits == 0


def test_a_heartbeat_leaves_events_the_time_they_may_be_late(house: House) -> None:
    of, now = (
        contract(watermark_delay=timedelta(minutes=5), sla=Sla(latency=timedelta(microseconds=1))),
        datetime.now(UTC) + timedelta(minutes=1),
    )
    house.produce(event(1, dt=now - timedelta(hours=1)))
    house.ingest(of)
    drain = house.drain(of, clock=lambda: now)
    drain.begin()
    drain.turn(gather=False)
    drain.finish("time")
    assert drain.report.watermark == now - timedelta(minutes=5) == read_watermark(house.table)
    house.produce(event(2, dt=now - timedelta(minutes=4)), event(3, dt=now - timedelta(minutes=6)))
    assert house.ingest(of).late == 1


@pytest.mark.parametrize("year", [1, 9999])
def test_an_event_at_the_edge_of_time_is_kept_whatever_the_delay(house: House, year: int) -> None:
    of, edge = contract(watermark_delay=timedelta(days=400)), datetime(year, 1, 1, tzinfo=UTC)
    house.produce(event(1, dt=edge))
    assert house.ingest(of).inserted == 1
    now = datetime.now(UTC)
    house.produce(event(2, dt=now))
    assert house.ingest(of).watermark == now - timedelta(days=400)


def test_a_batch_ends_when_its_bytes_are_enough(any_house: House) -> None:
    settings = any_house.settings.model_copy(update={"batch_events": 1000, "batch_bytes": 2 << 20})
    of = replace(any_house.contract, checks=(), max_event_bytes=1 << 20)
    any_house.produce(*(event(n, note="x" * 500_000) for n in range(40)))
    commits: list[DrainCommit] = []
    assert any_house.ingest(of, settings=settings, on_commit=commits.append).inserted == 40
    assert len(commits) >= 7 and max(commit.rows for commit in commits) <= 8


def test_late_and_skewed_events_are_counted_and_kept(house: House) -> None:
    of = contract(watermark_delay=timedelta(minutes=1))
    now = datetime.now(UTC)
    at = [now, now - timedelta(seconds=30), now - timedelta(seconds=61), now + timedelta(minutes=20), now + timedelta(minutes=9)]
    house.produce(*(event(n, dt=dt) for n, dt in enumerate(at)), event(9, dt=now))
    report = house.ingest(of)
    assert (report.inserted, report.late, report.skewed) == (6, 2, 1)
    assert report.watermark == now + timedelta(minutes=8)
    house.produce(event(20, dt=now))
    assert house.ingest(of).late == 1
    assert read_watermark(house.table) == now + timedelta(minutes=8)


def test_the_slowest_partition_holds_the_watermark_across_drains(house: House) -> None:
    log, now = ScriptedLog(), datetime.now(UTC)
    at = {seconds: now - timedelta(minutes=5) + timedelta(seconds=seconds) for seconds in (50, 100, 200)}
    log.add(TOPIC, event(1, dt=at[100]), at=now, partition=0)
    log.add(TOPIC, event(2, dt=at[50]), at=now, partition=1)
    assert house.ingest(log=log).watermark == at[50]
    log.add(TOPIC, event(3, dt=at[200]), at=now, partition=0)
    assert house.ingest(log=log).watermark == at[50]
    log.add(TOPIC, event(4, dt=at[200]), at=now, partition=1)
    assert house.ingest(log=log).watermark == at[200]


# --- checks


def test_a_row_that_fails_a_check_goes_aside_and_warnings_are_counted(house: House) -> None:
    warning = Check("note_given", "missingValues", column="note", severity="warning", scope="commit")
    of = contract(checks=(NO_FORBIDDEN, warning))
    house.produce(event(1), event(2, note="forbidden"), event(3, note=None), event(4, note="forbidden"))
    report = house.ingest(of)
    assert (report.inserted, report.quarantined) == (2, 2)
    outcomes = {outcome.check.name: outcome for outcome in report.checks}
    assert (outcomes["no_forbidden"].passed, outcomes["no_forbidden"].measured, outcomes["no_forbidden"].rows) == (False, 2, 4)
    assert (outcomes["note_given"].passed, outcomes["note_given"].measured) == (False, 1)
    assert house.ingest(of).checks == []


def test_a_skipped_row_check_lets_rows_in_and_is_recorded(house: House) -> None:
    house.produce(event(1, note="forbidden"))
    assert house.ingest(skip_checks=["no_forbidden"]).inserted == 1
    assert summary_of(house.table.current_snapshot())["sdp.skipped-checks"] == "no_forbidden"  # type: ignore[arg-type]


class TestAggregateCheck:
    """A batch refused as a whole."""

    @pytest.fixture
    def strict(self) -> Contract:
        return contract(checks=(NO_FORBIDDEN, UNIQUE_N))

    @pytest.fixture
    def blocked(self, house: House, strict: Contract) -> DrainReport:
        house.produce(event(1), event(2), event(3, note="forbidden"))
        assert house.ingest(strict).inserted == 2
        house.produce(event(7, key="a"), event(7, key="b"), b"{")
        return house.ingest(strict, run_id="r1")

    def test_it_is_kept_on_a_branch_and_nothing_moves(self, house: House, blocked: DrainReport) -> None:
        assert (blocked.stopped_by, blocked.inserted, blocked.error) == ("blocked", 0, None)
        assert [outcome.check.name for outcome in blocked.checks if not outcome.passed] == ["n_differs"]
        assert read_position(house.table) == {TOPIC: {"0": 3}} == blocked.position
        assert len(arrow_table(house.table)) == 2 and len(arrow_table(house.aside)) == 1
        ref = house.table.metadata.refs["refused/r1"]
        assert sorted(row["n"] for row in arrow_table(house.table, ref.snapshot_id).to_pylist()) == [1, 2, 7, 7]

    def test_it_is_tried_again_after_a_delay_that_doubles_up_to_an_hour(self, house: House, strict: Contract, blocked: DrainReport) -> None:
        assert blocked.blocked_until is not None
        assert timedelta(seconds=50) < blocked.blocked_until - datetime.now(UTC) <= timedelta(seconds=60)
        waits = house.ingest(strict)
        assert (waits.stopped_by, waits.blocked_until, waits.read) == ("blocked", blocked.blocked_until, 0)
        assert waits.blocked_by == ("n_differs",) == blocked.blocked_by
        assert waits.position == blocked.position
        seen = lag(strict, house.lakehouse, house.log)
        assert (seen.blocked_until, seen.events, seen.due) == (blocked.blocked_until, 3, False)
        past = blocked.blocked_until + timedelta(seconds=1)
        again = house.ingest(strict, run_id="r2", clock=lambda: past)
        assert again.blocked_until is not None and again.stopped_by == "blocked"
        snapshot = house.table.snapshot_by_id(house.table.metadata.refs["refused/r2"].snapshot_id)
        assert again.blocked_until - datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC) == timedelta(minutes=2)  # type: ignore[union-attr]
        assert [name for name in house.table.metadata.refs if name.startswith("refused/")] == ["refused/r2"]
        assert len(arrow_table(house.aside)) == 1
        assert [delay_after(attempt).total_seconds() / 60 for attempt in range(1, 10)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]

    def test_it_stands_when_the_history_it_was_refused_upon_has_expired(self, house: House, strict: Contract, blocked: DrainReport) -> None:
        regroup_manifests(house.lakehouse, strict.identifier, run_id="maintenance")
        expire_snapshots(house.lakehouse, strict.identifier, keep=1)
        refused = house.table.snapshot_by_id(house.table.metadata.refs["refused/r1"].snapshot_id)
        assert refused is not None and refused.parent_snapshot_id is None
        waits = house.ingest(strict)
        assert (waits.stopped_by, waits.blocked_until, waits.read) == ("blocked", blocked.blocked_until, 0)

    def test_it_goes_on_when_the_contract_is_mended(self, house: House, blocked: DrainReport) -> None:
        assert blocked.blocked_until
        report = house.ingest(contract(checks=(NO_FORBIDDEN,)))
        assert (report.inserted, report.quarantined, report.stopped_by) == (2, 1, "end")
        assert_exact(house.lakehouse, house.contract, house.records())

    def test_it_goes_on_when_the_check_is_skipped_which_is_recorded(self, house: House, strict: Contract, blocked: DrainReport) -> None:
        assert blocked.blocked_until
        report = house.ingest(strict, skip_checks=["n_differs"])
        assert (report.inserted, report.stopped_by) == (2, "end")
        assert summary_of(house.table.current_snapshot())["sdp.skipped-checks"] == "n_differs"  # type: ignore[arg-type]
        house.produce(event(8))
        assert house.ingest(strict).inserted == 1

    def test_a_warning_does_not_block(self, house: House) -> None:
        house.produce(event(7, key="a"), event(7, key="b"))
        report = house.ingest(contract(checks=(replace(UNIQUE_N, severity="warning"),)))
        assert report.inserted == 2 and not report.checks[0].passed

    def test_other_streams_go_on(self, house: House, strict: Contract) -> None:
        house.produce(event(7, key="a"), event(7, key="b"))
        house.produce(event(1), topic="test.other")
        other = replace(contract("test.other"), name="other")
        reports = drain_all([house.drain(strict), house.drain(other)], seconds=20, idle_seconds=0)
        assert (reports["test/clicks"].stopped_by, reports["test/other"].inserted) == ("blocked", 1)


# --- retention, sets of streams, stopping, lag


def test_events_lost_to_retention_stop_the_product_with_their_number(house: House) -> None:
    log = ScriptedLog()
    for n in range(10):
        log.add(TOPIC, event(n), at=NOW)
    house.ingest(log=log)
    for n in range(10, 30):
        log.add(TOPIC, event(n), at=NOW)
    log.starts[TOPIC, 0] = 17
    with pytest.raises(PlatformError) as caught:
        house.ingest(log=log)
    assert caught.value.code == "log-truncated"
    assert caught.value.message.startswith("test/clicks lost 7 events to the log's retention before they were read")
    assert lag(house.contract, house.lakehouse, log).lost == 7
    assert read_position(house.table) == {TOPIC: {"0": 10}}
    report = house.ingest(log=log, accept_loss=True)
    assert report.inserted == 13
    lost = [summary_of(snapshot)["sdp.lost"] for snapshot in ancestors(house.table) if "sdp.lost" in summary_of(snapshot)]
    assert lost == ['{"test.clicks":{"0":7}}']


def test_a_new_product_on_an_old_topic_begins_at_the_oldest_event(house: House) -> None:
    log = ScriptedLog()
    for n in range(10):
        log.add(TOPIC, event(n), at=NOW)
    log.starts[TOPIC, 0] = 4
    assert house.ingest(log=log).inserted == 6


def test_a_topic_made_anew_is_refused(house: House) -> None:
    house.produce(*(event(n) for n in range(5)))
    house.ingest()
    with pytest.raises(PlatformError) as caught:
        house.ingest(log=_shorter())
    assert caught.value.code == "log-rewound"
    assert "read topic test.clicks, partition 0 up to offset 5, but the log ends at 1" in caught.value.message


def test_another_log_of_the_same_topic_is_refused_before_an_event_is_passed_over(house: House, tmp_path: Path) -> None:
    house.produce(*(event(n) for n in range(5)))
    house.ingest()
    with LocalLog(tmp_path / "another") as another:
        another.append(TOPIC, [(None, event(n)) for n in range(100, 120)])
        with pytest.raises(PlatformError) as caught:
            house.ingest(log=another)
    assert caught.value.code == "log-replaced"
    assert caught.value.message.startswith("test/clicks has read another topic test.clicks so far")
    assert read_position(house.table) == {TOPIC: {"0": 5}}
    assert house.ingest().inserted == 0


def test_a_topic_made_anew_under_a_running_drain_gives_no_heartbeat(house: House) -> None:
    log = ScriptedLog()
    for n in range(5):
        log.add(TOPIC, event(n), at=NOW)
    drain = house.drain(contract(sla=Sla(latency=timedelta(microseconds=1))), log=log)
    drain.begin()
    drain.turn(gather=False)
    log.records[TOPIC, 0] = log.records[TOPIC, 0][:2]
    with pytest.raises(PlatformError) as caught:
        drain.turn(gather=False)
    assert caught.value.code == "log-rewound" and drain.report.commits == 1


def _shorter() -> ScriptedLog:
    log = ScriptedLog()
    log.add(TOPIC, event(1), at=NOW)
    return log


def test_a_set_of_drains_takes_turns_and_a_fault_ends_only_its_own(house: House) -> None:
    house.produce(*(event(n) for n in range(400)))
    for name in ("small", "torn"):
        house.produce(*(event(n) for n in range(10)), topic=f"test.{name}")
    order: list[str] = []
    small, torn = replace(contract("test.small"), name="small"), replace(contract("test.torn"), name="torn")
    house.ingest(torn)
    gone = ScriptedLog()
    gone.add("test.torn", b"", at=NOW)
    drains = [
        house.drain(on_commit=lambda commit: order.append(commit.product)),
        house.drain(torn, log=gone),
        house.drain(small, on_commit=lambda commit: order.append(commit.product)),
    ]
    reports = drain_all(drains, seconds=30, idle_seconds=0)
    assert order.index("test/small") == 1
    assert reports["test/clicks"].inserted == 400 and reports["test/small"].inserted == 10
    assert isinstance(reports["test/torn"].error, PlatformError) and reports["test/torn"].stopped_by == "error"


@pytest.mark.parametrize("by", ["sdp", "another client"])
def test_an_idle_drain_ends_when_the_table_is_rolled_back_under_it(house: House, by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform_resources.streams.ingestion.LOOK_SECONDS", 0.2)
    for n in range(2):
        house.produce(event(n))
        house.ingest()
    first = next(one for one in reversed(list(ancestors(house.table))) if "sdp.position" in summary_of(one))
    mine, reports, begun = House(house.settings, open_log(house.settings)), list[DrainReport](), threading.Event()
    house.produce(event(2))
    drain = mine.drain(on_commit=lambda _: begun.set())
    thread = threading.Thread(target=lambda: reports.append(drain.run(until=60)))
    thread.start()
    assert begun.wait(30)
    take_back(house, first.snapshot_id, by=by)
    thread.join(30)
    assert not thread.is_alive()
    assert (reports[0].stopped_by, reports[0].superseded, reports[0].error) == ("superseded", True, None)
    house.ingest()
    assert len(found_in(house.lakehouse, house.contract).main) == 3


def test_a_trickle_is_gathered_and_a_stop_commits_what_was_read(house: House) -> None:
    commits: list[DrainCommit] = []
    stop, reports = threading.Event(), list[DrainReport]()
    mine = House(house.settings, open_log(house.settings))
    thread = threading.Thread(target=lambda: reports.append(mine.drain(on_commit=commits.append, linger=5.0).run(until=30, stop=stop)))
    thread.start()
    for n in range(12):
        house.produce(event(n))
        time.sleep(0.1)
    stop.set()
    thread.join(10)
    assert not thread.is_alive() and reports[0].stopped_by == "stop"
    assert sum(commit.counts["inserted"] for commit in commits) == reports[0].inserted
    assert reports[0].inserted >= 10 and len(commits) <= 2
    house.ingest()
    assert_exact(house.lakehouse, house.contract, house.records())


def test_a_drain_lives_no_longer_than_it_was_given(house: House) -> None:
    house.produce(event(1))
    began = time.monotonic()
    report = house.ingest(until=0.8)
    assert 0.7 <= time.monotonic() - began < 3
    assert (report.stopped_by, report.inserted) == ("time", 1)


def test_only_what_the_log_had_at_the_start_is_read_until_the_end(house: House) -> None:
    house.produce(*(event(n) for n in range(50)))
    more: Callable[[DrainCommit], None] = lambda _: house.produce(event(random.random()))  # noqa: E731
    assert house.ingest(on_commit=more).read == 50
    assert house.ingest().read >= 1


def test_lag_counts_what_is_unread_without_writing(house: House) -> None:
    house.produce(event(1), event(2))
    assert lag(house.contract, house.lakehouse, house.log).events == 2
    assert house.lakehouse.table(house.contract.identifier) is None
    house.ingest()
    house.produce(event(3))
    seen = lag(house.contract, house.lakehouse, house.log)
    assert (seen.events, seen.position, seen.ends, seen.lost, seen.due) == (1, {TOPIC: {"0": 2}}, {TOPIC: {"0": 3}}, 0, True)
    house.ingest()
    now = datetime.now(UTC)
    assert not lag(house.contract, house.lakehouse, house.log, now=now).due
    assert lag(house.contract, house.lakehouse, house.log, now=now + timedelta(seconds=31)).heartbeat_due
    assert seen.watermark == datetime(2026, 1, 1, tzinfo=UTC) and (seen.seconds or 0) > 0


def test_a_product_that_is_no_stream_cannot_be_drained(house: House) -> None:
    with pytest.raises(PlatformError) as caught:
        house.drain(replace(house.contract, source=None))
    assert caught.value.code == "not-a-stream"


# --- transactions and producers' clocks on Kafka


@pytest.fixture
def transact(kafka: str, topic: str) -> Iterator[Callable[..., Callable[[], None]]]:
    """Produce in a transaction; what comes back commits it, or aborts it with `good=False`."""
    producers: list[Producer] = []

    def produce(*values: bytes, good: bool = True) -> Callable[[], None]:
        producers.append(Producer({"bootstrap.servers": kafka, "transactional.id": f"{topic}-{len(producers)}"}))
        producers[-1].init_transactions(20)
        producers[-1].begin_transaction()
        for value in values:
            producers[-1].produce(topic, value, partition=0)
        producers[-1].flush(20)
        return producers[-1].commit_transaction if good else producers[-1].abort_transaction

    yield produce
    producers.clear()


def test_a_log_that_ends_in_a_hole_is_read_to_its_end(kafka_house: House, transact: Callable[..., Callable[[], None]]) -> None:
    house = kafka_house
    house.log.create_topic(house.topic)
    transact(event(1), event(2))()
    report = house.ingest(until="idle")
    assert (report.inserted, report.commits, report.position) == (2, 1, {house.topic: {"0": 3}})  # past the marker, in the same commit
    transact(event(3), event(4), good=False)()
    assert lag(house.contract, house.lakehouse, house.log).due
    report = house.ingest(until="idle")
    assert (report.read, report.commits, report.position) == (0, 1, {house.topic: {"0": 6}})  # nothing but a hole
    assert read_position(house.table) == {house.topic: {"0": 6}}
    assert not lag(house.contract, house.lakehouse, house.log).due
    assert house.ingest(until="idle").commits == 0
    house.produce(event(5))
    assert house.ingest(until="idle").inserted == 1


def test_a_transaction_that_is_open_is_not_there_yet(kafka_house: House, transact: Callable[..., Callable[[], None]]) -> None:
    house = kafka_house
    house.log.create_topic(house.topic)
    house.produce(event(1))
    commit = transact(event(2), event(3))
    house.produce(event(4))
    report = house.ingest(until="idle")
    assert (report.inserted, report.position) == (1, {house.topic: {"0": 1}})
    assert lag(house.contract, house.lakehouse, house.log).events == 0
    commit()
    report = house.ingest(until="idle")
    assert (report.inserted, report.position) == (3, {house.topic: {"0": 5}})
    assert sorted(found_in(house.lakehouse, house.contract).main.values()) == [1, 2, 3, 4]


def test_holes_inside_and_a_goal_before_them_lose_nothing(kafka_house: House, transact: Callable[..., Callable[[], None]]) -> None:
    house = kafka_house
    house.log.create_topic(house.topic)
    house.produce(event(1))
    transact(event(2), good=False)()
    house.produce(event(3))
    drain = house.drain()
    drain._goal = {(house.topic, 0): 2}  # inside the hole
    drain_all([drain], seconds=20, idle_seconds=0)
    assert (drain.report.stopped_by, drain.report.inserted, drain.report.position) == ("idle", 1, {house.topic: {"0": 2}})
    assert house.ingest(until="idle").inserted == 1
    assert sorted(found_in(house.lakehouse, house.contract).main.values()) == [1, 3]


def test_producers_clocks_can_neither_stop_a_drain_nor_reach_into_the_future(kafka_house: House) -> None:
    house, admin = kafka_house, AdminClient({"bootstrap.servers": kafka_house.log.bootstrap})  # type: ignore[attr-defined]
    config = {"message.timestamp.type": "CreateTime", "message.timestamp.after.max.ms": str(2**63 - 1)}
    admin.create_topics([NewTopic(house.topic, 1, config=config)])[house.topic].result(20)
    producer, before = Producer({"bootstrap.servers": house.log.bootstrap}), datetime.now(UTC)  # type: ignore[attr-defined]
    claims = (1_000_000, 253_402_300_800_000 * 30, 2_000_000, 1_600_000_000_000)  # 1970, the year 240,000, 1970, 2020
    for n, claim in enumerate(claims):
        producer.produce(house.topic, event(n), partition=0, timestamp=claim)
    producer.flush(20)
    assert house.ingest(until="idle", settings=house.settings.model_copy(update={"batch_events": 2})).inserted == 4
    times = [row["_log_time"] for row in sorted(arrow_table(house.table).to_pylist(), key=lambda row: row["_offset"])]
    assert times[0] == datetime(1970, 1, 1, 0, 16, 40, tzinfo=UTC)
    assert before - timedelta(seconds=1) <= times[1] == times[2] == times[3] <= datetime.now(UTC)
