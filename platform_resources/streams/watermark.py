"""How far a stream's data is complete in event time (law 6): the watermark, which events came late, which carry a clock ahead.

Values only: what is read from and written to the stamp is the drain's business.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from platform_resources.streams.log import TopicPartition
from platform_resources.streams.offsets import Offsets
from platform_resources.streams.temporal import FIRST_MICROS, LAST_MICROS

Longs = npt.NDArray[np.int64]

SKEW_US = 10 * 60 * 1_000_000
RECENT_US = 10 * 60 * 1_000_000
UNKNOWN = int(np.iinfo(np.int64).min)
LONGEST = LAST_MICROS - FIRST_MICROS


class Seen(NamedTuple):
    """The latest event time (UNKNOWN: none yet) and the latest log time of one partition, microseconds since 1970."""

    event: int
    log: int


@dataclass(frozen=True)
class Arrivals:
    """Inserted rows in the order they arrived: `source[i]` indexes `partitions`; event times are UNKNOWN where null."""

    partitions: list[TopicPartition]
    source: Longs
    events: Longs
    logs: Longs


@dataclass(frozen=True)
class Watermark:
    """The watermark (microseconds, None before the first) and what it is computed from."""

    value: int | None = None
    seen: Mapping[TopicPartition, Seen] = field(default_factory=dict)

    def advanced(self, arrivals: Arrivals, *, read_until: Mapping[TopicPartition, int], lagging: Offsets, delay: int, now: int) -> Advance:
        """The watermark after a batch, and which of its rows were late or skewed.

        Args:
            arrivals: the rows that were inserted.
            read_until: log time of the last record read from each partition, whatever became of it.
            lagging: partitions that still have unread events.
            delay: `watermarkDelay`, microseconds.
            now: the wall clock, microseconds.
        """
        skewed = (arrivals.events != UNKNOWN) & (arrivals.events > arrivals.logs + SKEW_US)
        honest = np.where(skewed, UNKNOWN, arrivals.events)
        seen = dict(self.seen)
        running = {tp: _running_maximum(honest, arrivals.source == i, self.seen.get(tp)) for i, tp in enumerate(arrivals.partitions)}
        for tp, log in read_until.items():
            before = seen.get(tp, Seen(UNKNOWN, UNKNOWN))
            latest = int(running[tp][-1]) if tp in running else before.event
            seen[tp] = Seen(max(before.event, latest), max(before.log, log))
        active = [tp for tp, last in seen.items() if tp in lagging or tp in read_until or last.log >= now - RECENT_US]
        blind = any(tp not in seen for tp in lagging)
        telling = [tp for tp in active if seen[tp].event != UNKNOWN or tp in lagging]
        late = self._late(arrivals, honest, {tp: running.get(tp, seen[tp].event) for tp in telling}, blind=blind, delay=delay)
        known = [seen[tp].event for tp in telling]
        value = self.value
        if known and not blind and min(known) != UNKNOWN:
            value = max(_below(min(known), delay), UNKNOWN if value is None else value)
        return Advance(Watermark(value, seen), late, skewed)

    def at_end(self, now: int, delay: int) -> Watermark:
        """The watermark once all log ends were seen reached at this wall time: what is that much younger may still come in time."""
        return Watermark(max(_below(now, delay), UNKNOWN if self.value is None else self.value), self.seen)

    def _late(
        self, arrivals: Arrivals, honest: Longs, running: Mapping[TopicPartition, Longs | int], *, blind: bool, delay: int
    ) -> npt.NDArray[np.bool_]:
        """Rows below the watermark as it stood just before each of them."""
        floor = np.full(len(honest), UNKNOWN if self.value is None else self.value, dtype=np.int64)
        if running and not blind and len(honest):
            lowest = np.full(len(honest), np.iinfo(np.int64).max, dtype=np.int64)
            for maximum in running.values():
                np.minimum(lowest, maximum[:-1] if isinstance(maximum, np.ndarray) else maximum, out=lowest)
            floor = np.maximum(floor, np.where(lowest == UNKNOWN, UNKNOWN, np.maximum(lowest - min(delay, LONGEST), FIRST_MICROS)))
        return np.asarray((honest != UNKNOWN) & (honest < floor), dtype=np.bool_)

    def stamped(self) -> str:
        """What the next drain needs to go on, as compact JSON: `{"<topic>": {"<partition>": [event_us or null, log_us]}}`."""
        out: dict[str, dict[str, list[int | None]]] = {}
        for (topic, partition), last in sorted(self.seen.items()):
            out.setdefault(topic, {})[str(partition)] = [None if last.event == UNKNOWN else last.event, last.log]
        return json.dumps(out, separators=(",", ":"))

    @classmethod
    def parse(cls, value: int | None, text: str | None) -> Watermark:
        """The inverse of `stamped`, with the watermark itself."""
        seen = {
            (topic, int(partition)): Seen(UNKNOWN if event is None else event, log)
            for topic, parts in json.loads(text or "{}").items()
            for partition, (event, log) in parts.items()
        }
        return cls(value, seen)


@dataclass(frozen=True)
class Advance:
    """The watermark after a batch; per row, whether it was late and whether its event time is more than 10 minutes ahead of the log's."""

    watermark: Watermark
    late: npt.NDArray[np.bool_]
    skewed: npt.NDArray[np.bool_]


def _below(event: int, delay: int) -> int:
    """An event time less the delay, not before the year 1, where a timestamp ends."""
    return max(event - delay, FIRST_MICROS)


def _running_maximum(events: Longs, mine: npt.NDArray[np.bool_], before: Seen | None) -> Longs:
    """One value more than rows: a partition's maximum before each row of the batch and after the last."""
    own = np.where(mine, events, UNKNOWN)
    return np.maximum.accumulate(np.concatenate(([UNKNOWN if before is None else before.event], own)))
