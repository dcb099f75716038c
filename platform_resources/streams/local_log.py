"""The event log in local segment files: what the embedded profile and most tests run on.

One folder per topic, one per partition, one file per segment. A segment opens with a header that says up to where it is durable;
records are framed by length and CRC-32. A writer holds the partition's lock (flock, so a dead writer holds nothing), writes, syncs
and only then moves the header: readers never look beyond it, so they see neither a torn record nor one that a power cut could take
back. What lies behind the header is the tail of a writer that died: whoever opens the partition next keeps its whole records and
cuts the rest. A damaged record before the header is damage, is told as `log-corrupt`, and is never cut.
"""

from __future__ import annotations

import fcntl
import os
import struct
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import inf
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote
from uuid import uuid4
from zlib import crc32

from platform_resources.errors import PlatformError
from platform_resources.failpoints import failpoint
from platform_resources.streams.log import KeyedEvent, LogRecord, TopicPartition, log_truncated, partition_of

_MAGIC = b"SDPLOG1\n"
_HEADER = struct.Struct("<8sqqqqI")  # magic, first offset, durable bytes, next offset, last append time (us), CRC of what precedes
_FRAME = struct.Struct("<II")  # length of the body, CRC of the body
_BODY = struct.Struct("<qi")  # append time (us since 1970), length of the key or -1
_ID = ".id"  # file of a topic's id
_CHUNK = 1 << 20
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_sync = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync


class _Header(NamedTuple):
    base: int
    end: int
    next_offset: int
    last_time: int

    def pack(self) -> bytes:
        head = _HEADER.pack(_MAGIC, *self, 0)[:-4]
        return head + struct.pack("<I", crc32(head))


@dataclass
class _Cursor:
    """Where reading goes on: the byte `position` in `segment` at which the record `offset` starts."""

    offset: int
    segment: int
    position: int


@dataclass
class _Partition:
    """What one process knows of a partition: its folder, its lock file, open segments and its last reading place."""

    topic: str
    number: int
    folder: Path
    lock: int
    files: dict[int, int] = field(default_factory=dict)
    bases: list[int] = field(default_factory=list)
    cursor: _Cursor | None = None


