"""Positions in the log: the form the stamp carries, the form a drain works with, and the distance between a position and the log.

No record is read here and nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from platform_resources.errors import PlatformError
from platform_resources.streams.log import EventLog, TopicPartition

Offsets = dict[TopicPartition, int]
StampedPosition = dict[str, dict[str, int]]


def parse(stamped: Mapping[str, Any] | None) -> Offsets:
    """`{"<topic>": {"<partition>": next_offset}}` as a flat map; {} for None."""
    return {(topic, int(partition)): int(offset) for topic, parts in (stamped or {}).items() for partition, offset in parts.items()}


def stamped(offsets: Offsets) -> StampedPosition:
    """The form of `sdp.position`, sorted, so that equal positions are equal text."""
    out: StampedPosition = {}
    for (topic, partition), offset in sorted(offsets.items()):
        out.setdefault(topic, {})[str(partition)] = offset
    return out


def covers(position: Offsets, other: Offsets) -> bool:
    """Whether `other` is nowhere past `position`; a partition that `position` does not know is at 0."""
    return all(offset <= position.get(partition, 0) for partition, offset in other.items())


def distance(position: Offsets, ends: Offsets) -> int:
    """Events between the position and the ends; holes of a compacted topic count as events."""
    return sum(max(0, end - position.get(partition, 0)) for partition, end in ends.items())


def ends_of(log: EventLog, topics: Iterable[str]) -> Offsets:
    """The next offset of each partition that exists now; a topic that does not exist is simply empty."""
    return {(topic, partition): end for topic in topics for partition, end in log.end_offsets(topic).items()}


def starts_of(log: EventLog, topics: Iterable[str]) -> Offsets:
    """The oldest offset kept of each partition that exists now."""
    return {(topic, partition): start for topic in topics for partition, start in log.start_offsets(topic).items()}


def topic_ids(log: EventLog, topics: Iterable[str]) -> dict[str, str]:
    """The id of each topic that exists now."""
    found = ((topic, log.topic_id(topic)) for topic in topics)
    return {topic: named for topic, named in found if named is not None}


def resume(position: Offsets, starts: Offsets) -> Offsets:
    """Where to go on: the position, plus every partition that it does not know yet.

    A new partition of a topic that was read before begins at 0, for its first events are owed; a topic seen for the first time
    begins at the oldest event that the log has. Partitions that no longer belong to the product keep their place.
    """
    known = {topic for topic, _ in position}
    return {**{tp: 0 if tp[0] in known else start for tp, start in starts.items()}, **position}


def lost(position: Offsets, starts: Offsets) -> Offsets:
    """How many events of each partition retention deleted before they were read."""
    return {tp: start - position[tp] for tp, start in starts.items() if start > position.get(tp, start)}


def require_same_log(product: str, read: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Refuse to count on in another log, where the position would pass over as many events as it happens to say.

    Args:
        product: whose position it is.
        read: ids of the topics that were read so far.
        now: ids of the topics that exist now.

    Raises:
        PlatformError: `log-replaced` when a topic of the same name is another one, of another log or made anew.
    """
    for topic, named in now.items():
        if read.get(topic, named) != named:
            raise PlatformError(
                "log-replaced",
                f"{product} has read another topic {topic} so far (id {read[topic]}), in another log or since deleted and made again"
                f" (id {named}): its position says nothing about this one.",
                f"Name the former log again (SDP_PROFILE, SDP_EVENT_LOG, SDP_KAFKA_BOOTSTRAP), give this one an SDP_HOME of its own,"
                f" or rebuild the product from what the log now has with `sdp ingest {product} --recreate`.",
            )


def require_continuity(product: str, position: Offsets, starts: Offsets, ends: Offsets) -> None:
    """Refuse to go on over a gap.

    Raises:
        PlatformError: `log-truncated` when events were deleted before they were read; `log-rewound` when a position lies past the
            end of its partition, as after a topic was deleted and made again.
    """
    gaps = lost(position, starts)
    if gaps:
        (topic, partition), count = max(gaps.items(), key=lambda item: item[1])
        raise PlatformError(
            "log-truncated",
            f"{product} lost {sum(gaps.values())} events to the log's retention before they were read"
            f" (topic {topic}, partition {partition}: {count} events up to offset {starts[topic, partition]}).",
            f"Restore them to the log, or go on behind the gap, which is then recorded, with `sdp ingest {product} --accept-loss`.",
        )
    for (topic, partition), end in ends.items():
        at = position.get((topic, partition), 0)
        if at > end:
            raise PlatformError(
                "log-rewound",
                f"{product} has read topic {topic}, partition {partition} up to offset {at}, but the log ends at {end}:"
                " it was made anew or lost its tail.",
                f"Restore the log, or rebuild the product from what the log now has with `sdp ingest {product} --recreate`.",
            )
