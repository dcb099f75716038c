"""`sdp up` on real processes: everything starts, follows the project while it runs, and ends without a trace. `sdp stack` beside it."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from platform_resources.config import Settings
from platform_resources.stack import dagster_api
from platform_resources.stack.child import Child, group_alive
from platform_resources.stack.kafka import Kafka
from platform_resources.stack.platform import end_groups, end_leftovers, free_port, running
from platform_resources.stack.service import Service, born
from platform_resources.stack.watching import Watch
from tests.cli.conftest import Project, make_project, reading

SDP = [sys.executable, "-c", "from platform_resources.cli import main; main()"]
ALPHA = """
import dagster as dg

@dg.asset(key=["alpha", "one"])
def one(): ...

defs = dg.Definitions(assets=[one])
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", project=tmp_path / "project")


def until(true: Callable[[], object], seconds: float, what: str) -> float:
    """Wait until `true()`; how long it took."""
    began = time.monotonic()
    while not true():
        if time.monotonic() - began > seconds:
            pytest.fail(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.2)
    return time.monotonic() - began


class Up:
    """A running `sdp up`."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.settings = Settings(home=project.home, project=project.path)
        self.log = project.path / "up.log"
        with self.log.open("wb") as out:
            self.process = subprocess.Popen([*SDP, "up", "--port", "0"], cwd=project.path, env=project.environment, stdout=out, stderr=out)

    def locations(self) -> dict[str, str]:
        now = running(self.settings)
        return dict(now.locations) if now and now.ready else {}

    def ask(self, query: str) -> dict[str, object]:
        now = running(self.settings)
        assert now is not None
        return dagster_api.ask(now.url, query)

    def groups(self) -> dict[str, int]:
        entries = json.loads((self.project.home / "platform" / "children.json").read_text())
        return {entry["name"]: entry["group"] for entry in entries}

    def ticks(self, sensor: str) -> int:
        file = self.project.home / "dagster" / "schedules" / "schedules.db"
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as con:
            return int(con.execute("select count(*) from job_ticks where tick_body like ?", (f'%"{sensor}"%',)).fetchone()[0])

    def stop(self) -> float:
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=30) == 0, self.log.read_text()
        return time.monotonic() - began


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    project = make_project(tmp_path)
    project.write("data_products/alpha/__init__.py", "")
    project.write("data_products/alpha/definitions.py", "raise ValueError('alpha is not ready yet')\n")
    project.write("workspace.yaml", "load_from:\n  - python_module: {module_name: data_products.alpha.definitions, location_name: alpha}\n")
    started = Up(project)
    yield started
    if started.process.poll() is None:
        started.process.kill()
        started.process.wait()
    for group in started.groups().values() if (project.home / "platform" / "children.json").exists() else ():
        if group_alive(group):
            os.killpg(group, signal.SIGKILL)


def test_a_platform_follows_its_project_and_leaves_nothing_behind(up: Up) -> None:
    until(lambda: up.locations().get("alpha"), 60, "the UI answers")
    assert "alpha is not ready yet" in up.locations()["alpha"]  # a broken location is shown with its error, and nothing else stops
    groups = up.groups()
    assert set(groups) == {"webserver", "daemon", "location-alpha"}

    # A second one on the same home is refused, with the address of the first.
    second = subprocess.run([*SDP, "up"], cwd=up.project.path, env=up.project.environment, capture_output=True, text=True, check=False)
    now = running(up.settings)
    assert now is not None
    assert second.returncode == 1
    assert f"A platform is already running on {up.project.home} at {now.url} (process {up.process.pid})." in second.stderr
    assert second.stdout == ""

    # Nothing listens on anything but loopback.
    port = int(now.url.rpartition(":")[2])
    with socket.socket() as probe, pytest.raises(OSError):  # noqa: PT012
        probe.settimeout(1)
        probe.connect((_own_address(), port))

    # Mended on disk: loaded in the UI without a restart.
    up.project.write("data_products/alpha/definitions.py", ALPHA)
    until(lambda: up.locations().get("alpha") == "loaded", 30, "the mended location is loaded")

    # A new domain with a stream: in the UI within 60 s, its sensor ticks within 120 s, and its events land without a command.
    began = time.monotonic()
    sample = up.project.events("readings.ndjson", [reading(number) for number in range(20)])
    for arguments in (
        ["new", "domain", "weather", "--owner", "w@example.org"],
        ["new", "product", "weather/reading", "--from-sample", str(sample)],
    ):
        subprocess.run([*SDP, *arguments], cwd=up.project.path, env=up.project.environment, check=True, capture_output=True)
    subprocess.run(
        [*SDP, "produce", "weather.reading.v1", str(sample)],
        cwd=up.project.path,
        env=up.project.environment,
        check=True,
        capture_output=True,
    )
    until(lambda: "reading" in json.dumps(up.ask("{ assetNodes { assetKey { path } } }")), 60, "the new product is in the UI")
    seen = time.monotonic() - began
    # A process that dies is started again.
    os.kill(groups["webserver"], signal.SIGKILL)
    until(lambda: "webserver started again" in up.log.read_text(), 15, "the webserver is started again")
    until(lambda: up.ticks("weather_streams"), 120, "the new sensor ticks")
    ticked = time.monotonic() - began
    until(lambda: _rows(up) == 20, 60, "the events have landed")
    print(f"in the UI after {seen:.0f} s, first tick after {ticked:.0f} s, rows after {time.monotonic() - began:.0f} s")
    assert seen < 60
    assert ticked < 120

    groups = up.groups()
    assert up.stop() < 12
    assert [name for name, group in groups.items() if group_alive(group)] == []
    assert running(up.settings) is None
    statuses = sqlite3.connect(up.project.home / "dagster" / "history" / "runs.db").execute("select distinct status from runs").fetchall()
    assert {status for (status,) in statuses} <= {"SUCCESS", "CANCELED", "QUEUED"}


def _own_address() -> str:
    """An address of this machine that is not loopback; one that routes nowhere when it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            address = str(probe.getsockname()[0])
        except OSError:
            return "192.0.2.1"
    return address if not address.startswith("127.") else "192.0.2.1"


