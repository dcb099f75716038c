"""Taking over a product: how a drain, or a landing, becomes the only one whose commits count, and leaves nothing half done behind it.

Two tables cannot change in one commit. So the main table's position is the only truth, the quarantine runs ahead of it by at most one
batch, and whoever takes over first makes every earlier drain powerless (law 3), then cuts the quarantine back to the position.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from pyiceberg.table import Table

from platform_resources.contracts.iceberg import TableDefinition, arrow_schema
from platform_resources.failpoints import failpoint
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.staging import CommitConflict, Fence, Fenced, publish, stage_empty, stage_merge
from platform_resources.lakehouse.stamp import Position, Stamp, highest_epoch, read_epoch, read_position
from platform_resources.streams.offsets import covers, parse
from platform_resources.streams.quarantine import KEY, rows_past

ATTEMPTS = 20

CutBack: TypeAlias = Callable[[Lakehouse, TableDefinition, Table, Position | None, Stamp], bool]
"""Commits to the quarantine, under the stamp's epoch, what a take-over takes out of it; False when the quarantine moved meanwhile."""


@dataclass(frozen=True)
class Tenure:
    """A drain's right to write: its epoch, and the position of either table as the fences must find it."""

    epoch: int
    table: Table
    position: Position | None
    quarantine_position: Position


def take_over(
    lakehouse: Lakehouse,
    main: TableDefinition,
    quarantine: TableDefinition,
    stamp: Callable[..., Stamp],
    *,
    cut_back: CutBack | None = None,
) -> Tenure | None:
    """Raise the epoch of both tables and cut the quarantine back; None when another was faster.

    Without `cut_back` the quarantine rows at or past the main position go, as a stream's must.

    Order matters. Once the main table carries the new epoch, no earlier drain can move its position, so the position read after that
    stays. An earlier drain may still add rows to the quarantine until that table carries the epoch too; the quarantine commit is
    therefore conditional on the quarantine's position it was computed from, and computed again when that moved.
    """
    table = lakehouse.table(main.identifier) or lakehouse.create(main)
    kept_aside = lakehouse.table(quarantine.identifier) or lakehouse.create(quarantine)
    epoch = max(highest_epoch(table), highest_epoch(kept_aside)) + 1
    if not _published(lambda: stage_empty(lakehouse, main, stamp(epoch=epoch), fence=Fence(epoch=read_epoch(table) or 0))):
        return None
    failpoint("drain-after-epoch")
    fresh = lakehouse.table(main.identifier)
    if fresh is None or read_epoch(fresh) != epoch:
        return None
    position = read_position(fresh)
    failpoint("drain-before-quarantine-takeover")
    for _ in range(ATTEMPTS):
        kept_aside = lakehouse.table(quarantine.identifier) or lakehouse.create(quarantine)
        if (read_epoch(kept_aside) or 0) >= epoch:
            return None
        if (cut_back or _cut_back)(lakehouse, quarantine, kept_aside, position, stamp(epoch=epoch, position=position or {})):
            failpoint("drain-after-quarantine-takeover")
            return Tenure(epoch, fresh, position, position or {})
    return None


def _cut_back(lakehouse: Lakehouse, definition: TableDefinition, table: Table, position: Position | None, stamp: Stamp) -> bool:
    """Delete the quarantine rows at or past the position, under the new epoch; False when the quarantine moved meanwhile."""
    reached = read_position(table)
    fence = Fence(position=reached, epoch=read_epoch(table) or 0)
    bound, ahead = parse(position), parse(reached)
    if covers(bound, ahead):
        return _published(lambda: stage_empty(lakehouse, definition, stamp, fence=fence))
    doomed = rows_past(table, bound, ahead)
    if not len(doomed):
        return _published(lambda: stage_empty(lakehouse, definition, stamp, fence=fence))
    nothing = arrow_schema(definition).empty_table()
    return _published(lambda: stage_merge(lakehouse, definition, nothing, stamp, keys=KEY, delete_keys=doomed, fence=fence))


def cut_nothing(lakehouse: Lakehouse, definition: TableDefinition, table: Table, _: Position | None, stamp: Stamp) -> bool:
    """Leave the quarantine's rows as they are: whoever lands a delivery again replaces those put aside from it."""
    fence = Fence(epoch=read_epoch(table) or 0)
    return _published(lambda: stage_empty(lakehouse, definition, stamp, fence=fence))


def _published(stage: Callable[[], Any]) -> bool:
    """Stage and commit; False when the fence no longer holds."""
    try:
        publish(stage(), attempts=ATTEMPTS)
    except (Fenced, CommitConflict):
        return False
    return True
