"""Snapshot expiry: which snapshots may go, and deleting the files that only they reach; also who reads a table from where it left off.

What it must never take: what a branch or tag shows, the carrier of a stamp (a position), what a registered reader has not read yet. Files
are deleted after the commit that removes their snapshots, so a crash in between leaves orphans, never a table that misses a file.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pyiceberg.exceptions import BadRequestError, CommitFailedException, NoSuchTableError
from pyiceberg.manifest import ManifestEntryStatus, ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import AssertTableUUID, RemoveSnapshotsUpdate, SetPropertiesUpdate

from platform_resources.failpoints import failpoint
from platform_resources.lakehouse.catalog import AssertProperty, AssertSnapshotKnown, AssertUnreferenced, Lakehouse
from platform_resources.lakehouse.file_io import delete_files
from platform_resources.lakehouse.stamp import CARRIED, EPOCH, EXPIRED_RUNS, ancestors, lineage, read_position, remember_runs, summary_of

READERS = "sdp.readers"
PATIENCE = timedelta(days=7)
KEEP_PROPERTY = "history.expire.min-snapshots-to-keep"  # Iceberg's own name
KEEP = 50
_EVERY = 25  # commits between two looks: the count stays at or under KEEP + 2 * _EVERY
READING_TIME = timedelta(minutes=10)
_MOST_FOR_READING = 500
_MOST_IN_PASSING = 4 * _EVERY  # a writer waits for it; what a slow reader has held back goes in several of its commits
_REPLACED = ("deleted-data-files", "removed-delete-files")
_ATTEMPTS = 10


@dataclass(frozen=True)
class Expired:
    """What an expiry removed: snapshots, files (data, deletes, manifests, manifest lists), and bytes as far as manifests tell them."""

    snapshots: int = 0
    files: int = 0
    bytes: int = 0


def register_reader(lakehouse: Lakehouse, input_identifier: str, reader_identifier: str, *, now: datetime | None = None) -> None:
    """Let expiry of one table wait for another that is about to read it. Configuration only: no snapshot.

    Where the reader's own stamp does not tell expiry what to keep (it has read nothing yet, or what it read has expired), the head is
    written beside its name: a first computation may take longer than snapshots are kept, and would never be a point to go on from.

    Args:
        lakehouse: where both are.
        input_identifier: the table read, `domain.product`; one that does not exist yet is registered with by a later run.
        reader_identifier: the table made from it.
        now: the wall clock, for the patience with readers.
    """
    for _ in range(_ATTEMPTS):
        table = lakehouse.table(input_identifier)
        if table is None:
            return
        known, head = _registered(table), table.metadata.current_snapshot_id
        stands = _since(list(ancestors(table)), _read_by(lakehouse, table, reader_identifier), now or datetime.now(UTC))
        begun = known.get(reader_identifier) if stands else head
        if known.get(reader_identifier, _NOBODY) == begun:
            return
        update, same = _registering(table, known | {reader_identifier: begun})
        required = (AssertTableUUID(uuid=table.metadata.table_uuid), same)
        with suppress(CommitFailedException, NoSuchTableError):
            lakehouse.commit_updates(table, (update,), required if begun is None else (*required, AssertSnapshotKnown(snapshot_id=begun)))


def without_readers(table: Table, readers: Collection[str]) -> tuple[SetPropertiesUpdate, AssertProperty]:
    """The update after which some readers are no longer waited for, and what it requires: that no other has registered meanwhile."""
    return _registering(table, {name: begun for name, begun in _registered(table).items() if name not in readers})


_NOBODY = -1


def _registered(table: Table) -> dict[str, int | None]:
    """Readers by identifier, each with the snapshot at which it began to read; as text `shop.report@4711 shop.other`."""
    parts = (text.partition("@") for text in table.metadata.properties.get(READERS, "").split())
    return {name: int(begun) if begun else None for name, _, begun in parts}


def _registering(table: Table, readers: Mapping[str, int | None]) -> tuple[SetPropertiesUpdate, AssertProperty]:
    text = " ".join(name if begun is None else f"{name}@{begun}" for name, begun in sorted(readers.items()))
    same = AssertProperty(name=READERS, value=table.metadata.properties.get(READERS))
    return SetPropertiesUpdate(updates={READERS: text}), same


def readers_of(table: Table) -> tuple[str, ...]:
    """Identifiers of the tables registered as made from this one."""
    return tuple(_registered(table))


def stands_at(lakehouse: Lakehouse, table: Table, reader: str) -> int | None:
    """The snapshot of main that a registered reader goes on from: its own stamp's, else the one at which it began; None for neither."""
    main = {one.snapshot_id for one in ancestors(table)}
    places = (_read_by(lakehouse, table, reader), _registered(table).get(reader))
    return next((one for one in places if one in main), None)


