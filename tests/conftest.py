"""Fixtures every suite shares: an isolated platform home, the real data, and prerequisites that skip with their reason.

A prerequisite that is absent skips its tests unless `SDP_REQUIRE` (comma-separated) names it; then its absence fails them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from platform_resources import failpoints
from platform_resources.config import SOURCE_ROOT, Settings
from platform_resources.engines.spark import have_jars
from platform_resources.errors import PlatformError
from platform_resources.stack import services
from platform_resources.stack.iceberg_rest import IcebergRest
from platform_resources.stack.kafka import Kafka
from platform_resources.stack.mariadb import MariaDB
from platform_resources.stack.postgresql import PostgreSQL
from platform_resources.stack.swift import Swift
from platform_resources.streams.log import EventLog, open_log

REALDATA = SOURCE_ROOT.parent / "shared" / "realdata"

# Tests of these files share nothing that is slow to make and take seconds each, so they are dealt out one by one, and last.
DEALT_SINGLY = ("tests/test_incremental_equality.py", "tests/dagster_layer/test_end_to_end.py", "tests/dagster_layer/test_drain_life.py")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Of `--dist loadfile`, which keeps the tests of a file together and begins with the files of many tests: without this the last few
    files, long ones of few tests, leave all cores but one idle.
    """
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return nodeid if nodeid.startswith(DEALT_SINGLY) else super()._split_scope(nodeid)

    return Scheduling(config, log)


def require(name: str, available: bool, reason: str) -> None:
    """Go on when `available`; else skip with `reason`, or fail when SDP_REQUIRE names the prerequisite."""
    if available:
        return
    if name in os.environ.get("SDP_REQUIRE", "").split(","):
        pytest.fail(f"SDP_REQUIRE names {name}, but {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def requires() -> Callable[[str], None]:
    """Call with `java`, `kafka`, `postgresql`, `mariadb`, `swift`, `rest`, `realdata` or `browser` to skip a test without it."""
    installs = {"postgresql": PostgreSQL(), "mariadb": MariaDB(), "swift": Swift(), "rest": IcebergRest()}

    def check(name: str) -> None:
        if name in installs:
            try:
                installs[name].install(Settings())
            except PlatformError as error:
                require(name, False, error.message)
            return
        if name == "realdata":
            require(name, REALDATA.is_dir(), "the real data (../shared/realdata) is not beside this checkout")
        elif name == "java":
            require(name, shutil.which("java") is not None, "no java on the PATH")
        elif name == "kafka":
            have = shutil.which("java") is not None and shutil.which("mvn") is not None
            require(name, have, "Apache Kafka needs java and mvn on the PATH")
        elif name == "spark":
            have = shutil.which("java") is not None and (shutil.which("mvn") is not None or have_jars(Settings()))
            require(name, have, "Spark needs java, and mvn to fetch what it reads Iceberg with")
        elif name == "browser":
            require(name, Path("/usr/bin/chromium").exists(), "no /usr/bin/chromium")
        else:
            raise ValueError(f"unknown prerequisite {name}")

    return check


@pytest.fixture(scope="session")
def realdata(requires: Callable[[str], None]) -> Path:
    """Folder of the real Wikimedia data, read in place."""
    requires("realdata")
    return REALDATA


@pytest.fixture(autouse=True)
def _failpoints_count_anew() -> None:
    """A crash point counts its passages per process, and here one process runs many tests."""
    failpoints._passages.clear()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Embedded settings with a home of their own."""
    return Settings(home=tmp_path / "home")


@pytest.fixture(scope="session")
def kafka(requires: Callable[[str], None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap address of a real broker, started once per session; it dies with the session however that ends."""
    requires("kafka")
    settings = Settings(home=tmp_path_factory.mktemp("kafka"))
    yield Kafka().up(settings, die_with_parent=True).address
    Kafka().kill(settings)


@pytest.fixture(scope="session")
def stack(requires: Callable[[str], None]) -> Iterator[Callable[..., Settings]]:
    """Call with names of servers to have them run, and get the settings that use them. They are started once per session, in a home
    that PostgreSQL's own account can enter, and die with the session however that ends.
    """
    home = Path(tempfile.mkdtemp(prefix="sdp-stack-"))
    home.chmod(0o711)
    settings = Settings(home=home)

    def start(*names: str) -> Settings:
        for name in names:
            requires(name.removeprefix("iceberg-"))
        return services.start(settings, names, die_with_parent=True)

    yield start
    for each in services.SERVICES.values():
        each.kill(settings)
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(params=["local", "kafka"])
def log_settings(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    """Settings whose event log is, in turn, local segment files and the real broker."""
    if request.param == "local":
        return settings
    return settings.model_copy(update={"event_log": "kafka", "kafka_bootstrap": request.getfixturevalue("kafka")})


@pytest.fixture
def event_log(log_settings: Settings) -> Iterator[EventLog]:
    """The event log of `log_settings`. The broker is shared by the session: take topic names from `topic`."""
    log = open_log(log_settings)
    yield log
    log.close()


@pytest.fixture
def topic() -> str:
    """A topic name that no other test uses."""
    return f"test.{uuid.uuid4().hex[:12]}.v1"
