"""What a drain tells: each commit as it happens, and the sum at its end. Values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from platform_resources.engines.audit import CheckOutcome
from platform_resources.streams.offsets import StampedPosition

NOTHING = {"read": 0, "inserted": 0, "duplicates": 0, "quarantined": 0, "late": 0, "skewed": 0}


@dataclass(frozen=True)
class DrainCommit:
    """One batch, or a heartbeat, that reached the main table; `counts` and `position` are those of its stamp."""

    product: str
    snapshot_id: int
    rows: int
    table_rows: int
    counts: dict[str, int]
    position: StampedPosition
    watermark: datetime | None
    heartbeat: bool = False
    metadata_location: str = ""


@dataclass
class DrainReport:
    """What one drain did; `read == inserted + duplicates + quarantined`.

    `stopped_by` is `end`, `idle`, `time`, `stop`, `superseded`, `blocked` or `error`. `checks` holds one outcome for each rule over
    all batches. `blocked_until` is when a batch that the rules `blocked_by` refused may be tried again; `refused_branch` keeps it.
    `error` is set by `drain_all` only (`Drain.run` raises).
    """

    read: int = 0
    inserted: int = 0
    duplicates: int = 0
    quarantined: int = 0
    late: int = 0
    skewed: int = 0
    commits: int = 0
    position: StampedPosition = field(default_factory=dict)
    watermark: datetime | None = None
    checks: list[CheckOutcome] = field(default_factory=list)
    superseded: bool = False
    stopped_by: str = ""
    blocked_until: datetime | None = None
    blocked_by: tuple[str, ...] = ()
    refused_branch: str | None = None
    error: Exception | None = None

    def add(self, counts: dict[str, int]) -> None:
        """Count one commit."""
        for name, count in counts.items():
            setattr(self, name, getattr(self, name) + count)
        self.commits += 1