def _rows(up: Up) -> int:
    done = subprocess.run([*SDP, "list", "--json"], cwd=up.project.path, env=up.project.environment, capture_output=True, check=True)
    return next((product["rows"] or 0 for product in json.loads(done.stdout) if product["product"] == "weather/reading"), 0)


def test_the_next_start_ends_what_a_killed_supervisor_left(settings: Settings, tmp_path: Path) -> None:
    left = Child("daemon", ["sleep", "600"], env=dict(os.environ), cwd=tmp_path, log=tmp_path / "daemon.log")
    other = Child("other", ["sleep", "600"], env=dict(os.environ), cwd=tmp_path, log=tmp_path / "other.log")
    left.start()
    other.start()
    entries = [{"name": "daemon", "group": left.pid, "born": born(left.pid)}, {"name": "reused", "group": other.pid, "born": "long ago"}]
    (settings.home / "platform").mkdir(parents=True)
    (settings.home / "platform" / "children.json").write_text(json.dumps(entries))
    assert end_leftovers(settings) == ["daemon"]
    assert not left.group_alive
    assert other.group_alive  # its number was given to somebody else since
    end_groups([other])


def test_a_child_that_dies_comes_back_with_growing_delay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform_resources.stack.child.FIRST_DELAY", 0.05)
    child = Child("brief", [sys.executable, "-c", "print('here')"], env=dict(os.environ), cwd=tmp_path, log=tmp_path / "brief.log")
    child.start()
    said: list[str] = []
    until(lambda: said.append(child.revive() or "") or len([word for word in said if "started again" in word]) == 3, 20, "three starts")
    delays = [float(word.split("again in ")[1].split(" s")[0]) for word in said if "again in" in word]
    assert delays == [0.1, 0.1, 0.2]
    assert "ended with status 0" in said[next(i for i, word in enumerate(said) if word)]
    end_groups([child])
    assert (tmp_path / "brief.log").read_text().count("here") >= 3


def test_ending_reaches_every_descendant_even_a_stubborn_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform_resources.stack.platform.STOP_SECONDS", 0.5)
    code = "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); p = subprocess.Popen(['sleep', '600']); print(p.pid, flush=True); time.sleep(600)"  # noqa: E501
    child = Child("stubborn", [sys.executable, "-c", code], env=dict(os.environ), cwd=tmp_path, log=tmp_path / "log")
    child.start()
    until(lambda: (tmp_path / "log").read_text().strip(), 10, "its child runs")
    end_groups([child])
    assert not child.group_alive


