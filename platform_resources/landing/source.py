"""What a source of landed data gives: deliveries, each read in blocks of rows.

How they land is `landing`'s, how a kind is read its own module's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeAlias, runtime_checkable

import pyarrow as pa

from platform_resources.errors import PlatformError

Landed: TypeAlias = Mapping[str, str]
"""What has landed, as the product's position says: name to version of files, slice key to instant of snapshots, column to cursor."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a source gives at once; it lands whole or not at all, and once.

    Attributes:
        name: unique in its source: the path of a file below its root, the key of a snapshot's slice, a cursor's column.
        version: tells one content from another: 16 hex digits of a file's SHA-256, the instant of a snapshot.
        slice: UTC start of the slice it belongs to; None without slices.
        bytes: its size as it lies there, None where nobody can tell.
        modified: when it came to lie there, UTC; None where nobody can tell.
    """

    name: str
    version: str
    slice: datetime | None = None
    bytes: int | None = None
    modified: datetime | None = None


@dataclass(frozen=True, slots=True)
class RefusedRecord:
    """One record that is no row: where it stood (`line`, from 1), what stood there, a stable `reason`, the column and one sentence."""

    line: int | None
    raw: bytes | None
    reason: str
    path: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive records of one delivery.

    Attributes:
        rows: the contract's columns by name, with the types of `contracts.iceberg.arrow_type`; columns that are missing are null.
        lines: int64, as long as `rows`: line or record number from 1, null where there is none.
        refused: the records among them that are no rows.
    """

    rows: pa.Table
    lines: pa.Array
    refused: Sequence[RefusedRecord] = ()


class DeliveryRefused(PlatformError):  # noqa: N818 - the seam's name
    """A delivery that cannot be read as what its contract says it is: nothing of it lands."""


class Source(Protocol):
    """Where a product's deliveries come from. Nothing is written by it, and it keeps no state of its own."""

    def pending(self, landed: Landed) -> Sequence[Delivery]:
        """What is there and has not landed in this version, oldest slice first, then by name; deliveries still being written wait.

        Raises:
            PlatformError: the source cannot be reached.
        """
        ...

    def read(self, delivery: Delivery) -> Iterator[Block]:
        """The delivery's records in their order, in memory bounded whatever its size.

        Raises:
            DeliveryRefused: it is not what the contract says; rows already given must not be published.
            PlatformError: the source cannot be reached.
        """
        ...

    def reached(self, delivery: Delivery) -> Landed:
        """What the position must say once the delivery has landed; asked when it was read to its end."""
        ...


@runtime_checkable
class Filed(Protocol):
    """A source whose slices have several deliveries."""

    def slice_of(self, name: str) -> datetime | None:
        """The slice that a delivery of that name belongs to; None where it belongs to none."""
        ...