def kept_by(
    lakehouse: Lakehouse, table: Table, *, keep: int = KEEP, older_than: datetime | None = None, now: datetime | None = None
) -> dict[int, list[str]]:
    """Why each snapshot that may not go is kept, by id: `newest`, `younger`, `branch main`, `tag NAME`, `position`, `reader NAME` ...

    `keep` counts the newest of all snapshots; `older_than` keeps those that are younger as well.
    """
    reasons: dict[int, list[str]] = {}

    def note(snapshots: Iterable[Snapshot], why: str) -> None:
        for snapshot in snapshots:
            reasons.setdefault(snapshot.snapshot_id, []).append(why)

    newest_first = sorted(table.metadata.snapshots, key=lambda one: one.sequence_number or 0, reverse=True)
    note(newest_first[:keep], "newest")
    if older_than is not None:
        bound = _milliseconds(older_than)
        note((one for one in newest_first if one.timestamp_ms >= bound), "younger")
    for name, ref in table.metadata.refs.items():
        line = list(ancestors(table, name))
        note(line[:1], f"{ref.snapshot_ref_type.value} {name}")
        note(line[1 : _last_carrier(line) + 1], f"stamps of {name}")
    note(_of_highest_epoch(newest_first), "highest epoch")
    main = list(ancestors(table))
    now = now or datetime.now(UTC)
    for reader, begun in _registered(table).items():
        note(_since(main, _read_by(lakehouse, table, reader), now) or _since(main, begun, now), f"reader {reader}")
    return reasons


