"""The stamp of a write: what a snapshot summary says of the run, the position and the watermark, and how it is read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

Position: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Stamp:
    """What one write says of itself in its snapshot summary."""

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
        raise NotImplementedError


def read_position(table: Table, ref: str = "main") -> Position | None:
    """`sdp.position` of the nearest ancestor of `ref` that carries one."""
    raise NotImplementedError


def read_watermark(table: Table, ref: str = "main") -> datetime | None:
    """`sdp.watermark` of the nearest ancestor of `ref` that carries one."""
    raise NotImplementedError


def read_epoch(table: Table, ref: str = "main") -> int | None:
    """`sdp.epoch` of the nearest ancestor of `ref` that carries one."""
    raise NotImplementedError


def committed_snapshot(table: Table, run_id: str, partition: str | None = None) -> Snapshot | None:
    """The newest ancestor of main that this run (and partition) wrote: a retry's look for its own stamp."""
    raise NotImplementedError
