"""The event log's promises: one suite for every implementation, then what only segment files can show."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from platform_resources.config import Settings
from platform_resources.errors import PlatformError
from platform_resources.streams.kafka_log import KafkaLog
from platform_resources.streams.local_log import LocalLog, _create_segment, _frame
from platform_resources.streams.log import EventLog, LogRecord, open_log, partition_of


def drain(log: EventLog, topic: str, *, at: dict[int, int] | None = None, batch: int = 1000) -> list[LogRecord]:
    """Everything from the given offsets to the log's end."""
    positions = {(topic, number): offset for number, offset in (at or log.start_offsets(topic)).items()}
    ends = log.end_offsets(topic)
    records: list[LogRecord] = []
    while any(positions[topic, number] < end for number, end in ends.items()):
        got = log.read(positions, max_events=batch, timeout=10)
        assert got, f"stuck at {positions}, ends {ends}"
        for record in got:
            positions[record.topic, record.partition] = record.offset + 1
        records += got
    return records


# --- every log


def test_what_is_appended_is_read_in_order_with_keys_and_append_time(event_log: EventLog, topic: str) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    event_log.create_topic(topic)
    event_log.append(topic, [(b"k1", b"one"), (None, b""), (b"", b"three")])
    event_log.append(topic, [(None, "vier ☃".encode())])
    records = drain(event_log, topic)
    assert [(r.topic, r.partition, r.offset, r.key, r.value) for r in records] == [
        (topic, 0, 0, b"k1", b"one"),
        (topic, 0, 1, None, b""),
        (topic, 0, 2, b"", b"three"),
        (topic, 0, 3, None, "vier ☃".encode()),
    ]
    assert all(before <= r.time <= datetime.now(UTC) + timedelta(seconds=1) for r in records)
    assert [r.time for r in records] == sorted(r.time for r in records)


def test_reading_starts_at_exactly_the_position_given(event_log: EventLog, topic: str) -> None:
    event_log.append(topic, [(None, str(n).encode()) for n in range(500)])
    for start in (499, 0, 250, 251, 3):
        got = event_log.read({(topic, 0): start}, max_events=1, timeout=10)
        assert [(r.offset, r.value) for r in got] == [(start, str(start).encode())]
    assert [r.offset for r in drain(event_log, topic, at={0: 123})] == list(range(123, 500))


def test_a_read_returns_nothing_at_the_end_and_sees_what_comes_later(event_log: EventLog, log_settings: Settings, topic: str) -> None:
    event_log.append(topic, [(None, b"a")])
    started = time.monotonic()
    assert event_log.read({(topic, 0): 1}, max_events=10, timeout=0.3) == []
    assert 0.25 <= time.monotonic() - started < 3

    def later() -> None:
        time.sleep(0.3)
        other = open_log(log_settings)
        other.append(topic, [(None, b"b")])
        other.close()

    thread = threading.Thread(target=later)
    thread.start()
    got = event_log.read({(topic, 0): 1}, max_events=10, timeout=10)
    thread.join()
    assert [(r.offset, r.value) for r in got] == [(1, b"b")]


def test_keys_pick_the_partition_and_offsets_count_per_partition(event_log: EventLog, topic: str) -> None:
    event_log.create_topic(topic, partitions=3)
    event_log.create_topic(topic, partitions=9)  # an existing topic stays as it is
    assert event_log.partitions(topic) == [0, 1, 2]
    assert topic in event_log.topics()
    events = [(f"page-{n % 17}".encode(), str(n).encode()) for n in range(300)]
    event_log.append(topic, events)
    records = drain(event_log, topic, batch=37)
    assert sorted(r.value or b"" for r in records) == sorted(value for _, value in events)
    for number in range(3):
        mine = [r for r in records if r.partition == number]
        assert mine and [r.offset for r in mine] == list(range(len(mine)))
        assert [r.value for r in mine] == [value for key, value in events if partition_of(key, value, 3) == number]
    assert event_log.end_offsets(topic) == {n: sum(partition_of(k, v, 3) == n for k, v in events) for n in range(3)}
    assert event_log.start_offsets(topic) == {0: 0, 1: 0, 2: 0}


