"""`sdp` as a real process: start-up, streams, signals and exit statuses, as a shell sees them."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Project, make_project, reading

SDP = [sys.executable, "-c", "from platform_resources.cli import main; main()"]
SLOW = "select r.station, count(*) as n from weather.reading r, range(1000000000000) t group by all having count(*) % 7 = 0"


@pytest.fixture(scope="module")
def weather(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Fifty readings that have landed, and a product whose query over them would take years."""
    project = make_project(tmp_path_factory.mktemp("process"))
    sample = project.events("readings.ndjson", [reading(number) for number in range(50)])
    for arguments in (
        ["new", "domain", "weather", "--owner", "w@example.org"],
        ["new", "product", "weather/reading", "--from-sample", str(sample)],
    ):
        assert sdp(project, *arguments).returncode == 0
    assert sdp(project, "produce", "weather.reading.v1", str(sample)).returncode == 0
    assert sdp(project, "ingest", "weather/reading").returncode == 0
    assert sdp(project, "new", "product", "weather/slow", "--sql", SLOW).returncode == 0
    return project


def sdp(project: Project, *arguments: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*SDP, *arguments], cwd=project.path, env=project.environment, capture_output=True, input=stdin, timeout=120, check=False
    )


def test_help_names_every_command(weather: Project) -> None:
    shown = sdp(weather, "--help").stdout.decode()
    for name in (
        "produce",
        "replay",
        "ingest",
        "run",
        "query",
        "list",
        "show",
        "status",
        "check",
        "new",
        "up",
        "doctor",
        "stack",
        "Examples",
    ):
        assert name in shown
    assert max(map(len, shown.splitlines())) <= 110


@pytest.mark.parametrize("module", ["events", "products", "showing", "checking", "creating", "status"])
def test_no_command_imports_dagster_to_begin(module: str) -> None:
    code = f"import sys, platform_resources.cli.{module}; sys.exit('dagster' in sys.modules or 'duckdb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_produce_never_loads_dagster(weather: Project) -> None:
    code = "import sys\ntry:\n from platform_resources.cli import main; main()\nfinally:\n sys.stderr.write(str('dagster' in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code, "produce", "weather.reading.v1", "-"],
        cwd=weather.path,
        env=weather.environment,
        input=b"",
        capture_output=True,
        check=False,
    )
    assert done.stderr == b"False"


