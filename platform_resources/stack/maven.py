"""Jars from Maven's repository into the cache, once for all homes of a user. Which jars is said by a pom.xml beside each component."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from platform_resources.config import Settings
from platform_resources.errors import PlatformError

_DEBIAN = "`apt-get install {}` (macOS: `brew install {}`)"


def jar_folder(settings: Settings, pom: Path) -> Path:
    """Where the jars of a pom lie in the cache, named by what is in it: `kafka-4e0831e06004` for `kafka.pom.xml`."""
    return settings.cache / f"{pom.name.partition('.')[0]}-{hashlib.sha256(pom.read_bytes()).hexdigest()[:12]}"


def require_java(title: str) -> None:
    """See that there is a Java to run `title`.

    Raises:
        PlatformError: `java-missing`.
    """
    if shutil.which("java") is None:
        raise PlatformError(
            "java-missing",
            f"{title} needs Java 17 or newer, and there is no `java` on the PATH.",
            f"Install it with {_DEBIAN.format('openjdk-17-jre-headless', 'openjdk@17')}.",
        )


def fetch_jars(settings: Settings, pom: Path, title: str, again: str) -> Path:
    """The folder of a pom's jars, fetched by Maven when they are not there yet.

    Args:
        settings: whose `cache` holds them.
        pom: says which.
        title: the component's name, for sentences.
        again: the command that tries once more.

    Raises:
        PlatformError: `maven-missing` or `stack-install-failed`.
    """
    jars = jar_folder(settings, pom)
    if jars.is_dir():
        return jars
    if shutil.which("mvn") is None:
        raise PlatformError(
            "maven-missing",
            f"{title} is fetched by Maven, and there is no `mvn` on the PATH.",
            f"Install it with {_DEBIAN.format('maven', 'maven')}.",
        )
    settings.cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=settings.cache, prefix=".maven-") as scratch:
        copy = shutil.copy(pom, Path(scratch) / "pom.xml")
        made = Path(scratch) / "lib"
        fetched = subprocess.run(
            ["mvn", "-q", "-B", "-f", str(copy), "dependency:copy-dependencies", f"-DoutputDirectory={made}"],
            capture_output=True,
            text=True,
            check=False,
        )
        if fetched.returncode != 0 or not made.is_dir():
            said = [line for line in (fetched.stdout + fetched.stderr).splitlines() if "ERROR" in line] or ["it gave no reason"]
            raise PlatformError(
                "stack-install-failed",
                f"Maven could not fetch {title}: {said[0].removeprefix('[ERROR] ').strip().rstrip('.')}.",
                f"See that Maven reaches a repository (~/.m2/settings.xml) and repeat `{again}`.",
            )
        with suppress(OSError):  # another process fetched the same
            made.rename(jars)
    return jars
