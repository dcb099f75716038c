"""Committing one staged snapshot when answers may be lost: it stands, it never will, or nobody knows and its files must stay.

Every snapshot but a table's first is committed here. What is staged, and what comes after another was first, is the callers'.
"""

from __future__ import annotations

import time
from typing import Literal

import pydantic
from pyiceberg.exceptions import (
    BadRequestError,
    CommitFailedException,
    CommitStateUnknownException,
    ServerError,
    ServiceUnavailableError,
    TooManyRequestsError,
)
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import AddSnapshotUpdate, TableRequirement, TableUpdate
from sqlalchemy.exc import DBAPIError

from platform_resources.lakehouse.catalog import Lakehouse, LocalRequirement
from platform_resources.lakehouse.catalog_server import CatalogUnreachable

_DOUBT_SECONDS = (0.1, 0.5, 2.0)
_UNANSWERED = (
    OSError,
    DBAPIError,
    CatalogUnreachable,
    CommitStateUnknownException,
    ServiceUnavailableError,
    ServerError,
    TooManyRequestsError,
    pydantic.ValidationError,  # an answer that is none
)


def commit_snapshot(
    lakehouse: Lakehouse,
    table: Table,
    updates: tuple[TableUpdate, ...],
    requirements: tuple[TableRequirement | LocalRequirement, ...],
) -> bool:
    """Commit updates that add a snapshot: True when it stands (`table` is then the new state), False when it surely never will, as
    another commit was first. Only after False may the snapshot's files be deleted.

    Where the answer is lost the very same commit is tried again: its snapshot id says whether an earlier try stands, and its sequence
    number, which another snapshot on any branch takes for good, whether one that is still on its way can.

    Args:
        lakehouse: where the table is.
        table: as the updates were staged on it.
        updates: with one snapshot among them.
        requirements: what must hold.

    Raises:
        Exception: the commit's own. The snapshot may stand, or be on its way still: nothing of it may be deleted.
    """
    snapshot = next(update.snapshot for update in updates if isinstance(update, AddSnapshotUpdate))
    doubt = False
    for delay in (*_DOUBT_SECONDS, None):
        try:
            lakehouse.commit_updates(table, updates, requirements)
        except Exception as error:
            doubt = doubt or isinstance(error, _UNANSWERED)
            fate = _fate(lakehouse, table, snapshot)
            if fate == "stands":
                return True
            # that another's snapshot took the number no requirement says: SQL catalogs refuse by ValueError, REST by BadRequestError
            refused = isinstance(error, CommitFailedException) or (fate == "moved" and isinstance(error, ValueError | BadRequestError))
            if fate == "never" or (refused and not doubt):
                return False
            if not doubt or delay is None:
                raise
            time.sleep(delay)
        else:
            return True
    raise AssertionError("unreachable")


def _fate(lakehouse: Lakehouse, table: Table, snapshot: Snapshot) -> Literal["stands", "never", "moved", "open"]:
    """What became of a commit whose call failed, as far as the table now says; where it stands, `table` is read again."""
    try:
        fresh = lakehouse.table(".".join(table.name()))
        if fresh is None or fresh.metadata.table_uuid != table.metadata.table_uuid:
            return "never"
        holder = {one.sequence_number: one.snapshot_id for one in fresh.metadata.snapshots}.get(snapshot.sequence_number)
        gone = holder is None and fresh.metadata.next_sequence_number() > (snapshot.sequence_number or 0)
        if holder == snapshot.snapshot_id or (gone and _came_and_went(fresh, snapshot.snapshot_id)):
            table.refresh()
            return "stands"
    except Exception:  # noqa: BLE001 - whatever keeps the table from being read: the question stays open
        return "open"
    if holder is not None:
        return "never"
    return "open" if fresh.metadata_location == table.metadata_location else "moved"


def _came_and_went(fresh: Table, snapshot_id: int) -> bool:
    """Whether a snapshot that is not known stood and has expired since, as under many fast writers: told by the files it left."""
    head = fresh.current_snapshot()
    manifests = head.manifests(fresh.io) if head is not None else []
    return any(manifest.added_snapshot_id == snapshot_id for manifest in manifests) or any(
        entry.snapshot_id == snapshot_id for manifest in manifests for entry in manifest.fetch_manifest_entry(fresh.io)
    )
