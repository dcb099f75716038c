"""The life of a server on one machine, told by a small one; what is Kafka's own, by the broker itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from platform_resources.cli.doctor import examine
from platform_resources.config import Settings
from platform_resources.errors import PlatformError
from platform_resources.stack.kafka import Kafka, running_bootstrap
from platform_resources.stack.maven import SPARK_NEWEST_JAVA, require_java
from platform_resources.stack.service import Service, born
from platform_resources.stack.services import SERVICES, service
from platform_resources.streams.kafka_log import KafkaLog
from platform_resources.streams.log import open_log

SERVER = (
    "import http.server, sys; http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()"
)


class Small(Service):
    """A web server of one line."""

    name = "small"
    start_seconds = 20.0
    stop_seconds = 1.0

    def __init__(self, code: str = SERVER) -> None:
        self.code, self.installed = code, 0

    def install(self, settings: Settings) -> None:
        self.installed += 1

    def prepare(self, folder: Path, ports: Mapping[str, int], settings: Settings) -> list[str]:
        return [sys.executable, "-c", self.code, str(ports["port"])]


@pytest.fixture
def small(settings: Settings) -> Iterator[Small]:
    found = Small()
    yield found
    found.kill(settings)


def test_up_twice_starts_one_server_and_down_twice_stops_it(small: Small, settings: Settings) -> None:
    first = small.up(settings)
    assert small.up(settings) == first and small.installed == 1
    status = small.status(settings)
    assert (status.running, status.pid, status.address) == (True, first.pid, f"127.0.0.1:{first.ports['port']}")
    assert small.ready(first.ports)
    assert small.down(settings) is True
    assert small.down(settings) is False
    assert small.status(settings).as_dict() == {"name": "small", "running": False, "address": None, "pid": None, "log": str(status.log)}
    assert not small.ready(first.ports)


def test_a_server_that_was_killed_is_started_again_on_the_same_port(small: Small, settings: Settings) -> None:
    first = small.up(settings)
    small.kill(settings)
    assert not small.status(settings).running
    second = small.up(settings)
    assert second.pid != first.pid and second.ports == first.ports


class Busy(Small):
    """Fails some looks before it is seen to serve."""

    fails = 0

    def serving(self, settings: Settings, ports: Mapping[str, int]) -> bool:
        self.fails -= 1
        return self.fails < 0 and super().serving(settings, ports)


def test_a_busy_server_that_fails_one_look_is_left_alone(settings: Settings) -> None:
    busy = Busy()
    try:
        first = busy.up(settings)
        busy.fails = 1
        assert busy.up(settings) == first
        busy.fails, busy.looks = 2, 2  # type: ignore[misc] - of this one alone
        assert busy.up(settings).pid != first.pid
    finally:
        busy.kill(settings)


def test_a_process_id_taken_by_another_process_is_not_ours_to_stop(small: Small, settings: Settings) -> None:
    state = small.up(settings)
    small.down(settings)
    file = small.folder(settings) / "state.json"
    file.write_text(file.read_text().replace(f'"pid": {state.pid}', f'"pid": {os.getpid()}'))
    assert not small.status(settings).running
    assert small.down(settings) is False  # and this test is still alive


@pytest.mark.skipif(sys.platform != "linux", reason="tells threads apart by /proc")
def test_a_process_lives_until_its_last_thread_has_ended() -> None:
    """A killed JVM's first thread is often dead some milliseconds before the others let go of its port."""
    sleeper = "threading.Thread(target=time.sleep, args=(60,)).start()"
    exit_one_thread = f"import ctypes, threading, time; {sleeper}; ctypes.CDLL(None).pthread_exit(None)"
    process = subprocess.Popen([sys.executable, "-c", exit_one_thread])
    try:
        state = Path(f"/proc/{process.pid}/stat")
        deadline = time.monotonic() + 20
        while ") Z " not in state.read_text() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert ") Z " in state.read_text() and born(process.pid) is not None
    finally:
        process.kill()
    process.wait(20)
    assert born(process.pid) is None


def test_a_server_that_ends_at_once_points_to_its_log(settings: Settings) -> None:
    broken = Small("raise SystemExit('no such option')")
    with pytest.raises(PlatformError) as caught:
        broken.up(settings)
    assert caught.value.code == "stack-start-failed" and str(broken.folder(settings) / "server.log") in caught.value.remedy
    assert broken.logs(settings) == ["no such option"]
    assert broken.logs(settings, lines=0) == []


