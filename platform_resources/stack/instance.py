"""DAGSTER_HOME of one platform instance: the folder, in it the `dagster.yaml` in force and Dagster's databases.

Under the stack profile those are in the stack's PostgreSQL. Its password stands in no file of Dagster's, which the UI shows, but in the
environment of every process that opens the instance.

Dagster itself is imported only where a home is new.
"""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path

from platform_resources.config import SOURCE_ROOT, Settings, home_unwritable

STORAGE_MADE = ".storage-made"
PASSWORD = "SDP_DAGSTER_PG_PASSWORD"  # noqa: S105 - the variable's name, as in deploy/dagster.yaml
_POSTGRESQL = """
storage:
  postgres:
    postgres_db:
      scheme: postgresql+psycopg2 # SQLAlchemy 2.1 takes psycopg 3 by default, which is not what dagster-postgres installs
      hostname: {host}
      port: {port}
      username: {user}
      password: {{ env: {password} }}
      db_name: {dagster_database}
"""


def storage_is_made(settings: Settings) -> bool:
    """Whether Dagster's databases stand, so that any number of processes may open them; this one has their password from now on."""
    if settings.profile == "production":
        return True
    made = _marker(settings).exists()
    if made and settings.profile == "stack":
        _take_password(settings)
    return made


def _take_password(settings: Settings) -> None:
    """Let this process reach the storage in the stack's PostgreSQL, which must be there.

    Raises:
        PlatformError: `stack-not-started`, `stack-stopped`.
    """
    from platform_resources.stack.services import require_running

    os.environ[PASSWORD] = settings.told_by("postgresql", "password")
    require_running(settings, ["postgresql"])
    logging.getLogger().addFilter(_no_retry)


def _no_retry(record: logging.LogRecord) -> bool:
    """Dagster logs each try to connect on the root logger, in front of the sentence with which the last one ends."""
    return not str(record.msg).startswith("Retrying failed database")


def _marker(settings: Settings) -> Path:
    return settings.dagster_home / (STORAGE_MADE + ("-postgresql" if settings.profile == "stack" else ""))


def _text(settings: Settings) -> str:
    """The `dagster.yaml` in force: the project's, with the storage of the profile."""
    own = settings.project / "dagster.yaml"
    text = (own if own.is_file() else SOURCE_ROOT / "dagster.yaml").read_text(encoding="utf-8")
    if settings.profile != "stack":
        return text
    _take_password(settings)
    parts = {name: settings.told_by("postgresql", name) for name in ("host", "port", "user", "dagster_database")}
    return text + _POSTGRESQL.format(password=PASSWORD, **parts)


def prepare_dagster_home(settings: Settings) -> Path:
    """Make DAGSTER_HOME with its databases, refresh its `dagster.yaml` from the project's, and return the folder.

    The repository's file is the truth: a copy from an older start is overwritten, so that an upgrade reaches every instance. A
    project without a `dagster.yaml` of its own gets the platform's. The production profile has its file mounted there by the
    deployment (`deploy/dagster.yaml`), which is left alone.

    Raises:
        PlatformError: `home-unwritable` when the folder cannot be written, `stack-not-started` when its storage's server never was,
            `stack-stopped` when it is stopped.
    """
    home = settings.dagster_home
    target = home / "dagster.yaml"
    try:
        home.mkdir(parents=True, exist_ok=True)
        if settings.profile == "production" and target.exists():
            return home
        text = _text(settings)
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            draft = target.with_name(f".dagster.yaml.{os.getpid()}")
            draft.write_text(text, encoding="utf-8")
            draft.replace(target)  # a daemon starting at this moment reads the old file or the new one, never half of one
        if not storage_is_made(settings):
            _make_storage(home, _marker(settings))
    except OSError as error:
        raise home_unwritable(home, error) from error
    return home


def _make_storage(home: Path, marker: Path) -> None:
    """Let one process make the databases. Several that open a new home at once each stamp a schema version, and from then on nothing
    starts any more: "more than one head present" (seen with three code servers on two busy cores).
    """
    from dagster import DagsterInstance

    with marker.with_name(f"{marker.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not marker.exists():
            with DagsterInstance.from_config(str(home)):
                marker.touch()
