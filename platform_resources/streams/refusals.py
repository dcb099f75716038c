"""Batches that an aggregate check kept from being published: how long such a refusal stands, read from the branches that keep them.

The branch itself is written by `lakehouse.staging`; whether to try again is asked by the drain and by the sensor.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pyiceberg.table import Table

from platform_resources.contracts.model import Contract
from platform_resources.lakehouse.stamp import compact_json, read_position, summary_of
from platform_resources.runs import REFUSED

ATTEMPT, FAILED, FINGERPRINT, SKIPPED = "sdp.attempt", "sdp.failed-checks", "sdp.contract-fingerprint", "sdp.skipped-checks"
REFUSED_AT = "sdp.refused-at"  # the position that the batch would have moved: the way back to the snapshot that carries it may expire
FIRST_DELAY, LONGEST_DELAY = timedelta(minutes=1), timedelta(hours=1)


@dataclass(frozen=True)
class Refusal:
    """A batch at the product's present position that was refused: by which rules, on which branch, how often so far, wait until when."""

    checks: tuple[str, ...]
    branch: str
    attempt: int
    until: datetime


def refusal_at_head(table: Table, contract: Contract, *, skip: Collection[str] = ()) -> Refusal | None:
    """The youngest refusal that still stands: same position, same contract, no check skipped that was not skipped then.

    Derived from the refused branches alone, so that a restart on any machine finds it, and a rollback, a mended contract or a
    skipped check lifts it by itself.
    """
    position = compact_json(read_position(table))
    found: Refusal | None = None
    for name, ref in table.metadata.refs.items():
        snapshot = table.snapshot_by_id(ref.snapshot_id) if name.startswith(REFUSED) else None
        summary = summary_of(snapshot) if snapshot is not None else {}
        if snapshot is None or summary.get(REFUSED_AT) != position:
            continue
        lifted = set(skip) - set(summary.get(SKIPPED, "").split(","))
        if lifted or summary.get(FINGERPRINT) != contract.fingerprint:
            continue
        attempt = int(summary.get(ATTEMPT, "1"))
        until = datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC) + delay_after(attempt)
        if found is None or until > found.until:
            found = Refusal(tuple(summary.get(FAILED, "").split(",")), name, attempt, until)
    return found


def delay_after(attempt: int) -> timedelta:
    """1 minute after the first refusal, then doubling, at most 1 hour."""
    return min(LONGEST_DELAY, FIRST_DELAY * int(2 ** min(attempt - 1, 10)))


def forget_refusals(table: Table, branches: Collection[str]) -> None:
    """Drop branches whose batch was refused again under another name; their files go with the next expiry."""
    with table.manage_snapshots() as manage:
        for branch in branches:
            manage.remove_branch(branch)
