"""One supervised process of `sdp up`: started in a group of its own, started again when it ends, ended with all its descendants.

What runs in it, and why, is the supervisor's business (`stack.platform`).
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0  # seconds between a death and the next start, doubling
SETTLED = 60.0  # a process that lived so long, seconds, begins anew with the first delay
LOG_BYTES = 10_000_000  # a log longer than this at start becomes NAME.log.1


class Child:
    """A process that should be alive.

    Args:
        name: what people call it; also the name of its log.
        command: argument list.
        env, cwd: as of `subprocess.Popen`.
        log: the file that gets both of its outputs.
    """

    def __init__(self, name: str, command: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path) -> None:
        self.name, self.command, self.env, self.cwd, self.log = name, list(command), dict(env), cwd, log
        self.process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._deaths = 0
        self._due = 0.0

    @property
    def pid(self) -> int:
        """The process, which is also its group; 0 before the first start."""
        return self.process.pid if self.process else 0

    @property
    def alive(self) -> bool:
        """Whether it runs now."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start it now."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            self.log.replace(self.log.with_name(self.log.name + ".1"))
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=self.env, cwd=self.cwd, start_new_session=True
            )
        self._started = time.monotonic()

    def revive(self) -> str | None:
        """Look after it: when it has died, say so once, and start it again when its delay is over.

        Returns:
            A sentence when something happened, None when all is well.
        """
        if self.process is None or self.process.poll() is None:
            return None
        now = time.monotonic()
        if not self._due:
            self._deaths = 1 if now - self._started > SETTLED else self._deaths + 1
            delay = min(FIRST_DELAY * 2 ** (self._deaths - 1), LONGEST_DELAY)
            self._due = now + delay
            self.signal(signal.SIGTERM)  # what it left behind: the run workers of a code server
            return f"{self.name} ended with status {self.process.returncode}, starts again in {delay:.1f} s; its log is {self.log}"
        if now < self._due:
            return None
        self._due = 0.0
        self.start()
        return f"{self.name} started again"

    def signal(self, number: signal.Signals) -> bool:
        """Send a signal to the process and its descendants; False when none is left."""
        if self.process is None:
            return False
        self.process.poll()  # collect it, so that a zombie does not count as alive
        return signal_group(self.pid, number)

    @property
    def group_alive(self) -> bool:
        """Whether it or one of its descendants runs."""
        if self.process is None:
            return False
        self.process.poll()
        return group_alive(self.pid)


def signal_group(group: int, number: signal.Signals) -> bool:
    """Send a signal to a process group; False when it has no member."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):  # macOS answers EPERM for a group of zombies
        return False
    return True


def group_alive(group: int) -> bool:
    """Whether a group has a member that is more than a zombie (an init that never collects leaves those in containers)."""
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    if not Path("/proc/self/stat").exists():
        return True
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, IndexError, ValueError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[2]) == group and fields[0] not in "ZX":
                return True
    return False
