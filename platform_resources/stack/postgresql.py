"""PostgreSQL on one machine: the catalog of the tables and Dagster's storage, from the system's own server binaries, on loopback."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

from platform_resources.config import Settings
from platform_resources.errors import PlatformError
from platform_resources.stack.service import Service, give_to, make_data, own_secret, profile_lines, write_private

USER, CATALOG, DAGSTER = "sdp", "sdp", "dagster"
_DEBIAN_FOLDER = Path("/usr/lib/postgresql")
_NO_SLOT = ("too many clients already", "remaining connection slots are reserved")  # SQLSTATE 53300, in English by the data folder's locale
_OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # its path may be longer than a socket's may
    "max_connections": "200",
    "shared_buffers": "64MB",
    "dynamic_shared_memory_type": "mmap",  # in its own folder: in the system's a segment stays behind after each kill
    "password_encryption": "scram-sha-256",
}


def server_binaries() -> Path:
    """The folder of `initdb` and `postgres`: the one on the PATH, else the newest that Debian installed off it.

    Raises:
        PlatformError: `postgresql-missing`.
    """
    on_path = shutil.which("initdb")
    found = [Path(on_path).resolve().parent] if on_path else []
    found += sorted(_DEBIAN_FOLDER.glob("*/bin"), key=lambda folder: [int(part) for part in re.findall(r"\d+", folder.parent.name)])[::-1]
    for folder in found:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise PlatformError(
        "postgresql-missing",
        "There are no PostgreSQL server programs (initdb, postgres) on the PATH or under /usr/lib/postgresql.",
        "Install them with `apt-get install postgresql` (macOS: `brew install postgresql`).",
    )


class PostgreSQL(Service):
    """The database server: user `sdp`, databases `sdp` (the catalog) and `dagster`, a password of this home's own."""

    name = "postgresql"
    stop_signal = signal.SIGINT  # ends sessions; SIGTERM would wait for the clients to go

    def install(self, settings: Settings) -> None:
        """Nothing is fetched; the programs must be there.

        Raises:
            PlatformError: `postgresql-missing`.
        """
        server_binaries()

    def account(self) -> str | None:
        """PostgreSQL refuses to run as root: then it gets the system's `postgres`, or `nobody`."""
        if os.geteuid() != 0:
            return None
        known = Path("/etc/passwd").read_text(encoding="utf-8", errors="replace")
        return "postgres" if re.search(r"^postgres:", known, re.MULTILINE) else "nobody"

    def prepare(self, folder: Path, ports: Mapping[str, int], settings: Settings) -> list[str]:
        """Make the data folder at the first start."""
        binaries, data = server_binaries(), folder / "data"
        if not (data / "PG_VERSION").exists():
            self._initialise(binaries, data, own_secret(folder / "password"))
        options = [word for name, value in {**_OPTIONS, "port": str(ports["port"])}.items() for word in ("-c", f"{name}={value}")]
        return [str(binaries / "postgres"), "-D", str(data), *options]

    def _initialise(self, binaries: Path, data: Path, password: str) -> None:
        account = self.account()
        shutil.rmtree(data, ignore_errors=True)  # of an attempt that was cut off
        data.mkdir(mode=0o700)
        give_to(account, data, server="PostgreSQL")
        told = data.parent / ".password"
        write_private(told, password)
        if account:
            shutil.chown(told, account)
        command = [
            str(binaries / "initdb"),
            "-D",
            str(data),
            "-A",
            "scram-sha-256",
            "-U",
            USER,
            "-E",
            "UTF8",
            "--locale=C",
            f"--pwfile={told}",
        ]
        make_data("PostgreSQL", command, data, account, told)

    def serving(self, settings: Settings, ports: Mapping[str, int]) -> bool:
        """Whether it answers a query with this home's password, or is busy with as many others as it takes; Dagster's database is made at
        the first look.
        """
        import psycopg2

        password = own_secret(self.folder(settings) / "password")
        try:
            connection = psycopg2.connect(
                host="127.0.0.1", port=ports["port"], user=USER, password=password, dbname="postgres", connect_timeout=5
            )
        except psycopg2.OperationalError as error:
            # refused for want of a slot: all are at work (psycopg2 gives no SQLSTATE of a connection that was not made)
            return any(words in str(error) for words in _NO_SLOT)
        try:
            connection.autocommit = True  # CREATE DATABASE runs outside a transaction
            with connection.cursor() as cursor:
                cursor.execute("SELECT datname FROM pg_database")
                known = {name for (name,) in cursor.fetchall()}
                for name in (CATALOG, DAGSTER):
                    if name not in known:
                        cursor.execute(f'CREATE DATABASE "{name}"')
        finally:
            connection.close()
        return True

    def client(self, folder: Path, ports: Mapping[str, int], settings: Settings) -> dict[str, str]:
        """The catalog's address, the same as a connection of the platform, and Dagster's storage in parts."""
        password, port = own_secret(folder / "password"), str(ports["port"])
        return {
            "catalog_uri": f"postgresql+psycopg2://{USER}:{password}@127.0.0.1:{port}/{CATALOG}",
            "uri": f"postgresql://{USER}:{password}@127.0.0.1:{port}/{CATALOG}",
            "host": "127.0.0.1",
            "port": port,
            "user": USER,
            "password": password,
            "database": CATALOG,
            "dagster_database": DAGSTER,
        }

    def to_use(self, settings: Settings, address: str) -> list[str]:
        """The settings under which the catalog is in this server."""
        return [*(["unset SDP_CATALOG_URI"] if settings.catalog_uri else []), *profile_lines(settings)]
