"""The supervisor of `sdp up`: a code server per location, the webserver and the daemon, kept alive and up to date.

`dagster dev` cannot do this: its workspace file is temporary and read once, so a new domain would wait for a restart, and started from
a script it ignores SIGTERM. Here each location has a code server of its own behind a Unix socket, the webserver and the daemon read a
workspace file of those under SDP_HOME, and a change on disk reloads what it concerns. Nothing here imports a location.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from platform_resources.config import Settings
from platform_resources.errors import PlatformError
from platform_resources.locks import hold, holder
from platform_resources.stack import dagster_api
from platform_resources.stack.child import Child, group_alive, signal_group
from platform_resources.stack.dagster_api import LOADED, WebserverSilentError
from platform_resources.stack.instance import prepare_dagster_home
from platform_resources.stack.service import born
from platform_resources.stack.watching import Watch
from platform_resources.workspace import FILE_NAME, Location, read_locations

LOCK = "platform"
HOST = "127.0.0.1"
TICK = 0.5  # seconds between two looks at files and children; a change must be the same in two looks
SERVER_SECONDS = 90.0  # a code server that does not answer by then is shown as it is
HEALTH_SECONDS = 3.0  # between two looks at how the locations fare
STOP_SECONDS = 8.0  # after SIGTERM, before SIGKILL; a drain needs about 2 s to commit what it has read


@dataclass(frozen=True)
class Running:
    """A platform at work on a home: its UI's address, the supervisor's process, each location's state (`loaded`, `loading` or its
    error), and whether the UI answers and no location is loading any more.
    """

    url: str
    pid: int
    locations: Mapping[str, str]
    ready: bool


def running(settings: Settings) -> Running | None:
    """The platform at work on this home, None when there is none."""
    if holder(settings.locks_path, LOCK) is None:
        return None
    try:
        return Running(**json.loads(_state_file(settings).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # it has just been started
        return Running("", 0, {}, False)


def _state_file(settings: Settings) -> Path:
    return settings.home / "platform" / "state.json"


def _children_file(settings: Settings) -> Path:
    return settings.home / "platform" / "children.json"


def logs_folder(settings: Settings) -> Path:
    """Where each child's log lies."""
    return settings.home / "logs"