def test_stdout_holds_one_document_and_nothing_else(weather: Project) -> None:
    assert sdp(weather, "produce", "weather.reading.v1", "-", stdin=json.dumps(reading(98)).encode()).returncode == 0
    done = sdp(weather, "ingest", "weather/reading", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["inserted"] == 1
    assert done.stderr == b""


def test_a_refusal_is_status_one_and_wrong_usage_two(weather: Project) -> None:
    refused, usage = sdp(weather, "ingest", "weather/nothing"), sdp(weather, "ingest")
    assert (refused.returncode, refused.stdout) == (1, b"")
    assert refused.stderr.decode().count("\n") == 1
    assert usage.returncode == 2
    assert b"Traceback" not in refused.stderr + usage.stderr


def test_a_reader_that_leaves_ends_the_query_in_silence(weather: Project) -> None:
    process = subprocess.Popen(
        [
            *SDP,
            "query",
            "select a._offset, b.station from weather.reading a, weather.reading b, weather.reading c, unnest(range(4))",
            "--json",
        ],
        cwd=weather.path,
        env=weather.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=60) == 141
    assert process.stderr.read() == b""


def test_a_reader_that_leaves_a_table_ends_it_in_silence(weather: Project) -> None:
    sql = "select * from range(50000)"
    process = subprocess.Popen(
        [*SDP, "query", sql, "--limit", "50000"],
        cwd=weather.path, env=weather.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=60) == 141
    assert process.stderr.read() == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_an_answer_that_finds_no_room_is_one_sentence(weather: Project, form: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*SDP, "query", "select 1", *form], cwd=weather.path, env=weather.environment, stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert b"[output-unwritable]" in done.stderr


def test_ctrl_c_interrupts_a_query(weather: Project) -> None:
    spill = weather.home / "tmp" / "duckdb"
    shutil.rmtree(spill, ignore_errors=True)  # made anew when the session begins
    process = subprocess.Popen(
        [*SDP, "query", "select count(*) as n from range(1000000000000) t where hash(t.range) % 7 = 8"],
        cwd=weather.path, env=weather.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not spill.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(0.5)  # well into the query
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, b"", b"Interrupted.\n")


def test_a_fault_of_the_platform_is_a_sentence_without_a_trace(weather: Project) -> None:
    code = "import platform_resources.contracts.registry as r\nr.Registry.load = lambda p: 1 / 0\nfrom platform_resources.cli import main; main()"  # noqa: E501
    done = subprocess.run([sys.executable, "-c", code, "list"], cwd=weather.path, env=weather.environment, capture_output=True, check=False)
    assert done.returncode == 1
    assert (
        done.stderr
        == b"The platform itself failed: ZeroDivisionError: division by zero. Repeat with SDP_DEBUG=1 for the trace. [internal]\n"
    )


def test_ctrl_c_ends_following_in_peace(weather: Project) -> None:
    process = subprocess.Popen(
        [*SDP, "ingest", "weather/reading", "--follow", "--json"],
        cwd=weather.path, env=weather.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    lock = weather.home / "locks"
    deadline = time.monotonic() + 60
    while not any(_held(file) for file in lock.glob("drain*.lock")) and time.monotonic() < deadline:
        time.sleep(0.1)
    busy = sdp(weather, "ingest", "weather/reading")
    event = json.dumps(reading(99)).encode()
    assert sdp(weather, "produce", "weather.reading.v1", "-", stdin=event).returncode == 0
    while (
        json.loads(
            sdp(weather, "query", "select count(*) as n from weather.reading where meta.id = 'r99'", "--json").stdout or b'[{"n": 0}]'
        )[0]["n"]
        == 0
    ):
        assert time.monotonic() < deadline
        time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    report = json.loads(out)
    assert (report["inserted"], report["status"]) == (1, "success")
    assert err == b""
    assert busy.returncode == 1
    assert f"already at work in run {report['run_id']}." in busy.stderr.decode()


class Terminal:
    """`sdp` in the foreground of a terminal of its own, where Ctrl-C reaches every process of its group."""

    def __init__(self, project: Project, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [*SDP, *arguments], cwd=project.path, env={**project.environment, "TERM": "dumb"},
            stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=lambda: os.login_tty(os.dup(theirs)),  # noqa: PLW1509
        )  # fmt: skip
        os.close(theirs)
        self._read = bytearray()
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):  # the last process that had it open is gone
            while data := os.read(self._ours, 65_536):
                self._read += data

    def press_ctrl_c(self) -> None:
        os.write(self._ours, b"\x03")

    def ended(self) -> tuple[int, str]:
        """Its status and all that stood on the terminal."""
        try:
            status = self.process.wait(timeout=60)
        finally:
            self.process.kill()
        self._reader.join(10)
        os.close(self._ours)
        return status, self._read.decode()

    @property
    def processes(self) -> list[str]:
        """The command lines of all processes of its session that live."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = stat.read_text().rpartition(")")[2].split()
                if int(fields[3]) == self.process.pid and fields[0] not in "ZX":
                    found.append((stat.parent / "cmdline").read_text().replace("\0", " "))
        return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc to see processes by")
@pytest.mark.parametrize(
    ("arguments", "lock", "status", "said"),
    [
        (("ingest", "weather/reading", "--follow"), "drain%3Aweather%2Freading", 0, "weather/reading: 0 read"),
        (("run", "weather/slow"), "run%3Aweather%2Fslow", 130, "weather/slow was interrupted, its run is canceled. [interrupted]"),
    ],
)
def test_ctrl_c_at_a_terminal_leaves_one_sentence_and_no_process(
    weather: Project, arguments: tuple[str, ...], lock: str, status: int, said: str
) -> None:
    terminal = Terminal(weather, *arguments)
    deadline, file = time.monotonic() + 60, weather.home / "locks" / f"{lock}.lock"
    while not (file.exists() and _held(file) and any("watch_orphans" in one for one in terminal.processes)):
        assert time.monotonic() < deadline and terminal.process.poll() is None
        time.sleep(0.1)
    time.sleep(1.0)  # the helpers have begun by then
    terminal.press_ctrl_c()
    found, shown = terminal.ended()
    assert found == status and said in shown, shown
    assert "Traceback" not in shown and "KeyboardInterrupt" not in shown
    assert terminal.processes == []


# seconds: while the query begins to stream; before it, in its midst
@pytest.mark.parametrize("into", [0.15, *(pytest.param(seconds, marks=pytest.mark.storm) for seconds in (0.0, 0.5))])
def test_ctrl_c_cancels_a_run_and_nobody_is_told_that_it_failed(weather: Project, into: float) -> None:
    process = subprocess.Popen(
        [*SDP, "run", "weather/slow", "--json"],
        cwd=weather.path, env=weather.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not any(_held(file) for file in (weather.home / "locks").glob("run*.lock")) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(into)
    process.send_signal(signal.SIGINT)
    try:
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130, (out, err)
    report = json.loads(out)
    assert report["status"] == "canceled"
    assert err.decode().strip() == "weather/slow was interrupted, its run is canceled. [interrupted]"
    [status] = json.loads(sdp(weather, "status", "weather/slow", "--json").stdout)
    assert (status["last_run"]["run_id"], status["last_run"]["status"]) == (report["run_id"], "canceled")


def _held(file: Path) -> bool:
    return bool(file.read_text())
