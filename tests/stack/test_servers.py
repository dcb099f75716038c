"""PostgreSQL, MariaDB, Swift and the REST catalog on one machine: their prerequisites, their keys, and what survives their death."""

from __future__ import annotations

import ipaddress
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg2
import pymysql
import pytest

from platform_resources.config import Settings
from platform_resources.errors import PlatformError
from platform_resources.stack import mariadb, postgresql, services
from platform_resources.stack.group import grouped
from platform_resources.stack.iceberg_rest import IcebergRest
from platform_resources.stack.instance import PASSWORD, prepare_dagster_home
from platform_resources.stack.mariadb import MariaDB
from platform_resources.stack.postgresql import PostgreSQL
from platform_resources.stack.service import Service, born, own_secret
from platform_resources.stack.swift import Swift


def test_what_needs_another_server_starts_after_it() -> None:
    assert [one.name for one in services.in_order(["iceberg-rest", "kafka"])] == ["postgresql", "swift", "iceberg-rest", "kafka"]
    assert services.PROFILE == ("kafka", "postgresql", "swift")


def test_postgresql_that_is_not_installed_is_named_with_its_package(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(postgresql, "_DEBIAN_FOLDER", tmp_path)
    with pytest.raises(PlatformError) as caught:
        PostgreSQL().up(settings)
    assert caught.value.code == "postgresql-missing" and "apt-get install postgresql" in caught.value.remedy
    newest = tmp_path / "15" / "bin"
    for folder in (tmp_path / "9.6" / "bin", newest):
        folder.mkdir(parents=True)
        for name in ("initdb", "postgres"):
            (folder / name).touch()
    assert postgresql.server_binaries() == newest


def test_mariadb_that_is_not_installed_is_named_with_its_package(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(mariadb, "_FOLDERS", (tmp_path / "sbin",))
    with pytest.raises(PlatformError) as caught:
        MariaDB().up(settings)
    assert caught.value.code == "mariadb-missing" and "apt-get install mariadb-server" in caught.value.remedy
    (tmp_path / "sbin").mkdir()
    (tmp_path / "sbin" / "mariadbd").touch()
    assert mariadb.server_program("mariadbd") == str(tmp_path / "sbin" / "mariadbd")


@pytest.mark.parametrize("server", [PostgreSQL(), MariaDB()], ids=lambda server: server.name)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts them as another user")
def test_a_home_that_the_servers_account_cannot_enter_is_told(
    settings: Settings, requires: Callable[[str], None], tmp_path: Path, server: Service
) -> None:
    requires(server.name)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(PlatformError) as caught:
        server.up(settings.model_copy(update={"home": closed}))
    assert caught.value.code == "home-unreachable" and "SDP_HOME" in caught.value.remedy


def test_swift_that_cannot_be_fetched_says_what_pip_said(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(PlatformError) as caught:
        Swift().install(settings.model_copy(update={"cache": tmp_path / "cache"}))
    assert caught.value.code == "stack-install-failed" and "package index" in caught.value.remedy
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_rest_catalog_without_java_says_what_to_install(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PlatformError) as caught:
        IcebergRest().up(settings)
    assert caught.value.code == "java-missing" and "openjdk-17" in caught.value.remedy


def test_a_secret_is_made_once_and_read_by_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    assert own_secret(file) == own_secret(file) and len(own_secret(file)) >= 32
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def sleeping(command: str) -> list[str]:
    return [sys.executable, "-c", command]


@pytest.mark.parametrize("how", ["stopped", "one ends", "killed"])
def test_processes_in_a_group_end_together(tmp_path: Path, how: str) -> None:
    notes = [tmp_path / "a", tmp_path / "b"]
    last = "time.sleep(1)" if how == "one ends" else "time.sleep(60)"
    code = "import os, pathlib, time; pathlib.Path({!r}).write_text(str(os.getpid())); {}"
    commands = [sleeping(code.format(str(note), what)) for note, what in zip(notes, ("time.sleep(60)", last), strict=True)]
    group = subprocess.Popen(grouped(commands), start_new_session=True)
    deadline = time.monotonic() + 20
    while not all(note.exists() and note.read_text() for note in notes) and time.monotonic() < deadline:
        time.sleep(0.02)
    pids = [int(note.read_text()) for note in notes]
    if how == "stopped":
        group.terminate()
    elif how == "killed":
        group.kill()
    assert group.wait(20) == {"stopped": 0, "one ends": 1, "killed": -9}[how]
    while any(born(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(born(pid) for pid in pids)


def test_postgresql_killed_and_started_again_has_lost_nothing(stack: Callable[..., Settings]) -> None:
    settings, server = stack("postgresql"), PostgreSQL()
    before, folder = server.state(settings), server.folder(settings)

    def ask(statement: str) -> list[tuple[object, ...]]:
        told = {name: settings.told_by("postgresql", name) for name in ("host", "port", "user", "password", "database")}
        told["dbname"] = told.pop("database")
        connection = psycopg2.connect(**told)
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []

    ask("CREATE TABLE kept AS SELECT 7 AS n")
    assert server.up(settings) == before
    for name in ("client.json", "password"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    password = settings.told_by("postgresql", "password")
    assert password not in (folder / "server.log").read_text() and password not in (folder / "state.json").read_text()
    server.kill(settings)
    after = server.up(settings, die_with_parent=True)
    assert before is not None and after.pid != before.pid and after.ports == before.ports
    assert ask("SELECT n FROM kept") == [(7,)]
    ask("DROP TABLE kept")
    owner = (folder / "data").stat().st_uid
    assert (owner != 0) if os.geteuid() == 0 else (owner == os.geteuid())


@pytest.mark.stack
def test_postgresql_with_all_its_connections_at_work_is_left_alone(stack: Callable[..., Settings]) -> None:
    settings, server = stack("postgresql"), PostgreSQL()
    before = server.state(settings)
    told = {name: settings.told_by("postgresql", name) for name in ("host", "port", "user", "password")}
    held: list[Any] = []
    try:
        with pytest.raises(psycopg2.OperationalError, match="too many clients"):
            held.extend(psycopg2.connect(**told, dbname="sdp") for _ in range(1000))
        assert len(held) > 150 and server.up(settings) == before
        with held[0].cursor() as cursor:
            cursor.execute("SELECT 7")
            assert cursor.fetchall() == [(7,)]
    finally:
        for each in held:
            each.close()


def test_mariadb_killed_and_started_again_has_lost_nothing(stack: Callable[..., Settings]) -> None:
    settings, server = stack("mariadb"), MariaDB()
    before, folder = server.state(settings), server.folder(settings)

    def ask(statement: str, **instead: str) -> list[tuple[object, ...]]:
        told = {name: settings.told_by("mariadb", name) for name in ("host", "port", "user", "password", "database")} | instead
        connection = pymysql.connect(**told | {"port": int(told["port"])}, autocommit=True)
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    ask("CREATE OR REPLACE TABLE kept AS SELECT 7 AS n")
    assert server.up(settings) == before
    for name in ("client.json", "password"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    password = settings.told_by("mariadb", "password")
    assert password not in (folder / "server.log").read_text() and password not in (folder / "state.json").read_text()
    server.kill(settings)
    after = server.up(settings, die_with_parent=True)
    assert before is not None and after.pid != before.pid and after.ports == before.ports
    assert ask("SELECT n FROM kept") == [(7,)]
    ask("DROP TABLE kept")
    assert {user for (user,) in ask("SELECT User FROM mysql.global_priv")} == {"sdp", "mariadb.sys"}
    for wrong in ({"password": "guess"}, {"user": "root", "password": ""}):
        with pytest.raises(pymysql.err.OperationalError, match="Access denied"):
            ask("SELECT 1", **wrong)
    owner = (folder / "data").stat().st_uid
    assert (owner != 0) if os.geteuid() == 0 else (owner == os.geteuid())


@pytest.mark.stack
def test_swift_killed_and_started_again_has_lost_nothing(stack: Callable[..., Settings]) -> None:
    settings, server = stack("postgresql", "swift"), Swift()
    assert settings.object_store is not None
    client = settings.object_store.boto3()
    client.put_object(Bucket="sdp", Key="kept", Body=b"7")
    before = server.state(settings)
    assert before is not None and server.up(settings) == before
    server.kill(settings)
    deadline = time.monotonic() + 10
    while server.ready(before.ports) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not server.ready(before.ports)  # the four processes went with the one that was killed
    assert server.up(settings, die_with_parent=True).ports == before.ports
    assert client.get_object(Bucket="sdp", Key="kept")["Body"].read() == b"7"
    for name in ("client.json", "secret_key", "path_salt", "proxy.conf", "swift.conf"):
        assert stat.S_IMODE((server.folder(settings) / name).stat().st_mode) == 0o600
    assert json.loads((server.folder(settings) / "state.json").read_text()).keys() == {"name", "pid", "born", "ports", "address"}


@pytest.mark.stack
def test_dagsters_storage_is_the_stacks_postgresql(stack: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dagster import DagsterInstance

    shared = stack("postgresql")
    home = tmp_path / "home"
    home.mkdir()
    (home / "stack").symlink_to(shared.stack_path)
    monkeypatch.setenv(PASSWORD, "of another home")
    folder = prepare_dagster_home(Settings(home=home, profile="stack"))
    text = (folder / "dagster.yaml").read_text()
    assert "postgresql+psycopg2" in text and shared.told_by("postgresql", "password") not in text
    with DagsterInstance.from_config(str(folder)) as instance:
        assert "Postgres" in type(instance.event_log_storage).__name__ and instance.get_runs(limit=1) == []
        assert os.environ[PASSWORD] not in instance.info_str()


def descendants(pid: int) -> list[Path]:
    """A process and all that came of it, as folders of /proc."""
    children: dict[int, list[int]] = {}
    for stat_file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            children.setdefault(int(stat_file.read_text().rpartition(")")[2].split()[1]), []).append(int(stat_file.parent.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return [Path("/proc") / str(one) for one in found]


def listening(pid: int) -> dict[str, str]:
    """Where a process and its descendants listen: `address:port` with the program, as the kernel has it."""
    inodes = {}
    for process in descendants(pid):
        with suppress(OSError):
            program = (process / "comm").read_text().strip()
            inodes |= {str(each.readlink()): program for each in (process / "fd").iterdir()}
    found = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and (program := inodes.get(f"socket:[{fields[9]}]")):
                words, port = fields[1].split(":")
                packed = b"".join(bytes.fromhex(words[at : at + 8])[::-1] for at in range(0, len(words), 8))
                address = ipaddress.ip_address(packed)
                found[f"{getattr(address, 'ipv4_mapped', None) or address}:{int(port, 16)}"] = program
    return found


@pytest.mark.stack
@pytest.mark.skipif(sys.platform != "linux", reason="reads the kernel's tables of sockets")
@pytest.mark.parametrize("name", list(services.SERVICES))
def test_every_socket_of_a_server_is_on_loopback(name: str, stack: Callable[..., Settings]) -> None:
    server = services.service(name)
    state = server.state(stack(name))
    assert state is not None
    found = listening(state.pid)
    assert {str(port) for port in state.ports.values()} <= {place.rpartition(":")[2] for place in found}
    assert {place: program for place, program in found.items() if not place.startswith(("127.", "::1:"))} == {}
