"""Events to Arrow rows by their contract, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from platform_resources.contracts.model import Contract


@dataclass(frozen=True, slots=True)
class Undecodable:
    """Why one event cannot become a row: `index` into the values given, a stable `reason`, the `path` in the event, a `detail`."""

    index: int
    reason: str
    path: str
    detail: str


@dataclass(frozen=True)
class Decoded:
    """One batch decoded.

    `table` holds a row per good value (contract columns in order, then `_extra` when the contract is open); `rows[i]` is the index
    of row i in the values given; `hashes[i]` its 16-byte canonical hash; `errors` say why the others are not there.
    """

    table: pa.Table
    rows: list[int]
    errors: list[Undecodable]
    hashes: list[bytes]


class Codec:
    """Decoder and encoder of one contract's events."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """Decode raw values; never raises, whatever the bytes."""
        raise NotImplementedError

    def encode(self, row: dict[str, Any]) -> dict[str, Any]:
        """The event of a table row: inverse of `decode` up to *equal*."""
        raise NotImplementedError