def test_a_server_that_ignores_sigterm_is_killed(settings: Settings) -> None:
    stubborn = Small("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SERVER)
    state = stubborn.up(settings)
    started = time.monotonic()
    assert stubborn.down(settings)
    assert time.monotonic() - started < 10 and not state.running


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_a_dead_test_run_leaves_no_server(settings: Settings) -> None:
    script = (
        "import os, signal\nfrom platform_resources.config import Settings\nfrom tests.stack.test_service import Small\n"
        f"print(Small().up(Settings(home={str(settings.home)!r}), die_with_parent=True).pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    deadline = time.monotonic() + 5
    while Small().status(settings).running and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Small().status(settings).running


def test_an_unknown_server_is_refused_with_those_there_are() -> None:
    assert service("kafka") is SERVICES["kafka"]
    with pytest.raises(PlatformError) as caught:
        service("kafak")
    assert caught.value.code == "service-unknown" and "kafka" in caught.value.remedy


@pytest.mark.parametrize(
    ("missing", "code", "line"), [("java", "java-missing", "openjdk-17"), ("mvn", "maven-missing", "apt-get install maven")]
)
def test_a_missing_prerequisite_is_named_with_the_line_that_installs_it(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str, code: str, line: str
) -> None:
    for tool in {"java", "mvn"} - {missing}:
        (tmp_path / tool).write_text("#!/bin/sh\n")
        (tmp_path / tool).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PlatformError) as caught:
        Kafka().up(settings.model_copy(update={"cache": tmp_path / "empty"}))
    assert caught.value.code == code and line in caught.value.remedy


def a_java(folder: Path, version: str) -> None:
    (folder / "java").write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2026-01-20' >&2\n")
    (folder / "java").chmod(0o755)


@pytest.mark.parametrize(
    ("version", "kafka", "spark"), [("1.8.0_452", False, False), ("17.0.2", True, True), ("21", True, True), ("25-ea", True, False)]
)
def test_a_java_that_does_not_fit_is_told_before_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, kafka: bool, spark: bool
) -> None:
    a_java(tmp_path, version)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for title, newest, fits in (("Kafka", None, kafka), ("Spark", SPARK_NEWEST_JAVA, spark)):
        if fits:
            require_java(title, newest=newest)
            continue
        with pytest.raises(PlatformError) as caught:
            require_java(title, newest=newest)
        assert caught.value.code == "java-unfit" and version in caught.value.message and "openjdk-17" in caught.value.remedy
    (java,) = [found for found in examine(Settings(home=tmp_path)) if found.need == "Java 17"]
    assert java.ok is kafka and ("too new for Spark" in java.found) is (kafka and not spark)


def test_the_java_that_is_asked_is_the_one_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, other = tmp_path / "jdk", tmp_path / "other"
    (home / "bin").mkdir(parents=True)
    other.mkdir()
    a_java(home / "bin", "17.0.2")
    a_java(other, "25")
    monkeypatch.setenv("PATH", f"{other}:{os.environ['PATH']}")
    require_java("Spark", newest=SPARK_NEWEST_JAVA, home=str(home))
    with pytest.raises(PlatformError, match=r"there is no .*/gone/bin/java"):
        require_java("Spark", newest=SPARK_NEWEST_JAVA, home=str(tmp_path / "gone"))


def test_a_fetch_that_fails_says_what_maven_said(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for tool, text in (("java", "#!/bin/sh\n"), ("mvn", "#!/bin/sh\necho '[ERROR] Could not reach the repository.'\nexit 1\n")):
        (tmp_path / tool).write_text(text)
        (tmp_path / tool).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(PlatformError) as caught:
        Kafka().install(settings.model_copy(update={"cache": tmp_path / "cache"}))
    assert caught.value.code == "stack-install-failed" and "Could not reach the repository" in caught.value.message
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(
    ("environment", "lines"),
    [
        ({}, ["export SDP_PROFILE=stack"]),
        ({"profile": "stack"}, []),
        ({"event_log": "kafka"}, []),
        ({"profile": "stack", "event_log": "local"}, ["unset SDP_EVENT_LOG"]),
        ({"event_log": "local"}, ["unset SDP_EVENT_LOG", "export SDP_PROFILE=stack"]),
        ({"profile": "stack", "kafka_bootstrap": "127.0.0.1:9"}, ["unset SDP_KAFKA_BOOTSTRAP"]),
        ({"profile": "stack", "kafka_bootstrap": "127.0.0.1:1"}, []),
    ],
)
def test_a_broker_that_is_not_used_says_what_to_type(settings: Settings, environment: dict[str, str], lines: list[str]) -> None:
    assert Kafka().to_use(settings.model_copy(update=environment), "127.0.0.1:1") == lines


def test_a_home_with_events_in_its_local_log_gets_another_home_advised(settings: Settings) -> None:
    log = open_log(settings)
    log.append("t", [(None, b"x")])
    log.close()
    said = Kafka().to_use(settings, "127.0.0.1:1")
    assert f"export SDP_HOME={settings.home}-stack" in "\n".join(said)
    assert said[-1] == "sdp stack up kafka"
    assert Kafka().to_use(settings.model_copy(update={"profile": "stack"}), "127.0.0.1:1") == []


def test_the_broker_killed_and_started_again_has_lost_nothing(settings: Settings, requires: Callable[[str], None]) -> None:
    requires("kafka")
    kafka, stack = Kafka(), settings.model_copy(update={"event_log": "kafka"})
    assert running_bootstrap(stack) is None
    try:
        state = kafka.up(stack, die_with_parent=True)
        assert running_bootstrap(stack) == state.address == f"127.0.0.1:{state.ports['port']}"
        with KafkaLog(stack) as log:
            log.append("t", [(None, str(n).encode()) for n in range(1000)])
        kafka.kill(stack)
        assert running_bootstrap(stack) is None
        assert kafka.up(stack, die_with_parent=True).address == state.address
        with KafkaLog(stack) as log:
            assert log.end_offsets("t") == {0: 1000}
            assert log.read({("t", 0): 999}, max_events=1, timeout=20)[0].value == b"999"
    finally:
        kafka.kill(stack)
