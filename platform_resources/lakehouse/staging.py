"""A write, staged: files on disk, a would-be metadata file for the audit, then exactly one commit, a refusal or nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa
from pyiceberg.table import Table

from platform_resources.contracts.iceberg import TableDefinition
from platform_resources.errors import PlatformError
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.stamp import Stamp

if TYPE_CHECKING:
    import duckdb

Data: TypeAlias = "pa.Table | pa.RecordBatchReader"


class _Any:
    """The position a fence does not look at."""

    def __repr__(self) -> str:
        return "ANY"


ANY = _Any()


@dataclass(frozen=True)
class Fence:
    """What must still hold on the head at commit; what it does not name may change freely."""

    position: Any = ANY
    epoch: int | None = None


@dataclass(frozen=True)
class PartitionScope:
    """What an overwrite replaces: `PartitionScope.table()`, `.present()` (the partitions in the data) or `.named("2026-01-01")`."""

    kind: str
    name: str | None = None

    @classmethod
    def table(cls) -> PartitionScope:
        """The whole table."""
        return cls("table")

    @classmethod
    def present(cls) -> PartitionScope:
        """The partitions that the data has rows of."""
        return cls("present")

    @classmethod
    def named(cls, name: str) -> PartitionScope:
        """One partition; rows outside are refused, no rows clear it."""
        return cls("named", name)


@dataclass(frozen=True)
class Commit:
    """A write that is published."""

    snapshot_id: int
    parent_id: int | None
    rows: int
    table_rows: int
    metadata_location: str
    data_files: int
    bytes: int
    summary: Mapping[str, str] = field(default_factory=dict)


class CommitConflict(Exception):
    """The head moved, so that what was audited is not what would be published: restage and audit again."""


class Fenced(PlatformError):
    """Another writer took over: this one's position or epoch is no longer the table's. Code `write-fenced`."""


class StagedWrite:
    """A write whose files exist and whose commit has not happened."""

    table: Table
    audit_metadata: str
    rows: int
    operation: str
    snapshot_id: int

    def audit_relation(self, con: duckdb.DuckDBPyConnection, *, scope: str) -> str:
        """SQL text usable in FROM: the written rows (`commit`), the touched partitions (`partition`), the would-be table (`table`)."""
        raise NotImplementedError

    def commit(self) -> Commit:
        """Publish; CommitConflict when the head moved."""
        raise NotImplementedError

    def restage(self) -> StagedWrite:
        """The same write on the new head."""
        raise NotImplementedError

    def refuse(self, branch: str) -> None:
        """Keep the write on a branch, nothing on main."""
        raise NotImplementedError

    def discard(self) -> None:
        """Delete every file of this write."""
        raise NotImplementedError


def stage_append(lakehouse: Lakehouse, definition: TableDefinition, data: Data, stamp: Stamp, *, fence: Fence = Fence()) -> StagedWrite:
    """Stage rows to be added."""
    raise NotImplementedError


def stage_overwrite(
    lakehouse: Lakehouse, definition: TableDefinition, data: Data, stamp: Stamp, *, partitions: PartitionScope, fence: Fence = Fence()
) -> StagedWrite:
    """Stage the replacement of partitions."""
    raise NotImplementedError


def stage_merge(
    lakehouse: Lakehouse,
    definition: TableDefinition,
    data: Data,
    stamp: Stamp,
    *,
    keys: tuple[str, ...],
    delete_keys: pa.Table | None = None,
    replace_keys: bool = False,
    fence: Fence = Fence(),
) -> StagedWrite:
    """Stage a merge by key, copy-on-write."""
    raise NotImplementedError


def stage_empty(lakehouse: Lakehouse, definition: TableDefinition, stamp: Stamp, *, fence: Fence = Fence()) -> StagedWrite:
    """Stage a snapshot without rows."""
    raise NotImplementedError


def parse_partition(definition: TableDefinition, text: str) -> Any:
    """The partition record named by `2026-01-01`, `enwiki` or `d=2026-01-01/wiki=enwiki`."""
    raise NotImplementedError


def publish(staged: StagedWrite, audit: Callable[[StagedWrite], None] | None = None, attempts: int = 5) -> Commit:
    """Commit; on a conflict restage and audit again, at most `attempts` times."""
    raise NotImplementedError
