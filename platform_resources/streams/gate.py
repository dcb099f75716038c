"""The gate: what may enter the event log, by the stream's contract.

Wikimedia Event Platform conventions: an event names its schema (`$schema`) and its stream (`meta.stream`); `meta.id` and `meta.dt` are
filled in where absent. Any version of the same schema title and major is welcome when it validates against the contract. The gate runs
the codec itself, so what it accepts ingestion can decode. Canary events (`meta.domain` is `canary`) are events like others.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson

from platform_resources.config import Settings
from platform_resources.contracts.model import Contract
from platform_resources.contracts.registry import Registry
from platform_resources.streams.canonical import canonical_json, plain
from platform_resources.streams.codec import Codec
from platform_resources.streams.log import EventLog, KeyedEvent
from platform_resources.streams.temporal import format_micros
from platform_resources.streams.validation import UnreadableError, parse_event

_SCHEMA_URI = re.compile(r"/?(?P<title>.+)/(?P<major>\d+)\.\d+\.\d+")
_CHUNK_EVENTS, _CHUNK_BYTES = 1000, 4 << 20
MOST_REFUSALS = 100_000  # kept in a report; all are counted


@dataclass(frozen=True, slots=True)
class Refusal:
    """An event the gate refused: `line` from 1 (0 outside a batch), stable `code`, `path` in the event, one sentence `reason`.

    Codes: `invalid-json`, `invalid-utf8`, `not-an-object`, `too-large`, `too-deep`, `schema-missing`, `schema-unknown`,
    `stream-missing`, `stream-mismatch`, and those of `Undecodable`: `schema-violation`, `out-of-range`, `unreadable-timestamp`, ...
    """

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
    """What became of a batch. At most `MOST_REFUSALS` refusals are kept, the first ones."""

    accepted: int = 0
    refused: int = 0
    refusals: list[Refusal] = field(default_factory=list)

    def refuse(self, refusal: Refusal) -> None:
        """Count a refusal."""
        self.refused += 1
        if len(self.refusals) < MOST_REFUSALS:
            self.refusals.append(refusal)

    def as_dict(self) -> dict[str, Any]:
        """The stable JSON form."""
        return {"accepted": self.accepted, "refused": self.refused, "refusals": [asdict(refusal) for refusal in self.refusals]}


class Gate:
    """Checks events against their stream's contract and puts them on the log."""

    def __init__(self, registry: Registry, log: EventLog, settings: Settings) -> None:
        self.registry, self.log, self.settings = registry, log, settings
        self._streams: dict[str, _StreamGate] = {}

    def check(self, stream: str, event: bytes | dict[str, Any]) -> Accepted | Refusal:
        """Whether one event may enter; fills `meta.id` and `meta.dt` where absent. A dict is not changed.

        Raises:
            PlatformError: `stream-unknown`.
        """
        gate = self._stream(stream)
        try:
            raw = event if isinstance(event, bytes) else orjson.dumps(event)
        except (TypeError, ValueError, RecursionError) as error:
            return Refusal(0, "invalid-json", "", f"The event cannot be written as JSON: {error}.")
        return gate.judge([(0, raw)])[0]

    def produce(self, stream: str, lines: Iterable[bytes], *, unchecked: bool = False) -> GateReport:
        """Check and append a batch, one event per line, in constant memory; blank lines are passed over.

        Args:
            stream: name of a stream that a contract ingests.
            lines: raw events, with or without line ends; counted from 1.
            unchecked: put the raw bytes on the log as they are, past the gate.

        Raises:
            PlatformError: `stream-unknown`; `log-unreachable` or `log-unwritable` when the log fails, after which the lines before are
                in the log.
        """
        gate = self._stream(stream)
        report = GateReport()
        for chunk in _chunks(lines):
            events: list[KeyedEvent]
            if unchecked:
                events = [(None, raw) for _, raw in chunk]
            else:
                verdicts = gate.judge(chunk)
                events = [(verdict.key, verdict.value) for verdict in verdicts if isinstance(verdict, Accepted)]
                for verdict in verdicts:
                    if isinstance(verdict, Refusal):
                        report.refuse(verdict)
            self.log.append(gate.topic, events)
            report.accepted += len(events)
        return report

    def _stream(self, stream: str) -> _StreamGate:
        if stream not in self._streams:
            self._streams[stream] = _StreamGate(self.registry.by_stream(stream), stream)
        return self._streams[stream]


