"""What a landing tells: each commit as it happens, and the sum at its end. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from platform_resources.engines.audit import CheckOutcome


@dataclass(frozen=True)
class LandingCommit:
    """One delivery, or all of a slice, that reached the main table. `counts` are `{read, inserted, quarantined}`."""

    product: str
    deliveries: tuple[str, ...]
    slice: str | None
    snapshot_id: int
    rows: int
    table_rows: int
    counts: Mapping[str, int]
    watermark: datetime | None


@dataclass(frozen=True)
class Refused:
    """A delivery of which nothing landed: why, with a stable code, and until when it rests."""

    delivery: str
    slice: str | None
    code: str
    message: str
    until: datetime
    branch: str | None = None
    checks: tuple[str, ...] = ()


@dataclass
class LandingReport:
    """What one landing did; `read == inserted + quarantined` over what landed.

    `resting` are deliveries that were refused before and wait for their next try. `absent` are slices that were asked for and have no
    delivery. `superseded`: another landing took over, and this one ended without a further commit.
    """

    read: int = 0
    inserted: int = 0
    quarantined: int = 0
    commits: int = 0
    deliveries: int = 0
    slices: list[str] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    resting: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    position: Mapping[str, Any] = field(default_factory=dict)
    watermark: datetime | None = None
    checks: list[CheckOutcome] = field(default_factory=list)
    superseded: bool = False
    stopped: bool = False

    def add(self, commit: LandingCommit) -> None:
        """Count one commit."""
        for name, count in commit.counts.items():
            setattr(self, name, getattr(self, name) + count)
        self.commits += 1
        self.deliveries += len(commit.deliveries)
        if commit.slice is not None:
            self.slices.append(commit.slice)
