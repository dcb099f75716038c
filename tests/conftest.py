"""Fixtures every suite shares: an isolated platform home, the real data, and prerequisites that skip with their reason.

A prerequisite that is absent skips its tests unless `SDP_REQUIRE` (comma-separated) names it; then its absence fails them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from platform_resources.config import SOURCE_ROOT, Settings

REALDATA = SOURCE_ROOT.parent / "shared" / "realdata"


def require(name: str, available: bool, reason: str) -> None:
    """Go on when `available`; else skip with `reason`, or fail when SDP_REQUIRE names the prerequisite."""
    if available:
        return
    if name in os.environ.get("SDP_REQUIRE", "").split(","):
        pytest.fail(f"SDP_REQUIRE names {name}, but {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def requires() -> Callable[[str], None]:
    """Call with `java`, `kafka`, `realdata` or `browser` to skip the test where that is not to be had."""

    def check(name: str) -> None:
        if name == "realdata":
            require(name, REALDATA.is_dir(), "the real data (../shared/realdata) is not beside this checkout")
        elif name == "java":
            require(name, shutil.which("java") is not None, "no java on the PATH")
        elif name == "kafka":
            have = shutil.which("java") is not None and shutil.which("mvn") is not None
            require(name, have, "Apache Kafka needs java and mvn on the PATH")
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


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Embedded settings with a home of their own."""
    return Settings(home=tmp_path / "home")
