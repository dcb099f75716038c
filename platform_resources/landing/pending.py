"""What of a landed product's source is still to land, in which order, and what of it rests after a refusal. Reads, never writes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pyiceberg.table import Table

from platform_resources.config import Settings
from platform_resources.contracts.model import Contract
from platform_resources.contracts.sources import FILE_KINDS
from platform_resources.errors import PlatformError
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.stamp import read_position, read_watermark
from platform_resources.landing.opening import open_source
from platform_resources.landing.quarantine import RefusedDelivery, deliveries_aside, refused_deliveries
from platform_resources.landing.settled import landed_in
from platform_resources.landing.source import Delivery, Landed, Source
from platform_resources.streams.lagging import heartbeat_due, last_commit


@dataclass(frozen=True)
class Unit:
    """What lands in one commit: a delivery, or all deliveries of a slice."""

    deliveries: tuple[Delivery, ...]
    slice: datetime | None = None


def position_kind(contract: Contract) -> str:
    """The one key of a landed product's position: `files`, `cursor` or `snapshots`."""
    source = contract.source
    if source is not None and source.kind in FILE_KINDS:
        return "files"
    return "cursor" if source is not None and source.cursor is not None else "snapshots"


def landed_of(contract: Contract, table: Table | None, *, aside: Table | None = None) -> Landed:
    """What the table's position says has landed; with the quarantine `aside` only what has no records there.

    Raises:
        PlatformError: `position-lost`; `again-unfit` where deliveries cannot be had again.
    """
    if table is None:
        return {}
    landed = landed_in(table, read_position(table), position_kind(contract))
    if aside is None:
        return landed
    if position_kind(contract) == "cursor":
        raise PlatformError(
            "again-unfit",
            f"What {contract.key} put aside came behind a cursor, where nothing comes again.",
            f"Recreate the product (`sdp ingest {contract.key} --recreate`, of a draft), or let the source change these records once more.",
            file=contract.path,
        )
    names = deliveries_aside(aside)
    return {name: version for name, version in landed.items() if name not in names}


def whole_slices(contract: Contract) -> bool:
    """Whether the deliveries of a slice land together, in place of what the slice was."""
    return contract.slices is not None and (contract.write_mode == "overwrite" or contract.validity)


def units(contract: Contract, source: Source, landed: Landed, keys: Collection[str] | None = None, *, again: bool = False) -> list[Unit]:
    """What is to land, oldest slice first.

    With `keys` only the slices of these keys; with `again` also those that have landed. A slice that lands whole comes with all of its
    deliveries as soon as one of them is new.
    """
    slices = contract.slices
    if slices is None:
        return [Unit((delivery,)) for delivery in source.pending(landed)]
    found = list(source.pending({} if again else landed))
    wanted = {delivery.slice for delivery in found if delivery.slice is not None and delivery.slice >= slices.start}
    if keys is not None:
        wanted &= {slices.at(key) for key in keys}
    if wanted and not again and whole_slices(contract):
        found = list(source.pending({}))
    by_slice: dict[datetime, list[Delivery]] = {start: [] for start in sorted(wanted)}
    for delivery in found:
        if delivery.slice is not None and delivery.slice in by_slice:
            by_slice[delivery.slice].append(delivery)
    if whole_slices(contract):
        return [Unit(tuple(deliveries), start) for start, deliveries in by_slice.items() if deliveries]
    return [Unit((delivery,), start) for start, deliveries in by_slice.items() for delivery in deliveries]


def rest_of(contract: Contract, unit: Unit, refused: Mapping[str, RefusedDelivery], now: datetime) -> datetime | None:
    """Until when a unit rests after it was refused; None when it may be tried."""
    found = [one for delivery in unit.deliveries if (one := refused.get(delivery.name)) is not None and one.holds(delivery, contract)]
    until = max((one.until for one in found), default=now)
    return until if until > now else None


@dataclass(frozen=True)
class Outlook:
    """What a landing would do now: `units` to land, those `resting` with the end of their rest, whether to say that nothing came."""

    units: Sequence[Unit]
    resting: Sequence[tuple[Unit, datetime]]
    heartbeat_due: bool
    watermark: datetime | None

    def __bool__(self) -> bool:
        return bool(self.units) or self.heartbeat_due


def outlook(contract: Contract, lakehouse: Lakehouse, settings: Settings, *, now: datetime, source: Source | None = None) -> Outlook:
    """The state of one landed product.

    Raises:
        PlatformError: the source cannot be reached.
    """
    table = lakehouse.table(contract.identifier)
    refused = refused_deliveries(lakehouse.table(contract.quarantine_identifier))
    found = units(contract, source or open_source(contract, settings, looking=True), landed_of(contract, table))
    rests = [(unit, rest_of(contract, unit, refused, now)) for unit in found]
    free = [unit for unit, until in rests if until is None]
    resting = [(unit, until) for unit, until in rests if until is not None]
    watermark = read_watermark(table) if table else None
    held_up = [unit.slice for unit, _ in resting if unit.slice is not None and not is_late(contract, unit, watermark)]
    if contract.validity and held_up:  # slices land in their order: those behind a refused one wait for it
        free = [unit for unit in free if unit.slice is None or unit.slice < min(held_up)]
    return Outlook(free, resting, not found and idle_due(contract, table, now), watermark)


def is_late(contract: Contract, unit: Unit, watermark: datetime | None) -> bool:
    """Whether a newer slice than the unit's has landed already."""
    slices = contract.slices
    return slices is not None and unit.slice is not None and watermark is not None and slices.end(unit.slice) < watermark


def tells_idleness(contract: Contract) -> bool:
    """Whether the watermark is when nothing was left to land: neither slices nor event times tell how new the data is."""
    return contract.slices is None and not contract.event_time


def idle_due(contract: Contract, table: Table | None, now: datetime) -> bool:
    """Whether a product with a promise is to say (again) that nothing came."""
    if not tells_idleness(contract) or contract.sla.latency is None or table is None:
        return False
    return heartbeat_due(contract, last_commit(table), now)