def test_a_location_that_refuses_itself_is_told_in_its_own_words() -> None:
    wrapped = {"__typename": "PythonError", "message": "dagster.DagsterUserCodeLoadError: wrapped\n"}
    for message, said in (
        ("platform_resources.errors.PlatformError: The contract is broken. Mend it.\n", "The contract is broken. Mend it."),
        ("ValueError: not yet\n", "ValueError: not yet"),
    ):
        entry = {"loadStatus": "LOADED", "locationOrLoadError": {**wrapped, "causes": [{"message": message}]}}
        assert dagster_api._state(entry) == said


def test_a_busy_port_gives_the_next_one() -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        assert port < free_port(port) < port + 100


def test_changes_are_told_once_when_they_have_come_to_rest(tmp_path: Path) -> None:
    alpha, beta = tmp_path / "alpha", tmp_path / "beta"
    for folder, text in ((alpha, "select 1"), (beta, "select * from alpha.one")):
        folder.mkdir()
        (folder / "one.sql").write_text(text)
    watch = Watch()
    watch.follow("alpha", alpha)
    watch.follow("beta", beta)
    assert watch.changed() == {}
    (alpha / "one.sql").write_text("select 2 as two")
    (alpha / "notes.txt").write_text("no code")
    assert watch.changed() == {}  # somebody may still be writing
    assert watch.changed() == {"alpha": [alpha / "one.sql"]}
    assert watch.changed() == {}
    (alpha / "one.sql").unlink()
    watch.changed()
    assert watch.changed() == {"alpha": [alpha / "one.sql"]}
    assert watch.readers_of("alpha", "alpha") == ["beta"]
    assert watch.readers_of("beta", "beta") == []


def test_a_broker_that_runs_unused_is_told_with_what_to_type(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    state = {"name": "kafka", "pid": os.getpid(), "born": born(os.getpid()), "ports": {"port": 9}, "address": "127.0.0.1:9"}
    folder = project.home / "stack" / "kafka"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text(json.dumps(state))
    assert project.ok("stack", "status").splitlines()[-1].strip() == "export SDP_PROFILE=stack"
    monkeypatch.setenv("SDP_PROFILE", "stack")
    assert "export" not in project.ok("stack", "status")


@pytest.mark.parametrize("command", [("status",), ("query", "select 1"), ("run", "weather/daily"), ("up", "--port", "0")])
def test_a_server_that_was_stopped_is_told_at_once(project: Project, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]) -> None:
    for name, told in (
        ("postgresql", {"catalog_uri": "postgresql+psycopg2://sdp:secret@127.0.0.1:9/sdp", "password": "secret"}),
        ("swift", {"warehouse": "s3://warehouse", "s3_endpoint": "http://127.0.0.1:9"}),
    ):
        state = {"name": name, "pid": os.getpid(), "born": "long ago", "ports": {"port": 9}, "address": "127.0.0.1:9"}
        folder = project.home / "stack" / name
        folder.mkdir(parents=True)
        (folder / "state.json").write_text(json.dumps(state))
        (folder / "client.json").write_text(json.dumps(told))
    monkeypatch.setenv("SDP_PROFILE", "stack")
    assert project.refused(*command) == (
        f"The servers postgresql and swift of the stack in {project.home} are stopped. "
        "Start what is needed with `sdp stack up postgresql swift`. [stack-stopped]"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts servers as another user")
def test_a_home_that_one_server_cannot_enter_starts_none(
    project: Project, requires: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    requires("postgresql")
    started: list[str] = []
    monkeypatch.setattr(Service, "up", lambda self, _settings: started.append(self.name))
    monkeypatch.setattr(Kafka, "install", lambda _self, _settings: None)
    project.home.mkdir(mode=0o700)
    assert "[home-unreachable]" in project.refused("stack", "up", "kafka", "postgresql")
    assert started == []


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        ("SDP_EVENT_LOG", "kafka", "The event log is Kafka, but no broker is configured, and this home's own was never started."),
        ("SDP_PROFILE", "stack", "The profile stack uses the server postgresql, which was never started in "),
    ],
)
def test_an_ingest_without_its_servers_says_only_why(
    project: Project, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, why: str
) -> None:
    project.ok("new", "domain", "weather", "--owner", "a@example.org")
    project.ok("new", "product", "weather/reading", "--from-sample", str(project.events("r.ndjson", [reading(1)])))
    monkeypatch.setenv(variable, value)
    result = project.sdp("ingest", "weather/reading")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith(why)
