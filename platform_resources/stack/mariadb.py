"""MariaDB on one machine: a database of somebody else's to take tables from, from the system's own server programs, on loopback.

Nothing of the platform lives in it; `landing.database` is tried and tested against it.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from platform_resources.config import Settings
from platform_resources.errors import PlatformError
from platform_resources.stack.service import Service, give_to, make_data, own_secret, write_private

USER, DATABASE = "sdp", "sdp"
_FOLDERS = (Path("/usr/sbin"), Path("/usr/bin"), Path("/usr/local/bin"), Path("/opt/homebrew/bin"))
_OPTIONS = {
    "bind-address": "127.0.0.1",
    "character-set-server": "utf8mb4",
    "innodb-buffer-pool-size": "64M",
    "pid-file": "mariadb.pid",  # in the data folder, as the socket: an absolute path may be longer than a socket's may
    "socket": "mariadb.sock",
}


def server_program(name: str) -> str:
    """The path of `mariadbd` or `mariadb-install-db`: on the PATH, else where packages put it.

    Raises:
        PlatformError: `mariadb-missing`.
    """
    found = shutil.which(name) or next((str(folder / name) for folder in _FOLDERS if (folder / name).exists()), None)
    if found is None:
        raise PlatformError(
            "mariadb-missing",
            f"There is no MariaDB server program {name} on the PATH or in {', '.join(str(folder) for folder in _FOLDERS)}.",
            "Install it with `apt-get install mariadb-server` (macOS: `brew install mariadb`).",
        )
    return found


class MariaDB(Service):
    """The database server: user `sdp` who may do everything, an empty database `sdp`, a password of this home's own."""

    name = "mariadb"

    def install(self, settings: Settings) -> None:
        """Nothing is fetched; the programs must be there.

        Raises:
            PlatformError: `mariadb-missing`.
        """
        server_program("mariadbd")
        server_program("mariadb-install-db")

    def account(self) -> str | None:
        """MariaDB refuses to run as root: then it gets the system's `mysql`, or `nobody`."""
        if os.geteuid() != 0:
            return None
        known = Path("/etc/passwd").read_text(encoding="utf-8", errors="replace")
        return "mysql" if re.search(r"^mysql:", known, re.MULTILINE) else "nobody"

    def prepare(self, folder: Path, ports: Mapping[str, int], settings: Settings) -> list[str]:
        """Make the data folder at the first start."""
        data = folder / "data"
        if not (data / "mariadb_upgrade_info").exists() and not (data / "mysql_upgrade_info").exists():
            self._initialise(data, own_secret(folder / "password"))
        options = {**_OPTIONS, "datadir": str(data), "port": str(ports["port"])}
        words = [f"--{name}={value}" for name, value in options.items()]
        return [server_program("mariadbd"), "--no-defaults", "--skip-name-resolve", *words]

    def _initialise(self, data: Path, password: str) -> None:
        account = self.account()
        shutil.rmtree(data, ignore_errors=True)  # of an attempt that was cut off
        data.mkdir(mode=0o700)
        give_to(account, data, server="MariaDB")
        told = data.parent / ".accounts.sql"
        accounts = [
            "FLUSH PRIVILEGES",  # without it the server that makes the folder knows no accounts
            "DELETE FROM mysql.global_priv WHERE User IN ('', 'root')",
            f"CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4",  # the server that makes the folder has another default
            f"CREATE USER {USER}@'127.0.0.1' IDENTIFIED BY '{password}'",
            f"GRANT ALL PRIVILEGES ON *.* TO {USER}@'127.0.0.1' WITH GRANT OPTION",
        ]
        write_private(told, "".join(f"{statement};\n" for statement in accounts))
        if account:
            shutil.chown(told, account)
        command = [server_program("mariadb-install-db"), "--no-defaults", f"--datadir={data}", "--skip-test-db", f"--extra-file={told}"]
        make_data("MariaDB", command, data, account, told)

    def serving(self, settings: Settings, ports: Mapping[str, int]) -> bool:
        """Whether it answers a query with this home's password, or is busy with as many others as it takes."""
        import pymysql
        import pymysql.constants.ER

        password = own_secret(self.folder(settings) / "password")
        try:
            connection = pymysql.connect(
                host="127.0.0.1", port=ports["port"], user=USER, password=password, database=DATABASE, connect_timeout=5
            )
        except pymysql.err.OperationalError as error:
            return bool(error.args and error.args[0] == pymysql.constants.ER.CON_COUNT_ERROR)  # all its connections are at work
        connection.close()
        return True

    def client(self, folder: Path, ports: Mapping[str, int], settings: Settings) -> dict[str, str]:
        """Its address as a connection of the platform, and in parts."""
        password, port = own_secret(folder / "password"), str(ports["port"])
        uri = f"mysql://{USER}:{quote(password)}@127.0.0.1:{port}/{DATABASE}"
        return {"uri": uri, "host": "127.0.0.1", "port": port, "user": USER, "password": password, "database": DATABASE}
