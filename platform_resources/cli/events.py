"""`sdp produce` and `sdp replay`: events from a file or a pipe through the gate onto a stream."""

from __future__ import annotations

import gzip
import io
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from platform_resources.cli.output import Col, Command, answer, draw_table, json_option, progress
from platform_resources.config import load_settings
from platform_resources.errors import PlatformError

if TYPE_CHECKING:
    from rich.console import Console

    from platform_resources.contracts.model import Contract
    from platform_resources.contracts.registry import Registry
    from platform_resources.streams.gate import Gate, GateReport

SHOWN_REFUSALS = 20
REPLAY_TICK = 0.2  # seconds between two appends of a replay: shorter costs an fsync per handful of events
REPLAY_BATCH = 5_000


@click.command("produce", cls=Command, short_help="Put events on a stream, each checked against its contract.")
@click.argument("stream")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@click.option("--unchecked", is_flag=True, help="Put the raw lines straight on the log, past the gate.")
@click.option("--strict", is_flag=True, help="Exit 1 when any event is refused.")
@json_option
def produce_command(stream: str, file: str, unchecked: bool, strict: bool, as_json: bool) -> None:
    """Put the events of FILE (newline-delimited JSON, .gz too, - for stdin) on STREAM.

    Each event is checked against the contract of the stream; those that break it are refused with line, path and reason, the others
    are accepted. The exit status is 0 when the whole input was handled, refusals included.
    """
    gate, registry = _gate()
    registry.by_stream(stream)
    with opened(file) as lines, progress(f"producing to {stream}") as advance:
        report = gate.produce(stream, _counted(lines, advance), unchecked=unchecked)
    gate.log.close()
    _report(stream, report, strict=strict, as_json=as_json)


@click.command("replay", cls=Command, short_help="Produce a recorded file at the pace of its event times.")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@click.option("--stream", required=True, help="The stream to produce to.")
@click.option("--speed", type=click.FloatRange(min=0, min_open=True), default=1.0, show_default=True, help="Times faster than it happened.")
@click.option("--strict", is_flag=True, help="Exit 1 when any event is refused.")
@json_option
def replay_command(file: str, stream: str, speed: float, strict: bool, as_json: bool) -> None:
    """Put the events of FILE on a stream at the pace at which they happened, by the contract's event time.

    An event is produced when its time, counted from the first event's and divided by --speed, has come; one that lies before the
    event in front of it, or has no readable time, goes with that one.
    """
    gate, registry = _gate()
    contract = registry.by_stream(stream)
    total: GateReport | None = None
    with opened(file) as lines, progress(f"replaying to {stream}") as advance:
        for first_line, batch in _paced(lines, _time_of(contract), speed):
            part = gate.produce(stream, batch)
            part.refusals = [replace(refusal, line=refusal.line + first_line - 1) for refusal in part.refusals]
            if total is None:
                total = part
            else:
                total.accepted += part.accepted
                total.refused += part.refused
                total.refusals += part.refusals
            advance(len(batch))
    gate.log.close()
    _report(stream, total or gate.produce(stream, ()), strict=strict, as_json=as_json)


def _gate() -> tuple[Gate, Registry]:
    from platform_resources.contracts.registry import Registry
    from platform_resources.streams.gate import Gate
    from platform_resources.streams.log import open_log

    settings = load_settings()
    registry = Registry.load(settings.project)
    return Gate(registry, open_log(settings), settings), registry


def opened(file: str) -> BinaryIO:
    """The file's bytes, unpacked when it is gzip; `-` is stdin.

    Raises:
        PlatformError: `file-unreadable`.
    """
    if file == "-":
        return sys.stdin.buffer
    try:
        raw = Path(file).open("rb")  # noqa: SIM115 - the caller closes it
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
    except OSError as error:
        raise PlatformError(
            "file-unreadable", f"The file {file} cannot be read: {error.strerror}.", "Name a file of newline-delimited JSON."
        ) from None
    return io.BufferedReader(_Unpacked(raw, file)) if packed else raw


class _Unpacked(io.RawIOBase):
    """A gzip file whose damage is told as a sentence, not as a stack trace."""

    def __init__(self, raw: BinaryIO, name: str) -> None:
        self._file, self._name = gzip.GzipFile(fileobj=raw), name

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """The next bytes."""
        try:
            data = self._file.read(len(buffer))
        except (OSError, EOFError) as error:
            raise PlatformError(
                "file-unreadable",
                f"The file {self._name} is damaged gzip: {error}.",
                "Events before the damage were produced; mend the file and produce the rest.",
            ) from None
        buffer[: len(data)] = data
        return len(data)


def _counted(lines: Iterable[bytes], advance: Callable[..., None]) -> Iterator[bytes]:
    for line in lines:
        advance()
        yield line


def _time_of(contract: Contract) -> Callable[[bytes], datetime | None]:
    """How to read the event time of a raw event: None where there is none to read."""
    import orjson

    path = [("$schema" if part == "_schema" else part) for part in contract.event_time.split(".")]

    def read(line: bytes) -> datetime | None:
        try:
            value: Any = orjson.loads(line)
            for part in path:
                value = value[part]
            moment = datetime.fromisoformat(value)
        except (ValueError, KeyError, TypeError, IndexError):
            return None
        return moment if moment.tzinfo else None

    return read


def _paced(lines: Iterable[bytes], time_of: Callable[[bytes], datetime | None], speed: float) -> Iterator[tuple[int, list[bytes]]]:
    """The lines in batches, each given out when it is due, with the number of its first line (from 1)."""
    began, first, due = time.monotonic(), None, 0.0
    batch: list[bytes] = []
    start = 1
    for number, line in enumerate(lines, 1):
        moment = time_of(line)
        if moment is not None:
            first = first or moment
            due = max(due, (moment - first).total_seconds() / speed)
        ahead = due - (time.monotonic() - began)
        if batch and (ahead > REPLAY_TICK or len(batch) >= REPLAY_BATCH):
            yield start, batch
            batch, start = [], number
        if ahead > REPLAY_TICK:
            time.sleep(max(0.0, due - (time.monotonic() - began)))
        batch.append(line)
    if batch:
        yield start, batch


def _report(stream: str, report: GateReport, *, strict: bool, as_json: bool) -> None:
    def draw(console: Console) -> None:
        console.print(f"{stream}: {report.accepted:,} accepted, {report.refused:,} refused")
        if report.refusals:
            rows = [(item.line, item.code, item.path, item.reason) for item in report.refusals[:SHOWN_REFUSALS]]
            draw_table(console, [Col("line", right=True, keep=True), Col("code", keep=True), Col("path"), Col("reason")], rows)
            if report.refused > len(rows):
                console.print(f"... and {report.refused - len(rows):,} more; --json has all of them")

    answer(report.as_dict(), as_json=as_json, human=draw)
    if strict and report.refused:
        raise PlatformError(
            "events-refused",
            f"{report.refused:,} of {report.accepted + report.refused:,} events were refused by {stream}.",
            "Mend them and produce them again.",
        )
    sys.stdout.flush()
