"""The event log in Apache Kafka, by librdkafka.

An idempotent producer with acks=all and a consumer with explicit assignment; no group, no committed offset, no automatic reset:
positions are given by the caller and a position that the broker no longer has is an error, never a silent jump. Only committed
transactions are read, up to the last stable offset. `time` of a record is the broker's append time, which topics made here carry
(`message.timestamp.type=LogAppendTime`); a topic with `CreateTime` has its producers' claims instead, which are held to be no later
than the moment they are read.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from confluent_kafka import (
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicCollection,
)
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec  # type: ignore[attr-defined]

from platform_resources.config import Settings
from platform_resources.errors import PlatformError
from platform_resources.stack.kafka import running_bootstrap
from platform_resources.streams.log import KeyedEvent, LogRecord, TopicPartition, log_truncated, partition_of

_logger = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STEP = 1000  # messages taken at once
_MAX_MESSAGE_BYTES = 16 << 20  # an event over the contract's limit is refused with a reason by gate and codec, not by the client
_NOT_THERE = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION})  # noqa: SLF001
_OUT_OF_RANGE = frozenset({KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET})  # noqa: SLF001
# A leader is being elected, or has just been and does not know it yet, as for a moment after every start of a broker.
_SETTLING = frozenset(
    {
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.OFFSET_NOT_AVAILABLE,
    }
)
_DOWN = frozenset({KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._RESOLVE})  # noqa: SLF001


class _Librdkafka:
    """Where librdkafka's own log lines go: what it mends by itself is for debugging, an error is a warning until it reaches a caller.

    `Coordinator load in progress: retrying`, which every first append to a young broker brings, comes as a warning, and Python prints
    warnings to the terminal where nobody configured logging.
    """

    @staticmethod
    def log(level: int, message: str, *arguments: object) -> None:
        """What confluent-kafka calls, as `logging.Logger.log`."""
        _logger.log(logging.WARNING if level >= logging.ERROR else logging.DEBUG, message, *arguments)


class KafkaLog:
    """The event log in the Kafka cluster at `settings.kafka_bootstrap`, default the broker that `sdp stack up kafka` runs.

    Args:
        settings: where the broker is.
        timeout: seconds after which a broker that does not answer is `log-unreachable`.

    Raises:
        PlatformError: `log-unreachable` when no broker is configured, `stack-stopped` when this home's own is stopped.
    """

    def __init__(self, settings: Settings, *, timeout: float = 30.0) -> None:
        bootstrap = settings.kafka_bootstrap or running_bootstrap(settings)
        if bootstrap is None:
            from platform_resources.stack.services import require_running

            require_running(settings, ["kafka"])
            raise PlatformError(
                "log-unreachable",
                "The event log is Kafka, but no broker is configured, and this home's own was never started.",
                "Start one with `sdp stack up kafka` or set SDP_KAFKA_BOOTSTRAP.",
            )
        self.bootstrap, self.timeout = bootstrap, timeout
        self._common: dict[str, Any] = {
            "bootstrap.servers": bootstrap,
            "logger": _Librdkafka,
            "message.max.bytes": _MAX_MESSAGE_BYTES,
            "reconnect.backoff.max.ms": 1000,
            "socket.connection.setup.timeout.ms": 5000,
        }
        self._producer: Producer | None = None
        self._consumer: Consumer | None = None
        self._admin_client: AdminClient | None = None
        self._assigned: dict[TopicPartition, int] = {}  # the offset that the consumer will deliver next
        self._skipped: dict[TopicPartition, int] = {}
        self._partitions: dict[str, int] = {}
        self._down = False

    # --- topics

    def create_topic(self, topic: str, partitions: int = 1) -> None:
        """Make the topic with log append time and the cluster's own replication and retention."""
        if self.partitions(topic):
            return
        new = NewTopic(topic, num_partitions=partitions, config={"message.timestamp.type": "LogAppendTime"})
        try:
            self._admin().create_topics([new], operation_timeout=self.timeout)[topic].result(self.timeout)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise self._failure(error, f"create the topic {topic}") from error
        deadline = time.monotonic() + self.timeout
        while not self.partitions(topic):  # a new topic takes a moment until every broker tells of it
            if time.monotonic() > deadline:
                raise self._unreachable(f"created the topic {topic} but does not list it")
            time.sleep(0.02)

    def topics(self) -> list[str]:
        """Names of all topics but Kafka's own, sorted."""
        return sorted(name for name in self._metadata(None) if not name.startswith("__"))

    def partitions(self, topic: str) -> list[int]:
        """Partition numbers of the topic; [] when it does not exist."""
        found = self._metadata(topic).get(topic)
        if found is None or found.error is not None:
            return []
        self._partitions[topic] = len(found.partitions)
        return sorted(found.partitions)

    def _metadata(self, topic: str | None) -> dict[str, Any]:
        def ask() -> dict[str, Any]:
            found: dict[str, Any] = self._reader().list_topics(topic, timeout=self.timeout).topics
            wrong = found[topic].error if topic in found else None
            if wrong is not None and wrong.code() not in _NOT_THERE:
                raise KafkaException(wrong)
            return found

        return self._settled(ask, "list its topics" if topic is None else f"describe the topic {topic}")

    def _settled(self, ask: Callable[[], _Answer], deed: str) -> _Answer:
        """An answer, waited for while the cluster is still settling who leads."""
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                return ask()
            except (KafkaException, TimeoutError) as error:
                code = error.args[0].code() if isinstance(error, KafkaException) else None
                if code not in _SETTLING or time.monotonic() > deadline:
                    raise self._failure(error if isinstance(error, KafkaException) else None, deed) from error
            time.sleep(0.05)

    # --- writing

    def append(self, topic: str, events: Sequence[KeyedEvent]) -> None:
        """Append (key, value) pairs; every in-sync replica has them all when this returns.

        Raises:
            PlatformError: `log-unreachable`; some of the events may then be in the log.
        """
        if not events:
            return
        count = self._partitions.get(topic) or len(self.partitions(topic))
        if not count:
            self.create_topic(topic)
            count = len(self.partitions(topic))
        failed: list[KafkaError] = []

        def delivered(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                failed.append(error)

        producer = self._writer()
        for key, value in events:
            while True:
                try:
                    producer.produce(topic, value, key, partition_of(key, value, count), on_delivery=delivered)
                    break
                except BufferError:
                    producer.poll(0.1)
                except KafkaException as error:
                    failed.append(error.args[0])
                    break
            if failed:
                break
        left = producer.flush(self.timeout)
        if failed or left:
            producer.purge()
            producer.flush(1.0)
            self._producer = None  # after a failure an idempotent producer may be spent
            raise self._failure(KafkaException(failed[0]) if failed else None, f"append to the topic {topic}")

    # --- reading

    def topic_id(self, topic: str) -> str | None:
        """The broker's own id of the topic, base64; None when it does not exist."""
        if not self.partitions(topic):
            return None

        def ask() -> str:
            asked = self._admin().describe_topics(TopicCollection([topic]), request_timeout=self.timeout)
            return str(asked[topic].result(self.timeout).topic_id)

        return self._settled(ask, f"describe the topic {topic}")

    def start_offsets(self, topic: str) -> dict[int, int]:
        """Oldest offset kept, by partition."""
        return self._offsets(topic, OffsetSpec.earliest())  # type: ignore[no-untyped-call]

    def end_offsets(self, topic: str) -> dict[int, int]:
        """Last stable offset, by partition: where the next record will be, or the first of a transaction that is still open."""
        return self._offsets(topic, OffsetSpec.latest())  # type: ignore[no-untyped-call]

    def _offsets(self, topic: str, which: OffsetSpec) -> dict[int, int]:
        wanted = {KafkaPartition(topic, number): which for number in self.partitions(topic)}
        if not wanted:
            return {}

        def ask() -> dict[int, int]:
            asked = self._admin().list_offsets(wanted, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=self.timeout)
            return {tp.partition: future.result(self.timeout).offset for tp, future in asked.items()}

        return self._settled(ask, f"tell the offsets of the topic {topic}")

    def read(
        self, positions: Mapping[TopicPartition, int], *, max_events: int, timeout: float, max_bytes: int | None = None
    ) -> list[LogRecord]:
        """Records from exactly these offsets; a partition waits for another's fetch (1 MiB) at most.

        Raises:
            PlatformError: `log-truncated` or `log-unreachable`.
        """
        consumer = self._reader()
        self._assign(consumer, positions)
        deadline = time.monotonic() + timeout
        records: list[LogRecord] = []
        self._skipped = {}
        while True:
            size = self._take(consumer.consume(1, max(0.0, min(deadline - time.monotonic(), 1.0))), records)
            while records and len(records) < max_events and (max_bytes is None or size < max_bytes):
                wanted = min(max_events - len(records), _STEP)
                if max_bytes is not None:  # as many as fit when they are like those before
                    wanted = min(wanted, 1 + (max_bytes - size) * len(records) // max(size, 1))
                messages = consumer.consume(wanted, 0.01)
                size += self._take(messages, records)
                if len(messages) < wanted:
                    break
            if records or self._skipped:
                return records
            if time.monotonic() >= deadline:
                if self._down:
                    raise self._unreachable("does not answer")
                return []

    def skipped(self) -> Mapping[TopicPartition, int]:
        """Where to read on behind holes at the end of the log: markers of transactions, aborted and compacted away records."""
        return self._skipped

    def _assign(self, consumer: Consumer, positions: Mapping[TopicPartition, int]) -> None:
        """Point the consumer at the positions, leaving it and its prefetched messages alone where it already stands there."""
        there = {tp: offset for tp, offset in positions.items() if self._exists(tp)}
        if there == self._assigned:
            return
        try:
            if there.keys() == self._assigned.keys():
                for tp, offset in there.items():
                    if self._assigned[tp] != offset:
                        consumer.seek(KafkaPartition(*tp, offset))
            else:
                consumer.assign([KafkaPartition(*tp, offset) for tp, offset in there.items()])
        except KafkaException:  # a seek while the partition's fetch is only starting is refused
            consumer.assign([KafkaPartition(*tp, offset) for tp, offset in there.items()])
        self._assigned = there

    def _exists(self, tp: TopicPartition) -> bool:
        topic, number = tp
        return number < self._partitions.get(topic, 0) or number in self.partitions(topic)

    def _take(self, messages: Sequence[Message], records: list[LogRecord]) -> int:
        """Make records of messages; their bytes."""
        last, when, size = (-1, -1), _EPOCH, 0
        for message in messages:
            error = message.error()
            if error is not None:
                self._judge(error, message)
                continue
            self._down = False
            tp = _place(message)
            offset, value = message.offset() or 0, message.value()
            if message.timestamp() != last:
                last = message.timestamp()
                when = _log_time(*last)
            records.append(LogRecord(*tp, offset, when, message.key(), value))
            size += len(value or b"")
            self._assigned[tp] = offset + 1
        return size

    def _judge(self, error: KafkaError, message: Message) -> None:
        """Raise for what an operator must know; pass over what librdkafka repairs by itself."""
        code = error.code()
        if code == KafkaError._PARTITION_EOF:  # noqa: SLF001 - it stands behind the last record and whatever hole follows it
            tp, offset = _place(message), message.offset() or 0
            if offset > self._assigned.get(tp, offset):
                self._assigned[tp] = self._skipped[tp] = offset
        elif code in _OUT_OF_RANGE:
            topic, number = _place(message)
            position = self._assigned.pop((topic, number), -1)
            self._assigned = {}
            raise log_truncated(topic, number, position, self.start_offsets(topic)[number], self.end_offsets(topic)[number])
        elif code in _NOT_THERE:
            self._partitions.pop(message.topic() or "", None)
        elif code in _DOWN:
            self._down = True
        elif not error.retriable():
            raise self._failure(KafkaException(error), "be read")

    # --- clients, made at first use

    def _reader(self) -> Consumer:
        if self._consumer is None:
            self._consumer = Consumer(
                {
                    **self._common,
                    "group.id": "shared-data-platform",  # librdkafka insists on a name; nothing is ever committed under it
                    "enable.auto.commit": False,
                    "enable.auto.offset.store": False,
                    "auto.offset.reset": "error",
                    "isolation.level": "read_committed",
                    "enable.partition.eof": True,
                    "allow.auto.create.topics": False,
                    "fetch.wait.max.ms": 100,
                    "fetch.message.max.bytes": 1 << 20,
                    "queued.max.messages.kbytes": 64 << 10,
                    "topic.metadata.refresh.interval.ms": 60_000,
                    "error_cb": self._on_error,
                }
            )
        return self._consumer

    def _writer(self) -> Producer:
        if self._producer is None:
            self._producer = Producer(
                {
                    **self._common,
                    "enable.idempotence": True,
                    "acks": "all",
                    "linger.ms": 5,
                    "compression.type": "lz4",
                    "delivery.timeout.ms": int(self.timeout * 1000),
                }
            )
        return self._producer

    def _admin(self) -> AdminClient:
        if self._admin_client is None:
            self._admin_client = AdminClient(self._common)
        return self._admin_client

    def _on_error(self, error: KafkaError) -> None:
        if error.code() in _DOWN:
            self._down = True

    def _failure(self, error: KafkaException | None, deed: str) -> PlatformError:
        """The user's sentence for what Kafka said."""
        cause = error.args[0] if error is not None else None
        if cause is None or cause.code() in _DOWN or cause.code() == KafkaError._MSG_TIMED_OUT:  # noqa: SLF001
            return self._unreachable(f"did not {deed} within {self.timeout:g} seconds")
        return PlatformError(
            "log-refused", f"Kafka at {self.bootstrap} refused to {deed}: {cause.str()}.", "Look at the broker's log and its access rules."
        )

    def _unreachable(self, what: str) -> PlatformError:
        return PlatformError(
            "log-unreachable",
            f"Kafka at {self.bootstrap} {what}.",
            "See `sdp stack status kafka`, start it with `sdp stack up kafka`, or set SDP_KAFKA_BOOTSTRAP to a broker that runs.",
        )

    def close(self) -> None:
        """Close the connections; the instance may be used again and opens them anew."""
        if self._consumer is not None:
            self._consumer.close()
        if self._producer is not None:
            self._producer.flush(self.timeout)
        self._consumer = self._producer = self._admin_client = None
        self._assigned = {}

    def __enter__(self) -> KafkaLog:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def _log_time(kind: int, ms: int) -> datetime:
    """The broker's append time; a producer's claim, which may be any number, moved to now where it is absent or lies ahead."""
    if kind != TIMESTAMP_LOG_APPEND_TIME:
        now = time.time_ns() // 1_000_000
        ms = min(ms, now) if ms >= 0 else now
    return _EPOCH + timedelta(milliseconds=ms)


def _place(message: Message) -> TopicPartition:
    """Where a message stands; the client's types allow for messages that stand nowhere, which a consumer never gives."""
    return message.topic() or "", message.partition() or 0
