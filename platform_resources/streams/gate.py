"""The gate: what may enter the event log, by the stream's contract."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from platform_resources.config import Settings
from platform_resources.contracts.registry import Registry
from platform_resources.streams.log import EventLog


@dataclass(frozen=True, slots=True)
class Refusal:
    """An event the gate refused: `line` from 1 (0 outside a batch), stable `code`, `path` in the event, one sentence `reason`."""

    line: int
    code: str
    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """An event the gate accepts: what goes on the log."""

    key: bytes | None
    value: bytes
    topic: str


@dataclass
class GateReport:
    """What became of a batch."""

    accepted: int = 0
    refused: int = 0
    refusals: list[Refusal] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The stable JSON form."""
        raise NotImplementedError


class Gate:
    """Checks events against their stream's contract and puts them on the log."""

    def __init__(self, registry: Registry, log: EventLog, settings: Settings) -> None:
        self.registry, self.log, self.settings = registry, log, settings

    def check(self, stream: str, event: bytes | dict[str, Any]) -> Accepted | Refusal:
        """Whether one event may enter; fills `meta.id` and `meta.dt` where absent."""
        raise NotImplementedError

    def produce(self, stream: str, lines: Iterable[bytes], *, unchecked: bool = False) -> GateReport:
        """Check and append a batch, in constant memory."""
        raise NotImplementedError
