"""How far a product is behind its log, and whether a drain has anything to do: for sensors and for `sdp status`. Reads, never writes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pyiceberg.table import Table

from platform_resources.contracts.model import Contract
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.stamp import POSITION, ancestors, read_position, read_watermark, summary_of
from platform_resources.streams.log import EventLog
from platform_resources.streams.offsets import StampedPosition, distance, ends_of, lost, parse, resume, stamped, starts_of
from platform_resources.streams.refusals import refusal_at_head

UNPROMISED_LATENCY = timedelta(hours=1)


@dataclass(frozen=True)
class Lag:
    """How far a product is behind its log.

    `events` counts what is in the log past the position, holes of a compacted topic included; `seconds` is the wall clock minus the
    watermark, None before the first; `lost` counts events that retention deleted unread. A sensor starts a drain when `due`.
    """

    events: int
    position: StampedPosition
    ends: StampedPosition
    watermark: datetime | None
    seconds: float | None
    blocked_until: datetime | None
    heartbeat_due: bool
    lost: int

    @property
    def due(self) -> bool:
        """Whether a drain would do anything now."""
        return self.blocked_until is None and (self.events > 0 or self.heartbeat_due)


def lag(contract: Contract, lakehouse: Lakehouse, log: EventLog, *, now: datetime | None = None) -> Lag:
    """How many events a stream's product is behind its log: one look at the table's metadata, one at each topic's ends."""
    now = now or datetime.now(UTC)
    table = lakehouse.table(contract.identifier)
    topics = contract.source.topics if contract.source else ()
    starts, ends = starts_of(log, topics), ends_of(log, topics)
    position = resume(parse(read_position(table) if table else None), starts)
    watermark = read_watermark(table) if table else None
    refusal = refusal_at_head(table, contract) if table else None
    events = distance(position, ends)
    return Lag(
        events=events,
        position=stamped(position),
        ends=stamped(ends),
        watermark=watermark,
        seconds=None if watermark is None else max(0.0, (now - watermark).total_seconds()),
        blocked_until=refusal.until if refusal and refusal.until > now else None,
        heartbeat_due=bool(ends) and not events and heartbeat_due(contract, last_commit(table) if table else None, now),
        lost=sum(lost(position, starts).values()),
    )


def heartbeat_due(contract: Contract, last: datetime | None, now: datetime) -> bool:
    """Whether an idle stream is to say so (again): half its promised latency has passed since its last commit, of any kind.

    Not as soon as the end is reached, however old the watermark: a backfill in parts, or a replay, meets the log's end again and again,
    and from the first heartbeat on all of its events would count as late.
    """
    return last is None or now - last >= (contract.sla.latency or UNPROMISED_LATENCY) / 2


def last_commit(table: Table) -> datetime | None:
    """When the position was last committed, be it by a batch or a heartbeat; None before the first."""
    for snapshot in ancestors(table):
        if POSITION in summary_of(snapshot):
            return datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC)
    return None