class _StreamGate:
    """The gate of one stream, compiled."""

    def __init__(self, contract: Contract, stream: str) -> None:
        self.contract, self.stream = contract, stream
        topics = contract.source.topics if contract.source else ()
        self.topic = topics[0] if topics else stream
        self._codec = Codec(contract)
        self._title, self._major = contract.event_title, contract.version.partition(".")[0]
        meta = contract.column("meta") if contract.has_column("meta") else None
        takes_any = not contract.closed if meta is None else not meta.closed
        self._fills = [name for name in ("id", "dt") if takes_any or contract.has_column(f"meta.{name}")]
        self._key_paths = [(path, path.split(".")) for path in contract.primary_key]

    def judge(self, chunk: list[tuple[int, bytes]]) -> list[Accepted | Refusal]:
        """The verdict on each (line, raw event), in order."""
        verdicts: list[Accepted | Refusal | None] = []
        pending: list[tuple[int, int, dict[str, Any], bytes]] = []
        for line, raw in chunk:
            prepared = self._prepare(line, raw)
            if isinstance(prepared, Refusal):
                verdicts.append(prepared)
            else:
                pending.append((len(verdicts), line, *prepared))
                verdicts.append(None)
        decoded = self._codec.decode([value for *_, value in pending])
        for fault in decoded.errors:
            place, line, _, _ = pending[fault.index]
            where = f"The field {fault.path}" if fault.path else "The event"
            verdicts[place] = Refusal(line, fault.reason, fault.path, f"{where} is refused: {fault.detail.rstrip('.')}.")
        for index in decoded.rows:
            place, _, event, value = pending[index]
            verdicts[place] = Accepted(self._key(event), value, self.topic)
        return [verdict for verdict in verdicts if verdict is not None]

    def _prepare(self, line: int, raw: bytes) -> tuple[dict[str, Any], bytes] | Refusal:
        """The event with what the gate fills in, and its bytes: the producer's own where nothing was to fill."""
        try:
            event = parse_event(raw, self.contract.max_event_bytes)
        except UnreadableError as error:
            return Refusal(line, error.reason, "", f"The line is not an event: {error}.")
        wrong = self._unconventional(line, event)
        if wrong is not None:
            return wrong
        meta = event["meta"]
        missing = [name for name in self._fills if meta.get(name) is None]
        for name in missing:
            meta[name] = str(uuid.uuid4()) if name == "id" else format_micros(time.time_ns() // 1_000_000 * 1000)
        return event, orjson.dumps(event) if missing else raw

    def _unconventional(self, line: int, event: dict[str, Any]) -> Refusal | None:
        """A breach of the conventions, before the schema is asked."""
        title, major = self._title, self._major
        named = event.get("$schema")
        if not isinstance(named, str) or not named:
            return Refusal(
                line, "schema-missing", "$schema", f"The event names no schema: give $schema, e.g. /{title}/{self.contract.version}."
            )
        match = _SCHEMA_URI.fullmatch(named)
        if match is None or match["title"] != title or match["major"] != major:
            return Refusal(line, "schema-unknown", "$schema", f"The stream {self.stream} takes /{title}/{major}.*, not {named[:100]}.")
        meta = event.get("meta")
        stream = meta.get("stream") if isinstance(meta, dict) else None
        if not isinstance(stream, str) or not stream:
            return Refusal(line, "stream-missing", "meta.stream", f"The event names no stream: give meta.stream, here {self.stream}.")
        if stream != self.stream:
            return Refusal(line, "stream-mismatch", "meta.stream", f"The event belongs to the stream {stream[:100]}, not to {self.stream}.")
        return None

    def _key(self, event: dict[str, Any]) -> bytes | None:
        """The primary key as a JSON object, so that events of one thing share a partition; None when the event lacks a part of it."""
        parts: dict[str, Any] = {}
        for path, names in self._key_paths:
            value: Any = event
            for name in names:
                value = value.get("$schema" if name == "_schema" else name) if isinstance(value, dict) else None
            if value is None:
                return None
            parts[path] = plain(value)
        return canonical_json(parts) if parts else None


def _chunks(lines: Iterable[bytes]) -> Iterator[list[tuple[int, bytes]]]:
    """Numbered lines without their line ends, in bounded groups."""
    chunk: list[tuple[int, bytes]] = []
    size = 0
    for number, line in enumerate(lines, start=1):
        raw = line.rstrip(b"\r\n")
        if not raw.strip():
            continue
        chunk.append((number, raw))
        size += len(raw)
        if len(chunk) >= _CHUNK_EVENTS or size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
