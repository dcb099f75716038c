"""Jars from Maven's repository into the cache, once for all homes of a user. Which jars is said by a pom.xml beside each component."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from platform_resources.config import Settings
from platform_resources.errors import PlatformError

OLDEST_JAVA = 17
SPARK_NEWEST_JAVA = 22  # of 4.1: the Hadoop in it asks for the current user in a way that Java 23 took away
_DEBIAN = "`apt-get install {}` (macOS: `brew install {}`)"


def jar_folder(settings: Settings, pom: Path) -> Path:
    """Where the jars of a pom lie in the cache, named by what is in it: `kafka-4e0831e06004` for `kafka.pom.xml`."""
    return settings.cache / f"{pom.name.partition('.')[0]}-{hashlib.sha256(pom.read_bytes()).hexdigest()[:12]}"


def java_version(program: str = "java") -> tuple[int, str] | None:
    """Major number and whole version of a Java; None when it does not start or does not tell."""
    try:
        said = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=30, check=False).stderr
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r'"((\d+)[^"]*)"', said)
    return (int(found[2]), found[1]) if found else None


def require_java(title: str, *, newest: int | None = None, home: str | None = None) -> None:
    """See that there is a Java to run `title`.

    Args:
        title: the component's name, for sentences.
        newest: the last major version it runs on; None: it runs on any that there is.
        home: where the Java is that will be used (JAVA_HOME); None: the one on the PATH.

    Raises:
        PlatformError: `java-missing`, `java-unfit`.
    """
    span = f"Java {OLDEST_JAVA} to {newest}" if newest else f"Java {OLDEST_JAVA} or newer"
    install = f"Install it with {_DEBIAN.format('openjdk-17-jre-headless', 'openjdk@17')}."
    program = shutil.which(f"{home}/bin/java" if home else "java")
    if program is None:
        place = f"there is no {home}/bin/java" if home else "there is no `java` on the PATH"
        raise PlatformError("java-missing", f"{title} needs {span}, and {place}.", install)
    found = java_version(program)
    if found is not None and not OLDEST_JAVA <= found[0] <= (newest or found[0]):
        raise PlatformError("java-unfit", f"{title} needs {span}, and {program} is {found[1]}.", f"{install} Put it first on the PATH.")


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
