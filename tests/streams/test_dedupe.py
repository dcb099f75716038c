"""The deduplication window against a plain dictionary, and its memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from platform_resources.streams.dedupe import CONFLICT, DUPLICATE, FRESH, DedupeWindow, Keys, keys_of

WINDOW = 100

rows = st.tuples(st.one_of(st.none(), st.integers(0, 12).map(str)), st.integers(0, 2), st.integers(0, 40))


def as_keys(batch: list[tuple[str | None, int, int]]) -> Keys:
    times = np.array([time for *_, time in batch], dtype=np.int64)
    return keys_of(pa.array([key for key, *_ in batch], pa.string()), [bytes([payload]) * 16 for _, payload, _ in batch], times)


@hypothesis_settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(rows, min_size=1, max_size=25), max_size=12), st.data())
def test_a_window_says_what_a_dictionary_says_however_often_it_is_rebuilt(
    batches: list[list[tuple[str | None, int, int]]], data: st.DataObject
) -> None:
    stored: list[tuple[str | None, int, int]] = []
    known: dict[str, tuple[int, int]] = {}

    def load(since: int) -> Keys:
        return as_keys([row for row in stored if row[2] >= since]) if stored else as_keys([])

    window, now = DedupeWindow(WINDOW, load), 0
    for batch in batches:
        if data.draw(st.booleans()):
            window = DedupeWindow(WINDOW, load)  # the drain was started again
        moved = [(key, payload, now + ahead) for key, payload, ahead in batch]  # log times of several partitions are out of order
        now += data.draw(st.integers(0, 80))
        window.reach(min(time for *_, time in moved))
        expected = []
        for key, payload, time in moved:
            before = known.get(key) if key is not None else None
            if before is None or before[1] < time - WINDOW:
                expected.append(FRESH)
                if key is not None:
                    known[key] = (payload, time)
            else:
                expected.append(DUPLICATE if before[0] == payload else CONFLICT)
        judged = window.judge(as_keys(moved))
        assert judged.tolist() == expected
        fresh = judged == FRESH
        stored += [row for row, kept in zip(moved, fresh, strict=True) if kept]
        window.remember(as_keys(moved).take(fresh))


def test_a_million_keys_need_forty_bytes_each_and_old_ones_go() -> None:
    rng = np.random.default_rng(7)
    window = DedupeWindow(10**9, lambda _: as_keys([]))
    window.reach(0)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for batch in range(50):
        words = rng.integers(0, 2**64, (20_000, 2), dtype=np.uint64)
        times = np.full(20_000, batch * 10**8, dtype=np.int64)
        window.remember(Keys(words, words, times, np.ones(20_000, dtype=bool)))
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert len(window) == 1_000_000
    assert held < 45 * len(window)
    window.reach(10**9 + 25 * 10**8)
    assert len(window) == 500_000


def test_equal_first_words_of_two_keys_do_not_make_them_one() -> None:
    words = np.array([[1, 1], [1, 2], [1, 1], [1, 3]], dtype=np.uint64)
    rows = Keys(words, np.zeros((4, 2), dtype=np.uint64), np.arange(4, dtype=np.int64), np.ones(4, dtype=bool))
    window = DedupeWindow(WINDOW, lambda _: as_keys([]))
    window.reach(0)
    assert window.judge(rows).tolist() == [FRESH, FRESH, DUPLICATE, FRESH]
    window.remember(rows.take(np.array([0, 1])))
    assert window.judge(rows).tolist() == [DUPLICATE, DUPLICATE, DUPLICATE, FRESH]
