"""Drains in processes of their own that are killed, stopped, put to sleep and raced. The storms are in tests/storm."""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from platform_resources.config import Settings
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.reading import arrow_table
from platform_resources.lakehouse.stamp import read_position
from platform_resources.streams.log import EventLog, open_log
from tests.streams.ingestion_kit import assert_exact, assorted, contract, drained, kill_and_recover, records_of, worker

TOPIC = "test.clicks"

# before-commit, after-commit and after-data-files lie in the lakehouse's write path: of a drain's commits the first takes over the
# main table, the second the quarantine, the third puts the first batch's bad events aside, the fourth publishes the batch.
KILLS = [
    "drain-after-epoch",
    "before-commit@2",
    "drain-after-quarantine-takeover",
    "drain-after-read@2",
    "drain-after-decode@2",
    "drain-before-window",
    "after-data-files@3",
    "drain-after-stage",
    "before-commit@3",
    "drain-after-quarantine-commit@2",
    "drain-before-main-commit",
    "after-commit@4",
    "drain-after-main-commit@2",
]


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", batch_events=20)


@pytest.fixture
def log(home: Settings) -> Iterator[EventLog]:
    log = open_log(home)
    yield log
    log.close()


@pytest.mark.parametrize("failpoint", KILLS)
def test_killed_anywhere_over_the_local_log_loses_and_doubles_nothing(home: Settings, log: EventLog, failpoint: str) -> None:
    kill_and_recover(home, log, TOPIC, failpoint)


# Each of the points over Kafka is in tests/storm.
@pytest.mark.parametrize("failpoint", ["drain-after-quarantine-commit@2"])
@pytest.mark.parametrize("log_settings", ["kafka"], indirect=True)
def test_killed_anywhere_over_kafka_loses_and_doubles_nothing(
    log_settings: Settings, event_log: EventLog, topic: str, failpoint: str
) -> None:
    kill_and_recover(log_settings.model_copy(update={"batch_events": 20}), event_log, topic, failpoint)


def test_rows_put_aside_by_a_killed_drain_become_rows_under_a_wider_contract(home: Settings, log: EventLog) -> None:
    log.append(TOPIC, [(None, value) for value in assorted(random.Random(2), 60)])
    killed = worker(home, failpoints="drain-after-quarantine-commit")
    assert killed.wait(60) == -signal.SIGKILL
    aside = Lakehouse(home).table(contract().quarantine_identifier)
    assert aside is not None and len(arrow_table(aside)) > 0
    wide = contract(wide=True)
    drained(home, log, wide)
    truth = assert_exact(Lakehouse(home), wide, records_of(log, TOPIC), lateness=True)
    assert len(truth.main) > 0


def test_rows_a_killed_drain_would_have_let_in_go_aside_under_a_stricter_contract(home: Settings, log: EventLog) -> None:
    log.append(TOPIC, [(None, value) for value in assorted(random.Random(2), 60)])
    killed = worker(home, "--unchecked", failpoints="drain-before-main-commit")
    assert killed.wait(60) == -signal.SIGKILL
    drained(home, log, contract())
    truth = assert_exact(Lakehouse(home), contract(), records_of(log, TOPIC), lateness=True)
    assert "check:no_forbidden" in truth.quarantine.values()


def test_a_process_that_wakes_after_its_successor_finished_ends_quietly(home: Settings, log: EventLog) -> None:
    log.append(TOPIC, [(None, value) for value in assorted(random.Random(4), 60)])
    zombie = worker(home, failpoints="drain-before-main-commit:sleep=4@2")
    began = time.monotonic()
    while _aside_position(home) != 40:
        assert time.monotonic() - began < 30, "the zombie never put the bad events of its second batch aside"
        time.sleep(0.05)
    drained(home, log, contract())
    output, errors = zombie.communicate(timeout=30)
    assert zombie.returncode == 0, errors
    assert json.loads(output.splitlines()[-1])["superseded"] is True
    assert_exact(Lakehouse(home), contract(), records_of(log, TOPIC), lateness=True)


def _aside_position(home: Settings) -> int | None:
    table = Lakehouse(home).table(contract().quarantine_identifier)
    position = read_position(table) if table else None
    return position[TOPIC]["0"] if position else None


def test_sigterm_ends_a_drain_between_batches(home: Settings, log: EventLog) -> None:
    log.append(TOPIC, [(None, value) for value in assorted(random.Random(6), 200)])
    drain = worker(home, "--until", "60")
    assert drain.stdout is not None and drain.stdout.readline() == "ready\n"
    began = time.monotonic()
    while not (table := Lakehouse(home).table(contract().identifier)) or read_position(table) is None:
        assert time.monotonic() - began < 30
        time.sleep(0.05)
    drain.send_signal(signal.SIGTERM)
    output, errors = drain.communicate(timeout=10)
    assert drain.returncode == 0, errors
    assert json.loads(output.splitlines()[-1])["stopped_by"] == "stop"
    drained(home, log, contract())
    assert_exact(Lakehouse(home), contract(), records_of(log, TOPIC), lateness=True)


def test_processes_that_race_for_a_product_end_with_each_event_once(home: Settings, log: EventLog) -> None:
    log.append(TOPIC, [(None, value) for value in assorted(random.Random(7), 400)])
    racers = [worker(home) for _ in range(2)]
    for racer in racers:
        _, errors = racer.communicate(timeout=60)
        assert racer.returncode == 0, errors
    drained(home, log, contract())
    assert_exact(Lakehouse(home), contract(), records_of(log, TOPIC), lateness=True)