def _milliseconds(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def _last_carrier(line: list[Snapshot]) -> int:
    """How far back from a ref's head the nearest carriers of its stamps lie; what lies between is kept too, or nobody would find them."""
    missing, last = set(CARRIED), 0
    for index, snapshot in enumerate(line):
        found = missing & summary_of(snapshot).keys()
        if found:
            missing -= found
            last = index
    return last


def _of_highest_epoch(snapshots: list[Snapshot]) -> list[Snapshot]:
    """After a rollback the highest epoch may stand off main; a drain that was superseded must never meet it again."""
    carriers = [one for one in snapshots if EPOCH in summary_of(one)]
    return [max(carriers, key=lambda one: int(summary_of(one)[EPOCH]))] if carriers else []


def _read_by(lakehouse: Lakehouse, table: Table, reader: str) -> int | None:
    """The snapshot of a table that a reader's own stamp names."""
    product = ".".join(table.name()).replace(".", "/", 1)
    other = lakehouse.table(reader)
    return (read_position(other) or {}).get(product) if other is not None else None


def _since(main: list[Snapshot], at: int | None, now: datetime) -> list[Snapshot]:
    """Main from its head back to a snapshot; nothing when that is not there, or the patience with what came after it has ended."""
    index = next((index for index, one in enumerate(main) if one.snapshot_id == at), None)
    if index is None or (index > 0 and main[index - 1].timestamp_ms < _milliseconds(now - PATIENCE)):
        return []
    return main[: index + 1]


def expire_snapshots(
    lakehouse: Lakehouse,
    identifier: str,
    *,
    keep: int = 100,
    older_than: datetime | None = None,
    now: datetime | None = None,
    most: int | None = None,
) -> Expired:
    """Remove snapshots that nothing needs in one commit, then delete every file that only they reached.

    Args:
        lakehouse: where the table is.
        identifier: the table; one that does not exist has nothing to expire.
        keep: how many of the newest snapshots stay in any case.
        older_than: snapshots that are younger stay as well.
        now: the wall clock, for the patience with readers.
        most: no more than so many go, the oldest first.
    """

    def unkept(table: Table) -> list[Snapshot]:
        kept = kept_by(lakehouse, table, keep=max(keep, 1), older_than=older_than, now=now)
        gone = [one for one in table.metadata.snapshots if one.snapshot_id not in kept]
        return sorted(gone, key=lambda one: one.sequence_number or 0)[:most]

    return remove_snapshots(lakehouse, identifier, unkept)


def remove_snapshots(lakehouse: Lakehouse, identifier: str, chosen: Callable[[Table], list[Snapshot]]) -> Expired:
    """Remove the snapshots that a choice names, made anew when another commit came between; heads of branches and tags cannot go."""
    for _ in range(_ATTEMPTS):
        table = lakehouse.table(identifier)
        gone = chosen(table) if table is not None else []
        if table is None or not gone:
            return Expired()
        before = table.metadata
        if _remove(lakehouse, table, gone):
            failpoint("after-expiry-commit")
            return _delete_unreached(table, before, gone)
    return Expired()


def keep_of(table: Table) -> int:
    """How many of its newest snapshots a table keeps as commits go by."""
    return int(table.metadata.properties.get(KEEP_PROPERTY, KEEP))


def expire_in_passing(lakehouse: Lakehouse, table: Table) -> None:
    """Keep a table that is committed to all the time small: now and then, when it has twice the snapshots that are to stay.

    Called after a commit, which stands whatever happens here. A reader without a registration needs the removed files for as long as
    its query runs: where commits remove data or delete files, snapshots of the last 10 minutes stay, up to 500 of them.
    """
    metadata = table.metadata
    keep = keep_of(table)
    if len(metadata.snapshots) < keep + _EVERY or (metadata.next_sequence_number() - 1) % _EVERY:
        return
    rewrites = any(int(summary_of(one).get(name, 0)) for one in metadata.snapshots for name in _REPLACED)
    lenient = rewrites and len(metadata.snapshots) < max(_MOST_FOR_READING, keep)
    older_than = datetime.now(UTC) - READING_TIME if lenient else None
    with suppress(Exception):
        expire_snapshots(lakehouse, ".".join(table.name()), keep=keep, older_than=older_than, most=_MOST_IN_PASSING)


def _remove(lakehouse: Lakehouse, table: Table, gone: list[Snapshot]) -> bool:
    """Take snapshots out of the metadata; False when another changed what the choice was made from. `table` is then the new state.

    Whoever adds a snapshot upon another, or names one, looks afterwards whether that one is in the metadata its commit made. So a
    branch or tag that lands first keeps its snapshot, and one that lands later knows that it came too late. A run that may still be
    tried again is remembered in the same commit, or its retry would write its rows a second time.
    """
    ids = [one.snapshot_id for one in gone]
    main, bound = {one.snapshot_id for one in ancestors(table)}, _milliseconds(datetime.now(UTC) - PATIENCE)
    known = table.metadata.properties.get(EXPIRED_RUNS)
    runs = remember_runs(table, (one for one in gone if one.snapshot_id in main and one.timestamp_ms >= bound))
    told = (SetPropertiesUpdate(updates={EXPIRED_RUNS: runs}),) if runs != (known or "") else ()
    required = (
        AssertTableUUID(uuid=table.metadata.table_uuid),
        AssertUnreferenced(snapshot_ids=tuple(ids)),
        AssertProperty(name=EXPIRED_RUNS, value=known),
    )
    try:
        lakehouse.commit_updates(table, (RemoveSnapshotsUpdate(snapshot_ids=ids), *told), required)
    except (CommitFailedException, ValueError, BadRequestError, NoSuchTableError):
        return False
    except Exception:
        fresh = lakehouse.table(".".join(table.name()))
        if fresh is None or any(fresh.metadata.snapshot_by_id(one) is not None for one in ids):
            raise
        table.metadata, table.metadata_location = fresh.metadata, fresh.metadata_location
    return True


def _delete_unreached(table: Table, before: TableMetadata, gone: list[Snapshot]) -> Expired:
    """Delete what only the removed snapshots reached; `table` is the state that removed them."""
    reach = _Reach(table, before, gone)
    manifests = reach.manifests()
    data = reach.data_files(manifests)
    lists = [one.manifest_list for one in gone]
    # Data files first, the lists that lead to them last: what a kill leaves can still be found by what names it.
    delete_files(table.io, [*data, *(one.manifest_path for one in manifests), *lists])
    size = sum(data.values()) + sum(one.manifest_length for one in manifests)
    return Expired(len(gone), len(data) + len(manifests) + len(lists), size)


class _Reach:
    """What removed and remaining snapshots reach, found from what changed rather than from whole tables.

    Along main it suffices to read what the removed snapshots and the oldest remaining one wrote themselves: a file that one of them
    marked as deleted is in no later snapshot, and a manifest that the oldest remaining one lacks never comes back. Where history forks
    (a branch, a tag, a rollback) candidates are held against the live files of every remaining snapshot that is not such a successor.
    """

    def __init__(self, table: Table, before: TableMetadata, gone: list[Snapshot]) -> None:
        self._io, self._gone = table.io, gone
        self._remaining = {one.snapshot_id: one for one in table.metadata.snapshots}
        self._parents = {one.snapshot_id: one.parent_snapshot_id for one in (*before.snapshots, *table.metadata.snapshots)}
        self._parents |= {one.snapshot_id: one.parent_snapshot_id for one in before.snapshots}  # expiry cuts the links
        self._lists: dict[int, list[ManifestFile]] = {}
        ids = {one.snapshot_id for one in gone}
        self._roots = [one for one in self._remaining.values() if self._parents[one.snapshot_id] not in self._remaining]
        self._lines = {one.snapshot_id: set(lineage(self._parents, one.snapshot_id)) for one in self._roots}
        self._past = {one for line in self._lines.values() for one in line if one in ids}

    def _manifests_of(self, snapshot: Snapshot) -> list[ManifestFile]:
        if snapshot.snapshot_id not in self._lists:
            try:
                self._lists[snapshot.snapshot_id] = snapshot.manifests(self._io)
            except FileNotFoundError:
                if snapshot.snapshot_id in self._remaining:  # without it nobody knows what is still needed
                    raise
                self._lists[snapshot.snapshot_id] = []
        return self._lists[snapshot.snapshot_id]

    def manifests(self) -> list[ManifestFile]:
        """Manifests in a removed snapshot's list and in no remaining one's."""
        reached = {one.manifest_path for root in self._roots for one in self._manifests_of(root)}
        found = {one.manifest_path: one for snapshot in self._gone for one in self._manifests_of(snapshot)}
        return [one for path, one in found.items() if path not in reached and one.added_snapshot_id not in self._remaining]

    def data_files(self, unreached: list[ManifestFile]) -> dict[str, int]:
        """Data and delete files, with their bytes, that no remaining snapshot has alive."""
        certain: dict[str, int] = {}
        doubtful: dict[str, int] = {}
        doubting = set[int]()  # roots whose snapshots may have a doubtful file alive
        for snapshot in (*(one for one in self._gone if one.snapshot_id in self._past), *self._roots):
            strangers = {root for root, line in self._lines.items() if snapshot.snapshot_id not in line}
            (doubtful if strangers else certain).update(self._deleted_by(snapshot))
            doubting |= strangers
        aside = [one for one in self._gone if one.snapshot_id not in self._past]
        if aside:
            paths = {one.manifest_path for snapshot in aside for one in self._manifests_of(snapshot)}
            for manifest in unreached:
                if manifest.manifest_path in paths:
                    for entry in manifest.fetch_manifest_entry(self._io, discard_deleted=True):
                        doubtful[entry.data_file.file_path] = entry.data_file.file_size_in_bytes
            doubting = set(self._lines)
        alive = self._alive(doubting) if doubtful else set()
        return certain | {path: size for path, size in doubtful.items() if path not in alive}

    def _deleted_by(self, snapshot: Snapshot) -> Iterator[tuple[str, int]]:
        for manifest in self._manifests_of(snapshot):
            if manifest.added_snapshot_id == snapshot.snapshot_id and manifest.deleted_files_count != 0:
                for entry in manifest.fetch_manifest_entry(self._io, discard_deleted=False):
                    if entry.status == ManifestEntryStatus.DELETED and entry.snapshot_id == snapshot.snapshot_id:
                        yield entry.data_file.file_path, entry.data_file.file_size_in_bytes

    def _alive(self, roots: set[int]) -> set[str]:
        """Files alive in the remaining snapshots that descend from these roots."""
        manifests = {
            one.manifest_path: one
            for snapshot in self._remaining.values()
            if self._root_of(snapshot.snapshot_id) in roots
            for one in self._manifests_of(snapshot)
        }
        return {
            entry.data_file.file_path
            for manifest in manifests.values()
            for entry in manifest.fetch_manifest_entry(self._io, discard_deleted=True)
        }

    def _root_of(self, snapshot_id: int) -> int:
        return [one for one in lineage(self._parents, snapshot_id) if one in self._remaining][-1]
