"""What every benchmark shares: interleaved repetitions, ratios with a 95% interval, a table for people and JSON lines for programs.

A measured thing is a callable that does the work once and returns nothing; the harness times it. Interleaving means that every round
runs each thing once, in an order drawn anew, so that a slow minute of the machine falls on all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path

_RESAMPLES = 4_000


@dataclass(frozen=True)
class Result:
    """One line: `ratio` is value over the reference's, with its 95% interval; all three are None where nothing is compared."""

    name: str
    value: float | None
    unit: str
    reference: str | None
    ratio: float | None
    low95: float | None
    high95: float | None
    rows: int
    machine: str
    peer: str | None = None  # whose figure this is; None is ours
    store: str | None = None
    audit_seconds: float | None = None  # what the audit took beside `value`, which is without it
    peak_mb: float | None = None  # high-water mark of resident memory of a process that does only this, MB
    baseline_mb: float | None = None  # what that process had resident before the work: interpreter, libraries, a first small write
    speedup: Mapping[str, tuple[float, float, float]] | None = None  # by peer: its time over ours, with the 95% interval
    skipped: str | None = None  # why there is no figure

    @property
    def label(self) -> str:
        """The line's first column for people."""
        return f"{self.name}: {self.peer}" if self.peer else self.name


def machine() -> str:
    """The machine in a few words: processor, cores, Python."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = (line for line in cpuinfo.read_text().splitlines() if line.startswith("model name"))
        model = next(lines, f"x: {model}").split(":", 1)[1].strip()
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"


def resident_mb(field: str) -> float:
    """Resident memory of this process: `VmRSS`, what is resident now, or `VmHWM`, what was at most.

    Not `ru_maxrss` of getrusage(2): a new program inherits that from the process which started it.
    """
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1e3


def interleaved(
    things: Mapping[str, Callable[[], object]],
    repetitions: int,
    *,
    before: Callable[[], object] | Mapping[str, Callable[[], object]] | None = None,
    warm_up: int = 1,
    seed: int = 7,
) -> dict[str, list[float]]:
    """Seconds of each thing per round; the rounds of the warm-up are left out. Lists of equal length, round by round.

    `before` runs ahead of each measurement and is not measured, e.g. to delete what the last one wrote; a mapping has one for each thing.
    A thing that returns a number has timed itself: the seconds it says count, not those from call to return.
    """
    draw = random.Random(seed)
    seconds: dict[str, list[float]] = {name: [] for name in things}
    for round_number in range(warm_up + repetitions):
        for name in draw.sample(list(things), len(things)):
            prepare = before[name] if isinstance(before, Mapping) else before
            if prepare is not None:
                prepare()
            start = time.perf_counter()
            said = things[name]()
            taken = time.perf_counter() - start
            if round_number >= warm_up:
                seconds[name].append(said if isinstance(said, float) else taken)
    return seconds


def ratio(ours: Sequence[float], reference: Sequence[float], *, seed: int = 7) -> tuple[float, float, float]:
    """Median of ours over median of the reference, with a 95% interval from resampling whole rounds (percentile bootstrap).

    Raises:
        ValueError: the two were not measured in the same rounds.
    """
    if len(ours) != len(reference) or not ours:
        raise ValueError("a ratio needs the same rounds of both")
    draw = random.Random(seed)
    rounds = range(len(ours))

    def once(chosen: Sequence[int]) -> float:
        return statistics.median(ours[i] for i in chosen) / statistics.median(reference[i] for i in chosen)

    resampled = sorted(once(draw.choices(rounds, k=len(ours))) for _ in range(_RESAMPLES))
    return once(rounds), resampled[int(0.025 * _RESAMPLES)], resampled[int(0.975 * _RESAMPLES) - 1]


def compare(seconds: Mapping[str, Sequence[float]], reference: str, *, rows: int, per_second: bool = False) -> list[Result]:
    """A line per thing: median seconds (or rows per second) and, but for the reference, its ratio to the reference in time."""
    results = []
    for name, measured in seconds.items():
        median = statistics.median(measured)
        value, unit = (rows / median, "rows/s") if per_second else (median, "s")
        low = high = compared = None
        if name != reference:
            compared, low, high = ratio(measured, seconds[reference])
            if per_second:
                compared, low, high = 1 / compared, 1 / high, 1 / low
        results.append(Result(name, value, unit, None if name == reference else reference, compared, low, high, rows, machine()))
    return results


def arguments(description: str, *, rows: int, repetitions: int = 7) -> argparse.ArgumentParser:
    """A parser with what every benchmark takes: --rows, --repetitions, --json."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rows", type=int, default=rows, help=f"rows per measurement (default {rows:,})")
    parser.add_argument("--repetitions", type=int, default=repetitions, help=f"interleaved rounds (default {repetitions})")
    parser.add_argument("--json", action="store_true", help="one JSON object per line instead of a table")
    return parser


def report(results: Sequence[Result], *, as_json: bool, title: str = "") -> None:
    """Print the results."""
    if as_json:
        required = {field.name for field in fields(Result) if field.default is MISSING}
        for result in results:
            said = {name: value for name, value in asdict(result).items() if value is not None or name in required}
            print(json.dumps(said), flush=True)
        return
    width = max(len(result.label) for result in results)
    print(f"\n{title}" if title else "")
    print(f"{'':{width}}  {'value':>14}  {'ratio':>7}  {'95% interval':>15}  to")
    for result in results:
        print(f"{result.label:{width}}  {_for_people(result)}")
    print(f"\n{results[0].rows:,} rows; {results[0].machine}\n")


def _for_people(result: Result) -> str:
    if result.value is None:
        return f"skipped: {result.skipped}"
    value = f"{result.value:,.3f} {result.unit}" if result.value < 1000 else f"{result.value:,.0f} {result.unit}"
    words = f"{value:>14}"
    if result.ratio is not None and result.low95 is not None and result.high95 is not None:
        words += f"  {result.ratio:>6.2f}x  {f'{result.low95:.2f} .. {result.high95:.2f}':>15}  {result.reference}"
    if result.audit_seconds is not None:
        words += f"; audit {result.audit_seconds:.3f} s"
    if result.peak_mb is not None:
        words += f"; peak {result.peak_mb:,.0f} MB, {result.baseline_mb or 0:,.0f} of it before the work"
    return words
