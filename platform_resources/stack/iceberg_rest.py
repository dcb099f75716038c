"""An Iceberg REST catalog on one machine: Iceberg's own server code over the stack's PostgreSQL and Swift, on loopback.

It serves the tables that the SQL catalog has: both keep them in the same rows. It is here to prove that a REST catalog is only
configuration; in production that is another's server.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from platform_resources.config import Settings
from platform_resources.errors import PlatformError
from platform_resources.stack.maven import fetch_jars, jar_folder, require_java
from platform_resources.stack.service import Service, write_private

_TITLE = "The Iceberg REST catalog"
_POM = Path(__file__).with_name("iceberg_rest.pom.xml")
_SOURCE = Path(__file__).with_name("IcebergRest.java")


class IcebergRest(Service):
    """The server. Its jars (150 MB) and the compiled program lie in the cache."""

    name = "iceberg-rest"
    needs = ("postgresql", "swift")

    def install(self, settings: Settings) -> None:
        """Fetch the jars by Maven and compile the program, once.

        Raises:
            PlatformError: `java-missing`, `maven-missing` or `stack-install-failed`.
        """
        require_java(_TITLE)
        jars, classes = fetch_jars(settings, _POM, _TITLE, "sdp stack up iceberg-rest"), self.classes(settings)
        if classes.is_dir():
            return
        (compiler,) = jars.glob("ecj-*.jar")
        with tempfile.TemporaryDirectory(dir=settings.cache, prefix=".iceberg-rest-") as scratch:
            made = Path(scratch) / "classes"
            command = [
                "java",
                "-jar",
                str(compiler),
                "-17",
                "-nowarn",
                "-proc:none",
                "-cp",
                _class_path(jars),
                "-d",
                str(made),
                str(_SOURCE),
            ]
            run = subprocess.run(command, capture_output=True, text=True, check=False)
            if run.returncode != 0:
                said = [line for line in (run.stderr + run.stdout).splitlines() if "ERROR" in line] or ["it gave no reason"]
                raise PlatformError(
                    "stack-install-failed", f"{_TITLE} could not be compiled: {said[0]}.", "See that `java -version` is 17 or newer."
                )
            with suppress(OSError):  # another process compiled the same
                made.rename(classes)

    def classes(self, settings: Settings) -> Path:
        """The compiled program, named by its source and its jars."""
        digest = hashlib.sha256(_SOURCE.read_bytes() + _POM.read_bytes()).hexdigest()[:12]
        return settings.cache / f"iceberg-rest-classes-{digest}"

    def prepare(self, folder: Path, ports: Mapping[str, int], settings: Settings) -> list[str]:
        """Write the server's configuration: where PostgreSQL and Swift of this home are, with their keys.

        Raises:
            PlatformError: `stack-not-started` when one of them never was.
        """
        told = settings.told_by
        properties = {
            "host": "127.0.0.1",
            "port": str(ports["port"]),
            "catalog.name": settings.catalog_name,
            "catalog-impl": "org.apache.iceberg.jdbc.JdbcCatalog",
            "uri": f"jdbc:postgresql://{told('postgresql', 'host')}:{told('postgresql', 'port')}/{told('postgresql', 'database')}",
            "jdbc.user": told("postgresql", "user"),
            "jdbc.password": told("postgresql", "password"),
            "jdbc.schema-version": "V1",
            "warehouse": told("swift", "warehouse"),
            "io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
            "s3.endpoint": told("swift", "s3_endpoint"),
            "s3.access-key-id": told("swift", "s3_access_key"),
            "s3.secret-access-key": told("swift", "s3_secret_key"),
            "s3.path-style-access": "true",
            "client.region": told("swift", "s3_region"),
        }
        config = folder / "server.properties"
        write_private(config, "".join(f"{name}={value}\n" for name, value in properties.items()))
        path = f"{self.classes(settings)}:{_class_path(jar_folder(settings, _POM))}"
        options = [
            "-Xmx256m",
            "-XX:+ExitOnOutOfMemoryError",
            "-XX:-UsePerfData",
            "-XX:TieredStopAtLevel=1",
            "-Djava.net.preferIPv4Stack=true",
        ]
        quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
        return ["java", *options, quiet, "-cp", path, "org.apache.iceberg.rest.IcebergRest", str(config)]

    def ready(self, ports: Mapping[str, int]) -> bool:
        """Whether it tells its configuration."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{ports['port']}/v1/config", timeout=5) as answer:
                return "defaults" in json.load(answer)
        except (OSError, ValueError, urllib.error.URLError):
            return False

    def client(self, folder: Path, ports: Mapping[str, int], settings: Settings) -> dict[str, str]:
        """The catalog's address."""
        return {"catalog_uri": f"http://127.0.0.1:{ports['port']}"}

    def to_use(self, settings: Settings, address: str) -> list[str]:
        """The setting under which it is the catalog."""
        return [] if settings.catalog_type == "rest" else ["export SDP_CATALOG_TYPE=rest"]


def _class_path(jars: Path) -> str:
    return ":".join(str(jar) for jar in sorted(jars.glob("*.jar")))  # ecj understands no wildcard
