"""The shape of every real server on one machine: installed, started on loopback, asked whether it is ready, stopped by its process id.

A server's process outlives the command that started it; `home/stack/NAME/state.json` names it, so `up` twice starts it once. What is
particular to one server (artifacts, configuration, readiness) is in that server's own module.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from platform_resources.config import CLIENT_FILE, Settings
from platform_resources.errors import PlatformError


@dataclass(frozen=True)
class ServiceState:
    """A started server: its process (`born` tells it from a later process with the same id), its ports by name, its address."""

    name: str
    pid: int
    born: str
    ports: Mapping[str, int]
    address: str

    @property
    def running(self) -> bool:
        """Whether that very process is alive."""
        return born(self.pid) == self.born


@dataclass(frozen=True)
class ServiceStatus:
    """What `sdp stack status` tells of one server."""

    name: str
    running: bool
    address: str | None
    pid: int | None
    log: Path

    def as_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {**asdict(self), "log": str(self.log)}


class Service(ABC):
    """One real server of the stack profile. Subclasses say what to install, how to launch and when it is ready.

    `needs` names the servers of the same home that must run before it. A server of several processes launches `stack.group`.
    """

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    port_names: ClassVar[tuple[str, ...]] = ("port",)
    start_seconds: ClassVar[float] = 60.0
    stop_seconds: ClassVar[float] = 30.0
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    looks: ClassVar[int] = 5  # at a server that runs and does not answer, a second apart, before it is taken for broken

    @abstractmethod
    def install(self, settings: Settings) -> None:
        """Bring what the server needs into the cache; nothing to do when it is there.

        Raises:
            PlatformError: with the line that installs a missing prerequisite.
        """

    @abstractmethod
    def prepare(self, folder: Path, ports: Mapping[str, int], settings: Settings) -> list[str]:
        """Write configuration and make the data folder under `folder`; the command to run."""

    def ready(self, ports: Mapping[str, int]) -> bool:
        """Whether the server answers; by default its first port accepts connections."""
        try:
            socket.create_connection(("127.0.0.1", ports[self.port_names[0]]), 0.3).close()
        except OSError:
            return False
        return True

    def serving(self, settings: Settings, ports: Mapping[str, int]) -> bool:
        """Whether it does its work, which only a client with its keys can tell; by default that it is `ready`."""
        return self.ready(ports)

    def account(self) -> str | None:
        """The system user that the processes run as; None: the caller's own."""
        return None

    def client(self, folder: Path, ports: Mapping[str, int], settings: Settings) -> dict[str, str]:
        """What clients of this server need, by the name of the setting; secrets among it. Kept in a file only its owner reads."""
        return {}

    def address(self, ports: Mapping[str, int]) -> str:
        """Where clients reach it."""
        return f"127.0.0.1:{ports[self.port_names[0]]}"

    def to_use(self, settings: Settings, address: str) -> list[str]:
        """The lines to type so that commands use the server at `address`; [] when these settings do already, or nobody has to."""
        return []

    # --- what all servers share

    def up(self, settings: Settings, *, die_with_parent: bool = False) -> ServiceState:
        """Start the server unless it runs, wait until it is ready, and tell where it is.

        Args:
            settings: whose `stack_path` holds the server's folder.
            die_with_parent: end it when the calling process ends, however that ends (Linux); for tests.

        Raises:
            PlatformError: `stack-start-failed` with the place of its log, or what `install` raises.
        """
        folder = self.folder(settings)
        with _exclusive(folder):
            before = self.state(settings)
            if before is not None and before.running:
                if self._serves_soon(settings, before):
                    self._tell(folder, before.ports, settings)
                    return before
                self._stop(before.pid, lambda: before.running, self.stop_seconds)  # half alive: neither serving nor gone
            self.install(settings)
            ports = _free_ports(self.port_names, before.ports if before else {})
            command = self.prepare(folder, ports, settings)
            self._tell(folder, ports, settings)
            return self._start(command, settings, ports, die_with_parent=die_with_parent)

    def _serves_soon(self, settings: Settings, state: ServiceState) -> bool:
        """Whether a running server does its work at one of some looks: a busy one, or one still starting, fails the first."""
        for look in range(self.looks):
            if self.serving(settings, state.ports):
                return True
            if not state.running or look + 1 == self.looks:
                break
            time.sleep(1.0)
        return False

    def _tell(self, folder: Path, ports: Mapping[str, int], settings: Settings) -> None:
        if told := self.client(folder, ports, settings):
            write_private(folder / CLIENT_FILE, json.dumps(told))

    def _start(self, command: list[str], settings: Settings, ports: Mapping[str, int], *, die_with_parent: bool) -> ServiceState:
        folder = self.folder(settings)
        log = folder / "server.log"
        with log.open("ab") as out:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=folder,
                start_new_session=True,
                **as_user(self.account()),
                preexec_fn=_die_with_parent if die_with_parent else None,  # noqa: PLW1509 - one call into libc, no lock is taken
            )
        state = ServiceState(self.name, process.pid, born(process.pid) or "", ports, self.address(ports))
        _write_state(folder, state)
        deadline = time.monotonic() + self.start_seconds
        while not self.serving(settings, ports):
            if process.poll() is not None or time.monotonic() > deadline:
                what = "ended at once" if process.returncode is not None else f"was not ready within {self.start_seconds:g} seconds"
                self._stop(process.pid, lambda: process.poll() is None, 2.0)
                raise PlatformError("stack-start-failed", f"The {self.name} server {what}.", f"Its last words are in {log}.")
            time.sleep(0.05)
        return state

    def down(self, settings: Settings) -> bool:
        """Stop the server, first politely; False when it did not run. Its data stays."""
        folder = self.folder(settings)
        with _exclusive(folder):
            state = self.state(settings)
            if state is None or not state.running:
                return False
            self._stop(state.pid, lambda: state.running, self.stop_seconds)
            return True

    def kill(self, settings: Settings) -> None:
        """End the server without a warning, as a power cut would; for tests of what survives."""
        state = self.state(settings)
        if state is not None and state.running:
            self._stop(state.pid, lambda: state.running, 0.0)

    def status(self, settings: Settings) -> ServiceStatus:
        """Whether it runs, where, and where its log is."""
        state = self.state(settings)
        running = state is not None and state.running
        live = state if running else None
        log = self.folder(settings) / "server.log"
        return ServiceStatus(self.name, running, live.address if live else None, live.pid if live else None, log)

    def logs(self, settings: Settings, *, lines: int = 100) -> list[str]:
        """The last lines of the server's log; [] before its first start."""
        log = self.folder(settings) / "server.log"
        return log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:] if lines > 0 and log.exists() else []

    def _stop(self, pid: int, alive: Callable[[], bool], patience: float) -> None:
        """The stop signal, and SIGKILL after `patience` seconds, to the process's group; returns when the process is gone."""
        deadline = time.monotonic() + patience
        with suppress(ProcessLookupError):
            if patience:
                os.kill(pid, self.stop_signal)
            while alive():
                if time.monotonic() >= deadline:
                    os.killpg(pid, signal.SIGKILL)
                time.sleep(0.02)

    def folder(self, settings: Settings) -> Path:
        """Where this server keeps its state in this home."""
        return settings.stack_path / self.name

    def state(self, settings: Settings) -> ServiceState | None:
        """What the state file says, whether the process lives or not."""
        file = self.folder(settings) / "state.json"
        try:
            return ServiceState(**json.loads(file.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):  # never started, or written by another version
            return None


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """One `up` or `down` of a server at a time; the second waits and finds the work done."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write_state(folder: Path, state: ServiceState) -> None:
    draft = folder / ".state.json"
    draft.write_text(json.dumps(asdict(state)), encoding="utf-8")
    draft.replace(folder / "state.json")


def _free_ports(names: tuple[str, ...], wanted: Mapping[str, int]) -> dict[str, int]:
    """A free loopback port for each name, the ones it had before where they are free, so that configured addresses stay right."""
    held: list[socket.socket] = []
    ports: dict[str, int] = {}
    try:
        for name in names:
            held.append(socket.socket())
            held[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                held[-1].bind(("127.0.0.1", wanted.get(name, 0)))
            except OSError:
                held[-1].bind(("127.0.0.1", 0))
            ports[name] = held[-1].getsockname()[1]
    finally:
        for each in held:
            each.close()
    return ports


def born(pid: int) -> str | None:
    """When the process was started, in the kernel's words; None when it is gone or only waits to be collected."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # collect it when it is our own child
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            return None
        threads = int(fields[17])  # the first thread may be dead while others still hold the process's ports and locks, as a JVM's do
        return None if fields[0] in "ZX" and threads <= 1 else fields[19]
    shown = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return shown.stdout.strip() or None


def profile_lines(settings: Settings) -> list[str]:
    """What to type so that the profile is the stack's; [] when it is."""
    return [] if settings.profile == "stack" else ["export SDP_PROFILE=stack"]


def write_private(file: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
        out.write(text)
    draft.replace(file)


def own_secret(file: Path) -> str:
    """The secret kept in a file, made at the first call; call it while holding the server's lock."""
    if not file.exists():
        write_private(file, secrets.token_urlsafe(24))
    return file.read_text(encoding="utf-8")


def as_user(account: str | None) -> dict[str, Any]:
    """Arguments of `subprocess.Popen` and `run` under which a command runs as that system user; {} for the caller's own."""
    if account is None:
        return {}
    entry = pwd.getpwnam(account)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": ()}


def make_data(server: str, command: Sequence[str], data: Path, account: str | None, secret: Path) -> None:
    """Run what makes a server's data folder; the file with its first password is gone afterwards, however that ended.

    Raises:
        PlatformError: `stack-start-failed`; what the command said is the server's log.
    """
    try:
        made = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", **as_user(account))
    finally:
        secret.unlink()
    if made.returncode != 0:
        log = data.parent / "server.log"
        log.write_text(made.stdout + made.stderr, encoding="utf-8")
        raise PlatformError("stack-start-failed", f"{server} could not make {data}.", f"Its last words are in {log}.")


def give_to(account: str | None, folder: Path, *, server: str) -> None:
    """Make a folder the unprivileged account's, and see that it can get there: a home below /root is closed to it.

    Raises:
        PlatformError: `home-unreachable`; the folder is gone then.
    """
    if account is None:
        return
    shutil.chown(folder, account, group=as_user(account)["group"])
    seen = subprocess.run(["test", "-w", str(folder)], cwd="/", check=False, **as_user(account))
    if seen.returncode != 0:
        shutil.rmtree(folder, ignore_errors=True)
        raise PlatformError(
            "home-unreachable",
            f"{server} does not run as root, and the user {account} it runs as instead cannot enter {folder.parent}.",
            "Set SDP_HOME to a folder that every user can enter, or start the stack as another user than root.",
        )


def _die_with_parent() -> None:
    """In the child: ask the kernel for SIGKILL when the parent ends (PR_SET_PDEATHSIG), so that a dead test run leaves no server."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
