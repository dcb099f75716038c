"""`make demo`: the whole platform on generated events, from the gate to a checked answer, on a home of its own.

Here stands the story and its order; what each step finds is judged in `verdict`, what is shown is drawn in `screen`. It uses what any
user has: `sdp up`'s platform, the gate, `sdp status`, `sdp query`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from demo.generator import DAYS, STREAM, Generated, generate, recent_changes
from demo.screen import Screen
from demo.verdict import judge
from platform_resources.cli.status import status_of
from platform_resources.config import SOURCE_ROOT, Settings, load_settings
from platform_resources.errors import PlatformError
from platform_resources.parts import Parts
from platform_resources.stack.platform import Platform, end_leftovers, logs_folder, running
from platform_resources.streams.gate import Gate, GateReport

PRODUCTS = ("mediawiki/page_change", "mediawiki/recentchange", "activity/edit_statistics", "activity/top_pages", "trust_safety/reverts")
MARK = ".demo"  # a home with this file in it is a demo's own, and may be emptied
RECENT_CHANGES = 2_000
POLL_SECONDS = 2.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; 0 when everything that was generated was found as it should be, 1 with a sentence when not."""
    options = _options(arguments)
    os.environ["SDP_HOME"] = str(options.home if options.home.is_absolute() else SOURCE_ROOT / options.home)
    os.environ.setdefault("SDP_PROJECT", str(SOURCE_ROOT))
    screen = Screen()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    try:
        settings = load_settings()
        _take_over(settings)
        with _platform(settings, options.port, stop, screen) as platform:
            passed = _tell_story(settings, platform, options, screen, stop)
            if options.exit:
                screen.say("The platform stops here; without EXIT=1 it goes on, and its UI shows all this.")
            elif not stop.is_set():
                screen.say("The platform keeps running; Ctrl-C stops it.")
                while not stop.wait(0.5):  # a signal may reach another thread; only a main thread that wakes up handles it
                    pass
    except PlatformError as error:
        screen.fail(str(error))
        return 1
    return 0 if passed else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description="The whole platform on generated events.")
    parser.add_argument("--exit", action="store_true", help="end when everything is fresh, instead of at Ctrl-C")
    parser.add_argument("--events", type=int, default=50_000, help="how many page changes to generate (default 50000)")
    parser.add_argument("--seed", type=int, default=20260105, help="the same seed gives the same changes")
    parser.add_argument("--home", type=Path, default=Path(".sdp/demo"), help="folder of the demo's state, emptied at each start")
    parser.add_argument("--port", type=int, default=3000, help="port of the UI; when busy the next free one (default 3000)")
    parser.add_argument("--patience", type=float, default=300.0, help="seconds to wait for fresh products (default 300)")
    return parser.parse_args(arguments)


def _take_over(settings: Settings) -> None:
    """Empty the demo's home, which only a demo may have made.

    Raises:
        PlatformError: `platform-running`, or `demo-home` when the folder is somebody else's.
    """
    other = running(settings)
    if other is not None:
        raise PlatformError(
            "platform-running", f"A demo is already running at {other.url or settings.home}.", "Stop it with Ctrl-C there first."
        )
    home = settings.home
    if home.exists():
        if not (home / MARK).exists() and any(home.iterdir()):
            raise PlatformError("demo-home", f"The folder {home} was not made by a demo.", "Give the demo a folder of its own with --home.")
        end_leftovers(settings)
        shutil.rmtree(home)
    home.mkdir(parents=True)
    (home / MARK).touch()


@contextmanager
def _platform(settings: Settings, port: int, stop: threading.Event, screen: Screen) -> Iterator[Platform]:
    """The platform of `sdp up` in a thread; its lines go to a log, its failure is raised here."""
    log = logs_folder(settings) / "platform.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    failure: list[BaseException] = []
    ended = threading.Event()

    def report(line: str) -> None:
        with log.open("a", encoding="utf-8") as file:
            file.write(f"{datetime.now(UTC):%H:%M:%S} {line}\n")

    platform = Platform(settings, port=port, report=report)

    def run() -> None:
        try:
            platform.run(ended)
        except BaseException as error:  # noqa: BLE001 - carried to the thread that asked
            failure.append(error)
            stop.set()

    thread = threading.Thread(target=run, name="platform")
    thread.start()
    try:
        yield platform
    finally:
        ended.set()
        screen.say("Stopping the platform; what is at work commits what it has ...")
        thread.join()
    if failure:
        raise failure[0]


