"""What the tests of ingestion share: a stream's contract, events of every kind, a log with times one may choose, and the oracle.

The oracle is plain Python over the records as they lie in the log. It knows neither Arrow nor Iceberg nor batches.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pyiceberg.types import LongType, NestedField, StringType, StructType, TimestamptzType

from platform_resources.config import SOURCE_ROOT, Settings
from platform_resources.contracts.model import Check, Column, Contract, Sla, SourceSpec
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.reading import arrow_table
from platform_resources.lakehouse.stamp import COUNTS, ancestors, summary_of
from platform_resources.streams.ingestion import Drain
from platform_resources.streams.log import EventLog, LogRecord, log_truncated
from platform_resources.streams.quarantine import CONFLICT

WORKER = Path(__file__).with_name("drain_worker.py")
SKEW = timedelta(minutes=10)
NO_FORBIDDEN = Check("no_forbidden", "invalidValues", column="note", arguments={"validValues": ["fine", "other"]}, scope="commit")
UNIQUE_N = Check("n_differs", "duplicateValues", column="n", columns=("n",), scope="commit")


def contract(topic: str = "test.clicks", *, wide: bool = False, checks: Sequence[Check] = (NO_FORBIDDEN,), **changes: Any) -> Contract:
    """A small stream. `wide` adds an optional column `more`, without which an event that has one is refused."""
    moment = Column("dt", TimestamptzType(), logical_type="timestamp")
    meta = Column(
        "meta",
        StructType(NestedField(11, "id", StringType(), required=False), NestedField(12, "dt", TimestamptzType(), required=False)),
        logical_type="object",
        fields=(Column("id", StringType()), moment),
    )
    columns = [meta, Column("n", LongType(), required=True, logical_type="integer"), Column("note", StringType())]
    if wide:
        columns.append(Column("more", StringType()))
    return replace(
        Contract(
            domain="test",
            name="clicks",
            path=Path("data_products/test/clicks.yaml"),
            version="2.0.0" if wide else "1.0.0",
            status="active",
            title="Clicks",
            columns=tuple(columns),
            source=SourceSpec("stream", stream=topic, topics=(topic,)),
            write_mode="append",
            checks=tuple(checks),
            sla=Sla(latency=timedelta(seconds=60)),
        ),
        **changes,
    )


def event(n: object, *, key: str | None = "", dt: datetime | None = None, note: str | None = "fine", **more: Any) -> bytes:
    """One event; by default its deduplication key is derived from `n`."""
    meta = {"id": f"id-{n}" if key == "" else key, "dt": (dt or datetime(2026, 1, 1, tzinfo=UTC)).isoformat()}
    return json.dumps({"meta": {k: v for k, v in meta.items() if v is not None}, "n": n, "note": note, **more}).encode()


def assorted(rng: random.Random, count: int, *, start: datetime | None = None, first: int = 0) -> list[bytes]:
    """Events of every kind, numbered from `first`: most are good; some come twice, contradict, cannot be decoded, fail a check, come late
    or from the future."""
    at, out, good = start or datetime.now(UTC) - timedelta(minutes=5), list[tuple[int, datetime]](), list[bytes]()
    for n in range(first, first + count):
        at += timedelta(milliseconds=rng.randrange(2000))
        kind = rng.choices(
            ("good", "twice", "conflict", "torn", "mistyped", "missing", "more", "forbidden", "unkeyed", "late", "future"),
            (60, 8, 4, 4, 3, 3, 5, 5, 3, 3, 2),
        )[0]
        if kind in ("twice", "conflict") and not out:
            kind = "good"
        if kind == "good":
            good.append(event(n, dt=at))
            out.append((n, at))
        elif kind == "twice":
            old, when = rng.choice(out)
            # the same event in other words: order of fields and spelling of the time do not make it another
            text = json.dumps({"note": "fine", "n": old, "meta": {"dt": when.isoformat().replace("+00:00", "Z"), "id": f"id-{old}"}})
            good.append(text.encode())
        elif kind == "conflict":
            old, when = rng.choice(out)
            good.append(event(old, dt=when, note="other"))
        else:
            good.append(
                {
                    "torn": b'{"meta": {"id": "x"',
                    "mistyped": event(f"word {n}", dt=at),
                    "missing": b'{"note": "fine"}',
                    "more": event(n, dt=at, more="undeclared"),
                    "forbidden": event(n, dt=at, note="forbidden"),
                    "unkeyed": event(n, key=None, dt=at),
                    "late": event(n, dt=at - timedelta(hours=1)),
                    "future": event(n, dt=at + timedelta(hours=3)),
                }[kind]
            )
    return good


# --- the oracle

Place = tuple[str, int, int]


@dataclass
class Truth:
    """What must become of each record, by its place in the log."""

    main: dict[Place, int] = field(default_factory=dict)
    quarantine: dict[Place, str] = field(default_factory=dict)
    duplicates: set[Place] = field(default_factory=set)
    late: int = 0
    skewed: int = 0

    @property
    def counts(self) -> dict[str, int]:
        read = len(self.main) + len(self.quarantine) + len(self.duplicates)
        return {
            "read": read,
            "inserted": len(self.main),
            "duplicates": len(self.duplicates),
            "quarantined": len(self.quarantine),
            "late": self.late,
            "skewed": self.skewed,
        }


def oracle(records: Iterable[LogRecord], of: Contract | None = None) -> Truth:
    """The truth about records in log order, for contracts of `contract()`; lateness only means something with one partition."""
    of, truth = of or contract(), Truth()
    known: dict[str, tuple[dict[str, Any], datetime]] = {}
    watermark: datetime | None = None
    for record in records:
        place = (record.topic, record.partition, record.offset)
        row = _row(record.value, of)
        if row is None:
            truth.quarantine[place] = "undecodable"
        elif any(check.name == "no_forbidden" for check in of.checks) and row["note"] not in (None, "fine", "other"):
            truth.quarantine[place] = "check:no_forbidden"
        elif row["id"] in known and known[row["id"]][1] >= record.time - of.dedupe_window:
            if known[row["id"]][0] == row:
                truth.duplicates.add(place)
            else:
                truth.quarantine[place] = CONFLICT
        else:
            truth.main[place] = row["n"]
            if row["id"] is not None:
                known[row["id"]] = (row, record.time)
            if row["dt"] is not None and row["dt"] > record.time + SKEW:
                truth.skewed += 1
            elif row["dt"] is not None:
                truth.late += watermark is not None and row["dt"] < watermark
                watermark = max(watermark or row["dt"] - of.watermark_delay, row["dt"] - of.watermark_delay)
    return truth


def _row(value: bytes | None, of: Contract) -> dict[str, Any] | None:
    try:
        found = json.loads(value or b"")
    except ValueError:
        return None
    allowed = {column.name for column in of.columns}
    if not isinstance(found, dict) or set(found) - allowed or not isinstance(found.get("n"), int):
        return None
    meta = found.get("meta", {})
    dt = datetime.fromisoformat(meta["dt"]) if "dt" in meta else None
    return {"id": meta.get("id"), "dt": dt, "n": found["n"], "note": found.get("note"), "more": found.get("more")}


def records_of(log: EventLog, topic: str) -> list[LogRecord]:
    """Everything the log has of a topic."""
    positions, ends = {(topic, n): at for n, at in log.start_offsets(topic).items()}, log.end_offsets(topic)
    out: list[LogRecord] = []
    while any(positions[topic, number] < end for number, end in ends.items()):
        for record in log.read(positions, max_events=10_000, timeout=5):
            positions[record.topic, record.partition] = record.offset + 1
            out.append(record)
    return out


@dataclass
class Found:
    """What the tables hold."""

    main: dict[Place, int]
    quarantine: dict[Place, str]
    counts: dict[str, int]


def found_in(lakehouse: Lakehouse, of: Contract) -> Found:
    """Rows of both tables by place, and the sum of the counts in all stamps. A place held twice is an error at once."""
    main, aside = _rows(lakehouse, of.identifier, "n"), _rows(lakehouse, of.quarantine_identifier, "reason")
    kinds = {place: reason if reason == CONFLICT or reason.startswith("check:") else "undecodable" for place, reason in aside.items()}
    return Found(main, kinds, counts_in(lakehouse, of))


def counts_in(lakehouse: Lakehouse, of: Contract) -> dict[str, int]:
    table = lakehouse.table(of.identifier)
    assert table is not None
    total: dict[str, int] = {}
    for snapshot in ancestors(table):
        counts = json.loads(summary_of(snapshot).get(COUNTS, "{}"))
        assert counts.get("read", 0) == counts.get("inserted", 0) + counts.get("duplicates", 0) + counts.get("quarantined", 0)
        for name, count in counts.items():
            total[name] = total.get(name, 0) + count
    return total


def _rows(lakehouse: Lakehouse, identifier: str, value: str) -> dict[Place, Any]:
    table = lakehouse.table(identifier)
    if table is None:
        return {}
    rows = arrow_table(table).select(["_topic", "_partition", "_offset", value]).to_pylist()
    out = {(row["_topic"], row["_partition"], row["_offset"]): row[value] for row in rows}
    assert len(out) == len(rows), f"{identifier} holds an event twice"
    return out


def assert_exact(lakehouse: Lakehouse, of: Contract, records: Sequence[LogRecord], *, lateness: bool = False) -> Truth:
    """Every record is where the oracle says, once; the stamps count the same, as long as none of them has expired."""
    truth, found = oracle(records, of), found_in(lakehouse, of)
    assert found.main == truth.main
    assert found.quarantine == truth.quarantine
    if not _begins_at_its_beginning(lakehouse, of):
        return truth
    names = ("read", "inserted", "duplicates", "quarantined", *(("late", "skewed") if lateness else ()))
    assert {name: found.counts.get(name, 0) for name in names} == {name: truth.counts[name] for name in names}
    return truth


def _begins_at_its_beginning(lakehouse: Lakehouse, of: Contract) -> bool:
    """Whether main's history is whole: after a hundred commits snapshots expire, and their counts with them."""
    table = lakehouse.table(of.identifier)
    return table is not None and [one.sequence_number for one in ancestors(table)][-1] == 1