class LocalLog:
    """The event log in segment files under `root`. Any number of processes may read and append; an instance belongs to one thread.

    Args:
        root: folder of the log, made when absent.
        segment_bytes: size from which the next append starts a new segment file.
    """

    def __init__(self, root: Path, *, segment_bytes: int = 64 << 20) -> None:
        self.root, self.segment_bytes = root, segment_bytes
        self._partitions: dict[TopicPartition, _Partition] = {}
        self._turn = 0
        root.mkdir(parents=True, exist_ok=True)

    # --- topics

    def create_topic(self, topic: str, partitions: int = 1) -> None:
        """Make the topic with its empty first segments in one rename, so that nobody sees half a topic."""
        if self._folder(topic).is_dir():
            return
        with tempfile.TemporaryDirectory(prefix=".new-", dir=self.root, ignore_cleanup_errors=True) as scratch:
            made = Path(scratch) / "topic"
            for number in range(partitions):
                folder = made / str(number)
                folder.mkdir(parents=True)
                _create_segment(folder, 0, 0)
            _write_whole(made / _ID, uuid4().hex.encode())
            with suppress(OSError):  # another process made the same topic first
                made.rename(self._folder(topic))
        _sync_folder(self.root)

    def topics(self) -> list[str]:
        """Names of all topics, sorted."""
        return sorted(unquote(entry.name) for entry in self.root.iterdir() if entry.is_dir() and not entry.name.startswith("."))

    def partitions(self, topic: str) -> list[int]:
        """Partition numbers of the topic, sorted; [] when it does not exist."""
        folder = self._folder(topic)
        return sorted(int(entry.name) for entry in folder.iterdir() if entry.name != _ID) if folder.is_dir() else []

    def topic_id(self, topic: str) -> str | None:
        """The number drawn when the topic was made; None when it does not exist."""
        named = self._folder(topic) / _ID
        return named.read_text("ascii") if named.is_file() else None

    # --- writing

    def append(self, topic: str, events: Sequence[KeyedEvent]) -> None:
        """Append (key, value) pairs, synced to disk when this returns; a missing topic is created with one partition.

        Raises:
            PlatformError: `log-unwritable` when the disk refuses (nothing of the failing partition's part is then kept).
        """
        if not events:
            return
        numbers = self.partitions(topic)
        if not numbers:
            self.create_topic(topic)
            numbers = self.partitions(topic)
        parts: dict[int, list[KeyedEvent]] = {}
        for key, value in events:
            parts.setdefault(partition_of(key, value, len(numbers)), []).append((key, value))
        for number, part in sorted(parts.items()):
            self._append(self._open(topic, number), part)

    def _append(self, partition: _Partition, events: Sequence[KeyedEvent]) -> None:
        with _locked(partition):
            fd, header = self._tail(partition)
            header = _recover(fd, header, partition)
            if header.end >= self.segment_bytes:
                _create_segment(partition.folder, header.next_offset, header.last_time)
                fd, header = self._tail(partition)
            now = max(time.time_ns() // 1000, header.last_time)  # a clock set back does not turn log time back
            frames = b"".join(_frame(key, value, now) for key, value in events)
            try:
                half = len(frames) // 2
                _write(fd, frames[:half], header.end)
                failpoint("log-torn-append")
                _write(fd, frames[half:], header.end + half)
                _sync(fd)
            except OSError as error:
                with suppress(OSError):
                    os.ftruncate(fd, header.end)
                raise PlatformError(
                    "log-unwritable",
                    f"The event log {partition.folder} refuses writing: {error.strerror}.",
                    "Free or mend the disk, then repeat.",
                ) from error
            failpoint("log-synced-append")
            _write(fd, header._replace(end=header.end + len(frames), next_offset=header.next_offset + len(events), last_time=now).pack(), 0)

    def _tail(self, partition: _Partition) -> tuple[int, _Header]:
        """The segment that is written to now, another process's new ones included."""
        while True:
            base = partition.bases[-1]
            header = _read_header(self._file(partition, base), partition)
            if header.next_offset == base or not _segment(partition.folder, header.next_offset).exists():
                return self._file(partition, base), header
            partition.bases.append(header.next_offset)

    # --- reading

    def start_offsets(self, topic: str) -> dict[int, int]:
        """Oldest offset kept, by partition."""
        return {number: _bases(self._open(topic, number).folder)[0] for number in self.partitions(topic)}

    def end_offsets(self, topic: str) -> dict[int, int]:
        """Offset the next record will get, by partition."""
        return {number: self._tail(self._open(topic, number))[1].next_offset for number in self.partitions(topic)}

    def read(
        self, positions: Mapping[TopicPartition, int], *, max_events: int, timeout: float, max_bytes: int | None = None
    ) -> list[LogRecord]:
        """Records from exactly these offsets; partitions share `max_events` evenly, what one leaves the others take.

        Raises:
            PlatformError: `log-truncated` or `log-corrupt`.
        """
        deadline = time.monotonic() + timeout
        pause = 0.002
        while True:
            records = self._read_once(positions, max_events, max_bytes)
            left = deadline - time.monotonic()
            if records or left <= 0:
                return records
            time.sleep(min(pause, left))
            pause = min(pause * 2, 0.05)

    def skipped(self) -> Mapping[TopicPartition, int]:
        """Nothing: this log has no holes."""
        return {}

    def _read_once(self, positions: Mapping[TopicPartition, int], max_events: int, max_bytes: int | None) -> list[LogRecord]:
        wanted = sorted(positions)
        self._turn += 1
        turn = self._turn % len(wanted) if wanted else 0  # so that with more partitions than events each comes first once
        at = dict(positions)
        records: list[LogRecord] = []
        room: float = inf if max_bytes is None else max_bytes
        hungry = wanted[turn:] + wanted[:turn]
        while hungry and len(records) < max_events and room > 0:
            share, span = max(1, (max_events - len(records)) // len(hungry)), room / len(hungry)
            still = []
            for tp in hungry:
                quota = min(share, max_events - len(records))
                if quota <= 0 or room <= 0:
                    break
                got, size = self._read_partition(tp, at[tp], quota, span)
                room -= size
                if got:
                    at[tp] = got[-1].offset + 1
                    records += got
                if len(got) == quota:
                    still.append(tp)
            hungry = still
        return records

    def _read_partition(self, tp: TopicPartition, offset: int, quota: int, span: float) -> tuple[list[LogRecord], int]:
        """Up to `quota` records and their bytes; not another chunk once these reach `span`."""
        if tp not in self._partitions and not (self._folder(tp[0]) / str(tp[1])).is_dir():
            return [], 0
        partition = self._open(*tp)
        cursor = self._seek(partition, offset)
        records: list[LogRecord] = []
        size = 0
        while len(records) < quota and size < span:
            fd = self._file(partition, cursor.segment)
            header = _read_header(fd, partition)
            if cursor.offset < header.next_offset:
                before = cursor.position
                records += _read_records(fd, cursor, header.end, quota - len(records), partition)
                size += cursor.position - before
                continue
            if header.next_offset == cursor.segment or not _segment(partition.folder, header.next_offset).exists():
                break
            os.close(partition.files.pop(cursor.segment))
            cursor.segment, cursor.position = header.next_offset, _HEADER.size
        return records, size

    def _seek(self, partition: _Partition, offset: int) -> _Cursor:
        """The cursor standing at `offset`: the last one when it stands there, else by walking frames from the segment's start."""
        cursor = partition.cursor
        if cursor is not None and cursor.offset == offset:
            return cursor
        end = self._tail(partition)[1].next_offset
        partition.bases = _bases(partition.folder)
        if not partition.bases[0] <= offset <= end:
            raise log_truncated(partition.topic, partition.number, offset, partition.bases[0], end)
        segment = max(base for base in partition.bases if base <= offset)
        if cursor is None or cursor.segment != segment or cursor.offset > offset:
            cursor = _Cursor(segment, segment, _HEADER.size)
        fd = self._file(partition, segment)
        header = _read_header(fd, partition)
        while cursor.offset < offset:
            _skip_records(fd, cursor, header.end, offset, partition)
        partition.cursor = cursor
        return cursor

    # --- files

    def _folder(self, topic: str) -> Path:
        name = quote(topic, safe="")
        return self.root / (f"%2E{name[1:]}" if name.startswith(".") else name)

    def _open(self, topic: str, number: int) -> _Partition:
        """The partition, opened once; opening looks after the tail of a writer that died unless a living one is at work."""
        partition = self._partitions.get((topic, number))
        if partition is not None:
            return partition
        folder = self._folder(topic) / str(number)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        partition = _Partition(topic, number, folder, lock, bases=_bases(folder))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pass
        else:
            try:
                _recover(*self._tail(partition), partition)
            finally:
                fcntl.flock(lock, fcntl.LOCK_UN)
        self._partitions[topic, number] = partition
        return partition

    def _file(self, partition: _Partition, base: int) -> int:
        if base not in partition.files:
            partition.files[base] = os.open(_segment(partition.folder, base), os.O_RDWR | os.O_CLOEXEC)
        return partition.files[base]

    def close(self) -> None:
        """Close all files; the instance may be used again and opens them anew."""
        for partition in self._partitions.values():
            for fd in (partition.lock, *partition.files.values()):
                os.close(fd)
        self._partitions.clear()

    def __enter__(self) -> LocalLog:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


@contextmanager
def _locked(partition: _Partition) -> Iterator[None]:
    fcntl.flock(partition.lock, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(partition.lock, fcntl.LOCK_UN)


def _segment(folder: Path, base: int) -> Path:
    return folder / f"{base:020d}.log"


def _bases(folder: Path) -> list[int]:
    """First offsets of the partition's segments, ascending."""
    return sorted(int(entry.name[:20]) for entry in os.scandir(folder) if entry.name.endswith(".log"))


def _create_segment(folder: Path, base: int, last_time: int) -> None:
    """An empty segment that appears whole or not at all."""
    scratch = folder / f".{base}.new"
    _write_whole(scratch, _Header(base, _HEADER.size, base, last_time).pack())
    scratch.rename(_segment(folder, base))
    _sync_folder(folder)


def _write_whole(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        _write(fd, data, 0)
        _sync(fd)
    finally:
        os.close(fd)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _write(fd: int, data: bytes, position: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, position)
        view, position = view[written:], position + written


def _frame(key: bytes | None, value: bytes, now: int) -> bytes:
    body = _BODY.pack(now, -1 if key is None else len(key)) + (key or b"") + value
    return _FRAME.pack(len(body), crc32(body)) + body


def _read_header(fd: int, partition: _Partition) -> _Header:
    for _ in range(100):
        raw = os.pread(fd, _HEADER.size, 0)
        if len(raw) == _HEADER.size and crc32(raw[:-4]) == int.from_bytes(raw[-4:], "little") and raw.startswith(_MAGIC):
            _, base, end, next_offset, last_time, _ = _HEADER.unpack(raw)
            return _Header(base, end, next_offset, last_time)
        time.sleep(0.001)  # read while being written: the kernel does not promise that 44 bytes change at once
    raise _corrupt(partition, 0)


def _corrupt(partition: _Partition, position: int) -> PlatformError:
    return PlatformError(
        "log-corrupt",
        f"The event log is damaged in {partition.folder} at byte {position}.",
        "Restore this folder from a copy, or move it away and produce its events again.",
    )


def _recover(fd: int, header: _Header, partition: _Partition) -> _Header:
    """Look after the tail that a dead writer left: whole records are kept and made durable, the torn rest is cut. Needs the lock."""
    size = os.fstat(fd).st_size
    if size == header.end:
        return header
    if size < header.end:
        raise _corrupt(partition, size)
    tail = os.pread(fd, size - header.end, header.end)
    good = count = 0
    last_time = header.last_time
    while good + _FRAME.size <= len(tail):
        length, crc = _FRAME.unpack_from(tail, good)
        body = tail[good + _FRAME.size : good + _FRAME.size + length]
        if length < _BODY.size or len(body) < length or crc32(body) != crc:
            break
        last_time = max(last_time, _BODY.unpack_from(body)[0])
        good += _FRAME.size + length
        count += 1
    os.ftruncate(fd, header.end + good)
    _sync(fd)
    mended = header._replace(end=header.end + good, next_offset=header.next_offset + count, last_time=last_time)
    _write(fd, mended.pack(), 0)
    return mended


def _chunk(fd: int, position: int, end: int, partition: _Partition) -> bytes:
    """Bytes from `position` that hold at least one whole frame."""
    size = min(_CHUNK, end - position)
    data = os.pread(fd, size, position)
    if len(data) >= _FRAME.size:
        need = _FRAME.size + int.from_bytes(data[:4], "little")
        if need <= len(data):
            return data
        if position + need <= end:
            data = os.pread(fd, need, position)
            if len(data) == need:
                return data
    raise _corrupt(partition, position)


def _skip_records(fd: int, cursor: _Cursor, end: int, offset: int, partition: _Partition) -> None:
    """Move the cursor towards `offset` by at most one chunk, reading lengths only."""
    data = _chunk(fd, cursor.position, end, partition)
    at = 0
    while cursor.offset < offset and at + _FRAME.size <= len(data):
        following = at + _FRAME.size + int.from_bytes(data[at : at + 4], "little")
        if following > len(data):
            break
        at = following
        cursor.offset += 1
    cursor.position += at


def _read_records(fd: int, cursor: _Cursor, end: int, quota: int, partition: _Partition) -> list[LogRecord]:
    """Up to `quota` records from one chunk at the cursor, which moves behind them."""
    data = _chunk(fd, cursor.position, end, partition)
    records: list[LogRecord] = []
    topic, number, offset = partition.topic, partition.number, cursor.offset
    at, length_of_data, frame_size, body_size = 0, len(data), _FRAME.size, _BODY.size
    frame, head = _FRAME.unpack_from, _BODY.unpack_from
    last_us, when = -1, _EPOCH
    while quota > 0 and at + frame_size <= length_of_data:
        length, crc = frame(data, at)
        start, stop = at + frame_size, at + frame_size + length
        if stop > length_of_data:
            break
        if length < body_size or crc32(data[start:stop]) != crc:
            raise _corrupt(partition, cursor.position + at)
        micros, key_length = head(data, start)
        if micros != last_us:  # one append has one time
            last_us, when = micros, _EPOCH + timedelta(microseconds=micros)
        start += body_size
        key = None
        if key_length >= 0:
            key = data[start : start + key_length]
            start += key_length
        records.append(LogRecord(topic, number, offset, when, key, data[start:stop]))
        offset += 1
        quota -= 1
        at = stop
    cursor.offset = offset
    cursor.position += at
    return records
