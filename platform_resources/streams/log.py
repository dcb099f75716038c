"""The event log as the platform sees it: topics of partitions of records, read from positions that the reader keeps.

The protocol, its values and the choice of implementation live here; how records are stored is in `local_log` and `kafka_log`.
There are no consumer groups: a reader's position lies in its table (law 2), so a log never commits an offset for anybody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol
from zlib import crc32

from platform_resources.config import Settings
from platform_resources.errors import PlatformError

TopicPartition = tuple[str, int]
KeyedEvent = tuple[bytes | None, bytes]


class LogRecord(NamedTuple):
    """One record as it lies in the log.

    `time` is the log append time (UTC, aware); where a Kafka topic keeps its producers' times instead, that claim, but no later than
    now. Offsets of a partition start at 0 and rise by one on the local log, while Kafka leaves holes: transaction markers, aborted
    transactions, compaction. `value` is None only for a Kafka tombstone.
    """

    topic: str
    partition: int
    offset: int
    time: datetime
    key: bytes | None
    value: bytes | None


class EventLog(Protocol):
    """A durable, ordered, partitioned log. Safe for several processes; one instance belongs to one thread."""

    def create_topic(self, topic: str, partitions: int = 1) -> None:
        """Make sure the topic exists; an existing one is left as it is."""

    def topics(self) -> list[str]:
        """Names of all topics, sorted."""

    def partitions(self, topic: str) -> list[int]:
        """Partition numbers of the topic, sorted; [] when it does not exist."""

    def append(self, topic: str, events: Sequence[KeyedEvent]) -> None:
        """Append (key, value) pairs; all of them are durable when this returns. A missing topic is created with one partition.

        Raises:
            PlatformError: `log-unreachable` when the log cannot be written; some of the events may then be in it (at least once).
        """

    def topic_id(self, topic: str) -> str | None:
        """What the topic was given when it was made, and no other topic ever, of this log or another; None when there is no topic."""

    def start_offsets(self, topic: str) -> dict[int, int]:
        """Oldest offset kept, by partition; {} when the topic does not exist."""

    def end_offsets(self, topic: str) -> dict[int, int]:
        """Offset behind what can be read now, by partition; {} when the topic does not exist. Open transactions lie past it."""

    def read(
        self, positions: Mapping[TopicPartition, int], *, max_events: int, timeout: float, max_bytes: int | None = None
    ) -> list[LogRecord]:
        """Up to `max_events` records from exactly these offsets, in order within each partition, fairly across partitions.

        Returns as soon as there is anything; [] after `timeout` seconds with nothing new, or when all it came past were holes. A
        partition that does not exist yet has nothing to read. `max_bytes` ends a read early: it is overshot by one fetch at most.

        Raises:
            PlatformError: `log-truncated` when a position lies before the oldest record or beyond the end;
                `log-unreachable` when the log does not answer.
        """

    def skipped(self) -> Mapping[TopicPartition, int]:
        """Where to read on, by partition, behind a hole that the last read came to the end of the log through; {} without holes."""

    def close(self) -> None:
        """Let go of files and connections."""


def partition_of(key: bytes | None, value: bytes, partitions: int) -> int:
    """The partition an event goes to: CRC-32 of the key as librdkafka's `consistent` partitioner; without a key, of the value."""
    return crc32(value if key is None else key) % partitions


def log_truncated(topic: str, partition: int, position: int, start: int, end: int) -> PlatformError:
    """The error for a position that the log no longer, or not yet, has."""
    lost = f"the log now starts at {start}" if position < start else f"the log ends at {end}"
    return PlatformError(
        "log-truncated",
        f"Topic {topic}, partition {partition}: the next event to read has offset {position}, but {lost}.",
        "Restore the log, or rebuild the product from what the log still has with `sdp ingest D/P --recreate`.",
    )


def open_log(settings: Settings) -> EventLog:
    """The event log of this instance: local segment files or Kafka, by `settings.log_kind`.

    Raises:
        PlatformError: `log-unreachable` when Kafka is asked for and no broker is configured or running.
    """
    if settings.log_kind == "local":
        from platform_resources.streams.local_log import LocalLog

        return LocalLog(settings.log_path)
    from platform_resources.streams.kafka_log import KafkaLog

    return KafkaLog(settings)