def _tell_story(settings: Settings, platform: Platform, options: argparse.Namespace, screen: Screen, stop: threading.Event) -> bool:
    """From nothing to answers; whether all of them are right."""
    began = time.monotonic()
    screen.title("Shared Data Platform", f"{options.events:,} page changes of {DAYS} simulated days on 7 wikis. State: {settings.home}")
    with screen.step("Generating events while the platform starts") as done:
        start = (datetime.now(UTC) - timedelta(days=DAYS)).replace(microsecond=0)
        made = generate(options.events, options.seed, start)
        done(f"{len(made.gated) + len(made.raw):,} lines: {made.truth.duplicates:,} duplicates, {made.truth.late:,} late, "
             f"{len(made.truth.refused) + made.truth.quarantined:,} malformed")  # fmt: skip
    recent = recent_changes(made, RECENT_CHANGES)
    report = _feed(settings, made, recent, screen)
    with screen.step("Starting the UI, the daemon and a code server for each domain") as done:
        _await(lambda: (now := running(settings)) is not None and now.ready, options.patience, stop, settings, "start")
        done(platform.url)
    status = _await_fresh(settings, options, screen, stop)
    seconds = time.monotonic() - began
    findings = judge(Parts(settings), made, report, len(recent), status)
    screen.outcome(settings, made, report, findings, status)
    screen.paste(settings, None if options.exit else platform.url)
    wrong = [finding for finding in findings if not finding.right]
    if wrong:
        screen.fail(f"{len(wrong)} of {len(findings)} findings are not what was generated: {', '.join(finding.what for finding in wrong)}.")
    else:
        screen.succeed(f"All {len(findings)} findings are what was generated, {seconds:.0f} s after the start.")
    return not wrong


def _feed(settings: Settings, made: Generated, recent: Sequence[bytes], screen: Screen) -> GateReport:
    """Everything through the gate, half of the malformed lines past it."""
    parts = Parts(settings)
    gate = Gate(parts.registry, parts.log, settings)
    with screen.step("Producing through the gate, and some past it") as done:
        report = gate.produce(STREAM, made.gated)
        gate.produce(STREAM, made.raw, unchecked=True)
        gate.produce("mediawiki.recentchange", recent)
        done(f"{report.accepted:,} accepted, {report.refused:,} refused, {len(made.raw):,} written past the gate")
    return report


def _await_fresh(settings: Settings, options: argparse.Namespace, screen: Screen, stop: threading.Event) -> list[dict[str, Any]]:
    """Wait until every product has taken in everything and its watermark keeps the promise; the last status."""
    found: list[dict[str, Any]] = []
    latencies = {key: contract.sla.latency or timedelta(hours=1) for key, contract in Parts(settings).registry.contracts.items()}

    def fresh() -> bool:
        found[:] = status_of(settings, PRODUCTS)
        screen.progress(found)
        return all(is_fresh(product, latencies[product["product"]]) for product in found)

    with screen.step("Waiting for sensors to drain the streams and refresh the products") as done:
        _await(fresh, options.patience, stop, settings, "refresh all products")
        done("all products fresh")
    return found


def is_fresh(product: dict[str, Any], latency: timedelta) -> bool:
    """Whether nothing waits for the product, no run of it is at work, and its data is as young as promised."""
    idle = product["last_run"] is not None and product["last_run"]["status"] in ("success", "started")
    caught_up = product["snapshot_id"] is not None and product["lag_events"] == 0
    return idle and caught_up and product["lag_seconds"] is not None and product["lag_seconds"] <= latency.total_seconds()


def _await(condition: Callable[[], bool], patience: float, stop: threading.Event, settings: Settings, what: str) -> None:
    """Ask until the condition holds.

    Raises:
        PlatformError: `demo-interrupted`, or `demo-slow` when patience ends.
    """
    deadline = time.monotonic() + patience
    while not stop.is_set():
        if condition():
            return
        if time.monotonic() > deadline:
            raise PlatformError(
                "demo-slow",
                f"The platform did not {what} within {patience:.0f} s.",
                f"Look at the UI and at the logs in {logs_folder(settings)}.",
            )
        stop.wait(POLL_SECONDS)
    raise PlatformError("demo-interrupted", "The demo was interrupted.", "Start it again with make demo.")


if __name__ == "__main__":
    sys.exit(main())
