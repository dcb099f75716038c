"""Snapshots of what has only a present: a table, an API. The one of a slice is taken while the slice lasts, or never."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from platform_resources.contracts.model import Contract
from platform_resources.contracts.sources import FILE_KINDS
from platform_resources.landing.source import Delivery, DeliveryRefused, Landed


def now() -> datetime:
    """This machine's clock, UTC."""
    return datetime.now(UTC)


def pending_snapshot(contract: Contract, landed: Landed) -> Sequence[Delivery]:
    """The present slice's snapshot, unless it has landed or the first slice has not begun."""
    slices = contract.slices
    if slices is None:
        return []
    instant = now()
    start = slices.floor(instant)
    key = slices.key(start)
    if start < slices.start or key in landed:
        return []
    return [Delivery(key, instant.isoformat(), slice=start)]


def why_absent(contract: Contract) -> str:
    """What to add where nothing came for a slice that was asked for; "" where files may still come."""
    slices = contract.slices
    if slices is None or contract.source is None or contract.source.kind in FILE_KINDS:
        return ""
    return f" The source shows only the present, which is {slices.key(slices.floor(now()))}: bring the past in from files."


def see_slice_is_now(contract: Contract, delivery: Delivery) -> None:
    """Refuse a snapshot of another time than now.

    Raises:
        DeliveryRefused: `slice-past`.
    """
    slices = contract.slices
    if slices is None or delivery.slice is None or slices.floor(now()) == delivery.slice:
        return
    present = slices.key(slices.floor(now()))
    raise DeliveryRefused(
        "slice-past",
        f"The slice {delivery.name} of {contract.key} cannot be taken: its source shows only the present, which is {present}.",
        f"Take {present}, or bring the past in from files.",
        file=contract.path,
    )
