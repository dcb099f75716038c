"""Ingestion as a law: whatever comes, however it is cut into batches and drains, the tables are what a plain program says."""

from __future__ import annotations

import random
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from platform_resources.config import Settings
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.streams.ingestion import Drain
from tests.streams.ingestion_kit import ScriptedLog, assert_exact, contract, event, records_of, run_id

TOPIC = "test.clicks"
BEGIN = datetime(2026, 6, 1, tzinfo=UTC)
WINDOW = timedelta(minutes=10)

keys = st.one_of(st.none(), st.integers(0, 6).map(str))
good = st.builds(
    lambda n, key, note, late: (n, key, note, late),
    st.integers(0, 2),
    keys,
    st.sampled_from(["fine", "fine", "fine", "other", "forbidden", None]),
    st.integers(-15, 30),
)
torn = [b"", b"{", b"[]", b'"n"', b'{"n": 1.5}', b'{"n": "1"}', b'{"n": 1, "more": 1}', b"\xff", b'{"meta": []}', b"null", None]
bad = st.sampled_from(torn)
pauses = st.one_of(st.integers(0, 60), st.integers(0, 1200))


@hypothesis_settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(st.one_of(good, good, good, bad), pauses), min_size=1, max_size=40),
    st.lists(st.integers(1, 15), max_size=4),
    st.data(),
)
def test_any_cut_of_any_stream_gives_the_oracles_table(
    happenings: list[tuple[tuple[int, str | None, str | None, int] | bytes | None, int]], cuts: list[int], data: st.DataObject
) -> None:
    log, at = ScriptedLog(), BEGIN
    log.create_topic(TOPIC)
    of = contract(dedupe_window=WINDOW, watermark_delay=timedelta(minutes=1))
    with tempfile.TemporaryDirectory() as folder:
        left = list(happenings)
        for take in [*cuts, len(left)]:
            for what, pause in left[:take]:
                at += timedelta(seconds=pause)
                if isinstance(what, tuple):
                    n, key, note, ahead = what
                    log.add(TOPIC, event(n, key=key, note=note, dt=at + timedelta(minutes=ahead)), at=at)
                else:
                    log.add(TOPIC, what, at=at)
            left = left[take:]
            settings = Settings(home=Path(folder) / "home", batch_events=data.draw(st.integers(1, 12)))
            Drain(of, lakehouse=Lakehouse(settings), log=log, run_id=run_id(), settings=settings).run(until="end")
        assert_exact(Lakehouse(settings), of, records_of(log, TOPIC), lateness=True)


def test_partitions_that_lag_behind_each_other_share_one_window(tmp_path: Path) -> None:
    """Keys repeat across partitions whose log times lie days apart; the window must reach back for the one that lags."""
    rng, log, of = random.Random(12), ScriptedLog(), contract(dedupe_window=WINDOW)
    log.create_topic(TOPIC, partitions=3)
    settings = Settings(home=tmp_path / "home", batch_events=30)
    for turn in range(6):
        for partition in range(3):
            start = BEGIN + timedelta(days=partition) + timedelta(minutes=20 * turn)
            for minute in range(15):
                n = rng.randrange(10**6) if rng.random() < 0.6 else partition * 100 + rng.randrange(5)
                log.add(TOPIC, event(n), at=start + timedelta(minutes=minute), partition=partition)
        Drain(of, lakehouse=Lakehouse(settings), log=log, run_id=run_id(), settings=settings).run(until="end")
    records = records_of(log, TOPIC)
    assert_exact(Lakehouse(settings), of, sorted(records, key=lambda record: record.time))
