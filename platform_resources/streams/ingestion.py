"""Exactly-once ingestion: a drain takes events from the log into a product's table and its quarantine table.

Here live the drain itself and the round over several of them. What a batch is made of lives beside it: decoding in `codec`, checks in
`checks`, duplicates in `dedupe`, lateness in `watermark`, the quarantine table in `quarantine`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal


@dataclass(frozen=True)
class DrainCommit:
    """One batch (or heartbeat) that reached the main table."""

    product: str
    snapshot_id: int
    rows: int
    table_rows: int
    counts: dict[str, int]
    position: dict[str, dict[str, int]]
    watermark: datetime | None
    heartbeat: bool = False
    metadata_location: str = ""


@dataclass
class DrainReport:
    """What one drain did; the counts obey `read == inserted + duplicates + quarantined`."""

    read: int = 0
    inserted: int = 0
    duplicates: int = 0
    quarantined: int = 0
    late: int = 0
    skewed: int = 0
    commits: int = 0
    position: dict[str, dict[str, int]] = field(default_factory=dict)
    watermark: datetime | None = None
    checks: list[Any] = field(default_factory=list)
    superseded: bool = False
    stopped_by: str = ""
    blocked_until: datetime | None = None
    error: Exception | None = None


@dataclass(frozen=True)
class Lag:
    """How far a product is behind its log."""

    events: int
    position: dict[str, dict[str, int]]
    ends: dict[str, dict[str, int]]
    watermark: datetime | None
    seconds: float | None
    blocked_until: datetime | None
    heartbeat_due: bool
    lost: int


class Drain:
    """One product's way from the log into its tables."""

    def __init__(
        self,
        contract: Any,
        *,
        lakehouse: Any,
        log: Any,
        run_id: str,
        settings: Any,
        code_version: str | None = None,
        skip_checks: Sequence[str] = (),
        on_commit: Callable[[DrainCommit], None] | None = None,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        raise NotImplementedError

    def run(self, *, until: Literal["idle", "end"] | float, stop: threading.Event | None = None) -> DrainReport:
        """Take over, then ingest until the log is idle, its present end is reached, or that many seconds have passed."""
        raise NotImplementedError


def drain_all(drains: Sequence[Drain], *, seconds: float, idle_seconds: float, stop: threading.Event | None = None) -> dict[str, DrainReport]:
    """Run a set of drains fairly; the keys are the products'."""
    raise NotImplementedError


def lag(contract: Any, lakehouse: Any, log: Any) -> Lag:
    """How many events a product is behind its log now."""
    raise NotImplementedError
