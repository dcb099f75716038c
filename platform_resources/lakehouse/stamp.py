"""The stamp of a write: what a snapshot summary says of the run, the position and the watermark, and how it is read back.

Names of the summary properties live only here. They are read from the nearest ancestor of a ref that carries them, so a rollback
rewinds them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import dropwhile
from typing import Any, TypeAlias

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Snapshot

Position: TypeAlias = Mapping[str, Any]

RUN_ID = "sdp.run-id"
CODE_VERSION = "sdp.code-version"
CONTRACT_VERSION = "sdp.contract-version"
PARTITION = "sdp.partition"
POSITION = "sdp.position"
WATERMARK = "sdp.watermark"
COUNTS = "sdp.counts"
EPOCH = "sdp.epoch"
MERGED = "sdp.merge"  # what a merge left out of its batch: {"duplicates", "ignored"}
LAST_CHANGE = "sdp.last-change"  # id of the snapshot that last changed a row: the way there may expire under a thousand heartbeats
ROLLED_BACK_FROM = "sdp.rolled-back-from"  # id of the former head, on the snapshot that took main back
ROLLED_BACK_TO = "sdp.rolled-back-to"
EVENT_TIMES = "sdp.event-times"
TOPIC_IDS = "sdp.topic-ids"
REFUSED_DELIVERIES = "sdp.refused-deliveries"  # of a landed product's quarantine: which deliveries were refused whole, and how often
SETTLED = "settled"  # key of a landed product's position: the file below the table's location that has all names but the last
LANDED_AT = "sdp.landed-at"  # when the rows of the write with the position were landed

EXPIRED_RUNS = "sdp.expired-runs"  # table property; history that expired is part of main whatever is rolled back, so it needs no snapshot
_MOST_RUNS = 1_000

# What is read from the nearest ancestor that carries it: expiry keeps the way there.
CARRIED = (POSITION, WATERMARK, EPOCH, CODE_VERSION, EVENT_TIMES, TOPIC_IDS, REFUSED_DELIVERIES, LANDED_AT)


def format_instant(instant: datetime) -> str:
    """ISO-8601 with `Z`, microseconds only where there are any. A naive time is refused.

    Raises:
        ValueError: the datetime has no zone.
    """
    if instant.tzinfo is None:
        raise ValueError(f"the time {instant!r} has no zone")
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def parse_instant(text: str) -> datetime:
    """The inverse of `format_instant`."""
    return datetime.fromisoformat(text).astimezone(UTC)


def compact_json(value: Any) -> str:
    """JSON as it stands in summaries: sorted, no spaces, so that equal values are equal texts."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True)
class Stamp:
    """What one write says of itself in its snapshot summary.

    `position` is `{"<topic>": {"<partition>": next_offset}}` for a stream, `{"<domain/product>": snapshot_id}` for a derived
    product; `counts` has read, inserted, duplicates, quarantined, late, skewed as far as they apply; `extra` goes in verbatim.
    """

    run_id: str
    code_version: str | None = None
    contract_version: str | None = None
    partition: str | None = None
    position: Position | None = None
    watermark: datetime | None = None
    counts: Mapping[str, int] | None = None
    epoch: int | None = None
    extra: Mapping[str, str] = field(default_factory=dict)

    def summary(self) -> dict[str, str]:
        """The snapshot properties, all named `sdp.*` (and `extra` verbatim)."""
        values = {
            RUN_ID: self.run_id,
            CODE_VERSION: self.code_version,
            CONTRACT_VERSION: self.contract_version,
            PARTITION: self.partition,
            POSITION: None if self.position is None else compact_json(_plain(self.position)),
            WATERMARK: None if self.watermark is None else format_instant(self.watermark),
            COUNTS: None if self.counts is None else compact_json(dict(self.counts)),
            EPOCH: None if self.epoch is None else str(self.epoch),
        }
        return {**self.extra, **{name: value for name, value in values.items() if value is not None}}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return value


def same_position(one: Position | None, other: Position | None) -> bool:
    """Whether two positions say the same, whatever types their mappings and keys have."""
    return compact_json(_plain(one)) == compact_json(_plain(other))


def ancestors(table: Table, ref: str = "main") -> Iterator[Snapshot]:
    """The snapshots of a ref, newest first, as far back as they are known."""
    by_id = {snapshot.snapshot_id: snapshot for snapshot in table.metadata.snapshots}
    reference = table.metadata.refs.get(ref)
    snapshot = by_id.get(reference.snapshot_id) if reference else None
    while snapshot is not None:
        yield snapshot
        snapshot = by_id.get(snapshot.parent_snapshot_id) if snapshot.parent_snapshot_id is not None else None


def lineage(parents: Mapping[int, int | None], snapshot_id: int | None) -> Iterator[int]:
    """A snapshot id and those it descends from, as far back as `parents` (id to parent's id) knows."""
    while snapshot_id is not None and snapshot_id in parents:
        yield snapshot_id
        snapshot_id = parents[snapshot_id]


def summary_of(snapshot: Snapshot) -> Mapping[str, str]:
    """The summary's properties without the operation, {} when there is none."""
    return snapshot.summary.additional_properties if snapshot.summary else {}


def read_stamp(table: Table, name: str, ref: str = "main") -> tuple[str | None, int | None]:
    """The text of one summary property at the nearest ancestor of `ref` that carries it, and that snapshot's id."""
    for snapshot in ancestors(table, ref):
        if (value := summary_of(snapshot).get(name)) is not None:
            return value, snapshot.snapshot_id
    return None, None


