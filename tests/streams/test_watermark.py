"""The watermark's arithmetic; that drains stamp it is tested in test_ingestion.py."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from platform_resources.streams.watermark import SKEW_US, UNKNOWN, Advance, Arrivals, Watermark

A, B = ("t", 0), ("t", 1)
HOUR = 3_600_000_000


def arrive(
    watermark: Watermark,
    rows: list[tuple[tuple[str, int], int]],
    *,
    lagging: dict[tuple[str, int], int] | None = None,
    delay: int = 0,
    now: int = HOUR,
) -> Advance:
    """Rows of (partition, event time), all appended at `now`."""
    partitions = list(dict.fromkeys(tp for tp, _ in rows))
    arrivals = Arrivals(
        partitions,
        np.array([partitions.index(tp) for tp, _ in rows], dtype=np.int64),
        np.array([time for _, time in rows], dtype=np.int64),
        np.full(len(rows), now, dtype=np.int64),
    )
    return watermark.advanced(arrivals, read_until=dict.fromkeys(partitions, now), lagging=lagging or {}, delay=delay, now=now)


def test_the_watermark_is_the_slowest_active_partition_less_the_delay() -> None:
    assert arrive(Watermark(), [(A, 500), (B, 300), (A, 400)], delay=50).watermark.value == 250


def test_a_partition_with_lag_that_was_never_read_holds_the_watermark() -> None:
    assert arrive(Watermark(), [(A, 500)], lagging={B: 9}).watermark.value is None
    assert arrive(Watermark(100), [(A, 500)], lagging={B: 9}).watermark.value == 100


def test_a_partition_without_lag_or_recent_events_does_not_hold_it() -> None:
    old = arrive(Watermark(), [(A, 500), (B, 300)]).watermark
    later = arrive(old, [(A, 900)], now=2 * HOUR)
    assert later.watermark.value == 900
    assert arrive(old, [(A, 900)], now=2 * HOUR, lagging={B: 1}).watermark.value == 300


def test_the_watermark_never_goes_back() -> None:
    first = arrive(Watermark(), [(A, 500)]).watermark
    assert arrive(first, [(A, 100), (B, 50)]).watermark.value == 500
    assert first.at_end(400, delay=0).value == 500
    assert first.at_end(700, delay=0).value == 700


def test_an_event_from_the_future_is_counted_and_moves_nothing() -> None:
    after = arrive(Watermark(), [(A, 500), (A, HOUR + SKEW_US + 1), (A, HOUR + SKEW_US)])
    assert after.skewed.tolist() == [False, True, False]
    assert arrive(Watermark(), [(A, 500), (A, HOUR + SKEW_US + 1)]).watermark.value == 500


def test_an_event_without_time_is_neither_late_nor_moves_anything() -> None:
    after = arrive(Watermark(400), [(A, UNKNOWN), (A, 300), (A, UNKNOWN)])
    assert after.late.tolist() == [False, True, False]
    assert after.watermark.value == 400


@given(st.lists(st.tuples(st.sampled_from([A]), st.integers(0, 1000)), min_size=1, max_size=30), st.integers(0, 30), st.integers(0, 100))
def test_late_events_are_the_same_however_the_stream_is_cut(rows: list[tuple[tuple[str, int], int]], cut: int, delay: int) -> None:
    whole = arrive(Watermark(), rows, delay=delay)
    first = arrive(Watermark(), rows[:cut], delay=delay) if rows[:cut] else None
    middle = first.watermark if first else Watermark()
    restarted = Watermark.parse(middle.value, middle.stamped())
    second = arrive(restarted, rows[cut:], delay=delay) if rows[cut:] else None
    late = [flag for part in (first, second) if part for flag in part.late.tolist()]
    assert late == whole.late.tolist()
    assert (second or first).watermark.value == whole.watermark.value  # type: ignore[union-attr]


def test_what_a_watermark_is_made_of_survives_its_stamp() -> None:
    watermark = arrive(Watermark(), [(A, 500), (B, UNKNOWN)]).watermark
    assert Watermark.parse(watermark.value, watermark.stamped()) == watermark
    assert Watermark.parse(None, None) == Watermark()