def test_a_topic_keeps_its_id_and_one_made_anew_gets_another(event_log: EventLog, log_settings: Settings, topic: str) -> None:
    event_log.create_topic(topic, partitions=2)
    first = event_log.topic_id(topic)
    event_log.append(topic, [(None, b"a")])
    other = open_log(log_settings)
    assert first and other.topic_id(topic) == first
    other.close()
    if isinstance(event_log, LocalLog):
        shutil.rmtree(event_log.root / topic)
    else:
        admin = AdminClient({"bootstrap.servers": log_settings.kafka_bootstrap})
        admin.delete_topics([topic])[topic].result(10)
        while topic in event_log.topics():
            time.sleep(0.05)
    assert event_log.topic_id(topic) is None
    event_log.create_topic(topic)
    assert event_log.topic_id(topic) not in (None, first)


def test_a_topic_that_does_not_exist_has_nothing(event_log: EventLog, topic: str) -> None:
    assert event_log.partitions(topic) == []
    assert event_log.start_offsets(topic) == {} == event_log.end_offsets(topic)
    assert event_log.read({(topic, 0): 0}, max_events=10, timeout=0.1) == []
    event_log.append(topic, [(None, b"x")])  # and is made by the first append
    assert [r.value for r in event_log.read({(topic, 0): 0}, max_events=10, timeout=10)] == [b"x"]


def test_no_partition_starves_behind_a_full_one(event_log: EventLog, topic: str) -> None:
    event_log.create_topic(topic, partitions=2)
    keys = {number: next(k for k in (str(n).encode() for n in range(99)) if partition_of(k, b"", 2) == number) for number in (0, 1)}
    for number in (0, 1):
        event_log.append(topic, [(keys[number], os.urandom(1400)) for _ in range(3000)])
    positions = {(topic, 0): 0, (topic, 1): 0}
    seen = dict.fromkeys((0, 1), 0)
    while min(seen.values()) == 0:
        for record in event_log.read(positions, max_events=500, timeout=10):
            seen[record.partition] += 1
            positions[topic, record.partition] = record.offset + 1
    assert max(seen.values()) < 3000


def test_positions_that_change_between_reads_are_followed(event_log: EventLog, topic: str) -> None:
    other = f"{topic}.other"
    event_log.append(topic, [(None, f"a{n}".encode()) for n in range(10)])
    event_log.append(other, [(None, f"b{n}".encode()) for n in range(10)])
    assert event_log.read({(topic, 0): 0}, max_events=3, timeout=10)[0].value == b"a0"
    both: set[bytes | None] = set()
    positions = {(topic, 0): 8, (other, 0): 9}
    while len(both) < 3:
        for record in event_log.read(positions, max_events=10, timeout=10):
            both.add(record.value)
            positions[record.topic, record.partition] = record.offset + 1
    assert both == {b"a8", b"a9", b"b9"}
    got = event_log.read({(other, 0): 2}, max_events=1, timeout=10)
    assert [r.value for r in got] == [b"b2"]
    assert event_log.read({(other, 0): 3}, max_events=1, timeout=10)[0].value == b"b3"


def test_a_position_beyond_the_end_is_refused(event_log: EventLog, topic: str) -> None:
    event_log.append(topic, [(None, b"x")])
    with pytest.raises(PlatformError) as caught:
        event_log.read({(topic, 0): 7}, max_events=1, timeout=10)
    assert caught.value.code == "log-truncated"
    assert caught.value.message == f"Topic {topic}, partition 0: the next event to read has offset 7, but the log ends at 1."
    assert event_log.read({(topic, 0): 0}, max_events=1, timeout=10)[0].value == b"x"  # and the log still works


def test_a_position_that_retention_removed_is_refused(event_log: EventLog, topic: str) -> None:
    event_log.append(topic, [(None, str(n).encode()) for n in range(10)])
    forget(event_log, topic, before=6)
    assert event_log.start_offsets(topic) == {0: 6}
    with pytest.raises(PlatformError) as caught:
        event_log.read({(topic, 0): 2}, max_events=1, timeout=10)
    assert caught.value.code == "log-truncated"
    assert "has offset 2, but the log now starts at 6" in caught.value.message
    assert [r.offset for r in drain(event_log, topic)] == [6, 7, 8, 9]