def read_position_at(table: Table, ref: str = "main") -> tuple[Position | None, int | None]:
    """`sdp.position` and the snapshot that carries it."""
    text, snapshot_id = read_stamp(table, POSITION, ref)
    return (None if text is None else json.loads(text)), snapshot_id


def settled_files(table: Table) -> set[str]:
    """Locations of the files that positions of the table's snapshots name, whatever branch those are on."""
    found = set[str]()
    for snapshot in table.metadata.snapshots:
        text = summary_of(snapshot).get(POSITION, "")
        name = json.loads(text).get(SETTLED) if f'"{SETTLED}"' in text else None
        if isinstance(name, str):  # a topic may be called so
            found.add(f"{table.location().rstrip('/')}/{name}")
    return found


def read_watermark_at(table: Table, ref: str = "main") -> tuple[datetime | None, int | None]:
    """`sdp.watermark` and the snapshot that carries it."""
    text, snapshot_id = read_stamp(table, WATERMARK, ref)
    return (None if text is None else parse_instant(text)), snapshot_id


def read_epoch_at(table: Table, ref: str = "main") -> tuple[int | None, int | None]:
    """`sdp.epoch` and the snapshot that carries it."""
    text, snapshot_id = read_stamp(table, EPOCH, ref)
    return (None if text is None else int(text)), snapshot_id


def read_position(table: Table, ref: str = "main") -> Position | None:
    """`sdp.position` of the nearest ancestor of `ref` that carries one."""
    return read_position_at(table, ref)[0]


def read_watermark(table: Table, ref: str = "main") -> datetime | None:
    """`sdp.watermark` of the nearest ancestor of `ref` that carries one."""
    return read_watermark_at(table, ref)[0]


def read_epoch(table: Table, ref: str = "main") -> int | None:
    """`sdp.epoch` of the nearest ancestor of `ref` that carries one."""
    return read_epoch_at(table, ref)[0]


def changes_rows(snapshot: Snapshot) -> bool:
    """Whether a snapshot added or removed a row; compaction and heartbeats do not."""
    if snapshot.summary is None or snapshot.summary.operation == Operation.REPLACE:
        return False
    summary = summary_of(snapshot)
    return any(int(summary.get(name, 0)) for name in ("added-data-files", "deleted-data-files", "added-delete-files"))


def last_change(table: Table, at: int | None = None) -> int | None:
    """The snapshot that last added or removed a row, up to the snapshot `at` (default: the head of main); None when it is not known."""
    for snapshot in dropwhile(lambda one: at is not None and one.snapshot_id != at, ancestors(table)):
        if changes_rows(snapshot):
            return snapshot.snapshot_id
        if (told := summary_of(snapshot).get(LAST_CHANGE)) is not None:
            return int(told)
    return None


def highest_epoch(table: Table) -> int:
    """The highest epoch any known snapshot carries, 0 for none.

    Not only ancestors count: after a rollback a drain whose snapshots were rolled away may be alive, and must not meet its own epoch
    again.
    """
    return max((int(summary_of(snapshot).get(EPOCH, 0)) for snapshot in table.metadata.snapshots), default=0)


def committed_snapshot(table: Table, run_id: str, partition: str | None = None) -> Snapshot | None:
    """The newest ancestor of main that this run (and, when given, this partition) wrote: a retry's look for its own stamp."""
    for snapshot in ancestors(table):
        summary = summary_of(snapshot)
        if summary.get(RUN_ID) == run_id and partition in (None, summary.get(PARTITION)):
            return snapshot
    return None


def has_committed(table: Table, run_id: str, partition: str | None = None) -> bool:
    """Whether this run (and, when given, this partition) is in main's history, its expired part included: a retry then writes nothing."""
    if committed_snapshot(table, run_id, partition) is not None:
        return True
    oldest = min((snapshot.sequence_number or 0 for snapshot in ancestors(table)), default=0)
    return _expired_runs(table).get(_short(run_id, partition), oldest) < oldest  # else main was taken back to before it, by whatever client


def remember_runs(table: Table, expiring: Iterable[Snapshot]) -> str:
    """The value of the table property `EXPIRED_RUNS` once these snapshots of main have gone, the newest runs last.

    Only runs that no fence keeps from writing twice are remembered: those without a position or an epoch. 22 bytes each, 1,000 of them.
    """
    found = _expired_runs(table)
    for snapshot in expiring:
        summary = summary_of(snapshot)
        replaced = snapshot.summary is not None and snapshot.summary.operation == Operation.REPLACE
        if RUN_ID in summary and not replaced and not {POSITION, EPOCH} & summary.keys():
            found[_short(summary[RUN_ID], summary.get(PARTITION))] = snapshot.sequence_number or 0
    newest = sorted(found.items(), key=lambda one: one[1])[-_MOST_RUNS:]
    return " ".join(f"{run}@{number}" for run, number in newest)


def _expired_runs(table: Table) -> dict[str, int]:
    """Sequence numbers of expired snapshots, by what they are remembered as."""
    told = (text.partition("@") for text in table.metadata.properties.get(EXPIRED_RUNS, "").split())
    return {run: int(number) for run, _, number in told}


def _short(run_id: str, partition: str | None) -> str:
    return hashlib.sha256(f"{run_id}\0{partition or ''}".encode()).hexdigest()[:16]
