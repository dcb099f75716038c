"""OpenStack Swift on one machine: the object store behind the S3 API, one device and one replica, on loopback."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pydantic import SecretStr

from platform_resources.config import Settings
from platform_resources.errors import PlatformError
from platform_resources.object_store import ObjectStore
from platform_resources.stack.group import grouped
from platform_resources.stack.service import Service, own_secret, profile_lines, write_private

ACCOUNT, USER, REGION, BUCKET = "sdp", "lakehouse", "us-east-1", "sdp"
BACKENDS = ("account", "container", "object")
_HERE = Path(__file__).parent
_REQUIREMENTS = _HERE / "swift.requirements.txt"


class Swift(Service):
    """Four processes: the proxy with the S3 API, and the account, container and object servers. One bucket, `sdp`, is made at start."""

    name = "swift"
    port_names = ("port", "account_port", "container_port", "object_port")

    def environment(self, settings: Settings) -> Path:
        """The environment of Swift's own packages, named by what is in it."""
        return settings.cache / f"swift-{sys.version_info.major}{sys.version_info.minor}-{_digest(_REQUIREMENTS)}"

    def install(self, settings: Settings) -> None:
        """Install Swift from PyPI, once.

        Raises:
            PlatformError: `stack-install-failed`.
        """
        target = self.environment(settings)
        if target.is_dir():
            return
        settings.cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=settings.cache, prefix=".swift-") as scratch:
            made = Path(scratch) / "environment"
            venv.create(made, with_pip=False)
            pip = [sys.executable, "-m", "pip", "--python", str(made / "bin" / "python"), "--disable-pip-version-check"]
            command = [*pip, "install", "--quiet", "--no-deps", "--no-warn-script-location", "-r", str(_REQUIREMENTS)]
            run = subprocess.run(command, capture_output=True, text=True, check=False)
            if run.returncode != 0:
                said = [line for line in (run.stderr + run.stdout).splitlines() if "ERROR" in line] or ["it gave no reason"]
                raise PlatformError(
                    "stack-install-failed",
                    f"pip could not install OpenStack Swift: {said[-1].removeprefix('ERROR: ').strip().rstrip('.')}.",
                    "See that pip reaches a package index and repeat `sdp stack up swift`.",
                )
            with suppress(OSError):  # another process installed the same
                made.rename(target)

    def prepare(self, folder: Path, ports: Mapping[str, int], settings: Settings) -> list[str]:
        """Write the configuration and the rings; the device holds the objects."""
        (folder / "devices" / "d1").mkdir(parents=True, exist_ok=True)
        shutil.copy(_HERE / "swift_cache.py", folder)
        shared = {
            "folder": str(folder),
            "user": pwd.getpwuid(os.getuid()).pw_name,
            "region": REGION,
            "account": ACCOUNT,
            "user_name": USER,
            "secret": own_secret(folder / "secret_key"),
        }
        salt = own_secret(folder / "path_salt")  # objects lie under hashes of it: it must never change
        write_private(folder / "swift.conf", f"[swift-hash]\nswift_hash_path_prefix = {salt}\nswift_hash_path_suffix = {salt}\n")
        _write(folder / "proxy.conf", "swift-proxy.conf", {**shared, "port": str(ports["port"])})
        for server in BACKENDS:
            values = {**shared, "server": server, "port": str(ports[f"{server}_port"])}
            _write(folder / f"{server}.conf", "swift-backend.conf", values)
        python = str(self.environment(settings) / "bin" / "python")
        _make_rings(python, folder, [f"{server}={ports[f'{server}_port']}" for server in BACKENDS])
        modules = {"account": "swift.account.server", "container": "swift.container.server", "object": "swift.obj.server"}
        modules["proxy"] = "swift.proxy.server"  # finds `swift_cache` in its working directory, which `-m` puts on the path
        return grouped([[python, "-m", module, str(folder / f"{server}.conf")] for server, module in modules.items()])

    def serving(self, settings: Settings, ports: Mapping[str, int]) -> bool:
        """Whether an object can be put and is then listed."""
        if not self.ready(ports):
            return False
        from botocore.exceptions import BotoCoreError, ClientError

        client = self._store(self.folder(settings), ports).boto3(attempts=1, read_timeout=5.0)
        try:
            with suppress(client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists):
                client.create_bucket(Bucket=BUCKET)
            client.put_object(Bucket=BUCKET, Key=".ready", Body=b"")
            listed = client.list_objects_v2(Bucket=BUCKET, Prefix=".ready").get("Contents", [])
        except (BotoCoreError, ClientError):
            return False
        return [item["Key"] for item in listed] == [".ready"]

    def client(self, folder: Path, ports: Mapping[str, int], settings: Settings) -> dict[str, str]:
        """The root of the tables, and endpoint and keys of the S3 API."""
        store = self._store(folder, ports)
        return {
            "warehouse": f"s3://{BUCKET}/warehouse",
            "s3_endpoint": str(store.endpoint),
            "s3_region": REGION,
            "s3_access_key": f"{ACCOUNT}:{USER}",
            "s3_secret_key": own_secret(folder / "secret_key"),
        }

    def to_use(self, settings: Settings, address: str) -> list[str]:
        """The settings under which the tables are in this store."""
        return [*(["unset SDP_WAREHOUSE"] if settings.warehouse else []), *profile_lines(settings)]

    def _store(self, folder: Path, ports: Mapping[str, int]) -> ObjectStore:
        secret = SecretStr(own_secret(folder / "secret_key"))
        return ObjectStore(f"http://127.0.0.1:{ports['port']}", REGION, SecretStr(f"{ACCOUNT}:{USER}"), secret)


_RINGS = """
import sys
from swift.common.ring import RingBuilder
folder = sys.argv[1]
for name, _, port in (word.partition("=") for word in sys.argv[2:]):
    builder = RingBuilder(6, 1, 1)
    builder.add_dev({"region": 1, "zone": 1, "ip": "127.0.0.1", "port": int(port), "device": "d1", "weight": 1.0})
    builder.rebalance(seed=1)
    builder.get_ring().save(f"{folder}/{name}.ring.gz")
"""


def _make_rings(python: str, folder: Path, ports: list[str]) -> None:
    made = subprocess.run([python, "-c", _RINGS, str(folder), *ports], capture_output=True, text=True, check=False, cwd=folder)
    if made.returncode != 0:
        log = folder / "server.log"
        log.write_text(made.stdout + made.stderr, encoding="utf-8")
        raise PlatformError("stack-start-failed", "Swift could not write its rings.", f"Its last words are in {log}.")


def _write(file: Path, template: str, values: Mapping[str, str]) -> None:
    text = (_HERE / template).read_text(encoding="utf-8")
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    write_private(file, text)


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12]