def forget(log: EventLog, topic: str, *, before: int) -> None:
    """What an operator or a retention policy does: records below an offset go."""
    if isinstance(log, KafkaLog):
        admin = AdminClient({"bootstrap.servers": log.bootstrap})
        for future in admin.delete_records([TopicPartition(topic, 0, before)]).values():
            future.result(10)
        return
    assert isinstance(log, LocalLog)
    values = [(r.key, r.value or b"") for r in drain(log, topic)]
    folder = log.root / topic / "0"
    log.close()
    for file in folder.glob("*.log"):
        file.unlink()
    _create_segment(folder, before, 0)
    log.append(topic, values[before:])


def test_several_processes_append_without_losing_or_mixing(event_log: EventLog, log_settings: Settings, topic: str) -> None:
    event_log.create_topic(topic, partitions=2)
    script = (
        "import sys, os\n"
        "from platform_resources.config import load_settings\n"
        "from platform_resources.streams.log import open_log\n"
        "log = open_log(load_settings())\n"
        "for n in range(40): log.append(sys.argv[1], [(sys.argv[2].encode(), f'{sys.argv[2]}-{n}-{m}'.encode()) for m in range(25)])\n"
        "log.close()\n"
    )
    workers = [
        subprocess.Popen([sys.executable, "-c", script, topic, name], env=environment(log_settings), stderr=subprocess.PIPE)
        for name in ("p", "q", "r")
    ]
    for worker in workers:
        assert worker.wait(60) == 0, worker.stderr.read().decode() if worker.stderr else ""
    records = drain(event_log, topic)
    for name in ("p", "q", "r"):
        mine = [r.value for r in records if r.key == name.encode()]
        assert mine == [f"{name}-{n}-{m}".encode() for n in range(40) for m in range(25)]


def test_a_writer_killed_at_work_loses_nothing_it_acknowledged(event_log: EventLog, log_settings: Settings, topic: str) -> None:
    event_log.create_topic(topic)
    script = (
        "import sys\n"
        "from platform_resources.config import load_settings\n"
        "from platform_resources.streams.log import open_log\n"
        "log = open_log(load_settings())\n"
        "n = int(sys.argv[2])\n"
        "while True:\n"
        "    log.append(sys.argv[1], [(b'k', b'%d' % i + b'.' * 20000) for i in range(n, n + 10)])\n"
        "    n += 10\n"
        "    print(n, flush=True)\n"
    )
    acknowledged = 0
    for _ in range(2):
        worker = subprocess.Popen(
            [sys.executable, "-c", script, topic, str(acknowledged)], env=environment(log_settings), stdout=subprocess.PIPE, text=True
        )
        assert worker.stdout is not None
        for line in worker.stdout:
            acknowledged = int(line)
            if acknowledged % 100 == 0:
                worker.send_signal(signal.SIGKILL)
                break
        acknowledged = max([acknowledged, *(int(line) for line in worker.stdout if line.endswith("\n"))])
        worker.wait()
        numbers = {int((r.value or b"").split(b".")[0]) for r in drain(event_log, topic)}
        assert set(range(acknowledged)) <= numbers
        assert all(len((r.value or b"").lstrip(b"0123456789")) == 20000 for r in drain(event_log, topic))


def environment(settings: Settings) -> dict[str, str]:
    """The environment in which a subprocess has these settings."""
    env = {**os.environ, "SDP_HOME": str(settings.home), "SDP_EVENT_LOG": settings.log_kind}
    return {**env, "SDP_KAFKA_BOOTSTRAP": settings.kafka_bootstrap} if settings.kafka_bootstrap else env


# --- segment files


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalLog]:
    with LocalLog(tmp_path / "log", segment_bytes=2000) as log:
        yield log


def test_segments_roll_and_read_as_one(local: LocalLog) -> None:
    for n in range(50):
        local.append("t", [(None, b"%03d" % (n * 3 + m) + b"." * 100) for m in range(3)])
    assert len(list((local.root / "t" / "0").glob("*.log"))) > 5
    with LocalLog(local.root) as fresh:
        for start in range(0, 150, 7):
            got = drain(fresh, "t", at={0: start}, batch=11)
            assert [int((r.value or b"")[:3]) for r in got] == list(range(start, 150))


def test_topic_names_of_any_shape_are_kept(local: LocalLog) -> None:
    names = ["a/b", "..", ".hidden", "eqiad.mediawiki.page_change.v1", "ü", "a b"]
    for name in names:
        local.append(name, [(None, name.encode())])
    assert local.topics() == sorted(names)
    assert all(local.read({(name, 0): 0}, max_events=1, timeout=0)[0].value == name.encode() for name in names)


