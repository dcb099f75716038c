"""Locks that name who is at work on a product on this machine.

A lock is an OS advisory lock on a file under `home/locks`, so a process that dies, however it dies, leaves it free: nothing has to
be repaired by hand. It prevents useless work; what keeps data right is the fence in the table (two machines share no lock).
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from platform_resources.errors import PlatformError


def _lock_file(folder: Path, name: str) -> Path:
    return folder / f"{quote(name, safe='')}.lock"


@contextmanager
def hold(folder: Path, name: str, run_id: str) -> Iterator[None]:
    """Hold the lock `name` for the run `run_id` while the block runs.

    Raises:
        PlatformError: `already-running`, naming the run that holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _lock_file(folder, name).open("a+") as file:
        if not _taken(file.fileno()):
            file.seek(0)
            raise PlatformError(
                "already-running",
                f"{name.partition(':')[2] or name} is already at work in run {file.read().strip() or 'unknown'}.",
                "Wait for that run to end or cancel it.",
            )
        file.truncate(0)
        file.write(run_id)
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def _taken(descriptor: int) -> bool:
    """Take the lock, trying for a moment: somebody who only looks (`holder`) shares it for an instant."""
    for _ in range(10):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(0.02)
        else:
            return True
    return False


def holder(folder: Path, name: str) -> str | None:
    """The run that holds the lock `name` now, or None when it is free."""
    path = _lock_file(folder, name)
    if not path.exists():
        return None
    with path.open("r", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return os.pread(file.fileno(), 4096, 0).decode(errors="replace").strip() or "unknown"
        return None