class Platform:
    """Webserver, daemon and code servers of one home, supervised.

    Args:
        settings: the instance.
        port: the webserver's port; when it is busy the next free one is taken, 0 takes any.
        report: gets one line for everything that happens.
    """

    def __init__(self, settings: Settings, *, port: int = 3000, report: Callable[[str], None] = print) -> None:
        self.settings, self.report = settings, report
        self.port = port
        self.url = ""
        self._servers: dict[str, tuple[Location, Child]] = {}
        self._children: list[Child] = []
        self._watch = Watch()
        self._workspace_seen: tuple[int, int] | None = None
        self._states: dict[str, str] = {}
        self._errand = ThreadPoolExecutor(max_workers=1, thread_name_prefix="reload")
        self._waiting: set[str] = set()
        self._looked = 0.0
        self._stopping = threading.Event()

    def run(self, stop: threading.Event) -> None:
        """Start everything, supervise until `stop` is set, end everything.

        Raises:
            PlatformError: `platform-running` when a platform is at work on this home already; `workspace-invalid`; `port-busy`.
        """
        self._stopping = stop
        with _alone(self.settings):
            self.report(f"State lies in {self.settings.home}, logs in {logs_folder(self.settings)}. Ctrl-C stops.")
            end_leftovers(self.settings)
            try:
                self._start()
                while not stop.wait(TICK):
                    self._step()
            finally:
                self._end()

    # --- start

    def _start(self) -> None:
        settings = self.settings
        locations = read_locations(settings.project)
        self._workspace_seen = self._look_at_workspace()
        prepare_dagster_home(settings)
        self.port = free_port(self.port)
        self.url = f"http://{HOST}:{self.port}"
        self._write_state()
        self.report(f"Starting {len(locations)} code locations, the webserver and the daemon ...")
        for location in locations:
            self._start_server(location)
        self._write_workspace()
        self._record_children()
        self._await_servers(self._servers)
        workspace = ["-w", str(self._workspace_file)]
        web = ["dagster_webserver", "-h", HOST, "-p", str(self.port), "--dagster-log-level", "warning", "--suppress-warnings", *workspace]
        self._start_child("webserver", web)
        self._start_child("daemon", ["platform_resources.stack.daemon", "run", *workspace])
        self._record_children()

    def _start_child(self, name: str, module_and_arguments: list[str]) -> Child:
        child = Child(
            name,
            [sys.executable, "-m", *module_and_arguments],
            env=self._environment(),
            cwd=self.settings.project,
            log=logs_folder(self.settings) / f"{name}.log",
        )
        child.start()
        self._children.append(child)
        return child

    def _start_server(self, location: Location) -> None:
        socket_path = self._socket(location)
        socket_path.unlink(missing_ok=True)
        arguments = ["dagster", "code-server", "start", "--socket", str(socket_path), "--module-name", location.module]
        arguments += ["--location-name", location.name, "--working-directory", str(location.directory), "--log-level", "warning"]
        self._servers[location.name] = (location, self._start_child(f"location-{location.name}", arguments))
        self._watch.follow(location.name, location.folder)
        self._states[location.name] = "loading"

    def _environment(self) -> dict[str, str]:
        settings = self.settings
        own = {
            "DAGSTER_HOME": str(settings.dagster_home),
            "SDP_HOME": str(settings.home),
            "SDP_PROJECT": str(settings.project),
            "SDP_BASE_URL": settings.base_url or self.url,
            "PYTHONPATH": os.pathsep.join(filter(None, (str(settings.project), os.environ.get("PYTHONPATH")))),
            "PYTHONUNBUFFERED": "1",
        }
        return {**os.environ, **own}

    @property
    def _workspace_file(self) -> Path:
        return self.settings.home / "platform" / FILE_NAME

    def _socket(self, location: Location) -> Path:
        """A Unix socket: no port to collide, out of reach of other users, the same after a restart. Its path may have 107 bytes at
        most, which a home deep in the tree has not left over, so it lies in the temporary folder under a name made of the home.
        """
        home = hashlib.sha256(str(self.settings.home).encode()).hexdigest()[:12]
        folder = Path(tempfile.gettempdir()) / f"sdp-{os.getuid()}-{home}"
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid != os.getuid() or folder.stat().st_mode & 0o077:
            raise PlatformError(
                "home-unwritable", f"The folder {folder} belongs to somebody else.", "Remove it, or set TMPDIR to a folder of yours."
            )
        return folder / f"{hashlib.sha256(location.name.encode()).hexdigest()[:12]}.sock"

    def _write_workspace(self) -> None:
        """The workspace file that webserver and daemon read, replaced whole."""
        entries = [
            {"grpc_server": {"socket": str(self._socket(location)), "location_name": location.name}}
            for location, _ in self._servers.values()
        ]
        _replace(
            self._workspace_file,
            "# Written by `sdp up`; the project's workspace.yaml is the source.\n" + yaml.safe_dump({"load_from": entries}),
        )

    def _await_servers(self, names: Iterable[str]) -> None:
        """Wait until the code servers of these locations answer."""
        from dagster._grpc.client import DagsterGrpcClient  # the one question Dagster's public surface has no words for

        deadline = time.monotonic() + SERVER_SECONDS
        for name in list(names):
            location, child = self._servers[name]
            client = DagsterGrpcClient(socket=str(self._socket(location)))
            while not self._stopping.is_set() and time.monotonic() < deadline:
                with suppress(Exception):  # not yet; the reason is in its log
                    client.ping("")
                    break
                if (said := child.revive()) is not None:
                    self.report(said)
                self._stopping.wait(0.2)

    # --- supervise

    def _step(self) -> None:
        for child in self._children:
            if (said := child.revive()) is not None:
                self.report(said)
                self._record_children()
        self._follow_workspace()
        self._follow_files()
        if time.monotonic() - self._looked >= HEALTH_SECONDS or "loading" in self._states.values():
            self._looked = time.monotonic()
            self._look_at_health()

    def _follow_workspace(self) -> None:
        """A location entered or left workspace.yaml: start or end its server and tell the webserver (the daemon looks by itself)."""
        seen = self._look_at_workspace()
        if seen == self._workspace_seen:
            return
        self._workspace_seen = seen
        try:
            wanted = {location.name: location for location in read_locations(self.settings.project)}
        except PlatformError as error:
            self.report(f"{error} The locations stay as they are.")
            return
        known = {name: location for name, (location, _) in self._servers.items()}
        gone = [name for name, location in known.items() if _identity(wanted.get(name)) != _identity(location)]
        new = [location for name, location in wanted.items() if name not in known or name in gone]
        for name in gone:
            self._end_server(name)
        for location in new:
            self.report(f"location {location.name} is new: starting its code server")
            self._start_server(location)
        if gone or new:
            self._record_children()
            self._await_servers([location.name for location in new])
            self._write_workspace()
            self._errand.submit(self._tell, lambda: dagster_api.reload_workspace(self.url), "workspace")

    def _follow_files(self) -> None:
        """Files of a location changed: reload it, and those that read its products when a contract is among them."""
        for name, paths in self._watch.changed().items():
            location, _ = self._servers[name]
            concerned = [name]
            if any(path.suffix in (".yaml", ".yml") for path in paths):
                concerned += self._watch.readers_of(name, location.domain)
            shown = ", ".join(path.name for path in paths[:3]) + (", ..." if len(paths) > 3 else "")
            self.report(f"{shown} changed: reloading {', '.join(concerned)}")
            for each in concerned:
                if each not in self._waiting:  # a reload that has not begun yet will read this change too
                    self._waiting.add(each)
                    self._errand.submit(self._reload, each)

    def _reload(self, name: str) -> None:
        self._waiting.discard(name)
        self._tell(lambda: dagster_api.reload_location(self.url, name), name)

    def _tell(self, request: Callable[[], None], what: str) -> None:
        """Give the webserver an order; when it is away, it reads everything anew at its own start."""
        try:
            request()
        except WebserverSilentError as error:
            if not self._stopping.is_set():
                self.report(f"{what} could not be reloaded: {error}")
        self._looked = 0.0

    def _look_at_health(self) -> None:
        try:
            states = dagster_api.locations(self.url)
        except WebserverSilentError:
            return
        for name, state in states.items():
            if state not in (self._states.get(name), "loading"):
                self.report(f"location {name} is loaded" if state == LOADED else f"location {name} cannot be loaded: {first_lines(state)}")
        was_ready, self._states = self._ready, {name: states.get(name, "loading") for name in self._servers}
        self._write_state()
        if self._ready and not was_ready:
            self.report(f"Ready: {self.url}")

    @property
    def _ready(self) -> bool:
        return bool(self.url) and self._looked > 0 and "loading" not in self._states.values()

    def _look_at_workspace(self) -> tuple[int, int] | None:
        with suppress(OSError):
            stat = (self.settings.project / FILE_NAME).stat()
            return stat.st_mtime_ns, stat.st_size
        return None

    # --- end

    def _end_server(self, name: str) -> None:
        _, child = self._servers.pop(name)
        self._children.remove(child)
        self._watch.forget(name)
        self._states.pop(name, None)
        end_groups([child])
        self.report(f"location {name} is gone: ended its code server")

    def _end(self) -> None:
        """End every child with its descendants: first those that start work, then the work, which may commit what it has."""
        self.report("Stopping ...")
        self._errand.shutdown(wait=False, cancel_futures=True)
        servers = [child for _, child in self._servers.values()]
        for child in self._children:
            if child not in servers:
                child.signal(signal.SIGTERM)
        with suppress(Exception):  # an instance that cannot be read must not keep the processes alive
            _cancel_runs(self.settings, "The platform is being stopped.")
        end_groups(self._children)
        with suppress(Exception):
            _cancel_runs(self.settings, "The platform was stopped.", final=True)
        for file in (_state_file(self.settings), _children_file(self.settings)):
            file.unlink(missing_ok=True)
        for location, _ in self._servers.values():
            self._socket(location).unlink(missing_ok=True)
        self.report("Stopped.")

    def _record_children(self) -> None:
        """Who our children are, so that a start after a `kill -9` of this process ends those that outlived it."""
        living = [{"name": child.name, "group": child.pid, "born": born(child.pid)} for child in self._children]
        _replace(_children_file(self.settings), json.dumps(living))

    def _write_state(self) -> None:
        _replace(_state_file(self.settings), json.dumps(asdict(Running(self.url, os.getpid(), dict(self._states), self._ready))))


