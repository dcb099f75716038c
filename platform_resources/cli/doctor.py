"""`sdp doctor`: what this machine has and lacks for each profile, with the line that installs what is missing."""

from __future__ import annotations

import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import click

from platform_resources.addresses import shown_address
from platform_resources.cli.output import Col, Command, answer, draw_table, json_option
from platform_resources.config import Settings, load_settings, prepare_home
from platform_resources.errors import PlatformError
from platform_resources.workspace import read_locations

if TYPE_CHECKING:
    from rich.console import Console

PROFILES = ("embedded", "stack", "production")


@dataclass(frozen=True)
class Finding:
    """One thing a profile needs: whether it is there, what was found, and the line that brings it when it is not."""

    profile: str
    need: str
    ok: bool
    found: str
    remedy: str = ""


@click.command("doctor", cls=Command, writes_home=False)
@click.option("--profile", type=click.Choice(PROFILES), help="Only this profile; default: all, judged by the one in force.")
@json_option
def doctor_command(profile: str | None, as_json: bool) -> None:
    """Look at this machine; exit 1 when something is missing for the profile in force (or the one named)."""
    settings = load_settings()
    judged = profile or settings.profile
    findings = [finding for finding in examine(settings) if profile in (None, finding.profile)]

    def draw(console: Console) -> None:
        columns = [Col("profile", keep=True), Col("needs", keep=True), Col("state", keep=True), Col("found", wrap=True)]
        draw_table(console, columns, [(f.profile, f.need, "ok" if f.ok else "MISSING", f.found) for f in findings])
        for finding in findings:
            if not finding.ok:
                console.print(f"{finding.profile}, {finding.need}: {finding.remedy}", soft_wrap=True)

    missing = [finding for finding in findings if not finding.ok and finding.profile == judged]
    answer({"ok": not missing, "profile": judged, "findings": [asdict(finding) for finding in findings]}, as_json=as_json, human=draw)
    if missing:
        names = ", ".join(finding.need for finding in missing)
        raise PlatformError("doctor-missing", f"The profile {judged} lacks: {names}.", missing[0].remedy)


def examine(settings: Settings) -> list[Finding]:
    """Everything the three profiles need, looked at now."""
    return [
        _look("embedded", "Python 3.11", _python, install("python3 python3-venv", "python@3.12")),
        _look("embedded", "packages", _packages, "make install"),
        _look("embedded", "DuckDB extensions", lambda: _extensions(settings), "make install"),
        _look("embedded", "SDP_HOME", lambda: _home(settings), "Set SDP_HOME to a folder that you may write."),
        _look("embedded", "workspace.yaml", lambda: _workspace(settings), "Work in the project's folder, or set SDP_PROJECT to it."),
        _look("stack", "Java 17", _java, install("openjdk-17-jre-headless", "openjdk@17")),
        _look("stack", "Maven", lambda: _program("mvn"), install("maven", "maven")),
        _look("stack", "confluent-kafka", lambda: version("confluent-kafka"), "make install"),
        _look("stack", "PostgreSQL", _postgresql, install("postgresql", "postgresql")),
        _look("stack", "servers", lambda: _servers(settings), "sdp stack up"),
        _look("production", "event log", lambda: _set(settings.kafka_bootstrap), "Set SDP_KAFKA_BOOTSTRAP to the brokers, host:port."),
        _look(
            "production",
            "catalog",
            lambda: shown_address(_set(settings.catalog_uri)),
            "Set SDP_CATALOG_URI to the PostgreSQL or REST catalog.",
        ),
        _look(
            "production",
            "warehouse",
            lambda: _set(settings.warehouse),
            "Set SDP_WAREHOUSE to the tables' root, e.g. s3://bucket/warehouse.",
        ),
        _look("production", "alert mails", lambda: _set(settings.smtp_host), "Set SDP_SMTP_HOST to the mail server."),
        _look("production", "dagster-k8s", lambda: version("dagster-k8s"), "make install"),
        _look("production", "dagster-postgres", lambda: version("dagster-postgres"), "make install"),
    ]


def _look(profile: str, need: str, find: Callable[[], str], remedy: str) -> Finding:
    try:
        return Finding(profile, need, True, find())
    except PlatformError as error:
        return Finding(profile, need, False, error.message, error.remedy or remedy)
    except (LookupError, OSError, PackageNotFoundError, subprocess.SubprocessError, ImportError) as error:
        return Finding(profile, need, False, " ".join(str(error).split()) or "not there", remedy)


def install(debian: str, brew: str) -> str:
    """The line that installs packages on this machine."""
    if platform.system() == "Darwin":
        return f"brew install {brew}"
    return f"apt-get install -y {debian}" if shutil.which("apt-get") else f"Install {debian} with this system's package manager."


def _python() -> str:
    return platform.python_version()  # an older one would not have come so far; what counts is which one runs


def _packages() -> str:
    names: Sequence[str] = ("dagster", "dagster-webserver", "pyiceberg", "duckdb", "polars", "pyarrow")
    return ", ".join(f"{name} {version(name)}" for name in names)


def _extensions(settings: Settings) -> str:
    import duckdb

    from platform_resources.engines.duck import connect

    try:  # in a home of its own: whether SDP_HOME can be written is another question
        remote = {"profile": "embedded", "warehouse": "s3://bucket"} if settings.profile != "embedded" else {}
        with tempfile.TemporaryDirectory() as home, closing(connect(settings.model_copy(update={**remote, "home": Path(home)}))) as con:
            rows = con.sql("select extension_name from duckdb_extensions() where loaded order by 1").fetchall()
    except duckdb.Error as error:
        raise LookupError(str(error)) from None
    return ", ".join(name for (name,) in rows if name in ("avro", "iceberg", "httpfs"))


def _home(settings: Settings) -> str:
    free = shutil.disk_usage(prepare_home(settings)).free / 2**30
    return f"{settings.home}, {free:,.0f} GiB free"


def _workspace(settings: Settings) -> str:
    locations = read_locations(settings.project)
    return f"{settings.project}, {len(locations)} locations"


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise LookupError(f"no {name} on the PATH")
    return path


def _java() -> str:
    from platform_resources.stack.maven import OLDEST_JAVA, SPARK_NEWEST_JAVA, java_version

    found = java_version(_program("java"))
    if found is None or found[0] < OLDEST_JAVA:
        raise LookupError(f"Java {found[1] if found else 'of unknown version'}")
    return f"Java {found[1]}" + (f", too new for Spark ({OLDEST_JAVA} to {SPARK_NEWEST_JAVA})" if found[0] > SPARK_NEWEST_JAVA else "")


def _postgresql() -> str:
    from platform_resources.stack.postgresql import server_binaries

    return str(server_binaries())


def _servers(settings: Settings) -> str:
    """The servers that the stack profile uses by default: which of them run in this home."""
    from platform_resources.stack.services import PROFILE, service

    stopped = [name for name in PROFILE if not service(name).status(settings).running]
    if stopped:
        raise LookupError(f"not running: {', '.join(stopped)}")
    return ", ".join(PROFILE)


def _set(value: str | None) -> str:
    if not value:
        raise LookupError("not set")
    return value
