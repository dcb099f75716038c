"""DAGSTER_HOME of one platform instance: the folder, in it the `dagster.yaml` in force and Dagster's databases.

Dagster itself is imported only where a home is new.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from platform_resources.config import SOURCE_ROOT, Settings, home_unwritable

STORAGE_MADE = ".storage-made"


def storage_is_made(settings: Settings) -> bool:
    """Whether Dagster's databases stand, so that any number of processes may open them."""
    return settings.profile == "production" or (settings.dagster_home / STORAGE_MADE).exists()


def prepare_dagster_home(settings: Settings) -> Path:
    """Make DAGSTER_HOME with its databases, refresh its `dagster.yaml` from the project's, and return the folder.

    The repository's file is the truth: a copy from an older start is overwritten, so that an upgrade reaches every instance. A
    project without a `dagster.yaml` of its own gets the platform's. The production profile has its file mounted there by the
    deployment (`deploy/dagster.yaml`), which is left alone.

    Raises:
        PlatformError: `home-unwritable` when the folder cannot be written.
    """
    home = settings.dagster_home
    target = home / "dagster.yaml"
    try:
        home.mkdir(parents=True, exist_ok=True)
        if settings.profile == "production" and target.exists():
            return home
        own = settings.project / "dagster.yaml"
        text = (own if own.is_file() else SOURCE_ROOT / "dagster.yaml").read_text(encoding="utf-8")
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            draft = target.with_name(f".dagster.yaml.{os.getpid()}")
            draft.write_text(text, encoding="utf-8")
            draft.replace(target)  # a daemon starting at this moment reads the old file or the new one, never half of one
        if not storage_is_made(settings):
            _make_storage(home)
    except OSError as error:
        raise home_unwritable(home, error) from error
    return home


def _make_storage(home: Path) -> None:
    """Let one process make the databases. Several that open a new home at once each stamp a schema version, and from then on nothing
    starts any more: "more than one head present" (seen with three code servers on two busy cores).
    """
    from dagster import DagsterInstance

    with (home / f"{STORAGE_MADE}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / STORAGE_MADE).exists():
            with DagsterInstance.from_config(str(home)):
                (home / STORAGE_MADE).touch()