def _identity(location: Location | None) -> tuple[Any, ...] | None:
    """What makes a location the same one, wherever its entry stands."""
    return (location.name, location.module, location.directory) if location else None


def first_lines(message: str, limit: int = 300) -> str:
    """A load error in one line."""
    text = " ".join(message.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Hold the home; refuse when another platform holds it."""
    settings.home.mkdir(parents=True, exist_ok=True)
    lock = hold(settings.locks_path, LOCK, f"process {os.getpid()}")
    try:
        lock.__enter__()
    except PlatformError:
        other = running(settings)
        where = f" at {other.url} (process {other.pid})" if other and other.url else ""
        raise PlatformError(
            "platform-running",
            f"A platform is already running on {settings.home}{where}.",
            "Stop it with Ctrl-C there, or set SDP_HOME to another folder.",
        ) from None
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


def free_port(wanted: int) -> int:
    """`wanted`, or the next free port on loopback; any when `wanted` is 0.

    Raises:
        PlatformError: `port-busy` when the next hundred are taken too.
    """
    for port in [0] if wanted == 0 else range(wanted, min(wanted + 100, 65_536)):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return int(probe.getsockname()[1])
    raise PlatformError("port-busy", f"No port from {wanted} to {wanted + 99} is free on {HOST}.", "Give another one with --port.")


def end_groups(children: Iterable[Child]) -> None:
    """SIGTERM to each child's group, SIGKILL to those left after `STOP_SECONDS`; returns when none is left."""
    left = list(children)
    for child in left:
        child.signal(signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while (left := [child for child in left if child.group_alive]) and time.monotonic() < deadline:
        time.sleep(0.1)
    for child in left:
        child.signal(signal.SIGKILL)
    while left := [child for child in left if child.group_alive]:
        time.sleep(0.02)


def end_leftovers(settings: Settings) -> list[str]:
    """End the children of a supervisor that was killed; two daemons on one home would start everything twice. Their names."""
    try:
        recorded = json.loads(_children_file(settings).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    ended = []
    for entry in recorded:
        # The group lives on without its leader; then a process born later cannot have its id, since the kernel keeps group ids taken.
        leader = born(entry["group"])
        if (leader is None or leader == entry["born"]) and group_alive(entry["group"]):
            signal_group(entry["group"], signal.SIGTERM)
            ended.append(entry)
    deadline = time.monotonic() + STOP_SECONDS
    while any(group_alive(entry["group"]) for entry in ended) and time.monotonic() < deadline:
        time.sleep(0.1)
    for entry in ended:
        signal_group(entry["group"], signal.SIGKILL)
    _children_file(settings).unlink(missing_ok=True)
    return [str(entry["name"]) for entry in ended]


def _cancel_runs(settings: Settings, message: str, *, final: bool = False) -> None:
    """Tell the runs of this platform that they are being cancelled (a run interrupted without that counts as failed and mails its
    owners), or when `final`, that they are. Foreground commands go on; so does what waits in the queue, at the next start.
    """
    from dagster import DagsterInstance, DagsterRunStatus, RunsFilter

    from platform_resources.runs import FOREGROUND_TAG

    statuses = [DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING]
    with DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        for run in instance.get_runs(RunsFilter(statuses=statuses)):
            if FOREGROUND_TAG in run.tags:
                continue
            if final:
                instance.report_run_canceled(run, message=message)
            elif run.status != DagsterRunStatus.CANCELING:
                instance.report_run_canceling(run, message=message)


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
