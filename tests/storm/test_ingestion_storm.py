"""Kill storms over ingestion: every failpoint at several passages, and random SIGKILLs while events keep coming, on both logs."""

from __future__ import annotations

import random
import re
import signal
import threading
import time
from pathlib import Path

import pytest

from platform_resources.config import SOURCE_ROOT, Settings
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.streams.log import EventLog, open_log
from tests.streams.ingestion_kit import assert_exact, assorted, contract, drained, kill_and_recover, records_of, worker

pytestmark = pytest.mark.storm

KILLS_AT_RANDOM = 30
NOT_PASSED_BY_EVERY_DRAIN = {"drain-before-heartbeat", "after-deletes"}  # heartbeats; rows leave the quarantine at a take-over


def failpoints() -> list[str]:
    """Every failpoint that a drain may pass, found where it is declared."""
    package = SOURCE_ROOT / "platform_resources"
    files = [*(package / "streams").glob("*.py"), package / "lakehouse" / "staging.py"]
    names = {name for file in files if file.name != "local_log.py" for name in re.findall(r'failpoint\("([\w-]+)"\)', file.read_text())}
    return sorted(names - NOT_PASSED_BY_EVERY_DRAIN)


def test_there_are_at_least_ten_failpoints() -> None:
    assert len(failpoints()) >= 10


@pytest.mark.parametrize("passage", [1, 3])
@pytest.mark.parametrize("name", failpoints())
def test_killed_at_every_failpoint(log_settings: Settings, event_log: EventLog, topic: str, name: str, passage: int) -> None:
    settings = log_settings.model_copy(update={"batch_events": 20})
    kill_and_recover(settings, event_log, topic, f"{name}@{passage}", seed=passage, must_die=passage == 1)


def test_killed_at_a_heartbeat(log_settings: Settings, event_log: EventLog, topic: str) -> None:
    event_log.append(topic, [(None, value) for value in assorted(random.Random(1), 10)])
    drain = worker(log_settings, "--until", "30", "--promise", "1", topic=topic, failpoints="drain-before-heartbeat@2")
    assert drain.wait(60) == -signal.SIGKILL
    drained(log_settings, event_log, contract(topic))
    assert_exact(Lakehouse(log_settings), contract(topic), records_of(event_log, topic))


def test_killed_at_random_while_events_keep_coming(log_settings: Settings, event_log: EventLog, topic: str, tmp_path: Path) -> None:
    rng, settings, done = random.Random(), log_settings.model_copy(update={"batch_events": 25}), threading.Event()
    event_log.create_topic(topic, partitions=1)
    problems: list[str] = []

    def produce() -> None:
        mine = open_log(settings)
        first = 0
        for _ in range(100_000):
            if done.wait(0.1):
                break
            mine.append(topic, [(None, value) for value in assorted(rng, rng.randrange(1, 12), first=first)])
            first += rng.randrange(12)  # some numbers come again in a later call, with another payload
        mine.close()

    producer = threading.Thread(target=produce)
    producer.start()
    try:
        for kill in range(KILLS_AT_RANDOM):
            drain = worker(settings, "--until", "60", topic=topic)
            assert drain.stdout is not None
            drain.stdout.readline()
            time.sleep(rng.uniform(0.0, 1.2))
            if drain.poll() is not None:
                problems.append(f"drain {kill} ended by itself: {drain.communicate()}")
            drain.kill()
            drain.communicate()
    finally:
        done.set()
        producer.join()
    assert not problems
    drained(settings, event_log, contract(topic))
    records = records_of(event_log, topic)
    # keys repeat across the producer's calls with other payloads: what contradicts what depends on order alone, which the log keeps;
    # what is late depends on whether a drain met the log's end and said so by a heartbeat, which the oracle cannot know
    truth = assert_exact(Lakehouse(settings), contract(topic), records)
    assert len(truth.main) > 100