# --- a log whose times and retention a test chooses


class ScriptedLog:
    """An event log in memory. Only for what no real log lets a test choose: append times and retention."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, int], list[LogRecord]] = {}
        self.starts: dict[tuple[str, int], int] = {}

    def add(self, topic: str, value: bytes | None, *, at: datetime, partition: int = 0) -> None:
        here = self.records.setdefault((topic, partition), [])
        here.append(LogRecord(topic, partition, len(here), at, None, value))

    def create_topic(self, topic: str, partitions: int = 1) -> None:
        for number in range(partitions):
            self.records.setdefault((topic, number), [])

    def topics(self) -> list[str]:
        return sorted({topic for topic, _ in self.records})

    def partitions(self, topic: str) -> list[int]:
        return sorted(number for name, number in self.records if name == topic)

    def append(self, topic: str, events: Sequence[tuple[bytes | None, bytes]]) -> None:
        for _, value in events:
            self.add(topic, value, at=datetime.now(UTC))

    def topic_id(self, topic: str) -> str | None:
        return None

    def start_offsets(self, topic: str) -> dict[int, int]:
        return {number: self.starts.get((topic, number), 0) for number in self.partitions(topic)}

    def end_offsets(self, topic: str) -> dict[int, int]:
        return {number: len(self.records[topic, number]) for number in self.partitions(topic)}

    def skipped(self) -> Mapping[tuple[str, int], int]:
        return {}

    def read(
        self, positions: Mapping[tuple[str, int], int], *, max_events: int, timeout: float, max_bytes: int | None = None
    ) -> list[LogRecord]:
        out: list[LogRecord] = []
        share = max(1, max_events // max(1, len(positions)))
        for (topic, number), at in positions.items():
            start, here = self.starts.get((topic, number), 0), self.records.get((topic, number), [])
            if at < start or at > len(here):
                raise log_truncated(topic, number, at, start, len(here))
            out += here[at : at + share]
        return out[:max_events]

    def close(self) -> None:
        pass


# --- drains in processes of their own


def worker(settings: Settings, *arguments: str, topic: str = "test.clicks", failpoints: str = "", **env: str) -> subprocess.Popen[str]:
    """A drain in a process of its own, which may die; see drain_worker.py for the arguments."""
    environment = {
        **os.environ,
        **{f"SDP_{name.upper()}": str(value) for name, value in settings.model_dump(exclude_none=True).items()},
        **env,
        "SDP_FAILPOINTS": failpoints,
        "PYTHONPATH": str(SOURCE_ROOT),
    }
    return subprocess.Popen(
        [sys.executable, str(WORKER), topic, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def drained(settings: Settings, log: EventLog, of: Contract) -> None:
    """A clean drain to the log's end."""
    report = Drain(of, lakehouse=Lakehouse(settings), log=log, run_id=run_id(), settings=settings).run(until="end")
    assert report.stopped_by == "end" and not report.superseded


def kill_and_recover(settings: Settings, log: EventLog, topic: str, failpoint: str, *, seed: int = 1, must_die: bool = True) -> None:
    """A clean drain, one that is killed with SIGKILL at a failpoint, a clean one: nothing lost, nothing doubled, nothing repaired."""
    events, of = assorted(random.Random(seed), 100), contract(topic)
    log.append(topic, [(None, value) for value in events[:40]])
    drained(settings, log, of)
    log.append(topic, [(None, value) for value in events[40:]])
    killed = worker(settings, topic=topic, failpoints=failpoint)
    output, errors = killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL if must_die else killed.returncode in (0, -signal.SIGKILL), output + errors
    drained(settings, log, of)
    assert_exact(Lakehouse(settings), of, records_of(log, topic), lateness=True)


def run_id() -> str:
    return uuid.uuid4().hex[:8]