@given(cut=st.integers(0, 400), noise=st.binary(max_size=60))
@hypothesis_settings(max_examples=60, deadline=None)
def test_a_torn_tail_is_cut_at_the_first_broken_record(tmp_path_factory: pytest.TempPathFactory, cut: int, noise: bytes) -> None:
    """A writer dies after writing any number of bytes of its batch, then noise: whole records stay, the rest goes, writing goes on."""
    root = tmp_path_factory.mktemp("torn")
    with LocalLog(root) as log:
        log.append("t", [(None, b"acknowledged")])
        file = next((root / "t" / "0").glob("*.log"))
        header = file.read_bytes()[:44]
        durable = file.stat().st_size
        log.append("t", [(b"k", b"x" * 50) for _ in range(5)])
    whole = file.read_bytes()
    size = (len(whole) - durable) // 5
    kept = min(cut, len(whole) - durable)
    file.write_bytes(header + whole[44 : durable + kept] + noise)
    with LocalLog(root) as reader, LocalLog(root) as writer:
        values = [r.value for r in drain(reader, "t")]
        assert values == [b"acknowledged"] + [b"x" * 50] * (kept // size)
        writer.append("t", [(None, b"next")])
        assert [r.value for r in drain(reader, "t")] == [*values, b"next"]


def test_what_lay_behind_a_torn_record_never_comes_back(local: LocalLog) -> None:
    """A whole frame behind the tear must not be taken for a record once the next append ends just before it."""
    local.append("t", [(None, b"one")])
    file = next((local.root / "t" / "0").glob("*.log"))
    next_value = b"x" * 30
    ghost = _frame(None, b"ghost", 0)
    with file.open("ab") as out:
        out.write(b"\xff" * len(_frame(None, next_value, 0)) + ghost)
    with LocalLog(local.root) as writer:
        writer.append("t", [(None, next_value)])
    with LocalLog(local.root) as reader:
        assert [r.value for r in drain(reader, "t")] == [b"one", next_value]


@pytest.mark.parametrize(("point", "left"), [("log-torn-append", []), ("log-synced-append", [b"two"])])
def test_killed_inside_an_append_the_next_writer_goes_on(local: LocalLog, point: str, left: list[bytes]) -> None:
    local.append("t", [(None, b"one")])
    script = (
        "from pathlib import Path\nimport sys\nfrom platform_resources.streams.local_log import LocalLog\n"
        "LocalLog(Path(sys.argv[1])).append('t', [(None, b'two')])"
    )
    done = subprocess.run([sys.executable, "-c", script, str(local.root)], env={**os.environ, "SDP_FAILPOINTS": point}, check=False)
    assert done.returncode == -signal.SIGKILL
    assert [r.value for r in local.read({("t", 0): 0}, max_events=9, timeout=0)] == [b"one"]  # never acknowledged, not yet looked after
    local.append("t", [(None, b"three")])
    assert [r.value for r in drain(local, "t")] == [b"one", *left, b"three"]


def test_damage_before_the_durable_end_is_told_and_not_cut(local: LocalLog) -> None:
    local.append("t", [(None, b"one"), (None, b"two")])
    file = next((local.root / "t" / "0").glob("*.log"))
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with LocalLog(local.root) as fresh, pytest.raises(PlatformError) as caught:
        fresh.read({("t", 0): 0}, max_events=9, timeout=0)
    assert caught.value.code == "log-corrupt"
    assert file.read_bytes() == bytes(data)


def test_records_larger_than_a_read_chunk_come_back_whole(tmp_path: Path) -> None:
    with LocalLog(tmp_path) as log:
        values = [os.urandom(size) for size in (3, 3 << 20, 5, (1 << 20) - 24, 7)]
        log.append("t", [(None, value) for value in values])
        assert [r.value for r in drain(log, "t")] == values
        assert [r.value for r in drain(log, "t", at={0: 4})] == values[4:]


def test_more_partitions_than_events_asked_for_all_get_their_turn(tmp_path: Path) -> None:
    with LocalLog(tmp_path) as log:
        log.create_topic("t", 5)
        log.append("t", [(str(n).encode(), b"v") for n in range(200)])
        seen = {log.read({("t", n): 0 for n in range(5)}, max_events=1, timeout=0)[0].partition for _ in range(5)}
        assert seen == {0, 1, 2, 3, 4}


def test_sequential_reading_keeps_up_with_a_stream(tmp_path: Path) -> None:
    """200,000 events/s is the aim on a quiet machine; a tenth of it fails only when something is wrong."""
    with LocalLog(tmp_path) as log:
        value = os.urandom(1400)
        log.append("t", [(b"key", value)] * 20_000)
        started = time.perf_counter()
        assert len(drain(log, "t", batch=10_000)) == 20_000
        assert 20_000 / (time.perf_counter() - started) > 20_000


# --- Kafka


def test_a_broker_that_does_not_answer_is_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as held:  # bound, not listening: connections are refused
        held.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{held.getsockname()[1]}"
        settings = Settings(home=tmp_path, event_log="kafka", kafka_bootstrap=address)
        with KafkaLog(settings, timeout=1.0) as log, pytest.raises(PlatformError) as caught:
            log.append("t", [(None, b"x")])
    assert caught.value.code == "log-unreachable"
    assert address in caught.value.message and "sdp stack up kafka" in caught.value.remedy


def test_a_leader_that_does_not_know_yet_that_it_leads_is_waited_for(kafka: str, tmp_path: Path, topic: str) -> None:
    """As for a moment after each start of a broker; which answer comes then is chance, so it is given here, before the broker's own."""

    class Settling:
        def __init__(self, admin: AdminClient, *codes: int) -> None:
            self.admin, self.codes = admin, list(codes)

        def list_offsets(self, wanted: dict[TopicPartition, object], **how: object) -> object:
            if not self.codes:
                return self.admin.list_offsets(wanted, **how)  # type: ignore[arg-type]
            failed: Future[object] = Future()
            failed.set_exception(KafkaException(KafkaError(self.codes.pop(0))))
            return dict.fromkeys(wanted, failed)

    settings = Settings(home=tmp_path, event_log="kafka", kafka_bootstrap=kafka)
    with KafkaLog(settings) as log:
        log.append(topic, [(None, b"x")])
        log._admin_client = Settling(log._admin(), KafkaError.UNKNOWN_LEADER_EPOCH, KafkaError.LEADER_NOT_AVAILABLE)  # type: ignore[assignment]
        assert log.end_offsets(topic) == {0: 1}
        log._admin_client = Settling(log._admin(), KafkaError.TOPIC_AUTHORIZATION_FAILED)  # type: ignore[assignment]
        with pytest.raises(PlatformError) as caught:
            log.end_offsets(topic)
        assert caught.value.code == "log-refused"


def test_kafka_asked_for_but_not_there_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(PlatformError) as caught:
        open_log(Settings(home=tmp_path, event_log="kafka"))
    assert caught.value.code == "log-unreachable"
    assert "sdp stack up kafka" in caught.value.remedy
    state = {"name": "kafka", "pid": os.getpid(), "born": "long ago", "ports": {"port": 9}, "address": "127.0.0.1:9"}
    (tmp_path / "stack" / "kafka").mkdir(parents=True)
    (tmp_path / "stack" / "kafka" / "state.json").write_text(json.dumps(state))
    with pytest.raises(PlatformError, match=r"^The server kafka of the stack in .* is stopped\.") as caught:
        open_log(Settings(home=tmp_path, event_log="kafka"))
    assert caught.value.code == "stack-stopped"


def test_what_librdkafka_says_is_logged_and_what_it_mends_is_for_debugging(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "platform_resources.streams.kafka_log")
    with KafkaLog(settings.model_copy(update={"kafka_bootstrap": "127.0.0.1:1"})) as log:
        log._writer().flush(0.0)
        while not any("refused" in record.message for record in caplog.records):
            log._writer().poll(0.1)
        assert {record.levelno for record in caplog.records if "refused" in record.message} == {logging.WARNING}
        caplog.clear()
        log._common["logger"].log(logging.WARNING, "%s [%s] %s", "GETPID", "rdkafka#producer-1", "Coordinator load in progress: retrying")
    assert [(record.levelno, record.message) for record in caplog.records] == [
        (logging.DEBUG, "GETPID [rdkafka#producer-1] Coordinator load in progress: retrying")
    ]
